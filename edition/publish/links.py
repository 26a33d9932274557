"""Check that every relative link of the built pages leads somewhere, fragments included."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Collects a page's links and the anchors it offers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name in ("href", "src"):
                self.links.append(value)
            elif name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value)


def broken_links(site: Path) -> list[str]:
    """Find relative links to files that do not exist and fragments that the target page does not offer.

    Links with a scheme (https:, mailto:, data:) are not followed. A link that begins with "/" counts as
    broken: the book is read from file://, where it would leave the book.

    Args:
        site: the folder of the built pages. Files under `_static` are the theme's templates, not pages.
    Returns:
        One line for each, sorted: the page, the link as written, and what is missing.
    Raises:
        ValueError: the folder holds no page.
    """
    site = site.resolve()
    found = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts]
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in found}
    if not pages:
        raise ValueError(f"expected built pages under {site}, found none; build the book first")
    findings = set()
    for path, page in pages.items():
        for link in page.links:
            if reason := _reason(path, link, site, pages):
                findings.add(f"{path.relative_to(site).as_posix()}: {link} ({reason})")
    return sorted(findings)


def _reason(path: Path, link: str, site: Path, pages: dict[Path, _Page]) -> str:
    """Say why a link is broken; "" where it is not."""
    parts = urlsplit(link.strip())
    if parts.scheme or parts.netloc:
        return ""
    if parts.path.startswith("/"):
        return "begins with /, which leaves the book"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_relative_to(site):
        return "leads out of the book"
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "no such file"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "no such anchor on that page"
    return ""
