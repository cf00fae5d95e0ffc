"""The 2D example that `make demo`, chapter 00 and the tests share: eight Gaussians from one, in one step.

Everything that was tuned stands here, once; the searches behind the numbers are told in chapter 07.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _checks as check
from ._random import Draws
from .bridges import Bridge, brownian
from .data.toy import EightGaussians
from .distances import mean_wasserstein2
from .inverse import distill
from .matching import train
from .networks import MLP
from .samplers import sample
from .students import Student, student_from
from .training import Batches

POINTS, DRAWS, FLOOR_DRAWS = 1000, 10, 40
TEACHER = {"steps": 1000, "weight": "soft", "lr": 5e-3, "ema": 0.99}
STUDENT = {
    "steps": 1100,
    "weight": "soft",
    "fake_steps": 3,
    "fake_warmup": 100,
    "lr": 1.5e-3,
    "fake_lr": 5e-3,
    "betas": (0.0, 0.99),
    "fake_betas": (0.9, 0.99),
    "ema": 0.995,
}
HEAD_START = (0.9, 9.0)
"""What was found to work, over seeds: see the options of `matching.train` and `inverse.distill`."""


def plane_bridge() -> Bridge:
    """The example's bridge: Brownian, epsilon 0.1."""
    return brownian(0.1)


def plane_pairs(seed: int = 0, batch: int = 1024) -> Batches:
    """Batches `(x0, xT)`, both `(batch, 2)`: a point of the eight Gaussians and, independently, of the one."""
    coupling = EightGaussians()
    return Batches(lambda draws: coupling.sample(batch, draws), seed)


def plane_sources(seed: int = 0, batch: int = 512) -> Batches:
    """Batches of `xT` `(batch, 2)` alone: all that the student's training sees."""
    coupling = EightGaussians()
    return Batches(lambda draws: coupling.source(batch, draws), seed)


def train_plane_teacher(seed: int = 0, progress: bool = True, conditional: bool = False, **options) -> MLP:
    """The example's teacher: an MLP, trained by bridge matching; `options` of `matching.train` replace ours."""
    coupling, options = EightGaussians(), TEACHER | options
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sigma0 = (coupling.radius**2 / 2 + coupling.std**2) ** 0.5
        model = MLP(plane_bridge(), sigma0=sigma0, sharpness=16.0, conditional=conditional)
    options = {"cosine": options["steps"], "seed": seed, "progress": progress} | options
    return train(model, plane_bridge(), plane_pairs(seed), **options)[0].requires_grad_(False)


def distill_plane_student(teacher: MLP, seed: int = 0, progress: bool = True, **options) -> Student:
    """The example's one-step student, from the teacher and `xT` alone; `options` of `inverse.distill` replace ours."""
    options = STUDENT | options
    options = {"cosine": options["steps"], "seed": seed, "progress": progress} | options
    return distill(
        teacher, plane_bridge(), student_from(teacher, head_start=HEAD_START), plane_sources(seed + 1), **options
    )


@dataclass(frozen=True)
class Measured:
    """A line of the table: distance to the data with its standard error, share inside clusters, seconds per 10,000."""

    who: str
    nfe: int
    distance: float
    error: float
    inside: float
    seconds: float


@dataclass(frozen=True)
class PlaneReport:
    """What is known of a teacher and its student.

    `floor`, `floor_error`: squared 2-Wasserstein distance of data from data. `rows`: the same for each sampler.
    `variance`: the student's E Var_z G, summed over coordinates. `teacher_error`: the teacher's squared error at NFE
    1 on held-out pairs. `mean_gap`: mean of |E_z G - teacher at T|², less the noise of finitely many draws.
    """

    floor: float
    floor_error: float
    rows: tuple[Measured, ...]
    variance: float
    teacher_error: float
    mean_gap: float

    def row(self, who: str, nfe: int) -> Measured:
        """One row, by its sampler and its passes."""
        return next(row for row in self.rows if (row.who, row.nfe) == (who, nfe))

    def distance(self, who: str, nfe: int) -> float:
        """The distance of one row."""
        return self.row(who, nfe).distance

    def text(self) -> str:
        """The table, the real-against-real floor beside every distance, and the two yardsticks below."""
        floor = f"{self.floor:.3f} ± {self.floor_error:.3f}"
        lines = [f"{'':10}{'NFE':>4}  {'W2² to data':>14}  {'floor':>14}  {'in clusters':>11}  {'s per 10,000':>12}"]
        for row in self.rows:
            measured = f"{row.distance:6.3f} ± {row.error:.3f}  {floor:>14}  {row.inside:11.3f}  {row.seconds:12.3f}"
            lines.append(f"{row.who:10}{row.nfe:>4}  {measured}")
        errors = f"{self.variance:.3f}, the teacher's squared error at NFE 1 {self.teacher_error:.3f}"
        lines += [f"E Var_z of the student {errors}", f"mean square of E_z G - teacher at T: {self.mean_gap:.4f}"]
        return "\n".join(lines)


def _timed(restore: Callable[[Tensor], Tensor], xT: Tensor) -> tuple[Tensor, float]:
    start = time.perf_counter()
    x0 = restore(xT)
    return x0, (time.perf_counter() - start) / len(xT) * 10_000


def inside(x: Tensor) -> float:
    """The share of points `(n, 2)` within two standard deviations of a cluster's centre: of the data, 0.865.

    The Wasserstein distance of 1,000 points hardly tells eight clusters from a ring; this does.
    """
    coupling = EightGaussians()
    nearest = torch.cdist(check.tensor(x, "x"), coupling.centres.to(x)).min(1).values
    return float((nearest < 2 * coupling.std).float().mean())


@torch.no_grad()
def plane_report(
    teacher: MLP,
    student: Student,
    nfes: Sequence[int] = (1, 5, 20, 100),
    seed: int = 0,
    draws: int = DRAWS,
    floor_draws: int = FLOOR_DRAWS,
) -> PlaneReport:
    """Measure both on points that neither was trained on: `draws` of 1,000; deterministic but for the seconds.

    The floor, by which all is judged and whose draws differ by a third, is a mean over `floor_draws`.
    """
    check.count(draws, "draws", least=2), check.count(floor_draws, "floor_draws", least=2)
    coupling, bridge = EightGaussians(), plane_bridge()
    x0, xT = coupling.sample(POINTS * draws, Draws.at(seed, 1, stream=7))
    generator = torch.Generator().manual_seed(seed)
    runs = [("teacher", nfe, lambda x, nfe=nfe: sample(teacher, bridge, x, nfe, generator=generator)) for nfe in nfes]
    runs.append(("student", student.nfe, lambda x: student(x, generator=generator)))
    rows = []
    for who, nfe, restore in runs:
        found, seconds = _timed(restore, xT)
        rows.append(Measured(who, nfe, *mean_wasserstein2(found, x0, POINTS), inside(found), seconds))
    real = [coupling.data(POINTS * floor_draws, Draws.at(seed, k, stream=7)) for k in (2, 3)]
    floor = mean_wasserstein2(*real, POINTS)
    return PlaneReport(*floor, tuple(rows), *yardsticks(teacher, student, x0, xT, generator))


@torch.no_grad()
def yardsticks(
    teacher: MLP, student: Student, x0: Tensor, xT: Tensor, generator, draws: int = 64
) -> tuple[float, float, float]:
    """`(E Var_z G, the teacher's squared error at NFE 1, mean |E_z G - teacher at T|²)`; the first two agree, the
    third is 0, for the exact student of any teacher."""
    check.same(x0, xT, "x0", "xT"), check.count(draws, "draws", least=2)
    single = teacher(xT, torch.ones(len(xT)), xT)
    few = xT[:2000]
    found = torch.stack([student(few, generator=generator) for _ in range(draws)])
    variance = float(found.var(0).sum(1).mean())
    gap = float((found.mean(0) - single[:2000]).square().sum(1).mean()) - variance / draws
    return variance, float((x0 - single).square().sum(1).mean()), gap


@torch.no_grad()
def plane_figure_data(
    teacher: MLP, student: Student, seed: int = 0, nfe: int = 100
) -> tuple[Tensor, Tensor, Tensor, Tensor, int, float]:
    """What `plotting.plane_figure` draws: data, the teacher's paths, the student's jumps from the same `xT`, its
    samples."""
    coupling = EightGaussians()
    x0, xT = coupling.sample(1500, Draws.at(seed, 4, stream=7))
    generator = torch.Generator().manual_seed(seed)
    path = sample(teacher, plane_bridge(), xT[:40], nfe, generator=generator, return_path=True).path
    samples = student(xT, generator=generator)
    return x0, path, torch.stack([xT, samples]), samples, nfe, coupling.radius + 4 * coupling.std + 0.4
