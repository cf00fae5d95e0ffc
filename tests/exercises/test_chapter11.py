"""Chapter 11's checks: the solution is right, and typical wrong answers are named."""

from __future__ import annotations

import math

import torch

from ibmd_minimal.exercises import chapter11
from tests.exercises.answers import accepts, asks_kindly, five_exercises, names_mistakes


def grid(exchanged=False, off=0, first=lambda index: index):
    """The strongest of eight classes of steps, in either direction; right by default, or with one slip."""

    def answer(plane):
        found = []
        for one in (plane.mT, plane):
            step = one.diff(dim=-1).abs().mean(0)
            strength = torch.stack([step[k::8].mean() for k in range(8)])
            found.append(first((int(strength.argmax()) + 1 + off) % 8))
        return tuple(found[::-1] if exchanged else found)

    return answer


def mean(cut=1.0, middle=False, edge=0.5, signed=True, at_zero=True, nearer=1.0):
    """E[C | k] of a Laplace variable, right by default."""

    def answer(k, Q, rate):
        if middle:
            return k * Q
        beyond = 1 / rate - cut * Q / torch.expm1(rate * Q)
        found = nearer * (k.abs() - edge) * Q + beyond
        return found * (k.sign() if signed else k.sign().abs()) + (0 if at_zero else found * (k == 0))

    return answer


def interval(half=0.5, exchanged=False):
    def answer(k, second, first):
        second, first = (first, second) if exchanged else (second, first)
        multiples = [m for m in range(-100, 101) if abs(m * first - k * second) <= second / 2]
        if not multiples:
            return math.nan, math.nan
        return (multiples[0] - half) * first, (multiples[-1] + half) * first

    return answer


RIGHT = {
    "teacher, NFE 1": True,
    "teacher, NFE 100": False,
    "student": True,
    "mean of 16 samples": True,
    "median of 16 samples": False,
    "half-way from xT to a sample": True,
}
SENTENCE = (
    "At quality 1 squares are left, and at 50 the sample's PSNR is below the input's, since true detail is replaced by "
    "invented one: the student was trained on quality 10 and expects its damage."
)

ACCEPTED = [
    (chapter11.grid_of, grid()),
    (chapter11.grid_of, lambda plane: torch.tensor(grid()(plane))),
    (chapter11.mean_in_cell, mean()),
    (chapter11.saved_twice, interval()),
    (chapter11.saved_twice, lambda k, q2, q1: list(interval()(k, q2, q1))),
    (chapter11.inside, RIGHT),
    (chapter11.slider, SENTENCE),
    (
        chapter11.slider,
        "Blocks remain at low quality; at 50 it loses decibels, as it has learnt the errors of 10 only.",
    ),
    (chapter11.slider, "It leaves tiles at 1 and invents texture at 50, because its law of inputs is another one."),
]

REFUSED = [
    (chapter11.grid_of, grid(exchanged=True), "rows and columns are exchanged"),
    (chapter11.grid_of, grid(off=-1), "the last row and column of a block"),
    (chapter11.grid_of, grid(off=1), "the first row and column after"),
    (chapter11.grid_of, grid(first=lambda k: (-k) % 8), "where the cut began"),
    (chapter11.grid_of, grid(first=lambda k: k or 8), "right modulo 8"),
    (chapter11.grid_of, lambda plane: (0, 0), "as if nothing had been cut"),
    (chapter11.grid_of, lambda plane: 3, "wanted two whole numbers"),
    (chapter11.mean_in_cell, mean(middle=True), "the middle of the cell"),
    (chapter11.mean_in_cell, mean(cut=0.0), "the cell ends at Q"),
    (chapter11.mean_in_cell, mean(cut=-1.0), "added, not taken off"),
    (chapter11.mean_in_cell, mean(signed=False), "the sign of k is missing"),
    (chapter11.mean_in_cell, mean(at_zero=False), "at k = 0"),
    (chapter11.mean_in_cell, mean(edge=0.0), "not |k| Q"),
    (chapter11.mean_in_cell, mean(nearer=0.0), "the edge itself is missing"),
    (chapter11.mean_in_cell, lambda k, Q, rate: k.sign() * (k.abs() - 0.5) * Q, "where the density is largest"),
    (chapter11.mean_in_cell, lambda k, Q, rate: mean()(k, Q, rate)[:, None], "has shape (10, 1)"),
    (chapter11.saved_twice, lambda k, q2, q1: ((k - 0.5) * q2, (k + 0.5) * q2), "the second saving alone"),
    (chapter11.saved_twice, interval(half=0.0), "half a divisor to either side"),
    (
        chapter11.saved_twice,
        lambda k, q2, q1: tuple((round(k * q2 / q1) + s) * q1 for s in (-0.5, 0.5)),
        "this is the cell of the nearest one",
    ),
    (
        chapter11.saved_twice,
        lambda k, q2, q1: ((k - 0.5) * q2 - q1 / 2, (k + 0.5) * q2 + q1 / 2),
        "only multiples of the first one count",
    ),
    (chapter11.saved_twice, lambda k, q2, q1: interval()(k, q2, q1)[::-1], "the two ends are exchanged"),
    (chapter11.saved_twice, lambda k, q2, q1: k * q2, "wanted two numbers"),
    (chapter11.inside, RIGHT | {"teacher, NFE 1": False}, "'teacher, NFE 1'", "convex"),
    (chapter11.inside, RIGHT | {"teacher, NFE 100": True}, "forgets part of the pairing"),
    (chapter11.inside, RIGHT | {"median of 16 samples": True}, "a box in C"),
    (chapter11.inside, RIGHT | {"student": "yes"}, "True or False"),
    (chapter11.inside, {"student": True}, "the 6 keys"),
    (chapter11.inside, [True, False], "wanted a dictionary"),
    (chapter11.slider, "At low quality it leaves blocks, as it was trained on 10.", "at quality 50"),
    (chapter11.slider, "At 50 the PSNR is below the input's, as it was trained on 10.", "at the lowest qualities"),
    (chapter11.slider, "Blocks are left at 1 and detail is lost at 50.", "say why"),
    (
        chapter11.slider,
        "No blocks anywhere: trained on 10, it works equally at all qualities, losing nothing.",
        "compare",
    ),
    (
        chapter11.slider,
        "At 1 the squares are gone, at 50 detail replaces what was less, trained on 10.",
        "at quality 1 again",
    ),
    (chapter11.slider, "Squares are left at 1, and less at 50, for it learned all qualities.", "for which quality"),
    (
        chapter11.slider,
        "Squares are left at 1; the sample is above the input at 50 although the loss is less than at 10.",
        "two numbers in dB",
    ),
    (chapter11.slider, "Blocks.", "a whole sentence"),
    (chapter11.slider, 50, "wanted a sentence"),
]


test_right_answers_are_accepted = accepts(ACCEPTED)
test_wrong_answers_are_refused_and_named = names_mistakes(REFUSED)
test_what_is_missing_is_said_kindly = asks_kindly(11)


test_the_points_of_the_chapter = five_exercises(11, 9)


def test_the_mean_in_a_cell_is_that_of_draws():
    """The closed form against a sum over a fine grid of the cell, not against itself."""
    k, Q, rate = (torch.tensor([value], dtype=torch.float64) for value in (2.0, 20.0, 0.07))
    inside = torch.linspace(30, 50, 20_001, dtype=torch.float64)
    weights = (-rate * inside).exp()
    weights[[0, -1]] /= 2
    wanted = (weights * inside).sum() / weights.sum()
    assert abs(float(chapter11._laplace_mean(k, Q, rate)) - float(wanted)) < 1e-6


def test_two_savings_leave_only_what_the_interval_holds():
    """Every coefficient of a fine grid is in the interval of the file it leaves; no interval is wider than needed."""
    for second, first in ((24, 10), (11, 40), (30, 30), (34, 6)):
        for C in torch.linspace(-90, 90, 721).tolist():
            k = round(round(C / first) * first / second)
            low, high = chapter11._before(k, second, first)
            assert low <= C <= high
