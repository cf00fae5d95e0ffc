"""Widgets by their traits: a control moved is a picture changed; what cannot be drawn is said in a sentence."""

from __future__ import annotations

import io

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from ibmd_minimal import widgets
from ibmd_minimal._painting import Painter
from ibmd_minimal.bridges import FAMILIES, brownian
from ibmd_minimal.explorer import DPI, QUICK
from ibmd_minimal.explorers_line import EPSILONS, REACH, _Crossing, family_bridge, normal_density, standard_bridges
from ibmd_minimal.finite import FiniteCoupling
from tests.benchmarks.widgets import EXPLORERS, opposite_gaussians, rows, values_of

BRIDGE = brownian(0.1)


def draw_wave(figure, height, waves=1, colour="black"):
    """A sine; the negative heights are refused."""
    if height < 0:
        raise ValueError(f"height is {height:g}; wanted 0 or more")
    left, right = figure.subplots(1, 2)
    x = np.linspace(0, 1, 50)
    left.plot(x, height * np.sin(2 * np.pi * waves * x), color=colour, label="wave")
    left.set(xlabel="x", ylabel="wave", title=f"height {height:g}", ylim=(-2, 2))
    right.hist(height * np.sin(2 * np.pi * waves * x))
    left.legend()


def wave(**options) -> widgets.Explorer:
    """A small explorer with a control of each kind."""
    controls = {
        "height": widgets.slider(1, -1, 2, 0.25, "height"),
        "waves": widgets.count(1, 1, 5, "waves"),
        "colour": widgets.choice("black", ["black", "grey"], "colour"),
    }
    return widgets.Explorer(draw_wave, controls, **{"play": "height", **options})


def pixels(png: bytes) -> np.ndarray:
    """An RGB picture as numbers."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def rendered(figure) -> np.ndarray:
    """An ordinary figure as matplotlib draws it, at the widget's resolution."""
    stream = io.BytesIO()
    with plt.rc_context(QUICK):
        figure.savefig(stream, format="png", dpi=DPI)
    plt.close(figure)
    return pixels(stream.getvalue())


def button_of(explorer: widgets.Explorer) -> ipw.Play:
    """The explorer's play button."""
    return next(one for row in explorer.children if isinstance(row, ipw.HBox) for one in row.children)


@pytest.fixture(scope="module")
def explorers() -> dict[str, widgets.Explorer]:
    made = {name: make() for name, make in EXPLORERS.items()}
    return made | {"couplings on the line": opposite_gaussians(1), "your own": wave()}


NAMES = [*EXPLORERS, "couplings on the line", "your own"]


# -- the picture -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_control_changes_the_picture_and_back(explorers, name):
    explorer = explorers[name]
    for control in explorer.controls.values():
        first, before = control.value, explorer.image.value
        control.value = values_of(control)[-1]
        assert explorer.message.value == ""
        assert explorer.image.value != before
        control.value = first
        assert np.array_equal(pixels(explorer.image.value), pixels(before))


@pytest.mark.parametrize("name", NAMES)
def test_the_still_is_the_picture(explorers, name):
    # Spines may lie above or below the data where they meet, and anti-aliased edges blend in another order.
    explorer = explorers[name]
    difference = np.abs(rendered(explorer.still()) - pixels(explorer.image.value)).max(-1)
    assert (difference > 40).mean() < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_the_still_at_other_settings_is_the_picture_there(explorers, name):
    explorer = explorers[name]
    moved = {key: values_of(one)[-1] for key, one in explorer.controls.items()}
    before, still = explorer.image.value, rendered(explorer.still(**moved))
    assert explorer.image.value == before
    if name in EXPLORERS:  # moved last: the slow ones are made once
        for key, value in moved.items():
            explorer.controls[key].value = value
        assert (np.abs(still - pixels(explorer.image.value)).max(-1) > 40).mean() < 1e-3


def test_show_displays_the_widget_and_then_the_figure(monkeypatch):
    shown = []
    monkeypatch.setattr("ibmd_minimal.explorer.display", shown.append)
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    explorer = wave()
    explorer.show(height=0.5)
    assert shown[0] is explorer
    assert shown[1].axes[0].get_title() == "height 0.5"
    plt.close("all")


def test_the_text_of_an_explorer_is_that_of_its_settings():
    explorer = wave()
    assert repr(explorer) == repr(wave()) == "Explorer(height=1.0, waves=1, colour='black')"
    explorer.controls["waves"].value = 3
    assert repr(explorer) == "Explorer(height=1.0, waves=3, colour='black')"


# -- play and pause --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "control",
    [
        widgets.slider(0.5, 0.0, 1.0, 0.1, "t"),
        widgets.count(3, 1, 7, "n"),
        widgets.stops(5, [1, 2, 5, 10, 20], "nfe"),
    ],
    ids=["slider", "count", "stops"],
)
def test_play_runs_through_every_value_of_a_slider(control):
    button = widgets.playing(control, 200)
    assert button.interval == 200
    seen = []
    for place in range(button.max + 1):
        button.value = place
        seen.append(control.value)
    assert len(set(seen)) == button.max + 1
    ends = (control.options[0], control.options[-1]) if hasattr(control, "options") else (control.min, control.max)
    assert (seen[0], seen[-1]) == pytest.approx(ends)


def test_play_goes_on_from_where_the_slider_was_dragged():
    explorer = wave()
    button = button_of(explorer)
    assert button.value == 8  # (1 - -1)/0.25
    explorer.controls["height"].value = 0.5
    assert button.value == 6
    before = explorer.image.value
    button.value += 1
    assert explorer.controls["height"].value == 0.75
    assert explorer.image.value != before


# -- what cannot be drawn --------------------------------------------------------------------------


def test_an_error_of_draw_becomes_a_sentence_below_the_old_picture():
    explorer = wave()
    before = explorer.image.value
    explorer.controls["height"].value = -0.5
    assert explorer.message.value == "height is -0.5; wanted 0 or more"
    assert explorer.image.value == before
    explorer.controls["height"].value = 0.5
    assert explorer.message.value == ""
    assert explorer.image.value != before


def test_an_error_of_the_first_picture_is_said_too():
    explorer = widgets.Explorer(draw_wave, {"height": widgets.slider(-1, -1, 1, 0.5, "height")})
    assert explorer.message.value == "height is -1; wanted 0 or more"


def test_a_still_refuses_as_draw_does():
    with pytest.raises(ValueError, match="height is -1; wanted 0 or more"):
        wave().still(height=-1)
    plt.close("all")


@pytest.mark.parametrize(
    ("act", "error", "sentence"),
    [
        (lambda: widgets.Explorer(3, {}), TypeError, r"draw is a int; wanted a function draw\(figure"),
        (lambda: widgets.Explorer(draw_wave, {"height": 3}), TypeError, "control 'height' is a int; wanted a widget"),
        (
            lambda: widgets.Explorer(draw_wave, {"tall": widgets.count(1, 0, 2, "h")}),
            TypeError,
            "draw does not fit the controls tall: ",
        ),
        (lambda: wave(play="colour"), ValueError, "play is 'colour'; wanted the name of a slider among the controls"),
        (lambda: wave(play="time"), ValueError, "play is 'time'; wanted the name of a slider"),
        (lambda: wave(interval=0), ValueError, "interval is 0; wanted a whole number, 1 or more"),
        (lambda: wave().still(tall=1), ValueError, "no control is named 'tall'; wanted height, waves, colour"),
        (lambda: widgets.pinned_paths(family="brownain"), ValueError, "did you mean 'brownian'"),
        (lambda: widgets.pinned_paths(noise=3), ValueError, "noise is 3; wanted a number from 0.1 to 1"),
        (lambda: widgets.pinned_paths(xT="1"), ValueError, "xT is '1'; wanted a number from -2 to 2"),
        (lambda: widgets.pinned_paths(t=1.5), ValueError, r"t is 1.5; wanted a number in \[0, 1\]"),
        (lambda: widgets.pinned_paths(paths=99), ValueError, "paths is 99; wanted a number from 1 to 40"),
        (lambda: widgets.mixture_and_projection(x0=[1]), ValueError, "there are 1 x0 and 2 xT; wanted two to four"),
        (lambda: widgets.mixture_and_projection(x0=[9, 1]), ValueError, "x0 is 9; wanted a number from -2 to 2"),
        (lambda: widgets.mixture_and_projection(epsilon=0.3), ValueError, "epsilon is 0.3; wanted one of 0.02, 0.05"),
        (lambda: family_bridge("i2sb", 0.01), ValueError, "noise is 0.01; wanted more than 0.058"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(act, error, sentence):
    with pytest.raises(error, match=sentence):
        act()


def same(xT, generator):
    """A student that does nothing."""
    return xT


def identity(x_t, t, xT):
    """A teacher that does nothing."""
    return x_t


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"sources": torch.zeros(5, 3)}, ValueError, r"sources has shape \(5, 3\); wanted \(n, 2\)"),
        ({"sources": [1]}, TypeError, "sources is a list; wanted a floating-point tensor"),
        ({"sources": torch.full((5, 2), torch.nan)}, ValueError, "sources holds 10 non-finite values"),
        ({"student": lambda x: x}, TypeError, r"student cannot be called as student\(xT, generator=...\)"),
        ({"student": lambda x, generator: x[:1]}, ValueError, r"student\(xT\) returned shape \(1, 2\); wanted x0"),
        ({"student": lambda x, generator: 1}, ValueError, r"student\(xT\) returned a int; wanted x0"),
        ({"nfe": 3}, ValueError, "nfe is 3; wanted one of nfes, 1, 2, 5"),
        ({"nfes": [0.5]}, TypeError, "nfes is 0.5; wanted a whole number"),
        ({"limit": -1}, ValueError, "limit is -1; wanted a positive finite number"),
        ({"teacher": 1}, TypeError, "model is a int; wanted a callable"),
    ],
)
def test_teacher_and_student_refuses_bad_input(change, error, sentence):
    given = {"teacher": identity, "student": same, "bridge": BRIDGE, "sources": torch.zeros(5, 2)}
    with pytest.raises(error, match=sentence):
        widgets.teacher_and_student(**(given | change))


def test_couplings_refuses_bad_input():
    with pytest.raises(ValueError, match=r"sources has shape \(5, 3\); wanted \(n, 1\) or \(n, 2\)"):
        widgets.couplings(same, same, torch.zeros(5, 3))
    with pytest.raises(TypeError, match=r"teacher cannot be called as teacher\(xT, generator=...\)"):
        widgets.couplings(same, lambda: None, torch.zeros(5, 2))


# -- what the ready explorers show is true -----------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
def test_the_noise_of_a_family_is_its_clock_at_T(family, noise):
    bridge = family_bridge(family, noise)
    assert bridge.family == family
    assert float(bridge.rho2(torch.ones((), dtype=torch.float64))) == pytest.approx(noise, rel=1e-6)


def test_standard_bridges_have_the_bridges_covariance():
    # Cov(B_u, B_v) = u (1 - v), u <= v; the standard error of a covariance is at most 0.25 sqrt(2/20,000) = 0.0025.
    paths = standard_bridges(20_000, 8, 3)
    u = np.arange(9) / 8
    exact = np.minimum.outer(u, u) - np.outer(u, u)
    assert np.abs(np.cov(paths.T, bias=True) - exact).max() < 5 * 0.0025
    assert np.abs(paths[:, [0, -1]]).max() < 1e-12


@pytest.fixture(scope="module")
def crossing() -> _Crossing:
    ends = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    return _Crossing(FiniteCoupling(ends, -ends))


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_mixture_and_projection_have_the_same_law_at_every_time(crossing, epsilon):
    # Kolmogorov's distance to the exact law: 1.95/sqrt(n) is passed by chance once in a thousand times, and here are
    # 70 of them, so 2.5/sqrt(n) for the mixture. The projection's 200 steps add an error of about a hundredth.
    line = np.linspace(-6, 6, 4801)
    for t in (0.1, 0.3, 0.5, 0.7, 0.9):
        exact = crossing.density(line, epsilon, t).cumsum() * (line[1] - line[0])
        for paths, more in zip(crossing.runs[epsilon], (0.0, 0.02)):
            places = np.sort(paths[:, round(t * crossing.steps)])
            empirical = np.searchsorted(places, line, side="right") / len(places)
            assert np.abs(empirical - exact).max() < 2.5 / len(places) ** 0.5 + more, t


def test_the_mixture_keeps_the_pairs_and_the_projection_loses_them(crossing):
    kept = [[crossing.kept(paths) for paths in crossing.runs[epsilon]] for epsilon in EPSILONS]
    assert all(mixture == 1 for mixture, _ in kept)
    # Without noise paths would not cross at all; a lot of it makes x0 independent of xT, and half of the pairs agree.
    # 0.163, 0.265 and 0.398 by 1,600 steps of 4,000 paths; a standard error is 0.011 here.
    found = {epsilon: projection for epsilon, (_, projection) in zip(EPSILONS, kept)}
    assert [found[0.02], found[0.2], found[2.0]] == pytest.approx([0.163, 0.265, 0.398], abs=0.045)


def test_the_density_of_the_mixture_is_one_in_all(crossing):
    line = np.linspace(-6, 6, 4801)
    assert crossing.density(line, 0.2, 0.3).sum() * (line[1] - line[0]) == pytest.approx(1, abs=1e-6)
    assert normal_density(np.zeros(1), 0.0, 1.0)[0] == pytest.approx(0.3989422804)
    assert REACH > 2  # what is pinned within [-2, 2] is in the picture


def test_teacher_and_student_walk_and_jump_from_the_same_sources():
    sources = torch.tensor([[0.5, 0.0], [0.0, -1.0]])
    explorer = widgets.teacher_and_student(identity, lambda xT, generator: -xT, BRIDGE, sources, nfes=(1, 5), nfe=5)
    for progress, passes in ((0.0, (0, 0)), (0.3, (2, 1)), (1.0, (5, 1))):
        figure = explorer.still(progress=progress)
        titles = [ax.get_title() for ax in figure.axes]
        assert titles == [f"teacher, NFE 5: after pass {passes[0]}", f"student, NFE 1: after pass {passes[1]}"]
        ends = [ax.lines[-1].get_xydata() for ax in figure.axes]
        assert np.allclose(ends[1], -sources if passes[1] else sources)
        assert [np.allclose(ax.lines[-2].get_xydata(), sources) for ax in figure.axes] == [True, True]
        plt.close(figure)


def test_couplings_name_the_correlations():
    # Exactly -0.8 for the student; the teacher's process has 0.85 or so (GaussianCoupling.process_coupling). 300
    # pairs in two dimensions: a standard error of at most 0.03.
    figure = opposite_gaussians().still()
    student, teacher = (float(ax.get_title().split()[-1]) for ax in figure.axes)
    plt.close(figure)
    assert student == pytest.approx(-0.8, abs=0.1)
    assert teacher > 0.7


def test_the_window_lights_the_nearest_sources():
    explorer = opposite_gaussians(1)
    figure = explorer.still(where=0.0, lit=10)
    lit = figure.axes[0].lines[1].get_xydata()[:, 0]
    every = figure.axes[0].lines[0].get_xydata()[:, 0]
    plt.close(figure)
    assert len(lit) == 10
    assert np.abs(lit).max() == pytest.approx(np.sort(np.abs(every))[9])


# -- the painter -----------------------------------------------------------------------------------


def test_polar_axes_are_painted_as_matplotlib_paints_them():
    def draw(figure, turn):
        figure.add_subplot(projection="polar").plot([0, turn], [0, 1])

    explorer = widgets.Explorer(draw, {"turn": widgets.slider(1, 0, 3, 0.5, "turn")})
    assert np.array_equal(rendered(explorer.still()), pixels(explorer.image.value))


def test_axes_that_changed_are_painted_again():
    def draw(figure, top, ticks):
        ax = figure.subplots()
        ax.set(ylim=(0, top), ylabel="height", xticks=[0, 0.5, 1])
        if ticks == "words":
            ax.xaxis.set_major_formatter(lambda x, place: f"x is {x}")

    controls = {"top": widgets.count(1, 1, 9, "top"), "ticks": widgets.choice("plain", ["plain", "words"], "ticks")}
    explorer = widgets.Explorer(draw, controls)
    for top in (1, 9, 1):
        for ticks in ("words", "plain"):
            explorer.controls["top"].value, explorer.controls["ticks"].value = top, ticks
            difference = np.abs(rendered(explorer.still()) - pixels(explorer.image.value)).max(-1)
            assert (difference > 40).mean() < 1e-3


def test_the_store_of_axes_does_not_grow_for_ever(monkeypatch):
    monkeypatch.setattr("ibmd_minimal._painting.KEPT", 4)
    painter = Painter()
    for top in range(1, 9):
        figure = plt.figure(figsize=(2, 2))
        figure.subplots().set(ylim=(0, top))
        painter.png(figure)
        plt.close(figure)
    assert len(painter._layers) == 4


@pytest.mark.slow
def test_a_change_takes_at_most_a_tenth_of_a_second():
    assert max(ms for _, ms in rows()) < 100
