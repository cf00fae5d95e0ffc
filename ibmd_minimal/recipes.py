"""Image tasks as recipes: what is corrupted how, which bridge, which network, how long.

A task costs one :class:`Recipe` here and one function in `data/corruptions.py`. Each recipe has a `small` budget (two
CPU cores, under an hour for both) and a `full` one (a GPU). Everything random is a function of `(seed, step)`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from . import _checks as check
from .bridges import Bridge, bridge_from
from .checkpoints import checksum, machine, save_model, weights_of
from .data.corruptions import corrupt
from .data.images import random_crops, training_photographs
from .inverse import distillation
from .matching import train
from .networks import Denoiser, UNet
from .students import Student, student_from
from .training import Batches, world, write_whole


@dataclass(frozen=True)
class Budget:
    """How long and how fast: steps, batch sizes and learning rates of teacher and student."""

    teacher_steps: int = 4000
    teacher_batch: int = 64
    teacher_lr: float = 1e-3
    student_steps: int = 500
    student_batch: int = 32
    fake_steps: int = 3
    fake_warmup: int = 150
    student_lr: float = 3e-5
    fake_lr: float = 4e-4
    widths: tuple[int, ...] = (64, 128, 128)
    blocks: int = 1


@dataclass(frozen=True)
class Recipe:
    """One image task. `bridge`: family and parameters; `sigma0`, `sigmaT`, `covariance`: second moments of the data, in
    [-1, 1], for the preconditioning; `weight`: a name of `matching.WEIGHTS`; `half`: photographs at half size;
    `multiple`: what height and width have to be multiples of for the corruption; `enlarge`: by how much `restore`
    enlarges the files it is given."""

    name: str
    corruption: str
    bridge: dict = field(default_factory=lambda: {"family": "i2sb", "beta_max": 0.3})
    conditional: bool = False
    half: bool = True
    size: int = 32
    sigma0: float = 0.5
    sigmaT: float = 0.5
    covariance: float = 0.0
    weight: str = "soft"
    times: tuple[float, ...] = (1.0,)
    gradient: str = "full"
    head_start: tuple[float, float] | None = None
    teacher_ema: float = 0.999
    student_ema: float = 0.98
    betas: tuple[float, float] = (0.5, 0.99)
    fake_betas: tuple[float, float] = (0.9, 0.99)
    multiple: int = 1
    enlarge: int = 1
    small: Budget = Budget()
    full: Budget = Budget(60_000, 256, 4e-4, 10_000, 256, 5, 500, 3e-5, 2e-4, (128, 256, 256), 2)

    def budget(self, name: str) -> Budget:
        """The budget called "small" or "full"."""
        return getattr(self, check.choice(name, "budget", ("small", "full")))

    def make_bridge(self) -> Bridge:
        """The recipe's bridge."""
        return bridge_from(**self.bridge)

    def network(self, budget: Budget, seed: int) -> Denoiser:
        """The teacher before training, a function of the seed."""
        moments = {"sigma0": self.sigma0, "sigmaT": self.sigmaT, "covariance": self.covariance}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return UNet(self.make_bridge(), 3, budget.widths, budget.blocks, conditional=self.conditional, **moments)

    def pairs(self, images: Sequence[Tensor], batch: int, seed: int) -> Batches:
        """Batches `(x0, xT)` of crops and their corruptions: what a teacher learns from."""

        def make(draws) -> tuple[Tensor, Tensor]:
            x0 = random_crops(images, batch, self.size, draws)
            return x0, corrupt(self.corruption, x0)

        return Batches(make, seed)

    def sources(self, images: Sequence[Tensor], batch: int, seed: int) -> Batches:
        """Batches of `xT` alone: all that a student's training sees."""
        return Batches(lambda draws: corrupt(self.corruption, random_crops(images, batch, self.size, draws)), seed)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        # Pooling is a projection, so Cov(x0, xT) = sigmaT²; measured on 4,000 crops of BSDS500's training photographs.
        # The head start is the one whose spread is the teacher's error at NFE 1, as it has to be in the end.
        Recipe(
            "sr4x-pool",
            "sr4x-pool",
            sigma0=0.5065,
            sigmaT=0.4816,
            covariance=0.2319,
            head_start=(0.85, 0.155),
            multiple=4,
            enlarge=4,
        ),
        Recipe(
            "sr4x-bicubic",
            "sr4x-bicubic",
            sigma0=0.5063,
            sigmaT=0.4824,
            covariance=0.2320,
            head_start=(0.85, 0.155),
            multiple=4,
            enlarge=4,
        ),
        Recipe("jpeg-10", "jpeg-10", sigma0=0.5063, sigmaT=0.5040, covariance=0.2474, multiple=16),
    )
}


def recipe(name: str) -> Recipe:
    """A recipe by name; a typo is answered with the nearest one."""
    return RECIPES[check.choice(name, "recipe", RECIPES)]


@dataclass
class Trained:
    """What a training returns: the model, where its card stands, and the losses."""

    model: Denoiser | Student
    card: Path
    history: list[dict[str, float]]


def scaled(plan: Budget, steps: int | None, role: str) -> Budget:
    """The budget with another number of steps, where one is asked for."""
    return plan if steps is None else replace(plan, **{f"{role}_steps": check.count(steps, "steps")})


def run_folder(runs: Path | str, recipe: Recipe, budget: str, role: str, seed: int) -> Path:
    """Where a run saves itself and resumes from."""
    return Path(runs) / recipe.name / budget / f"{role}-seed{seed}"


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


def settings_of(recipe: Recipe, plan: Budget, role: str, seed: int, data: str) -> dict:
    """What has to be the same for a run of `role` to go on: all that it uses but the number of steps."""
    others = ("teacher_",) if role == "student" else ("student_", "fake_", "times", "gradient", "betas", "head_start")
    free = ("name", "small", "full", "enlarge", f"{role}_steps")
    every = asdict(recipe) | asdict(plan) | {"seed": seed, "data": data}
    return {key: value for key, value in every.items() if key not in free and not key.startswith(others)}


def photographs(recipe: Recipe) -> tuple[list[Tensor], str]:
    """What is trained on, and a few words for the card; says so aloud where BSDS500 is missing."""
    images, data = training_photographs("train", half=recipe.half)
    data, *missing = data.split(": ", 1)
    if missing:
        print(f"{data}: {missing[0]}", file=sys.stderr)
    return images, data


def train_teacher(
    recipe: Recipe,
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
    run of other settings.
    """
    plan, folder = scaled(recipe.budget(budget), steps, "teacher"), run_folder(runs, recipe, budget, "teacher", seed)
    images, data = photographs(recipe)
    options = {"steps": plan.teacher_steps, "cosine": plan.teacher_steps, "lr": plan.teacher_lr, "warmup": 200}
    options |= {"weight": recipe.weight, "ema": recipe.teacher_ema, "clip": 1.0, "precision": precision, "every": 200}
    with clocked(folder, settings_of(recipe, plan, "teacher", seed, data)) as hours:
        model, pairs = recipe.network(plan, seed).to(device), recipe.pairs(images, plan.teacher_batch, seed)
        model, history = train(
            model, recipe.make_bridge(), pairs, **options, seed=seed, folder=folder, progress=progress
        )
        card = _card(recipe, budget, plan, data, seed, history, hours(), device)
    return _saved(folder, recipe, "teacher", model, card, history)


def distill_student(
    recipe: Recipe,
    teacher: Denoiser,
    budget: str = "small",
    *,
    runs: Path | str = "runs",
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
    progress: bool = True,
    precision: str = "auto",
) -> Trained:
    """Distil the recipe's student from a teacher, seeing corrupted images only, saving every 50 updates to `runs`.

    Writes `runs/NAME/BUDGET/student-seedS/NAME-student.safetensors` and its card. ValueError where that folder holds a
    run of other settings or of another teacher.
    """
    plan, folder = scaled(recipe.budget(budget), steps, "student"), run_folder(runs, recipe, budget, "student", seed)
    images, data = photographs(recipe)
    bridge, origin = recipe.make_bridge(), {"teacher": checksum(weights_of(teacher))}
    options = {"steps": plan.student_steps, "fake_steps": plan.fake_steps, "lr": plan.student_lr, "warmup": 20}
    options |= {"fake_lr": plan.fake_lr, "gradient": recipe.gradient, "betas": recipe.betas, "every": 50}
    options |= {"fake_betas": recipe.fake_betas, "fake_warmup": plan.fake_warmup}
    options |= {"weight": recipe.weight, "ema": recipe.student_ema, "clip": 1.0, "precision": precision}
    with clocked(folder, settings_of(recipe, plan, "student", seed, data) | origin) as hours:
        student = student_from(teacher.to(device), bridge, recipe.times, head_start=recipe.head_start)
        sources = recipe.sources(images, plan.student_batch, seed + 1)
        for learner, history in distillation(
            teacher, bridge, student, sources, **options, seed=seed, folder=folder, progress=progress
        ):
            pass
        student = learner.finish().eval()
        card = _card(recipe, budget, plan, data, seed, history, hours(), device) | origin
    return _saved(folder, recipe, "student", student, card, history)


def _card(recipe: Recipe, budget: str, plan: Budget, data: str, seed: int, history, hours: float, device: str) -> dict:
    settings = {key: value for key, value in asdict(recipe).items() if key not in ("name", "small", "full")}
    return {
        "recipe": recipe.name,
        "budget": budget,
        "data": data,
        "seed": seed,
        "steps": len(history),
        "settings": settings | asdict(plan),
        "hours": round(hours, 2),
        "machine": machine(device),
    }


def _saved(folder: Path, recipe: Recipe, role: str, model: Denoiser | Student, card: dict, history) -> Trained:
    """The finished run; the first process of a group writes it down."""
    stem = folder / f"{recipe.name}-{role}"
    path = save_model(stem, model, card | {"role": role}) if world()[0] == 0 else stem.with_name(f"{stem.name}.json")
    return Trained(model, path, history)
