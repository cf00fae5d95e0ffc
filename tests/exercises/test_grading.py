"""Returned notebooks to points: a small chapter in many states, and every master and reader's chapter there is."""

from __future__ import annotations

import contextlib
import copy
import csv
import io
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ibmd_minimal import exercises
from ibmd_minimal.exercises import grading
from ibmd_minimal.exercises.grading import Grader, grade_files
from ibmd_minimal.exercises.masters import copy_of, masters_in, read_notebook, readers_copy

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
MASTERS = masters_in(NOTEBOOKS / "solutions")
CHECKS = """
import torch
from ibmd_minimal.exercises.checking import compare, exercise, sentence

@exercise("99.1", "Twice", points=2)
def twice(answer):
    x = torch.arange(3.0, dtype=torch.float64)
    return compare(answer(x), 2 * x, "twice x", mistakes={"x were squared": x**2})

@exercise("99.2", "A number", points=3)
def number(answer):
    return compare(answer, 0.25, "the number")

@exercise("99.3", "In words", points=1)
def words(answer):
    return sentence(answer, {"clock": "name the clock."})
"""
LESSON = "seen = [1]\n\ndef helper(x):\n    return x + x"
TWICE = "def twice(x):\n    ### BEGIN SOLUTION (a tensor)\n    return 2 * x\n    ### END SOLUTION"
NUMBER = "### BEGIN SOLUTION (a number)\nanswer_2 = 0.25\n### END SOLUTION"
WORDS = '### BEGIN SOLUTION (a sentence)\nanswer_3 = "It is the clock that counts."\n### END SOLUTION'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Chapter 99: its checks beside the library's, its reader's chapter and a chapter 90 without exercises."""
    folder = tmp_path_factory.mktemp("book")
    (folder / "checks").mkdir()
    (folder / "checks" / "chapter99.py").write_text(CHECKS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exercises, "__path__", [*exercises.__path__, str(folder / "checks")])
        nbformat.write(readers_copy(master(folder)), folder / "99_small.ipynb")
        nbformat.write(new_notebook(cells=[new_code_cell("1")]), folder / "90_tour.ipynb")
        yield folder


def master(folder: Path) -> nbformat.NotebookNode:
    imports = f"import ibmd_minimal.exercises as book\nbook.__path__.append({str(folder / 'checks')!r})\n"
    sources = [
        imports + "from ibmd_minimal.exercises import check\nSEED = 0",
        LESSON,
        *(TWICE, 'check("99.1", twice)', NUMBER, 'check("99.2", answer_2)', WORDS, 'check("99.3", answer_3)'),
        "raise RuntimeError('no exercise')",
    ]
    return new_notebook(
        cells=[new_markdown_cell("# 99", id="t"), *(new_code_cell(s, id=f"c{k}") for k, s in enumerate(sources))]
    )


def returned(folder: Path, path: Path, **changed: str) -> Path:
    """The reader's chapter as a student returns it, cells by id changed, None takes one away; c9 is a new one."""
    notebook = nbformat.read(folder / "99_small.ipynb", as_version=4)
    notebook.cells.append(new_code_cell("", id="c9"))
    for cell in notebook.cells:
        cell.source = changed.get(cell.id, cell.source) or ""
    notebook.cells = [cell for cell in notebook.cells if cell.source]
    nbformat.write(notebook, path)
    return path


def points(graded) -> list[int]:
    return [one.points * found.right for one, found in graded.findings.items()]


def test_a_master_has_full_points_and_a_readers_chapter_none(folder, tmp_path):
    grader = Grader.of(folder)
    nbformat.write(master(folder), tmp_path / "99_small.ipynb")
    full, none = grader.grade(tmp_path / "99_small.ipynb"), grader.grade(folder / "99_small.ipynb")
    assert (full.points, full.total) == (6, 6) and (none.points, none.total) == (0, 6)
    assert [found.says for found in none.findings.values()] == [
        "still to be written: a tensor.",
        "still to be written.",
        "still to be written.",
    ]
    text = str(full)
    assert "99.1      Twice     2 of 2  right: twice x agrees to 1e-06." in text
    assert "A teacher reads it as well." in text and "99.3 in words: It is the clock that counts." in text
    assert "total               6 of 6" in text


def in_this_process(cells, seconds):
    """As `_execute`, but quick: the cells of a notebook without magics."""
    names = {}
    for cell in cells:
        stream = io.StringIO()
        try:
            with contextlib.redirect_stdout(stream):
                exec(compile(cell.source, "<cell>", "exec"), names)
        except Exception as problem:
            cell.outputs.append(new_output("error", ename=type(problem).__name__, evalue=str(problem)))
        cell.outputs.insert(0, new_output("stream", name="stdout", text=stream.getvalue()))
    return ""


@pytest.mark.parametrize(
    ("changed", "wanted", "says"),
    [
        ({"c2": "def twice(x):\n    return x**2", "c4": "answer_2 = 0.25"}, [0, 3, 0], "as if x were squared"),
        ({"c2": "def twice(x):\n    return 2 * y", "c4": "answer_2 = 0.25"}, [0, 3, 0], "NameError"),
        ({"c2": "def twice(x:\n", "c4": "answer_2 = 0.25"}, [0, 3, 0], "NameError: name 'twice' is not defined"),
        ({"c0": "import nothing_of_this_name", "c4": "answer_2 = 0.25"}, [0, 3, 0], "still to be written"),
        ({"c0": "import math", "c4": "answer_2 = math.sqrt(1 / 16)"}, [0, 3, 0], "still to be written"),
        ({"c2": "def twice(x):\n    return helper(x)"}, [2, 0, 0], "right"),
        (
            {"c1": "raise ValueError", "c2": "def twice(x):\n    return helper(x)"},
            [0, 0, 0],
            "NameError: name 'helper'",
        ),
        ({"c9": "def twice(x):\n    return 2 * x"}, [2, 0, 0], "right"),
        ({"c9": 'def twice(x):\n    return x**2\ncheck("99.1", twice)'}, [0, 0, 0], "as if x were squared"),
        ({"c2": "def twice(x):\n    return 2 * x"}, [2, 0, 0], "right"),
        ({"c2": "def twice(x):\n    return 2 * x", "c3": "pass"}, [2, 0, 0], "right"),
        ({"c2": "def twice(x):\n    return 2 * x", "c3": None, "c5": None}, [2, 0, 0], "right"),
        ({"c2": None, "c4": "answer_2 = 0.25"}, [0, 3, 0], "NameError: name 'twice' is not defined"),
        ({"c3": 'check("99.1", lambda x: 2 * x)'}, [0, 0, 0], "still to be written"),
        ({"c2": 'def double(x):\n    return 2 * x\ncheck("99.1", double)'}, [0, 0, 0], "name 'twice' is not defined"),
        ({"c2": 'def twice(x):\n    return 2 * x\ncheck("99.1", twice)', "c3": None}, [2, 0, 0], "right"),
        ({"c2": "check = print\ndef twice(x):\n    return 2 * x"}, [2, 0, 0], "right"),
        ({"c2": "print = None\ndef twice(x):\n    return 2 * x"}, [0, 0, 0], "'NoneType' object is not callable"),
        ({"c1": "raise ValueError('a cell of the lesson')", "c4": "answer_2 = 1 / 4"}, [0, 3, 0], "still to be"),
    ],
)
def test_points_are_given_for_answers_whatever_else_was_done(folder, tmp_path, monkeypatch, changed, wanted, says):
    monkeypatch.setattr(grading, "_execute", in_this_process)
    graded = Grader.of(folder).grade(returned(folder, tmp_path / "99_small.ipynb", **changed))
    assert points(graded) == wanted
    found = next(iter(graded.findings.values()))
    assert says in ("right" if found.right else found.says)


def sources(plan) -> list[str]:
    return [cell.source for _, cell in plan]


def test_only_exercises_and_what_was_added_are_run_at_first(folder):
    reader = read_notebook(folder / "99_small.ipynb")
    student = copy.deepcopy(reader)
    student.cells[2].source = LESSON + "\nseen = [2]"  # a cell of the lesson, changed
    student.cells.insert(3, new_code_cell("mine = 1"))
    ran = sources(grading._plan(student, reader, whole=False))
    assert "mine = 1" in ran and not any("seen" in source or "RuntimeError" in source for source in ran)
    assert ran[0] == reader.cells[1].source and len(ran) == 1 + 1 + 3 + 3 + 3
    whole = sources(grading._plan(student, reader, whole=True))
    assert LESSON + "\nseen = [2]" in whole and "raise RuntimeError('no exercise')" in whole


@pytest.mark.parametrize("where", ["nowhere", "metadata"])
def test_cells_that_lost_their_ids_are_known_by_what_they_hold(folder, where):
    reader = read_notebook(folder / "99_small.ipynb")
    student = copy.deepcopy(reader)
    for cell in student.cells:
        name = cell.pop("id")
        if where == "metadata":  # as Colab does
            cell.metadata["id"] = name
    student.nbformat_minor = 0
    assert sources(grading._plan(student, reader, False)) == sources(grading._plan(reader, reader, False))


# -- in a kernel -----------------------------------------------------------------------------------

STOP = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"


def test_a_kernel_that_dies_costs_what_comes_after(folder, tmp_path, capfd):
    graded = Grader.of(folder).grade(returned(folder, tmp_path / "99_small.ipynb", c4="answer_2 = 0.25", c6=STOP))
    assert points(graded) == [0, 3, 0]
    assert list(graded.findings.values())[2].says == "not reached: the kernel died."
    assert capfd.readouterr().err == ""


def test_an_endless_answer_is_stopped_and_the_others_count(folder, tmp_path):
    endless = "def twice(x):\n    while True: pass"
    path = returned(folder, tmp_path / "99_small.ipynb", c2=endless, c4="answer_2 = 0.25")
    graded = Grader.of(folder, seconds=3).grade(path)
    assert points(graded) == [0, 3, 0]
    assert next(iter(graded.findings.values())).says == "not yet: stopped after 3 s."


# -- the command -----------------------------------------------------------------------------------


def named(folder: Path, name: str, *sources: str) -> Path:
    path = folder / name
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources]), path)
    return path


@pytest.mark.parametrize(
    ("name", "source", "chapter"),
    [
        ("homework.ipynb", 'check("99.2", 1)', 99),
        ("90_tour.ipynb", 'check("99.2", 1)', 99),
        ("99_small.ipynb", "1", 99),
        ("ada 99_small (1).ipynb", "1", 99),
        ("Grace-99.ipynb", 'check("99.", 1)', 99),
    ],
)
def test_the_chapter_is_known_by_checks_or_name(folder, tmp_path, name, source, chapter):
    path = named(tmp_path, name, source)
    assert Grader.of(folder)._chapter(read_notebook(path), path) == chapter


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.ipynb", "", "a.ipynb is empty; wanted a notebook"),
        ("b.ipynb", "no notebook", "b.ipynb is no notebook; wanted a file that Jupyter saved"),
        (
            "homework.ipynb",
            None,
            "is of no chapter, by its checks or its name; wanted one of 90_tour.ipynb, 99_small.ipynb",
        ),
        ("90_tour.ipynb", None, "90_tour.ipynb is chapter 90, which has no exercises"),
    ],
)
def test_what_cannot_be_graded_is_said_in_a_sentence(folder, tmp_path, name, content, says):
    path = tmp_path / name
    named(tmp_path, name, "1") if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        Grader.of(folder).grade(path)
    assert "\n" not in str(refused.value)


def test_several_students_one_row_each(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(grading, "_execute", in_this_process)
    for student, answer in {"ada": "answer_2 = 0.25", "grace": 'answer_2 = "a, =b"'}.items():
        (tmp_path / student / ".ipynb_checkpoints").mkdir(parents=True)
        returned(folder, tmp_path / student / "99_small.ipynb", c4=answer)
        (tmp_path / student / ".ipynb_checkpoints" / "99_small-checkpoint.ipynb").write_text("{}")
    (tmp_path / "x.ipynb").write_text("")
    with pytest.raises(ValueError, match="1 of 4 were not graded"):
        grade_files([tmp_path, tmp_path / "ada" / "99_small.ipynb"], folder, tmp_path / "grades.csv")
    said = capsys.readouterr()
    assert said.err.strip().endswith("x.ipynb is empty; wanted a notebook")
    assert said.out.count("total") == 3 and "3 of 6" in said.out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "grades.csv").read_text())))
    assert [row["points"] for row in rows] == ["3", "0", "", "3"]
    assert rows[0] | {"notebook": ""} == {
        **{"notebook": "", "chapter": "99", "points": "3", "of": "6"},
        **{"99.1": "0", "99.2": "3", "99.3": "0", "in words": "", "problem": ""},
    }
    assert rows[1]["in words"] == "99.2 in words: a, =b"
    assert rows[2]["problem"].endswith("is empty; wanted a notebook")


def test_a_folder_without_notebooks_and_a_path_that_is_not_there(folder, tmp_path, capsys):
    with pytest.raises(ValueError, match="2 of 2 were not graded"):
        grade_files([tmp_path, tmp_path / "none.ipynb"], folder)
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith("holds no notebook; wanted returned chapters, .ipynb")
    assert said[1].endswith("none.ipynb is not there; wanted a returned chapter, .ipynb")


def test_a_folder_without_chapters_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no chapter; wanted the folder of the readers' chapters"):
        Grader.of(tmp_path)


# -- the book --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def readers(tmp_path_factory) -> Path:
    """Readers' chapters fresh from their masters."""
    folder = tmp_path_factory.mktemp("readers")
    for path in MASTERS:
        nbformat.write(copy_of(path), folder / path.name)
    return folder


@pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)
def test_every_master_has_full_points_from_its_exercises_alone(path, readers, monkeypatch):
    runs = []
    monkeypatch.setattr(
        grading, "_execute", lambda cells, seconds: runs.append(cells) or in_this_process(cells, seconds)
    )
    graded = Grader.of(readers).grade(path)
    assert graded.points == graded.total, str(graded)
    assert len(runs) == 1, "an exercise leans on a cell of the lesson"


@pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)
def test_every_readers_chapter_has_none_and_says_what_is_wanted(path, readers, monkeypatch):
    monkeypatch.setattr(grading, "_execute", in_this_process)
    graded = Grader.of(readers).grade(readers / path.name)
    assert graded.points == 0, str(graded)
    assert all(found.says.startswith("still to be written") for found in graded.findings.values()), str(graded)


@pytest.mark.parametrize("path", MASTERS[:1], ids=lambda path: path.stem)
def test_a_real_chapter_in_a_real_kernel(path, readers):
    graded = Grader.of(readers).grade(path)
    assert graded.points == graded.total, str(graded)
