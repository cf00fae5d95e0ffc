"""The inverse problem: which student's coupling has the teacher's bridge as its own?

With `x0 = G(xT, z)` and `x_t` on the bridge between the two, residuals `r = xhat0*(x_t) - x0` of the teacher and
`f = xhat0_phi(x_t) - x0` of the student's own bridge (the fake model),

    L(G) = E lambda |r|² - min_phi E lambda |f|²,        t, x_t, weights the same in both          (IBMD prop. 3.3, eq. 10)

is `E lambda |xhat0* - xhat0_G|²`, zero iff the two bridges agree. Training alternates a few steps of phi with one of G. At
a phi that is not the minimiser, L is too small by `E lambda |phi - phi*|²`: a printed loss may be negative and says little.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from . import _checks as check
from ._random import Draws
from .bridges import Bridge, expand
from .matching import TIMES, Anchor, Weight, bridge_matching_loss, denoise, known, noised, weight_at
from .students import ByLabel, Student
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


def fake_loss(fake: Callable, bridge: Bridge, x0: Tensor, xT: Tensor, t: Tensor | float | None = None, **options) -> Tensor:
    """The loss of the student's own bridge: :func:`matching.bridge_matching_loss` on the student's `x0`, held fixed."""
    check.same(x0, xT, "x0", "xT")
    return bridge_matching_loss(fake, bridge, x0.detach(), xT, t, **options)


def student_loss(teacher: Callable, fake: Callable, bridge: Bridge, x0: Tensor, xT: Tensor, t: Tensor | float | None = None, *,
                 weight: Weight = "plain", times: str = "uniform", gradient: str = "full", alpha: float = 0.5,
                 z: Tensor | None = None, label: Tensor | None = None, generator=None, anchor: Anchor | None = None) -> Tensor:  # fmt: skip
    """`E lambda(t) 2 (r - f)·(r - alpha (r - f))`, a mean over batch and elements; at alpha 1/2 it is `|r|² - |f|²`.

    `x0 = G(xT, z)` with its graph; `xT`, `t`, `weight`, `times`, `anchor` as in `bridge_matching_loss`. `label`: for the
    fake, and for a teacher whose attribute `labels` is above 0.
    `gradient`: "full" flows through `x_t` and `x0` (IBMD's text): the exact objective's, at the exact phi. "detached" stops at
    `x_t` (the released one-step I2SB code): `2 lambda (phi - teacher) dx0`, cheaper, alpha cancels; for a conditional teacher the
    gradient of a time-averaged KL, for an unconditional one in general of nothing. `alpha` > 1/2 is score identity distillation's.
    No gradient is left on the parameters of teacher or fake, where these are modules.
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


# -- several teachers, told apart by a label -------------------------------------------------------


def as_list(one_or_more: object, n: int | None = None) -> list:
    """A list as it is, anything else `n` times."""
    listed = isinstance(one_or_more, Sequence) and not isinstance(one_or_more, str)
    return list(one_or_more) if listed else [one_or_more] * (n or 1)


def by_label(teachers: Sequence[Callable], bridges: Sequence[Bridge], weights: Sequence[Weight], label: Tensor):
    """`(teacher, bridge, weight)` of a batch whose row `i` belongs to `teachers[label[i]]`, its bridge and its weight.

    Each teacher sees its own rows only.
    """

    def teacher(x_t: Tensor, t: Tensor, xT: Tensor) -> Tensor:
        rows = [(label == k).nonzero()[:, 0] for k in range(len(teachers))]
        found = [denoise(one, x_t[own], t[own], xT[own], None, "teacher") for one, own in zip(teachers, rows) if len(own)]
        return torch.cat(found)[torch.cat(rows).argsort()]

    def weight(t: Tensor) -> Tensor:
        return torch.stack([weight_at(w, bridge, t) for w, bridge in zip(weights, bridges)]).gather(0, label[None])[0]

    return teacher, ByLabel(bridges, label), weight


# -- one step --------------------------------------------------------------------------------------


class Distiller:
    """One student, one fake model, one teacher or several: what happens in one step of :func:`distill`."""

    def __init__(self, teacher, bridge, student: nn.Module, fake: nn.Module, weight="plain", *, times: str = "uniform",
                 gradient: str = "full", alpha: float = 0.5):  # fmt: skip
        self.teachers, self.several = as_list(teacher), isinstance(teacher, Sequence)
        self.bridges, self.weights = (as_list(one, len(self.teachers)) for one in (bridge, weight))
        self.student, self.fake, self.times = student, fake, check.choice(times, "times", TIMES)
        check.choice(gradient, "gradient", GRADIENTS), check.positive(alpha, "alpha", zero=True)
        self.options = {"gradient": gradient, "alpha": alpha, "times": times}
        self.several_steps = isinstance(student, Student) and student.nfe > 1
        self._check_tasks()
        self._check_models()
        self.seeds_student, self.seen_step = takes(student, "generator"), takes(fake, "t_n")

    def _check_tasks(self) -> None:
        if not 0 < len(self.teachers) == len(self.bridges) == len(self.weights):
            got = f"{len(self.teachers)} teachers, {len(self.bridges)} bridges, {len(self.weights)} weights"
            raise ValueError(f"there are {got}; wanted one bridge and one weight for each teacher, or one for all")
        for teacher, bridge, weight in zip(self.teachers, self.bridges, self.weights):
            check.callable_(teacher, "teacher")
            if not isinstance(bridge, Bridge):
                raise TypeError(f"bridge is a {type(bridge).__name__}; wanted a Bridge, for example brownian(epsilon=0.1)")
            weight_at(weight, bridge, torch.ones(1))

    def _check_models(self) -> None:
        for model, name, wanted in ((self.student, "student", "x0 = student(xT)"), (self.fake, "fake", "fake(x_t, t, xT)")):
            if not isinstance(model, nn.Module):
                raise TypeError(f"the {name} is a {type(model).__name__}; wanted a module, {wanted}")
        apart = [*(t for t in self.teachers if isinstance(t, nn.Module)), self.student, self.fake]
        owned = [id(p) for model in {id(m): m for m in apart[:-2]}.values() for p in model.parameters()]
        owned = [*set(owned), *(id(p) for model in apart[-2:] for p in model.parameters())]
        if len(owned) != len(set(owned)):
            raise ValueError("teacher, student and fake share parameters; wanted copies, for example by student_from(teacher)")
        conditional = {getattr(model, "conditional", None) for model in (*self.teachers, self.fake)} - {None}
        if len(conditional) > 1:
            raise ValueError("of teacher and fake one is conditional and one is not; wanted both of the same kind")
        if self.several_steps:
            self._check_steps(conditional == {True})

    def _check_steps(self, conditional: bool) -> None:
        if self.student.anchor == "xT" and not conditional:
            raise ValueError("the student is anchored at xT and the teacher is unconditional, or does not say; wanted "
                             "anchor='x_t', since an unconditional bridge below x_t is another one than the pair's, or "
                             "teacher.conditional = True")  # fmt: skip
        own, t = self.student.bridges, torch.linspace(0, 1, 9, dtype=torch.float64)
        for one, bridge in zip(own if len(own) > 1 else own * len(self.bridges), self.bridges, strict=len(own) > 1):
            if not all(torch.allclose(a, b) for a, b in zip(one.coefficients(t), bridge.coefficients(t))):
                raise ValueError(f"the student moves by {one} and its teacher's bridge is {bridge}; wanted the same one")

    def generate(self, xT: Tensor, label: Tensor | None, draws) -> tuple[Tensor, Anchor | None, Callable]:
        """The student's `x0`, where the bridge below it is pinned, and the fake model of these samples."""
        if not self.several_steps:
            extra = {"label": label} if label is not None else {}
            extra |= {"generator": draws} if self.seeds_student else {}
            return self.student(xT, **extra), None, self.fake
        x_n, t_n = self.student.start(xT, label, draws)
        x0 = self.student.jump(x_n, t_n, xT, label, draws)
        fake = partial(self.fake, t_n=t_n.to(xT.dtype)) if self.seen_step else self.fake
        return x0, (x_n, t_n) if self.student.anchor == "x_t" else None, fake

    def tasks(self, label: Tensor | None):
        """The teacher, bridge and weight of a batch."""
        if not self.several:
            return self.teachers[0], self.bridges[0], self.weights[0]
        return by_label(self.teachers, self.bridges, self.weights, label)

    def fake_step(self, xT: Tensor, label: Tensor | None, draws) -> Tensor:
        """The loss of phi on fresh samples of the student."""
        _, bridge, weight = self.tasks(label)
        with torch.no_grad():
            x0, anchor, fake = self.generate(xT, label, draws)
        return fake_loss(fake, bridge, x0, xT, weight=weight, times=self.times, label=label, anchor=anchor,
                         generator=draws)  # fmt: skip

    def student_step(self, xT: Tensor, label: Tensor | None, draws) -> Tensor:
        """The loss of G on fresh samples, at the present phi."""
        teacher, bridge, weight = self.tasks(label)
        x0, anchor, fake = self.generate(xT, label, draws)
        with frozen(*self.teachers, self.fake):
            return student_loss(teacher, fake, bridge, x0, xT, weight=weight, label=label, anchor=anchor,
                                generator=draws, **self.options)  # fmt: skip

    def check_source(self, xT: object, label: object) -> None:
        """Refuse a first batch that no step could use."""
        check.finite(check.tensor(xT, "xT, a batch of sources,"), "xT")
        if self.several and label is None:
            raise ValueError(f"sources yields xT alone and there are {len(self.teachers)} teachers; wanted (xT, label)")
        if label is None:
            return
        if not isinstance(label, Tensor) or label.dtype != torch.int64 or label.shape != xT.shape[:1]:
            got = f"{label.dtype} {tuple(label.shape)}" if isinstance(label, Tensor) else type(label).__name__
            raise ValueError(f"sources yields a pair whose second is {got}; wanted xT alone or (xT, label), label int64 ({len(xT)},)")
        if self.several and not bool(((label >= 0) & (label < len(self.teachers))).all()):
            low, high = int(label.min()), int(label.max())
            raise ValueError(f"label runs from {low} to {high}; wanted 0 to {len(self.teachers) - 1}, one for each teacher")
        for model, name in ((self.student, "student"), (self.fake, "fake")):
            if not takes(model, "label"):
                raise TypeError(f"sources yields labels and the {name} takes none; wanted {name}(..., label=label)")


def takes(model: nn.Module, name: str) -> bool:
    """Can `model(..., name=...)` be called?"""
    found = inspect.signature(model.forward).parameters
    return name in found or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in found.values())


def fake_from(teacher: object) -> nn.Module:
    """The fake model that a run starts with: a copy of the teacher, where the teacher is one module."""
    if not isinstance(teacher, nn.Module) or not any(True for _ in teacher.parameters()):
        got = "several teachers" if isinstance(teacher, Sequence) else f"a {type(teacher).__name__} without parameters"
        raise ValueError(f"fake is missing and the teacher is {got}; wanted fake=a module that can be trained")
    return copy.deepcopy(teacher).requires_grad_(True).train()


# -- the alternation -------------------------------------------------------------------------------


def distillation(teacher, bridge, student: nn.Module, sources: object, *, fake: nn.Module | None = None, steps: int = 1000,
                 fake_steps: int = 5, fake_warmup: int = 0, lr: float = 5e-5, fake_lr: float | None = None, weight: Weight | Sequence[Weight] = "plain",
                 times: str = "uniform", gradient: str = "full", alpha: float = 0.5, ema: float = 0.99,
                 betas: tuple[float, float] = (0.0, 0.999), fake_betas: tuple[float, float] | None = None, clip: float | None = None, warmup: int = 0, cosine: int | None = None,
                 seed: int = 0, accumulate: int = 1, folder: Path | str | None = None, every: int = 100,
                 progress: bool = True, precision: str = "float32") -> Iterator[tuple[Learner, History]]:  # fmt: skip
    """:func:`distill` step by step: yields the student's learner and the history so far after each student update."""
    check.count(fake_steps, "fake_steps"), check.count(fake_warmup, "fake_warmup", least=0)
    fake = fake if fake is not None else fake_from(teacher)
    engine = Distiller(teacher, bridge, student, fake, weight, times=times, gradient=gradient, alpha=alpha)
    common = dict(clip=clip, warmup=warmup, precision=precision)
    theta = Learner(student, lr, betas=betas, ema=ema, cosine=cosine, **common)
    phi = Learner(fake, lr if fake_lr is None else fake_lr, betas=fake_betas or betas, cosine=cosine and cosine * fake_steps, **common)
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

    learners = {"student": theta, "fake": phi}
    with evaluated(*engine.teachers):
        for history in loop(learners, body, steps, folder=folder, every=every, progress=progress, title="student"):
            yield theta, history


def batches(sources: object, engine: Distiller, device: torch.device) -> Callable[[int], tuple[Tensor, Tensor | None]]:
    """Batch after batch of `sources` by number, `(xT, label or None)` on `device`; the first one is looked at closely."""
    if isinstance(sources, (Tensor, str)):
        raise TypeError(f"sources is a {type(sources).__name__}; wanted an iterable of batches of xT, for example [xT] * 1000")
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
    """Train a student whose bridge is the teacher's, from sources alone (IBMD algorithm 1); returns it, averaged weights in.

    `teacher`: any callable denoiser, or a list of them, then `bridge` and `weight` may be lists too and `sources` yields
    labels, which reach student and fake. It is only read. `student`: :class:`students.Student`, or any module `x0 = student(xT)`.
    `sources`: an iterable of `xT`, or of `(xT, label)`, and nothing else; best a `training.Batches`. An update of the fake
    or of the student takes one batch, so `fake_warmup + steps (fake_steps + 1)` in all.

    Options, besides those of :func:`student_loss` (weight, times, gradient, alpha): `fake`, the student's own bridge, a copy of the
    teacher if None; `steps` updates of the student, `fake_steps` of the fake before each, `fake_warmup` more
    before the first; `lr`, `fake_lr`, `betas`, `fake_betas`, `clip`, `warmup`,
    `cosine`; `ema` of the student; `seed`; `accumulate`; `folder` and `every` for checkpoints; `precision`; `progress`.
    Refused before the first step: non-finite sources, wrong shapes, a label that is missing, a fake that sees `xT` where the
    teacher does not, modules that share parameters, an anchor at `xT` under an unconditional teacher.
    """
    known(options, distillation)
    student.train() if isinstance(student, nn.Module) else None
    for learner, _ in distillation(teacher, bridge, student, sources, **options):
        pass
    return learner.finish().eval()
