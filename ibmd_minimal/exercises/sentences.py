"""Answers written as a sentence: what they have to name, and what they must not."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .answers import Finding, kind_of

# "not", with nothing but small words between it and what it denies. "no" and "without" are left out: "no noise at the
# ends" is how one says it.
_SMALL = r"(?:a|an|the|at|in|of|by|for|to|on|be|been|it|its|is|that|this|so|very|really|exactly|simply|because|due)"
_NOT = r"(?:n't|\b(?:not|cannot|never|neither|nor|no longer|rather than|instead of))\b(?! (?:only|just|merely)\b)"
_DENIES = re.compile(_NOT, re.IGNORECASE)
_DENIED = re.compile(rf"{_NOT}(?: {_SMALL})* ?$", re.IGNORECASE)


def sentence(answer: object, wanted: Mapping[str, str], mistakes: Mapping[str, str] | None = None) -> Finding:
    """Judge an answer written as a sentence.

    `wanted`: regular expressions, each of which a right answer contains (case ignored), with what to say if it is
    missing. `mistakes`: expressions that only a wrong answer contains, with what to say. What stands directly behind a
    "not" counts as not said, unless the expression includes the "not"; nor does a mistake with a "not" in its midst.
    In doubt the answer is taken kindly: a teacher reads it as well.
    """
    if not isinstance(answer, str):
        return Finding(False, f"not yet: the answer is {kind_of(answer)}; wanted a sentence, in quotes.")
    text = " ".join(answer.replace("’", "'").split())
    if len(text.split()) < 4:
        return Finding(False, "not yet: wanted a whole sentence, with the reason.")
    for pattern, says in (mistakes or {}).items():
        if any(not _DENIES.search(said) or _DENIES.search(pattern) for said in _said(pattern, text)):
            return Finding(False, f"not yet: {says}")
    missing = [pattern for pattern in wanted if not _said(pattern, text)]
    if not missing:
        return Finding(True, "it names what matters.")
    some = "part of it is there; " if len(missing) < len(wanted) else ""
    return Finding(False, f"not yet: {some}{wanted[missing[0]]}{_denial(missing[0], text)}")


def _said(pattern: str, text: str) -> list[str]:
    """Where the text says it without denying it directly before."""
    found = re.finditer(pattern, text, re.IGNORECASE)
    return [one.group() for one in found if not _DENIED.search(text[: one.start()])]


def _denial(pattern: str, text: str) -> str:
    """The words that deny what is wanted, for the reader to look at again."""
    found = re.search(pattern, text, re.IGNORECASE)
    if not found:
        return ""
    start = _DENIED.search(text[: found.start()]).start()
    return f" (You write {text[start : found.end()]!r}: is that what you mean?)"
