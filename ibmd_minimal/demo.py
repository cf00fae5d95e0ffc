"""`make demo`: the whole story in three minutes, in the plane and on a photograph."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor

from .checkpoints import load_model
from .data.images import halve, load, to_float
from .evaluation import table
from .metrics import psnr
from .plane import distill_plane_student, plane_figure_data, plane_report, train_plane_teacher
from .recipes import Recipe, recipe
from .restoring import restorer, source_of

PHOTO_NFES = (1, 10, 100)


def plane_part(out: Path, seed: int) -> None:
    """Train, distil, measure and draw the 2D example."""
    from .plotting import plane_figure

    teacher = train_plane_teacher(seed=seed)
    student = distill_plane_student(teacher, seed=seed)
    report = plane_report(teacher, student, seed=seed)
    print(report.text())
    plane_figure(*plane_figure_data(teacher, student, seed)).savefig(out / "plane.jpg", pil_kwargs={"quality": 90})


def photograph() -> Tensor:
    """A photograph that no model here was trained on, uint8 `(3, 256, 256)`: scikit-image's astronaut at half size."""
    return halve(load("photos", "train")[0])


def restored(task: Recipe, photo: Tensor, seed: int) -> list[tuple[str, Tensor, float | None]]:
    """Input, student in one step, teacher in 1, 10 and 100: `(what, image, seconds)`, and the truth last."""
    xT = source_of(photo, task, clean=True)[0]
    found: list[tuple[str, Tensor, float | None]] = [("input", xT[0], None)]
    student, teacher = (load_model(f"{task.name}-{role}") for role in ("student", "teacher"))
    for what, model, nfe in [("student", student, 1), *[("teacher", teacher, nfe) for nfe in PHOTO_NFES]]:
        run = restorer(task, model, nfe, seed)
        start = time.perf_counter()
        image = run(xT)[0]
        found.append((f"{what}, NFE {nfe}", image, time.perf_counter() - start))
    return [*found, ("truth", to_float(photo), None)]


def photo_part(out: Path, seed: int) -> None:
    """Restore the photograph with the shipped checkpoints, print what each took, draw them side by side."""
    from .plotting import photo_figure

    task = recipe("sr4x-pool")
    found = restored(task, photograph(), seed)
    truth = found[-1][1]
    rows = [
        (what, f"{float(psnr(image[None], truth[None])):.2f}", "-" if seconds is None else f"{seconds:.2f}")
        for what, image, seconds in found[:-1]
    ]
    print(table(rows, ("256x256 photograph", "PSNR dB", "seconds")))
    figure = photo_figure([image for _, image, _ in found], [what for what, _, _ in found], detail=(40, 70, 72))
    figure.savefig(out / "photograph.jpg", pil_kwargs={"quality": 90})


def run(out: Path, seed: int = 0) -> None:
    """Both parts; figures to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    torch.manual_seed(seed)
    plane_part(out, seed)
    print()
    photo_part(out, seed)
    print(f"\nfigures in {out}/, {time.perf_counter() - start:.0f} s in all on {torch.get_num_threads()} threads")
