"""Chapter 13: sketch to image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..bridges import Bridge, brownian, i2sb, vp
from ..networks import Precondition
from .answers import uniform
from .checking import Finding, compare, exercise, sentence

F64 = torch.float64


# -- 13.1 ------------------------------------------------------------------------------------------

BRIDGES = (vp(), vp(0.5, 1.0), brownian(0.4), i2sb(1.0))


def _crossings(level: Callable[[Tensor, Tensor], Tensor], sigma0: Tensor) -> Tensor:
    """The time of the clock `level(sigma0², rho²(T))` on each bridge, `(bridges, sigma0)`; NaN where there is none."""

    def of(bridge: Bridge) -> Tensor:
        u = level(sigma0**2, bridge.rho2(torch.ones_like(sigma0)))
        return torch.where((u >= 0) & (u <= 1), bridge.time_at(u.clamp(0, 1)), torch.nan)

    return torch.stack([of(bridge) for bridge in BRIDGES])


@exercise("13.1", "As strong as the picture", points=2)
def equal_time(answer: Callable[[Bridge, Tensor], Tensor]) -> Finding:
    """`answer(bridge, sigma0)`: where `c = b sigma0`, which is `u = sigma0²/(rho²(T) + sigma0²)`."""
    sigma0 = uniform(6, 0.1, 0.55, 131)
    got = torch.stack([torch.as_tensor(answer(bridge, sigma0.clone())) for bridge in BRIDGES])
    wanted = _crossings(lambda v, total: v / (total + v), sigma0)
    clocks = sigma0**2 / (torch.stack([bridge.rho2(torch.ones_like(sigma0)) for bridge in BRIDGES]) + sigma0**2)
    mistakes = {
        "this is the clock u there; bridge.time_at(u) is its time": clocks,
        "the variance sigma0² is wanted in the formula, not sigma0": _crossings(
            lambda v, total: v.sqrt() / (total + v.sqrt()), sigma0
        ),
        "the factor 1 - u was dropped: rho² = sigma0² is the process without its pin": _crossings(
            lambda v, total: v / total, sigma0
        ),
        "the fraction is upside down: more spread of the pictures is a later time": _crossings(
            lambda v, total: total / (total + v), sigma0
        ),
        "rho²(T) was taken as 1, which it is for no bridge here": _crossings(lambda v, total: v / (1 + v), sigma0),
    }
    found = {name: value for name, value in mistakes.items() if bool(torch.isfinite(value).all())}
    return compare(got, wanted, "the time", mistakes=found)


# -- 13.2 ------------------------------------------------------------------------------------------


@exercise("13.2", "The best gate", points=2)
def best_gate(answer: Callable[..., Tensor]) -> Finding:
    """`answer(skip, out, scale, b, c, e)`: the gate with `skip + out g scale = b e/(b² e + c²)`."""
    t, e = uniform(8, 0.05, 0.95, 132).sort().values, uniform(8, 0.02, 0.4, 133)
    bridge = vp()
    skip, out, scale = Precondition(bridge, 0.514, 0.968, 0.074)(t)
    _, b, c = bridge.coefficients(t)
    k = b * e / (b**2 * e + c**2)
    mistakes = {
        "this is k, the share of x_t in the output; the gate is what is missing to it": k,
        "c_skip is there already: subtract it from k": k / (out * scale),
        "the sign is wrong: skip + out g scale is to be k": (skip - k) / (out * scale),
        "c_in is missing: the gate multiplies F's input, c_in x_t": (k - skip) / out,
        "c_out is missing: what F returns is multiplied by it": (k - skip) / scale,
        "it was multiplied by c_out c_in; divide by it": (k - skip) * out * scale,
        "this shuts the gate, k = 0; near t = 0, where x_t is the picture, that is far from best": -skip
        / (out * scale),
        "k lets all of x0 through, 1/b, noise included": (1 / b - skip) / (out * scale),
        "the b above the fraction is missing": (e / (b**2 * e + c**2) - skip) / (out * scale),
        "the b² below the fraction is missing": (b * e / (e + c**2) - skip) / (out * scale),
        "c was not squared": (b * e / (b**2 * e + c) - skip) / (out * scale),
        "e was taken for a standard deviation; it is the variance": (
            (b * e**2 / (b**2 * e**2 + c**2) - skip) / (out * scale)
        ),
    }
    got = answer(*(value.clone() for value in (skip, out, scale, b, c, e)))
    return compare(got, (k - skip) / (out * scale), "the gate", mistakes=mistakes)


# -- 13.3 ------------------------------------------------------------------------------------------


def _painted(seed: int) -> tuple[Tensor, Tensor]:
    """Samples `(7, 3, 6, 5)` whose colour differs as a whole, more so outside the mask, and in each pixel."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(6, 5, generator=generator) < 0.4
    whole = (
        torch.randn(7, 3, 1, 1, generator=generator, dtype=F64)
        * torch.tensor([0.3, 0.6, 1.0], dtype=F64)[:, None, None]
    )
    level = torch.randn(1, 3, 6, 5, generator=generator, dtype=F64)
    return level + whole * (1 + (~mask)) + 0.7 * torch.randn(7, 3, 6, 5, generator=generator, dtype=F64), mask


@exercise("13.3", "One colour for the whole", points=2)
def share_of_colour(answer: Callable[[Tensor, Tensor], Tensor]) -> Finding:
    """`answer(samples, mask)`: variance of the mask's mean colour over the mean variance of its pixels."""
    samples, mask = _painted(134)
    inside = samples[:, :, mask]
    each, whole = inside.var(0), inside.mean(2).var(0)
    wanted = whole.mean() / each.mean()
    grey = inside.mean(1)
    mistakes = {
        "the fraction is upside down": 1 / wanted,
        "the mask was ignored": samples.mean((2, 3)).var(0).mean() / samples.var(0).mean(),
        "the mask was used the wrong way round": (
            samples[:, :, ~mask].mean(2).var(0).mean() / samples[:, :, ~mask].var(0).mean()
        ),
        "these are standard deviations; a share of the spread is one of variances": wanted.sqrt(),
        "the channels were averaged before the variance: that is grey, not colour": (
            grey.mean(1).var(0) / grey.var(0).mean()
        ),
        "the ratio was taken channel by channel and averaged; average above and below first": (
            whole / each.mean(1)
        ).mean(),
        "the variance was taken over pixels, not over samples": inside.mean(0).var(1).mean() / each.mean(),
        "this is the rest, 1 minus the share": 1 - wanted,
        "the zeros outside the mask were averaged in": (
            (samples * mask).mean((2, 3)).var(0).mean() / (samples * mask).var(0).mean()
        ),
        "all variance was counted, that between channels and pixels too": whole.mean() / inside.var(),
    }
    return compare(answer(samples.clone(), mask.clone()), wanted, "the share", mistakes=mistakes)


# -- 13.4 ------------------------------------------------------------------------------------------

TRAININGS = ((14_000, 300, 5, 256), (500, 500, 3, 32), (520, 200, 3, 32), (300, 700, 5, 64), (3_700, 500, 5, 256))


def _cost(nfe: int, fake_steps: int) -> int:
    """Passes an update and picture."""
    return (nfe + 3) * fake_steps + nfe + 6


@exercise("13.4", "When one pass has paid", points=2)
def break_even(answer: Callable[[int, int, int, int], int]) -> Finding:
    """`answer(one, two, fake_steps, batch)`: the difference of the trainings' passes, 0 or more."""
    got = torch.tensor([float(answer(*training)) for training in TRAININGS], dtype=F64)

    def counts(rule: Callable[[int, int, int, int], float]) -> Tensor:
        return torch.tensor([float(rule(*training)) for training in TRAININGS], dtype=F64)

    def rule(cost: Callable[[int, int], float]) -> Callable[[int, int, int, int], float]:
        return lambda one, two, fake, batch: max(0.0, (one * cost(1, fake) - two * cost(2, fake)) * batch)

    mistakes = {
        "a negative number of pictures; where the one-pass student costs no more at all the answer is 0": counts(
            lambda one, two, fake, batch: (one * _cost(1, fake) - two * _cost(2, fake)) * batch
        ),
        "the batch is missing: each of its pictures costs that many passes": counts(
            lambda one, two, fake, batch: max(0, one * _cost(1, fake) - two * _cost(2, fake))
        ),
        "updates were counted, not passes": counts(lambda one, two, fake, batch: max(0, one - two) * batch),
        "both students were given one pass's cost of an update": counts(rule(lambda nfe, fake: _cost(1, fake))),
        "both students were given two passes' cost of an update": counts(rule(lambda nfe, fake: _cost(2, fake))),
        "the fake model's updates are missing": counts(rule(lambda nfe, fake: nfe + 6)),
        "the student's own update is missing": counts(rule(lambda nfe, fake: (nfe + 3) * fake)),
        "the fake model was taken to be updated once": counts(rule(lambda nfe, fake: _cost(nfe, 1))),
        "a picture saves one pass, the second, not two": counts(lambda *training: rule(_cost)(*training) / 2),
        "two passes' training was added instead of subtracted": counts(
            lambda one, two, fake, batch: (one * _cost(1, fake) + two * _cost(2, fake)) * batch
        ),
        "one student was taken for the other": counts(
            lambda one, two, fake, batch: max(0, (two * _cost(2, fake) - one * _cost(1, fake)) * batch)
        ),
    }
    return compare(got, counts(rule(_cost)), f"the number of pictures ({len(TRAININGS)} trainings)", 1e-9, mistakes)


# -- 13.5 ------------------------------------------------------------------------------------------


@exercise("13.5", "What z decides", points=1)
def slider(answer: str) -> Finding:
    """A sentence: colour and light change, the outline stays, because the drawing fixes it and leaves the rest open."""
    wanted = {
        r"colou?r|light|shad(?:ow|ing)|paint|hue|bright": "say what changes with z.",
        r"outline|shape|contour|silhouette|form\b|geometr|line|edge": "say what stays where it is.",
        r"because|since|\bas\b|fix|given|determine|leaves|open|says nothing|not say|tells|told|decid": (
            "say why: what does the drawing tell, and what does it leave to z?"
        ),
    }
    mistakes = {
        r"(outlines?|shapes?|contours?|lines|edges) (also )?(change|move|differ|vary)|"
        r"(different|other|new) (outlines?|shapes?|contours?|lines|edges)\b": (
            "look at the outline again: is it not where the drawing has it, for every z?"
        ),
        r"(colou?rs?|lights?) (and (colou?rs?|lights?) )?(stays?|remains?|never changes?|"
        r"(is|are) (always )?(fixed|the same))": ("move z once more: is the ball's colour the same?"),
        r"nothing (changes|happens)": "move z, not the drawing: the colours should change.",
    }
    return sentence(answer, wanted, mistakes)
