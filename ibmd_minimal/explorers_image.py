"""An explorer of images: a walk along a teacher's path beside the student's one jump."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from . import _checks as check
from .bridges import Bridge
from .explorer import Explorer, count, slider, stops
from .explorers_plane import NFES, NOISE, SEEDS, Jump, _jump
from .features import images
from .metrics import psnr
from .plotting import COLOURS, as_pixels
from .samplers import Denoiser, steps


def one_jump(model: Jump, xT: Tensor, seed: int, name: str = "student") -> Tensor:
    """`x0 = model(xT, generator=...)` without gradients, on the CPU; noise drawn there too, by `seed`.

    TypeError for a model that cannot be called so, ValueError for an `x0` that is not shaped like `xT`, or not finite.
    """
    with torch.no_grad():
        x0 = _jump(model, name)(xT, generator=torch.Generator().manual_seed(seed))
    if not isinstance(x0, Tensor) or x0.shape != xT.shape:
        given = f"shape {tuple(x0.shape)}" if isinstance(x0, Tensor) else f"a {type(x0).__name__}"
        raise ValueError(f"{name}(xT) returned {given}; wanted x0 of the shape of xT, {tuple(xT.shape)}")
    check.finite(x0, f"x0 = {name}(xT)")
    return x0.cpu()


def strip(ax: Axes, panels: Sequence[tuple[Tensor, str]], zoom: int = 1, size: float = 10) -> None:
    """Images `(1, 3, height, width)` side by side under titles of a font's `size`, as one: five axes take thrice the
    time."""
    sides = panels[0][0].shape[-2:]
    cut = [slice(round(n / 2 * (1 - 1 / zoom)), round(n / 2 * (1 + 1 / zoom))) for n in sides]
    cuts = [as_pixels(image[0][:, *cut]) for image, _ in panels]
    height, width = cuts[0].shape[:2]
    gap = max(1, round(width / 24))
    white = np.ones((height, gap, 3), cuts[0].dtype)
    ax.imshow(np.concatenate([part for one in cuts for part in (one, white)][:-1], 1))
    for k, (_, title) in enumerate(panels):
        place = k * (width + gap) + (width - 1) / 2, -0.5 - height / 40
        ax.text(*place, title, ha="center", va="bottom", size=size)
    ax.set_axis_off()


class Walk(NamedTuple):
    """A teacher's path: states and the guesses made from them, `(passes + 1, 3, height, width)`; times from 1 to 0.

    The last state is the last guess; no guess is made from it, and it stands for its own.
    """

    x_t: Tensor
    xhat0: Tensor
    times: list[float]


def walk(teacher: Denoiser, bridge: Bridge, xT: Tensor, nfe: int, seed: int, **options) -> Walk:
    """A path of :func:`samplers.steps` from one source `xT` `(1, 3, height, width)`, by `nfe` passes."""
    found = list(steps(teacher, bridge, xT, nfe, generator=torch.Generator().manual_seed(seed), **options))
    x_t = torch.cat([xT, *(step.x_t for step in found)])
    xhat0 = torch.cat([*(step.xhat0 for step in found), found[-1].x_t])
    return Walk(x_t.cpu(), xhat0.cpu(), [1.0, *(step.t for step in found)])


def on_its_bridge(bridge: Bridge, xT: Tensor, x0: Tensor, times: Sequence[float], seed: int) -> Tensor:
    """A path `(len(times), 3, height, width)` of the bridge pinned at `x0` and `xT`, both `(1, 3, height, width)`.

    It is the sampler's, with a denoiser that knows how it ends.
    """
    grid = torch.tensor(times, dtype=torch.float64)
    return walk(lambda x_t, t, xT: x0, bridge, xT.cpu(), len(times) - 1, seed, grid=grid).x_t


class Levels(NamedTuple):
    """PSNR in dB along the teacher's states and guesses and the student's states `(passes + 1,)`, and of its jump."""

    x_t: Tensor
    xhat0: Tensor
    bridge: Tensor
    jump: float

    @classmethod
    def of(cls, path: Walk, bridge: Tensor, jump: Tensor, x0: Tensor) -> Levels:
        true = x0.cpu().expand_as(path.x_t)
        return cls(*(psnr(one, true) for one in (path.x_t, path.xhat0, bridge)), float(psnr(jump, true[:1])))


def _curves(ax: Axes, times: Sequence[float], levels: Levels, place: int) -> None:
    """The levels along the times, and a line where the walk stands."""
    ax.plot(times, levels.x_t, ":", color=COLOURS["teacher"], label="teacher: x_t")
    ax.plot(times, levels.xhat0, color=COLOURS["teacher"], label="its guess")
    ax.plot(times, levels.bridge, "-.", color=COLOURS["student"], linewidth=1, label="student: x_t")
    ax.axhline(levels.jump, color=COLOURS["student"], linestyle="--", label="its jump")
    ax.axvline(times[place], ymax=0.64, color="0.6", linewidth=0.8)  # below the legend
    low, high = ax.get_ylim()
    ax.set_title("PSNR in dB\n", fontsize=9)
    ax.set(xlabel="t", xlim=(1, 0), xticks=[1, 0.5, 0], ylim=(low, high + 0.6 * (high - low)))
    ax.legend(loc="upper right", fontsize=7, handlelength=1.8)


def path_explorer(
    teacher: Denoiser,
    student: Jump,
    bridge: Bridge,
    xT: Tensor,
    x0: Tensor | None = None,
    nfes: Sequence[int] = NFES,
    nfe: int = 20,
    **options,
) -> Explorer:
    """A teacher's path at image scale, state by state with its guess from there, beside the student's one jump.

    The student has no states between: shown are those of the bridge pinned at its jump and xT, by the same noise. Over
    all sources and noise they have, at every t, the law of the teacher's states, if the student is right and the
    teacher's steps are small. `xT`: sources `(n, 3, height, width)`, of which one is seen.
    `teacher(x_t, t, xT)`: any denoiser, sampled with `options` of :func:`samplers.sample` when an NFE, a source and a
    seed are first asked for. `student(xT, generator=...)`: a Student or any function. `x0`: the truth, shown with PSNR
    along both walks; left out if None. Play runs the progress, in parts of all steps.

    ValueError, TypeError for what is none of these, at once, or from a model when it is first called.
    """
    check.finite(images(xT, "xT"), "xT")
    if x0 is not None:
        check.same(xT, x0, "xT", "x0")
    nfes = [check.count(one, "nfes") for one in nfes]
    if nfe not in nfes:
        raise ValueError(f"nfe is {nfe!r}; wanted one of nfes, {', '.join(map(str, nfes))}")

    @lru_cache(64)
    def walks(which: int, nfe: int, seed: int) -> tuple[Walk, Tensor, Tensor]:
        path, jump = walk(teacher, bridge, xT[which, None], nfe, NOISE + seed, **options), jumped(which, seed)
        return path, on_its_bridge(bridge, xT[which, None], jump, path.times, NOISE + seed), jump

    @lru_cache(64)
    def jumped(which: int, seed: int) -> Tensor:
        return one_jump(student, xT[which, None], NOISE + seed)

    @lru_cache(64)
    def levels(which: int, nfe: int, seed: int) -> Levels:
        return Levels.of(*walks(which, nfe, seed), x0[which, None])

    def draw(figure: Figure, nfe: int, progress: float, seed: int, which: int = 0) -> None:
        path, pinned, jump = walks(which, nfe, seed)
        place = math.ceil(progress * (len(path.times) - 1) - 1e-9)
        panels = _along(path, pinned, jump, place)
        if x0 is None:
            return strip(figure.subplots(), panels, size=9)
        left, right = figure.subplots(1, 2, width_ratios=(5.4, 1))
        strip(left, [*panels, (x0[which, None], "truth x0\n")], size=9)
        _curves(right, path.times, levels(which, nfe, seed), place)

    controls = {
        "nfe": stops(nfe, nfes, "teacher's NFE"),
        "progress": slider(0.5, 0, 1, 0.02, "progress"),
        "seed": count(0, 0, SEEDS - 1, "seed"),
    }
    if len(xT) > 1:
        controls["which"] = count(0, 0, len(xT) - 1, "picture")
    return Explorer(draw, controls, size=(7.2 if x0 is None else 9.8, 2.45), play="progress")


def _along(path: Walk, pinned: Tensor, jump: Tensor, place: int) -> list[tuple[Tensor, str]]:
    """State and guess of the teacher, state and jump of the student, after `place` steps of the walk."""
    t, passes = path.times[place], len(path.times) - 1
    return [
        (path.x_t[place, None], f"teacher: x_t, t = {t:.2f}\nafter step {place} of {passes}"),
        (path.xhat0[place, None], "its guess of x0\nfrom there"),
        (pinned[place, None], f"student: x_t, t = {t:.2f}\non its jump's bridge"),
        (jump, "its jump: x0\nfrom xT, at once"),
    ]
