"""What a distillation is made of: one teacher or several, their bridges and weights, a student, a fake model.

Several teachers share a student by a label. Student *and* fake model must see it: a fake without it regresses to the
mean over tasks and gives `sum_k D_k - E|E[x0|x_t, k] - E[x0|x_t]|²`, below zero where the student is right.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from . import _checks as check
from .bridges import Bridge, bridge_checked
from .matching import Anchor, Weight, denoise, weight_at
from .students import ByLabel, Student


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
        parts = zip(teachers, rows)
        found = [denoise(one, x_t[own], t[own], xT[own], None, "teacher") for one, own in parts if len(own)]
        return torch.cat(found)[torch.cat(rows).argsort()]

    def weight(t: Tensor) -> Tensor:
        return torch.stack([weight_at(w, bridge, t) for w, bridge in zip(weights, bridges)]).gather(0, label[None])[0]

    return teacher, ByLabel(bridges, label), weight


def takes(model: nn.Module, name: str) -> bool:
    """Can `model(..., name=...)` be called?"""
    found = inspect.signature(model.forward).parameters
    return name in found or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in found.values())


class Tasks:
    """The parts of a distillation, checked against each other, and what they make of a batch of sources."""

    def __init__(
        self, teacher, bridge, student: nn.Module, fake: nn.Module, weight: Weight | Sequence[Weight] = "plain"
    ):
        self.teachers, self.several = as_list(teacher), isinstance(teacher, Sequence)
        self.bridges, self.weights = (as_list(one, len(self.teachers)) for one in (bridge, weight))
        self.student, self.fake = student, fake
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
            bridge_checked(bridge)
            weight_at(weight, bridge, torch.ones(1))

    def _check_models(self) -> None:
        for model, name, call in ((self.student, "student", "student(xT)"), (self.fake, "fake", "fake(x_t, t, xT)")):
            if not isinstance(model, nn.Module):
                raise TypeError(f"the {name} is a {type(model).__name__}; wanted a module, called as {call}")
        read = {id(p) for one in self.teachers if isinstance(one, nn.Module) for p in one.parameters()}
        student, fake = ({id(p) for p in model.parameters()} for model in (self.student, self.fake))
        if read & student or read & fake or student & fake:
            raise ValueError(
                "teacher, student and fake share parameters; wanted copies, as student_from(teacher) makes"
            )
        conditional = {getattr(model, "conditional", None) for model in (*self.teachers, self.fake)} - {None}
        if len(conditional) > 1:
            raise ValueError("of teacher and fake one is conditional and one is not; wanted both of the same kind")
        if self.several_steps:
            self._check_steps()

    def _check_steps(self) -> None:
        conditional = all(getattr(teacher, "conditional", False) for teacher in self.teachers)
        if self.student.anchor == "xT" and not conditional:
            raise ValueError(
                "the student is anchored at xT and the teacher is unconditional, or does not say; wanted "
                "anchor='x_t', since an unconditional bridge below x_t is another one than the pair's, or "
                "teacher.conditional = True"
            )
        own, t = self.student.bridges, torch.linspace(0, 1, 9, dtype=torch.float64)
        own = own * len(self.bridges) if len(own) == 1 else own
        if len(own) != len(self.bridges):
            raise ValueError(
                f"the student has {len(own)} bridges; wanted one, or one for each of {len(self.bridges)} teachers"
            )
        for one, bridge in zip(own, self.bridges):
            if not all(torch.allclose(a, b) for a, b in zip(one.coefficients(t), bridge.coefficients(t))):
                raise ValueError(f"the student moves by {one}, its teacher's bridge is {bridge}; wanted the same one")

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

    def of(self, label: Tensor | None):
        """The teacher, bridge and weight of a batch."""
        if not self.several:
            return self.teachers[0], self.bridges[0], self.weights[0]
        return by_label(self.teachers, self.bridges, self.weights, label)

    def check_source(self, xT: object, label: object) -> None:
        """Refuse a first batch that no step could use."""
        check.finite(check.tensor(xT, "xT, a batch of sources,"), "xT")
        if self.several and label is None:
            raise ValueError(f"sources yields xT alone and there are {len(self.teachers)} teachers; wanted (xT, label)")
        if label is None:
            return
        if not isinstance(label, Tensor) or label.dtype != torch.int64 or label.shape != xT.shape[:1]:
            got = f"{label.dtype} {tuple(label.shape)}" if isinstance(label, Tensor) else type(label).__name__
            wanted = f"xT alone or (xT, label), label int64 of shape ({len(xT)},)"
            raise ValueError(f"sources yields a pair whose second is {got}; wanted {wanted}")
        if self.several and not bool(((label >= 0) & (label < len(self.teachers))).all()):
            low, high = int(label.min()), int(label.max())
            raise ValueError(f"label runs from {low} to {high}; wanted 0 to {len(self.teachers) - 1}, one per teacher")
        for model, name in ((self.student, "student"), (self.fake, "fake")):
            if not takes(model, "label"):
                raise TypeError(f"sources yields labels and the {name} takes none; wanted {name}(..., label=label)")
