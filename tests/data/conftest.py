"""A server, a disk and a kill that suit a test; nothing here reaches beyond this machine."""

import hashlib
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_scripts import download


class LocalServer(ThreadingHTTPServer):
    """Serves files from memory, knows byte ranges, and commits the faults it is told to, one a request.

    `faults[path]` is a list of faults for the requests to come, first in first out; requests after the last are
    answered well. A fault is ("status", 404), ("cut", 10) (10 bytes of the body, then the line drops), ("stall", 10)
    (10 bytes, then silence), ("page",) (a web page), ("no length", 10) (as cut, without a Content-Length), ("undated",
    10) (as cut, without a validator), ("whole",) (all although a part was asked for), ("shifted",) (another part).
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[tuple]] = {}
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        self.closing = threading.Event()

    def add(self, path: str, content: bytes, *faults: tuple) -> str:
        """Serve content at path, after the faults; return the address."""
        self.files[path] = content
        self.faults[path] = list(faults)
        return f"http://127.0.0.1:{self.server_port}{path}"

    def ranges(self, path: str) -> list[str | None]:
        """Return the ranges that were asked for at path."""
        return [span for asked, span in self.requests if asked == path]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server, span = self.server, self.headers.get("Range")
        server.requests.append((self.path, span))
        fault, *numbers = server.faults[self.path].pop(0) if server.faults[self.path] else ("none",)
        if fault == "status":
            self.send_error(*numbers)
            return
        content = server.files[self.path]
        tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        resumed = span and self.headers.get("If-Range") == tag and fault != "whole"
        start = int(span.removeprefix("bytes=").rstrip("-")) if resumed else 0
        body = content[start:]
        if start and not body:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
        else:
            self.send_response(206 if start else 200)
            if start:
                begins = start + (fault == "shifted")
                self.send_header("Content-Range", f"bytes {begins}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Type", "text/html; charset=utf-8" if fault == "page" else "application/octet-stream")
        if fault != "undated":
            self.send_header("ETag", tag)
        if fault != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: numbers[0]] if numbers else body)
        self.wfile.flush()
        if fault == "stall":
            server.closing.wait(20)
        self.close_connection = True

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "ATTEMPTS", 3)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    with LocalServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.closing.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def free(monkeypatch):
    """Sets how many bytes the disk says are free."""
    usage = namedtuple("usage", "total used free")
    return lambda n: monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - n, n))


@pytest.fixture
def killed():
    """Runs code, with arguments, in a process of its own, and kills it as soon as it has printed a line."""

    def run(code: str, *arguments: str | Path) -> None:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE) as running:
            line = running.stdout.readline()
            running.kill()
        assert line == b"written\n"

    return run
