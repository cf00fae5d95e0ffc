"""The teacher's error and the student's: exact teachers with an error of known size at known times.

Such a teacher may be the bridge of no coupling; then no student's loss is zero, and the student is the coupling whose
bridge comes nearest. Gaussian laws on a line tell all of it exactly; eight Gaussians in the plane are trained, by
`python -m ibmd_minimal.perturbed`, and noted in `assets/perturbed.json`.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import _checks as check
from ._quadrature import gauss_legendre, panels
from ._random import Draws
from .bridges import Bridge, expand
from .checkpoints import machine
from .contests import Plane, contest
from .data.toy import EightGaussians
from .distances import mean_wasserstein2
from .evaluation import mean
from .gaussian import GaussianCoupling, GaussianDenoiser
from .inverse import distillation, student_loss
from .matching import Weight, train, weight_at
from .plane import HEAD_START, POINTS, STUDENT, plane_bridge, plane_sources
from .results import note
from .samplers import sample
from .students import Student, student_from
from .training import Batches

FILE = Path(__file__).resolve().parents[1] / "assets" / "perturbed.json"
WIDTH = 0.1
PLACES: dict[str, tuple[float, float]] = {
    "near 0": (0.0, WIDTH),
    "middle": (0.5 - WIDTH / 2, 0.5 + WIDTH / 2),
    "near T": (1 - WIDTH, 1.0),
}
"""Where the errors are: intervals of t of the same length, so that errors of one size weigh the same on the whole."""


def window(place: str | tuple[float, float], t: Tensor) -> Tensor:
    """1 within an interval of times, or a name of PLACES, ends included; 0 outside; float64."""
    low, high = PLACES[check.choice(place, "place", PLACES)] if isinstance(place, str) else place
    t = t.double()
    return ((t >= low) & (t <= high)).double()


@dataclass(frozen=True, eq=False)
class Perturbed:
    """A denoiser that is wrong within a window of times: `teacher(x_t, t, xT) + window(t) (shift + gain x_t)`.

    `shift`: `(D,)`; `gain`: a number.
    """

    teacher: Callable[..., Tensor]
    place: str | tuple[float, float]
    shift: Tensor
    gain: float = 0.0

    @property
    def conditional(self) -> bool:
        return getattr(self.teacher, "conditional", False)

    def __call__(self, x_t: Tensor, t: Tensor, xT: Tensor | None = None) -> Tensor:
        """`xhat0`, of the shape of `x_t` `(batch, D)`."""
        size = expand(window(self.place, torch.as_tensor(t).expand(len(x_t))), x_t)
        return self.teacher(x_t, t, xT) + size * (self.shift.to(x_t) + self.gain * x_t)


# -- Gaussian laws on a line, exactly --------------------------------------------------------------


def affine(teacher: GaussianDenoiser | Perturbed, t: Tensor) -> tuple[Tensor, Tensor]:
    """`(K, m)` of an unconditional teacher on the line, `xhat0 = K x_t + m`, `(n,)` each at times `(n,)`."""
    if not isinstance(teacher, Perturbed):
        gain, _, rest = teacher.linear(t)
        return gain[:, 0, 0], rest[:, 0]
    gain, rest = affine(teacher.teacher, t)
    size = window(teacher.place, t)
    return gain + teacher.gain * size, rest + float(teacher.shift) * size


def sampler_law(
    teacher: GaussianDenoiser | Perturbed, bridge: Bridge, source: tuple[float, float], times: Tensor
) -> GaussianCoupling:
    """The law of `(x0, xT)` after posterior steps along `times`, 1 down to 0; `source`: mean and variance of `xT`."""
    mean, variance = source
    keep, jump, noise = bridge._coefficients(times[1:].double(), times[:-1].double())
    gain, rest = affine(teacher, times[:-1].double())
    m, slope, spread = torch.tensor(mean, dtype=torch.float64), 1.0, 0.0  # x_t = m + slope (xT - mean) + sqrt(spread) z
    for factor, add, more in zip(keep + jump * gain, jump * rest, noise.square()):
        m, slope, spread = factor * m + add, factor * slope, factor**2 * spread + more
    return line(m, slope, spread, source)


def line(mean0: Tensor, slope: Tensor, spread: Tensor, source: tuple[float, float]) -> GaussianCoupling:
    """`x0 | xT ~ N(mean0 + slope (xT - mean), spread)` on the line, `xT ~ N(mean, variance)`."""
    mean, variance = (torch.tensor(value, dtype=torch.float64) for value in source)
    cross = slope * variance
    moments = torch.stack([slope * cross + spread, cross, cross, variance]).reshape(2, 2)
    return GaussianCoupling(torch.stack([mean0, mean]), moments)


def divergence(
    student: GaussianCoupling, teacher: GaussianDenoiser | Perturbed, bridge: Bridge, weight: Weight = "plain"
) -> Tensor:
    """`∫ lambda(t) E |xhat0^G - teacher|² dt` of a student's coupling on the line, under its own law of `x_t`; 0-d.

    `weight`: one that is bounded. With "path_kl" an error next to t = 0 costs infinitely much.
    """

    def value(t: Tensor) -> Tensor:
        (gain, rest), (own_gain, own_rest) = affine(teacher, t), affine(student.denoiser(bridge), t)
        mean, cov = student.marginal(bridge, t)
        gap, shift = own_gain - gain, own_rest - rest
        return weight_at(weight, bridge, t) * (gap.square() * cov[:, 0, 0] + (gap * mean[:, 0] + shift).square())

    ends = edges(teacher)
    return sum(gauss_legendre(value, panels(low, high, 4, 12)) for low, high in zip(ends, ends[1:]))


def edges(teacher: GaussianDenoiser | Perturbed) -> list[float]:
    """0, 1 and where the teacher's error begins and ends."""
    if not isinstance(teacher, Perturbed):
        return [0.0, 1.0]
    ends = PLACES[teacher.place] if isinstance(teacher.place, str) else teacher.place
    return sorted({0.0, 1.0, *ends})


def best_student(
    teacher: GaussianDenoiser | Perturbed, bridge: Bridge, start: GaussianCoupling, weight: Weight = "plain"
) -> tuple[GaussianCoupling, float]:
    """Of all Gaussian couplings with the law of `xT` of `start` the one with the least divergence, and that one.

    By L-BFGS over the mean of `x0`, its regression on `xT` and the logarithm of what that leaves, in float64.
    """
    mean0, meanT, _, covT, _ = start.parts
    slope, rest = start.regression
    source = float(meanT), float(covT)
    free = torch.stack([mean0[0], slope[0, 0], rest[0, 0].log()]).detach().requires_grad_()
    search = torch.optim.LBFGS([free], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16,
                               line_search_fn="strong_wolfe")  # fmt: skip

    def closure() -> Tensor:
        search.zero_grad()
        loss = divergence(line(free[0], free[1], free[2].exp(), source), teacher, bridge, weight)
        loss.backward()
        return loss

    search.step(closure)
    found = line(*free.detach()[:2], free.detach()[2].exp(), source)
    return found, float(divergence(found, teacher, bridge, weight))


# -- eight Gaussians, trained ----------------------------------------------------------------------


@dataclass(frozen=True)
class ExactPlane:
    """`E[x0 | x_t]` of the eight Gaussians, exact: given the cluster everything is Gaussian, and the clusters vote."""

    bridge: Bridge
    conditional = False

    def __call__(self, x_t: Tensor, t: Tensor, xT: Tensor | None = None) -> Tensor:
        """`xhat0 (batch, 2)`."""
        a, b, c = (expand(one, x_t) for one in self.bridge.coefficients(torch.as_tensor(t).double().expand(len(x_t))))
        centres, own = EightGaussians().centres.to(x_t), EightGaussians().std ** 2
        variance = a**2 + b**2 * own + c**2  # of x_t about b times its cluster's centre; xT has variance one
        away = x_t[:, None] - b[:, None] * centres
        votes = (-away.square().sum(-1) / (2 * variance)).softmax(1)
        guesses = centres + (b * own / variance)[:, None] * away
        return (votes[..., None] * guesses).sum(1)


def trained(teacher: Perturbed, arena: Plane, seed: int, steps: int) -> tuple[Student, torch.nn.Module]:
    """A one-step student of a teacher that is no network, and its fake model; both start from the arena's teacher."""
    bridge, start = plane_bridge(), arena.teacher("own")
    fake = copy.deepcopy(start).requires_grad_(True).train()
    student = student_from(start, bridge, head_start=HEAD_START).requires_grad_(True).train()
    options = STUDENT | {"steps": steps, "cosine": steps, "seed": seed, "progress": False}
    for learner, _ in distillation(teacher, bridge, student, plane_sources(seed + 1), fake=fake, **options):
        pass
    return learner.finish().eval().requires_grad_(False), fake


def loss_reached(teacher: Perturbed, student: Student, fake: torch.nn.Module, seed: int, steps: int) -> Tensor:
    """The objective of a finished student on 40 batches, `(40,)`, after `steps` more of the fake model alone."""
    bridge, sources = plane_bridge(), plane_sources(seed + 100)

    @torch.no_grad()
    def pairs(draws: Draws) -> tuple[Tensor, Tensor]:
        xT = sources.make(draws)
        return student(xT, generator=draws), xT

    options = {"weight": "soft", "lr": 2e-3, "ema": 0.99, "cosine": steps, "progress": False}
    train(fake, bridge, Batches(pairs, seed + 100), steps=steps, **options)
    with torch.no_grad():
        batches = [(pairs(Draws.at(seed, k, stream=7)), Draws.at(seed, k, stream=8)) for k in range(40)]
        losses = [student_loss(teacher, fake, bridge, *two, weight="soft", generator=draws) for two, draws in batches]
    return torch.stack(losses)


def law(x0: Tensor, data: Tensor) -> dict[str, float]:
    """How far the mean of samples `(n, 2)` is shifted along the first coordinate, and their distance to data."""
    (shift, shift_error), (distance, error) = mean(x0[:, 0].double()), mean_wasserstein2(x0, data, POINTS)
    return {"shift": shift, "shift_error": shift_error, "distance": distance, "distance_error": error}


def studied(place: str | None, arena: Plane, size: float, seed: int, steps: int, nfes: Sequence[int]) -> dict:
    """One teacher, its sampler at several NFE, and its student: place and size of the error, laws, the loss reached."""
    bridge, (data, xT) = plane_bridge(), arena.exam().pairs
    size = size if place else 0.0
    teacher = Perturbed(ExactPlane(bridge), place or "middle", torch.tensor([size, 0.0]))
    student, fake = trained(teacher, arena, seed, steps)
    generator = torch.Generator().manual_seed(seed)
    loss, error = mean(loss_reached(teacher, student, fake, seed, max(1, steps // 2)).double())
    entry = {"place": place, "size": size, "seed": seed, "steps": steps}
    entry |= {"loss": loss, "loss_error": error}
    entry["student"] = law(student(xT, generator=generator), data)
    entry["teacher"] = [{"nfe": nfe} | law(sample(teacher, bridge, xT, nfe, generator=generator), data) for nfe in nfes]
    return entry


def said(entry: dict) -> str:
    """One teacher and its student as a line."""
    own, last = entry["student"], entry["teacher"][-1]
    shifts = f"shift of the student {own['shift']:.3f}, of its teacher's {last['nfe']} steps {last['shift']:.3f}"
    return f"{entry['place']}, seed {entry['seed']}: {shifts}; loss {entry['loss']:.4f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train a student of each teacher, none of whose runs takes more than a minute, and note all in one file."""
    top = argparse.ArgumentParser(prog="python -m ibmd_minimal.perturbed", description=main.__doc__)
    top.add_argument("--size", type=float, default=0.3, help="of the shift within the window")
    top.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    top.add_argument("--steps", type=int, default=500, help="updates of the student")
    top.add_argument("--nfe", type=int, nargs="+", default=[5, 20, 100], help="of the teacher's sampler")
    top.add_argument("--runs", default="runs", help="folder of saved runs")
    top.add_argument("--out", default=str(FILE), help="the file of results")
    args = top.parse_args(arguments)
    arena, found = contest("plane", runs=Path(args.runs)), []
    for place in (None, *PLACES):
        for seed in args.seeds:
            found.append(studied(place, arena, args.size, seed, args.steps, args.nfe))
            print(said(found[-1]), flush=True)
            note("plane", {"machine": machine("cpu"), "runs": found}, args.out)


if __name__ == "__main__":
    main()
