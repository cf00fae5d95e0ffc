"""Other ways from a teacher to a student of one step or a few, each short enough to be read.

Regression learns what the teacher's own sampler returns, consistency what its probability-flow ODE does. Both follow
the score, so both need a *conditional* teacher `E[x0 | x_t, xT]`. IBMD, its detached gradient and score identity
distillation's alpha are options of `inverse.distill`; the teacher's own few steps are `samplers.sample`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from . import _checks as check
from ._random import Draws, normal, uniform
from .bridges import Bridge, bridge_checked
from .inverse import evaluated
from .matching import denoise
from .samplers import dbim_step, sample
from .students import Student
from .training import Feed, History, Learner, loop

Triple = tuple[Tensor, Tensor, Tensor]
SAMPLING = 1 << 21  # the stream of the sampler's noise


# -- regression onto the sampler's results ---------------------------------------------------------


def sampled(
    teacher: Callable, bridge: Bridge, xT: Tensor, nfe: int, draws: Callable, method: str = "dbim",
    grid: str | None = None,
) -> Triple:  # fmt: skip
    """`(x0, xT, z)`: what the sampler returns from `xT`, and the noise of its first step, the one off T.

    "dbim" (at eta 0) and the ODE draw no other noise, so that `x0` is a function of `(xT, z)`; "posterior" and
    "euler-maruyama" draw more at every step. `draws()` gives the same random numbers each time it is called.
    """
    x0 = sample(teacher, bridge, xT, nfe, method, grid=grid, generator=draws())
    return x0, xT, normal(xT.shape, like=xT, generator=draws())


def dataset(
    teacher: Callable, bridge: Bridge, sources: object, batches: int, *, nfe: int = 20, method: str = "dbim",
    grid: str | None = None, seed: int = 0, device: torch.device | str = "cpu",
) -> list[Triple]:  # fmt: skip
    """:func:`sampled` for the first `batches` batches of `sources`: `batches nfe` passes for each place in a batch."""
    feed, found = Feed(sources, "sources"), []
    check.count(batches, "batches")
    with evaluated(teacher):
        for number in range(batches):
            xT = check.tensor(feed.take(number), "xT, a batch of sources,").to(device)

            def draws(number: int = number) -> Draws:
                return Draws.at(seed, number, stream=SAMPLING, device=device)

            found.append(sampled(teacher, bridge, xT, nfe, draws, method, grid))
    return found


def regression_loss(student: Student, x0: Tensor, xT: Tensor, z: Tensor) -> Tensor:
    """`E |G(xT, z) - x0|²`, mean over batch and elements, `x0` the sampler's result (Luhman and Luhman, 2021, eq. 3).

    Its minimiser is `E[x0 | xT, z]`: the sampler itself, where it is a function of both. A student whose network has no
    noise inputs is not told `z`, and learns the mean, `E[x0 | xT]`.
    """
    told = z if getattr(student.network, "noise_channels", 0) else None
    return (student(xT, z=told) - x0).square().mean()


def regression(
    student: Student, data: Sequence[Triple], *, steps: int = 1000, lr: float = 1e-3, progress: bool = True, **options
) -> Iterator[tuple[Learner, History]]:
    """Train a one-step student on a :func:`dataset`, over and over; yields its learner and the history.

    `options`: `ema`, `betas`, `clip`, `warmup`, `cosine` of :class:`training.Learner`.
    """
    learner = Learner(student, lr, **({"ema": 0.99} | options))

    def body(step: int) -> dict[str, float]:
        return {"loss": learner.update([lambda: regression_loss(student, *data[step % len(data)])], step)}

    for history in loop({"student": learner}, body, steps, progress=progress, title="regression"):
        yield learner, history


# -- consistency ---------------------------------------------------------------------------------


def ode_times(bridge: Bridge, n: int, delta: float = 1e-3, eps: float = 1e-3) -> Tensor:
    """`n + 1` times from `1 - delta` down to `eps`, float64, even in the logarithm of `b²/c²`.

    That is `logit(u)` of the clock u, up to a constant: what `x_t` says of `x0` grows by the same factor each step.
    """
    ends = torch.tensor([1 - check.fraction(delta, "delta"), check.fraction(eps, "eps")], dtype=torch.float64)
    if not 0 < ends[1] < ends[0] < 1:
        raise ValueError(f"delta is {delta:g} and eps {eps:g}; wanted both above 0 and 0 < eps < 1 - delta < 1")
    u = torch.linspace(*bridge_checked(bridge).clock(ends).logit().tolist(), check.count(n, "n") + 1)
    times = bridge.time_at(u.double().sigmoid())
    times[0], times[-1] = ends
    return times


def solution(model: Callable, bridge: Bridge, x_t: Tensor, t: Tensor, xT: Tensor, eps: float) -> Tensor:
    """Where the ODE from `x_t` ends, at `eps`, by the model's word: `h = k_t x_t + j_t model(x_t, t, xT)`.

    The mean of the bridge's posterior at `eps`; `k = 1` and `j = 0` at `t = eps`, so that there `h = x_t` whatever the
    model says. That is the boundary condition of consistency models (CBD, sec. 3.2).
    """
    return bridge.posterior(denoise(model, x_t, t, xT, None, "student"), x_t, eps, t)[0]


@torch.no_grad()
def ode_pair(
    teacher: Callable, bridge: Bridge, x0: Tensor, xT: Tensor, t: Tensor, s: Tensor, generator=None
) -> tuple[Tensor, Tensor]:
    """`x_t ~ q(x_t | x0, xT)` from a pair of the data, and `x_s`, where the teacher's ODE takes it, `s < t`.

    The step is DBIM's at eta 0: of first order, exact in what is linear, and defined up to T (CBD, sec. 3.1).
    """
    x_t = bridge.sample(x0, xT, t, generator=generator)
    xhat0 = denoise(teacher, x_t, t, xT, None, "teacher")
    return x_t, dbim_step(bridge, xhat0, x_t, xT, s, t, eta=0.0)[0]


def consistency_loss(
    model: Callable, target: Tensor, bridge: Bridge, x_t: Tensor, t: Tensor, xT: Tensor, eps: float
) -> Tensor:
    """`E |h(x_t, t) - target|²`, `target = h⁻(x_s, s)` of the average model, one ODE step below (CBD, eq. of sec. 3.3).

    Zero for an `h` that is constant along the ODE; with the boundary condition that is the ODE's solution.
    """
    return (solution(model, bridge, x_t, t, xT, eps) - target).square().mean()


def consistency(
    model: nn.Module, teacher: Callable, bridge: Bridge, pairs: object, *, steps: int = 1000, lr: float = 1e-3,
    n: int = 40, delta: float = 1e-3, eps: float = 1e-3, ema: float = 0.99, seed: int = 0, progress: bool = True,
    **options,
) -> Iterator[tuple[Learner, History]]:  # fmt: skip
    """Consistency bridge distillation (CBD): train `model` (a copy of the teacher) until h agrees with itself.

    `teacher`: conditional. `pairs`: batches `(x0, xT)` of the data: this method needs clean pictures. `n`: steps of the
    ODE between `1 - delta` and `eps`. The target is the model with its average parameters, of decay `ema`.
    """
    if not getattr(teacher, "conditional", False):
        raise ValueError("the teacher is not conditional; wanted E[x0 | x_t, xT], since the ODE follows its score")
    feed, times = Feed(pairs, "pairs"), ode_times(bridge, n, delta, eps)
    learner = Learner(model, lr, ema=ema, **options)
    times = times.to(learner.device)

    def loss(step: int) -> Tensor:
        x0, xT = (one.to(learner.device) for one in feed.take(step))
        draws = Draws.at(seed, step, device=learner.device)
        k = (n * (1 - uniform(len(x0), x0, draws))).long()
        x_t, x_s = ode_pair(teacher, bridge, x0, xT, times[k], times[k + 1], draws)
        with torch.no_grad(), learner.averaged() as average:
            target = solution(average, bridge, x_s, times[k + 1], xT, eps)
        return consistency_loss(model, target, bridge, x_t, times[k], xT, eps)

    def body(step: int) -> dict[str, float]:
        return {"loss": learner.update([lambda: loss(step)], step)}

    with evaluated(teacher):
        for history in loop({"model": learner}, body, steps, progress=progress, title="consistency"):
            yield learner, history


@torch.no_grad()
def consistency_sample(
    model: Callable, teacher: Callable, bridge: Bridge, xT: Tensor, times: Sequence[float], eps: float = 1e-3,
    generator=None,
) -> Tensor:  # fmt: skip
    """Samples of `x0`, shaped like `xT`, by `1 + len(times)` passes: the teacher's at T, then one of `model` at each.

    The ODE begins below T, after a first step that draws noise: the bridge between the teacher's guess `E[x0 | xT]` and
    `xT`, at `times[0]`. Every later time does the same with the guess before it (CBD, sec. 3.4).
    """
    xhat0 = denoise(teacher, xT, torch.ones(len(xT), dtype=torch.float64, device=xT.device), xT, None, "teacher")
    for time in times:
        t = torch.full((len(xT),), check.fraction(time, "times"), dtype=torch.float64, device=xT.device)
        x_t = bridge.sample(xhat0, xT, t, generator=generator)
        xhat0 = solution(model, bridge, x_t, t, xT, eps)
    return xhat0
