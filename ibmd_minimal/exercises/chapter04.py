"""Checks of chapter 04: conditional bridges."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..bridges import brownian, vp
from ..finite import FiniteCoupling
from .checking import Finding, compare, exercise, sentence

F64 = torch.float64


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- 4.1 -------------------------------------------------------------------------------------------


def _posterior_mistakes(inputs: tuple, wanted: Tensor) -> dict[str, Tensor]:
    """Wrong posteriors, by what leads to them."""
    x_t, xT, atoms0, atomsT, weights, a, b, c = inputs
    other = (xT[:, None] != atomsT).any(-1)

    def softmax(centre: Tensor, masked: bool = True, scale: float = 2 * c**2, w: Tensor = weights) -> Tensor:
        logits = w.log() - (x_t[:, None] - centre).square().sum(-1) / scale
        return torch.softmax(logits.masked_fill(other, -math.inf) if masked else logits, dim=1)

    own = a * xT[:, None] + b * atoms0
    norms = (x_t[:, None] - own).norm(dim=-1) / (2 * c**2)
    softmax_of_norm = torch.softmax((weights.log() - norms).masked_fill(other, -math.inf), dim=1)
    prior = weights.expand_as(wanted).masked_fill(other, 0)
    each = torch.exp(weights.log() - (x_t[:, None] - own).square().sum(-1) / (2 * c**2)).masked_fill(other, 0)
    return {
        "all pairs share: this is the unconditional posterior; pairs with another source have probability zero": (
            softmax(a * atomsT + b * atoms0, masked=False)
        ),
        "pairs with another source still share, only placed at the given xT; they have probability zero": (
            softmax(own, masked=False)
        ),
        "the weights were forgotten: the pairs of a source are not equally likely": softmax(
            own, w=torch.ones_like(weights)
        ),
        "a xT is missing: x_t lies around a xT + b x0": softmax(b * atoms0[None]),
        "b is missing: x_t lies around a xT + b x0": softmax(a * xT[:, None] + atoms0),
        "the noise entered as c, not as its variance c²": softmax(own, scale=2 * c),
        "the factor 2 in 2 c² is missing": softmax(own, scale=c**2),
        "the distance was not squared": softmax_of_norm,
        "the pairs with this source were given their weights, and x_t was not looked at": prior / prior.sum(1, True),
        "the probabilities were not normalised over the pairs": each,
        "they were normalised over the batch; it is the pairs of one row that share": each / each.sum(0),
    }


@exercise("4.1", "The conditional posterior of a finite coupling", points=3)
def conditional_posterior(answer: object) -> Finding:
    """`answer(x_t, xT, atoms0, atomsT, weights, a, b, c)`: probabilities of the pairs, `(batch, N)`."""
    dice = _seeded(41)
    sources = torch.randn(3, 2, generator=dice, dtype=F64)[[0, 1, 2, 0, 1, 0, 2]]
    atoms, weights = torch.randn(7, 2, generator=dice, dtype=F64), 0.5 + 3 * torch.rand(7, generator=dice, dtype=F64)
    coupling, bridge = FiniteCoupling(atoms, sources, weights), brownian(2.0)
    which = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 1, 2])
    xT, x_t = sources[which], torch.randn(10, 2, generator=dice, dtype=F64)
    inputs = (x_t, xT, atoms, sources, weights, *(float(x) for x in bridge.coefficients(0.4)))
    wanted = coupling.denoiser(bridge, conditional=True).posterior(x_t, 0.4, xT)
    found = answer(*(x.clone() if isinstance(x, Tensor) else x for x in inputs))
    return compare(found, wanted, "the posterior", mistakes=_posterior_mistakes(inputs, wanted))


# -- 4.2 -------------------------------------------------------------------------------------------


@exercise("4.2", "The pairing after two passes", points=2)
def two_pass_covariance(answer: object) -> Finding:
    """`answer(C, V0, VT, epsilon, s)`: Cov(x0, xT) after unconditional posterior steps 1 -> s -> 0."""
    V0, VT, epsilon, s, r = 0.2 + 0.6 * torch.rand(5, 12, generator=_seeded(42), dtype=F64)
    V0, VT, C = 2 * V0, 3 * VT, (2 * r - 1) * (6 * V0 * VT).sqrt()
    top = s * C + (1 - s) * V0
    variance = s**2 * VT + 2 * s * (1 - s) * C + (1 - s) ** 2 * V0 + epsilon * s * (1 - s)
    first, last = s + (1 - s) * C / VT, top / variance
    wanted = VT * first * last
    walked = first**2 * VT + epsilon * s * (1 - s)
    mistakes = {
        "the data's C was returned: that is what a conditional denoiser keeps, or a single pass": C,
        "only the first pass was made: this is Cov(x_s, xT)": VT * first,
        "it is a regression slope: multiply by V_T, the covariance at the start": first * last,
        "it is a correlation; the covariance is wanted": wanted / (V0 * VT).sqrt(),
        "the last step kept a share of x_s; at time 0 it lands on the guess itself, so kappa = 0 and j = 1": (
            VT * first * (s + (1 - s) * last)
        ),
        "the slope at s was used in the first step too; the first pass is made at t = 1, where k = C / V_T": (
            VT * (s + (1 - s) * last) * last
        ),
        "k_1 was taken for C; it is C / V_T": VT * (s + (1 - s) * C) * last,
        "the first step was taken for x_T itself: it goes to s, by kappa = s and j = 1 - s": VT * last,
        "the first pass's guess was left out of x_s": VT * s * last,
        "s and 1 - s are exchanged in the first step: kappa = s, j = 1 - s": VT * ((1 - s) + s * C / VT) * last,
        "the slope has the variance of the walk; the denoiser was fitted to the bridge, whose x_s varies more": (
            VT * first * top / walked
        ),
        "the noise epsilon s (1 - s) is missing in Var x_s": VT * first * top / (variance - epsilon * s * (1 - s)),
        "the term 2 a b C is missing in Var x_s": VT * first * top / (variance - 2 * s * (1 - s) * C),
    }
    return compare(answer(C, V0, VT, epsilon, s), wanted, "the covariance", mistakes=mistakes)


# -- 4.3 -------------------------------------------------------------------------------------------


@exercise("4.3", "A denoiser from a score", points=2)
def from_score(answer: object) -> Finding:
    """`answer(score, x_t, xT, a, b, c)`: the pair `(xhat0, zhat)`, judged on a VP bridge."""
    dice, bridge = _seeded(43), vp()
    xhat0, x_t, xT = torch.randn(3, 8, 2, generator=dice, dtype=F64)
    t = 0.1 + 0.8 * torch.rand(8, generator=dice, dtype=F64)
    a, b, c = (x[:, None] for x in bridge.coefficients(t))
    score, zhat = bridge.score(xhat0, x_t, t, xT), (x_t - a * xT - b * xhat0) / c
    got = answer(score, x_t, xT, a, b, c)
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        return Finding(False, "not yet: wanted two tensors, xhat0 and zhat.")
    of_xhat0 = {
        "the pair came in the other order, zhat first": zhat,
        "the sign of the score is wrong: it points from x_t towards a xT + b xhat0": (x_t - a * xT - c**2 * score) / b,
        "a xT is missing: without it this is the formula of a diffusion model": (x_t + c**2 * score) / b,
        "the noise entered as c, not as its variance c²": (x_t - a * xT + c * score) / b,
        "the division by b is missing": x_t - a * xT + c**2 * score,
        "the score was left out, as if the bridge had no noise": (x_t - a * xT) / b,
    }
    of_zhat = {
        "the sign is wrong: the score points against the noise": -zhat,
        "it was multiplied by c²; the mean of c z is c zhat": zhat * c,
        "it is the negative score itself; a factor c is missing": -score,
        "it was divided by c; the score is -zhat / c": -score / c,
        "b xhat0 was not taken off": (x_t - a * xT) / c,
    }
    first = compare(got[0], xhat0, "xhat0", mistakes=of_xhat0)
    second = compare(got[1], zhat, "zhat, after xhat0,", mistakes=of_zhat) if first.right else first
    return Finding(True, "xhat0 and zhat agree to 1e-06.") if second.right else second


# -- 4.4 and 4.5 -----------------------------------------------------------------------------------

KINDS = ("conditional", "unconditional")
TASKS = {
    "sketch to photograph": (
        "conditional",
        "many photographs fit a sketch, and one that belongs to another sketch will not do",
    ),
    "super-resolution x4": ("unconditional", "the small image tells nearly all, so that little is exchanged"),
    "sampling with DBIM, eta 0": ("conditional", "it follows the score, and that needs xT"),
    "any image from pure noise": ("unconditional", "there is no pairing to keep, only the law of x0 counts"),
    "a bridge without noise": ("unconditional", "who sees x_t and xT can solve for x0, and nothing is learned"),
}
"""The tasks of exercise 4.4: which kind, and why."""


@exercise("4.4", "Which kind for which task", points=2)
def which_kind(answer: object) -> Finding:
    """A dictionary from TASKS to one of KINDS."""
    if not isinstance(answer, Mapping):
        return Finding(False, f"not yet: the answer is a {type(answer).__name__}; wanted a dictionary of five tasks.")
    unknown, missing = [name for name in answer if name not in TASKS], [name for name in TASKS if name not in answer]
    if unknown:
        return Finding(False, f"not yet: {unknown[0]!r} is none of the tasks; wanted {', '.join(TASKS)}.")
    if missing:
        return Finding(False, f"not yet: {missing[0]!r} is missing.")
    for name, value in answer.items():
        if not isinstance(value, str) or value.strip().lower() not in KINDS:
            return Finding(False, f"not yet: {name!r} is {value!r}; wanted 'conditional' or 'unconditional'.")
    wrong = [name for name, value in answer.items() if value.strip().lower() != TASKS[name][0]]
    if not wrong:
        return Finding(True, "all five are the kind that serves.")
    others = f" ({len(wrong)} of the five are to be thought over.)" if len(wrong) > 1 else ""
    return Finding(False, f"not yet: think of {wrong[0]!r} again: {TASKS[wrong[0]][1]}.{others}")


_NEAR = r"(?:(?!quarter|90|opposite|180)[^.;]){0,60}"
_GOOD = r"(?:right|correct|kept|keep|preserved|vanish|disappear|none|zero|0 ?%|no wrong)"
_BAD = r"(?:stays? wrong|remains? wrong|still wrong|all wrong|get worse|100 ?%)"


@exercise("4.5", "Meeting in place and in time", points=1)
def who_meets(answer: object) -> Finding:
    """A sentence: opposite bridges all meet at t = 1/2, those of the quarter turn never meet at one time."""
    wanted = {
        r"quarter|90": "say what happens with the quarter turn.",
        r"opposite|180|antipod|half turn|across": "say what happens with the opposite partners.",
        r"\bmeet|\bmet\b|collid|coincid|same (?:place|point|spot|time|moment|instant)|at once|centre|center|origin"
        r"|middle|t ?= ?(?:0?\.5|1/2)|half ?way|together|simultaneous": (
            "say why: where are the twelve bridges at one and the same time, t = 1/2?"
        ),
    }
    mistakes = {
        rf"(?:opposite|180){_NEAR}\b{_GOOD}\b": "look at the opposite partners with the smallest epsilon again.",
        rf"(?:quarter|90){_NEAR}\b{_BAD}\b": "look at the quarter turn with the smallest epsilon again.",
        r"\b(?:quarter|90)[^.;,]*\b(?:do not|don't|never) cross\b(?! (?:at|in))": (
            "its bridges do cross in the picture; do they pass the crossing at the same time?"
        ),
        r"(?:larger|more|bigger|much|high|higher|growing) (?:epsilon|noise)[^.;,]{0,40}(?:fewer|less|no) wrong": (
            "it is the other way round: drag epsilon to its left end."
        ),
    }
    return sentence(answer, wanted, mistakes)
