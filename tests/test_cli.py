"""`python -m ibmd_minimal train | distill | evaluate | results`, with tiny tasks that are nothing but dataclasses."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from tiny import picture, refused, stem

from ibmd_minimal import checkpoints, recipes, restoring
from ibmd_minimal.__main__ import main
from ibmd_minimal.checkpoints import card_of, load_model
from ibmd_minimal.data import corruptions, couplings
from ibmd_minimal.data.images import read_image
from ibmd_minimal.networks import UNet
from ibmd_minimal.runs import train_teacher
from ibmd_minimal.students import Student

TINY = tiny.SR


@pytest.fixture(scope="module", autouse=True)
def made_up():
    with tiny.made_up() as patched:
        yield patched


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A folder of runs in which the tiny teacher and its student are."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["train", "tiny-sr", "--runs", str(folder)]) == 0
    assert main(["distill", "tiny-sr", "--steps", "2", "--runs", str(folder)]) == 0
    return folder


# -- train, distill ------------------------------------------------------------------------------


def test_cards_say_how_the_pair_was_made(done):
    teacher, student = card_of(stem(done, "teacher")), card_of(stem(done, "student"))
    assert (teacher["role"], teacher["steps"], student["role"], student["steps"]) == ("teacher", 4, "student", 2)
    for card in (teacher, student):
        assert card["recipe"] == "tiny-sr" and card["data"] == "4 photographs made up" and card["seed"] == 0
        assert card["settings"]["corruption"] == "sr4x-pool" and card["settings"]["widths"] == [8, 8]
        assert card["machine"]["torch"] == torch.__version__.split("+")[0] and card["hours"] >= 0
    assert student["teacher"] == teacher["sha256"] and student["times"] == [1.0]


def test_the_pair_is_loaded_with_the_parameters_it_was_saved_with(done):
    teacher, student = load_model(stem(done, "teacher")), load_model(stem(done, "student"))
    assert isinstance(teacher, UNet) and isinstance(student, Student)
    for model in (teacher, student):
        assert not model.training and not any(p.requires_grad for p in model.parameters())
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    whole = train_teacher(TINY, runs=done, progress=False).model
    for saved, value in zip(teacher.parameters(), whole.parameters()):
        assert torch.equal(saved, value.half().float())


def test_a_teacher_trained_in_two_goes_is_the_same(tmp_path):
    """The learning rate falls to the number of steps asked for, which is therefore the same in both."""
    whole = train_teacher(TINY, runs=tmp_path / "a", progress=False)

    class Killed(Exception):
        pass

    def killed(n: int):
        def corrupt(name, x, draws, seen=[]):  # noqa: B006
            seen.append(1)
            if len(seen) > n:
                raise Killed
            return corruptions.corrupt(name, x, draws)

        return corrupt

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        patched.setattr(couplings, "corrupt", killed(2))
        train_teacher(TINY, runs=tmp_path / "b", progress=False)
    again = train_teacher(TINY, runs=tmp_path / "b", progress=False)
    assert len(again.history) == 4 and again.history == whole.history
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters()))


def test_a_finished_run_is_not_made_again_and_a_longer_one_goes_on(done, tmp_path, capsys):
    assert main(["train", "tiny-sr", "--runs", str(tmp_path), "--steps", "2"]) == 0
    assert main(["train", "tiny-sr", "--runs", str(tmp_path), "--steps", "2"]) == 0
    assert main(["train", "tiny-sr", "--runs", str(tmp_path), "--steps", "3"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "2 steps" in said[-3] and said[-2] == said[-3] and "3 steps" in said[-1]


def test_a_run_of_other_settings_or_another_teacher_is_not_gone_on_with(done, tmp_path, capsys, monkeypatch):
    other = replace(TINY, weight="plain")
    monkeypatch.setitem(recipes.RECIPES, "tiny-sr", other)
    said = refused(capsys, "train", "tiny-sr", "--runs", str(done), "--steps", "9")
    assert "weight 'soft' and this one 'plain'; wanted the same" in said
    monkeypatch.undo()
    assert main(["train", "tiny-sr", "--runs", str(tmp_path), "--seed", "1"]) == 0
    another = str(tmp_path / "tiny-sr" / "small" / "teacher-seed1" / "tiny-sr-teacher")
    assert "teacher" in refused(capsys, "distill", "tiny-sr", "--runs", str(done), "--teacher", another, "--steps", "9")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "tiny-srr"], ("'tiny-srr'", "did you mean 'tiny-sr'")),
        (["train", "tiny-sr", "--budget", "ful"], ("'ful'", "did you mean 'full'")),
        (["train", "tiny-sr", "--steps", "0"], ("steps is 0", "1 or more")),
        (["train", "tiny-sr", "--device", "quantum"], ("device 'quantum' is not there", "wanted cpu")),
        (["train", "tiny-sr", "--device", "meta"], ("device 'meta' is not there", "wanted cpu")),
        (["distill", "tiny-sr", "--teacher", "nothing"], ("'nothing'", "wanted teacher or student of")),
        (["evaluate", "tiny-sr", "--student", "nothing"], ("wanted teacher or student of",)),
        (["train", "multi"], ("multi has no teacher of its own", "wanted one of jpeg-5")),
        (["distill", "tiny-multi"], ("'tiny-sr-teacher'", "wanted teacher or student of")),
        (["distill", "tiny-multi", "--teacher", "sr4x-pool-teacher"], ("which has 2; wanted none named",)),
        (["distill", "sr4x-pool", "--nfe", "2"], ("nfe is 2; wanted one of sr4x-pool's students, 1",)),
        (["evaluate", "tiny-multi", "--teacher", "sr4x-pool-teacher"], ("which has 2; wanted none named",)),
        (["results", "--readme", "nothing.md"], ("nothing.md",)),
        (["ship", "tiny-sr"], ("tiny-sr-teacher", "wanted")),
        (["restore", "tiny-srr", "a.png"], ("did you mean 'tiny-sr'",)),
        (["restore", "tiny-sr", "a.png"], ("'tiny-sr-student'", "wanted teacher or student of")),
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


def test_a_student_is_no_teacher(done, capsys):
    for command in (["distill", "tiny-sr", "--runs", str(done)], ["evaluate", "tiny-sr"]):
        said = refused(capsys, *command, "--teacher", stem(done, "student"))
        assert "tiny-sr-student is a student; wanted a teacher" in said


def test_a_full_disk_ends_a_training_in_a_sentence(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    said = refused(capsys, "train", "tiny-sr", "--runs", str(tmp_path))
    assert "No space left" in said and "wanted room" in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("command", ["train", "restore"])
def test_an_interrupt_ends_in_a_sentence(done, tmp_path, capsys, monkeypatch, command):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(couplings, "corrupt", interrupt)
    monkeypatch.setattr(restoring, "read_image", interrupt)
    picture(tmp_path / "a.png", 8, 8)
    options = {"train": ["--runs", str(tmp_path)], "restore": [str(tmp_path), "--checkpoint", stem(done, "student")]}
    assert main([command, "tiny-sr", *options[command]]) == 130
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"ibmd_minimal {command}: interrupted")
    assert ("goes on from the last saved step" in said) == (command == "train")


# -- evaluate ------------------------------------------------------------------------------------


@pytest.fixture
def noted(tmp_path, monkeypatch) -> Path:
    """A results file of its own."""
    from ibmd_minimal import measuring, results

    path = tmp_path / "results.json"
    monkeypatch.setattr(measuring, "note", lambda name, entry: results.note(name, entry, path))
    return path


def table_of(said: str) -> list[list[str]]:
    """The first two words of every row below the underlined header."""
    lines = said.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("---")) + 1
    return [line.split()[:2] for line in lines[start : lines.index("", start)]]


ROWS = [["floor", "-"], ["xT", "-"], ["student", "1"], ["teacher", "1"], ["teacher", "3"]]


def test_evaluate_prints_the_table_and_notes_it(done, capsys, noted):
    pair = ["--teacher", stem(done, "teacher"), "--student", stem(done, "student")]
    assert main(["evaluate", "tiny-sr", "--n", "200", "--note", *pair, "--nfe", "1", "3"]) == 0
    said = capsys.readouterr().out
    assert table_of(said) == ROWS
    assert "tiny-sr: 200 pictures of 4 photographs made up" in said and "16 student samples" in said
    found = json.loads(noted.read_text())
    entry = found.pop("tiny-sr")
    assert not found and "null" not in noted.read_text()
    assert (entry["data"], entry["n"], entry["seed"]) == ("4 photographs made up", 200, 0)
    assert [row["who"] for row in entry["rows"]] == [row[0] for row in ROWS] and list(entry["agreement"]) == ["1"]
    assert entry["machine"]["torch"] == torch.__version__.split("+")[0]
    assert {row["who"] for row in entry["whole"]} == {"student", "teacher"} and entry["whole"][0]["n"] == 4
    costs = entry["training"][stem(done, "student")]
    assert costs["steps"] == 2 and costs["passes"] == card_of(stem(done, "student"))["passes"]


def test_evaluate_without_note_writes_nothing(done, capsys, noted):
    pair = ["--teacher", stem(done, "teacher"), "--student", stem(done, "student")]
    assert main(["evaluate", "tiny-sr", "--n", "200", *pair, "--nfe", "1"]) == 0
    assert table_of(capsys.readouterr().out) == ROWS[:4] and not noted.exists()


def test_evaluate_wants_enough_pictures(done, capsys):
    pair = ["--teacher", stem(done, "teacher"), "--student", stem(done, "student")]
    assert "n is 3; wanted a whole number, 200 or more" in refused(capsys, "evaluate", "tiny-sr", "--n", "3", *pair)


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    """An empty folder in place of the repository's checkpoints."""
    from ibmd_minimal import shipping

    for module in (checkpoints, shipping):
        monkeypatch.setattr(module, "SHIPPED", tmp_path / "shelf")
    return tmp_path / "shelf"


def test_finished_runs_are_shipped_with_a_probe_that_can_be_repeated(done, shelf, capsys):
    from ibmd_minimal.shipping import probed

    assert main(["ship", "tiny-sr", "--runs", str(done)]) == 0
    assert "tiny-sr-student.json" in capsys.readouterr().out
    for role in ("teacher", "student"):
        name = f"tiny-sr-{role}"
        assert (shelf / f"{name}.safetensors").read_bytes() == Path(f"{stem(done, role)}.safetensors").read_bytes()
        assert card_of(name) == card_of(stem(done, role)) | {"probe": card_of(name)["probe"]}
        kept, again = probed(name)
        assert kept == again and list(kept) == ["tiny-sr"] and 0 < kept["tiny-sr"] < 1
    assert "tiny-sr-student-2" in refused(capsys, "ship", "tiny-sr", "--runs", str(done), "--roles", "student-2")


def test_a_student_of_several_teachers_from_training_to_the_results(done, shelf, capsys, noted):
    """Every step of it by commands: its second teacher, itself, both shipped, measured for each of its tasks."""
    assert main(["train", "tiny-jpeg", "--runs", str(done), "--steps", "2"]) == 0
    assert main(["distill", "tiny-multi", "--runs", str(done), "--steps", "1"]) == 0
    for name, roles in (("tiny-sr", ["teacher"]), ("tiny-jpeg", ["teacher"]), ("tiny-multi", ["student"])):
        assert main(["ship", name, "--runs", str(done), "--roles", *roles]) == 0
    assert set(card_of("tiny-multi-student")["probe"]) == {"tiny-sr", "tiny-jpeg"}
    assert main(["evaluate", "tiny-multi", "--n", "200", "--nfe", "1", "--note"]) == 0
    assert set(json.loads(noted.read_text())) == {"tiny-multi/tiny-sr", "tiny-multi/tiny-jpeg"}
    said = refused(capsys, "evaluate", "tiny-multi", "--teacher", stem(done, "teacher"))
    assert "for tiny-multi, which has 2; wanted none named" in said


def test_results_are_written_between_the_marks(tmp_path, capsys):
    from ibmd_minimal.results import BEGIN, END, results, with_results

    readme = tmp_path / "README.md"
    readme.write_text(f"Above.\n{BEGIN}\nstale\n{END}\nBelow.\n", encoding="utf-8")
    assert main(["results", "--readme", str(readme)]) == 0
    text = readme.read_text(encoding="utf-8")
    assert "stale" not in text and with_results(text, results()) == text and text.endswith(f"{END}\nBelow.\n")
    readme.write_text("no marks")
    assert "has not both marks" in refused(capsys, "results", "--readme", str(readme))
    assert readme.read_text() == "no marks"


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
