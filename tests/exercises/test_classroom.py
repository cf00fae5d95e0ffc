"""The zip for students: everything to work with, no solution, the same bytes each time."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from pathlib import Path

import nbformat
import pytest

from ibmd_minimal.__main__ import main
from ibmd_minimal.exercises import exercises_of
from ibmd_minimal.exercises.classroom import FILES, class_zip, students_chapters, write_class_zip
from ibmd_minimal.exercises.masters import chapter_of, kept, masters_in, read_notebook

ROOT = Path(__file__).resolve().parents[2]
MASTERS = masters_in(ROOT / "notebooks" / "solutions")


@pytest.fixture(scope="module")
def packed() -> dict[str, bytes]:
    archive = zipfile.ZipFile(io.BytesIO(class_zip(ROOT)))
    assert archive.testzip() is None
    return {name.removeprefix("ibmd-class/"): archive.read(name) for name in archive.namelist()}


def notebooks_of(packed: dict[str, bytes]) -> dict[str, nbformat.NotebookNode]:
    names = [name for name in packed if name.endswith(".ipynb")]
    return {Path(name).name: nbformat.reads(packed[name].decode(), as_version=4) for name in names}


def test_it_holds_the_library_and_what_it_is_run_with(packed):
    for name in FILES:
        assert packed[name] == (ROOT / name).read_bytes()
    for path in (ROOT / "ibmd_minimal").rglob("*.py"):
        assert packed[path.relative_to(ROOT).as_posix()] == path.read_bytes()
    assert {f"assets/{kind}" for kind in ("checkpoints/sr4x-pool-student.safetensors", "figures/plane.jpg")} <= set(
        packed
    )


def test_it_holds_no_test_no_master_and_nothing_left_behind(packed):
    for name in packed:
        assert not name.startswith(("tests", "notebooks/solutions", "build", "runs", ".")), name
        assert not re.search(r"__pycache__|checkpoints/\.|\.pyc$|\.part$|/\.", name), name


def test_every_chapter_is_in_it_opens_and_has_not_been_run(packed):
    found = notebooks_of(packed)
    chapters = {path.name for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")} | {one.name for one in MASTERS}
    assert set(found) == chapters and "00_one_step.ipynb" in found
    for notebook in found.values():
        nbformat.validate(notebook)
        for cell in notebook.cells:
            assert cell.cell_type != "code" or (cell.outputs == [] and cell.execution_count is None)
    tour = read_notebook(ROOT / "notebooks" / "00_one_step.ipynb")
    assert kept(found["00_one_step.ipynb"]) == kept(tour)


@pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)
def test_no_line_of_a_solution_is_in_it(packed, path):
    text = "\n".join(packed[name].decode() for name in packed if name.endswith((".ipynb", ".md")))
    assert "SOLUTION" not in text
    lines = solution_lines(path)
    assert lines
    shown = "\n".join(cell.source for cell in notebooks_of(packed)[path.name].cells)
    own = lines - {line.strip() for line in shown.splitlines()}  # some, as `return x`, stand in the lesson too
    assert len(own) > len(lines) / 2
    assert not [line for line in own if line in shown]


def solution_lines(path: Path) -> set[str]:
    """The lines between a master's marks, without blank ones and those of two or three letters."""
    found = set()
    for cell in read_notebook(path).cells:
        for region in re.findall(r"BEGIN SOLUTION[^\n]*\n(.*?)\n[^\n]*END SOLUTION", cell.source, re.DOTALL):
            found |= {line.strip() for line in region.splitlines() if len(line.strip()) > 3}
    return found


def test_the_page_lists_every_exercise_with_sums(packed):
    page = packed["EXERCISES.md"].decode()
    known = [one for path in MASTERS for one in exercises_of(chapter_of(path))]
    for one in known:
        assert f"| {one.number} | {one.title} | {one.points} |" in page
    for path in MASTERS:
        points = sum(one.points for one in exercises_of(chapter_of(path)))
        assert re.search(rf"\| \| \*\*{path.stem[:2]} [^|]+\*\* \| \*\*{points}\*\* \|", page)
    assert f"| | **in all** | **{sum(one.points for one in known)}** |" in page


def test_the_same_book_gives_the_same_bytes(tmp_path):
    names = write_class_zip(ROOT, tmp_path / "a" / "class.zip")
    digest = hashlib.sha256(class_zip(ROOT)).hexdigest()
    assert hashlib.sha256((tmp_path / "a" / "class.zip").read_bytes()).hexdigest() == digest
    assert names == sorted(names) and all(name.startswith("ibmd-class/") for name in names)
    assert {entry.date_time[0] for entry in zipfile.ZipFile(tmp_path / "a" / "class.zip").infolist()} == {1980}


def test_it_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path / "full").write_text("a file where a folder is wanted")
    with pytest.raises(OSError, match="cannot be written"):
        write_class_zip(ROOT, tmp_path / "full" / "class.zip")
    with pytest.raises(ValueError, match="lacks README.md; wanted a clone of the book"):
        write_class_zip(tmp_path, tmp_path / "class.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_chapter_comes_from_its_master_whatever_the_stored_one_holds(tmp_path):
    solutions = tmp_path / "solutions"
    solutions.mkdir()
    cell = nbformat.v4.new_code_cell("1 + 1", outputs=[nbformat.v4.new_output("stream", text="2")], execution_count=1)
    one = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 98 Title"), cell])
    nbformat.write(one, solutions / "98_a.ipynb")
    cell.source = "answer = 'stored by hand'"
    nbformat.write(one, tmp_path / "98_a.ipynb")
    nbformat.write(one, tmp_path / "97_b.ipynb")
    found = students_chapters(tmp_path)
    assert list(found) == ["97_b.ipynb", "98_a.ipynb"]
    assert found["98_a.ipynb"].cells[1].source == "1 + 1"
    assert found["97_b.ipynb"].cells[1].source == cell.source and found["97_b.ipynb"].cells[1].outputs == []


# -- the page for teachers, and the commands -------------------------------------------------------


@pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)
def test_the_plan_of_the_course_has_this_chapters_points(path):
    chapter = chapter_of(path)
    known = exercises_of(chapter)
    (row,) = re.findall(rf"^\| {chapter} \| .*$", (ROOT / "TEACHING.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"| {chapter}.1 to {known[-1].number}, {sum(one.points for one in known)} points |" in row
    assert f"| {read_notebook(path).cells[0].source.splitlines()[0].removeprefix('# ').split(':')[0]} |" in row


def test_commands_for_a_class(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["class", "--out", str(tmp_path / "class.zip")]) == 0
    assert re.search(r"class.zip: \d+ files, \d+\.\d MB", capsys.readouterr().out)
    assert zipfile.is_zipfile(tmp_path / "class.zip")
    assert main(["chapters", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.glob("*.ipynb")} == {path.name for path in MASTERS}
    assert capsys.readouterr().out.count("written anew") == len(MASTERS)
    assert main(["chapters", "--out", str(tmp_path)]) == 0
    assert main(["chapters", "--masters", str(tmp_path / "none")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "is what its master gives" in first and second.endswith("none holds no masters")
    (tmp_path / "00_one_step.ipynb").write_text("")
    assert main(["grade", str(tmp_path / "00_one_step.ipynb"), "--out", str(tmp_path / "grades.csv")]) == 2
    assert (tmp_path / "grades.csv").read_text().splitlines()[0] == "notebook,chapter,points,of,in words,problem"
    assert capsys.readouterr().err.splitlines()[-1].startswith("ibmd_minimal grade: 1 of 1 were not graded")
