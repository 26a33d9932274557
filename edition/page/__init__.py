"""What a chapter calls: its parameters and results, findings, verdicts, lists."""

from edition.page.chapter import open_chapter, say, show, show_finding, show_source

__all__ = ["open_chapter", "say", "show", "show_finding", "show_source"]
