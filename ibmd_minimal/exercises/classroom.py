"""The book for a class: a zip without solutions, and the list of what there is to be earned."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from .._files import write_whole
from .checking import Exercise, exercises_of
from .masters import chapter_of, copy_of, masters_in, read_notebook, without_outputs

FILES = (
    *("README.md", "LICENSE", "CITATION.cff", "Makefile"),
    *("pyproject.toml", "requirements.lock", "environment.yml", "sanitize.cfg", "notebooks/conftest.py"),
)
FOLDERS = ("ibmd_minimal", "assets")
_MADE = {"__pycache__", ".ipynb_checkpoints"}
_HEAD = """# Exercises

`make lab` opens the book. Read a chapter from its first cell, and write your answers where it says
`raise NotImplementedError("exercise ...")` or `answer = ...`. The `check` below each exercise tells at once whether an
answer is right and, if not, often why; try as often as you like. A teacher reads answers in words as well. Return the
notebooks, saved, under their own names; what you changed outside the exercises does not count.
"""


def class_zip(root: Path | str) -> bytes:
    """The zip for students: library, chapters from their masters without outputs, `EXERCISES.md`; no solution, no test.

    `root`: a clone of the book. The same clone gives the same bytes. ValueError for a folder that is none, and for a
    master that gives no reader's chapter.
    """
    root = Path(root)
    missing = [name for name in FILES if not (root / name).is_file()]
    if missing:
        raise ValueError(f"{root.resolve()} lacks {missing[0]}; wanted a clone of the book")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in sorted(_contents(root)):
            entry = zipfile.ZipInfo(f"ibmd-class/{name}")  # whose date is the first that zip knows, 1980
            entry.external_attr, entry.create_system = 0o644 << 16, 3
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def write_class_zip(root: Path | str, out: Path | str) -> list[str]:
    """Write `class_zip(root)` to `out`, whole or not at all; the names in it."""
    content = class_zip(root)
    write_whole(out, content)
    return zipfile.ZipFile(io.BytesIO(content)).namelist()


def _contents(root: Path) -> Iterator[tuple[str, bytes]]:
    for name in FILES:
        yield name, (root / name).read_bytes()
    for path in (path for folder in FOLDERS for path in (root / folder).rglob("*")):
        if path.is_file() and not _MADE & set(path.parts) and not path.name.startswith("."):
            yield path.relative_to(root).as_posix(), path.read_bytes()
    chapters = students_chapters(root / "notebooks")
    for name, notebook in chapters.items():
        yield f"notebooks/{name}", (nbformat.writes(notebook) + "\n").encode()
    yield "EXERCISES.md", exercises_page(chapters).encode()


def students_chapters(folder: Path) -> dict[str, NotebookNode]:
    """Chapters by file name: from their masters, or as they are where they have none; all without outputs."""
    found = {path.name: copy_of(path) for path in masters_in(folder / "solutions")}
    for path in folder.glob("[0-9][0-9]_*.ipynb"):
        if path.name not in found:
            found[path.name] = without_outputs(read_notebook(path))
    return dict(sorted(found.items()))


def exercises_page(chapters: dict[str, NotebookNode]) -> str:
    """A markdown page: how to work, and a table of exercises with titles and points, in sums by chapter and in all."""
    rows, grand = [], 0
    for name, notebook in chapters.items():
        listed = _exercises_in(chapter_of(name))
        rows += [f"| {one.number} | {one.title} | {one.points} |" for one in listed]
        if listed:
            points = sum(one.points for one in listed)
            rows.append(f"| | **{_title(notebook, name)}** | **{points}** |")
            grand += points
    table = ["| exercise | title | points |", "|---|---|---|", *rows, f"| | **in all** | **{grand}** |"]
    return "\n".join([_HEAD, *table, ""])


def _exercises_in(chapter: int) -> list[Exercise]:
    try:
        return exercises_of(chapter)
    except ValueError:
        return []


def _title(notebook: NotebookNode, name: str) -> str:
    """The chapter's first heading, else its file's name."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return cell.source.splitlines()[0].removeprefix("# ")
    return name
