"""What a training costs, counted in network passes: one for each picture or point that goes through a network.

Forward 1; backward 1 to the input and 1 more to the weights; every network. Counted twice: by watching the networks at
work (:class:`Meter`), and by formula (:class:`Cost`), from which a method derives how many steps a budget allows.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from . import _checks as check
from .networks import Denoiser

# On one thread of a busy machine the processor's time is what an idle one would take; a GPU's work is not in it.
clock = time.perf_counter if torch.cuda.is_available() else time.process_time


class Meter:
    """Counts the passes made by networks of this library, and the seconds, within its `with` block.

    `forward`, `backward`: passes so far; `passes`: their sum; `seconds`: of the processor, or on a GPU of the wall.
    What happens within :meth:`paused` is not counted.
    """

    def __init__(self) -> None:
        self.forward = self.backward = 0
        self._spent, self._start, self._on = 0.0, 0.0, False

    def __enter__(self) -> Meter:
        self._handle = register_module_forward_hook(self._seen)
        self._start, self._on = clock(), True
        return self

    def __exit__(self, *_) -> None:
        self._handle.remove()
        self._spent, self._on = self.seconds, False

    @property
    def passes(self) -> int:
        return self.forward + self.backward

    @property
    def seconds(self) -> float:
        return self._spent + (clock() - self._start if self._on else 0.0)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within the block nothing is counted, neither passes nor seconds."""
        self._spent, self._on = self.seconds, False
        try:
            yield
        finally:
            self._start, self._on = clock(), True

    def _seen(self, module: nn.Module, _, output: object) -> None:
        if not (self._on and isinstance(module, Denoiser)):
            return
        rows = len(output)
        much = rows * (2 if any(p.requires_grad for p in module.parameters()) else 1)
        self.forward += rows
        if output.requires_grad:
            output.register_hook(lambda _: self._returned(much))

    def _returned(self, much: int) -> Tensor | None:
        self.backward += much


@dataclass(frozen=True)
class Cost:
    """Passes of a training by formula: `fixed` once, `step` for each step."""

    fixed: int
    step: int

    def total(self, steps: int) -> int:
        """Passes of `steps` steps."""
        return self.fixed + steps * self.step

    def steps(self, budget: int) -> int:
        """How many steps a budget of passes allows; ValueError where it does not allow one."""
        if budget < self.total(1):
            raise ValueError(f"budget is {budget} passes; wanted {self.total(1)} or more, what a single step takes")
        return (budget - self.fixed) // self.step


def distillation_cost(
    batch: int, fake_steps: int = 5, fake_warmup: int = 0, nfe: int = 1, gradient: str = "full"
) -> Cost:
    """`inverse.distill`: a fake step takes the student's forward pass and 3 of its own; a student step 3 of its own.

    To these come 2 each of teacher and fake for the full gradient, which returns through both, 1 each for the detached
    one. A student of `nfe` passes takes all but the last without a gradient, before either.
    """
    before, through = check.count(nfe, "nfe") - 1, 2 if gradient == "full" else 1
    fake, student = before + 1 + 3, before + 3 + 2 * through
    return Cost(fake_warmup * fake * batch, (fake_steps * fake + student) * batch)


def regression_cost(batch: int, batches: int, nfe: int) -> Cost:
    """`rivals.regression`: `batches` batches of a sampler of `nfe` passes, then 3 passes a step."""
    return Cost(batches * batch * nfe, 3 * batch)


def consistency_cost(batch: int) -> Cost:
    """`rivals.consistency`: 1 pass of the teacher, 1 of the average model, 3 of the model, a step."""
    return Cost(0, 5 * batch)
