"""Chapter 11: JPEG restoration in one step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.corruptions import jpeg
from .answers import true_or_false
from .checking import Finding, compare, exercise, sentence

F64 = torch.float64


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- 11.1 ------------------------------------------------------------------------------------------

CORNERS = ((0, 0), (3, 5), (7, 1), (4, 4), (0, 6), (5, 0), (1, 2))


def _decoded(seed: int) -> Tensor:
    """A smooth random picture, light from one side, as JPEG of quality 5: a plane of grey levels, 80x80."""
    rough = torch.randn(1, 1, 14, 14, generator=_seeded(seed), dtype=F64)
    plane = F.interpolate(rough, size=(80, 80), mode="bicubic") * 0.25 + torch.linspace(-0.4, 0.4, 80, dtype=F64)
    return (jpeg(plane.expand(1, 3, 80, 80), 5)[0, 0] + 1) * 127.5


@exercise("11.1", "The grid of a cropped picture", points=2)
def grid_of(answer: Callable[[Tensor], object]) -> Finding:
    """`answer(plane)`: the first row and the first column that begin a block, of decoded JPEGs cut anywhere."""
    cuts = [_decoded(110 + k)[row : row + 67, column : column + 66] for k, (row, column) in enumerate(CORNERS)]
    got = [answer(cut.clone()) for cut in cuts]
    for one in got:
        if not isinstance(one, (tuple, list, Tensor)) or len(one) != 2:
            return Finding(False, "not yet: wanted two whole numbers, a row and a column.")
    found = torch.tensor([[float(part) for part in one] for one in got], dtype=F64)
    corners = torch.tensor(CORNERS, dtype=F64)
    wanted = (-corners) % 8
    mistakes = {
        "rows and columns are exchanged": wanted.flip(1),
        "these are the last row and column of a block; the next ones begin one": (wanted - 1) % 8,
        "these are the first row and column after the ones that begin a block": (wanted + 1) % 8,
        "this is where the cut began in its block; the next block begins 8 less that many rows further on": corners,
        "it was taken to begin at the corner, as if nothing had been cut": torch.zeros_like(wanted),
        "row and column are right modulo 8; wanted the first ones, 0 to 7": torch.where(wanted == 0, 8.0, wanted),
    }
    return compare(found, wanted, f"the grid ({len(CORNERS)} cuts)", 1e-9, mistakes)


# -- 11.2 ------------------------------------------------------------------------------------------


def _laplace_mean(k: Tensor, Q: Tensor, rate: Tensor) -> Tensor:
    """The mean of a Laplace variable in the cell of k: beyond the edge nearer to zero, an exponential cut at Q."""
    beyond = 1 / rate - Q / torch.expm1(rate * Q)
    return k.sign() * ((k.abs() - 0.5) * Q + beyond)


@exercise("11.2", "The mean in a cell", points=2)
def mean_in_cell(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Finding:
    """`answer(k, Q, rate)`: E[C | k] for C of density rate/2 exp(-rate |C|)."""
    k = torch.tensor([-3, -1, -1, 0, 0, 1, 1, 2, 5, -2], dtype=F64)
    u = torch.rand(2, len(k), generator=_seeded(112), dtype=F64)
    Q, rate = 10 + 60 * u[0], 0.02 + 0.08 * u[1]
    edge, span, sign = (k.abs() - 0.5) * Q, Q / torch.expm1(rate * Q), k.sign()
    mistakes = {
        "this is the middle of the cell, which is the mean for k = 0 alone": k * Q,
        "this is the edge of the cell nearer to zero, where the density is largest": sign * edge,
        "the cell ends at Q; without that end the mean lies 1/rate beyond the nearer edge": sign * (edge + 1 / rate),
        "the sign of k is missing: a negative k has its mean below zero": sign.abs() * (edge + 1 / rate - span),
        "at k = 0 the cell reaches to both sides of zero, and the mean is 0": (
            torch.where(k == 0, edge + 1 / rate - span, sign * (edge + 1 / rate - span))
        ),
        "this is measured from the nearer edge; the edge itself is missing": sign * (1 / rate - span),
        "the nearer edge is (|k| - 1/2) Q, not |k| Q": sign * (edge + Q / 2 + 1 / rate - span),
        "it was measured from the edge further from zero": sign * (edge + Q - 1 / rate + span),
        "the share beyond the far edge was added, not taken off": sign * (edge + 1 / rate + span),
        "the probability of the cell is missing: divide by it": (
            sign * (edge + 1 / rate - span) * 0.5 * (-rate * edge).exp() * -torch.expm1(-rate * Q)
        ),
    }
    return compare(answer(k.clone(), Q.clone(), rate.clone()), _laplace_mean(k, Q, rate), "E[C | k]", 1e-8, mistakes)


# -- 11.3 ------------------------------------------------------------------------------------------

SAVED = ((7.3, 24, 10), (-41.2, 24, 10), (3.9, 20, 11), (101.4, 11, 40), (-55.7, 30, 30), (88.8, 34, 6), (-6.1, 9, 50))


def _before(k: int, second: float, first: float, half: float = 0.5) -> tuple[float, float]:
    """The interval of all C whose multiple of `first` rounds to k multiples of `second`."""
    low = math.ceil((k - 0.5) * second / first)
    high = math.floor((k + 0.5) * second / first)
    return (low - half) * first, (high + half) * first


@exercise("11.3", "Saved twice", points=2)
def saved_twice(answer: Callable[[int, float, float], object]) -> Finding:
    """`answer(k, second, first)`: the interval of C before a saving by `first`, then by `second`, that left k."""
    cases = [(round(round(C / first) * first / second), second, first) for C, second, first in SAVED]
    got = [answer(*case) for case in cases]
    for one in got:
        if not isinstance(one, (tuple, list, Tensor)) or len(one) != 2:
            return Finding(False, "not yet: wanted two numbers, the lower end and the upper end.")
    found = torch.tensor([[float(part) for part in one] for one in got], dtype=F64)

    def ends(rule: Callable[[int, float, float], tuple[float, float]]) -> Tensor:
        return torch.tensor([rule(*case) for case in cases], dtype=F64)

    mistakes = {
        "this is the cell of the second saving alone; the first one had rounded before": (
            ends(lambda k, second, first: ((k - 0.5) * second, (k + 0.5) * second))
        ),
        "these are the multiples of the first divisor; each stands for a cell half a divisor to either side": (
            ends(lambda k, second, first: _before(k, second, first, 0.0))
        ),
        "several multiples of the first divisor may round to the same k; this is the cell of the nearest one": (
            ends(lambda k, second, first: tuple((round(k * second / first) + s) * first for s in (-0.5, 0.5)))
        ),
        "half of the first divisor was added to the second's cell; only multiples of the first one count": (
            ends(lambda k, second, first: ((k - 0.5) * second - first / 2, (k + 0.5) * second + first / 2))
        ),
        "the two divisors are exchanged": ends(lambda k, second, first: _before(k, first, second)),
        "the two ends are exchanged": ends(_before).flip(1),
        "this is one multiple too far on either side": ends(lambda k, second, first: _before(k, second, first, 1.5)),
    }
    return compare(found, ends(_before), f"the interval ({len(cases)} files)", 1e-9, mistakes)


# -- 11.4 ------------------------------------------------------------------------------------------

INSIDE = {
    "teacher, NFE 1": (True, "it is the mean of all truths that fit, and the cell is convex"),
    "teacher, NFE 100": (False, "an unconditional walk forgets part of the pairing even where the teacher is exact"),
    "student": (True, "an exact student draws from the law of the truth given xT"),
    "mean of 16 samples": (True, "each of the samples is inside, and the cell is convex"),
    "median of 16 samples": (
        False,
        "pixel by pixel it is no mean of pictures, and the cell is a box in C, not in the pixels",
    ),
    "half-way from xT to a sample": (True, "both ends are inside, and so is the line between them"),
}


@exercise("11.4", "Inside the cell or not", points=2)
def inside(answer: dict[str, bool]) -> Finding:
    """A dictionary from what exact models make to True, inside the cell always, or False."""
    return true_or_false(answer, INSIDE)


# -- 11.5 ------------------------------------------------------------------------------------------


@exercise("11.5", "The slider of the quality", points=1)
def slider(answer: str) -> Finding:
    """A sentence: squares are left at the low end, true detail is replaced at the high end, and why."""
    wanted = {
        r"block|square|border|grid|tile": "say what is left in the picture at the lowest qualities.",
        r"\b(lower|below|los\w*|worse|fall\w*|fell|drop\w*|negative|replac\w*|invent\w*|hurt\w*|spoil\w*|overwrit\w*|"
        r"destroy\w*|damag\w*|less than|cost\w*|harm\w*|add\w* (grain|noise|detail))": (
            "say what the student does at quality 50, and look at the two numbers in dB."
        ),
        r"train|distil|learn|\b(of|at|for|is|expects?|believes?|takes?|meant|made)\b[^.;]*\b(10|ten)\b|\blaw\b": (
            "say why: for which inputs is this student made?"
        ),
    }
    mistakes = {
        r"(works|good|right|fine|perfect\w*) (equally|as well|everywhere|for (all|any|every))": (
            "compare the picture at quality 1 and at 50 with the truth."
        ),
        r"(always|still) (gains|improves|better|above)|above the input|gains? (true |lost |back )?detail": (
            "look at the two numbers in dB at quality 50."
        ),
        r"(squares?|blocks?|borders?|grid|tiles?) (are|is|have|has) (all |been )*(gone|vanished|removed|disappeared)": (
            "look at the sample at quality 1 again, at its flat parts."
        ),
        r"(all|every|any|many) (the )?(quality|qualities)": "for which quality was this student made?",
    }
    return sentence(answer, wanted, mistakes)
