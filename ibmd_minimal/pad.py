"""A sketch pad: the reader draws, a student colours the drawing in.

The browser sends strokes (`static/pad.js`); here they become a line drawing as the *solids* have them, the source `xT`
of a student; its picture goes back. Nothing is fetched from anywhere.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import anywidget
import matplotlib.pyplot as plt
import numpy as np
import torch
import traitlets
from IPython.display import display
from PIL import Image, ImageDraw
from torch import Tensor

from . import _checks as check
from .data.images import to_float, to_uint8
from .data.rendering import INK, _smoothly_pooled
from .data.solids import CLASSES, OVERSAMPLE, labels, solids
from .explorers_image import one_jump
from .plotting import as_pixels, photo_figure

STATIC = Path(__file__).parent / "static"
# A rendered line marks the samples on both sides of a break: 2 max(|cos|, |sin|) samples wide where it runs under an
# angle, on average over angles 4 sqrt(2)/pi. A stroke is as wide in every direction.
WIDTH = 4 * math.sqrt(2) / math.pi
FINE = 5  # a sample is drawn as FINE x FINE dots: a stroke is then 9.003 dots wide, a whole number nearly
MOST_POINTS = 20_000
SHOWN = 256  # pixels of an example on the page; the model gets it at its own size
Strokes = Sequence[Sequence[float]]


def _points(strokes: Strokes) -> list[np.ndarray]:
    """Strokes `[x0, y0, x1, y1, ...]` as arrays `(n, 2)`; ValueError for what is none."""
    try:
        found = [np.asarray(stroke, dtype=float).reshape(-1, 2) for stroke in strokes]
    except (TypeError, ValueError) as problem:
        raise ValueError(f"strokes hold what is no pair of numbers ({problem}); wanted [x0, y0, x1, y1, ...]") from None
    if not all(len(one) and np.isfinite(one).all() and (np.abs(one) <= 2).all() for one in found):
        raise ValueError("strokes hold an empty one or places far outside; wanted x and y from 0 to 1, y downwards")
    if sum(map(len, found)) > MOST_POINTS:
        raise ValueError(f"the drawing has {sum(map(len, found))} points; wanted at most {MOST_POINTS}: clear it")
    return found


def stroke_lines(strokes: Strokes, size: int = 64) -> Tensor:
    """Strokes as a line drawing `(1, 1, size, size)` in [-1, 1], 1 is paper, -1 is ink: `lines` of *solids*.

    `strokes`: lists `[x0, y0, x1, y1, ...]` of places in the unit square, x to the right, y downwards; a single place
    is a dot. They are drawn on the renderer's samples and pooled to pixels by the renderer's own filter.
    """
    side = check.count(size, "size", least=8) * OVERSAMPLE
    image = Image.new("L", (side * FINE, side * FINE))
    pen, reach = ImageDraw.Draw(image), (WIDTH * FINE - 1) / 2  # from the middle of the first dot to that of the last
    for points in _points(strokes):
        places = [tuple(place) for place in (points * side * FINE - 0.5).tolist()]
        pen.line(places, fill=255, width=round(WIDTH * FINE))
        for x, y in places:
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=255)
    samples = torch.from_numpy(np.array(image.reduce(FINE))).float()[None] / 255
    return 1 - 2 * (INK * _smoothly_pooled(samples, OVERSAMPLE)).clamp(max=1)[:, None]


@lru_cache
def example_lines(name: str, size: int = 64) -> Tensor:
    """The line drawing `(1, 1, size, size)` of the first test solid of a class."""
    found = labels(range(64), split="test").tolist()
    return solids([found.index(CLASSES.index(check.choice(name, "example", CLASSES)))], size, split="test").lines


def _png(image: Tensor) -> bytes:
    """`(3, height, width)` in [-1, 1] as a PNG, lightly compressed."""
    stream = io.BytesIO()
    Image.fromarray((255 * as_pixels(image)).round().astype(np.uint8)).save(stream, format="png", compress_level=1)
    return stream.getvalue()


@lru_cache
def backdrop(name: str) -> bytes:
    """The lines of an example as a PNG, at the size at which the page shows them; nothing for ""."""
    return _png(example_lines(name, SHOWN)[0].expand(3, -1, -1)) if name else b""


class SketchPad(anywidget.AnyWidget):
    """A square to draw in, with undo, clear and example drawings, and beside it what `model` makes of the drawing.

    `model`: a Student or any `x0 = model(xT, generator=...)` for sources `xT` `(batch, 3, size, size)`, line drawings
    in [-1, 1] as `sketch-to-image` has them. `example`: the drawing to begin with, a class of *solids*, "" for
    an empty sheet. `device`: where the model is. ValueError, TypeError for a model that cannot colour an empty sheet.

    Traits, for a program: `strokes` (see :func:`stroke_lines`), `example` below them, `seed` of the noise z; `drawing`,
    the bytes of the grey image that the model sees, 255 for paper, and `picture`, a PNG, follow at once.
    `milliseconds`: what the browser measured from a change to its picture. What is wrong is said in `message`.
    """

    _esm = STATIC / "pad.js"
    _css = STATIC / "pad.css"
    strokes = traitlets.List().tag(sync=True, echo_update=False)
    example = traitlets.Unicode().tag(sync=True)
    seed = traitlets.Int().tag(sync=True)
    sent = traitlets.Int().tag(sync=True)  # requests of the browser
    milliseconds = traitlets.Float().tag(sync=True)
    answered = traitlets.Int().tag(sync=True)  # the last of them that has been answered
    backdrop, picture = traitlets.Bytes().tag(sync=True), traitlets.Bytes().tag(sync=True)  # PNG
    message = traitlets.Unicode().tag(sync=True)
    examples = traitlets.List(traitlets.Unicode()).tag(sync=True)
    line = traitlets.Float().tag(sync=True)  # width on the page, of the square's side
    drawing = traitlets.Bytes()

    def __init__(self, model, size: int = 64, example: str = "combination", device: torch.device | str = "cpu"):
        self._model, self._size, self._device = model, check.count(size, "size", least=8), device
        check.choice(example, "example", ["", *CLASSES])
        self._done = None
        self._coloured(self._lines([], ""), 0)  # a model that cannot colour an empty sheet is refused here
        width = INK * WIDTH / (OVERSAMPLE * size)
        super().__init__(example=example, examples=list(CLASSES), line=width)
        self.observe(self._follow, ["strokes", "example", "seed", "sent"])
        self._follow()

    def __repr__(self) -> str:
        return f"SketchPad(strokes={len(self.strokes)}, example={self.example!r}, seed={self.seed})"

    def _lines(self, strokes: Strokes, example: str) -> Tensor:
        """What the model sees, uint8 `(1, 1, size, size)`: the darker of strokes and example."""
        lines = stroke_lines(strokes, self._size)
        if example:
            lines = torch.minimum(lines, example_lines(example, self._size))
        return to_uint8(lines)

    def _coloured(self, lines: Tensor, seed: int) -> Tensor:
        """The model's picture `(3, size, size)`, in [-1, 1]."""
        xT = to_float(lines).expand(-1, 3, -1, -1).contiguous()
        return one_jump(self._model, xT.to(self._device), check.count(seed, "seed", 0), "model")[0].clamp(-1, 1)

    def _follow(self, change: object = None) -> None:
        """Bring drawing, picture and message up to date, once for every state, and say that it is done."""
        state = (self.strokes, self.example, self.seed)
        with self.hold_sync():
            if state != self._done:
                self._done = state
                self._redraw()
            self.answered = self.sent

    def _redraw(self) -> None:
        try:
            lines = self._lines(self.strokes, self.example)
            self.drawing = lines.numpy().tobytes()
            self.backdrop = backdrop(self.example)
            self.picture = _png(self._coloured(lines, self.seed))
        except Exception as problem:  # a reader's own model may raise anything: it belongs into the widget
            self.message = " ".join(str(problem).split()) or type(problem).__name__
        else:
            self.message = ""

    def still(self, example: str | None = None, strokes: Strokes | None = None, seeds: Sequence[int] = (0, 1, 2, 3)):
        """A figure: a drawing (the present one, or an example, or strokes) and its pictures for some seeds of z."""
        own = self.strokes if example is None else []
        lines = self._lines(own if strokes is None else strokes, self.example if example is None else example)
        panels = [to_float(lines)[0].expand(3, -1, -1), *(self._coloured(lines, seed) for seed in seeds)]
        figure = photo_figure(panels, ["the drawing, xT", *(f"z: seed {seed}" for seed in seeds)])
        paper = figure.axes[0]
        paper.set_axis_on()
        paper.set(xticks=[], yticks=[])
        paper.spines[:].set(visible=True, color="0.6")  # it would be white on white
        return figure

    def show(self, **settings) -> None:
        """Display the pad and, below it, :meth:`still` as a static figure."""
        display(self)
        self.still(**settings)
        plt.show()
