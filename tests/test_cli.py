"""`python -m ibmd_minimal train | distill | evaluate | restore`, with a tiny task that is nothing but a dataclass."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ibmd_minimal import recipes, restoring
from ibmd_minimal.__main__ import main
from ibmd_minimal.bridges import brownian
from ibmd_minimal.checkpoints import card_of, load_model
from ibmd_minimal.data import corruptions, images
from ibmd_minimal.data.images import read_image, to_float
from ibmd_minimal.evaluation import Exam, agreement, student_of, teacher_at
from ibmd_minimal.metrics import Ruler, bootstrap
from ibmd_minimal.networks import UNet
from ibmd_minimal.recipes import Budget, Recipe, train_teacher
from ibmd_minimal.restoring import Tiled, free_name, on_blocks, pad_to, restorer, source_of
from ibmd_minimal.students import Student, student_from

SMALL = Budget(teacher_steps=4, teacher_batch=4, student_steps=2, student_batch=4, fake_steps=1, widths=(8, 8))
TINY = Recipe("tiny-sr", "sr4x-pool", half=False, size=16, multiple=4, enlarge=4, small=SMALL)
MIRROR = Recipe("tiny-mirror", "mirror", half=False, size=16, small=SMALL, conditional=True)


def photographs(n: int = 4) -> list[torch.Tensor]:
    """Made-up photographs with structure at several scales, uint8."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(n):
        levels = (torch.randn(1, 3, 48 // 2**k, 64 // 2**k, generator=generator) for k in range(4))
        total = sum(nn.functional.interpolate(level, (48, 64), mode="bilinear") for level in levels)
        found.append((60 * total[0] + 128).clamp(0, 255).to(torch.uint8))
    return found


@pytest.fixture(scope="module", autouse=True)
def made_up():
    """Two tasks and four photographs, nothing of BSDS500; few resamples, for nothing here is measured."""
    with pytest.MonkeyPatch.context() as patched:
        for recipe in (TINY, MIRROR):
            patched.setitem(recipes.RECIPES, recipe.name, recipe)
        patched.setitem(corruptions.CORRUPTIONS, "mirror", lambda x: x.flip(-1))
        for module in (recipes, images):
            given = photographs(), "4 photographs made up"
            patched.setattr(module, "training_photographs", lambda *args, given=given, **options: given)
        patched.setattr(Ruler, "measure", lambda self, x, kind: bootstrap(kind, self.features(x), self.reference, 5))
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder of runs in which the tiny teacher and its student are."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["train", "tiny-sr", "--runs", str(folder)]) == 0
    assert main(["distill", "tiny-sr", "--steps", "2", "--runs", str(folder)]) == 0
    return folder


def stem(runs: Path, role: str, task: str = "tiny-sr") -> str:
    return str(runs / task / "small" / f"{role}-seed0" / f"{task}-{role}")


def refused(capsys, *arguments: str) -> str:
    """The one sentence on stderr of a command that fails with exit status 2."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith(f"ibmd_minimal {arguments[0]}: "), said
    return said[-1]


# -- train, distill ------------------------------------------------------------------------------


def test_cards_say_how_the_pair_was_made(runs):
    teacher, student = card_of(stem(runs, "teacher")), card_of(stem(runs, "student"))
    assert (teacher["role"], teacher["steps"], student["role"], student["steps"]) == ("teacher", 4, "student", 2)
    for card in (teacher, student):
        assert card["recipe"] == "tiny-sr" and card["data"] == "4 photographs made up" and card["seed"] == 0
        assert card["settings"]["corruption"] == "sr4x-pool" and card["settings"]["widths"] == [8, 8]
        assert card["machine"]["torch"] == torch.__version__.split("+")[0] and card["hours"] >= 0
    assert student["teacher"] == teacher["sha256"] and student["times"] == [1.0]


def test_the_pair_is_loaded_with_the_parameters_it_was_saved_with(runs):
    teacher, student = load_model(stem(runs, "teacher")), load_model(stem(runs, "student"))
    assert isinstance(teacher, UNet) and isinstance(student, Student)
    for model in (teacher, student):
        assert not model.training and not any(p.requires_grad for p in model.parameters())
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    whole = train_teacher(TINY, runs=runs, progress=False).model
    for saved, value in zip(teacher.parameters(), whole.parameters()):
        assert torch.equal(saved, value.half().float())


def test_a_teacher_trained_in_two_goes_is_the_same(tmp_path):
    """The learning rate falls to the number of steps asked for, which is therefore the same in both."""
    whole = train_teacher(TINY, runs=tmp_path / "a", progress=False)

    class Killed(Exception):
        pass

    def killed(n: int):
        def corrupt(name, x, seen=[]):  # noqa: B006
            seen.append(1)
            if len(seen) > n:
                raise Killed
            return corruptions.corrupt(name, x)

        return corrupt

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        patched.setattr(recipes, "corrupt", killed(2))
        train_teacher(TINY, runs=tmp_path / "b", progress=False)
    again = train_teacher(TINY, runs=tmp_path / "b", progress=False)
    assert len(again.history) == 4 and again.history == whole.history
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters()))


def test_a_finished_run_is_not_made_again_and_a_longer_one_goes_on(runs, tmp_path, capsys):
    assert main(["train", "tiny-sr", "--runs", str(tmp_path), "--steps", "2"]) == 0
    assert main(["train", "tiny-sr", "--runs", str(tmp_path), "--steps", "2"]) == 0
    assert main(["train", "tiny-sr", "--runs", str(tmp_path), "--steps", "3"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "2 steps" in said[-3] and said[-2] == said[-3] and "3 steps" in said[-1]


def test_a_run_of_other_settings_or_another_teacher_is_not_gone_on_with(runs, tmp_path, capsys, monkeypatch):
    other = Recipe(**(vars(TINY) | {"weight": "plain"}))
    monkeypatch.setitem(recipes.RECIPES, "tiny-sr", other)
    said = refused(capsys, "train", "tiny-sr", "--runs", str(runs), "--steps", "9")
    assert "weight 'soft' and this one 'plain'; wanted the same" in said
    monkeypatch.undo()
    assert main(["train", "tiny-sr", "--runs", str(tmp_path), "--seed", "1"]) == 0
    another = str(tmp_path / "tiny-sr" / "small" / "teacher-seed1" / "tiny-sr-teacher")
    assert "teacher" in refused(capsys, "distill", "tiny-sr", "--runs", str(runs), "--teacher", another, "--steps", "9")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "tiny-srr"], ("'tiny-srr'", "did you mean 'tiny-sr'")),
        (["train", "tiny-sr", "--budget", "ful"], ("'ful'", "did you mean 'full'")),
        (["train", "tiny-sr", "--steps", "0"], ("steps is 0", "1 or more")),
        (["train", "tiny-sr", "--device", "quantum"], ("device 'quantum' is not there", "wanted cpu")),
        (["train", "tiny-sr", "--device", "meta"], ("device 'meta' is not there", "wanted cpu")),
        (["distill", "tiny-sr", "--teacher", "nothing"], ("'nothing'", "wanted one of")),
        (["evaluate", "tiny-sr", "--student", "nothing"], ("wanted one of",)),
        (["restore", "tiny-srr", "a.png"], ("did you mean 'tiny-sr'",)),
        (["restore", "tiny-sr", "a.png"], ("'tiny-sr-student'", "wanted one of")),
        (["download", "bsds50"], ("'bsds50'", "did you mean 'bsds500'")),
    ],
)
def test_bad_arguments_end_in_one_sentence(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, *arguments)
    assert len(said) < 300 and all(word in said for word in words), said
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("seed", ["-1", "x", "1.5", "99999999999"])
def test_seeds_are_whole_numbers(capsys, seed):
    with pytest.raises(SystemExit) as ended:
        main(["train", "tiny-sr", f"--seed={seed}"])
    assert ended.value.code == 2 and "is no seed; wanted a whole number" in capsys.readouterr().err


def test_a_student_is_no_teacher(runs, capsys):
    for command in (["distill", "tiny-sr", "--runs", str(runs)], ["evaluate", "tiny-sr"]):
        said = refused(capsys, *command, "--teacher", stem(runs, "student"))
        assert "tiny-sr-student is a student; wanted a teacher" in said


def test_a_full_disk_ends_a_training_in_a_sentence(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    said = refused(capsys, "train", "tiny-sr", "--runs", str(tmp_path))
    assert "No space left" in said and "wanted room" in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("command", ["train", "restore"])
def test_an_interrupt_ends_in_a_sentence(runs, tmp_path, capsys, monkeypatch, command):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "corrupt", interrupt)
    monkeypatch.setattr(restoring, "read_image", interrupt)
    picture(tmp_path / "a.png", 8, 8)
    options = {"train": ["--runs", str(tmp_path)], "restore": [str(tmp_path), "--checkpoint", stem(runs, "student")]}
    assert main([command, "tiny-sr", *options[command]]) == 130
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"ibmd_minimal {command}: interrupted")
    assert ("goes on from the last saved step" in said) == (command == "train")


# -- evaluate ------------------------------------------------------------------------------------


def test_evaluate_prints_the_table_and_notes_it_on_the_cards(runs, capsys):
    pair = ["--teacher", stem(runs, "teacher"), "--student", stem(runs, "student")]
    assert main(["evaluate", "tiny-sr", "--n", "200", "--note", *pair, "--nfe", "1", "3"]) == 0
    said = capsys.readouterr().out
    rows = [line.split()[:2] for line in said.splitlines()[4:9]]
    assert rows == [["floor", "-"], ["xT", "-"], ["teacher", "1"], ["teacher", "3"], ["student", "1"]]
    assert "200 crops of 16x16 from 4 photographs made up" in said and "16 student samples" in said
    for role in ("teacher", "student"):
        metrics = card_of(stem(runs, role))["metrics"]
        assert [row["who"] for row in metrics["rows"]][-1] == "student" and metrics["crops"] == 200
        assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert isinstance(load_model(stem(runs, "teacher")), UNet)


def test_evaluate_wants_enough_crops(runs, capsys):
    pair = ["--teacher", stem(runs, "teacher"), "--student", stem(runs, "student")]
    assert "n is 3; wanted a whole number, 200 or more" in refused(capsys, "evaluate", "tiny-sr", "--n", "3", *pair)


class Constant(nn.Module):
    """A student of known law: `teacher's single step + 0.1 z`."""

    noise_channels, conditional = 3, False

    def __init__(self, teacher):
        super().__init__()
        self.teacher = teacher
        self.noise_shape = lambda x: tuple(x.shape)

    def forward(self, x_t, t, xT, z):
        return self.teacher(x_t, t, xT) + 0.1 * z


def test_agreement_measures_the_mean_and_the_variance_of_a_known_student():
    exam = Exam.set(photographs(), "sr4x-pool", 200, 16)
    teacher = UNet(brownian(0.1), 3, (4,))
    seen = agreement(exam, teacher, Student(Constant(teacher)), teacher.bridge, draws=8)
    # 200 x 768 values: the variance of 8 draws has a relative standard error of sqrt(2/7/153600), 0.14%
    assert seen.variance == pytest.approx(0.01, rel=0.007) and seen.gap_noise == pytest.approx(0.01 / 8, rel=0.007)
    assert seen.gap == pytest.approx(seen.gap_noise, rel=0.02)
    single = exam.restored(teacher_at(teacher, teacher.bridge, 1, 0))[0]
    assert seen.teacher_error == pytest.approx(float((single - exam.x0).square().mean()))


def test_evaluation_is_a_function_of_the_seed():
    exam = Exam.set(photographs(), "sr4x-pool", 200, 16)
    student = student_from(randomised(UNet(brownian(0.1), 3, (4,))))
    randomised(student.network)
    one, same, other = (exam.restored(student_of(student, seed))[0] for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


# -- restore -------------------------------------------------------------------------------------


def picture(path: Path, height: int, width: int, channels: int = 3, bits: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width) if channels == 1 else (height, width, channels)
    pixels = np.random.default_rng(height * width).integers(0, 2**bits, shape)
    Image.fromarray(pixels.astype(np.uint8 if bits == 8 else np.uint16)).save(path)
    return path


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


# -- in pieces -----------------------------------------------------------------------------------


def randomised(network: nn.Module) -> nn.Module:
    """Every parameter drawn anew: layers that start from zero would hide a mistake."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = max(1, parameter[0].numel() if parameter.ndim > 1 else 1)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
    return network.eval()


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


# -- a task costs a dataclass ----------------------------------------------------------------------


def test_another_task_is_a_dataclass_and_a_corruption(tmp_path, capsys):
    """Conditional, with a corruption of its own: trained, distilled, evaluated, restored by the same commands."""
    folder, task = tmp_path / "runs", "tiny-mirror"
    assert main(["train", task, "--runs", str(folder), "--steps", "2"]) == 0
    assert main(["distill", task, "--runs", str(folder), "--steps", "1"]) == 0
    teacher, student = (stem(folder, role, task) for role in ("teacher", "student"))
    assert main(["evaluate", task, "--n", "200", "--nfe", "1", "--teacher", teacher, "--student", student]) == 0
    path, out = str(picture(tmp_path / "a.png", 21, 18)), str(tmp_path / "out")
    capsys.readouterr()
    assert main(["restore", task, path, "--out", out, "--checkpoint", student]) == 0
    assert main(["restore", task, path, "--out", out, "--checkpoint", teacher, "--teacher", "--nfe", "2"]) == 0
    assert capsys.readouterr().out.count("(as given)") == 2
    assert read_image(tmp_path / "out" / "a.png").shape == (3, 21, 18)
