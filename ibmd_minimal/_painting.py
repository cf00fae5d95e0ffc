"""Figures turned into PNG fast enough for a slider.

Most of a small figure's time goes into its axes: ticks, their labels, where both find room. While a slider moves they
seldom change, so each x axis and y axis is painted once, kept as pixels, and laid below what does change.
"""

from __future__ import annotations

import io

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

KEPT = 64  # axes kept as pixels, each some ten kilobytes

Layer = tuple[tuple[slice, slice], np.ndarray]


def _state(axis: Axis) -> str:
    """All that the look of an axis depends on, as text."""
    parts = (axis.get_major_locator(), axis.get_minor_locator(), axis.get_major_formatter(), axis.get_minor_formatter())
    rules = [(type(one).__name__, {k: v for k, v in vars(one).items() if k != "axis"}) for one in parts]
    label = axis.label
    words = (label.get_text(), label.get_color(), label.get_size(), label.get_visible(), axis.get_label_position())
    ticks = [axis.get_tick_params(which) for which in ("major", "minor")]
    place = (axis.axis_name, axis.get_visible(), axis.axes.get_position().bounds)
    return repr((place, axis.get_view_interval(), axis.get_scale(), words, rules, ticks))


def _front(ax: Axes) -> list[Artist]:
    """All that is to be drawn above the axes' x axis and y axis, lowest first: data, spines, titles, legend."""
    hidden = {ax.patch, ax.xaxis, ax.yaxis, *(() if ax.axison else ax.spines.values())}
    return sorted((one for one in ax.get_children() if one not in hidden), key=lambda one: one.get_zorder())


class Painter:
    """Paints figures of one size, and keeps the axes that it has painted."""

    def __init__(self):
        self._layers: dict[str, Layer] = {}

    def png(self, figure: Figure) -> bytes:
        """The figure's pixels as a PNG, lightly compressed: on the way to the browser, speed matters more than size."""
        canvas = FigureCanvasAgg(figure)
        if all(ax.name == "rectilinear" for ax in figure.axes):
            self._paint(canvas)
        else:
            canvas.draw()
        stream = io.BytesIO()
        Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(stream, format="png", compress_level=1)
        return stream.getvalue()

    def _paint(self, canvas: FigureCanvasAgg) -> None:
        """Patches, then x axes and y axes as darkening layers, then all the rest."""
        figure = canvas.figure
        stack = sorted((ax for ax in figure.axes if ax.get_visible()), key=lambda ax: ax.get_zorder())
        for ax in stack:
            ax.apply_aspect()
        layers = [self._layer(canvas, axis) for ax in stack if ax.axison for axis in (ax.xaxis, ax.yaxis)]
        canvas.get_renderer().clear()
        figure.draw_artist(figure.patch)
        for ax in stack:
            ax.draw_artist(ax.patch)
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        for place, layer in layers:
            np.minimum(pixels[place], layer, out=pixels[place])
        for ax in stack:
            for one in _front(ax):
                ax.draw_artist(one)
        for one in figure.get_children():
            if one is not figure.patch and not isinstance(one, Axes):
                figure.draw_artist(one)

    def _layer(self, canvas: FigureCanvasAgg, axis: Axis) -> Layer:
        """The pixels of an axis on white, from the store or painted now; the oldest make room."""
        state = _state(axis)
        # A function made inside another one may be a new one at an old one's address: such an axis is not recognised.
        if state in self._layers and "<locals>" not in state:
            return self._layers[state]
        canvas.get_renderer().clear()
        canvas.figure.draw_artist(canvas.figure.patch)
        axis.axes.draw_artist(axis)
        if len(self._layers) >= KEPT:
            del self._layers[next(iter(self._layers))]
        self._layers[state] = _cut(np.asarray(canvas.buffer_rgba())[..., :3])
        return self._layers[state]


def _cut(pixels: np.ndarray) -> Layer:
    """The part of an image that is not its corner's colour, and where it is."""
    drawn = (pixels != pixels[0, 0]).any(-1)
    places = tuple(
        slice(found[0], found[-1] + 1) if len(found) else slice(0)
        for found in (np.flatnonzero(drawn.any(1 - k)) for k in (0, 1))
    )
    return places, pixels[places].copy()
