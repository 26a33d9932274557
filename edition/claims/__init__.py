"""Claims of the paper as functions from records to verdicts: one file a part of the paper, one function a claim."""

from edition.claims.rules import Effect, Verdict

__all__ = ["Effect", "Verdict"]
