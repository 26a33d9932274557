"""From chapters to pages: execute what changed, clean the outputs, build the book, check its links.

A build is `site.build_site`: it stages the sources (`layout`, `repository`), executes the chapters whose key changed
(`execute`, `fingerprint`, `cells`), writes when and where that was (`status`), and renders with the Sphinx extensions
`furniture`, `numbering` and `code`, which `_config.yml` names. `links`, `pdf` and `freeze` work on what it made.
"""

from edition.publish.cells import clean_notebook, merge_outputs
from edition.publish.execute import ChapterError, execute_book, execute_chapter, freeze
from edition.publish.layout import Layout, chapters
from edition.publish.links import broken_links
from edition.publish.site import SiteError, build_site, stage_sources

__all__ = [
    "ChapterError",
    "Layout",
    "SiteError",
    "broken_links",
    "build_site",
    "chapters",
    "clean_notebook",
    "execute_book",
    "execute_chapter",
    "freeze",
    "merge_outputs",
    "stage_sources",
]
