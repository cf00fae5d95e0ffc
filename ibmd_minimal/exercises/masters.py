"""Readers' chapters from their masters: worked solutions out, stubs in, everything else as it is.

A master is a notebook in which solutions stand between nbgrader's marks, `### BEGIN SOLUTION (what is wanted)` and
`### END SOLUTION`. What is kept by hand in two files drifts, so a reader's chapter is never edited.
"""

from __future__ import annotations

import ast
import copy
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from .._files import write_whole
from .checking import find

_BEGIN = re.compile(r"([ \t]*)#+ *BEGIN SOLUTION(?: *\((.*)\))?\s*")
_END = re.compile(r"[ \t]*#+ *END SOLUTION\s*")
_CHECK = re.compile(r"""^[^#\n]*?\bcheck\(\s*["']([^"']*)["']""", re.MULTILINE)
_STUB = re.compile(r'(?:NotImplementedError\("|= \.\.\.  # )exercise (\d+\.\d+)')


@dataclass(frozen=True)
class _Region:
    """The lines first..last of a cell, marks included, their indentation, and what the reader is asked for."""

    first: int
    last: int
    indent: str
    wanted: str


def checks_in(source: str) -> list[str]:
    """The numbers of the exercises that a cell checks, in their order."""
    return _CHECK.findall(source)


def stubs_in(source: str) -> list[str]:
    """The numbers of the exercises that a reader's cell leaves open."""
    return _STUB.findall(source)


def readers_copy(master: NotebookNode) -> NotebookNode:
    """The reader's chapter that a master gives; outputs and execution counts are cleared, cells keep their ids.

    A solution inside a function becomes `raise NotImplementedError("exercise 1.2: what is wanted")`; one at the top
    level sets each of its names that the rest of the cell or the check uses to `...`. The number is that of the next
    cell with a `check`. ValueError, naming the cell, for a mark without its partner, a solution without a check, and a
    check that does not exist.
    """
    reader = without_outputs(master)
    for place, cell in enumerate(reader.cells):
        try:
            cell.source = _without_solutions(cell, reader.cells[place + 1 :])
        except ValueError as problem:
            raise ValueError(f"cell {cell.get('id', place)} of the master: {problem}") from None
    return reader


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    """A copy of a notebook as if it had never been run: outputs and execution counts cleared."""
    cleared = copy.deepcopy(notebook)
    for cell in cleared.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return cleared


def _without_solutions(cell: NotebookNode, below: list[NotebookNode]) -> str:
    regions, lines = _regions(cell.source), cell.source.splitlines()
    if cell.cell_type != "code":
        if regions:
            raise ValueError(f"it is {cell.cell_type} and holds a solution; wanted solutions in code cells")
        return cell.source
    for number in checks_in(cell.source):
        find(number)
    if not regions:
        return cell.source
    tree, check = _parsed(cell.source), _next_check(below)
    for region in reversed(regions):
        lines[region.first : region.last + 1] = _stub(region, lines, tree, check)
    _parsed("\n".join(lines))
    return "\n".join(lines)


def _regions(source: str) -> list[_Region]:
    """The solutions of a cell; ValueError for marks that do not come in pairs."""
    found, begun = [], None
    for place, line in enumerate(source.splitlines()):
        begin, end = _BEGIN.fullmatch(line), _END.fullmatch(line)
        if (begin and begun) or (end and not begun):
            raise ValueError(f"{line.strip()!r} has no partner; wanted BEGIN and END SOLUTION in turn")
        if begin:
            begun = place, begin[1], begin[2] or ""
        elif end:
            found.append(_Region(begun[0], place, *begun[1:]))
            begun = None
        elif re.search("(BEGIN|END) SOLUTION", line):
            raise ValueError(f"{line.strip()!r} is no mark; wanted '### BEGIN SOLUTION (what)' on a line of its own")
    if begun:
        raise ValueError("a solution is not closed; wanted '### END SOLUTION' below '### BEGIN SOLUTION'")
    return found


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as problem:
        where = f"{problem.msg}, line {problem.lineno}"
        raise ValueError(f"with or without its solution it is no Python ({where})") from None


def _next_check(below: list[NotebookNode]) -> tuple[str, str]:
    """Number and source of the first check in the cells below."""
    for cell in below:
        if cell.cell_type == "code" and (numbers := checks_in(cell.source)):
            return numbers[0], cell.source
    raise ValueError('no check follows its solution; wanted a cell below that calls check("chapter.place", answer)')


def _stub(region: _Region, lines: list[str], tree: ast.Module, check: tuple[str, str]) -> list[str]:
    """The lines that stand for a solution in the reader's chapter."""
    number, elsewhere = check
    body = [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and _within(node, region)]
    if not body:
        raise ValueError("its solution has no statement; wanted the worked answer between the marks")
    if any(isinstance(node, ast.FunctionDef) and _holds(node, body[0]) for node in ast.walk(tree)):
        text = f"exercise {number}: {region.wanted}" if region.wanted else f"exercise {number}"
        return [f"{region.indent}raise NotImplementedError({json.dumps(text, ensure_ascii=False)})"]
    if region.indent:
        raise ValueError("its solution is indented but in no function; wanted it in a function or at the top level")
    used = set(re.findall(r"\w+", "\n".join([*lines[: region.first], *lines[region.last + 1 :], elsewhere])))
    names = [name for name in _assigned([node for node in tree.body if node in body]) if name in used]
    if not names:
        raise ValueError(f"its solution sets no name that the check of exercise {number} uses")
    hint = f"  # exercise {number}: {region.wanted}" if region.wanted else f"  # exercise {number}"
    return [f"{name} = ...{hint}" for name in names]


def _within(node: ast.stmt, region: _Region) -> bool:
    return region.first < node.lineno - 1 < region.last


def _holds(function: ast.FunctionDef, node: ast.stmt) -> bool:
    return function.lineno < node.lineno <= function.end_lineno


def _assigned(body: list[ast.stmt]) -> list[str]:
    """Names that statements at the top level set, each once, in order."""
    names = []
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            names += [one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
    return list(dict.fromkeys(names))


def chapter_of(path: Path | str) -> int | None:
    """The chapter that a file's name begins with; None if it begins with no two digits and `_`."""
    found = re.match(r"(\d\d)_", Path(path).name)
    return int(found[1]) if found else None


def read_notebook(path: Path | str) -> NotebookNode:
    """A notebook from a file; ValueError, in a sentence, for anything else."""
    path = Path(path)
    text = path.read_bytes()
    if not text.strip():
        raise ValueError(f"{path} is empty; wanted a notebook")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cells without an id, which some editors drop
            notebook = nbformat.reads(text.decode(), as_version=4)
        assert all(isinstance(cell.source, str) for cell in notebook.cells)
    except Exception:
        raise ValueError(f"{path} is no notebook; wanted a file that Jupyter saved as .ipynb") from None
    return notebook


def masters_in(folder: Path | str) -> list[Path]:
    """The masters of a folder, `NN_name.ipynb`, in the order of the chapters."""
    return sorted(path for path in Path(folder).glob("*.ipynb") if chapter_of(path) is not None)


def copy_of(path: Path | str) -> NotebookNode:
    """The reader's chapter that a master's file gives; ValueError, naming the file, as `readers_copy`."""
    try:
        reader = readers_copy(read_notebook(path))
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None
    for number in (number for cell in reader.cells if cell.cell_type == "code" for number in checks_in(cell.source)):
        if int(number.split(".")[0]) != chapter_of(path):
            raise ValueError(f"{path} checks exercise {number}; wanted exercises of its own chapter")
    return reader


def kept(notebook: NotebookNode) -> list[tuple[str | None, str, str, list[str]]]:
    """What a reader's chapter shares with its master's copy: ids, types, sources and tags of its cells."""
    return [(cell.get("id"), cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]


def write_readers_chapters(masters_folder: Path | str, folder: Path | str) -> list[Path]:
    """Write every reader's chapter that is not what its master gives, without outputs; the paths written.

    The others are left untouched, with the outputs they store. Nothing is written unless every master gives a copy.
    """
    written = []
    for path, reader in [(path, copy_of(path)) for path in masters_in(masters_folder)]:
        target = Path(folder) / path.name
        if not (target.exists() and kept(read_notebook(target)) == kept(reader)):
            write_whole(target, (nbformat.writes(reader) + "\n").encode())
            written.append(target)
    return written
