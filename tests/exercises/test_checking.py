"""How answers are judged: numbers and tensors, sentences, and whatever else a reader may hand over."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from ibmd_minimal import exercises
from ibmd_minimal.exercises import Finding, check, compare, exercise, exercises_of, ledger, sentence
from ibmd_minimal.exercises import checking as register
from ibmd_minimal.exercises.checking import find

X = torch.tensor([0.5, -1.0, 0.25], dtype=torch.float64)


# -- numbers and tensors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "wanted"),
    [
        (X.clone(), X),
        (X.clone().requires_grad_(), X),
        (torch.nn.Parameter(X.clone()), X.clone().requires_grad_()),
        (X.float(), X),
        (X.float() * (1 + 5e-6), X),
        (X.numpy(), X),
        (X.tolist(), X),
        (tuple(X.tolist()), X),
        (torch.tensor([2, 3]), torch.tensor([2.0, 3.0])),
        (0.1, 0.1),
        (np.float32(0.1), 0.1),
        (np.float64(0.1), 0.1),
        (np.int64(3), 3),
        (torch.tensor(0.1), 0.1),
        (torch.tensor(0.1, dtype=torch.float64, requires_grad=True), 0.1),
        (3, 3.0),
        (1000.0005, 1000.0),
        (X[None] * 1e-9, torch.zeros(1, 3)),
    ],
)
def test_a_right_answer_is_right_in_every_form(got, wanted):
    assert compare(got, wanted, "the mean").right


def test_what_is_said_of_a_right_answer():
    assert compare(X, X, "the mean").says == "the mean agrees to 1e-06."
    assert compare(X.float(), X, "the mean").says == "the mean agrees to 1e-05."
    assert compare(X + 0.01, X, "the mean", tolerance=0.02).says == "the mean agrees to 2e-02."


@pytest.mark.parametrize(
    ("got", "says"),
    [
        (True, "the mean is a bool; wanted a tensor of shape (3,)."),
        (torch.tensor([True, False, True]), "is of type torch.bool; wanted"),
        (np.array([True, False, True]), "is of type torch.bool; wanted"),
        (X.to(torch.complex128), "is of type torch.complex128"),
        (None, "the mean is None (does the function return it?); wanted"),
        ("0.5", "the mean is a str; wanted"),
        (math.sqrt, "the mean is a builtin_function_or_method; wanted"),
        ((X, X), "the mean is a tuple of 2 tensors; wanted"),
        ([X], "the mean is a list of 1 tensors; wanted"),
        (["a", "b"], "the mean is a list of something else than numbers"),
        ([[1.0], [1.0, 2.0]], "the mean is a list of something else than numbers"),
        (np.array(["a"]), "the mean is a ndarray of something else than numbers"),
        ({}, "the mean is a dict; wanted"),
        (0.5, "the mean has shape (); wanted a tensor of shape (3,)."),
        (X[None], "the mean has shape (1, 3); wanted a tensor of shape (3,)."),
        (X[:, None], "the mean has shape (3, 1)"),
        (torch.zeros(0), "the mean has shape (0,)"),
        (X / 0 * 0, "the mean is not finite in 3 of 3 values."),
        (torch.tensor([math.inf, 0, 1]), "the mean is not finite in 1 of 3 values."),
        (X + torch.tensor([0.0, 0.0, 0.3]), "the mean is off by 0.3."),
    ],
)
def test_a_wrong_answer_is_told_what_is_the_matter(got, says):
    found = compare(got, X, "the mean")
    assert not found.right and found.says.startswith("not yet: ") and says in found.says


def test_a_number_is_wanted_as_a_number():
    assert compare(torch.ones(1), 1.0, "r").says == "not yet: r has shape (1,); wanted a number."
    assert compare("1", 1.0, "r").says == "not yet: r is a str; wanted a number."
    assert not compare(math.nan, 1.0, "r").right


@pytest.mark.parametrize(
    ("got", "says"),
    [
        (3 * X, "It is 3 times what is wanted, everywhere."),
        (X / math.sqrt(2), "It is 0.7071 times what is wanted, everywhere."),
        (-X, "It is minus what is wanted."),
        (2 * X.float(), "It is twice what is wanted."),
        (X / 2, "It is half of what is wanted."),
        (X**2, "It is the square of what is wanted."),
        (X + 0.2, "It is +0.2 from what is wanted, everywhere."),
        (X - 1.5, "It is -1.5 from what is wanted, everywhere."),
        (0 * X, "It is zero everywhere."),
    ],
)
def test_a_simple_relation_to_the_right_answer_is_named(got, says):
    assert compare(got, X, "the mean").says.endswith(says)


def test_the_square_root_is_named_where_there_is_one():
    assert compare(X.abs().sqrt(), X.abs(), "the variance").says.endswith("It is the square root of what is wanted.")
    assert "It is" not in compare(torch.tensor([0.9, 0.1, 7.0]), X, "the mean").says


def test_a_single_number_is_not_given_away():
    """Every number is some multiple of another, and some distance from it."""
    assert compare(0.7, 0.3, "the share").says == "not yet: the share is off by 0.4."
    assert compare(0.0, 0.3, "the share").says == "not yet: the share is off by 0.3."
    assert compare(600.0, 300.0, "steps").says == "not yet: steps is off by 1 of its value. It is twice what is wanted."


def test_distances_are_relative_to_the_largest_value_or_to_one():
    large = 1000 * X
    assert compare(large + 5e-4, large, "x").right and not compare(large + 5e-3, large, "x").right
    assert compare(1e-3 * X + 5e-7, 1e-3 * X, "x").right and not compare(1e-3 * X + 5e-6, 1e-3 * X, "x").right
    assert (
        compare(large + torch.tensor([0.0, 100, 0]), large, "x").says
        == "not yet: x is off by 0.1 of its largest value."
    )


MISTAKES = {"the sign of t were wrong": -X, "the drift were missing": torch.zeros(3), "it were transposed": X[:, None]}


@pytest.mark.parametrize(
    ("got", "says"),
    [
        (-X, "It looks as if the sign of t were wrong."),
        (torch.zeros(3), "It looks as if the drift were missing."),
        (X[:, None].numpy(), "has shape (3, 1); wanted a tensor of shape (3,). It looks as if it were transposed."),
    ],
)
def test_a_mistake_is_named_before_anything_else(got, says):
    assert compare(got, X, "the mean", mistakes=MISTAKES).says.endswith(says)


def test_a_mistake_may_be_one_number_and_a_right_answer_makes_none():
    assert compare(torch.full((3,), 0.4), X, "x", mistakes={"x were constant": 0.4}).says.endswith("x were constant.")
    assert compare(0.4, 0.2, "x", mistakes={"T were 2": 0.4}).says.endswith("It looks as if T were 2.")
    assert compare(X, X, "x", mistakes={"nothing is wrong": X}).right
    assert "as if" not in compare(torch.zeros(2), X, "x", mistakes={"x were zero": 0.0}).says
    assert "as if" not in compare(X + 1, X, "x", mistakes={"the root were taken": X.sqrt()}).says


# -- sentences -------------------------------------------------------------------------------------

WANTED = {r"wide|width": "say where it is widest.", r"clock|sqrt|root": "say why."}
WRONG = {r"\bend\b": "look at the ends again."}


@pytest.mark.parametrize(
    "answer",
    [
        "It is widest in the middle because of its clock.",
        "WIDEST IN THE MIDDLE: THE CLOCK.",
        "The clock says\n so: it is widest there.",
        "It is not only the clock; wide it is anyway.",
        "There is no noise at both sides, so the width is greatest where the clock is at 1/2.",
        "It doesn’t grow for ever: the width follows a square root.",
        "Not in the end but in the middle it is wide, by its clock.",
        "It is wide in the middle rather than at the end, for the clock runs so.",
    ],
)
def test_a_sentence_that_names_what_matters_is_right(answer):
    assert sentence(answer, WANTED, WRONG) == Finding(True, "it names what matters.")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (3, "not yet: the answer is an int; wanted a sentence, in quotes."),
        (["wide", "clock"], "not yet: the answer is a list; wanted a sentence, in quotes."),
        ("wide, clock", "not yet: wanted a whole sentence, with the reason."),
        ("I do not know it yet.", "not yet: say where it is widest."),
        ("It is the clock that counts.", "not yet: part of it is there; say where it is widest."),
        ("It is widest in the middle.", "not yet: part of it is there; say why."),
        ("It is wide at the end by its clock.", "not yet: look at the ends again."),
        (
            "It is not wide there, by its clock.",
            "not yet: part of it is there; say where it is widest. (You write 'not wide': is that what you mean?)",
        ),
        (
            "Wide it is, but this isn't because of the clock.",
            'not yet: part of it is there; say why. (You write "n\'t because of the clock": is that what you mean?)',
        ),
    ],
)
def test_a_sentence_that_does_not_is_told_what_is_missing(answer, says):
    assert sentence(answer, WANTED, WRONG) == Finding(False, says)


def test_a_mistake_that_is_denied_is_none():
    wrong = {r"eta 1[^.;]{0,40}smooth": "look again.", r"never changes": "it does."}
    right = {"eta": "name eta."}
    assert not sentence("At eta 1 the paths are smooth.", right, wrong).right
    assert sentence("At eta 1 the paths are not smooth at all.", right, wrong).right
    assert not sentence("With eta it never changes.", right, wrong).right


def test_an_expression_may_include_its_own_negation():
    wanted = {r"not (depend|change)|doesn't change": "say what becomes of it."}
    assert sentence("The pairing does not change with it.", wanted).right
    assert sentence("The pairing doesn't change with it.", wanted).right
    assert not sentence("The pairing does change with it.", wanted).right


# -- check and ledger ------------------------------------------------------------------------------


@pytest.fixture
def three(monkeypatch):
    """Exercises of a chapter 97 that stands in no file."""
    monkeypatch.setattr(register, "_known", {})
    monkeypatch.setattr(register, "_ledger", {})
    monkeypatch.setattr(register, "exercises_of", lambda chapter: sorted(register._known.values(), key=str))

    @exercise("97.1", "Twice", points=2)
    def twice(answer):
        return compare(answer(X), 2 * X, "twice x")

    @exercise("97.2", "In words", points=1)
    def words(answer):
        return sentence(answer, {"clock": "name the clock."})


def said(capsys, number: str, answer: object) -> str:
    check(number, answer)
    (line,) = capsys.readouterr().out.splitlines()
    return line


def unfinished(x):
    raise NotImplementedError("exercise 97.1: a tensor of x's shape")


def bare(x):
    raise NotImplementedError


def missing_in_torch(x):
    raise NotImplementedError("Could not run 'aten::add'")


def raising(x):
    y = x + 1
    return y.reshape(7, 7)


def exiting(x):
    raise SystemExit


def long_winded(x):
    raise RuntimeError("word\n" * 100)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (lambda x: 2 * x, "Exercise 97.1 (2 points): right: twice x agrees to 1e-06."),
        (unfinished, "Exercise 97.1 (2 points): still to be written: a tensor of x's shape."),
        (missing_in_torch, "not yet: your code raised NotImplementedError: Could not run 'aten::add' (line "),
        ((..., 1.0), "Exercise 97.1 (2 points): still to be written."),
        ({"a": [..., 1.0]}, "Exercise 97.1 (2 points): still to be written."),
        (bare, "Exercise 97.1 (2 points): still to be written."),
        (..., "Exercise 97.1 (2 points): still to be written."),
        (None, "Exercise 97.1 (2 points): still to be written."),
        ("...", "Exercise 97.1 (2 points): still to be written."),
        (lambda x: None, "not yet: twice x is None (does the function return it?); wanted a tensor of shape (3,)."),
        (
            lambda x: 4 * x,
            "Exercise 97.1 (2 points): not yet: twice x is off by 1 of its largest value. It is twice what",
        ),
        (raising, "not yet: your code raised RuntimeError: shape '[7, 7]' is invalid for input of size 3 (line "),
        (lambda: 1, "not yet: your code raised TypeError: "),
        (3.0, "not yet: the answer is a float; wanted the function itself, without brackets."),
        (exiting, "not yet: your code raised SystemExit (line "),
        (long_winded, "word word ... (line "),
    ],
)
def test_check_says_one_line_and_never_raises(three, capsys, answer, line):
    assert line in said(capsys, "97.1", answer)


def test_the_line_of_an_error_is_the_readers_own(three, capsys):
    found = re.search(r"\(line (\d+) of the cell\)$", said(capsys, "97.1", raising))
    assert int(found[1]) == raising.__code__.co_firstlineno + 2


@pytest.mark.parametrize("answer", ["", "  ", "...", None, ...])
def test_an_empty_sentence_is_still_to_be_written(three, capsys, answer):
    assert said(capsys, "97.2", answer) == "Exercise 97.2 (1 point): still to be written."


def test_the_ledger_keeps_the_last_finding_and_the_words(three, capsys):
    assert ledger() == {}
    check("97.1", unfinished)
    check("97.1", lambda x: 2 * x)
    check("97.2", " It is the clock. ")
    capsys.readouterr()
    assert ledger() == {
        "97.1": Finding(True, "twice x agrees to 1e-06."),
        "97.2": Finding(True, "it names what matters.", "It is the clock."),
    }
    ledger().clear()
    assert len(ledger()) == 2


def test_random_answers_are_the_same_each_time_and_leave_the_readers_dice_alone(three, capsys):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = (said(capsys, "97.1", lambda x: torch.rand(3)) for _ in range(2))
    assert first == second and torch.equal(torch.get_rng_state(), state)


def test_answers_may_take_gradients(three, capsys):
    def by_gradient(x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad((x**2).sum(), x)[0]

    assert "right" in said(capsys, "97.1", by_gradient)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        ("97.9", "there is no exercise 97.9; wanted one of 97.1, 97.2"),
        ("1", "'1' is no exercise's number; wanted one such as '1.2'"),
        (1.2, "1.2 is no exercise's number"),
        ("01.2", "'01.2' is no exercise's number"),
    ],
)
def test_an_exercise_that_there_is_not_is_refused(three, number, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        check(number, 1)


def test_a_chapter_without_exercises_is_refused():
    with pytest.raises(ValueError, match="chapter 96 has no exercises"):
        find("96.1")


@pytest.mark.parametrize(("number", "points"), [("97.1", 0), ("97.1", 1.5), ("97.1", True), ("97", 1), ("97.0", 1)])
def test_an_exercise_has_a_number_and_points(three, number, points):
    with pytest.raises(ValueError, match="wanted"):
        exercise(number, "Title", points)


def test_a_number_is_given_to_one_exercise_alone(three):
    def other(answer):
        return Finding(True, "")

    with pytest.raises(ValueError, match=r"are both exercise 97.1"):
        exercise("97.1", "Other", 1)(other)
    again = exercise("97.3", "Other", 1)(other)
    assert exercise("97.3", "Other", 1)(other) == again


# -- the book --------------------------------------------------------------------------------------

CHAPTERS = [
    number for number in range(100) if (register.find_spec(f"{exercises.__name__}.chapter{number:02d}") is not None)
]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_exercises_of_a_chapter(chapter):
    known = exercises_of(chapter)
    assert [one.number for one in known] == [f"{chapter}.{place}" for place in range(1, len(known) + 1)]
    assert 3 <= len(known) <= 5 and all(one.points > 0 and one.title for one in known)
    assert len({one.title for one in known}) == len(known)
    for one in known:
        assert find(one.number) is one


@pytest.mark.parametrize("chapter", CHAPTERS)
@pytest.mark.parametrize(
    "answer", [..., None, unfinished, raising, 3.0, True, "", "text", [1], {}, math.nan, torch.ones(2)]
)
def test_no_answer_makes_a_check_raise(chapter, answer, capsys):
    for one in exercises_of(chapter):
        check(one.number, answer)
        (line,) = capsys.readouterr().out.splitlines()
        assert "right:" not in line
