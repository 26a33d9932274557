"""An HTTP server on this machine that knows byte ranges and commits the faults it is told to, one a request."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LocalServer:
    """Serves files from memory.

    `faults[path]` is a list of faults for the requests to come, first in first out; requests after the last are
    answered well. A fault is ("status", 404), ("cut", 10) (10 bytes of the body, then the line drops), ("stall", 10)
    (10 bytes, then silence), ("page",) (a web page), ("no length", 10) (as cut, without a Content-Length), ("whole",)
    (the whole file although a part was asked for), ("shifted",) (a part that begins elsewhere).
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[tuple]] = {}
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        self.dated = True  # whether a validator is sent, without which nothing can be resumed
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(outer, self)

            def log_message(self, *_) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}{path}"

    def add(self, path: str, content: bytes, *faults: tuple) -> str:
        """Serve content at path, after the faults; return the address."""
        self.files[path] = content
        self.faults[path] = list(faults)
        return self.url(path)

    def ranges(self, path: str) -> list[str | None]:
        """Return the ranges that were asked for at path."""
        return [span for asked, span in self.requests if asked == path]

    def close(self) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def answer(server: LocalServer, request: BaseHTTPRequestHandler) -> None:
    """Answer one request, with the next fault if there is one."""
    path, span = request.path, request.headers.get("Range")
    server.requests.append((path, span))
    fault, *numbers = server.faults[path].pop(0) if server.faults.get(path) else ("none",)
    content = server.files.get(path)
    if fault == "status" or content is None:
        request.send_error(numbers[0] if fault == "status" else 404)
        return
    tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
    start = int(span.removeprefix("bytes=").rstrip("-")) if span and request.headers.get("If-Range") == tag else 0
    if fault == "whole":
        start = 0
    if start >= len(content) > 0:
        request.send_response(416)
        request.send_header("Content-Range", f"bytes */{len(content)}")
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    body = content[start:]
    request.send_response(206 if start else 200)
    if start:
        begins = start + (fault == "shifted")
        request.send_header("Content-Range", f"bytes {begins}-{len(content) - 1}/{len(content)}")
    request.send_header("Content-Type", "text/html; charset=utf-8" if fault == "page" else "application/octet-stream")
    if server.dated:
        request.send_header("ETag", tag)
    if fault != "no length":
        request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body[: numbers[0]] if numbers else body)
    request.wfile.flush()
    if fault == "stall":
        server.closing.wait(20)
    request.close_connection = True
