"""Returned notebooks to points: the chapter's own checks, run on the student's answers in a kernel of their own.

This runs the students' code. The chapter's imports and checks are put back; what a student changed in the lesson
does not count, unless an answer leans on it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from .._files import write_whole
from .checking import Exercise, Finding, exercises_of
from .gradebook import Graded, as_csv
from .masters import chapter_of, checks_in, read_notebook, stubs_in

_CHECKED = """from ibmd_minimal.exercises import check
{check}
import json
from ibmd_minimal.exercises import ledger
print(json.dumps(vars(ledger()["{number}"])))"""


@dataclass(frozen=True)
class Grader:
    """Grades returned notebooks against the readers' chapters of a folder.

    `seconds`: how long one cell may run; it is interrupted then, and counts as one that raised.
    """

    chapters: dict[int, NotebookNode]
    names: dict[int, str]
    seconds: int = 60

    @classmethod
    def of(cls, folder: Path | str, seconds: int = 60) -> Grader:
        """A grader with the chapters of a folder; ValueError if there are none."""
        paths = {chapter_of(path): path for path in sorted(Path(folder).glob("[0-9][0-9]_*.ipynb"))}
        if not paths:
            raise ValueError(f"{folder} holds no chapter; wanted the folder of the readers' chapters, NN_name.ipynb")
        if seconds < 1:
            raise ValueError(f"a cell may run for {seconds} s; wanted at least 1")
        read = {chapter: read_notebook(path) for chapter, path in paths.items()}
        return cls(read, {chapter: path.stem for chapter, path in paths.items()}, seconds)

    def grade(self, path: Path | str) -> Graded:
        """Run a returned notebook and judge its answers; ValueError, in a sentence, for what is no returned chapter.

        Imports, exercises, checks and what the student added are run first. Where an answer then misses a name, the
        whole notebook is run, as the student did.
        """
        path = Path(path)
        returned = read_notebook(path)
        chapter = self._chapter(returned, path)
        exercises = exercises_of(chapter)
        graded = Graded(path, chapter, self._findings(returned, chapter, exercises, whole=False))
        if any("NameError" in found.says for found in graded.findings.values()):
            again = Graded(path, chapter, self._findings(returned, chapter, exercises, whole=True))
            graded = max(again, graded, key=lambda one: one.points)
        return graded

    def _chapter(self, returned: NotebookNode, path: Path) -> int:
        """The chapter that a notebook's checks are of; without checks, the one that its file is named after."""
        numbers = [number for cell in _code(returned) for number in checks_in(cell.source)]
        checked = Counter(int(number.split(".")[0]) for number in numbers if re.fullmatch(r"\d+\.\d+", number))
        named = [chapter for chapter, name in self.names.items() if name in path.stem]
        named += [int(digits) for digits in re.findall(r"(?<!\d)\d{1,2}(?!\d)", path.stem)]
        for chapter in [chapter for chapter, _ in checked.most_common()] + named:
            if chapter in self.chapters:
                if not any(checks_in(cell.source) for cell in _code(self.chapters[chapter])):
                    raise ValueError(f"{path} is chapter {chapter:02d}, which has no exercises; nothing to grade")
                return chapter
        given = ", ".join(f"{name}.ipynb" for name in self.names.values())
        raise ValueError(f"{path} is of no chapter, by its checks or its name; wanted one of {given}")

    def _findings(
        self, returned: NotebookNode, chapter: int, exercises: list[Exercise], whole: bool
    ) -> dict[Exercise, Finding]:
        plan = _plan(returned, self.chapters[chapter], whole)
        stopped = _execute([cell for _, cell in plan], self.seconds)
        found = {one.number: Finding(False, stopped or "its check is missing.") for one in exercises}
        for number, cell in plan:
            if number in found and not found[number].right:
                found[number] = _finding(cell, self.seconds) or found[number]
        return {one: found[one.number] for one in exercises}


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def _id(cell: NotebookNode) -> str | None:
    """A cell's id, which Colab moves to the metadata."""
    return cell.metadata.get("id") or cell.get("id")


def _plan(returned: NotebookNode, reader: NotebookNode, whole: bool) -> list[tuple[str, NotebookNode]]:
    """The cells to run, each with the number of the exercise if it is our own check of it.

    Ours: the imports, the chapter's check behind each of the student's, and every check once more at the end, for
    answers that were written further down. The student's: exercises, and what was added; with `whole` the rest of the
    lesson too.
    """
    imports, *others = _code(reader)
    checks = {number: cell for cell in others for number in checks_in(cell.source)}
    numbers = {_id(cell): number for number, cell in checks.items()}
    lesson = [cell for cell in others if not (checks_in(cell.source) or stubs_in(cell.source))]
    known = {_id(cell) for cell in lesson} | {cell.source for cell in lesson}
    own = {imports.source} | {cell.source for cell in checks.values()}
    plan = [("", new_code_cell(imports.source, metadata={"imports": True}))]
    for cell in _code(returned):
        if cell.source not in own and (whole or not {_id(cell), cell.source} & known):
            plan.append(("", new_code_cell(cell.source)))
        for number in dict.fromkeys([*checks_in(cell.source), numbers.get(_id(cell))]):
            if number in checks:
                plan.append((number, _checking(number, checks[number])))
    return plan + [(number, _checking(number, cell)) for number, cell in checks.items()]


def _checking(number: str, check: NotebookNode) -> NotebookNode:
    """The chapter's check, with its import in case the student's name `check` is something else, and its finding."""
    return new_code_cell(_CHECKED.format(number=number, check=check.source))


def _execute(cells: list[NotebookNode], seconds: int) -> str:
    """Run cells in a fresh kernel and an empty folder, going on after errors; what ended it early, if anything did."""
    quiet = logging.getLogger(f"{__name__}.kernel")
    quiet.disabled = True
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    with TemporaryDirectory() as folder:
        client = NotebookClient(
            new_notebook(cells=cells),
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            resources={"metadata": {"path": folder}},
            timeout_func=lambda cell: max(seconds, 120) if cell.metadata.get("imports") else seconds,
            interrupt_on_timeout=True,
            allow_errors=True,
            log=quiet,
        )
        try:
            client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
        except RuntimeError:  # nbclient's DeadKernelError, and a kernel that does not even start
            return "not reached: the kernel died."
    return ""


def _finding(cell: NotebookNode, seconds: int) -> Finding | None:
    """What a check of ours found, or why it found nothing; None if it was not reached."""
    for output in cell.outputs:
        if output.output_type == "error" and output.ename == "KeyboardInterrupt":
            return Finding(False, f"not yet: stopped after {seconds} s.")
        if output.output_type == "error":
            return Finding(False, f"not yet: {output.ename}: {' '.join(output.evalue.split())}")
    printed = "".join(output.text for output in cell.outputs if output.get("name") == "stdout").splitlines()
    try:
        return Finding(**json.loads(printed[-1]))
    except (IndexError, ValueError, TypeError):
        return None


def _notebooks_in(path: Path) -> list[Path]:
    """The notebooks of a folder, without what Jupyter keeps as checkpoints; a file is itself."""
    if not path.exists():
        raise ValueError(f"{path} is not there; wanted a returned chapter, .ipynb")
    found = sorted(path.rglob("*.ipynb")) if path.is_dir() else [path]
    found = [one for one in found if ".ipynb_checkpoints" not in one.parts]
    if not found:
        raise ValueError(f"{path} holds no notebook; wanted returned chapters, .ipynb")
    return found


def grade_all(paths: Iterable[Path | str], grader: Grader) -> Iterator[Graded | tuple[Path, str]]:
    """Grade notebooks and folders of them, one after the other; for what cannot be graded, the path and why."""
    for path in map(Path, paths):
        try:
            notebooks = _notebooks_in(path)
        except ValueError as problem:
            yield path, str(problem)
            continue
        for notebook in notebooks:
            try:
                yield grader.grade(notebook)
            except (ValueError, OSError) as problem:
                yield notebook, str(problem)


def grade_files(
    paths: Iterable[Path | str], chapters: Path | str, out: Path | str | None = None, seconds: int = 60
) -> None:
    """Print a table for each returned notebook, and write one row for each to `out`.

    What cannot be graded is named on stderr, and makes it fail, with a ValueError, at the end.
    """
    grader, results = Grader.of(chapters, seconds), []
    for result in grade_all(paths, grader):
        results.append(result)
        if isinstance(result, Graded):
            print(f"{result}\n", flush=True)
        else:
            print(result[1], file=sys.stderr, flush=True)
    if out is not None:
        write_whole(out, as_csv(results).encode())
    failed = sum(not isinstance(result, Graded) for result in results)
    if failed:
        raise ValueError(f"{failed} of {len(results)} were not graded; wanted returned chapters, .ipynb")
