"""The execution record as a page: which chapter was executed when, where, with what."""

from typing import Any

PLACE = ("machine", "device", "threads", "versions")
CAPTION = "Executions behind the pages, and when they ended; places are listed below."


def describe(entry: dict[str, Any]) -> str:
    """Put one entry of the execution record into a line for the terminal.

    >>> describe({"chapter": "book/a.ipynb", "reused": True, "seconds": 3.0, "utc": "2026-01-01 10:00"})
    'book/a.ipynb: unchanged, executed 2026-01-01 10:00 UTC in 3.0 s'
    """
    if "utc" not in entry:
        return f"{entry['chapter']}: not executed, its committed outputs are shown"
    state = "unchanged, executed" if entry["reused"] else "executed"
    return f"{entry['chapter']}: {state} {entry['utc']} UTC in {entry['seconds']:.1f} s"


def status_page(entries: list[dict[str, Any]]) -> str:
    """Write the execution record as Markdown: a row per chapter, and the places the rows refer to.

    Returns:
        Markdown for the page to include. It does not say which chapters were reused, so that a build that
        executed nothing leaves the page as it was.
    """
    places: list[dict[str, Any]] = []
    rows = []
    for entry in entries:
        page = f"{{doc}}`/{entry['chapter'].removesuffix('.ipynb')}`"
        if "utc" not in entry:
            rows.append(f"| {page} | committed outputs | | | |")
            continue
        place = {name: entry[name] for name in PLACE}
        places += [] if place in places else [place]
        utc = f"[{entry['utc']}]{{.text-nowrap}}"
        profile, at = entry["profile"] or "none", places.index(place) + 1
        rows.append(f"| {page} | {profile} | {entry['seconds']:.1f} | {utc} | {at} |")
    head = ["| Chapter | Profile | Seconds | UTC | Place |", "|:--|:--|--:|:--|--:|"]
    table = [f"```{{table}} {CAPTION}", ":name: tab-execution", "", *head, *rows, "```"]
    listed = []
    for number, place in enumerate(places, start=1):
        packages = ", ".join(f"{name} {version}" for name, version in sorted(place["versions"].items()))
        threads = f"{place['threads']} thread" + ("" if place["threads"] == 1 else "s")
        listed.append(f"{number}. {place['machine']}; device {place['device']}; {threads}; {packages}.")
    return "\n".join([*table, "", *listed]) + "\n"
