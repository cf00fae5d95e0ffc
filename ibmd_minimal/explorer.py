"""A picture above its controls: moving one redraws the picture.

`explorer.still(...)` draws the same picture as an ordinary figure, which stays in a notebook where nothing runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence

import ipywidgets as ipw
import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from . import _checks as check
from ._painting import Painter
from .plotting import STYLE

# The layout is made once (see Explorer._place), and titles stay where they are put: both cost as much as the drawing.
QUICK = STYLE | {"figure.constrained_layout.use": False, "axes.titley": 1.0}
SLIDERS = (ipw.FloatSlider, ipw.IntSlider, ipw.SelectionSlider)
CHOICES = (ipw.Dropdown, ipw.ToggleButtons, ipw.RadioButtons, ipw.Checkbox)
DPI = 90  # of the picture in the browser
WIDE = {"layout": {"width": "26em"}, "style": {"description_width": "7em"}}


class Explorer(ipw.VBox):
    """A picture and the controls that redraw it.

    `draw(figure, **settings)` fills an empty figure of `size` inches; `controls` are widgets by the names of its
    settings. The one that `play` names, a slider, gets a button for play and pause, a value every `interval`
    milliseconds. A ValueError of `draw` is shown as a sentence below the picture that was there before.

    Axes are laid out when a choice (or the number of axes) is seen first, and stay there while sliders move.
    """

    def __init__(
        self,
        draw: Callable[..., None],
        controls: Mapping[str, ipw.Widget],
        size: tuple[float, float] = (7.0, 3.0),
        play: str | None = None,
        interval: int = 150,
    ):
        _check(draw, controls, play)
        self.draw, self.controls, self.size = draw, dict(controls), size
        self.image, self.message = ipw.Image(format="png"), ipw.Label()
        self._boxes: dict[tuple, list] = {}
        self._painter = Painter()
        rows = [ipw.HBox([playing(one, interval), one]) if name == play else one for name, one in self.controls.items()]
        super().__init__([self.image, *rows, self.message])
        for one in self.controls.values():
            one.observe(self._redraw, "value")
        self._redraw()

    def __repr__(self) -> str:
        return f"Explorer({', '.join(f'{name}={value!r}' for name, value in self.settings.items())})"

    @property
    def settings(self) -> dict[str, object]:
        """The present value of every control."""
        return {name: one.value for name, one in self.controls.items()}

    def _redraw(self, change: object = None) -> None:
        try:
            with plt.rc_context(QUICK):
                figure = Figure(self.size, DPI)  # a new one costs half of what clearing the last one does
                self._fill(figure, self.settings)
                self.image.value = self._painter.png(figure)
        except ValueError as problem:
            self.message.value = str(problem)
        else:
            self.message.value = ""

    def _fill(self, figure: Figure, settings: dict[str, object]) -> None:
        self.draw(figure, **settings)
        choices = (value for name, value in settings.items() if isinstance(self.controls[name], CHOICES))
        self._place(figure, (*choices, len(figure.axes)))

    def _place(self, figure: Figure, kind: tuple) -> None:
        """Put the axes where the first figure of this kind had them: a layout takes longer than a picture."""
        if kind not in self._boxes:
            ConstrainedLayoutEngine().execute(figure)
            self._boxes[kind] = [ax.get_position(original=True) for ax in figure.axes]
        for ax, box in zip(figure.axes, self._boxes[kind]):
            ax.set_position(box)

    def still(self, **settings) -> Figure:
        """The picture as a figure of its own, at the present settings but for those given."""
        unknown = [name for name in settings if name not in self.controls]
        if unknown:
            raise ValueError(f"no control is named {unknown[0]!r}; wanted {', '.join(self.controls)}")
        with plt.rc_context(QUICK):
            figure = plt.figure(figsize=self.size)
            self._fill(figure, {**self.settings, **settings})
            figure.draw_without_rendering()  # ticks are made now, in this style, and not when the figure is shown
        return figure

    def show(self, **settings) -> None:
        """Display the explorer and, below it, the same picture as a static figure."""
        display(self)
        self.still(**settings)
        with plt.rc_context(QUICK):
            plt.show()


def _check(draw: Callable[..., None], controls: Mapping[str, ipw.Widget], play: str | None) -> None:
    """Refuse what cannot become an Explorer."""
    check.callable_(draw, "draw", "a function draw(figure, **settings)")
    for name, one in controls.items():
        if not hasattr(one, "value"):
            raise TypeError(f"control {name!r} is a {type(one).__name__}; wanted a widget, for example slider(...)")
    try:
        inspect.signature(draw).bind(None, **controls)
    except TypeError as problem:
        raise TypeError(f"draw does not fit the controls {', '.join(controls)}: {problem}") from None
    if play is not None and not isinstance(controls.get(play), SLIDERS):
        raise ValueError(f"play is {play!r}; wanted the name of a slider among the controls {', '.join(controls)}")


def playing(control: ipw.Widget, interval: int = 150) -> ipw.Play:
    """Play and pause for a slider: runs through its values, one every `interval` milliseconds, again and again."""
    listed = isinstance(control, ipw.SelectionSlider)
    steps = len(control.options) - 1 if listed else round((control.max - control.min) / control.step)

    def place() -> int:
        return control.index if listed else round((control.value - control.min) / control.step)

    def move(change) -> None:
        if change["new"] == place():
            return
        if listed:
            control.index = change["new"]
        else:
            control.value = min(control.min + change["new"] * control.step, control.max)

    button = ipw.Play(place(), min=0, max=steps, interval=check.count(interval, "interval"), repeat=True)
    button.show_repeat = False
    button.observe(move, "value")
    control.observe(lambda change: setattr(button, "value", place()), "value")  # goes on from where it was dragged
    return button


def slider(value: float, low: float, high: float, step: float, name: str) -> ipw.FloatSlider:
    """A slider that moves the picture while it is dragged, with its value written beside it."""
    return ipw.FloatSlider(value, min=low, max=high, step=step, description=name, **WIDE)


def count(value: int, low: int, high: int, name: str) -> ipw.IntSlider:
    """A slider over whole numbers."""
    return ipw.IntSlider(value, min=low, max=high, description=name, **WIDE)


def stops(value: float, options: Sequence[float], name: str) -> ipw.SelectionSlider:
    """A slider that knows a few values only."""
    return ipw.SelectionSlider(value=value, options=list(options), description=name, **WIDE)


def choice(value: str, options: Sequence[str], name: str) -> ipw.Dropdown:
    """One of several names."""
    return ipw.Dropdown(value=value, options=list(options), description=name, **WIDE)
