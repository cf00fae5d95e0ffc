"""What a returned notebook was given: as a table to read, and as a row beside those of the others."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .checking import Exercise, Finding


@dataclass(frozen=True)
class Graded:
    """A returned notebook: its chapter's exercises, each with what its check found."""

    path: Path
    chapter: int
    findings: dict[Exercise, Finding]

    @property
    def points(self) -> int:
        """The points of the exercises that are right."""
        return sum(one.points for one, found in self.findings.items() if found.right)

    @property
    def total(self) -> int:
        """The points that there were to be had."""
        return sum(one.points for one in self.findings)

    @property
    def written(self) -> list[str]:
        """Answers in words, each behind its exercise's number: they want a reader."""
        return [f"{one.number} in words: {found.written}" for one, found in self.findings.items() if found.written]

    def __str__(self) -> str:
        from ..evaluation import table

        rows = [
            (one.number, one.title, f"{one.points * found.right} of {one.points}", _remark(found))
            for one, found in self.findings.items()
        ]
        rows.append(("total", "", f"{self.points} of {self.total}", ""))
        header = ("exercise", "title", "points", "what the check said")
        return "\n".join([f"{self.path}, chapter {self.chapter:02d}", table(rows, header), *self.written])


def _remark(found: Finding) -> str:
    right = "right: " if found.right else ""
    return f"{right}{found.says}{' A teacher reads it as well.' if found.written else ''}"


def as_csv(results: Iterable[Graded | tuple[Path, str]]) -> str:
    """One row a notebook: points in all and of each exercise; for one that could not be graded, why."""
    results = list(results)
    graded = [one for one in results if isinstance(one, Graded)]
    numbers = sorted({e.number for one in graded for e in one.findings}, key=lambda n: [int(k) for k in n.split(".")])
    stream = io.StringIO()
    columns = ["notebook", "chapter", "points", "of", *numbers, "in words", "problem"]
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    for one in results:
        if isinstance(one, Graded):
            points = {e.number: e.points * found.right for e, found in one.findings.items()}
            sums = {"notebook": one.path, "chapter": one.chapter, "points": one.points, "of": one.total}
            writer.writerow(sums | points | {"in words": "; ".join(one.written)})
        else:
            writer.writerow({"notebook": one[0], "problem": one[1]})
    return stream.getvalue()
