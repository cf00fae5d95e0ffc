"""What the checks of every chapter have to do with answers, as tests made of a chapter's own tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from ibmd_minimal.exercises.checking import _judged, exercises_of


def accepts(cases: Sequence[tuple]) -> Callable:
    """A test that every `(exercise, answer)` is right."""

    @pytest.mark.parametrize(("one", "answer"), cases, ids=range(len(cases)))
    def test(one, answer):
        found = _judged(one, answer)
        if not found.right:
            pytest.fail(found.says)

    return test


def names_mistakes(cases: Sequence[tuple]) -> Callable:
    """A test that every `(exercise, answer, phrase, ...)` is refused, in words that hold all its phrases."""

    @pytest.mark.parametrize(("one", "answer", "phrases"), [(e, a, p) for e, a, *p in cases], ids=range(len(cases)))
    def test(one, answer, phrases):
        found = _judged(one, answer)
        if found.right or not all(phrase in found.says for phrase in phrases):
            pytest.fail(found.says)

    return test


def five_exercises(chapter: int, points: int) -> Callable:
    """A test that a chapter has the exercises 1 to 5, worth so many points in all."""

    def test():
        found = exercises_of(chapter)
        assert [one.number for one in found] == [f"{chapter}.{k}" for k in range(1, 6)]
        assert sum(one.points for one in found) == points

    return test


def asks_kindly(chapter: int) -> Callable:
    """A test that an answer not given, or a stub, is asked for."""

    @pytest.mark.parametrize("one", exercises_of(chapter), ids=lambda one: one.number)
    def test(one):
        def stub(*given):
            raise NotImplementedError(f"exercise {one.number}: a tensor")

        if "still to be written" not in _judged(one, ...).says or _judged(one, stub).right:
            pytest.fail(_judged(one, ...).says)

    return test
