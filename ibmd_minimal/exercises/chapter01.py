"""Checks of chapter 01: pinned random walks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..bridges import vp
from .answers import inner_times
from .checking import Finding, compare, exercise, sentence

TARGET, WINDOW, EPSILON = 0.7, 0.02, 0.5
"""Exercise 1.4 and the chapter's first picture: walks of variance `EPSILON` kept if they end within `WINDOW`."""


@exercise("1.1", "An end that is not known exactly", points=2)
def uncertain_end(answer: object) -> Finding:
    """`answer(t, epsilon, sigma)`: std of `x_t`, `x_T ~ N(m, sigma²)`; epsilon t (1 - t) + t² sigma² is its square."""
    t, epsilon, sigma = inner_times(7, seed=11), 0.3, 0.8
    pinned = epsilon * t * (1 - t)
    variance = pinned + t**2 * sigma**2
    mistakes = {
        "the end were known, sigma = 0: its uncertainty is missing": pinned.sqrt(),
        "the whole of sigma² were felt at every time: the mean of x_t moves by t times what the end moves by": (
            pinned + sigma**2
        ).sqrt(),
        "sigma² were multiplied by t: the mean moves by t times the end, so its variance is t² sigma²": (
            pinned + t * sigma**2
        ).sqrt(),
        "standard deviations were added; variances add": pinned.sqrt() + t * sigma,
        "the variance were returned; its square root is wanted": variance,
    }
    return compare(answer(t, epsilon, sigma), variance.sqrt(), "the std of x_t", mistakes=mistakes)


def _steps(times: Tensor, x0: Tensor, xT: Tensor, z: Tensor, pull: Callable, std: Callable) -> Tensor:
    """The path of steps `x + pull(t, s) (xT - x) + std(t, s) z`, from t to s, `(len(times), batch)`."""
    path = [x0]
    for t, s, noise in zip(times, times[1:], z):
        path.append(path[-1] + pull(t, s) * (xT - path[-1]) + std(t, s) * noise)
    return torch.stack(path)


def _other_bridges(times: Tensor, x0: Tensor, xT: Tensor, epsilon: float, z: Tensor) -> dict[str, Tensor]:
    """Paths that end at both ends, but are not made by exact steps from `x0`."""
    line = x0 + times[:, None] * (xT - x0)
    independent = line.clone()
    independent[1:] += (epsilon * times[1:] * (1 - times[1:])).sqrt()[:, None] * z
    walk = torch.cat([torch.zeros_like(z[:1]), ((epsilon * times.diff()).sqrt()[:, None] * z).cumsum(0)])
    return {
        "every time were drawn on its own: right at each time, but the points of one path do not belong together": (
            independent
        ),
        "a free walk had the line of its error subtracted: that is a bridge, but it is wanted step by step": (
            line + walk - times[:, None] * walk[-1]
        ),
    }


@exercise("1.2", "A bridge on any grid", points=3)
def bridge_on_grid(answer: object) -> Finding:
    """`answer(times, x0, xT, epsilon, z)`: path `(n + 1, batch)` of exact steps from `x0`, with `z[k]` in step k."""
    dice = torch.Generator().manual_seed(12)
    x0, xT, z = (torch.randn(shape, generator=dice, dtype=torch.float64) for shape in ((3,), (3,), (6, 3)))
    times, epsilon = torch.cat([torch.zeros(1), inner_times(5, seed=12), torch.ones(1)]), 0.4

    def path(pull: Callable, std: Callable) -> Tensor:
        return _steps(times, x0, xT, z, pull, std)

    def pull(t, s):
        return (s - t) / (1 - t)

    def variance(t, s):
        return epsilon * (s - t) * (1 - s) / (1 - t)

    mistakes = {
        "the steps were Euler's: their noise, sqrt(epsilon (s - t)), is that of a free walk and does not vanish at the"
        " end": path(pull, lambda t, s: (epsilon * (s - t)).sqrt()),
        "the noise had the variance where its square root is wanted": path(pull, variance),
        "the pull were (s - t)(xT - x): it is to be divided by the time that is left, 1 - t": path(
            lambda t, s: s - t, lambda t, s: variance(t, s).sqrt()
        ),
        "the grid were uniform: the steps differ in length": path(
            lambda t, s: 1 / (len(z) * (1 - t)), lambda t, s: (epsilon / len(z) * (1 - s) / (1 - t)).sqrt()
        ),
        "the noise had the variance epsilon s (1 - s): that is of a walk pinned at time 0, yours is pinned anew at t": (
            path(pull, lambda t, s: (epsilon * s * (1 - s)).sqrt())
        ),
        **_other_bridges(times, x0, xT, epsilon, z),
    }
    wanted = path(pull, lambda t, s: variance(t, s).sqrt())
    return compare(answer(times, x0, xT, epsilon, z), wanted, "the path", mistakes=mistakes)


@exercise("1.3", "The noise of a VP bridge", points=2)
def vp_noise(answer: object) -> Finding:
    """`answer(alpha, alpha_T)`: the bridge's `c`, `alpha rho sqrt(1 - rho²/rho_T²)` with `rho² = 1/alpha² - 1`."""
    bridge, t = vp(1.3, 0.4), inner_times(7, seed=13)
    alpha, alpha_T = bridge.alpha(t), float(bridge.alpha(torch.ones((), dtype=torch.float64)))
    rho2, ratio = bridge.rho2(t), bridge.clock(t)
    wanted = bridge.coefficients(t)[2]
    mistakes = {
        "xT were not known: sqrt(1 - alpha²) is the noise given x0 alone": (1 - alpha**2).sqrt(),
        "the factor alpha were missing: this is the noise of y = x/alpha": (rho2 * (1 - ratio)).sqrt(),
        "the variance were returned; its square root is wanted": wanted**2,
        "the ratio of the rho were taken, not of their squares": alpha * (rho2 * (1 - ratio.sqrt())).sqrt(),
        "the time stood for the clock: 1 - t instead of 1 - rho²/rho_T²": alpha * (rho2 * (1 - t)).sqrt(),
        "rho² were 1 - alpha²: that is alpha² rho², the variance of x; rho² is the one of y": (
            alpha * ((1 - alpha**2) * (1 - (1 - alpha**2) / (1 - alpha_T**2))).sqrt()
        ),
    }
    return compare(answer(alpha, alpha_T), wanted, "c", mistakes=mistakes)


def share_kept() -> float:
    """The probability that a walk from 0 of variance EPSILON ends within WINDOW of TARGET."""
    low, high = ((TARGET + side * WINDOW) / math.sqrt(2 * EPSILON) for side in (-1, 1))
    return (math.erf(high) - math.erf(low)) / 2


@exercise("1.4", "Selection in 1000 dimensions", points=1)
def selection(answer: object) -> Finding:
    """The decimal logarithm of the number of walks drawn for one kept, in 1000 independent coordinates."""
    wanted = -1000 * math.log10(share_kept())
    mistakes = {
        "the logarithm were to base e; wanted base 10": wanted * math.log(10),
        "it were the logarithm of the probability; the number of walks is one over it, so the sign is plus": -wanted,
        "the effort grew in proportion to the dimension; probabilities of independent coordinates multiply": (
            math.log10(1000 / share_kept())
        ),
        "it were the number for one coordinate": -math.log10(share_kept()),
    }
    return compare(answer, wanted, "the logarithm", 0.02, mistakes)


_RIGHT = r"\.(6[5-9]|7[0-4]?)(?!\d)|two thirds|2/3"
_OTHER = rf"^(?!.*({_RIGHT})).*"  # only where the right time is not named as well
_AT = r"(\bt ?= ?|\bis |\bat |about |around )"


@exercise("1.5", "Where a VP bridge is widest", points=2)
def widest(answer: object) -> Finding:
    """A sentence: near t = 0.69, because the noise comes late (and alpha, which falls, moves it before 0.78)."""
    mistakes = {
        _OTHER
        + r"(\.7[5-9]|\.8)": "there the clock stands near 1/2 and y is widest; but x = alpha y, and alpha falls.",
        _OTHER + rf"(?<!not ){_AT}(t ?= ?)?(0?\.50?\b|1/2|(a |one )?half|the middle)": (
            "drag t and read the std: VP is narrower at 1/2 than a little later."
        ),
        _OTHER + rf"{_AT}(0?\.[0-4]|the (start|beginning))": (
            "drag t and read the std: the widest place lies beyond 1/2."
        ),
        r"noise (of vp )?(comes|arrives|enters|is added) (mostly )?early|clock (of vp )?(is|runs) (fast|ahead)": (
            "it is the other way round: read the std at t = 0.2, or compute vp.clock(0.5)."
        ),
    }
    wanted = {
        _RIGHT: "say at which t, to two digits: drag t and read the std.",
        r"clock|\blate|beta|β|slow|g²|g\^2|g2|rho|more noise|noise (comes|arrives|enters|is added|grows)|diffusion": (
            "say why it is not 1/2: when does the noise of VP come, early or late? What does its clock show at t = 1/2?"
        ),
    }
    return sentence(answer, wanted, mistakes)
