"""`restore` and what it is made of: files of every kind, masks, drawings, large pictures in pieces."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tiny import picture, randomised, refused, stem

from ibmd_minimal.__main__ import main
from ibmd_minimal.bridges import brownian
from ibmd_minimal.checkpoints import load_model, save_model
from ibmd_minimal.data.corruptions import corrupt
from ibmd_minimal.data.images import read_image, to_float, to_uint8, write_image
from ibmd_minimal.data.masks import hole_of
from ibmd_minimal.networks import UNet
from ibmd_minimal.recipes import Recipe, recipe
from ibmd_minimal.restoring import Tiled, free_name, on_blocks, pad_to, restore_files, restorer, source_of
from ibmd_minimal.students import student_from

TINY = tiny.SR


@pytest.fixture(scope="module", autouse=True)
def made_up():
    with tiny.made_up() as patched:
        yield patched


def teacher_for(task: Recipe) -> UNet:
    """A teacher whose weights are random, so that every input shows."""
    return randomised(task.network(task.small, 0))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder laid out as one of runs, with teachers and students that nobody trained."""
    folder = tmp_path_factory.mktemp("runs")
    for task in (tiny.SR, tiny.JPEG, tiny.HOLE, tiny.SKETCH):
        teacher = teacher_for(task)
        save_model(stem(folder, "teacher", task.name), teacher, {"recipe": task.name})
        for nfe in task.students:
            role = "student" if nfe == 1 else f"student-{nfe}"
            student = student_from(teacher, task.make_bridge(), task.times(nfe))
            save_model(stem(folder, role, task.name), student, {"recipe": task.name})
    several = student_from(randomised(teacher_for(tiny.SR).with_labels(2)), head_start=tiny.SEVERAL.head_start)
    save_model(stem(folder, "student", "tiny-multi"), several, {"recipe": "tiny-multi"})
    return folder


# -- restore -------------------------------------------------------------------------------------


def restored(runs: Path, out: Path, *arguments: str) -> list[str]:
    assert main(["restore", "tiny-sr", *arguments, "--out", str(out), "--checkpoint", stem(runs, "student")]) == 0
    return sorted(path.name for path in out.iterdir())


@pytest.mark.parametrize(
    ("height", "width", "channels", "bits"),
    [(37, 53, 3, 8), (10, 6, 1, 8), (9, 7, 4, 8), (6, 11, 1, 16), (5, 4, 3, 8), (1, 2, 3, 8)],
    ids=["odd", "greyscale", "alpha", "16-bit", "tiny", "a line"],
)
def test_a_small_image_comes_back_four_times_as_large(runs, tmp_path, height, width, channels, bits):
    path = picture(tmp_path / "a.png", height, width, channels, bits)
    assert restored(runs, tmp_path / "out", str(path)) == ["a.png"]
    assert read_image(tmp_path / "out" / "a.png", least=1).shape == (3, 4 * height, 4 * width)


def test_an_enlarged_image_keeps_its_size_and_gives_the_same(runs, tmp_path):
    small = picture(tmp_path / "small.png", 9, 6)
    pixels = np.asarray(Image.open(small)).repeat(4, 0).repeat(4, 1)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    restored(runs, tmp_path / "out", str(tmp_path))
    first, second = (read_image(tmp_path / "out" / f"{name}.png") for name in ("small", "large"))
    assert first.shape == (3, 36, 24) and torch.equal(first, second)


def test_what_is_on_blocks():
    x = torch.rand(1, 3, 5, 6).repeat_interleave(4, -2).repeat_interleave(4, -1)
    assert on_blocks(x, 4) and on_blocks(x[..., :18, :21], 4)
    assert not on_blocks(x.roll(1, -1), 4) and not on_blocks(torch.rand(1, 3, 9, 9), 4)


def test_clean_files_are_corrupted_first_and_keep_their_size(runs, tmp_path, capsys):
    path = picture(tmp_path / "a.png", 37, 53)
    xT, taken = source_of(read_image(path), TINY, clean=True)
    assert taken == "clean, corrupted here" and xT.shape == (1, 3, 37, 53)
    assert torch.allclose(xT[..., :4, :4], to_float(read_image(path))[:, :4, :4].mean((1, 2))[None, :, None, None])
    restored(runs, tmp_path / "out", str(path), "--clean")
    assert read_image(tmp_path / "out" / "a.png").shape == (3, 37, 53)


def test_files_and_folders_are_restored_and_what_is_no_image_stops_nothing(runs, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("b.png", "c.jpg", "deeper/d.png"):
        picture(folder / name, 6, 7)
    (folder / "a.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    missing = str(tmp_path / "missing.png")
    arguments = [str(folder), missing, str(folder / "deeper" / "d.png"), "--checkpoint", stem(runs, "student")]
    assert main(["restore", "tiny-sr", *arguments, "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert sorted(path.name for path in out.iterdir()) == ["b.png", "c.png", "d.png"]
    assert len(said.out.splitlines()) == 3 and "(small, enlarged by 4)" in said.out and "28x24, NFE 1" in said.out
    errors = said.err.splitlines()
    assert "missing.png is not there" in errors[0] and "a.png cannot be read" in errors[1]
    assert "2 of 5 were not restored" in errors[2] and len(errors) == 3


def test_names_that_collide_are_told_apart_and_no_source_is_overwritten(runs, tmp_path):
    for name in ("a.png", "a.jpg", "b/a.png"):
        picture(tmp_path / name, 5, 6)
    before = (tmp_path / "a.png").read_bytes()
    names = restored(runs, tmp_path, str(tmp_path), str(tmp_path / "b"))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [name for name in names if name not in ("a.png", "a.jpg", "b")] == ["a-2.png", "a-jpg.png", "a-png.png"]


def test_free_names(tmp_path):
    written: set[Path] = set()
    paths = ["x/a.png", "y/a.png", "z/a.png", "a.tar.png", "x/a.jpg"]
    names = [free_name(tmp_path, Path(path), written).name for path in paths]
    assert names == ["a.png", "a-png.png", "a-2.png", "a.tar.png", "a-jpg.png"] and len(written) == 5


def test_the_teacher_takes_its_nfe_and_the_student_refuses_another(runs, tmp_path, capsys):
    path = str(picture(tmp_path / "a.png", 5, 6))
    common = ["restore", "tiny-sr", path, "--out", str(tmp_path / "out"), "--checkpoint"]
    assert main([*common, stem(runs, "teacher"), "--teacher", "--nfe", "3"]) == 0
    assert "NFE 3" in capsys.readouterr().out
    assert main([*common, stem(runs, "student"), "--nfe", "1"]) == 0
    assert "nfe is 5 and this student takes 1" in refused(capsys, *common, stem(runs, "student"), "--nfe", "5")
    assert "nfe is 0" in refused(capsys, *common, stem(runs, "teacher"), "--teacher", "--nfe", "0")
    assert "is a teacher; wanted a student" in refused(capsys, *common, stem(runs, "teacher"))
    assert "is a student; wanted a teacher" in refused(capsys, *common, stem(runs, "student"), "--teacher")


def test_an_unwritable_folder_is_a_sentence(runs, tmp_path, capsys, monkeypatch):
    path, out = picture(tmp_path / "a.png", 5, 6), tmp_path / "out"
    out.write_text("a file, not a folder")
    common = ["restore", "tiny-sr", str(path), "--checkpoint", stem(runs, "student"), "--out"]
    assert "cannot be written" in refused(capsys, *common, str(out))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    said = refused(capsys, *common, str(tmp_path / "new"))
    assert "a.png cannot be written (No space left on device); wanted room for" in said
    assert not list((tmp_path / "new").iterdir())


def test_the_same_seed_restores_the_same(runs, tmp_path):
    student = load_model(stem(runs, "student"))
    randomised(student.network)
    xT = torch.rand(1, 3, 12, 20) * 2 - 1
    one, same, other = (restorer(TINY, student, seed=seed)(xT) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other) and one.shape == xT.shape


# -- inpainting ------------------------------------------------------------------------------------


def holed(runs: Path, path: Path, out: Path, *arguments: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A photograph before and after a tiny inpainting, uint8 `(3, height, width)`."""
    checkpoint = stem(runs, "student", "tiny-hole")
    assert main(["restore", "tiny-hole", str(path), "--out", str(out), "--checkpoint", checkpoint, *arguments]) == 0
    return read_image(path), read_image(out / path.name)


def test_without_a_mask_the_recipe_s_own_is_filled_and_all_else_kept(runs, tmp_path, capsys):
    before, after = holed(runs, picture(tmp_path / "a.png", 22, 31), tmp_path / "out")
    hole = hole_of(corrupt("inpaint-center", to_float(before)[None]))[0, 0] > 0
    assert torch.equal(after[:, ~hole], before[:, ~hole]) and not torch.equal(after[:, hole], before[:, hole])
    assert "(hidden by inpaint-center)" in capsys.readouterr().out


def test_with_a_mask_what_is_white_in_it_is_filled(runs, tmp_path, capsys):
    white = np.zeros((22, 31, 3), np.uint8)
    white[3:9, 20:30], white[15:, :4], white[0, 0] = 255, 128, 127  # white, and either side of middle grey
    Image.fromarray(white).save(tmp_path / "mask.png")
    photo = picture(tmp_path / "in" / "a.png", 22, 31)
    before, after = holed(runs, photo, tmp_path / "out", "--mask", str(tmp_path / "mask.png"))
    hole = torch.zeros(22, 31, dtype=torch.bool)
    hole[3:9, 20:30] = hole[15:, :4] = True
    assert torch.equal(after[:, ~hole], before[:, ~hole]) and not torch.equal(after[:, hole], before[:, hole])
    assert "(hidden by the mask)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "grey", "words"),
    [
        ((31, 22), 255, ("a.png: the mask is (31, 22)", "wanted the picture's size, (22, 31)")),
        ((22, 31), 0, ("a.png: the mask is (22, 31), 0 pixels of it marked", "some pixels to fill")),
    ],
    ids=["of another size", "of nothing"],
)
def test_a_mask_that_does_not_fit_is_a_sentence_that_names_the_picture(runs, tmp_path, capsys, size, grey, words):
    Image.fromarray(np.full((*size, 3), grey, np.uint8)).save(tmp_path / "mask.png")
    common = ["restore", "tiny-hole", str(picture(tmp_path / "in" / "a.png", 22, 31)), "--out", str(tmp_path / "out")]
    common += ["--checkpoint", stem(runs, "student", "tiny-hole"), "--mask", str(tmp_path / "mask.png")]
    assert main(common) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(word in said[0] for word in words) and not (tmp_path / "out").exists()


def test_a_mask_is_a_picture_and_for_inpainting_only(runs, tmp_path, capsys):
    path = str(picture(tmp_path / "a.png", 22, 31))
    checkpoint = ["--checkpoint", stem(runs, "student", "tiny-hole")]
    said = refused(capsys, "restore", "tiny-hole", path, *checkpoint, "--mask", str(tmp_path / "no.png"))
    assert "no.png is not there" in said
    with pytest.raises(ValueError, match="a mask was given and tiny-sr fills no holes; wanted one of the inpaint"):
        source_of(read_image(path), TINY, mask=torch.ones(22, 31))


def test_free_form_holes_come_from_the_seed():
    image, task = read_image_of(24, 40), recipe("inpaint-freeform")
    one, same, other = (source_of(image, task, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other) and one.shape == (1, 3, 24, 40)
    assert 0.2 <= float(hole_of(one).mean()) <= 0.3


def read_image_of(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_the_passes_choose_among_several_students(runs, tmp_path, monkeypatch):
    asked = []

    def load(name, device, role):
        asked.append((name, role))
        return load_model(stem(runs, name.removeprefix("tiny-hole-"), "tiny-hole"), device, role)

    monkeypatch.setattr("ibmd_minimal.restoring.load_model", load)
    path = picture(tmp_path / "a.png", 16, 16)
    for nfe in (None, 1, 2):
        (done,) = restore_files(tiny.HOLE, path, tmp_path / "out", nfe=nfe)
        assert done.nfe == (nfe or 1)
    assert asked == [(f"tiny-hole-{role}", "student") for role in ("student", "student", "student-2")]
    with pytest.raises(ValueError, match="nfe is 3 and this student takes 1"):
        list(restore_files(tiny.HOLE, path, tmp_path / "out", nfe=3))


# -- drawings and normal maps ----------------------------------------------------------------------


def test_a_drawing_in_colour_is_taken_for_its_grey(runs, tmp_path, capsys):
    drawing = picture(tmp_path / "a.png", 19, 26)
    xT, taken = source_of(read_image(drawing), tiny.SKETCH)
    grey = to_float(read_image(drawing)).mean(0)
    assert taken == "as given" and xT.shape == (1, 3, 19, 26)
    assert torch.allclose(xT[0], grey.expand(3, -1, -1), atol=1e-6)
    common = ["restore", "tiny-sketch", str(drawing), "--out", str(tmp_path / "out")]
    assert main([*common, "--checkpoint", stem(runs, "student-2", "tiny-sketch")]) == 0
    assert "19" in capsys.readouterr().out and read_image(tmp_path / "out" / "a.png").shape == (3, 19, 26)
    checkpoint = ["--checkpoint", stem(runs, "student", "tiny-sketch")]
    assert main([*common, *checkpoint, "--clean"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "a.png: tiny-sketch starts from lines" in said[0] and "wanted them as they are" in said[0]


def test_a_normal_map_keeps_its_three_channels():
    image = read_image_of(16, 16)
    xT, taken = source_of(image, recipe("normals-to-image"))
    assert taken == "as given" and torch.equal(xT[0], to_float(image))


# -- JPEG, several tasks ---------------------------------------------------------------------------


def test_a_jpeg_file_is_restored_as_it_is_and_a_clean_one_is_compressed_first(runs, tmp_path, capsys):
    smooth = torch.linspace(0, 255, 37).to(torch.uint8).expand(3, 21, 37).contiguous()
    path = write_image(tmp_path / "a.jpg", smooth)
    xT, taken = source_of(read_image(path), tiny.JPEG)
    assert taken == "as given" and torch.equal(to_uint8(xT[0]), read_image(path))
    clean = source_of(read_image(path), tiny.JPEG, clean=True)[0]
    assert clean.shape == xT.shape and torch.equal(clean[..., :16, :16], corrupt("jpeg-10", xT[..., :16, :16]))
    common = ["restore", "tiny-jpeg", str(path), "--out", str(tmp_path / "out")]
    assert main([*common, "--checkpoint", stem(runs, "student", "tiny-jpeg")]) == 0
    assert read_image(tmp_path / "out" / "a.png").shape == (3, 21, 37)


def test_a_student_of_several_does_the_task_that_is_named(runs, tmp_path, capsys):
    path, out = picture(tmp_path / "a.png", 16, 20), tmp_path / "out"
    common = ["restore", "tiny-multi", str(path), "--out", str(out)]
    common += ["--checkpoint", stem(runs, "student", "tiny-multi")]
    student, found = load_model(stem(runs, "student", "tiny-multi")), {}
    for label, (name, taken) in enumerate((("tiny-sr", "small, enlarged by 4"), ("tiny-jpeg", "as given"))):
        assert main([*common, "--instead", name]) == 0
        assert f"({taken})" in capsys.readouterr().out
        xT = source_of(read_image(path), recipe(name))[0]
        found[name] = read_image(out / "a.png")
        assert torch.equal(found[name], to_uint8(restorer(tiny.SEVERAL, student, label=label)(xT)[0]))
        other = restorer(tiny.SEVERAL, student, label=1 - label)(xT)[0]
        assert not torch.equal(found[name], to_uint8(other))
    assert [image.shape for image in found.values()] == [(3, 64, 80), (3, 16, 20)]


def test_the_task_has_to_be_named_where_there_are_several_and_only_there(runs, tmp_path, capsys):
    path = str(picture(tmp_path / "a.png", 16, 20))
    several = ["restore", "tiny-multi", path, "--checkpoint", stem(runs, "student", "tiny-multi")]
    assert "instead is ''; wanted one of tiny-sr, tiny-jpeg" in refused(capsys, *several)
    assert "did you mean 'tiny-jpeg'" in refused(capsys, *several, "--instead", "tiny-jpg")
    single = ["restore", "tiny-sr", path, "--checkpoint", stem(runs, "student")]
    assert "tiny-sr does one task; wanted no other, got 'tiny-jpeg'" in refused(
        capsys, *single, "--instead", "tiny-jpeg"
    )


def test_the_teacher_of_the_named_task_stands_in_for_several(runs, tmp_path):
    path = picture(tmp_path / "a.png", 16, 20)
    options = {"teacher": True, "nfe": 2, "instead": "tiny-jpeg", "checkpoint": stem(runs, "teacher", "tiny-jpeg")}
    (done,) = restore_files(tiny.SEVERAL, path, tmp_path / "out", **options)
    assert done.nfe == 2 and done.size == (20, 16)
    with pytest.raises(FileNotFoundError, match="'tiny-jpeg-teacher'"):
        list(restore_files(tiny.SEVERAL, path, tmp_path / "out", **options | {"checkpoint": None}))


# -- in pieces -----------------------------------------------------------------------------------


@torch.no_grad()
def test_in_pieces_the_output_is_that_of_the_whole():
    """With labels, noise and xT: all that a network takes. Rounding differs between convolutions of other sizes."""
    network = UNet(brownian(0.1), 3, (8, 8), conditional=True, noise_channels=3, labels=2)
    randomised(network)
    generator = torch.Generator().manual_seed(0)
    x, xT, z = (torch.randn(1, 3, 200, 168, generator=generator) for _ in range(3))
    more = {"z": z, "label": torch.ones(1, dtype=torch.int64)}
    t = torch.full((1,), 0.7)
    whole, pieces = network(x, t, xT, **more), Tiled(network, tile=40)(x, t, xT, **more)
    assert float((whole - pieces).abs().max()) < 1e-4 * float(whole.abs().max())
    assert network.reach < 40  # several pieces really are cut off on all sides
    network.__class__ = type("Blind", (UNet,), {"reach": 4})
    assert float((whole - Tiled(network, tile=40)(x, t, xT, **more)).abs().max()) > 1e-3


def test_a_large_image_is_restored_in_pieces_by_student_and_teacher():
    network = randomised(UNet(brownian(0.1), 3, (4, 4)))
    student = student_from(network)
    randomised(student.network)
    xT = pad_to(torch.rand(1, 3, 130, 99) * 2 - 1, 1)
    for model, nfe in ((student, 1), (network, 3)):
        whole, pieces = (restorer(TINY, model, nfe, tile=tile)(xT) for tile in (512, 32))
        assert whole.shape == xT.shape and float((whole - pieces).abs().max()) < 1e-4


@torch.no_grad()
def test_a_pasted_network_in_pieces_fills_the_hole_and_nothing_else():
    network = teacher_for(tiny.HOLE)
    xT = corrupt("inpaint-center", to_float(read_image_of(96, 80))[None])
    whole, pieces = (restorer(tiny.HOLE, network, tile=tile)(xT) for tile in (512, 32))
    outside = ~(hole_of(xT) > 0).expand_as(xT)
    assert torch.equal(pieces[outside], xT[outside]) and float((whole - pieces).abs().max()) < 1e-4
    assert not torch.equal(pieces[~outside], xT[~outside])
