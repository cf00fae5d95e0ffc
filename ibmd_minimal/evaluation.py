"""What was gained and lost: a teacher at several NFE and its students, on pictures that none of them has seen.

Distances are those of a ruler (`metrics.Ruler`) to *other* test pictures; `floor` is the same distance for the clean
pictures of the exam, `xT` for the corrupted ones. Standard errors are those of a bootstrap over pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from . import _checks as check
from ._random import Draws
from .bridges import Bridge
from .classifier import accuracy, solid_features
from .compute import clock
from .data.corruptions import corrupt
from .data.couplings import Photographs, Renderings
from .data.masks import hide, hole_of
from .distances import EACH, Groups, bootstrap, paired_excess
from .features import fine_features, fine_hole_features, hole_features, pair_features, photo_features, smooth
from .metrics import Ruler, consistency, psnr, ratio, ssim
from .networks import Denoiser
from .samplers import sample
from .students import Student

Restorer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One line of the table; errors are standard errors, None where a number has no meaning.

    `method`, `grid`: of the sampler, "" for none. `pairs`: the Fréchet distance of pairs `(x0, xT)`. `accuracy`: of the
    classifier of solids. Of photographs, `fine`: the Fréchet distance by a ruler that sees grain too, `smooth`: the
    share of even ones (`features.smooth`). `seconds` per 1,000 pictures. `outputs`: what was measured.
    """

    who: str
    nfe: int
    frechet: float
    frechet_error: float
    kernel: float
    kernel_error: float
    pairs: float
    pairs_error: float
    psnr: float
    psnr_error: float
    ssim: float
    ssim_error: float
    consistency: float | None = None
    consistency_error: float | None = None
    accuracy: float | None = None
    accuracy_error: float | None = None
    fine: float | None = None
    fine_error: float | None = None
    smooth: float | None = None
    smooth_error: float | None = None
    seconds: float | None = None
    method: str = ""
    grid: str = ""
    outputs: Tensor | None = field(default=None, repr=False, compare=False)

    def noted(self) -> dict:
        """As JSON keeps it: without the outputs, what is not there and what is not finite."""
        found = {key: value for key, value in vars(self).items() if key != "outputs"}
        return {key: value for key, value in found.items() if value not in (None, "") and not _infinite(value)}


def timed(restore: Restorer, xT: Tensor, batch: int) -> tuple[Tensor, float]:
    """The outputs for all `xT`, in batches, and seconds per 1,000 of them: the processor's where nothing but it
    computes."""
    start = clock()
    outputs = torch.cat([restore(part) for part in xT.split(batch)])
    return outputs, (clock() - start) / len(xT) * 1000


def _makes_holes(corruption: str) -> bool:
    """Whether outputs differ from sources in holes only, and what fills these is what counts."""
    return corruption.startswith("inpaint")


def _infinite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def mean(values: Tensor) -> tuple[float, float]:
    """The mean of one number per image and its standard error, to which bootstrap's tends; NaN for infinite ones."""
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


@dataclass(frozen=True)
class Exam:
    """Clean pictures `x0`, their corruptions `xT`, and the rulers made from others: of pictures, and of pairs.

    Where `xT` has holes, rulers of pictures are of what fills them (`features.hole_features`). `fine_ruler`: of
    photographs, one that sees grain too; None for solids.

    `corruption`: what makes `xT` of `x0`, for the consistency; "" where it cannot be made of a picture. `label`: the
    classes of solids, else None. `groups`: which photograph, or rendering, each picture comes from, and each of the
    ruler's.
    """

    x0: Tensor
    xT: Tensor
    ruler: Ruler
    pair_ruler: Ruler
    corruption: str = ""
    label: Tensor | None = None
    groups: Groups = EACH
    fine_ruler: Ruler | None = None

    @classmethod
    def set(cls, coupling: Photographs | Renderings, n: int = 2000, seed: int = 0) -> Exam:
        """`n` pairs of one half of a coupling, and rulers of `n` pairs of the other half."""
        check.count(n, "n", least=200)
        others, own = coupling.halves()
        seen, draws = others.sample(n, Draws.at(seed, 0)), Draws.at(seed, 1)
        x0, xT = own.sample(n, draws)
        solid = isinstance(own, Renderings)
        extract, corruption = (solid_features, "") if solid else (photo_features, own.corruption)
        rows = own.rows(n, Draws.at(seed, 1))
        label = own.label[rows] if solid else None
        holes, groups = _makes_holes(corruption), (rows, others.rows(n, Draws.at(seed, 0)))
        ruler = Ruler.fit(seen, hole_features) if holes else Ruler.fit(seen[0], extract)
        pair_ruler = Ruler.fit(seen, partial(pair_features, extract=extract))
        fine = None if solid else Ruler.fit(seen, fine_hole_features) if holes else Ruler.fit(seen[0], fine_features)
        return cls(x0, xT, ruler, pair_ruler, corruption, label, groups, fine)

    def _seen(self, y: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """What the ruler is given of the outputs `y`: where there are holes, these are read off `xT`."""
        return (y, self.xT) if _makes_holes(self.corruption) else y

    def distance(self, y: Tensor) -> float:
        """The Fréchet distance of the outputs `y`, one for each `xT`, by the first ruler."""
        return self.ruler.frechet(self._seen(y))

    def distance_with_error(self, y: Tensor) -> tuple[float, float]:
        """The same and its bootstrap standard error."""
        return self.ruler.measure(self._seen(y))

    def excess(self, y: Tensor, other: Tensor, fine: bool = False) -> tuple[float, float]:
        """How much farther the outputs `y` are than `other`, both of the same `xT`, and the standard error of that.

        Resampled by photograph, both alike: what the choice of photographs does to both cancels. `fine`: by the
        `fine_ruler`.
        """
        ruler = self.fine_ruler if fine else self.ruler
        seen = (ruler.features(self._seen(one)) for one in (y, other))
        return paired_excess("frechet", *seen, ruler.reference, groups=self.groups)

    def again(self, x0: Tensor) -> Tensor:
        """Outputs corrupted once more, with the holes of `xT` where the corruption makes some."""
        return hide(x0, hole_of(self.xT)) if _makes_holes(self.corruption) else corrupt(self.corruption, x0)

    def row(self, who: str, nfe: int, y: Tensor, seconds: float | None = None, **sampler: str) -> Row:
        """Everything measured of the outputs `y`, one for each `xT`."""
        seen, others = self.ruler.features(self._seen(y)), self.ruler.reference
        distances = (*bootstrap("frechet", seen, others), *bootstrap("kernel", seen, others))
        distances += self.pair_ruler.measure((y, self.xT), "frechet")
        each = *mean(psnr(y, self.x0)), *mean(ssim(y, self.x0))
        back = mean(consistency(y, self.xT, self.again)) if self.corruption else (None, None)
        right = (None, None) if self.label is None else accuracy(y, self.label)
        fine = (None,) * 4
        if self.fine_ruler:
            even = smooth(y, self.xT if _makes_holes(self.corruption) else None)
            fine = *self.fine_ruler.measure(self._seen(y)), *mean(even)
        return Row(who, nfe, *distances, *each, *back, *right, *fine, seconds, **sampler, outputs=y)

    def reference_rows(self) -> list[Row]:
        """The floor (the clean pictures themselves) and the corrupted input."""
        return [self.row("floor", 0, self.x0), self.row("xT", 0, self.xT)]

    def restored(self, restore: Restorer, batch: int = 250) -> tuple[Tensor, float]:
        """The outputs for all `xT`, and seconds per 1,000 of them: the processor's where nothing but it computes."""
        return timed(restore, self.xT, batch)

    def first(self, n: int) -> Exam:
        """The exam on its first `n` pictures only, by the same rulers."""
        label = None if self.label is None else self.label[:n]
        groups = (None if self.groups[0] is None else self.groups[0][:n], self.groups[1])
        return replace(self, x0=self.x0[:n], xT=self.xT[:n], label=label, groups=groups)


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device


def teacher_at(
    teacher: Denoiser, bridge: Bridge, nfe: int, seed: int, method: str = "posterior", grid: str = "uniform"
) -> Restorer:
    """The teacher's sampler at `nfe` passes as a function of `xT`, on its device, from CPU to CPU."""
    generator, options = torch.Generator().manual_seed(seed), {"method": method, "grid": grid}
    return lambda xT: sample(teacher, bridge, xT.to(_device(teacher)), nfe, generator=generator, **options).cpu()


def student_of(student: Student, seed: int, label: int | None = None) -> Restorer:
    """The student as a function of `xT`, with noise from `seed`, on its device, from CPU to CPU; `label`: its task."""
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def restore(xT: Tensor) -> Tensor:
        which = None if label is None else torch.full((len(xT),), label, device=_device(student))
        return student(xT.to(_device(student)), which, generator=generator).cpu()

    return restore


@dataclass(frozen=True)
class Agreement:
    """What holds for an exact one-step student: `E_z G = teacher at T`, so `E Var_z G = ` the teacher's error at NFE 1.

    Per element. `gap`: mean square of (mean of `draws` samples - teacher at T), `gap_noise` its part due to finitely
    many draws; `variance`: E Var_z G; `teacher_error`: the teacher's mean squared error at NFE 1; `diversity`: their
    ratio; `mean_psnr`: of the mean of the draws, in dB. Errors are standard errors over pictures.
    """

    draws: int
    gap: float
    gap_error: float
    gap_noise: float
    variance: float
    teacher_error: float
    diversity: float
    diversity_error: float
    mean_psnr: float
    mean_psnr_error: float


@torch.no_grad()
def agreement(
    exam: Exam,
    teacher: Denoiser,
    student: Student,
    bridge: Bridge,
    draws: int = 16,
    seed: int = 0,
    label: int | None = None,
) -> Agreement:
    """Compare the mean of `draws` samples of the student with the teacher's single step, on all pictures."""
    check.count(draws, "draws", least=2)
    outputs = torch.stack([exam.restored(student_of(student, seed + k, label))[0] for k in range(draws)])
    single = exam.restored(teacher_at(teacher, bridge, 1, seed))[0]
    center, spread = outputs.mean(0), outputs.var(0).flatten(1).mean(1)
    gap, error = ((single - one).square().flatten(1).mean(1) for one in (center, exam.x0))
    return Agreement(
        draws,
        *mean(gap),
        float(spread.mean()) / draws,
        float(spread.mean()),
        float(error.mean()),
        *ratio(spread, error),
        *mean(psnr(center, exam.x0)),
    )


def grids_of(bridge: Bridge) -> tuple[str, ...]:
    """The time grids of which the best is taken."""
    # VP's clock makes small steps near T, where the colours of a translation are decided; the geometric grid smaller.
    return ("uniform", "clock", "geometric") if bridge.family == "vp" else ("uniform", "quadratic")


def methods_of(teacher: Denoiser) -> tuple[str, ...]:
    """The samplers that are measured: DBIM with eta 0 as well where the teacher is conditional."""
    return ("posterior", "dbim") if teacher.conditional else ("posterior",)


def best_grid(exam: Exam, teacher: Denoiser, bridge: Bridge, nfe: int, method: str, seed: int = 0) -> str:
    """Of the time grids the one with the smallest Fréchet distance at `nfe` passes (20 at most), on 500 pictures."""
    nfe, part, grids = min(nfe, 20), exam.first(min(500, len(exam.x0))), grids_of(bridge)
    if nfe == 1:
        return grids[0]

    def distance(grid: str) -> float:
        return part.distance(part.restored(teacher_at(teacher, bridge, nfe, seed, method, grid))[0])

    return min(grids, key=distance)


def teacher_rows(
    exam: Exam, teacher: Denoiser, bridge: Bridge, nfes: Sequence[int] = (1, 5, 20, 100), seed: int = 0
) -> Iterator[Row]:
    """Yield a row for each method and NFE, on the best of two or three grids; at NFE 1 all methods are the same."""
    grids: dict[tuple[int, str], str] = {}  # above 20 passes the choice is the one at 20
    for nfe in nfes:
        for method in methods_of(teacher) if nfe > 1 else ("posterior",):
            key = min(nfe, 20), method
            grid = grids[key] = grids.get(key) or best_grid(exam, teacher, bridge, nfe, method, seed)
            restore = teacher_at(teacher, bridge, nfe, seed, method, grid)
            yield exam.row("teacher", nfe, *exam.restored(restore), method=method, grid=grid)


def student_row(exam: Exam, student: Student, seed: int = 0, label: int | None = None) -> Row:
    """The student's row."""
    return exam.row("student", student.nfe, *exam.restored(student_of(student, seed, label)))


COLUMNS = ("who", "NFE", "Fréchet", "kernel x1000", "pairs", "PSNR dB", "SSIM", "consistency", "accuracy")
COLUMNS += ("with grain", "smooth", "s/1,000")
NAMES = ("frechet", "kernel", "pairs", "psnr", "ssim", "consistency", "accuracy", "fine", "smooth")
DIGITS = (2, 1, 2, 2, 3, 4, 3, 2, 3)


def bracketed(row: dict, name: str, digits: int) -> str:
    """A number of a row with its standard error in brackets, "-" where it is missing; kernels times 1,000."""
    factor = 1000 if name == "kernel" else 1
    value, error = (factor * row.get(key, math.nan) for key in (name, f"{name}_error"))
    return f"{value:.{digits}f} ({error:.{digits}f})" if math.isfinite(value) else "-"


def formatted(row: dict) -> tuple[str, ...]:
    """A row as `Row.noted` gives it, as text, each number with its standard error in brackets."""
    who = " ".join([row["who"], *(["DBIM"] if row.get("method") == "dbim" else [])])
    seconds = f"{row['seconds']:.1f}" if "seconds" in row else "-"
    cells = (bracketed(row, name, digits) for name, digits in zip(NAMES, DIGITS))
    return (who, str(row["nfe"] or "-"), *cells, seconds)


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Columns aligned, the header underlined."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])
