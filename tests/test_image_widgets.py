"""The image widgets by their traits: restore a photograph, walk along a path, colour a drawing in."""

from __future__ import annotations

import io
import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from ibmd_minimal import _photographs as photos
from ibmd_minimal import load_model, pad, recipe
from ibmd_minimal.bridges import brownian
from ibmd_minimal.data.corruptions import corrupt, jpeg
from ibmd_minimal.data.images import to_float, to_uint8
from ibmd_minimal.data.rendering import INK, _marks, _smoothly_pooled
from ibmd_minimal.data.solids import CLASSES, labels, solids
from ibmd_minimal.explorers_image import on_its_bridge, path_explorer, walk
from ibmd_minimal.explorers_plane import NOISE
from ibmd_minimal.explorers_restoring import restore_explorer
from ibmd_minimal.metrics import psnr
from ibmd_minimal.plotting import as_pixels
from ibmd_minimal.recipes import RECIPES
from ibmd_minimal.restoring import restorer
from ibmd_minimal.samplers import steps
from ibmd_minimal.students import student_from
from tests import tiny
from tests.benchmarks.pad import GOAL, stroke_to_picture

TASK = recipe("sr4x-pool")
BRIDGE = TASK.make_bridge()


def file_of(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    """An image file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def some_pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def panels(figure, number: int) -> list[np.ndarray]:
    """The images of a strip, and the figure closed."""
    whole = np.asarray(figure.axes[0].images[0].get_array())
    plt.close(figure)
    width = next(
        w for w in range(1, whole.shape[1]) if number * w + (number - 1) * max(1, round(w / 24)) == whole.shape[1]
    )
    return [whole[:, k * (width + max(1, round(width / 24))) :][:, :width] for k in range(number)]


def titles(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


# -- photographs, the reader's own ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "shape", "words"),
    [
        (300, 500, (112, 192), "192x112 pixels, reduced from 500x300"),
        (500, 300, (192, 112), "112x192 pixels, reduced from 300x500"),
        (40, 50, (32, 48), "48x32 pixels, cut from 50x40"),
        (64, 32, (64, 32), "32x64 pixels"),
    ],
    ids=["wide", "tall", "small", "as it is"],
)
def test_a_picture_is_reduced_and_cut_to_what_every_corruption_takes(height, width, shape, words):
    found = photos.prepared(torch.full((3, height, width), 200, dtype=torch.uint8))
    assert (tuple(found.x0.shape), found.words) == ((1, 3, *shape), words)
    assert torch.allclose(found.x0, torch.tensor(200 / 127.5 - 1), atol=1e-5)


def test_what_is_cut_is_the_middle():
    image = torch.from_numpy(some_pixels(40, 50).transpose(2, 0, 1).copy())
    assert torch.equal(photos.prepared(image).x0[0], to_float(image[:, 4:36, 1:49]))


@pytest.mark.parametrize(
    "content",
    [
        file_of(some_pixels(48, 64)),
        file_of(some_pixels(48, 64), "JPEG"),
        file_of(some_pixels(48, 64)[..., 0]),
        file_of(some_pixels(48, 64, 4)),
        file_of(some_pixels(48, 64)[..., 0].astype(np.uint16) * 257),
        memoryview(file_of(some_pixels(48, 64), "GIF")),
    ],
    ids=["png", "jpeg", "grey", "transparent", "16 bits", "gif"],
)
def test_whatever_pillow_reads_can_be_uploaded(content):
    found = photos.uploaded("mine", content)
    assert tuple(found.x0.shape) == (1, 3, 48, 64)
    assert float(found.x0.abs().max()) <= 1


BAD = {
    "text": ("notes.txt", b"no picture", "notes.txt cannot be read, is no image that Pillow knows; wanted a whole"),
    "empty": ("a.png", b"", "a.png is empty (0 bytes); wanted an image file"),
    "cut off": ("a.png", file_of(some_pixels(64, 64))[:3000], "a.png cannot be read, (image file is truncated"),
    "tiny": ("a.png", file_of(some_pixels(20, 90)), "a.png has 90x20 pixels; wanted 32 or more on each side"),
    "strip": ("a.png", file_of(some_pixels(20, 900)), "a.png has 900x20 pixels, 192x0 when reduced; wanted 32 or more"),
    "floats": ("a.tif", file_of(np.ones((48, 48), np.float32), "TIFF"), "a.tif cannot be read, (has floating-point"),
    "a path": ("../../etc/no\x00te.txt", b"no", "note.txt cannot be read"),
    "nameless": ("", b"no", "the file cannot be read"),
}


@pytest.mark.parametrize("which", BAD)
def test_what_is_no_photograph_is_refused_in_a_sentence_with_its_name(which):
    name, content, sentence = BAD[which]
    with pytest.raises(ValueError, match="^" + re.escape(sentence)):
        photos.uploaded(name, content)


def test_a_picture_too_large_to_be_opened_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)
    with pytest.raises(ValueError, match="big.png has more than 2 million pixels; wanted a smaller photograph"):
        photos.uploaded("big.png", file_of(np.zeros((1500, 1500), np.uint8)))


# -- strengths ---------------------------------------------------------------------------------------


X = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


PHOTOGRAPHED = [name for name, one in RECIPES.items() if one.data == "photographs" and not one.teachers]


@pytest.mark.parametrize("task", PHOTOGRAPHED)
def test_the_strength_trained_on_is_the_tasks_own_corruption(task):
    x = X[..., :32, :32] if task in photos.HOLES else X  # the holes of crops, whatever the photograph's size
    found = photos.weakened(task, x, photos.trained_strength(task))
    assert torch.equal(found, corrupt(recipe(task).corruption, x, torch.Generator().manual_seed(0)))
    assert photos.trained_strength(task) in photos.strengths_of(task)
    assert photos.described(task, photos.trained_strength(task))[1]


def test_other_strengths():
    assert torch.equal(photos.weakened("jpeg-10", X, "40"), jpeg(X, 40))
    assert torch.allclose(photos.pooled(X, 4), corrupt("sr4x-pool", X), atol=1e-6)
    hidden = (photos.weakened("inpaint-center", X, "24") == 0).all(1)
    assert int(hidden.sum()) == 24 * 24 and bool(hidden[0, 12:36, 20:44].all())
    assert int((photos.centred(X, "100") == 0).all(1).sum()) == min(X.shape[-2:]) ** 2
    inner = (..., slice(8, -8), slice(8, -8))  # the kernel reaches 8 pixels
    assert torch.allclose(photos.shrunk(X, 4)[inner], corrupt("sr4x-bicubic", X)[inner], atol=1e-5)
    assert torch.equal(photos.weakened("sr4x-bicubic", X, "8"), photos.shrunk(X, 8))
    assert torch.allclose(photos.weakened("sr4x-pool", X, "8")[0, :, 9, 9], X[0, :, 8:16, 8:16].mean((1, 2)), atol=1e-6)
    hidden = (photos.weakened("inpaint-freeform", X, "40-50") == 0).all(1).float()[:, :32].unfold(2, 32, 32)
    assert hidden.shape == (1, 32, 2, 32) and bool(((hidden.mean((1, 3)) - 0.45).abs() <= 0.05).all())
    assert photos.described("jpeg-10", "40") == (
        "jpeg-10, quality 40: not what the model was trained for (10)",
        False,
    )
    with pytest.raises(ValueError, match="the strength of sr4x-pool is '3'; wanted one of 2, 4, 8"):
        photos.weakened("sr4x-pool", X, "3")


def test_a_corruption_without_strengths_has_the_one_trained_on():
    with tiny.made_up():
        assert photos.strengths_of("tiny-mirror") == ("as trained",)
        assert torch.equal(photos.weakened("tiny-mirror", X, "as trained"), X.flip(-1))
        assert photos.described("tiny-mirror", "as trained") == ("tiny-mirror, as trained", True)


# -- restore a photograph -----------------------------------------------------------------------------


GIVEN = {name: torch.from_numpy(some_pixels(32, 48, seed=k).transpose(2, 0, 1).copy()) for k, name in enumerate("ab")}


@pytest.fixture
def restoring():
    return restore_explorer(["sr4x-pool", "sr4x-bicubic"], GIVEN)


def test_the_panels_are_input_output_truth_and_difference(restoring):
    x0 = to_float(GIVEN["a"])[None]
    xT = corrupt("sr4x-pool", x0)
    output = restorer(TASK, load_model("sr4x-pool-student"), seed=3)(xT)
    figure = restoring.still(z=3)
    found = titles(figure)
    for got, wanted in zip(panels(figure, 4), (xT, output, x0, 2 * (output - x0))):
        assert np.allclose(got, as_pixels(wanted[0]), atol=1e-5)
    assert found[0] == f"input xT\n{float(psnr(xT, x0)):.1f} dB"
    assert found[1] == f"student, NFE 1, z = 3\n{float(psnr(output, x0)):.1f} dB"


def test_seconds_stand_in_the_live_picture_only(restoring):
    live = Figure()
    restoring._draw(live, **restoring.settings)
    assert re.search(r"dB, \d+\.\d\d s$", titles(live)[1])
    assert titles(restoring.still())[1].endswith("dB")


def test_a_mean_is_that_of_the_samples_from_z_on(restoring):
    student, xT = load_model("sr4x-pool-student"), corrupt("sr4x-pool", to_float(GIVEN["b"])[None])
    wanted = sum(restorer(TASK, student, seed=seed)(xT) for seed in (5, 6, 7, 8)) / 4
    found = panels(restoring.still(picture="b", z=5, n=4), 4)[1]
    assert np.allclose(found, as_pixels(wanted[0]), atol=1e-5)


def test_the_teacher_takes_the_passes_chosen(restoring):
    xT = corrupt("sr4x-pool", to_float(GIVEN["a"])[None])
    wanted = restorer(TASK, load_model("sr4x-pool-teacher"), 5)(xT)
    assert np.allclose(panels(restoring.still(model="teacher", nfe=5), 4)[1], as_pixels(wanted[0]), atol=1e-5)
    figure = restoring.still(model="teacher")
    assert titles(figure)[1].startswith("teacher, NFE 10, z = 0\n")
    plt.close(figure)


def test_strengths_and_nfe_follow_task_and_model_and_each_change_draws_once(restoring, monkeypatch):
    drawn = []
    monkeypatch.setattr(restoring, "draw", lambda figure, **settings: drawn.append((figure.subplots(), settings)))
    for name, value in (("task", "sr4x-bicubic"), ("model", "teacher"), ("task", "sr4x-pool"), ("model", "student")):
        restoring.controls[name].value = value
    found = [(one["task"], one["strength"], one["model"], one["nfe"]) for _, one in drawn]
    assert found == [
        ("sr4x-bicubic", "4", "student", 1),
        ("sr4x-bicubic", "4", "teacher", 10),
        ("sr4x-pool", "4", "teacher", 10),
        ("sr4x-pool", "4", "student", 1),
    ]


def test_every_control_changes_the_picture(restoring):
    for name, value in (("picture", "b"), ("strength", "8"), ("z", 1), ("n", 2), ("zoom", 2), ("task", "sr4x-bicubic")):
        before = restoring.image.value
        restoring.controls[name].value = value
        assert restoring.image.value != before, name
        assert restoring.message.value == ""


def upload(restoring, name: str, content: bytes, **state) -> None:
    """What the browser sends when a file has been chosen."""
    sent = restoring.upload.sent + 1
    restoring.upload.set_state({"name": name, "content": memoryview(content), "sent": sent} | state)


def test_an_upload_becomes_the_picture(restoring):
    for name in ("cat.png", "cat.png", "$x_{.png", "猫.png"):
        before = restoring.image.value
        upload(restoring, name, file_of(some_pixels(40, 60, seed=len(restoring.pictures))))
        assert restoring.message.value == ""
        assert restoring.image.value != before
        assert restoring.upload.content == b""
    assert list(restoring.pictures) == ["a", "b", "cat.png", "cat.png (2)", "$x_{.png", "猫.png"]
    assert restoring.settings["picture"] == "猫.png"


@pytest.mark.parametrize("which", BAD)
def test_an_upload_that_is_no_photograph_is_said_below_the_old_picture(restoring, which):
    name, content, sentence = BAD[which]
    before = restoring.image.value
    upload(restoring, name, content)
    assert restoring.message.value.startswith(sentence)
    assert restoring.image.value == before
    restoring.controls["z"].value = 1
    assert restoring.message.value == ""


def test_what_the_browser_has_reduced_or_refused(restoring):
    upload(restoring, "large.jpg", file_of(some_pixels(300, 400)), from_size="8000x6000")
    assert restoring.pictures["large.jpg"].words == "192x144 pixels, reduced from 8000x6000"
    upload(restoring, "film.raw", b"", problem="film.raw has 50 MB and is no image that this browser knows; wanted a")
    assert restoring.message.value.startswith("film.raw has 50 MB")


def test_too_many_passes_are_refused_in_a_sentence(restoring):
    restoring.controls["model"].value = "teacher"
    restoring.controls["nfe"].value = 20
    before = restoring.image.value
    restoring.controls["n"].value = 16
    assert restoring.message.value == "16 samples of 20 passes are 320 passes; wanted at most 200"
    assert restoring.image.value == before
    restoring.controls["nfe"].value = 1
    assert restoring.message.value == ""
    assert restoring.image.value != before


def test_the_text_of_the_explorer_is_that_of_its_settings(restoring):
    wanted = "picture='a', task='sr4x-pool', strength='4', model='student', nfe=1, z=0, n=1, zoom=1"
    assert repr(restoring) == f"Explorer({wanted})"


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: restore_explorer(["sr4x-poll"]), "tasks is 'sr4x-poll'; wanted one of .*did you mean 'sr4x-pool'"),
        (lambda: restore_explorer(["sketch-to-image"]), "tasks is 'sketch-to-image'; wanted one of"),
        (lambda: restore_explorer([]), "tasks is empty; wanted names of recipes"),
        (lambda: restore_explorer(pictures={}), "pictures is empty; wanted names"),
        (
            lambda: restore_explorer(pictures={"a": X}),
            r"the picture 'a' is torch.float32 \(1, 3, 48, 64\); wanted uint8",
        ),
        (
            lambda: restore_explorer(pictures={"a": GIVEN["a"][:, :20]}),
            "the picture has 48x20 pixels; wanted 32 or more",
        ),
        (lambda: restore_explorer(side=16), "side is 16; wanted a whole number, 32 or more"),
        (lambda: restore_explorer(["sr4x-pool"], GIVEN).still(nfe=4), "nfe is 4; wanted one of the student's, 1"),
        (lambda: restore_explorer(["sr4x-pool"], GIVEN).still(picture="c"), "picture is 'c'; wanted one of a, b"),
        (lambda: restore_explorer(["sr4x-pool"], GIVEN).still(task="jpg"), "task is 'jpg'|recipe is 'jpg'"),
        (lambda: restore_explorer(["sr4x-pool"], GIVEN).still(seed=1), "no control is named 'seed'; wanted picture"),
    ],
    ids=["typo", "solids", "none", "no pictures", "floats", "small", "side", "nfe", "picture", "task", "control"],
)
def test_restore_explorer_refuses_bad_input(act, sentence):
    with pytest.raises(ValueError, match=sentence):
        act()
    plt.close("all")


# -- along a path --------------------------------------------------------------------------------------


def nearly(x_t, t, xT):
    """A teacher whose guess depends on state and time."""
    return 0.5 * x_t + 0.1 * t[:, None, None, None]


def mirror(xT, generator):
    """A student that mirrors, and adds some noise."""
    return -xT + 0.1 * torch.randn(xT.shape, generator=generator)


SOURCES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1)) - 0.5
TRUTH = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(2)) - 0.5


def test_a_walk_is_the_samplers_with_the_guess_made_from_every_state():
    path = walk(nearly, BRIDGE, SOURCES[:1], 4, seed=7)
    taken = list(steps(nearly, BRIDGE, SOURCES[:1], 4, generator=torch.Generator().manual_seed(7)))
    assert path.times == [1.0, *(step.t for step in taken)]
    assert torch.equal(path.x_t[0], SOURCES[0])
    for k, step in enumerate(taken):
        assert torch.equal(path.x_t[k + 1, None], step.x_t)
        assert torch.allclose(path.xhat0[k, None], nearly(path.x_t[k, None], torch.tensor([path.times[k]]), None))
    assert torch.equal(path.xhat0[4], path.x_t[4])


@pytest.mark.parametrize(("progress", "place"), [(0.0, 0), (0.3, 2), (1.0, 5)])
def test_the_path_explorer_shows_state_guess_jump_and_truth(progress, place):
    explorer = path_explorer(nearly, mirror, BRIDGE, SOURCES, TRUTH, nfe=5)
    path = walk(nearly, BRIDGE, SOURCES[1:], 5, NOISE + 3)
    jump = mirror(SOURCES[1:], torch.Generator().manual_seed(NOISE + 3))
    pinned = on_its_bridge(BRIDGE, SOURCES[1:], jump, path.times, NOISE + 3)
    figure = explorer.still(progress=progress, which=1, seed=3)
    words, curves = titles(figure), figure.axes[1].lines
    wanted = (path.x_t[place], path.xhat0[place], pinned[place], jump[0], TRUTH[1])
    for got, image in zip(panels(figure, 5), wanted):
        assert np.allclose(got, as_pixels(image), atol=1e-5)
    assert words[0] == f"teacher: x_t, t = {1 - place / 5:.2f}\nafter step {place} of 5"
    assert words[2] == f"student: x_t, t = {1 - place / 5:.2f}\non its jump's bridge"
    for curve, images in zip(curves, (path.x_t, path.xhat0, pinned)):
        assert np.allclose(curve.get_ydata(), psnr(images, TRUTH[1:].expand_as(images)))
        assert np.allclose(curve.get_xdata(), path.times)
    assert np.allclose(curves[3].get_ydata(), float(psnr(jump, TRUTH[1:])))


def test_a_path_of_the_students_bridge_has_the_bridges_law_and_both_its_ends():
    xT, x0, times = torch.full((1, 3, 64, 64), 0.5), torch.full((1, 3, 64, 64), -0.3), [1.0, 0.9, 0.6, 0.2, 0.0]
    path = on_its_bridge(BRIDGE, xT, x0, times, seed=1)
    assert torch.equal(path[0], xT[0]) and torch.equal(path[-1], x0[0])
    for x_t, t in zip(path[1:-1], times[1:-1]):
        a, b, c = (float(one) for one in BRIDGE.coefficients(torch.tensor(t, dtype=torch.float64)))
        n = x_t.numel()  # independent pixels; five standard errors each
        assert float(x_t.mean()) == pytest.approx(a * 0.5 - b * 0.3, abs=5 * c / n**0.5)
        assert float(x_t.std()) == pytest.approx(c, rel=5 / (2 * n) ** 0.5)


@pytest.mark.parametrize(
    "options", [{"method": "euler-maruyama"}, {"method": "ode-heun", "conditional": True}], ids=["sde", "ode"]
)
def test_other_samplers_walk_too(options):
    explorer = path_explorer(nearly, mirror, BRIDGE, SOURCES, TRUTH, nfes=(5,), nfe=5, **options)
    before = explorer.image.value
    explorer.controls["progress"].value = 1.0
    assert explorer.message.value == "" and explorer.image.value != before


def test_without_truth_there_are_four_panels_and_for_one_source_no_choice():
    explorer = path_explorer(nearly, mirror, BRIDGE, SOURCES[:1], nfe=2)
    assert list(explorer.controls) == ["nfe", "progress", "seed"]
    figure = explorer.still()
    assert (len(figure.axes), len(titles(figure))) == (1, 4)
    plt.close(figure)


def test_sliders_of_the_path_explorer_move_the_picture():
    explorer = path_explorer(nearly, mirror, BRIDGE, SOURCES, TRUTH, nfes=(2, 5), nfe=5)
    for name, value in (("progress", 0.9), ("seed", 2), ("which", 1), ("nfe", 2)):
        before = explorer.image.value
        explorer.controls[name].value = value
        assert explorer.message.value == ""
        assert explorer.image.value != before


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"xT": [1]}, TypeError, "xT is a list; wanted a floating-point tensor"),
        ({"xT": torch.zeros(2, 3)}, ValueError, r"xT has shape \(2, 3\); wanted \(batch, channel, height, width\)"),
        ({"xT": torch.full((1, 3, 8, 8), torch.nan)}, ValueError, "xT holds 192 non-finite values"),
        ({"x0": TRUTH[:1]}, ValueError, r"xT has shape .* and x0 .*; wanted the same shape"),
        ({"nfe": 3}, ValueError, "nfe is 3; wanted one of nfes, 1, 2, 5"),
        ({"student": lambda x: x}, TypeError, r"student cannot be called as student\(xT, generator=...\)"),
        ({"teacher": 1}, TypeError, "model is a int; wanted a callable"),
    ],
    ids=["list", "points", "nan", "truth", "nfe", "student", "teacher"],
)
def test_path_explorer_refuses_bad_input(change, error, sentence):
    given = {"teacher": nearly, "student": mirror, "bridge": brownian(0.1), "xT": SOURCES}
    with pytest.raises(error, match=sentence):
        path_explorer(**(given | change))


# -- the sketch pad --------------------------------------------------------------------------------------


def circle(radius: float, places: int = 200) -> list[float]:
    """A circle in the middle, `radius` in pixels of 64."""
    angles = [2 * math.pi * k / (places - 1) for k in range(places)]
    return [0.5 + radius / 64 * f(a) for a in angles for f in (math.cos, math.sin)]


def ink(lines: torch.Tensor) -> torch.Tensor:
    return (1 - lines) / 2


@pytest.mark.parametrize("radius", [8.0, 16.0, 28.0])
def test_a_stroke_has_the_ink_of_a_rendered_line(radius):
    # The renderer's line around a disc, without the disc's perspective: the marks of its filter.
    place = torch.arange(128) + 0.5 - 64
    code = (place[:, None] ** 2 + place**2 < (2 * radius) ** 2).to(torch.uint8)[None]
    rendered = (INK * _smoothly_pooled(_marks(code, torch.zeros(code.shape)), 2)).clamp(max=1)[0]
    drawn = ink(pad.stroke_lines([circle(radius)]))[0, 0]
    assert float(drawn.sum() / rendered.sum()) == pytest.approx(1, abs=0.05)
    # Shifted by a pixel the two would differ by 0.5 and more at many places; marks are cruder than a stroke's edges.
    assert float((drawn - rendered).abs().max()) < 0.3
    assert float((drawn - rendered).square().mean().sqrt()) < 0.03
    assert float(drawn.max()) == pytest.approx(float(rendered.max()), abs=0.15)


def test_x_runs_to_the_right_and_y_downwards():
    lines = ink(pad.stroke_lines([[0.25, 0.125, 0.75, 0.125]]))[0, 0]
    rows, columns = lines.sum(1), lines.sum(0)
    assert rows[7:9].sum() / rows.sum() > 0.9  # y = 8 pixels: half in row 7, half in row 8
    assert float(rows[7]) == pytest.approx(float(rows[8]), rel=0.15)  # a line is set to whole dots, ten to a pixel
    assert columns[17:47].min() > 0.9 and columns[:15].max() == 0 and columns[49:].max() == 0


def test_a_single_place_is_a_dot_and_nothing_is_paper():
    dot = ink(pad.stroke_lines([[0.5, 0.5]]))
    # A disc of the stroke's width in samples, of which four make a pixel, strengthened.
    assert float(dot.sum()) == pytest.approx(INK * math.pi * (pad.WIDTH / 2) ** 2 / 4, rel=0.1)
    assert bool((pad.stroke_lines([]) == 1).all())


def paint(xT, generator):
    """Paper in a colour of z, ink as it is."""
    return torch.minimum(xT, torch.rand(1, 3, 1, 1, generator=generator) * 0.8)


def shown(sketch) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(sketch.picture)))


def test_the_drawing_and_its_picture_follow_the_strokes():
    sketch = pad.SketchPad(paint, example="")
    for strokes in ([circle(10)], [circle(10), [0.1, 0.1, 0.9, 0.9]], [circle(10)], []):
        sketch.strokes = strokes
        lines = to_uint8(pad.stroke_lines(strokes))
        assert sketch.drawing == lines.numpy().tobytes() and len(sketch.drawing) == 64 * 64
        xT = to_float(lines).expand(-1, 3, -1, -1)
        wanted = paint(xT, torch.Generator().manual_seed(0))[0]
        assert np.array_equal(shown(sketch), (255 * as_pixels(wanted)).round().astype(np.uint8))
        assert sketch.message == ""


def test_new_colours_and_back():
    sketch = pad.SketchPad(paint)
    first = sketch.picture
    sketch.seed = 1
    assert sketch.picture != first
    sketch.seed = 0
    assert sketch.picture == first


@pytest.mark.parametrize("example", CLASSES)
def test_an_example_is_a_test_solid_of_its_class_and_strokes_lie_upon_it(example):
    sketch = pad.SketchPad(paint, example="")
    assert list(sketch.examples) == list(CLASSES) and sketch.backdrop == b""
    sketch.example = example
    lines = pad.example_lines(example)
    first = labels(range(64), split="test").tolist().index(CLASSES.index(example))
    assert torch.equal(lines, solids([first], split="test").lines)
    assert sketch.drawing == to_uint8(lines).numpy().tobytes()
    assert Image.open(io.BytesIO(sketch.backdrop)).size == (pad.SHOWN, pad.SHOWN)
    sketch.strokes = [[0.0, 0.5, 1.0, 0.5]]
    both = np.frombuffer(sketch.drawing, np.uint8).reshape(64, 64)
    alone = to_uint8(pad.stroke_lines(sketch.strokes)).numpy()[0, 0]
    assert np.array_equal(both, np.minimum(alone, to_uint8(lines).numpy()[0, 0]))


def test_the_browsers_message_is_answered_after_one_picture():
    calls = []

    def counted(xT, generator):
        calls.append(1)
        return xT

    sketch = pad.SketchPad(counted)
    calls.clear()
    for sent, state in ((1, {"strokes": [[0.1, 0.1]]}), (2, {"example": "", "seed": 3}), (3, {})):
        sketch.set_state({"sent": sent} | state)
        assert sketch.answered == sent
    assert len(calls) == 2  # nothing has changed the third time


def test_whatever_a_model_raises_is_said_and_forgotten():
    def moody(xT, generator):
        if float(xT.min()) < 0:
            raise RuntimeError("no\n  ink, please")
        return xT

    sketch = pad.SketchPad(moody, example="")
    before = sketch.picture
    sketch.set_state({"strokes": [circle(9)], "sent": 1})
    assert (sketch.message, sketch.picture, sketch.answered) == ("no ink, please", before, 1)
    sketch.strokes = []
    assert sketch.message == ""


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"strokes": [["a", 1]]}, "strokes hold what is no pair of numbers"),
        ({"strokes": [[0.1, 0.2, 0.3]]}, "strokes hold what is no pair of numbers"),
        ({"strokes": [[]]}, "strokes hold an empty one or places far outside; wanted x and y from 0 to 1"),
        ({"strokes": [[0.5, math.nan]]}, "strokes hold an empty one or places far outside"),
        ({"strokes": [[0.5, 9.0]]}, "strokes hold an empty one or places far outside"),
        ({"strokes": [[0.5, 0.5] * 30_000]}, "the drawing has 30000 points; wanted at most 20000: clear it"),
        ({"example": "tours"}, "example is 'tours'; wanted one of .*did you mean 'torus'"),
        ({"seed": -1}, "seed is -1; wanted a whole number, 0 or more"),
    ],
    ids=["words", "odd", "empty", "nan", "outside", "too many", "example", "seed"],
)
def test_what_is_no_drawing_is_said_in_the_pad(state, sentence):
    sketch = pad.SketchPad(paint, example="torus")
    before = sketch.picture
    sketch.set_state(state | {"sent": 1})
    assert re.match(sentence, sketch.message)
    assert (sketch.picture, sketch.answered) == (before, 1)


@pytest.mark.parametrize(
    ("model", "options", "error", "sentence"),
    [
        (3, {}, TypeError, r"model is a int; wanted a callable x0 = model\(xT, generator=...\)"),
        (lambda xT: xT, {}, TypeError, r"model cannot be called as model\(xT, generator=...\)"),
        (lambda xT, generator: xT[:, :1], {}, ValueError, r"model\(xT\) returned shape \(1, 1, 64, 64\); wanted x0"),
        (lambda xT, generator: None, {}, ValueError, r"model\(xT\) returned a NoneType; wanted x0"),
        (lambda xT, generator: xT / 0, {}, ValueError, r"x0 = model\(xT\) holds 12288 non-finite values"),
        (paint, {"size": 4}, ValueError, "size is 4; wanted a whole number, 8 or more"),
        (paint, {"example": "cube"}, ValueError, "example is 'cube'; wanted one of "),
    ],
    ids=["number", "no generator", "shape", "nothing", "infinite", "size", "example"],
)
def test_a_pad_refuses_what_cannot_colour(model, options, error, sentence):
    with pytest.raises(error, match=sentence):
        pad.SketchPad(model, **options)


def test_a_student_colours_at_its_own_size():
    task = tiny.SKETCH
    student = student_from(tiny.randomised(task.network(task.small, 0)), task.make_bridge(), task.times(2))
    sketch = pad.SketchPad(student, size=16, example="box")
    assert shown(sketch).shape == (16, 16, 3) and len(sketch.drawing) == 16 * 16
    before = sketch.picture
    sketch.strokes = [[0.2, 0.2, 0.8, 0.8]]
    assert sketch.message == "" and sketch.picture != before


def test_the_still_and_the_text_of_a_pad(monkeypatch):
    sketch, displayed = pad.SketchPad(paint, example="cone"), []
    assert repr(sketch) == "SketchPad(strokes=0, example='cone', seed=0)"
    figure = sketch.still(example="torus", seeds=(0, 7))
    assert [ax.get_title() for ax in figure.axes] == ["the drawing, xT", "z: seed 0", "z: seed 7"]
    lines = np.asarray(figure.axes[0].images[0].get_array())
    assert np.allclose(lines, as_pixels(pad.example_lines("torus")[0].expand(3, -1, -1)), atol=1 / 255)
    plt.close(figure)
    monkeypatch.setattr("ibmd_minimal.pad.display", displayed.append)
    monkeypatch.setattr(plt, "show", lambda: displayed.append(plt.gcf()))
    sketch.show(strokes=[circle(9)])
    assert displayed[0] is sketch and len(displayed[1].axes) == 5
    plt.close("all")


def test_the_browsers_half_fetches_nothing():
    for name in ("pad.js", "pad.css", "upload.js"):
        text = (pad.STATIC / name).read_text(encoding="utf-8")
        assert not re.search(r"https?:|\bimport\b|\bfetch\(|url\(", text), name


@pytest.mark.slow
def test_a_stroke_costs_little_beside_the_students_pass():
    found, ours, bare = stroke_to_picture()
    assert found < GOAL
