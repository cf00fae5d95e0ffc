"""What was gained and lost: a teacher at several NFE and its student, on photographs that neither has seen.

Distances are those of the ruler (`metrics.Ruler`) to crops of *other* test photographs; `floor` is the same distance
for clean crops of these, `xT` for the corrupted ones. Standard errors are those of a bootstrap over crops.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _checks as check
from ._random import Draws
from .bridges import Bridge
from .data.corruptions import corrupt
from .data.images import random_crops
from .metrics import Ruler, consistency, psnr, ssim
from .networks import Denoiser
from .samplers import sample
from .students import Student

Restorer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One line of the table; errors are standard errors. `seconds` per 1,000 crops, None where nothing was computed."""

    who: str
    nfe: int
    frechet: float
    frechet_error: float
    kernel: float
    kernel_error: float
    psnr: float
    psnr_error: float
    ssim: float
    ssim_error: float
    consistency: float
    consistency_error: float
    seconds: float | None = None


def mean(values: Tensor) -> tuple[float, float]:
    """The mean of one number per image and its standard error, to which bootstrap's tends; NaN for infinite ones."""
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


@dataclass(frozen=True)
class Exam:
    """Clean crops `x0`, their corruptions `xT`, and the ruler of other photographs."""

    x0: Tensor
    xT: Tensor
    ruler: Ruler
    corruption: str

    @classmethod
    def set(cls, images: Sequence[Tensor], corruption: str, n: int = 2000, size: int = 32, seed: int = 0) -> Exam:
        """`n` crops of every second photograph, and a ruler of `n` crops of the others."""
        check.count(n, "n", least=200)
        reference = random_crops(images[0::2], n, size, Draws.at(seed, 0))
        x0 = random_crops(images[1::2], n, size, Draws.at(seed, 1))
        return cls(x0, corrupt(corruption, x0), Ruler.fit(reference), corruption)

    def row(self, who: str, nfe: int, y: Tensor, seconds: float | None = None) -> Row:
        """Everything measured of the outputs `y`, one for each `xT`."""
        distances = (*self.ruler.measure(y, "frechet"), *self.ruler.measure(y, "kernel"))
        each = psnr(y, self.x0), ssim(y, self.x0), consistency(y, self.xT, self.corruption)
        return Row(who, nfe, *distances, *(number for values in each for number in mean(values)), seconds)

    def reference_rows(self) -> list[Row]:
        """The floor (the clean crops themselves) and the corrupted input."""
        return [self.row("floor", 0, self.x0), self.row("xT", 0, self.xT)]

    def restored(self, restore: Restorer, batch: int = 250) -> tuple[Tensor, float]:
        """The outputs for all `xT`, and seconds per 1,000 of them."""
        start = time.perf_counter()
        outputs = torch.cat([restore(part) for part in self.xT.split(batch)])
        return outputs, (time.perf_counter() - start) / len(self.xT) * 1000


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device


def teacher_at(teacher: Denoiser, bridge: Bridge, nfe: int, seed: int) -> Restorer:
    """The teacher's posterior sampler at `nfe` passes as a function of `xT`, on its device, from CPU to CPU."""
    generator = torch.Generator().manual_seed(seed)
    return lambda xT: sample(teacher, bridge, xT.to(_device(teacher)), nfe, generator=generator).cpu()


def student_of(student: Student, seed: int) -> Restorer:
    """The student as a function of `xT`, with noise from `seed`, on its device, from CPU to CPU."""
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def restore(xT: Tensor) -> Tensor:
        return student(xT.to(_device(student)), generator=generator).cpu()

    return restore


@dataclass(frozen=True)
class Agreement:
    """What holds for an exact one-step student: `E_z G = teacher at T`, so `E Var_z G = ` the teacher's error at NFE 1.

    Per element. `gap`: mean square of (mean of `draws` samples - teacher at T), `gap_noise` its part due to finitely
    many draws; `variance`: E Var_z G; `teacher_error`: the teacher's mean squared error at NFE 1; `mean_psnr`: of the
    mean of the draws, in dB.
    """

    draws: int
    gap: float
    gap_noise: float
    variance: float
    teacher_error: float
    mean_psnr: float


@torch.no_grad()
def agreement(
    exam: Exam, teacher: Denoiser, student: Student, bridge: Bridge, draws: int = 16, seed: int = 0
) -> Agreement:
    """Compare the mean of `draws` samples of the student with the teacher's single step, on all crops."""
    check.count(draws, "draws", least=2)
    outputs = torch.stack([exam.restored(student_of(student, seed + k))[0] for k in range(draws)])
    single = exam.restored(teacher_at(teacher, bridge, 1, seed))[0]
    mean, variance = outputs.mean(0), float(outputs.var(0).mean())
    return Agreement(
        draws,
        float((mean - single).square().mean()),
        variance / draws,
        variance,
        float((single - exam.x0).square().mean()),
        float(psnr(mean, exam.x0).mean()),
    )


def evaluate(
    exam: Exam,
    teacher: Denoiser,
    student: Student,
    bridge: Bridge,
    nfes: Sequence[int] = (1, 5, 20, 100),
    seed: int = 0,
) -> Iterator[Row]:
    """Yield the rows of the table: floor, corrupted input, teacher at each NFE, student."""
    yield from exam.reference_rows()
    for nfe in nfes:
        yield exam.row("teacher", nfe, *exam.restored(teacher_at(teacher, bridge, nfe, seed)))
    yield exam.row("student", student.nfe, *exam.restored(student_of(student, seed)))


COLUMNS = ("who", "NFE", "Fréchet", "kernel x1000", "PSNR dB", "SSIM", "consistency", "s/1,000")


def formatted(row: Row) -> tuple[str, ...]:
    """A row as text, each number with its standard error in brackets."""

    def cell(value: float, error: float, digits: int) -> str:
        return f"{value:.{digits}f} ({error:.{digits}f})" if math.isfinite(value) else "-"

    return (
        row.who,
        str(row.nfe or "-"),
        cell(row.frechet, row.frechet_error, 2),
        cell(1000 * row.kernel, 1000 * row.kernel_error, 1),
        cell(row.psnr, row.psnr_error, 2),
        cell(row.ssim, row.ssim_error, 3),
        cell(row.consistency, row.consistency_error, 4),
        "-" if row.seconds is None else f"{row.seconds:.1f}",
    )


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Columns aligned, the header underlined."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])
