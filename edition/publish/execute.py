"""Execute chapters with papermill in a staged copy, once per key, record when and where, and freeze the outputs.

A chapter has one thread, so several are executed side by side, each by a thread of this process that waits for its
kernel. jupyter-cache would go by the notebook's own cells alone; the key here holds the code and records behind them.
"""

import contextlib
import datetime
import json
import os
import platform
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellControlSignal, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from edition.publish.cells import clean_notebook, merge_outputs
from edition.publish.fingerprint import chapter_key, surroundings
from edition.publish.layout import Layout, chapters
from samlib.data_root import VARIABLE, data_root
from samlib.files import write_atomically

N_THREADS = 1
MOST_AT_ONCE = 4  # chapters; each kernel takes a gigabyte of memory
KERNEL = "python3"
PROFILE = re.compile(r"""^profile(?:\s*:[^=]+)?\s*=\s*["'](\w+)["']""", flags=re.MULTILINE)


class ChapterError(RuntimeError):
    """A chapter could not be executed; the message names the chapter and the cell."""


def execute_book(layout: Layout) -> list[dict[str, Any]]:
    """Execute every chapter whose key changed and write the execution record.

    In reading order, but pages that sum up what the others record come last (notebook metadata `sums_up`): below
    full scale there are no records before the chapters have trained. There chapters go one by one, since some need the
    same runs; at their own scale they read records, and several go side by side.

    Returns:
        One entry per chapter in reading order: chapter, profile, machine, device, versions, threads, seconds, utc,
        reused; of one whose committed outputs are shown only chapter and reused.
    Raises:
        ChapterError: a cell failed. Chapters executed before it, or beside it, are kept.
    Side effects: writes `layout.executed`, the chapters in `layout.stage`, and `layout.record`.
    """
    shared = surroundings(layout.root)
    order = chapters(layout.root)
    done: dict[str, dict[str, Any]] = {}
    at_once = min(MOST_AT_ONCE, os.cpu_count() or 1) if layout.profile is None else 1

    def execute(chapter: str) -> dict[str, Any]:
        try:
            return execute_chapter(layout, chapter, shared)
        finally:
            ensure_event_loop().close()  # that of this thread, which the kernel's client opened

    metadata = {chapter: nbformat.read(layout.root / chapter, as_version=4).metadata for chapter in order}
    for last in (False, True):
        part = [chapter for chapter in order if bool(metadata[chapter].get("sums_up")) == last]
        with kernel_environment(), ThreadPoolExecutor(at_once) as pool:
            entries = [pool.submit(execute, chapter) for chapter in part]
            try:
                for chapter, entry in zip(part, entries, strict=True):
                    done[chapter] = entry.result()
                    held = [done[name] for name in order if name in done]
                    _write_json(layout.record, {"schema": 1, "chapters": held})
            except KeyboardInterrupt:
                print("stopped; chapters that were finished are kept", file=sys.stderr, flush=True)
                os._exit(130)  # the threads wait for their kernels, for minutes; these end with this process
            finally:
                pool.shutdown(wait=False, cancel_futures=True)  # after a failure no further chapter is begun
    return [done[name] for name in order]


def execute_chapter(layout: Layout, chapter: str, shared: dict[str, object]) -> dict[str, Any]:
    """Execute one chapter, or take its last execution where the key is the same, and stage the result.

    A frozen layout executes nothing: without such an execution the committed outputs are staged.

    Args:
        layout: the folders and the profile.
        chapter: one of `chapters`.
        shared: `surroundings` of the repository.
    Returns:
        The chapter's entry in the execution record.
    Raises:
        ChapterError: a cell failed, or the kernel died.
    Side effects: writes the chapter under `layout.executed` and, cleaned, under `layout.stage`. Its kernel gets this
        process's environment: see `kernel_environment`.
    """
    source = nbformat.read(layout.root / chapter, as_version=4)
    parameters = {"profile": layout.profile} if layout.profile and _default_profile(source) else {}
    key = chapter_key(source, parameters, shared)
    target = layout.executed / chapter
    facts = _reusable(target, key)
    reused = facts is not None
    if facts is None and layout.frozen:
        write_notebook(layout.stage / chapter, clean_notebook(source))
        return {"chapter": chapter, "reused": True}
    if facts is None:
        seconds = _run(layout, chapter, parameters)
        facts = _facts(parameters.get("profile") or _default_profile(source), seconds, shared)
        _write_json(target.with_suffix(".json"), {"key": key, "facts": facts})
    staged = clean_notebook(merge_outputs(source, nbformat.read(target, as_version=4)))
    write_notebook(layout.stage / chapter, staged)
    return {"chapter": chapter, **facts, "reused": reused}


def freeze(layout: Layout) -> list[str]:
    """Execute what changed and write every chapter, with clean outputs, over its source.

    Args:
        layout: the folders; `profile` must be None, for a committed chapter shows its own default.
    Returns:
        The chapters whose file changed; empty on a second call.
    Raises:
        ValueError: the layout passes a profile.
        ChapterError: a cell failed; no chapter is written then.
    Side effects: overwrites the notebooks of the table of contents.
    """
    if layout.profile is not None or layout.frozen:
        raise ValueError(
            f"freeze: expected an execution with the chapters' own parameters, got {layout}; "
            "freeze the default build, or change the default in the chapter"
        )
    execute_book(layout)
    changed = []
    for chapter in chapters(layout.root):
        before = (layout.root / chapter).read_bytes()
        write_notebook(layout.root / chapter, nbformat.read(layout.stage / chapter, as_version=4))
        if (layout.root / chapter).read_bytes() != before:
            changed.append(chapter)
    return changed


def write_notebook(path: Path, notebook: NotebookNode) -> None:
    """Write a notebook, replacing the old file in one step; an equal file is left untouched."""
    text = nbformat.writes(notebook, version=4) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(text.encode()))


@contextlib.contextmanager
def kernel_environment() -> Iterator[None]:
    """Give kernels started inside one numerical thread, a fixed hash seed and the inline figure backend.

    A kernel works in another folder than this process: the data folder is handed on as an absolute path.

    Side effects: changes the process environment, and restores it on leaving.
    """
    before = dict(os.environ)
    os.environ.update(
        OMP_NUM_THREADS=str(N_THREADS),
        MKL_NUM_THREADS=str(N_THREADS),
        PYTHONHASHSEED="0",
        JUPYTER_PREFER_ENV_PATH="1",
    )
    os.environ.pop("MPLBACKEND", None)
    if root := data_root():
        os.environ[VARIABLE] = str(root)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def check_kernel() -> None:
    """Refuse a `python3` kernel that is not this interpreter's.

    Raises:
        ChapterError: the kernel of that name belongs to another environment.
    """
    command = Path(KernelSpecManager().get_kernel_spec(KERNEL).argv[0])
    is_bare_name = command.name == str(command)  # the client then starts this interpreter
    if is_bare_name or command.absolute().parent == Path(sys.executable).absolute().parent:
        return
    raise ChapterError(
        f"expected the kernel {KERNEL!r} to run {sys.executable}, got {command}; "
        f"run `{shlex.quote(sys.executable)} -m ipykernel install --sys-prefix`"
    )


def _run(layout: Layout, chapter: str, parameters: dict[str, str]) -> float:
    """Execute a copy of the chapter in the staged folder; return the seconds it took."""
    folder = (layout.stage / chapter).parent
    copied = folder / f".{Path(chapter).stem}.source.ipynb"
    output = layout.executed / chapter
    output.with_suffix(".json").unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(layout.root / chapter, copied)
    started = time.perf_counter()
    try:
        check_kernel()
        papermill.execute_notebook(
            str(copied),
            str(output),
            parameters=parameters,
            kernel_name=KERNEL,
            language="python",
            cwd=str(folder),
            progress_bar={"desc": chapter},
        )
    except (PapermillExecutionError, CellControlSignal, DeadKernelError) as failure:
        raise ChapterError(_explain(layout, chapter, failure)) from failure
    finally:
        copied.unlink(missing_ok=True)
    return time.perf_counter() - started


def _explain(layout: Layout, chapter: str, failure: Exception) -> str:
    """Say which cell of which chapter failed, why, and where the half-executed notebook lies."""
    output = layout.executed / chapter
    if not isinstance(failure, PapermillExecutionError):
        return f"{chapter}: expected every cell to finish, but the kernel stopped ({failure}); see {output}"
    first_line = next((line for line in failure.source.splitlines() if line.strip()), "")
    return (
        f"{chapter}: expected every cell to run, but cell {failure.cell_index + 1}, "
        f"In [{failure.exec_count}], raised {failure.ename}: {failure.evalue}\n"
        f"    the cell begins: {first_line}\n"
        f"mend it and build again; the chapter up to that cell, with the traceback, is {output}"
    )


def _reusable(target: Path, key: str) -> dict[str, Any] | None:
    """Return the facts of an earlier execution with this key, or None."""
    stamp = target.with_suffix(".json")
    if not stamp.is_file() or not target.is_file():
        return None
    try:
        held = json.loads(stamp.read_text(encoding="utf-8"))
        facts: dict[str, Any] | None = held["facts"] if held["key"] == key else None
    except (ValueError, KeyError, TypeError):  # cut short
        return None
    return facts


def _facts(profile: str, seconds: float, shared: dict[str, object]) -> dict[str, Any]:
    """Describe the execution that just ended, and the machine without names or addresses."""
    from edition.records.provenance import processor  # brings PyTorch, see `edition.publish.fingerprint`

    return {
        "profile": profile,
        "machine": f"{platform.system()}, {processor()}, {os.cpu_count()} cores",
        "device": shared["device"],
        "versions": shared["versions"],
        "threads": N_THREADS,
        "seconds": round(seconds, 1),
        "utc": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
    }


def _default_profile(source: NotebookNode) -> str:
    """Read `profile = "..."` from the cell tagged `parameters`; "" where a chapter has no such parameter."""
    for cell in source.cells:
        if "parameters" in cell.metadata.get("tags", []):
            found = PROFILE.search(cell.source)
            return found.group(1) if found else ""
    return ""


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write((json.dumps(content, indent=1, sort_keys=True) + "\n").encode()))
