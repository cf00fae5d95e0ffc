"""One look for every figure: colours that survive greyscale and colour blindness, labels, equal axes where space is
space."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

# Okabe and Ito's palette, from dark to light; in greyscale the four differ by their lightness.
COLOURS = {"data": "#000000", "teacher": "#0072B2", "student": "#D55E00", "source": "#999999"}
MARKERS = {"data": "o", "teacher": "^", "student": "s", "source": "."}
STYLE = {
    "figure.dpi": 110,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
}


def scatter(ax: Axes, x: Tensor, who: str, label: str | None = None, size: float = 5) -> None:
    """Points `(n, 2)` in the colour and marker of "data", "teacher", "student" or "source"."""
    ax.scatter(*x.T, s=size, c=COLOURS[who], marker=MARKERS[who], alpha=0.6, linewidths=0, label=label or who)


def plane(ax: Axes, title: str, limit: float) -> None:
    """Equal axes from -limit to limit, with the coordinates' names."""
    ax.set(
        title=title,
        xlabel="first coordinate",
        ylabel="second coordinate",
        aspect="equal",
        xlim=(-limit, limit),
        ylim=(-limit, limit),
    )


def paths(ax: Axes, path: Tensor, who: str, n: int = 30) -> None:
    """The first `n` of the trajectories `(steps, batch, 2)`, from source (small dots) to their ends."""
    for k in range(min(n, path.shape[1])):
        ax.plot(*path[:, k].T, color=COLOURS[who], linewidth=0.6, alpha=0.7)
    scatter(ax, path[0, :n], "source", size=14)
    scatter(ax, path[-1, :n], who, size=14)


def plane_figure(x0: Tensor, path: Tensor, jumps: Tensor, samples: Tensor, nfe: int, limit: float) -> Figure:
    """Four panels: data, the teacher's paths `(nfe + 1, batch, 2)`, the student's single jumps `(2, batch, 2)`, its
    samples."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 4, figsize=(11, 3.1), sharex=True, sharey=True)
        scatter(axes[0], x0, "data")
        paths(axes[1], path, "teacher")
        paths(axes[2], jumps, "student")
        scatter(axes[3], samples, "student")
        titles = ("data x0", f"teacher, NFE {nfe}: paths", "student, NFE 1: jumps", "student's samples")
        for ax, title in zip(axes, titles):
            plane(ax, title, limit)
            ax.label_outer()
    return figure


def as_pixels(image: Tensor) -> np.ndarray:
    """A `(3, height, width)` image in [-1, 1] as `(height, width, 3)` in [0, 1] for `imshow`."""
    return rearrange((image.detach().cpu() / 2 + 0.5).clamp(0, 1), "c h w -> h w c").numpy()


def photo_figure(images: Sequence[Tensor], titles: Sequence[str], detail: tuple[int, int, int] | None = None) -> Figure:
    """Images `(3, height, width)` side by side under their titles; below, if `detail = (top, left, size)`, a cut of
    each."""
    with plt.rc_context(STYLE):
        rows = 1 if detail is None else 2
        figure, axes = plt.subplots(rows, len(images), figsize=(2.2 * len(images), 2.4 * rows), squeeze=False)
        for column, (image, title) in enumerate(zip(images, titles)):
            axes[0, column].imshow(as_pixels(image))
            axes[0, column].set_title(title)
            if detail is not None:
                top, left, size = detail
                axes[1, column].imshow(
                    as_pixels(image[:, top : top + size, left : left + size]), interpolation="nearest"
                )
        for ax in axes.flat:
            ax.set_axis_off()
    return figure


def in_notebook() -> None:
    """Figures of a notebook as JPEG: a fifth of the size of PNG where there are photographs."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 65})
