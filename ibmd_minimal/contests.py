"""The tasks on which ways to a few steps are compared: each one small object with teachers, data and an exam.

A contest has two teachers. "own" is the one that the task has anyway; "conditional" is `E[x0 | x_t, xT]`, of the same
size and on the same bridge, for the methods that follow the score. They may be one and the same. Rates and times are
chosen on the exam "choice", what is reported is measured on "test".
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from . import _checks as check
from ._random import Draws, uniform
from .checkpoints import load_model, save_model, shipped
from .compute import Meter
from .data.couplings import Photographs, Renderings
from .data.toy import EightGaussians
from .distances import resampled, wasserstein2
from .evaluation import Exam, Restorer, timed
from .networks import MLP, Denoiser
from .plane import HEAD_START, POINTS, STUDENT, inside, plane_pairs, plane_sources
from .plane import train_plane_teacher as plane_teacher
from .recipes import WARM_LR, Recipe, recipe
from .runs import run_folder
from .training import Batches

SPLITS = {"choice": 21, "test": 22}
QUICK = 500  # pictures of a quick look
TEACHERS = ("own", "conditional")


def spread(restore: Restorer, xT: Tensor, draws: int = 8) -> float:
    """`E Var_z` of what is restored from the same `xT`, per element: of an exact student, the teacher's squared error
    at NFE 1; 0 for one that learnt a mean."""
    return float(torch.stack([restore(xT) for _ in range(draws)]).double().var(0).mean())


def steady(restore: Restorer, xT: Tensor, rounds: int = 3) -> float:
    """Seconds per 1,000 of `xT`: the median of a few rounds, after one that does not count."""
    return statistics.median([timed(restore, xT, len(xT))[1] for _ in range(rounds + 1)][1:])


def bootstrap_error(values: Sequence[float], resamples: int = 1000, seed: int = 0) -> float:
    """The bootstrap's standard error of a mean of a few numbers."""
    counts = resampled(len(values), resamples, torch.Generator().manual_seed(seed))
    return float((counts @ torch.tensor(values, dtype=torch.float64) / len(values)).std())


# -- exams -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlaneExam:
    """`draws` times 1,000 points: the squared 2-Wasserstein distance, a mean over draws, its error a bootstrap's.

    Every way to restore meets the same draws, so that differences between two can be taken draw by draw.
    """

    split: str
    draws: int = 10

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        return EightGaussians().sample(POINTS * self.draws, Draws.at(0, SPLITS[self.split], stream=7))

    def measure(self, restore: Restorer, quick: bool = False) -> dict[str, float]:
        """Distance and error, the share inside clusters, the spread, seconds per 1,000, and `each` draw's distance;
        `quick`: on half the draws, without spread and seconds."""
        x0, xT = (one[: POINTS * max(2, self.draws // 2)] if quick else one for one in self.pairs)
        found, seconds = timed(restore, xT, POINTS)
        each = [wasserstein2(*two) for two in zip(found.split(POINTS), x0.split(POINTS))]
        row = {"distance": sum(each) / len(each), "distance_error": bootstrap_error(each), "inside": inside(found)}
        return row if quick else row | {"spread": spread(restore, xT[:POINTS]), "seconds": seconds, "each": each}

    def clock(self, restore: Restorer) -> float:
        """Seconds per 1,000 points."""
        return steady(restore, self.pairs[1][:POINTS])

    def floor(self) -> dict[str, float]:
        """The same of data that no teacher saw, their spread that of `x0` given `xT`."""
        generator = torch.Generator().manual_seed(SPLITS[self.split])
        return self.measure(lambda xT: EightGaussians().data(len(xT), generator))


@dataclass(frozen=True)
class PictureExam:
    """An `evaluation.Exam`: the Fréchet distance to other pictures, with its bootstrap error, and what goes with it."""

    exam: Exam
    batch: int = 250

    def measure(self, restore: Restorer, quick: bool = False) -> dict[str, float]:
        """Distance and error, those of pairs, PSNR, SSIM, the spread, seconds per 1,000; `quick`: distance and
        error alone, of the first 500: fewer pictures are farther, by chance."""
        part = self.exam.first(QUICK) if quick else self.exam
        found, seconds = part.restored(restore, self.batch)
        if quick:
            return dict(zip(("distance", "distance_error"), part.distance_with_error(found)))
        return self._row(found, seconds) | {"spread": spread(restore, self.exam.xT[: self.batch // 2], 4)}

    def clock(self, restore: Restorer) -> float:
        """Seconds per 1,000 pictures, by a part of a batch."""
        return steady(restore, self.exam.xT[: self.batch // 5])

    def floor(self) -> dict[str, float]:
        """The same of the exam's clean pictures."""
        return self._row(self.exam.x0)

    def _row(self, found: Tensor, seconds: float | None = None) -> dict[str, float]:
        """A row of the exam by the names that both kinds of exams use."""
        row = self.exam.row("", 0, found, seconds).noted()
        row |= {"distance": row.pop("frechet"), "distance_error": row.pop("frechet_error")}
        return {key: value for key, value in row.items() if key not in ("who", "nfe")}


# -- contests --------------------------------------------------------------------------------------


@dataclass
class Contest:
    """A task with what the methods need.

    `budget`: network passes of one training. `ablated`: the share of it for one in an ablation. `batch`: of every
    training. `ibmd`: options of `inverse.distillation` but the steps; `regression` and `consistency`: options of these,
    and what else they take (see `trials.py`). `head_start`: of the students of each teacher. `nfes`: at which samplers
    are measured. `seeds`: of the best rate.
    """

    name: str
    budget: int
    batch: int
    ibmd: dict
    regression: dict
    consistency: dict
    head_start: dict[str, tuple[float, ...] | None]
    nfes: tuple[int, ...] = (1, 2, 3, 5, 10, 20)
    seeds: tuple[int, ...] = (0, 1, 2)
    ablated: float = 1.0
    runs: Path = Path("runs")
    device: str = "cpu"
    _kept: dict = field(default_factory=dict, repr=False)

    @property
    def folder(self) -> Path:
        """Where its runs lie."""
        return Path(self.runs) / "compare" / self.name

    def teacher(self, kind: str = "own") -> Denoiser:
        """One of the two teachers, frozen, on the device."""
        return self.once(check.choice(kind, "teacher", TEACHERS), lambda: self._teacher(kind).to(self.device))

    def exam(self, split: str = "test") -> PlaneExam | PictureExam:
        """The exam on which rates are chosen, or the one that counts."""
        return self.once(check.choice(split, "split", SPLITS), lambda: self._exam(split))

    def once(self, key: str, make: Callable):
        """What `make` returns, made when first asked for under this key."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _teacher(self, kind: str) -> Denoiser:
        raise NotImplementedError

    def _exam(self, split: str):
        raise NotImplementedError

    @property
    def words(self) -> str:
        """What it is measured on."""
        raise NotImplementedError

    def pairs(self, seed: int) -> Batches:
        """Batches `(x0, xT)`."""
        raise NotImplementedError

    def sources(self, seed: int, available: int | None = None) -> Batches:
        """Batches of `xT` alone; drawn from a fixed set of `available` of them, where that is a number."""
        every = self._sources(seed)
        if available is None:
            return every
        first = [every.at(k) for k in range(-(-check.count(available, "available") // self.batch))]
        pool = torch.cat(first)[:available]

        def make(draws: Draws) -> Tensor:
            rows = ((1 - uniform(self.batch, pool, draws)) * available).long()
            return pool[rows]

        return Batches(make, seed)

    def _sources(self, seed: int) -> Batches:
        raise NotImplementedError


def conditional_plane_teacher(steps: int = 3000, seed: int = 0) -> MLP:
    """The plane's second teacher, `E[x0 | x_t, xT]`: of the first one's size and settings, trained three times as long.

    It has the harder function to learn, of the small difference between `x_t` and `xT`, and is as good after that.
    """
    return plane_teacher(seed, False, conditional=True, steps=steps)


class Plane(Contest):
    """Eight Gaussians from one."""

    words = "eight Gaussians"

    def _teacher(self, kind: str) -> Denoiser:
        stem = self.folder / f"teacher-{kind}"
        if not stem.with_name(f"{stem.name}.json").exists():
            with Meter() as meter:
                model = plane_teacher(0, False) if kind == "own" else conditional_plane_teacher()
            save_model(stem, model, {"passes": meter.passes, "seconds": meter.seconds, "role": "teacher"})
        return load_model(stem, role="teacher")

    def _exam(self, split: str) -> PlaneExam:
        return PlaneExam(split)

    def pairs(self, seed: int) -> Batches:
        return plane_pairs(seed, self.batch)

    def _sources(self, seed: int) -> Batches:
        return plane_sources(seed, self.batch)


def conditional_recipe(task: Recipe) -> Recipe:
    """The task with a conditional teacher: itself, if its teacher is one; else one that begins from the task's own."""
    if task.conditional:
        return task
    small = replace(task.small, teacher_steps=1600, teacher_lr=WARM_LR, start=task.name)
    return replace(task, name=f"{task.name}-conditional", conditional=True, small=small)


class Pictures(Contest):
    """An image task by the name of its recipe; teachers are shipped, or lie in the folder of runs."""

    @property
    def task(self) -> Recipe:
        return recipe(self.name)

    @property
    def words(self) -> str:
        return self._coupling("test").words.partition(": ")[0]

    def _teacher(self, kind: str) -> Denoiser:
        task = self.task if kind == "own" else conditional_recipe(self.task)
        name = f"{task.name}-teacher"
        own = run_folder(self.runs, task, "small", "teacher", 0) / f"{name}.json"
        if not own.exists() and name not in shipped():
            how = f"python -m ibmd_minimal compare {self.name} --teacher"
            raise FileNotFoundError(f"{own} is missing, and no {name} is shipped; wanted it trained before: {how}")
        return load_model(own if own.exists() else name, role="teacher")

    def _coupling(self, split: str) -> Photographs | Renderings:
        return self.once(f"coupling-{split}", lambda: self.task.coupling(split, Path(self.runs) / "solids"))

    def _exam(self, split: str) -> PictureExam:
        coupling = self._coupling("test" if split == "test" else "train")
        return PictureExam(Exam.set(coupling, 2000, SPLITS[split]))

    def pairs(self, seed: int) -> Batches:
        return self.task.pairs(self._coupling("train"), self.batch, seed)

    def _sources(self, seed: int) -> Batches:
        return self.task.sources(self._coupling("train"), self.batch, seed)


def _plane() -> Plane:
    ibmd = {key: value for key, value in STUDENT.items() if key != "steps"} | {"gradient": "full"}
    others = {"betas": (0.9, 0.99), "ema": 0.99}
    regression = others | {"lr": 2e-3, "share": 0.5, "nfe": 20, "method": "ode-heun"}
    consistency = others | {"lr": 1e-3, "n": 20, "starts": (0.99, 0.97, 0.9)}
    start, nfes = {"own": HEAD_START, "conditional": (0.9, 0.3)}, (1, 2, 3, 5, 10, 20, 50)
    return Plane("plane", 10_900_000, 512, ibmd, regression, consistency, start, nfes, ablated=0.5)


def _pictures(name: str, budget: int) -> Pictures:
    task, plan = recipe(name), recipe(name).small
    common = {"betas": task.fake_betas, "ema": task.student_ema, "clip": 1.0, "warmup": 20}
    ibmd = common | {"betas": task.betas, "fake_betas": task.fake_betas, "weight": task.weight}
    ibmd |= {"lr": plan.student_lr, "fake_lr": plan.fake_lr, "fake_steps": plan.fake_steps}
    ibmd |= {"fake_warmup": plan.fake_warmup // 3, "gradient": "full"}
    grid = "geometric" if task.bridge["family"] == "vp" else "uniform"
    regression = common | {"lr": 3e-4, "share": 0.5, "nfe": 10, "method": "dbim", "grid": grid}
    consistency = common | {"lr": 1e-4, "n": 20, "starts": (0.95, 0.8, 0.5)}
    start = {"own": task.head_start, "conditional": task.head_start}
    return Pictures(name, budget, plan.student_batch, ibmd, regression, consistency, start, seeds=(0,))


CONTESTS: dict[str, Callable[[], Contest]] = {
    "plane": _plane,
    "sr4x-pool": lambda: _pictures("sr4x-pool", 30_000),
    "sketch-to-image": lambda: _pictures("sketch-to-image", 60_000),
}


def contest(name: str, **options) -> Contest:
    """A contest by name; `options` replace its `runs`, `device`, `budget`, `seeds` and others."""
    made = CONTESTS[check.choice(name, "contest", CONTESTS)]()
    return replace(made, **options) if options else made
