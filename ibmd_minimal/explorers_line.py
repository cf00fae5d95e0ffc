"""Explorers on the line: the pinned process, and a mixture of bridges beside its Markovian projection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from . import _checks as check
from .bridges import FAMILIES, Bridge, bridge_from, brownian
from .explorer import Explorer, choice, count, slider, stops
from .finite import FiniteCoupling
from .plotting import COLOURS
from .samplers import sample

REACH = 3.0  # what the axes show of the line, to both sides
EPSILONS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
PAIRS = (("#0072B2", "-"), ("#D55E00", "--"), ("#000000", ":"), ("#999999", "-."))  # colour and line of each pair


def family_bridge(family: str, noise: float) -> Bridge:
    """The bridge of a family whose clock runs to `rho²(T) = noise`; ValueError below 0.06 for i2sb.

    VP keeps DDBM's ratio `beta_d = 20 beta_min`; I2SB's `sqrt(beta)` runs from 0.01 up to what the noise asks for.
    """
    family, noise = check.choice(family, "family", FAMILIES), check.positive(noise, "noise")
    if family == "brownian":
        return brownian(noise)
    if family == "ve":
        return bridge_from("ve", sigma_max=noise**0.5)
    if family == "vp":
        beta_min = math.log1p(noise) / 11
        return bridge_from("vp", beta_d=20 * beta_min, beta_min=beta_min)
    return bridge_from("i2sb", beta_max=_i2sb_beta_max(noise, 1000), steps=1000)


def _i2sb_beta_max(noise: float, steps: int) -> float:
    """`beta_max` with `sum (0.01 (1 - m) + m r)² = noise`, `r² = beta_max/steps`: a quadratic equation for r."""
    m = np.minimum(np.arange(steps), np.arange(steps)[::-1]) / (steps - 1)
    square, linear, rest = (m * m).sum(), 0.02 * (m * (1 - m)).sum(), 1e-4 * ((1 - m) ** 2).sum() - noise
    if rest >= 0:
        raise ValueError(f"noise is {noise:g}; wanted more than {rest + noise:.3f}, the least of I2SB's schedule")
    r = (math.sqrt(linear**2 - 4 * square * rest) - linear) / (2 * square)
    return float(steps * r * r)


@lru_cache(maxsize=16)
def standard_bridges(n: int, steps: int, seed: int) -> np.ndarray:
    """`n` Brownian bridges from 0 to 0, variance `u (1 - u)` at the clock's times `u = k/steps`: `(n, steps + 1)`."""
    z = np.random.default_rng(seed).standard_normal((n, steps)) / math.sqrt(steps)
    walk = np.concatenate([np.zeros((n, 1)), z.cumsum(1)], 1)
    return walk - np.linspace(0, 1, steps + 1) * walk[:, -1:]


def joined(times: np.ndarray, paths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Paths `(n, len(times))` as one line with gaps, which is drawn faster than n lines."""
    gap = np.full((len(paths), 1), np.nan)
    return np.tile(np.append(times, np.nan), len(paths)), np.concatenate([paths, gap], 1).ravel()


def normal_density(x: np.ndarray, mean: float, std: float) -> np.ndarray:
    """The density of N(mean, std²)."""
    return np.exp(-(((x - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))


# -- the pinned process --------------------------------------------------------------------------


def _draw_pinned(
    figure: Figure, family: str, noise: float, x0: float, xT: float, t: float, paths: int, seed: int
) -> None:
    bridge, times = family_bridge(family, noise), torch.linspace(0, 1, 201, dtype=torch.float64)
    a, b, c = (values.numpy() for values in bridge.coefficients(times))
    mean, scale = a * xT + b * x0, bridge.alpha(times).numpy() * noise**0.5
    clock = (bridge.clock(times).numpy() * 2000).round().astype(int)
    every = mean + scale * standard_bridges(400, 2000, seed)[:, clock]
    now = round(t * 200)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    left.fill_between(times, mean - 2 * c, mean + 2 * c, color="0.9", label="mean ± 2 std")
    left.plot(*joined(times.numpy(), every[:paths]), color=COLOURS["teacher"], linewidth=0.6)
    left.plot(times, mean, "k--", linewidth=1.4, label="mean")
    left.axvline(t, color="black", linewidth=0.8)
    left.plot(np.full(paths, t), every[:paths, now], "k.", markersize=4)
    left.plot([0, 1], [x0, xT], "ks", markersize=5)
    left.legend(loc="lower left", ncols=2)
    left.set(xlabel="time t", ylabel="x_t", xlim=(-0.02, 1.02), ylim=(-REACH, REACH))
    left.set_title(f"{family}, rho²(T) = {noise:.2f}, pinned at x0 = {x0:.1f} and xT = {xT:.1f}")
    _law(right, every[:, now], mean[now], c[now], t)


def _law(ax: Axes, places: np.ndarray, mean: float, std: float, t: float) -> None:
    """Histogram and density of `x_t`, upright; at the ends, where it is one point, a line there."""
    line = np.linspace(-REACH, REACH, 241)
    if std > 0:
        heights, edges = np.histogram(places, line[::5], density=True)
        ax.stairs(heights, edges, orientation="horizontal", fill=True, color="0.8")
        ax.plot(normal_density(line, mean, std), line, "k-", linewidth=1)
    else:
        ax.axhline(mean, color="black", linewidth=1)
    ax.set(xlabel="density", xlim=(0, 2.5), title=f"t = {t:.2f}: std {std:.2f}")


def pinned_paths(
    family: str = "brownian", noise: float = 0.5, x0: float = -1.0, xT: float = 1.0, t: float = 0.5, paths: int = 12
) -> Explorer:
    """Paths of the pinned process, their mean and band of two standard deviations, and the law of `x_t` at the side.

    `noise` is `rho²(T)`, the same for every family: at one seed they show the same path, each on its own clock. The
    arguments are the controls' first values: `family` one of "brownian", "i2sb", "ve", "vp"; `noise` in [0.1, 1];
    `x0`, `xT` in [-2, 2]; `t` in [0, 1]; 1 to 40 `paths`. The histogram counts 400.
    """
    controls = {
        "family": choice(check.choice(family, "family", FAMILIES), list(FAMILIES), "family"),
        "noise": slider(_within(noise, 0.1, 1.0, "noise"), 0.1, 1.0, 0.05, "noise rho²(T)"),
        "x0": slider(_within(x0, -2, 2, "x0"), -2, 2, 0.1, "x0"),
        "xT": slider(_within(xT, -2, 2, "xT"), -2, 2, 0.1, "xT"),
        "t": slider(check.fraction(t, "t"), 0, 1, 0.02, "time t"),
        "paths": count(int(_within(check.count(paths, "paths"), 1, 40, "paths")), 1, 40, "paths"),
        "seed": count(0, 0, 9, "seed"),
    }
    return Explorer(_draw_pinned, controls, size=(8, 3.2), play="t")


def _within(value: float, low: float, high: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; wanted a number from {low:g} to {high:g}")
    return value


# -- the mixture of bridges and its Markovian projection -------------------------------------------


class _Crossing:
    """Paths of both processes of a finite coupling, simulated once for each epsilon."""

    def __init__(self, coupling: FiniteCoupling, n: int = 2000, steps: int = 200):
        self.coupling, self.n, self.steps = coupling, n, steps
        self.pair = np.arange(n) % len(coupling.x0)
        self.times = np.linspace(0, 1, steps + 1)
        self.runs = {epsilon: (self._mixture(epsilon), self._projection(epsilon)) for epsilon in EPSILONS}

    def _ends(self) -> tuple[Tensor, Tensor]:
        return self.coupling.x0[self.pair], self.coupling.xT[self.pair]

    def _mixture(self, epsilon: float) -> np.ndarray:
        """Bridges between the pairs, `(n, steps + 1)`, times from 0 to 1."""
        x0, xT = (ends.numpy() for ends in self._ends())
        paths = x0 + (xT - x0) * self.times + epsilon**0.5 * standard_bridges(self.n, self.steps, 0)
        return paths.astype(np.float32)

    def _projection(self, epsilon: float) -> np.ndarray:
        """The reverse process of the exact `E[x0 | x_t]` from the same `xT`, `(n, steps + 1)`, times from 0 to 1."""
        bridge, generator = brownian(epsilon), torch.Generator().manual_seed(0)
        denoiser, xT = self.coupling.denoiser(bridge), self._ends()[1]
        run = sample(denoiser, bridge, xT, self.steps, generator=generator, return_path=True)
        return run.path[..., 0].flip(0).T.float().numpy()

    def kept(self, paths: np.ndarray) -> float:
        """The share of paths `(n, steps + 1)` that end, at t = 0, nearest the `x0` that their `xT` is paired with."""
        atoms = self.coupling.x0[:, 0].numpy()
        nearest = atoms[np.abs(paths[:, :1] - atoms).argmin(1)]
        return float((nearest == atoms[self.pair]).mean())

    def density(self, x: np.ndarray, epsilon: float, t: float) -> np.ndarray:
        """The density of `x_t`, that of both processes, for 0 < t < 1."""
        centres = (1 - t) * self.coupling.x0[:, 0].numpy() + t * self.coupling.xT[:, 0].numpy()
        return np.mean([normal_density(x, centre, math.sqrt(epsilon * t * (1 - t))) for centre in centres], 0)


def _draw_paths(ax: Axes, crossing: _Crossing, paths: np.ndarray, t: float, shown: int, title: str) -> None:
    now = round(t * crossing.steps)
    for pair, (colour, line) in enumerate(PAIRS[: len(crossing.coupling.x0)]):
        those = paths[crossing.pair == pair][:shown]
        ax.plot(*joined(crossing.times, those), color=colour, linestyle=line, linewidth=0.6, alpha=0.8)
        ax.plot(np.full(len(those), t), those[:, now], ".", color=colour, markersize=5)
    ax.axvline(t, color="black", linewidth=0.8)
    ax.set(xlabel="time t", xlim=(-0.02, 1.02), title=f"{title}: {crossing.kept(paths):.0%} of pairs kept")


def mixture_and_projection(
    x0: Sequence[float] = (-1.0, 1.0), xT: Sequence[float] = (1.0, -1.0), epsilon: float = 0.2, t: float = 0.7
) -> Explorer:
    """The mixture of Brownian bridges between the pairs `(x0[i], xT[i])`, beside its Markovian projection.

    The projection is simulated from the same `xT` by the exact denoiser `E[x0 | x_t]`; in the middle the law of `x_t`:
    of the mixture's paths, of the projection's, and exact. Two to four pairs within [-2, 2], equally likely; `epsilon`
    one of 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2. Simulates 2,000 paths for each epsilon at the start, in about a second.
    """
    atoms = [[_within(value, -2, 2, name) for value in values] for values, name in ((x0, "x0"), (xT, "xT"))]
    if len(atoms[0]) != len(atoms[1]) or not 2 <= len(atoms[0]) <= len(PAIRS):
        raise ValueError(f"there are {len(atoms[0])} x0 and {len(atoms[1])} xT; wanted two to four pairs")
    _among(epsilon, EPSILONS, "epsilon")
    crossing = _Crossing(FiniteCoupling(*(torch.tensor(values, dtype=torch.float64)[:, None] for values in atoms)))
    line = np.linspace(-REACH, REACH, 241)

    def draw(figure: Figure, epsilon: float, t: float, shown: int) -> None:
        left, middle, right = figure.subplots(1, 3, sharey=True, width_ratios=(3, 2, 3))
        mixture, projection = crossing.runs[epsilon]
        _draw_paths(left, crossing, mixture, t, shown, "mixture")
        _draw_paths(right, crossing, projection, t, shown, "projection")
        now = round(t * crossing.steps)
        for paths, style in ((mixture, "-"), (projection, "--")):
            heights, edges = np.histogram(paths[:, now], line[::6], density=True)
            middle.stairs(heights, edges, orientation="horizontal", linestyle=style, color="0.3")
        if 0 < t < 1:
            middle.plot(crossing.density(line, epsilon, t), line, color="0.6", linewidth=2.5, zorder=0)
        # Said in the label and not in a legend, which would be painted anew each time.
        middle.set(
            xlabel="density: solid mixture,\ndashed projection, grey exact",
            xlim=(0, 2.4),
            title=f"law of x_t at t = {t:.2f}",
        )
        left.set(ylabel="x_t", ylim=(-REACH, REACH))

    controls = {
        "epsilon": stops(epsilon, EPSILONS, "epsilon"),
        "t": slider(check.fraction(t, "t"), 0, 1, 0.02, "time t"),
        "shown": count(12, 1, 40, "paths a pair"),
    }
    return Explorer(draw, controls, size=(9, 3.2), play="t")


def _among(value: float, allowed: Sequence[float], name: str) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; wanted one of {', '.join(f'{one:g}' for one in allowed)}")
