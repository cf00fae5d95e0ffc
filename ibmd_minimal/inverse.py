"""The inverse problem: which student's coupling has the teacher's bridge as its own?

With `x0 = G(xT, z)` and `x_t` on the bridge between the two, residuals `r = xhat0*(x_t) - x0` of the teacher and
`f = xhat0_phi(x_t) - x0` of the student's own bridge (the fake model),

    L(G) = E lambda |r|² - min_phi E lambda |f|²,      t, x_t, weights the same in both      (IBMD prop. 3.3, eq. 10)

is `E lambda |xhat0* - xhat0_G|²`, zero iff the two bridges agree. Training alternates a few steps of phi with one of
G. At a phi that is not the minimiser, L is too small by `E lambda |phi - phi*|²`: a printed loss may be negative and
says little.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from . import _checks as check
from ._random import Draws
from .bridges import Bridge, expand
from .matching import (
    TIMES,
    Anchor,
    Weight,
    bridge_matching_loss,
    denoise,
    known,
    named_weight,
    noised,
    weight_at,
)
from .tasks import Tasks
from .training import Feed, History, Learner, loop, parts

GRADIENTS = ("full", "detached")


@contextlib.contextmanager
def frozen(*models: object) -> Iterator[None]:
    """Within the block nothing leaves a gradient on the models' parameters; inputs still get theirs."""
    held = [p for model in models if isinstance(model, nn.Module) for p in model.parameters() if p.requires_grad]
    for p in held:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_(True)


@contextlib.contextmanager
def evaluated(*models: object) -> Iterator[None]:
    """Within the block the models are in evaluation mode, so that a call changes none of their buffers."""
    found = [part for model in models if isinstance(model, nn.Module) for part in model.modules() if part.training]
    for part in found:
        part.training = False
    try:
        yield
    finally:
        for part in found:
            part.training = True


def fake_loss(
    fake: Callable, bridge: Bridge, x0: Tensor, xT: Tensor, t: Tensor | float | None = None, **options
) -> Tensor:
    """The loss of the student's own bridge: :func:`matching.bridge_matching_loss` on the student's `x0`, held fixed."""
    check.same(x0, xT, "x0", "xT")
    return bridge_matching_loss(fake, bridge, x0.detach(), xT, t, **options)


def student_loss(
    teacher: Callable,
    fake: Callable,
    bridge: Bridge,
    x0: Tensor,
    xT: Tensor,
    t: Tensor | float | None = None,
    *,
    weight: Weight = "plain",
    times: str = "uniform",
    gradient: str = "full",
    alpha: float = 0.5,
    z: Tensor | None = None,
    label: Tensor | None = None,
    generator=None,
    anchor: Anchor | None = None,
) -> Tensor:
    """`E lambda(t) 2 (r - f)·(r - alpha (r - f))`, a mean over batch and elements; at alpha 1/2 it is `|r|² - |f|²`.

    `x0 = G(xT, z)` with its graph; `xT`, `t`, `weight`, `times`, `anchor` as in `bridge_matching_loss`. `label`: for
    the fake, and for a teacher whose attribute `labels` is above 0.
    `gradient`: "full" flows through `x_t` and `x0` (IBMD's text): the exact objective's, at the exact phi. "detached"
    stops at `x_t` (the released one-step I2SB code): `2 lambda (phi - teacher) dx0`, cheaper, alpha cancels; for a
    conditional teacher the gradient of a time-averaged KL, for an unconditional one in general of nothing.
    `alpha` > 1/2 is score identity distillation's. No gradient is left on the parameters of teacher or fake, where
    these are modules.
    """
    check.callable_(teacher, "teacher"), check.callable_(fake, "fake"), check.choice(gradient, "gradient", GRADIENTS)
    alpha = check.positive(alpha, "alpha", zero=True)
    x_t, t, over = noised(bridge, x0, xT, t, times, z, generator, anchor)
    with frozen(teacher, fake):
        seen = x_t if gradient == "full" else x_t.detach()
        r = denoise(teacher, seen, t, xT, label if getattr(teacher, "labels", 0) else None, "teacher") - x0
        f = denoise(fake, seen, t, xT, label, "fake") - x0
    gap = r - f
    return (expand(weight_at(weight, bridge, t) * over, x0) * 2 * gap * (r - alpha * gap)).mean()


# -- one step --------------------------------------------------------------------------------------


class Distiller(Tasks):
    """The two losses of one step of :func:`distill`, on fresh samples of the student."""

    def __init__(
        self,
        teacher,
        bridge,
        student: nn.Module,
        fake: nn.Module,
        weight: Weight | Sequence[Weight] = "plain",
        *,
        times: str = "uniform",
        gradient: str = "full",
        alpha: float = 0.5,
    ):
        super().__init__(teacher, bridge, student, fake, weight)
        self.times, self.gradient = check.choice(times, "times", TIMES), check.choice(gradient, "gradient", GRADIENTS)
        self.alpha = check.positive(alpha, "alpha", zero=True)

    def fake_step(self, xT: Tensor, label: Tensor | None, draws) -> Tensor:
        """The loss of phi, the student held fixed."""
        _, bridge, weight = self.of(label)
        with torch.no_grad():
            x0, anchor, fake = self.generate(xT, label, draws)
        options = dict(weight=weight, times=self.times, label=label, anchor=anchor, generator=draws)
        return fake_loss(fake, bridge, x0, xT, **options)

    def student_step(self, xT: Tensor, label: Tensor | None, draws) -> Tensor:
        """The loss of G at the present phi."""
        teacher, bridge, weight = self.of(label)
        x0, anchor, fake = self.generate(xT, label, draws)
        options = dict(weight=weight, times=self.times, label=label, anchor=anchor, generator=draws)
        with frozen(*self.teachers, self.fake):
            return student_loss(teacher, fake, bridge, x0, xT, gradient=self.gradient, alpha=self.alpha, **options)


def fake_from(teacher: object) -> nn.Module:
    """The fake model that a run starts with: a copy of the teacher, where the teacher is one module."""
    if not isinstance(teacher, nn.Module) or not any(True for _ in teacher.parameters()):
        got = "several teachers" if isinstance(teacher, Sequence) else f"a {type(teacher).__name__} without parameters"
        raise ValueError(f"fake is missing and the teacher is {got}; wanted fake=a module that can be trained")
    return copy.deepcopy(teacher).requires_grad_(True).train()


# -- the alternation -------------------------------------------------------------------------------


def distillation(
    teacher,
    bridge,
    student: nn.Module,
    sources: object,
    *,
    fake: nn.Module | None = None,
    steps: int = 1000,
    fake_steps: int = 5,
    fake_warmup: int = 0,
    lr: float = 5e-5,
    fake_lr: float | None = None,
    weight: Weight | Sequence[Weight] = "plain",
    times: str = "uniform",
    gradient: str = "full",
    alpha: float = 0.5,
    ema: float = 0.99,
    ema_share: float | None = None,
    betas: tuple[float, float] = (0.0, 0.999),
    fake_betas: tuple[float, float] | None = None,
    clip: float | None = None,
    warmup: int = 0,
    cosine: int | None = None,
    flat: int = 0,
    seed: int = 0,
    accumulate: int = 1,
    folder: Path | str | None = None,
    every: int = 100,
    progress: bool = True,
    precision: str = "float32",
) -> Iterator[tuple[Learner, History]]:
    """:func:`distill` step by step: yields the student's learner and the history so far after each student update."""
    check.count(fake_steps, "fake_steps"), check.count(fake_warmup, "fake_warmup", least=0)
    fake = fake if fake is not None else fake_from(teacher)
    engine = Distiller(teacher, bridge, student, fake, weight, times=times, gradient=gradient, alpha=alpha)
    common = dict(clip=clip, warmup=warmup, precision=precision)
    theta = Learner(student, lr, betas=betas, ema=ema, ema_share=ema_share, cosine=cosine, flat=flat, **common)
    phi = Learner(
        fake,
        lr if fake_lr is None else fake_lr,
        betas=fake_betas or betas,
        cosine=cosine and cosine * fake_steps,
        flat=flat * fake_steps,
        **common,
    )
    feed = batches(sources, engine, theta.device)

    def update(learner: Learner, loss: Callable, number: int, step: int) -> float:
        xT, label = feed(number)

        def part_loss(part: tuple[int, int, int]) -> Tensor:
            own = slice(part[0], part[1])
            draws = Draws.at(seed, number, rows=part, device=theta.device)
            return loss(xT[own], None if label is None else label[own], draws)

        return learner.update([lambda p=p: part_loss(p) for p in parts(len(xT), accumulate)], step)

    def body(step: int) -> dict[str, float]:
        first = fake_warmup + step * (fake_steps + 1)
        for k in range(fake_warmup if step == 0 else 0):
            update(phi, engine.fake_step, k, step)
        losses = [update(phi, engine.fake_step, first + k, step) for k in range(fake_steps)]
        return {"fake": losses[-1], "student": update(theta, engine.student_step, first + fake_steps, step)}

    recipe = dict(seed=seed, sources=getattr(sources, "seed", None), weight=[named_weight(w) for w in engine.weights])
    recipe |= dict(fake_steps=fake_steps, fake_warmup=fake_warmup, lr=lr, fake_lr=fake_lr, times=times)
    recipe |= dict(
        gradient=gradient, alpha=alpha, ema=ema, betas=betas, fake_betas=fake_betas, clip=clip, warmup=warmup
    )
    recipe |= {} if ema_share is None else {"ema_share": ema_share}
    saving = dict(folder=folder, every=every, recipe=recipe)
    with evaluated(*engine.teachers):
        for history in loop({"student": theta, "fake": phi}, body, steps, **saving, progress=progress, title="student"):
            yield theta, history


def batches(sources: object, engine: Distiller, device: torch.device) -> Callable[[int], tuple[Tensor, Tensor | None]]:
    """Batch after batch of `sources` by number, `(xT, label or None)` on `device`; the first is looked at closely."""
    if isinstance(sources, (Tensor, str)):
        got = type(sources).__name__
        raise TypeError(f"sources is a {got}; wanted an iterable of batches of xT, for example [xT] * 1000")
    feed, seen = Feed(sources, "sources"), []

    def take(number: int) -> tuple[Tensor, Tensor | None]:
        taken = feed.take(number)
        pair = isinstance(taken, (tuple, list))
        if pair and len(taken) != 2:
            raise ValueError(f"sources yields {len(taken)} things; wanted xT alone or (xT, label), and nothing else")
        xT, label = taken if pair else (taken, None)
        seen or seen.append(engine.check_source(xT, label))
        return xT.to(device), None if label is None else label.to(device)

    return take


def distill(teacher, bridge: Bridge | Sequence[Bridge], student: nn.Module, sources: object, **options) -> nn.Module:
    """Train a student whose bridge is the teacher's, from sources alone (IBMD algorithm 1); its averaged weights in it.

    `teacher`: any callable denoiser, or a list of them, then `bridge` and `weight` may be lists too and `sources`
    yields labels, which reach student and fake. It is only read. `student`: :class:`students.Student`, or any module
    `x0 = student(xT)`. `sources`: an iterable of `xT`, or of `(xT, label)`, and nothing else; best a
    `training.Batches`. An update takes one batch, so `fake_warmup + steps (fake_steps + 1)` in all.

    Options, besides those of :func:`student_loss` (weight, times, gradient, alpha): `fake`, the student's own bridge, a
    copy of the teacher if None; `steps` updates of the student, `fake_steps` of the fake before each, `fake_warmup`
    more before the first; `lr`, `fake_lr`, `betas`, `fake_betas`, `clip`, `warmup`, `cosine`, `flat`; `ema` of the
    student and its `ema_share` (`training.Learner`); `seed`; `accumulate`; `folder` and `every` for checkpoints, which
    a run of the same options resumes; `precision`; `progress`.

    A student of several steps: a fake whose `forward` has a `t_n` is told the time that each sample jumped from. It
    needs that where the student is anchored at xT: there every step aims at the same law of `(x0, xT)`, and a fake that
    cannot tell the steps apart sees their mixture, which may be right when no step is.

    Refused before the first update: non-finite sources, wrong shapes, a label that is missing, a fake that sees `xT`
    where the teacher does not, modules that share parameters, an anchor at `xT` under an unconditional teacher.
    """
    known(options, distillation)
    student.train() if isinstance(student, nn.Module) else None
    for learner, _ in distillation(teacher, bridge, student, sources, **options):
        pass
    return learner.finish().eval()
