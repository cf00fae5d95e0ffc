"""What was measured of every task, in one file, and the tables that the README and the chapters make of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from . import _checks as check
from .evaluation import COLUMNS, bracketed, formatted
from .training import write_whole

FILE = Path(__file__).resolve().parents[1] / "assets" / "results.json"
MOST = 100  # passes of the teacher that a student is held against
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def results(path: Path | str = FILE) -> dict[str, dict]:
    """What was measured, by task; "multi/jpeg-10" is what the student of several teachers does for one of them."""
    path = Path(path)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def result(name: str, path: Path | str = FILE) -> dict:
    """One task's entry: data, crops, seed, machine, rows, agreement; ValueError for one not measured."""
    found = results(path)
    return found[check.choice(name, "result", found)]


def note(name: str, entry: dict, path: Path | str = FILE) -> None:
    """Put one task's entry into the file, in place of what stood there."""
    found = dict(sorted((results(path) | {name: entry}).items()))
    write_whole(path, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())


def markdown(entry: dict) -> str:
    """A task's rows as a table in Markdown, without the columns in which nothing was measured."""
    return _piped(COLUMNS, [formatted(row) for row in entry["rows"]])


def _piped(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown without the columns that have "-" in every row."""
    kept = [k for k in range(len(header)) if any(row[k] != "-" for row in rows)]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line[k] for k in kept) + " |" for line in lines)


def means(entry: dict) -> str:
    """For each student a sentence on the mean of its samples over z, beside the teacher's single step."""
    step = next(row for row in entry["rows"] if row["who"] == "teacher" and row["nfe"] == 1)
    said = (
        "Student of NFE {nfe}: its variance over z is {diversity} of the teacher's squared error at NFE 1. "
        "The mean of {draws} draws has a PSNR of {mean_psnr} dB, the teacher's single step {psnr:.2f}; "
        "the two differ by a mean square of {gap}, of which {gap_noise:.5f} is the noise of {draws} draws."
    )
    digits = {"diversity": 3, "mean_psnr": 2, "gap": 5}

    def filled(nfe: str, one: dict) -> str:
        numbers = {name: bracketed(one, name, n) for name, n in digits.items()}
        return said.format(**one | numbers | {"nfe": nfe, "psnr": step["psnr"]})

    return "\n".join(filled(nfe, one) for nfe, one in entry["agreement"].items())


def whole_photographs(entry: dict) -> str:
    """The table of photographs restored whole; "" where none were."""
    names = (("psnr", 2), ("ssim", 3), ("consistency", 4))
    rows = [
        (row["who"], str(row["nfe"]), *(bracketed(row, *one) for one in names), _seconds(row))
        for row in entry.get("whole", [])
    ]
    if not rows:
        return ""
    header = (f"{entry['whole'][0]['n']} whole photographs", "NFE", "PSNR dB", "SSIM", "consistency", "s each")
    return _piped(header, rows)


def _seconds(row: dict) -> str:
    return f"{row['seconds']:.2f}" if "seconds" in row else "-"


def trainings(found: dict[str, dict]) -> str:
    """What each checkpoint's training took: steps, network passes, hours by the clock, memory at most."""
    every = {name: one for entry in found.values() for name, one in entry["training"].items()}
    rows = [
        (
            name,
            f"{one['steps']:,}",
            f"{one['passes'] / 1e6:.2f}",
            f"{one['hours']:.2f}",
            str(one.get("memory_mb", "-")),
            one["machine"]["device"],
        )
        for name, one in sorted(every.items())
    ]
    return _piped(("trained", "steps", "M passes", "hours", "MB", "on"), rows)


def teachers_best(entry: dict) -> dict | None:
    """The teacher's row of least Fréchet distance, of those in at most `MOST` passes; None if there are none."""
    rows = [row for row in entry["rows"] if row["who"] == "teacher" and row["nfe"] <= MOST]
    return min(rows, key=lambda row: row["frechet"], default=None)


def summary(found: dict[str, dict]) -> str:
    """One line a task: floor, the teacher's best distance in at most `MOST` passes, the students', how much farther
    they are by both rulers, the speed-up in seconds and, in brackets, in passes."""
    header = ["task", "floor", "corrupted", f"teacher, best to {MOST} (NFE)", "student (NFE)", "farther by (error)"]
    header += ["with grain", "diversity", "times faster (fewer passes)"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for name, entry in found.items():
        rows = {who: [row for row in entry["rows"] if row["who"] == who] for who in ("floor", "xT", "student")}
        best = teachers_best(entry)
        students = ", ".join(_distance(row) for row in rows["student"])
        diversity = ", ".join(f"{one['diversity']:.2f}" for one in entry["agreement"].values())
        speed = ", ".join(
            f"{best['seconds'] / row['seconds']:.0f} ({best['nfe'] / row['nfe']:.0f})" for row in rows["student"]
        )
        reference = [f"{rows[who][0]['frechet']:.2f}" for who in ("floor", "xT")]
        beyond = [_beyond(rows["student"], name) for name in ("farther", "fine_farther")]
        lines.append("| " + " | ".join([name, *reference, _distance(best), students, *beyond, diversity, speed]) + " |")
    return "\n".join(lines)


def farther(row: dict, name: str = "farther") -> str:
    """How much farther a student is than its teacher's best, with its sign and standard error; "-" if unmeasured.

    `name`: "fine_farther" for the distance that sees grain.
    """
    return f"{row[name]:+.2f} ({row[f'{name}_error']:.2f})" if name in row else "-"


def _beyond(students: Sequence[dict], name: str) -> str:
    """:func:`farther` of each student, or one "-" where none was measured."""
    return ", ".join(farther(row, name) for row in students) if any(name in row for row in students) else "-"


def _distance(row: dict) -> str:
    method = ", DBIM" if row.get("method") == "dbim" else ""
    return f"{row['frechet']:.2f} ({row['nfe']}{method})"


def rendered(found: dict[str, dict]) -> str:
    """All that the README shows: the summary, below it what was measured of each task, and what the trainings took."""
    parts = [summary(found)]
    for name, entry in found.items():
        where = f"{entry['machine']['device']}, {entry['machine']['cpu']}"
        title = (
            f"{name}: {entry['n']} pictures, {entry['data']}; seed {entry['seed']}; {where}, {entry['memory_mb']} MB"
        )
        inner = "\n\n".join(part for part in (markdown(entry), means(entry), whole_photographs(entry)) if part)
        parts.append(f"<details><summary>{title}</summary>\n\n{inner}\n\n</details>")
    parts.append(f"<details><summary>What the trainings took</summary>\n\n{trainings(found)}\n\n</details>")
    return "\n\n".join(parts)


def with_results(text: str, found: dict[str, dict]) -> str:
    """A text with what stands between its two marks replaced by the results; ValueError where a mark is missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text has not both marks; wanted {BEGIN} and, below it, {END}")
    return f"{before}{BEGIN}\n\n{rendered(found)}\n\n{END}{after}"
