"""Chapter 12: inpainting."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .answers import true_or_false, uniform
from .checking import Finding, compare, exercise, sentence

F64 = torch.float64


# -- 12.1 ------------------------------------------------------------------------------------------


@exercise("12.1", "PSNR in the hole", points=2)
def in_the_hole(answer: Callable[[Tensor, Tensor], Tensor]) -> Finding:
    """`answer(psnr, share)`: the PSNR of the hidden pixels from that of whole pictures."""
    psnr, share = uniform(8, 12, 40, 121), uniform(8, 0.05, 0.9, 122)
    log = share.log10()
    mistakes = {
        "the sign is wrong: all of the error is in the hole, so its PSNR is lower": psnr - 10 * log,
        "PSNR is 10 log10 of a mean square; 20 is for its root": psnr + 20 * log,
        "the logarithm is to base 10": psnr + 10 * share.log(),
        "this divides the decibels by the share; divide the mean square": psnr / share,
        "this multiplies the decibels by the share; divide the mean square by it": psnr * share,
        "1 - share is visible; the error is in the hidden share": psnr + 10 * (1 - share).log10(),
        "these are the whole pictures' PSNRs; a copy's error of 0 is averaged in there": psnr,
    }
    return compare(answer(psnr.clone(), share.clone()), psnr + 10 * log, "PSNR in the hole", 1e-8, mistakes)


# -- 12.2 ------------------------------------------------------------------------------------------


def _two_values(x_t: Tensor, b: Tensor, c: Tensor, p: Tensor) -> Tensor:
    """E[x0 | x_t, xT = 0] for x0 = 1 with probability p, else -1."""
    return torch.tanh(b * x_t / c**2 + (p / (1 - p)).log() / 2)


@exercise("12.2", "Black or white", points=2)
def black_or_white(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Finding:
    """`answer(x_t, b, c, p)`: the conditional guess for a pixel of two values, at random points."""
    x_t, b = uniform(12, -1.2, 1.2, 123), uniform(12, 0.2, 0.9, 124)
    c, p = uniform(12, 0.5, 0.8, 125), uniform(12, 0.1, 0.9, 126)
    odds, seen = (p / (1 - p)).log(), b * x_t / c**2
    mistakes = {
        "p is missing: these are equal odds": torch.tanh(seen),
        "the logarithm of the odds p / (1 - p) comes with a factor of 1/2": torch.tanh(seen + odds),
        "the exponents differ by 4 b x_t over 2 c², and tanh takes half of that": torch.tanh(2 * seen + odds / 2),
        "the exponents differ by 4 b x_t over 2 c², of which tanh takes one half, not a quarter": (
            torch.tanh(seen / 2 + odds / 2)
        ),
        "the density falls with the square over c², not over c": torch.tanh(b * x_t / c + odds / 2),
        "b is missing: x_t stands at b x0, not at x0": torch.tanh(x_t / c**2 + odds / 2),
        "the odds are the wrong way round: white has p": torch.tanh(seen - odds / 2),
        "this is the probability of white; the mean of x0 is 2 P - 1": torch.sigmoid(2 * seen + odds),
        "this is x_t / b, what a bridge without noise would answer": x_t / b,
        "this is 2 p - 1, the mean before x_t was seen": 2 * p - 1,
    }
    got = answer(x_t.clone(), b.clone(), c.clone(), p.clone())
    return compare(got, _two_values(x_t, b, c, p), "E[x0 | x_t, xT]", 1e-8, mistakes)


# -- 12.3 ------------------------------------------------------------------------------------------


def _shares(e: Tensor) -> Tensor:
    """What of e[0] is decided from each time to the next, and below the last one."""
    return torch.cat([e[:-1] - e[1:], e[-1:]]) / e[0]


@exercise("12.3", "What each pass decides", points=2)
def decided_where(answer: Callable[[Tensor], Tensor]) -> Finding:
    """`answer(e)`: the shares of e(T) decided from each of the times to the next, the last below t_1."""
    e = torch.tensor([0.31, 0.24, 0.13, 0.05], dtype=F64)
    drops, wanted = e[:-1] - e[1:], _shares(e)
    got = answer(e.clone())
    if isinstance(got, Tensor) and got.shape == drops.shape:
        return Finding(
            False, "not yet: the last share is missing: what is decided below t_1, when nothing is left after it."
        )
    root = e.sqrt()
    mistakes = {
        "these are the amounts; divide by e(T) to have shares": wanted * e[0],
        "the first time comes first: what is decided just below T": wanted.flip(0),
        "this is what is left at each time, not what is decided after it": e / e[0],
        "variances add up, not their roots": torch.cat([root[:-1] - root[1:], root[-1:]]) / root[0],
        "each is divided by what was left at its own time; divide all by e(T)": torch.cat([drops, e[-1:]]) / e,
        "the sign is wrong: e falls on the way down": torch.cat([-drops, e[-1:]]) / e[0],
        "this is what has been decided up to each time, all in all; wanted the parts": wanted.cumsum(0),
    }
    found = compare(got, wanted, "the list of shares", 1e-8, mistakes)
    if not found.right:
        return found
    two = torch.tensor([0.4, 0.1], dtype=F64)
    return compare(answer(two.clone()), _shares(two), "the list of shares of two passes", 1e-8)


# -- 12.4 ------------------------------------------------------------------------------------------

DIFFERENT = {
    "conditional, noise, posterior steps": (True, "every step but the last adds noise, and the next guess sees it"),
    "conditional, noise, NFE 1": (False, "one pass of the teacher is E[x0 | xT], one picture"),
    "conditional, no noise, hole of 0": (
        False,
        "at T it answers the mean, and from then on solves for what it has put in",
    ),
    "conditional, no noise, hole of fresh noise": (
        False,
        "(1) holds for any xT: the noise is subtracted, and the mean, answered at T, is kept",
    ),
    "unconditional, no noise, hole of 0": (False, "a walk without noise from a single start has a single end"),
    "unconditional, no noise, hole of fresh noise": (True, "every filling with noise is another start of the walk"),
}


@exercise("12.4", "Where different fillings come from", points=2)
def different(answer: dict[str, bool]) -> Finding:
    """A dictionary from a teacher and its source to True, fillings can differ, or False."""
    return true_or_false(answer, DIFFERENT)


# -- 12.5 ------------------------------------------------------------------------------------------


@exercise("12.5", "Where fillings differ", points=1)
def slider(answer: str) -> Finding:
    """A sentence: most in the middle, least at the rim, because of the distance to what is visible."""
    wanted = {
        r"\b(middle|cent(er|re)|interior|deep\w*|core|inside|far|furthest|farthest)\b": (
            "say where in the hole they differ most."
        ),
        r"\b(rim|border|edge|boundar\w*|margin|thin|strokes?|sides?|next to|close to|near)\b": (
            "say where they differ least."
        ),
        r"neighbour|neighbor|visible|known|surround|determine|distance|seen|context|inform\w*|variance|"
        r"constrain": "say why: what does the network know there?",
    }
    mistakes = {
        r"(most|more|largest|greatest|strongest)\b[^.;,]*\b(rim|border|edge|boundary)": (
            "look at the panel on the right: where is it light?"
        ),
        r"(same|equal\w*|alike|uniform\w*) everywhere|everywhere (the same|alike|equal\w*)": (
            "look at the panel on the right: where is it light?"
        ),
        r"(most|largest|greatest|strongest) (\w+ ){0,2}(close|next|near\w*|beside)\b": (
            "look at the panel on the right: where is it light?"
        ),
        r"(least|less|smallest|fewest)\b[^.;,]*\b(middle|cent(er|re))": (
            "look at the panel on the right: where is it light?"
        ),
        r"(least|nearly equal|alike) (\w+ ){0,2}(deep|inside|far|interior)|"
        r"(inside|deep|far|interior) (they )?(are |is |differ |vary )?(the )?(least|nearly equal|alike)": (
            "look at the panel on the right: where is it dark?"
        ),
    }
    return sentence(answer, wanted, mistakes)
