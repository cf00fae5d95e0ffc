"""One task measured from end to end: the exam, teacher and students sitting it, the results printed and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from .checkpoints import card_of, load_model, machine, shipped
from .data.couplings import Photographs
from .data.images import to_float
from .evaluation import (
    COLUMNS,
    Agreement,
    Exam,
    agreement,
    clock,
    formatted,
    mean,
    student_row,
    table,
    teacher_at,
    teacher_rows,
)
from .metrics import consistency, psnr, ssim
from .networks import Denoiser
from .recipes import Recipe, recipe
from .restoring import restorer
from .results import farther, note, results, teachers_best
from .runs import peak_memory, student_role
from .sources import corrupted, source_of
from .students import Student

WHOLE = 50
TIMED = 5_000  # passes
COSTS = ("steps", "hours", "passes", "memory_mb", "machine", "sha256")


def students_of(task: Recipe) -> list[str]:
    """Names of the task's shipped students; of the one-step student if there are none."""
    names = [f"{task.name}-{student_role(nfe)}" for nfe in task.students]
    return [name for name in names if name in shipped()] or names[:1]


def costs(name: str) -> dict:
    """What a checkpoint's card says its training took."""
    card = card_of(name)
    return {key: card[key] for key in COSTS if key in card}


def whole(
    task: Recipe,
    photographs: Sequence[Tensor],
    teacher: Denoiser,
    students: Sequence[Student],
    seed: int,
    label,
    nfes: Sequence[int],
) -> Iterator[dict]:
    """Yield rows as JSON of whole photographs, restored by the students and by the teacher at the NFE of `nfes`."""
    sources = [(to_float(photo)[None], source_of(photo, task, clean=True)[0]) for photo in photographs]
    models = [("student", one.nfe, one) for one in students] + [("teacher", nfe, teacher) for nfe in nfes]
    for who, nfe, model in models:
        restore = restorer(task, model, nfe, seed, label=label if who == "student" else None)
        start = clock()
        found = [(x0, xT, restore(xT)) for x0, xT in sources]
        seconds = (clock() - start) / len(found)
        row = {"who": who, "nfe": nfe, "n": len(found), "seconds": seconds}
        for name, values in {
            "psnr": [psnr(y, x0) for x0, _, y in found],
            "ssim": [ssim(y, x0) for x0, _, y in found],
            "consistency": [consistency(y, xT, lambda y: corrupted(y, task)) for _, xT, y in found],
        }.items():
            row[name], row[f"{name}_error"] = mean(torch.cat(values))
        yield row


def said(seen: Agreement) -> str:
    """What was found of the mean over `z`, in three lines."""
    return (
        f"mean of {seen.draws} student samples against the teacher's single step: mean square {seen.gap:.6f} "
        f"({seen.gap_error:.6f}), of which {seen.gap_noise:.6f} is the noise of {seen.draws} draws\n"
        f"E Var_z G {seen.variance:.6f}, "
        f"{seen.diversity:.3f} ({seen.diversity_error:.3f}) of the teacher's squared error at NFE 1, "
        f"{seen.teacher_error:.6f}\nPSNR of that mean {seen.mean_psnr:.2f} ({seen.mean_psnr_error:.2f}) dB"
    )


def measure(
    task: Recipe,
    name: str,
    n: int = 2000,
    nfes: Sequence[int] = (1, 5, 20, 100),
    teacher: str | None = None,
    student: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    keep: bool = False,
    again: bool = False,
    whole_nfes: Sequence[int] = (1, 20),
) -> dict:
    """Measure the teacher called `name` and the task's students, print the table, keep it in the results if asked.

    `teacher`, `student`: checkpoints other than the shipped ones. `name` differs from the task's where it has several
    teachers; the student is told which then. `again`: the teacher's rows that the results have are kept, only timed
    anew, and those of `nfes` that they lack are added; ValueError where they are of other weights, pictures or seed.
    `whole_nfes`: the teacher's passes on whole photographs.
    """
    if teacher and task.teachers:
        raise ValueError(f"teacher {teacher} for {task.name}, which has {len(task.teachers)}; wanted none named")
    coupling, label = recipe(name).coupling("test"), task.teachers.index(name) if task.teachers else None
    names = [teacher or f"{name}-teacher", *([student] if student else students_of(task))]
    guide, *students = (load_model(one, device, role) for one, role in zip(names, ["teacher"] + ["student"] * 9))
    print(f"{name}: {n} pictures of {coupling.words}\n", flush=True)
    measured = _measured(name, names[0], n, seed) if again else []
    exam, rows, outputs, best = Exam.set(coupling, n, seed), [], [], None
    for row, y in _rows(exam, guide, students, nfes, seed, label, measured):
        rows.append(row)
        outputs += [y] if row["who"] == "student" else []
        best = y if row is teachers_best({"rows": rows}) else best
        print("  ".join(formatted(row)), flush=True)
    rows.sort(key=lambda row: row["nfe"] if row["who"] == "teacher" else 0)  # kept ones may have more passes than new
    print("\n" + table([formatted(row) for row in rows], COLUMNS) + "\n")
    _compare(exam, guide, rows, outputs, best, seed)
    seen = {str(one.nfe): agreement(exam, guide, one, guide.bridge, 16, seed, label) for one in students}
    for nfe, one in seen.items():
        print(f"student of NFE {nfe}: {said(one)}\n", flush=True)
    entry = {"data": coupling.words.partition(": ")[0], "n": n, "seed": seed, "machine": machine(device)}
    entry |= {
        "memory_mb": peak_memory(device),
        "rows": rows,
        "agreement": {nfe: asdict(one) for nfe, one in seen.items()},
    }
    if isinstance(coupling, Photographs) and not recipe(name).pasted:
        entry["whole"] = list(whole(recipe(name), coupling.images[:WHOLE], guide, students, seed, label, whole_nfes))
    entry["training"] = {one: costs(one) for one in names}
    if keep:
        note(f"{task.name}/{name}" if task.teachers else name, entry)
    return entry


def _rows(
    exam: Exam, teacher: Denoiser, students: Sequence[Student], nfes, seed: int, label, measured: list[dict]
) -> Iterator[tuple[dict, Tensor | None]]:
    """Rows as JSON and their outputs, None of rows that are kept."""
    new = [*exam.reference_rows(), *(student_row(exam, one, seed, label) for one in students)]
    yield from ((row.noted(), row.outputs) for row in new)
    for row in measured:
        restore = teacher_at(teacher, teacher.bridge, row["nfe"], seed, row["method"], row["grid"])
        yield row | {"seconds": exam.first(max(1, TIMED // row["nfe"])).restored(restore)[1]}, None
    known = {row["nfe"] for row in measured}
    missing = [nfe for nfe in nfes if nfe not in known]
    yield from ((row.noted(), row.outputs) for row in teacher_rows(exam, teacher, teacher.bridge, missing, seed))


def _compare(
    exam: Exam, teacher: Denoiser, rows: list[dict], outputs: Sequence[Tensor], best: Tensor | None, seed: int
) -> None:
    """Note in the students' rows how much farther their `outputs` are than the teacher's best, on the same pictures.

    `best`: what that one made; where it is None, it is made again.
    """
    row = teachers_best({"rows": rows})
    if row is None:
        return
    sampler = {key: row[key] for key in ("nfe", "method", "grid")}
    if best is None:
        best, _ = exam.restored(teacher_at(teacher, teacher.bridge, seed=seed, **sampler))
    for own, y in zip((own for own in rows if own["who"] == "student"), outputs, strict=True):
        own["farther"], own["farther_error"] = exam.excess(y, best)
        if exam.fine_ruler:
            own["fine_farther"], own["fine_farther_error"] = exam.excess(y, best, fine=True)
        print(f"student of NFE {own['nfe']}: {farther(own)} farther than the teacher's best, of NFE {row['nfe']}\n")


def _measured(name: str, teacher: str, n: int, seed: int) -> list[dict]:
    """The teacher's rows as the results have them."""
    entry = results().get(name, {})
    then = entry.get("n"), entry.get("seed"), entry.get("training", {}).get(teacher, {}).get("sha256")
    if then != (n, seed, card_of(teacher)["sha256"]):
        raise ValueError(
            f"the results have no rows of {teacher} on {n} pictures of seed {seed}; wanted a whole measure"
        )
    return [row for row in entry["rows"] if row["who"] == "teacher"]
