"""The command line: `python -m edition.publish book|pages|quick|freeze|links|pdf`.

`pages` is `book` without executing anything: chapters that changed show their committed outputs.
"""

import argparse
import contextlib
import dataclasses
import errno
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from edition.console import run_piped
from edition.publish.execute import ChapterError, freeze
from edition.publish.layout import Layout
from edition.publish.links import broken_links
from edition.publish.site import SiteError, build_site
from edition.publish.status import describe

QUICK = "quick"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status (0 done, 1 failed with a message)."""
    parser = argparse.ArgumentParser(prog="python -m edition.publish", description=__doc__)
    parser.add_argument("command", choices=["book", "pages", QUICK, "freeze", "links", "pdf"])
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the repository (default: this folder)")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    try:
        with contextlib.nullcontext() if options.command == "links" else _alone(root / "_build"):
            return _COMMANDS[options.command](root)
    except (ChapterError, SiteError, ValueError) as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT):
            raise
        place = error.filename or root
        print(
            f"{place}: expected to write there, got {error.strerror}; free some space, or copy the repository to a "
            f"folder that you may write to and run the same command in it",
            file=sys.stderr,
        )
        return 1


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Refuse to build where another build is under way: each clears the folder that it works in."""
    work.mkdir(exist_ok=True)
    try:
        with FileLock(work / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise SiteError(f"{work}: expected to build there alone, another build is under way; wait for it") from error


def _layout(root: Path, profile: str | None = None) -> Layout:
    return Layout(root=root, work=root / "_build" / (profile or ""), profile=profile)


def _build(layout: Layout) -> int:
    for entry in build_site(layout):
        print(describe(entry))
    print(f"open {(layout.html / 'index.html').as_uri()}")
    return 0


def _freeze(root: Path) -> int:
    changed = freeze(_layout(root))
    print("\n".join(f"written: {chapter}" for chapter in changed) or "every chapter already holds its outputs")
    return 0


def _links(root: Path) -> int:
    site = _layout(root).html
    findings = broken_links(site)
    print("\n".join([*findings, f"{len(findings)} broken links in {site}"]))
    return 1 if findings else 0


def _pdf(root: Path) -> int:
    from edition.publish.pdf import build_pdf  # needs Playwright, which no other command does

    layout = _layout(root)
    build_site(layout)
    print(f"open {build_pdf(layout).as_uri()}")
    return 0


_COMMANDS = {
    "book": lambda root: _build(_layout(root)),
    "pages": lambda root: _build(dataclasses.replace(_layout(root), frozen=True)),
    QUICK: lambda root: _build(_layout(root, QUICK)),
    "freeze": _freeze,
    "links": _links,
    "pdf": _pdf,
}

if __name__ == "__main__":
    sys.exit(run_piped(main))
