"""Training an image task's teacher and its students, in folders of runs that an interruption does not hurt."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from . import _checks as check
from .checkpoints import checksum, load_model, machine, save_model, weights_of
from .compute import distillation_cost
from .inverse import distillation
from .matching import train
from .networks import Denoiser
from .recipes import Budget, Coupling, Recipe, recipe
from .students import Student, ToldFake, student_from
from .training import world, write_whole

BUDGETS = ("small", "small_several", "full")  # a recipe's fields that say how long it trains, not what


@dataclass
class Trained:
    """What a training returns: the model, where its card stands, and the losses."""

    model: Denoiser | Student
    card: Path
    history: list[dict[str, float]]


def scaled(plan: Budget, steps: int | None, role: str) -> Budget:
    """The budget with another number of steps, where one is asked for."""
    return plan if steps is None else replace(plan, **{f"{role}_steps": check.count(steps, "steps")})


def run_folder(runs: Path | str, task: Recipe, budget: str, role: str, seed: int) -> Path:
    """Where a run saves itself and resumes from."""
    return Path(runs) / task.name / budget / f"{role}-seed{seed}"


def student_role(nfe: int) -> str:
    """What the student of `nfe` passes is called in names of folders and checkpoints: "student", "student-2", ..."""
    return "student" if nfe == 1 else f"student-{nfe}"


def nfe_of(role: str) -> int:
    """The passes of the student of this role, 1 for a teacher's."""
    return int(role.partition("-")[2] or 1)


def teacher_of(name: str, budget: str = "small", runs: Path | str = "runs", seed: int = 0) -> Denoiser:
    """A recipe's teacher: the one trained in `runs` under this budget and seed, else the shipped one.

    The shipped ones are of the small budget; where another is asked for, a line says so.
    """
    own = run_folder(runs, recipe(name), budget, "teacher", seed) / f"{name}-teacher.json"
    if not own.exists() and budget != "small":
        print(
            f"no teacher of {name} of the {budget} budget in {runs}: the shipped one, small, teaches", file=sys.stderr
        )
    return load_model(own if own.exists() else f"{name}-teacher", role="teacher")


@contextlib.contextmanager
def clocked(folder: Path, settings: dict) -> Iterator[Callable[[], float]]:
    """A block in which the run in `folder` begins or goes on; yields its hours so far, a function.

    Hours and settings are kept in `about.json`. ValueError where the folder holds a run of other settings.
    """
    path, rank, settings = folder / "about.json", world()[0], json.loads(json.dumps(settings))
    about = json.loads(path.read_text()) if path.exists() else {"settings": settings, "hours": 0.0}
    for key in sorted(settings.keys() | about["settings"].keys()):
        then, now = (one.get(key, "missing") for one in (about["settings"], settings))
        if then != now:
            got = f"the run in {folder} has {key} {then!r} and this one {now!r}"
            raise ValueError(f"{got}; wanted the same, or another folder of runs")
    start = time.monotonic()

    def hours() -> float:
        return about["hours"] + (time.monotonic() - start) / 3600

    try:
        yield hours
    finally:
        if rank == 0:
            write_whole(path, json.dumps({"settings": settings, "hours": hours()}).encode())


def settings_of(task: Recipe, plan: Budget, role: str, seed: int, data: str) -> dict:
    """What has to be the same for a run of `role` to go on: all that it uses but the number of steps."""
    others = (
        ("teacher_", "start")
        if role != "teacher"
        else ("student", "fake_", "gradient", "betas", "head_start", "from_xT")
    )
    free = ("name", *BUDGETS, "enlarge", "students", f"{role.partition('-')[0]}_steps")
    every = asdict(task) | asdict(plan) | {"seed": seed, "data": data}
    return {key: value for key, value in every.items() if key not in free and not key.startswith(others)}


def coupling_of(task: Recipe, runs: Path | str) -> tuple[Coupling, str]:
    """What is trained on, and a few words for the card; says so aloud where BSDS500 is missing."""
    coupling = task.coupling("train", Path(runs) / "solids")
    words, *missing = coupling.words.split(": ", 1)
    if missing:
        print(f"{words}: {missing[0]}", file=sys.stderr)
    return coupling, words


def _beginning(task: Recipe, plan: Budget, seed: int, runs: Path | str, budget: str) -> tuple[Denoiser, dict]:
    """The teacher before training, and for the card whose weights it begins from."""
    network = task.network(plan, seed)
    if plan.start is None:
        return network, {}
    other = teacher_of(plan.start, budget, runs, seed)
    return network.widen(other), {"started_from": checksum(weights_of(other))}


def train_teacher(
    task: Recipe,
    budget: str = "small",
    *,
    runs: Path | str = "runs",
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
    progress: bool = True,
    precision: str = "auto",
) -> Trained:
    """Train the recipe's teacher by bridge matching, saving every 200 steps to `runs` and resuming from there.

    Writes `runs/NAME/BUDGET/teacher-seedS/NAME-teacher.safetensors` and its card. ValueError where that folder holds a
    run of other settings, and for a recipe that takes its teachers from others.
    """
    if task.teachers:
        raise ValueError(f"{task.name} has no teacher of its own; wanted one of {', '.join(task.teachers)}, or distill")
    plan, folder = scaled(task.budget(budget), steps, "teacher"), run_folder(runs, task, budget, "teacher", seed)
    coupling, data = coupling_of(task, runs)
    model, origin = _beginning(task, plan, seed, runs, budget)
    options = {"steps": plan.teacher_steps, "cosine": plan.teacher_steps, "lr": plan.teacher_lr, "warmup": 200}
    options |= {"weight": task.weight, "times": plan.teacher_drawn, "ema": task.teacher_ema, "clip": 1.0}
    options |= {"precision": precision, "every": 200, "seed": seed, "folder": folder, "progress": progress}
    with clocked(folder, settings_of(task, plan, "teacher", seed, data) | origin) as hours:
        pairs = task.pairs(coupling, plan.teacher_batch, seed)
        model, history = train(model.to(device), task.make_bridge(), pairs, **options)
        card = _card(task, budget, plan, "teacher", data, seed, history, hours(), device) | origin
    return _saved(folder, task, "teacher", model, card, history)


def _parts(task: Recipe, teacher: Denoiser | Sequence[Denoiser], nfe: int, device: str) -> dict:
    """Teacher, bridge, student and fake as :func:`inverse.distillation` takes them; with labels where teachers are
    several."""
    teachers = [one.to(device) for one in (teacher if isinstance(teacher, Sequence) else [teacher])]
    first = teachers[0].with_labels(len(teachers)) if task.teachers else teachers[0]
    anchor = task.anchor(nfe)
    student = student_from(first, task.make_bridge(), task.times(nfe), anchor, head_start=task.head_start)
    if not task.teachers:
        told = {"fake": ToldFake(first, student.times)} if anchor == "xT" else {}
        return {"teacher": first, "bridge": task.make_bridge(), "student": student} | told
    return {"teacher": teachers, "bridge": task.make_bridge(), "student": student, "fake": first}


def distill_student(
    task: Recipe,
    teacher: Denoiser | Sequence[Denoiser],
    budget: str = "small",
    *,
    nfe: int = 1,
    runs: Path | str = "runs",
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
    progress: bool = True,
    precision: str = "auto",
) -> Trained:
    """Distil a student of `nfe` passes, seeing corrupted images only, saving every 50 updates to `runs`.

    `teacher`: one, or a list, one for each of `task.teachers`. Writes `NAME-student.safetensors`, or for more passes
    `NAME-student-NFE.safetensors`, and its card to `runs/NAME/BUDGET/student...-seedS`. ValueError where that folder
    holds a run of other settings or of another teacher, and for an `nfe` that is not one of the recipe's.
    """
    role = student_role(nfe)
    plan, folder = scaled(task.budget(budget, nfe), steps, "student"), run_folder(runs, task, budget, role, seed)
    parts = _parts(task, teacher, nfe, device)
    coupling, data = coupling_of(task, runs)
    origin = {
        "teacher": [checksum(weights_of(one)) for one in teacher] if task.teachers else checksum(weights_of(teacher))
    }
    options = {"steps": plan.student_steps, "fake_steps": plan.fake_steps, "lr": plan.student_lr, "warmup": 20}
    options |= {"fake_lr": plan.fake_lr, "gradient": task.gradient, "betas": task.betas, "every": 50}
    options |= {"fake_betas": task.fake_betas, "fake_warmup": plan.fake_warmup}
    options |= {"weight": task.student_weight or task.weight, "times": plan.student_drawn}
    options |= {"ema": task.student_ema, "clip": 1.0}
    options |= {"precision": precision, "seed": seed, "folder": folder, "progress": progress}
    if plan.student_share:
        options |= {"ema": 0.999, "ema_share": plan.student_share}
    if plan.student_cool:
        options |= {"cosine": plan.student_steps, "flat": max(0, plan.student_steps - plan.student_cool)}
    with clocked(folder, settings_of(task, plan, role, seed, data) | origin) as hours:
        sources = task.sources(coupling, plan.student_batch, seed + 1)
        for learner, history in distillation(**parts, sources=sources, **options):
            pass
        student = learner.finish().eval()
        card = _card(task, budget, plan, role, data, seed, history, hours(), device) | origin
    return _saved(folder, task, role, student, card, history)


def peak_memory(device: str) -> int:
    """The most memory that this process has held so far, in MB: of the GPU where `device` is one."""
    if torch.device(device).type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


def passes(plan: Budget, role: str) -> int:
    """Network passes of a training, one for each picture, as `compute.py` counts them. A teacher's step costs 3."""
    if role == "teacher":
        return 3 * plan.teacher_steps * plan.teacher_batch
    cost = distillation_cost(plan.student_batch, plan.fake_steps, plan.fake_warmup, nfe_of(role))
    return cost.total(plan.student_steps)


def _card(
    task: Recipe, budget: str, plan: Budget, role: str, data: str, seed: int, history, hours: float, device: str
) -> dict:
    settings = {key: value for key, value in asdict(task).items() if key not in ("name", *BUDGETS)}
    return {
        "recipe": task.name,
        "budget": budget,
        "data": data,
        "seed": seed,
        "steps": len(history),
        "settings": settings | asdict(plan),
        "hours": round(hours, 2),
        "memory_mb": peak_memory(device),
        "passes": passes(plan, role),
        "machine": machine(device),
    }


def _saved(folder: Path, task: Recipe, role: str, model: Denoiser | Student, card: dict, history) -> Trained:
    """The finished run; the first process of a group writes it down."""
    stem = folder / f"{task.name}-{role}"
    path = save_model(stem, model, card | {"role": role}) if world()[0] == 0 else stem.with_name(f"{stem.name}.json")
    return Trained(model, path, history)
