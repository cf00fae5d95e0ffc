"""Checks of chapter 08: few steps, conditions, several teachers."""

from __future__ import annotations

import torch
from torch import Tensor

from ..bridges import Bridge, brownian
from ..gaussian import GaussianCoupling
from .checking import Finding, compare, exercise, sentence

TIMES = (1.0, 0.7, 0.3)


def _jump(x_t: Tensor, t: float, xT: Tensor) -> Tensor:
    """Any guess of x0 that tells all its arguments apart."""
    return torch.sin(2 * x_t) + t * x_t - 0.3 * xT


def _walk(bridge: Bridge, xT: Tensor, noises: list[Tensor], anchor: str, times=TIMES, noise: float = 1.0):
    """The points that the student reaches and its guesses from there."""
    points, guesses = [xT], []
    for k, t in enumerate(times):
        guesses.append(_jump(points[-1], t, xT))
        if k + 1 < len(times):
            pinned, end = (points[-1], t) if anchor == "x_t" else (xT, 1.0)
            mean, std = bridge.posterior(guesses[-1], pinned, times[k + 1], end)
            points.append(mean + noise * std * noises[k])
    return points, guesses


def _slips(bridge: Bridge, xT: Tensor, noises: list[Tensor], anchor: str) -> dict[str, Tensor]:
    other = "xT" if anchor == "x_t" else "x_t"
    points, guesses = _walk(bridge, xT, noises, anchor)
    mean, std = bridge.posterior(guesses[1], points[1], TIMES[2], 1.0)
    return {
        f"the bridge is pinned at {other} where the anchor is {anchor}": _walk(bridge, xT, noises, other)[1][-1],
        "the last point put back is returned, not the guess of x0 from it": points[-1],
        "the last jump is missing: this is the guess before it": guesses[-2],
        "the put-back is the bridge's mean, without its noise": _walk(bridge, xT, noises, anchor, noise=0.0)[1][-1],
        "x_t is pinned at the time 1 where it stands at t": _jump(mean + std * noises[1], TIMES[2], xT),
        "there is one jump only, from xT": guesses[0],
    }


@exercise("8.1", "The loop of a few-step student", points=2)
def few_steps(answer) -> Finding:
    """`few_steps(jump, bridge, xT, times, noises, anchor)`: the last guess of x0, for both anchors."""
    generator, bridge = torch.Generator().manual_seed(81), brownian(0.4)
    xT, *noises = torch.randn(3, 64, 2, generator=generator, dtype=torch.float64)
    for anchor in ("x_t", "xT"):
        wanted = _walk(bridge, xT, noises, anchor)[1][-1]
        got = answer(_jump, bridge, xT.clone(), TIMES, [z.clone() for z in noises], anchor)
        found = compare(got, wanted, f"x0 anchored at {anchor}", mistakes=_slips(bridge, xT, noises, anchor))
        if not found.right:
            return found
    single = compare(answer(_jump, bridge, xT, (1.0,), [], "x_t"), _jump(xT, 1.0, xT), "x0 of one step")
    return Finding(True, "x0 agrees to 1e-06 for both anchors.") if single.right else single


def _two_steps(r: Tensor, s: Tensor, epsilon: Tensor) -> Tensor:
    """By the library, which knows any Gaussian coupling."""
    rows = zip(r.tolist(), s.tolist(), epsilon.tolist())
    found = [
        GaussianCoupling.of([0.0], [0.0], 1.0, 1.0, one).few_step_coupling(brownian(noise), (1.0, time)).parts[4]
        for one, time, noise in rows
    ]
    return torch.stack(found).reshape(-1)


@exercise("8.2", "The pairing of two steps", points=2)
def two_step_correlation(answer) -> Finding:
    """`two_step_correlation(r, s, epsilon)`: of x0 with xT, after ideal jumps from 1 and from s."""
    v = torch.rand(3, 20, generator=torch.Generator().manual_seed(82), dtype=torch.float64)
    r, s, epsilon = 1.6 * v[0] - 0.8, 0.1 + 0.8 * v[1], 0.05 + v[2]
    noise = epsilon * s * (1 - s)
    variance = s**2 + (1 - s) ** 2 + 2 * s * (1 - s) * r + noise
    gain, gamma = (1 - s + s * r) / variance, s + (1 - s) * r
    mistakes = {
        "the first guess was taken to know nothing of xT; its slope is K(1) = r": gain * s,
        "the covariance of x0 and xT is missing in Var x_t": (1 - s + s * r) / (variance - 2 * s * (1 - s) * r) * gamma,
        "the bridge's noise is missing in Var x_t": (1 - s + s * r) / (variance - noise) * gamma,
        "Cov(x0, x_t) is taken as 1 - t; xT adds t r": (1 - s) / variance * gamma,
        "this is the formula for independent x0 and xT": (1 - s) * s / (s**2 + (1 - s) ** 2 + noise),
        "this is the slope of the last jump alone": gain,
        "this is the correlation of the point put back with xT, before the last jump": gamma,
        "this is the data's correlation, which only one step keeps": r,
    }
    return compare(answer(r, s, epsilon), _two_steps(r, s, epsilon), "the correlation", mistakes=mistakes)


PAIRINGS = {
    ("unconditional", "x_t"): (
        "between",
        "the loss of an ideal jump is zero there, and each put-back forgets a portion of the pairing",
    ),
    ("unconditional", "xT"): (
        "wrong",
        "the loss holds (x0, xT) to the data's law, which a chain of jumps that see x_t alone has lost",
    ),
    ("conditional", "x_t"): ("data", "each jump sees xT as well, so that nothing of the pairing is forgotten"),
    ("conditional", "xT"): (
        "data",
        "each jump sees xT, so that the pair (x0, xT) has the data's law, which is what the loss asks",
    ),
}


@exercise("8.3", "Which anchor for which teacher", points=2)
def anchors(answer) -> Finding:
    """A dictionary from (teacher, anchor) to "data", "between" or "wrong"."""
    if not isinstance(answer, dict) or set(answer) != set(PAIRINGS):
        keys = ", ".join(map(str, PAIRINGS))
        return Finding(False, f"not yet: wanted a dictionary with the four keys {keys}.")
    words = {str(word).strip().lower() for word in answer.values()} - {"data", "between", "wrong"}
    if words:
        return Finding(False, f"not yet: {sorted(words)[0]!r} is none of 'data', 'between', 'wrong'.")
    for (teacher, anchor), (wanted, reason) in PAIRINGS.items():
        if str(answer[teacher, anchor]).strip().lower() != wanted:
            return Finding(False, f"not yet: look again at the {teacher} teacher with anchor {anchor}: {reason}.")
    return Finding(True, "all four combinations agree.")


@exercise("8.4", "A fake model that does not see the label", points=2)
def blind_at_T(answer) -> Finding:
    """`blind_at_T(means, shares)`: the blind objective at t = T where the student is right."""
    generator = torch.Generator().manual_seed(84)
    means = torch.randn(4, generator=generator, dtype=torch.float64)
    shares = torch.rand(4, generator=generator, dtype=torch.float64) + 0.1
    shares = shares / shares.sum()
    centre = (shares * means).sum()
    spread = (shares * (means - centre) ** 2).sum()
    mistakes = {
        "the sign is wrong: the blind fake's error is larger, and its error is subtracted": spread,
        "the tasks are taken as equally likely": -means.var(unbiased=False),
        "the tasks are taken as equally likely, and the variance as that of a sample, over n - 1": -means.var(),
        "the mean over tasks is missing: a blind fake answers that, not zero": -(shares * means**2).sum(),
        "this is the standard deviation, not the variance": -spread.sqrt(),
        "the label was taken to reach the fake model; then the objective is zero": 0.0,
        "the shares multiply the distances' sum before they are squared": -((shares * (means - centre)) ** 2).sum(),
        "this is the blind fake's answer, not what it loses": centre,
    }
    return compare(answer(means, shares), -spread, "the blind objective", mistakes=mistakes)


@exercise("8.5", "The slider of N", points=1)
def slider(answer) -> Finding:
    """A sentence: the nearest cluster, the teacher's walk."""
    wanted = {
        r"near|close|next to|same side|neighbour": "say which cluster the lines end in, seen from the source.",
        r"teacher|walk|process|sampler": "say whose pairing the student approaches.",
    }
    mistakes = {
        r"(approach\w*|(tends?|converges?|closer|nearer|goes) (to|towards?)) (that of )?(the )?(data|independent)": (
            "the data's pairing is that of N = 1; look at where the correlation goes."
        ),
        r"(random|any|far|farthest|opposite) (cluster|corner)": "that is so at N = 1; drag N to 16 and look again.",
    }
    return sentence(answer, wanted, mistakes)
