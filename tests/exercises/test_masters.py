"""Readers' chapters from their masters, on a small master and on every one there is."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ibmd_minimal import exercises
from ibmd_minimal.exercises import exercises_of
from ibmd_minimal.exercises.masters import (
    chapter_of,
    checks_in,
    copy_of,
    kept,
    masters_in,
    read_notebook,
    readers_copy,
    stubs_in,
    write_readers_chapters,
)

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
MASTERS = masters_in(NOTEBOOKS / "solutions")
CHAPTERS = sorted(path for path in NOTEBOOKS.glob("*.ipynb") if chapter_of(path) is not None)

FUNCTION = '''def double(x):
    """Twice x."""
    ### BEGIN SOLUTION (a tensor of x's shape)
    # doubled, because
    y = x + x
    return y
    ### END SOLUTION
'''
VALUE = """\
unit = "cm"
### BEGIN SOLUTION (two numbers)
helper = 3
low, high = helper - 1, helper + 1
### END SOLUTION
print(unit)"""


@pytest.fixture(autouse=True)
def chapter_98(tmp_path_factory, monkeypatch):
    """A chapter with three exercises, which exists while a test runs."""
    folder = tmp_path_factory.mktemp("checks")
    lines = ["from ibmd_minimal.exercises.checking import Finding, exercise"]
    for place, points in enumerate((2, 1, 3), 1):
        lines.append(f'@exercise("98.{place}", "Title {place}", {points})')
        lines.append(f"def judge_{place}(answer): return Finding(True, 'good.')")
    (folder / "chapter98.py").write_text("\n".join(lines))
    monkeypatch.setattr(exercises, "__path__", [*exercises.__path__, str(folder)])


def notebook(*sources: str) -> nbformat.NotebookNode:
    """Code cells, and markdown where a source begins with #."""
    cells = []
    for k, source in enumerate(sources):
        make = new_markdown_cell if source.startswith("# ") else new_code_cell
        cells.append(make(source, id=f"c{k:02d}"))
    return new_notebook(cells=cells)


def copied(*sources: str) -> list[str]:
    return [cell.source for cell in readers_copy(notebook(*sources)).cells]


def test_a_solution_in_a_function_becomes_an_error_that_says_what_is_wanted():
    (stub, check) = copied(FUNCTION, 'check("98.1", double)')
    assert stub == (
        'def double(x):\n    """Twice x."""\n    raise NotImplementedError("exercise 98.1: a tensor of x\'s shape")'
    )
    assert check == 'check("98.1", double)'
    assert stubs_in(stub) == ["98.1"] and checks_in(check) == ["98.1"]


def test_a_solution_at_the_top_level_leaves_the_names_that_its_check_uses():
    stub, _ = copied(VALUE, 'check("98.2", low + high)')
    hint = "  # exercise 98.2: two numbers"
    assert stub == f'unit = "cm"\nlow = ...{hint}\nhigh = ...{hint}\nprint(unit)'
    assert stubs_in(stub) == ["98.2", "98.2"]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        (
            "class A:\n    def f(self):\n        ### BEGIN SOLUTION\n        return 1\n        ### END SOLUTION",
            'class A:\n    def f(self):\n        raise NotImplementedError("exercise 98.1")',
        ),
        ("### BEGIN SOLUTION\ndef A():\n    z = 1\n    return z\n### END SOLUTION", "A = ...  # exercise 98.1"),
        ("### BEGIN SOLUTION (x)\nA: float = 2.0\n### END SOLUTION\n", "A = ...  # exercise 98.1: x"),
        (
            'def A():\n    ### BEGIN SOLUTION (a "b" \\ c)\n    return 1\n    ### END SOLUTION',
            'def A():\n    raise NotImplementedError("exercise 98.1: a \\"b\\" \\\\ c")',
        ),
        (
            "def A(b):\n    ### BEGIN SOLUTION (x₀)\n    b = 1\n    ### END SOLUTION\n    return b\n\n"
            "### BEGIN SOLUTION (y)\nB = A(1)\n### END SOLUTION",
            'def A(b):\n    raise NotImplementedError("exercise 98.1: x₀")\n    return b\n\n'
            "B = ...  # exercise 98.1: y",
        ),
    ],
    ids=["method", "whole function", "annotated", "quotes", "two in a cell"],
)
def test_solutions_of_other_forms(source, wanted):
    stub, _ = copied(source, 'check("98.1", (A, B))')
    assert stub.rstrip() == wanted
    compile(stub, "<stub>", "exec")


def test_each_solution_has_the_number_of_the_next_check():
    stubs = copied(VALUE, 'check("98.2", low)', "# Words", FUNCTION, 'check("98.3", double)')
    assert stubs_in(stubs[0]) == ["98.2"] and stubs_in(stubs[3]) == ["98.3"]


def test_the_copy_keeps_ids_and_everything_else_and_clears_what_was_put_out():
    master = notebook("# Title", "1 + 1", FUNCTION, 'check("98.1", double)')
    master.cells[1].outputs = [nbformat.v4.new_output("stream", text="2")]
    master.cells[1].execution_count = 3
    before = nbformat.writes(master)
    reader = readers_copy(master)
    assert nbformat.writes(master) == before
    assert [cell.id for cell in reader.cells] == [cell.id for cell in master.cells]
    assert reader.cells[1].outputs == [] and reader.cells[1].execution_count is None
    assert reader.cells[1].source == "1 + 1" and reader.cells[0] == master.cells[0]
    assert kept(readers_copy(reader)) == kept(reader)


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        (("def f():\n    ### BEGIN SOLUTION\n    return 1", 'check("98.1", f)'), "cell c00.*is not closed"),
        (("x = 1\n### END SOLUTION", 'check("98.1", x)'), "cell c00.*has no partner"),
        (("### BEGIN SOLUTION\nx = 1\n### BEGIN SOLUTION\n### END SOLUTION", 'check("98.1", x)'), "has no partner"),
        (("### BEGIN SOLUTION a number\nx = 1\n### END SOLUTION", 'check("98.1", x)'), "is no mark; wanted"),
        (("x = 1", FUNCTION, "print(1)"), "cell c01.*no check follows"),
        ((FUNCTION, 'check("98.7", double)'), "cell c01.*no exercise 98.7; wanted one of 98.1, 98.2, 98.3"),
        ((FUNCTION, 'check("97.1", double)'), "cell c01.*chapter 97 has no exercises"),
        ((FUNCTION, 'check("first", double)'), "cell c01.*'first' is no exercise's number"),
        (("if True:\n    ### BEGIN SOLUTION\n    x = 1\n    ### END SOLUTION", 'check("98.1", x)'), "in no function"),
        (("### BEGIN SOLUTION\nprint(1)\n### END SOLUTION", 'check("98.1", x)'), "sets no name that the check of"),
        (("### BEGIN SOLUTION\n# words\n### END SOLUTION", 'check("98.1", x)'), "has no statement"),
        (("### BEGIN SOLUTION\nx = = 1\n### END SOLUTION", 'check("98.1", x)'), "no Python"),
        (("# Words\n### BEGIN SOLUTION\nx\n### END SOLUTION", 'check("98.1", x)'), "is markdown and holds a solution"),
    ],
)
def test_a_master_that_gives_no_copy_is_refused_in_a_sentence_with_the_cell(sources, says):
    with pytest.raises(ValueError, match=says) as refused:
        copied(*sources)
    assert "\n" not in str(refused.value)


def master_at(folder: Path, name: str = "98_small.ipynb", *more: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    nbformat.write(notebook("# Title", FUNCTION, 'check("98.1", double)', *more), path)
    return path


def test_chapters_are_written_where_their_source_differs_and_only_there(tmp_path):
    master_at(tmp_path / "solutions")
    target = tmp_path / "98_small.ipynb"
    assert write_readers_chapters(tmp_path / "solutions", tmp_path) == [target]
    assert kept(read_notebook(target)) == kept(copy_of(tmp_path / "solutions" / "98_small.ipynb"))
    ran = read_notebook(target)
    ran.cells[2].outputs = [nbformat.v4.new_output("stream", text="still to be written")]
    ran.cells[2].execution_count = 2
    nbformat.write(ran, target)
    assert write_readers_chapters(tmp_path / "solutions", tmp_path) == []
    assert read_notebook(target).cells[2].execution_count == 2
    master_at(tmp_path / "solutions", "98_small.ipynb", "1 + 1")
    assert write_readers_chapters(tmp_path / "solutions", tmp_path) == [target]
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_written_if_one_master_is_refused(tmp_path):
    master_at(tmp_path / "solutions", "97_other.ipynb")
    master_at(tmp_path / "solutions")
    with pytest.raises(ValueError, match="97_other.ipynb checks exercise 98.1; wanted exercises of its own chapter"):
        write_readers_chapters(tmp_path / "solutions", tmp_path)
    assert not list(tmp_path.glob("*.ipynb"))


@pytest.mark.parametrize("content", [b"", b"  \n", b"\x89PNG", b"{}", b"[1]", b'{"cells": 3, "nbformat": 4}', b"null"])
def test_what_is_no_notebook_is_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "98_small.ipynb"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"98_small.ipynb is (empty|no notebook); wanted"):
        read_notebook(path)


# -- the book --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)
def test_the_readers_chapter_is_what_its_master_gives(path):
    stored = NOTEBOOKS / path.name
    assert stored.exists(), f"{path.name} has no reader's chapter; run make notebooks"
    assert kept(read_notebook(stored)) == kept(copy_of(path)), f"{path.name} has drifted; run make notebooks"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_with_exercises_has_a_master(path):
    text = [cell.source for cell in read_notebook(path).cells if cell.cell_type == "code"]
    checked = [number for source in text for number in checks_in(source)]
    assert not checked or (NOTEBOOKS / "solutions" / path.name).exists()
    assert "SOLUTION" not in "".join(text)


@pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)
def test_exercises_are_numbered_in_order_worth_points_and_each_checked_once(path):
    known = exercises_of(chapter_of(path))
    code = [cell.source for cell in read_notebook(path).cells if cell.cell_type == "code"]
    checked = [number for source in code for number in checks_in(source)]
    assert checked == [one.number for one in known]
    assert checked == [f"{chapter_of(path)}.{place}" for place in range(1, len(known) + 1)]
    assert 3 <= len(known) <= 5 and 7 <= sum(one.points for one in known) <= 12
    prose = "\n".join(cell.source for cell in read_notebook(path).cells if cell.cell_type == "markdown")
    for one in known:
        points = f"{one.points} point{'s' if one.points > 1 else ''}"
        assert f"Exercise {one.number} ({points})" in prose, f"exercise {one.number} is announced otherwise"
    stubs = [number for cell in copy_of(path).cells for number in stubs_in(cell.source)]
    assert set(stubs) == set(checked)


def test_every_chapter_of_checks_has_a_notebook():
    folder = Path(exercises.__file__).parent
    numbers = {int(path.stem[-2:]) for path in folder.glob("chapter[0-9][0-9].py")}
    assert numbers <= {chapter_of(path) for path in MASTERS} or not MASTERS
