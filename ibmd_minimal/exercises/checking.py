"""The register of exercises, and how an answer is judged: whatever it is or does, by one sentence."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec

import torch

from .answers import Finding, compare
from .sentences import sentence

__all__ = ["Exercise", "Finding", "check", "compare", "exercise", "exercises_of", "find", "ledger", "sentence"]


@dataclass(frozen=True)
class Exercise:
    """One exercise: its number "chapter.place", its title, its points and the function that judges an answer."""

    number: str
    title: str
    points: int
    judge: Callable[[object], Finding]


_known: dict[str, Exercise] = {}
_ledger: dict[str, Finding] = {}


def exercise(number: str, title: str, points: int) -> Callable[[Callable[[object], Finding]], Exercise]:
    """Register the decorated function, from an answer to a `Finding`, as the check of an exercise.

    ValueError for a number that another function has, or that is none, and for points that are not 1 or more.
    """
    _refuse_other_than_a_number(number)
    if type(points) is not int or points < 1:
        raise ValueError(f"exercise {number} has {points!r} points; wanted a whole number from 1 on")

    def register(judge: Callable[[object], Finding]) -> Exercise:
        other = _known.get(number)
        if other and other.judge.__qualname__ != judge.__qualname__:
            raise ValueError(f"{judge.__qualname__} and {other.judge.__qualname__} are both exercise {number}")
        _known[number] = Exercise(number, title, points, judge)
        return _known[number]

    return register


def _refuse_other_than_a_number(number: object) -> None:
    if not (isinstance(number, str) and re.fullmatch(r"[1-9]\d*\.[1-9]\d*", number)):
        raise ValueError(f"{number!r} is no exercise's number; wanted one such as '1.2'")


def exercises_of(chapter: int) -> list[Exercise]:
    """The exercises of a chapter in their order; ValueError if it has none."""
    name = f"{__package__}.chapter{chapter:02d}"
    if find_spec(name) is None:
        raise ValueError(f"chapter {chapter} has no exercises; wanted the number of a chapter that has")
    import_module(name)
    found = [one for one in _known.values() if int(one.number.split(".")[0]) == chapter]
    return sorted(found, key=lambda one: int(one.number.split(".")[1]))


def find(number: str) -> Exercise:
    """The exercise of a number such as "1.2"; ValueError if there is none."""
    _refuse_other_than_a_number(number)
    known = {one.number: one for one in exercises_of(int(number.split(".")[0]))}
    if number not in known:
        raise ValueError(f"there is no exercise {number}; wanted one of {', '.join(known)}")
    return known[number]


def check(number: str, answer: object) -> None:
    """Judge an answer and print one line; never raises because of the answer.

    `answer`: the function, number, tensor or sentence that the exercise asks for. ValueError if there is no such
    exercise.
    """
    one = find(number)
    found = replace(_judged(one, answer), written=_words_of(answer))
    _ledger[number] = found
    points = f"{one.points} point{'s' if one.points > 1 else ''}"
    print(f"Exercise {number} ({points}): {'right: ' if found.right else ''}{found.says}")


def ledger() -> dict[str, Finding]:
    """The last finding on each exercise that was checked in this session."""
    return dict(_ledger)


def _words_of(answer: object) -> str:
    parts = answer if isinstance(answer, (tuple, list)) else [answer]
    return " ".join(part.strip() for part in parts if isinstance(part, str))


def _judged(one: Exercise, answer: object) -> Finding:
    """The finding on an answer; whatever it raises becomes a sentence.

    An answer that draws random numbers draws the same ones each time, and the reader's own dice stay where they are.
    """
    if _open(answer):
        return Finding(False, "still to be written.")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return one.judge(answer)
    except NotImplementedError as missing:
        stub = re.fullmatch(r"(?:exercise [\d.]+(?:: (.+))?)?", _line(missing))
        if stub is None:  # torch raises it too
            return _raised(missing, answer)
        return Finding(False, f"still to be written: {stub[1]}." if stub[1] else "still to be written.")
    except (Exception, SystemExit) as problem:
        if isinstance(problem, TypeError) and "is not callable" in str(problem) and not callable(answer):
            kind = type(answer).__name__
            return Finding(False, f"not yet: the answer is a {kind}; wanted the function itself, without brackets.")
        return _raised(problem, answer)


def _open(answer: object) -> bool:
    """Whether an answer, or a part of one, is left as it was."""
    if isinstance(answer, (tuple, list, dict)):
        return any(_open(part) for part in (answer.values() if isinstance(answer, dict) else answer))
    return answer is None or answer is ... or (isinstance(answer, str) and not answer.strip(" .\n\t"))


def _raised(problem: BaseException, answer: object) -> Finding:
    what = f"{type(problem).__name__}: {_line(problem)}".strip(": ")
    return Finding(False, f"not yet: your code raised {what}{_place(problem, answer)}")


def _line(problem: BaseException, longest: int = 240) -> str:
    """What an exception says, as one line."""
    text = " ".join(str(problem).split())
    return text if len(text) <= longest else text[:longest].rstrip() + " ..."


def _place(problem: BaseException, answer: object) -> str:
    """The line of the answer's own cell in which an exception was raised or passed through last."""
    own = getattr(getattr(answer, "__code__", None), "co_filename", None)
    lines = [line for frame, line in traceback.walk_tb(problem.__traceback__) if frame.f_code.co_filename == own]
    return f" (line {lines[-1]} of the cell)" if lines else ""
