"""`restore` and what it is made of: files of every kind, masks, drawings, large pictures in pieces."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
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
from ibmd_minimal.data.sets import scaled
from ibmd_minimal.networks import UNet
from ibmd_minimal.recipes import Recipe, recipe
from ibmd_minimal.restoring import Tiled, free_name, restore_files, restorer
from ibmd_minimal.sources import by_crops, on_blocks, pad_to, scattered, source_of
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


@pytest.mark.parametrize(
    ("height", "width", "levels", "taken"),
    [
        (8, 12, (10, 200), "enlarged before"),
        (8, 12, (90, 90), "small, enlarged by 4"),
        (8, 12, (90, 91), "small, enlarged by 4"),
        (8, 11, (10, 200), "small, enlarged by 4"),
        (1, 1, (90, 90), "small, enlarged by 4"),
    ],
    ids=["blocks", "flat", "flat but for rounding", "no whole blocks", "one pixel"],
)
def test_what_is_flat_or_no_whole_blocks_counts_as_small(height, width, levels, taken):
    image = torch.full((3, height, width), levels[0], dtype=torch.uint8)
    image[..., 4:] = levels[1]
    xT, words = source_of(image, TINY)
    assert words == taken and xT.shape[-1] == (width if taken == "enlarged before" else 4 * width)


@pytest.mark.parametrize("task", ["tiny-sr", "tiny-jpeg", "tiny-hole"])
@pytest.mark.parametrize("grey", [True, False])
def test_what_is_grey_stays_grey_and_what_is_not_does_not(runs, tmp_path, task, grey):
    path = picture(tmp_path / "a.png", 16, 16, 1 if grey else 3)
    options = {"checkpoint": stem(runs, "student", task)}
    (done,) = restore_files(recipe(task), path, tmp_path / "out", **options)
    (from_clean,) = restore_files(recipe(task), path, tmp_path / "clean", clean=True, **options)
    for one in (done, from_clean):
        image = read_image(one.written)
        assert bool((image == image[:1]).all()) == grey
    if grey:
        xT = source_of(read_image(path), recipe(task))[0]
        mean = restorer(recipe(task), load_model(options["checkpoint"]))(xT)[0].mean(0)
        assert torch.equal(read_image(done.written)[0], to_uint8(mean))


def test_a_picture_that_the_memory_does_not_hold_is_a_sentence_and_stops_nothing(runs, tmp_path, monkeypatch):
    problems = [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), None]
    problems.append(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))

    def restore(xT):
        if problem := problems.pop(0):
            raise problem
        return xT

    monkeypatch.setattr("ibmd_minimal.restoring.restorer", lambda *_, **__: restore)
    paths = [picture(tmp_path / f"{name}.png", 6, 7) for name in "abcd"]
    found = list(restore_files(TINY, paths, tmp_path / "out", checkpoint=stem(runs, "student")))
    words = "is too large for the memory of this device; wanted a smaller picture, or a part of it"
    assert [found[k] for k in (0, 1, 3)] == [f"{paths[k]} {words}" for k in (0, 1, 3)]
    assert found[2].source == paths[2]
    problems.append(RuntimeError("another"))
    with pytest.raises(RuntimeError, match="another"):
        list(restore_files(TINY, paths[0], tmp_path / "out", checkpoint=stem(runs, "student")))


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
    before, after = holed(runs, picture(tmp_path / "a.png", 16, 16), tmp_path / "out")
    hole = hole_of(corrupt("inpaint-center", to_float(before)[None]))[0, 0] > 0
    assert torch.equal(after[:, ~hole], before[:, ~hole]) and not torch.equal(after[:, hole], before[:, hole])
    assert "(hidden by inpaint-center)" in capsys.readouterr().out


def test_of_a_large_photograph_holes_of_the_size_trained_on_are_filled(runs, tmp_path, capsys):
    before, after = holed(runs, picture(tmp_path / "a.png", 22, 90), tmp_path / "out")
    hole = torch.zeros(22, 90, dtype=torch.bool)
    hole[7:15, 9:17] = hole[7:15, 73:81] = True  # two crops of 16, their left sides 64 apart, in the middle of 22 x 90
    assert torch.equal(after[:, ~hole], before[:, ~hole]) and not torch.equal(after[:, hole], before[:, hole])
    assert "(squares of 8x8 hidden, every 64 pixels)" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["inpaint-center", "inpaint-freeform"])
@pytest.mark.parametrize(("height", "width", "many"), [(32, 32, 1), (95, 40, 1), (96, 32, 2), (400, 600, 54)])
def test_every_scattered_hole_is_one_of_a_crop(name, height, width, many):
    mask, words = scattered(height, width, recipe(name), seed=3)
    corrupted = corrupt(recipe(name).corruption, torch.ones(many, 3, 32, 32), torch.Generator().manual_seed(3))
    assert mask.shape == (1, 1, height, width) and int(mask.sum()) == int(hole_of(corrupted).sum())
    top, left = ((side - 32) % 64 // 2 for side in (height, width))
    assert torch.equal(mask[..., top : top + 32, left : left + 32], hole_of(corrupted)[:1])
    if many > 1:
        assert (
            words == {"c": "squares of 16x16", "f": "strokes in squares of 32x32"}[name[8]] + " hidden, every 64 pixels"
        )
    else:
        assert words == f"hidden by {name}" if height == width else words.count("a square of") == 1


def test_the_centre_is_filled_crop_by_crop_and_free_forms_in_the_whole(runs, tmp_path):
    path, checkpoint = picture(tmp_path / "a.png", 22, 90), stem(runs, "student", "tiny-hole")
    for corruption in ("inpaint-center", "inpaint-freeform"):
        task = replace(tiny.HOLE, corruption=corruption)
        (done,) = restore_files(task, path, tmp_path / corruption, checkpoint=checkpoint)
        xT, run = source_of(read_image(path), task)[0], restorer(task, load_model(checkpoint))
        wanted = run(xT)
        if corruption == "inpaint-center":
            wanted = xT.clone()
            left, right = run(torch.cat([xT[..., 3:19, 5:21], xT[..., 3:19, 69:85]]))
            wanted[0, :, 3:19, 5:21], wanted[0, :, 3:19, 69:85] = left, right
        assert torch.equal(read_image(done.written), to_uint8(wanted[0]))


def test_crops_in_several_batches_come_back_to_their_places(monkeypatch):
    monkeypatch.setattr("ibmd_minimal.sources.TOGETHER", 4)
    xT = torch.rand(1, 3, 170, 230)
    x0 = by_crops(lambda crops: crops + 1, xT, recipe("inpaint-center"))
    found = (x0 - xT)[0, 0].round()
    assert found.unique().tolist() == [0, 1] and int(found.sum()) == 3 * 4 * 32 * 32
    assert bool((found[5:37, 3:35] == 1).all()) and bool((found[133:165, 195:227] == 1).all())


def test_small_pictures_and_strips_are_hidden_in_their_middle():
    mask, words = scattered(20, 30, recipe("inpaint-center"))
    assert int(mask.sum()) == 100 and bool(mask[..., 5:15, 10:20].all()) and words == "a square of 10x10 hidden"


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


def test_a_hole_wider_than_training_had_is_filled_and_said_once(runs, tmp_path, capsys):
    for name, wide in (("trained", 8), ("wide", 14)):
        white = np.zeros((40, 40), np.uint8)
        white[4 : 4 + wide, 6:30] = 255
        Image.fromarray(white).save(tmp_path / f"{name}.png")
        photos = [str(picture(tmp_path / "in" / f"{one}.png", 40, 40)) for one in "ab"]
        common = [
            "restore",
            "tiny-hole",
            *photos,
            "--out",
            str(tmp_path / name),
            "--mask",
            str(tmp_path / f"{name}.png"),
        ]
        assert main([*common, "--checkpoint", stem(runs, "student", "tiny-hole")]) == 0
        said = capsys.readouterr()
        assert len(said.out.splitlines()) == 2 and len(list((tmp_path / name).iterdir())) == 2
        words = "wide.png has a hole some 14 pixels wide and tiny-hole was trained on 8 at most; wanted narrower ones"
        assert words in said.err if name == "wide" else said.err == ""
        assert len(said.err.splitlines()) == (name == "wide")


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
    image, task = read_image_of(32, 32), recipe("inpaint-freeform")
    one, same, other = (source_of(image, task, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other) and one.shape == (1, 3, 32, 32)
    assert torch.equal(one, corrupt("inpaint-freeform", to_float(image)[None], torch.Generator().manual_seed(0)))
    assert 0.2 <= float(hole_of(one).mean()) <= 0.3


@pytest.mark.parametrize("level", [127, 128])
def test_the_ground_of_normals_is_what_training_saw_whichever_level_a_program_writes(level):
    image = torch.full((3, 64, 64), level, dtype=torch.uint8)
    image[2, :32] = 255
    xT, taken = source_of(image, recipe("normals-to-image"))
    ground = to_float(torch.full((1, 3, 32, 64), 128, dtype=torch.uint8))
    assert taken == "as given" and torch.equal(xT[..., 32:, :], ground)
    assert torch.equal(xT[..., :32, :], to_float(image)[None, :, :32])


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
        assert done.nfe == (nfe or 2)  # for holes the most that there are
    assert asked == [(f"tiny-hole-{role}", "student") for role in ("student-2", "student", "student-2")]
    with pytest.raises(ValueError, match="nfe is 3 and tiny-hole has no such student; wanted 1 or 2, or --teacher"):
        list(restore_files(tiny.HOLE, path, tmp_path / "out", nfe=3))


# -- drawings and normal maps ----------------------------------------------------------------------


def test_a_drawing_in_colour_is_taken_for_its_grey(runs, tmp_path, capsys):
    drawing = picture(tmp_path / "a.png", 16, 16)
    xT, taken = source_of(read_image(drawing), tiny.SKETCH)
    grey = to_float(read_image(drawing)).mean(0)
    assert taken == "as given" and xT.shape == (1, 3, 16, 16)
    assert torch.allclose(xT[0], grey.expand(3, -1, -1), atol=1e-6)
    common = ["restore", "tiny-sketch", str(drawing), "--out", str(tmp_path / "out")]
    assert main([*common, "--checkpoint", stem(runs, "student-2", "tiny-sketch")]) == 0
    assert "(as given)" in capsys.readouterr().out and read_image(tmp_path / "out" / "a.png").shape == (3, 16, 16)
    checkpoint = ["--checkpoint", stem(runs, "student", "tiny-sketch")]
    assert main([*common, *checkpoint, "--clean"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "a.png: tiny-sketch starts from lines" in said[0] and "wanted them as they are" in said[0]


def test_a_normal_map_keeps_its_three_channels():
    image = read_image_of(64, 64) // 3  # nothing near the ground's middle grey
    xT, taken = source_of(image, recipe("normals-to-image"))
    assert taken == "as given" and torch.equal(xT[0], to_float(image))


@pytest.mark.parametrize("name", ["sketch-to-image", "normals-to-image"])
def test_translations_are_of_the_one_size_that_their_models_know(name):
    image, task = read_image_of(90, 120), recipe(name)
    xT, taken = source_of(image, task)
    assert taken == "its middle square scaled to 64x64"
    assert torch.equal(xT, source_of(scaled(image, 64), task)[0])
    assert source_of(image[..., :90], task)[1] == source_of(image[..., :20, :20], task)[1] == "scaled to 64x64"


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
    wanted = "tiny-multi does 2 tasks and none is named; wanted --instead with one of tiny-sr, tiny-jpeg"
    assert wanted in refused(capsys, *several)
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


@torch.no_grad()
def test_in_pieces_the_slow_noise_of_a_head_start_is_that_of_the_whole():
    student = randomised(UNet(brownian(0.1), 3, (4, 4))).as_student(head_start=(0.8, 0.25, 1.0, 0.3, 0.5))
    x, z = torch.randn(2, 1, 3, 152, 120, generator=torch.Generator().manual_seed(0))
    for t in (torch.ones(1), torch.full((1,), 0.7)):
        whole, pieces = student(x, t, z=z), Tiled(student, tile=40)(x, t, z=z)
        assert float((whole - pieces).abs().max()) < 1e-4 * float(whole.abs().max())
    with pytest.raises(ValueError, match="z is missing"):
        Tiled(student, tile=40)(x, t)


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
