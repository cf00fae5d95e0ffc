"""The book's exercises: what a reader's answer is held to, and what is said when it is not that.

A chapter's checks stand in `chapterNN`, one function an exercise. In a notebook, `check("1.2", answer)` prints one
line; it never raises, so that an unfinished exercise breaks no run.
"""

from .checking import Exercise, Finding, check, compare, exercise, exercises_of, ledger, sentence

__all__ = ["Exercise", "Finding", "check", "compare", "exercise", "exercises_of", "ledger", "sentence"]
