"""Explorers of samplers and students: a teacher's many steps beside one jump, and the couplings that they make."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from . import _checks as check
from .bridges import Bridge
from .explorer import Explorer, count, slider, stops
from .plotting import COLOURS, MARKERS, plane
from .samplers import Denoiser, sample

SEEDS = 5  # draws of the noise, made at the start
NOISE = 250_201_362  # a seed that nobody draws sources with: from an equal one the noise would be the sources again
NFES = (1, 2, 5, 10, 20, 50, 100)
Jump = Callable[..., Tensor]


def _sources(sources: Tensor, dims: Sequence[int]) -> Tensor:
    check.finite(check.tensor(sources, "sources"), "sources")
    if sources.ndim != 2 or sources.shape[1] not in dims:
        wanted = " or ".join(f"(n, {dim})" for dim in dims)
        raise ValueError(f"sources has shape {tuple(sources.shape)}; wanted {wanted}")
    return sources


def _jump(value: object, name: str) -> Jump:
    """Refuse what cannot be called as `value(xT, generator=...)`."""
    check.callable_(value, name, f"a callable x0 = {name}(xT, generator=...)")
    try:
        inspect.signature(value).bind(None, generator=None)
    except TypeError as problem:
        raise TypeError(f"{name} cannot be called as {name}(xT, generator=...): {problem}") from None
    return value


def _drawn(jump: Jump, xT: Tensor, name: str) -> np.ndarray:
    """`x0 (SEEDS, n, D)` of a student or sampler, independent draws from the same sources, in one call."""
    several = xT.repeat(SEEDS, 1)
    with torch.no_grad():
        x0 = jump(several, generator=torch.Generator(xT.device).manual_seed(NOISE))
    if not isinstance(x0, Tensor) or x0.shape != several.shape:
        given = f"shape {tuple(x0.shape)}" if isinstance(x0, Tensor) else f"a {type(x0).__name__}"
        raise ValueError(f"{name}(xT) returned {given}; wanted x0 of the shape of xT, {tuple(several.shape)}")
    return x0.cpu().numpy().reshape(SEEDS, *xT.shape)


def _walked(teacher: Denoiser, bridge: Bridge, xT: Tensor, nfe: int, options: dict) -> np.ndarray:
    """The teacher's trajectories `(SEEDS, nfe + 1, n, D)`."""
    generator = torch.Generator(xT.device).manual_seed(NOISE)
    run = sample(teacher, bridge, xT.repeat(SEEDS, 1), nfe, generator=generator, return_path=True, **options)
    return run.path.cpu().numpy().reshape(len(run.path), SEEDS, *xT.shape).swapaxes(0, 1)


def _reach(limit: float | None, *points: np.ndarray) -> float:
    """Half the length of the axes: the one given, or what shows all points."""
    return 1.05 * max(float(np.abs(x).max()) for x in points) if limit is None else check.positive(limit, "limit")


def _lines(path: np.ndarray) -> np.ndarray:
    """Trajectories `(steps, n, 2)` as one line with gaps, `(2, n (steps + 1))`."""
    gaps = np.concatenate([path, np.full_like(path[:1], np.nan)])
    return gaps.transpose(2, 1, 0).reshape(2, -1)


def _points(ax: Axes, x: np.ndarray, who: str, size: float = 4, alpha: float = 0.8) -> None:
    """Points `(n, 2)` in the colour and marker of `who`; a line of markers is drawn faster than a scatter."""
    marker = "o" if who == "source" else MARKERS[who]
    ax.plot(*x.T, marker, color=COLOURS[who], markersize=size, alpha=alpha, markeredgewidth=0)


# -- many steps beside one jump --------------------------------------------------------------------


def _panel(ax: Axes, path: np.ndarray, data: np.ndarray | None, who: str, passes: int, limit: float) -> None:
    """Trajectories `(nfe + 1, n, 2)` up to the pass reached, from the sources to where they stand now."""
    nfe = len(path) - 1
    if data is not None:
        _points(ax, data, "data", 1.5, 0.25)
    ax.plot(*_lines(path[: passes + 1]), color=COLOURS[who], linewidth=0.7, alpha=0.8)
    _points(ax, path[0], "source")
    _points(ax, path[passes], who, 5)
    plane(ax, f"{who}, NFE {nfe}: after pass {passes}", limit)


def teacher_and_student(
    teacher: Denoiser,
    student: Jump,
    bridge: Bridge,
    sources: Tensor,
    data: Tensor | None = None,
    nfes: Sequence[int] = NFES,
    nfe: int = 20,
    limit: float | None = None,
    **options,
) -> Explorer:
    """A teacher's trajectories at a chosen NFE beside the student's single jump, from the same `sources` `(n, 2)`.

    `teacher(x_t, t, xT)`: any denoiser, sampled with `options` of :func:`sample`, at the start, for each of `nfes`.
    `student(xT, generator=...)`: a Student or any function. `data` `(n, 2)`: drawn faintly below. `limit`: half the
    axes' length, found from the points if None. Play runs the progress, in parts of all passes: the student has arrived
    after its first.
    """
    xT, _ = _sources(sources, (2,)).detach(), _jump(student, "student")
    below = None if data is None else _sources(data, (2,)).detach().cpu().numpy()
    nfes = [check.count(one, "nfes") for one in nfes]
    if nfe not in nfes:
        raise ValueError(f"nfe is {nfe!r}; wanted one of nfes, {', '.join(map(str, nfes))}")
    paths = {one: _walked(teacher, bridge, xT, one, options) for one in nfes}
    jumps = np.stack([np.broadcast_to(xT.cpu().numpy(), (SEEDS, *xT.shape)), _drawn(student, xT, "student")], 1)
    reach = _reach(limit, jumps, *paths.values())

    def draw(figure: Figure, nfe: int, progress: float, seed: int) -> None:
        left, right = figure.subplots(1, 2, sharex=True, sharey=True)
        _panel(left, paths[nfe][seed], below, "teacher", math.ceil(progress * nfe - 1e-9), reach)
        _panel(right, jumps[seed], below, "student", math.ceil(progress), reach)
        right.set_ylabel("")

    controls = {
        "nfe": stops(nfe, nfes, "teacher's NFE"),
        "progress": slider(1.0, 0, 1, 0.02, "progress"),
        "seed": count(0, 0, SEEDS - 1, "seed"),
    }
    return Explorer(draw, controls, size=(7.5, 3.7), play="progress")


# -- couplings -------------------------------------------------------------------------------------


def _angle(x: Tensor) -> np.ndarray:
    """Directions of points `(n, 2)` as seen from their mean, in degrees."""
    return np.degrees(np.arctan2(*(x - x.mean(0)).flip(1).T.cpu().numpy()))


def _correlation(x0: np.ndarray, xT: np.ndarray) -> float:
    """`E (x0 - E x0)·(xT - E xT)` over both standard deviations: 1 for a shift, 0 for independence."""
    x0, xT = x0 - x0.mean(0), xT - xT.mean(0)
    return float((x0 * xT).sum() / math.sqrt(max((x0**2).sum() * (xT**2).sum(), 1e-300)))


def _draw_line_coupling(ax: Axes, xT: np.ndarray, x0: np.ndarray, lit: np.ndarray, who: str, limit: float) -> None:
    """Pairs on the line: source across, sample up."""
    both = np.concatenate([xT, x0], 1)
    _points(ax, both, "source", 3, 0.5)
    _points(ax, both[lit], who, 5)
    ax.axvspan(xT[lit].min(), xT[lit].max(), color="0.9", zorder=0)
    ax.set(xlabel="source xT", ylabel="sample x0", xlim=(-limit, limit), ylim=(-limit, limit))


def _draw_plane_coupling(ax: Axes, xT: np.ndarray, x0: np.ndarray, lit: np.ndarray, who: str, limit: float) -> None:
    """Pairs in the plane: a line from each source that is lit to its sample."""
    _points(ax, xT, "source", 2, 0.4)
    _points(ax, x0, who, 2, 0.25)
    ax.plot(*_lines(np.stack([xT[lit], x0[lit]])), color="black", linewidth=0.6, alpha=0.7)
    _points(ax, xT[lit], "source", 5)
    _points(ax, x0[lit], who, 6)
    plane(ax, "", limit)


def couplings(
    student: Jump,
    teacher: Jump,
    sources: Tensor,
    names: tuple[str, str] = ("student", "teacher's sampler"),
    limit: float | None = None,
) -> Explorer:
    """The student's coupling of `x0` and `xT` beside that of the teacher's sampler, from the same `sources` `(n, D)`.

    `student` and `teacher` are called as `x0 = student(xT, generator=...)`; a teacher's sampler is one by
    `lambda xT, generator: sample(model, bridge, xT, 100, generator=generator)`. D = 2: sources and samples in the
    plane, and a sector of sources joined to their samples, which the slider (and play) turns round. D = 1: pairs
    `(xT, x0)`, and a window of sources that moves. `limit`: half the axes' length, found from the points if None.
    """
    xT = _sources(sources, (1, 2)).detach()
    jumps = {"student": _jump(student, "student"), "teacher": _jump(teacher, "teacher")}
    drawn = {who: _drawn(jump, xT, who) for who, jump in jumps.items()}
    points, flat = xT.cpu().numpy(), xT.shape[1] == 2
    reach = _reach(limit, points, *drawn.values())
    place = _angle(xT) if flat else points[:, 0]

    def draw(figure: Figure, where: float, lit: int, seed: int) -> None:
        away = np.abs((place - where + 180) % 360 - 180) if flat else np.abs(place - where)
        chosen = away.argsort(kind="stable")[:lit]
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
        for ax, who, name in zip(axes, jumps, names):
            one = _draw_plane_coupling if flat else _draw_line_coupling
            one(ax, points, drawn[who][seed], chosen, who, reach)
            ax.set_title(f"{name}: correlation {_correlation(drawn[who][seed], points):.2f}")
        axes[1].set_ylabel("")

    turn = slider(0, 0, 350, 10, "sector (degrees)") if flat else _window(points[:, 0])
    controls = {
        "where": turn,
        "lit": count(min(25, len(xT)), 1, min(100, len(xT)), "sources lit"),
        "seed": count(0, 0, SEEDS - 1, "seed"),
    }
    return Explorer(draw, controls, size=(7.5, 3.7), play="where")


def _window(places: np.ndarray):
    """A slider over the range of the sources, in 40 steps."""
    low, high = (float(np.quantile(places, q)) for q in (0.02, 0.98))
    return slider((low + high) / 2, low, high, (high - low) / 40, "window of xT")
