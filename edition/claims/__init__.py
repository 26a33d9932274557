"""Claims of the paper as functions from records to verdicts."""

from edition.claims.rules import Effect, Verdict

__all__ = ["Effect", "Verdict"]
