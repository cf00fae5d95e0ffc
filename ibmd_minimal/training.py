"""The machinery below every training here: updates, averages, schedules, checkpoints that resume bit for bit.

A batch and all noise are functions of `(seed, step)`, so that a run is a list of steps that can be cut anywhere: into
micro-batches, over processes (under torchrun), or by an interruption. What is trained is said elsewhere, in
`matching.train` and `inverse.distill`.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm.auto import tqdm

from . import _checks as check
from ._files import load_run, save_run
from ._files import write_whole as write_whole
from ._random import Draws

History = list[dict[str, float]]


class NonFiniteLoss(ValueError):
    """A loss or its gradient became NaN or infinite; the update was not made, the parameters are the last good ones."""


# -- precision and processes -------------------------------------------------------------------


def bfloat16_is_faster(device: torch.device | str = "cpu") -> bool:
    """Whether this very processor multiplies faster in bfloat16 than in float32: asked of it, never assumed.

    GPUs answer by their capability. On a CPU a small convolution is timed both ways, because some without matrix units
    accept bfloat16 and are 15 times slower with it.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.zeros(8, 64, 32, 32).to(memory_format=torch.channels_last)
    return _seconds(layer, x, torch.bfloat16) < 0.8 * _seconds(layer, x, torch.float32)


@torch.no_grad()
def _seconds(layer: nn.Module, x: Tensor, dtype: torch.dtype) -> float:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        layer(x)
        spent = []
        for _ in range(3):
            start = time.perf_counter()
            layer(x)
            spent.append(time.perf_counter() - start)
    return min(spent)


def autocast(device: torch.device | str, precision: str = "float32"):
    """The context of a forward pass: `precision` is "float32", "bfloat16", or "auto", which asks the device."""
    check.choice(precision, "precision", ("float32", "bfloat16", "auto"))
    if precision == "bfloat16" or (precision == "auto" and bfloat16_is_faster(device)):
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def world() -> tuple[int, int]:
    """`(rank, size)` of the group of processes; joins the group when torchrun started this one.

    Each process of a group on GPUs takes the one of its local rank for its own: call this before moving a module there.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        atexit.register(dist.destroy_process_group)
    grouped = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if grouped else (0, 1)


def share(module: nn.Module) -> None:
    """Give every process the parameters and buffers of the first one, so that all start from the same."""
    if world()[1] > 1:
        for value in module.state_dict().values():
            whole = value.contiguous()
            dist.broadcast(whole, 0)
            value.copy_(whole)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The mean of the gradients over all processes, in one message."""
    if world()[1] == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= world()[1]
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def parts(batch: int, accumulate: int = 1) -> list[tuple[int, int, int]]:
    """The rows `(start, stop, total)` that this process works through, one entry per micro-batch."""
    rank, size = world()
    check.count(accumulate, "accumulate")
    if batch % (size * accumulate):
        raise ValueError(
            f"the batch has {batch} rows; wanted a multiple of {size} processes x {accumulate} micro-batches"
        )
    rows = batch // (size * accumulate)
    return [((rank * accumulate + k) * rows, (rank * accumulate + k + 1) * rows, batch) for k in range(accumulate)]


# -- one trained module --------------------------------------------------------------------------


def rate(step: int, lr: float, warmup: int = 0, steps: int | None = None, floor: float = 0.1, flat: int = 0) -> float:
    """Learning rate of update `step`: a rise over `warmup` steps, then constant, or from `flat` on a cosine down to
    `floor lr` at `steps`."""
    scale = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if steps is None:
        return lr * scale
    start = max(warmup, flat)
    progress = min(1.0, max(0.0, (step - start) / max(1, steps - start)))
    return lr * scale * (floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2)


def _betas(betas: object) -> tuple[float, float]:
    """Adam's two decays, in [0, 1), as floats."""
    pair = tuple(betas) if isinstance(betas, (tuple, list)) else ()
    if len(pair) != 2 or not all(isinstance(beta, (int, float)) and 0 <= beta < 1 for beta in pair):
        raise ValueError(f"betas is {betas!r}; wanted two numbers, 0 or more and below 1, for example (0.9, 0.999)")
    return float(pair[0]), float(pair[1])


class Learner:
    """A module with its optimiser (Adam), its learning rate and its moving average.

    `lr`, `weight_decay`, `betas`: AdamW's. `ema`: decay of the average of the parameters, 0 for none, at update k
    `(1 + k)/(10 + k)` at most, or with an `ema_share` s `k/(k + 1/s)`: the average of about the last share of all
    updates. `clip`: largest gradient norm, None for any. `warmup`, `cosine`: updates of a linear
    rise and of a cosine decay, which begins after `flat`, see :func:`rate`. `precision`: see :func:`autocast`. Under
    torchrun every process starts from the parameters of the first.
    """

    def __init__(
        self,
        module: nn.Module,
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        ema: float = 0.0,
        ema_share: float | None = None,
        clip: float | None = None,
        warmup: int = 0,
        cosine: int | None = None,
        flat: int = 0,
        precision: str = "float32",
    ):
        self.share = None if ema_share is None else check.positive(ema_share, "ema_share")
        self.module, self.lr, self.warmup = module, check.positive(lr, "lr"), check.count(warmup, "warmup", least=0)
        self.cosine = None if cosine is None else check.count(cosine, "cosine")
        self.flat = check.count(flat, "flat", least=0)
        self.clip = None if clip is None else check.positive(clip, "clip")
        self.decay, self.updates = check.fraction(ema, "ema"), 0
        self.parameters = [p for p in module.parameters() if p.requires_grad] if isinstance(module, nn.Module) else []
        if not self.parameters:
            raise ValueError(f"{type(module).__name__} has no parameters to train; wanted a module with some")
        share(module)
        fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in self.parameters)
        decay = check.positive(weight_decay, "weight_decay", zero=True)
        self.optimiser = torch.optim.AdamW(self.parameters, lr, _betas(betas), weight_decay=decay, fused=fused)
        self.average = [p.detach().clone() for p in self.parameters] if self.decay else []
        self.device = self.parameters[0].device
        self.context = autocast(self.device, precision)

    def update(self, losses: Iterable[Callable[[], Tensor]], step: int) -> float:
        """One optimiser step on the mean of `losses`, one callable for each micro-batch; the mean as a number.

        NonFiniteLoss, and no step, if it or its gradient is not finite in any process; `step` is named there.
        """
        losses = list(losses)
        self.optimiser.zero_grad(set_to_none=True)
        total = sum(self._backward(loss, len(losses)) for loss in losses)
        average_gradients(self.parameters)
        total = self._agreed(total)
        self._refuse_non_finite(total, self._clipped(), step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.updates, self.lr, self.warmup, self.cosine, flat=self.flat)
        self.optimiser.step()
        self.updates += 1
        self._follow()
        return total

    def _backward(self, loss: Callable[[], Tensor], of: int) -> Tensor:
        with self.context:
            value = loss() / of
        value.backward(inputs=self.parameters)
        return value.detach()

    def _clipped(self) -> float:
        """Clip the gradient, if it is to be; a number that is finite where the gradient was, its norm or more."""
        if self.clip is not None:
            return float(nn.utils.clip_grad_norm_(self.parameters, self.clip))
        return float(torch.stack(torch._foreach_norm([p.grad for p in self.parameters if p.grad is not None])).sum())

    def _refuse_non_finite(self, total: float, norm: float, step: int) -> None:
        if math.isfinite(total) and math.isfinite(norm):
            return
        self.optimiser.zero_grad(set_to_none=True)
        got = f"the loss of {type(self.module).__name__} is {total:g} at step {step}"
        got += "" if not math.isfinite(total) else f" and its gradient {norm:g}"
        raise NonFiniteLoss(f"{got}; wanted a finite number, the parameters are left as they were before this step")

    def _agreed(self, total: Tensor) -> float:
        if world()[1] > 1:
            dist.all_reduce(total)
            total = total / world()[1]
        return float(total)

    @torch.no_grad()
    def _follow(self) -> None:
        if self.decay:
            k = self.updates
            decay = min(self.decay, (1 + k) / (10 + k) if self.share is None else k / (k + 1 / self.share))
            torch._foreach_lerp_(self.average, self.parameters, 1 - decay)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The module with its averaged parameters, for the time of a `with` block."""
        self._swap()
        try:
            yield self.module
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self.parameters, self.average, strict=False):
            held = parameter.clone()
            parameter.copy_(average)
            average.copy_(held)

    def finish(self) -> nn.Module:
        """The module, from now on with its averaged parameters."""
        self._swap()
        self.average, self.decay = [], 0.0
        return self.module

    def tensors(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, by name."""
        found = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        found |= {f"average.{k}": value for k, value in enumerate(self.average)}
        for k, state in self.optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{k}.{name}": value for name, value in state.items()}
        return found | {"updates": torch.tensor(self.updates)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of :meth:`tensors`."""
        self.module.load_state_dict({k[7:]: v for k, v in tensors.items() if k.startswith("module.")})
        with torch.no_grad():
            for k, average in enumerate(self.average):
                average.copy_(tensors[f"average.{k}"])
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, k, name = key.split(".")
                state.setdefault(int(k), {})[name] = value
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": state})
        self._align()
        self.updates = int(tensors["updates"])

    @torch.no_grad()
    def _align(self) -> None:
        """Lay the optimiser's moments out in memory as their parameters are: fused Adam walks through them in step."""
        for parameter, state in self.optimiser.state.items():
            for name, value in state.items():
                if value.ndim and value.shape == parameter.shape:
                    state[name] = torch.empty_like(parameter).copy_(value)


# -- steps and batches -----------------------------------------------------------------------------


def loop(
    learners: dict[str, Learner],
    body: Callable[[int], dict[str, float]],
    steps: int,
    *,
    folder: Path | str | None = None,
    every: int = 100,
    progress: bool = True,
    title: str = "",
    recipe: dict | None = None,
) -> Iterator[History]:
    """Run `body(step)` for each step, yield the history so far; save to `folder` every `every` steps, resume from it.

    The history is a list of records, one dictionary per step, what `body` returned. It is saved too, so that a resumed
    run's is whole. `recipe`: what has to be the same for a run to be resumed, ready for JSON. A run that has its steps
    behind it yields its history and does nothing.
    """
    check.count(steps, "steps"), check.count(every, "every")
    start, history = load_run(folder, learners, recipe) if folder is not None else (0, [])
    if start >= steps:
        yield history
        return
    first = world()[0] == 0
    with tqdm(total=steps, initial=start, desc=title, disable=not (progress and first), mininterval=0.5) as bar:
        for step in range(start, steps):
            record = body(step)
            history.append({"step": step} | record)
            if folder is not None and first and ((step + 1) % every == 0 or step + 1 == steps):
                save_run(folder, learners, step + 1, history, recipe)
            if not bar.disable:
                bar.set_postfix_str(", ".join(f"{name} {value:.4f}" for name, value in record.items()), refresh=False)
                bar.update()
            yield history


class Batches:
    """Batches as a function of `(seed, number)`: iterate over it, or ask for one by number.

    `make(draws)` returns a batch from a `Draws`: anything random in it must come from there.
    """

    def __init__(self, make: Callable[[Draws], object], seed: int = 0):
        check.callable_(make, "make", "a callable batch = make(draws)")
        self.make, self.seed = make, check.count(seed, "seed", least=0)

    def at(self, number: int) -> object:
        """Batch `number`, the same whenever it is asked for."""
        return self.make(Draws.at(self.seed, number, stream=1 << 20))

    def __iter__(self) -> Iterator[object]:
        number = 0
        while True:
            yield self.at(number)
            number += 1


class Feed:
    """Batch after batch from a :class:`Batches` or any iterable; ends with a sentence, not with StopIteration.

    Under torchrun every process asks for the whole batch and works on its own rows: an iterable has to yield the same
    batches in each of them, as `Batches` do.
    """

    def __init__(self, source: object, name: str):
        if not isinstance(source, (Batches, Iterable)) or isinstance(source, (Tensor, str)):
            raise TypeError(f"{name} is a {type(source).__name__}; wanted an iterable of batches")
        self.source, self.name, self.number = source, name, 0
        self.iterator = None if isinstance(source, Batches) else iter(source)

    def take(self, number: int) -> object:
        """Batch `number`; from a plain iterable the ones before it are passed over, once, and cannot be had again."""
        if self.iterator is None:
            return self.source.at(number)
        if number < self.number:
            raise ValueError(
                f"batch {number} of {self.name} has been passed over; wanted a training.Batches to go back"
            )
        for batch in self.iterator:
            self.number += 1
            if self.number > number:
                return batch
        wanted = f"wanted at least {number + 1}, or an endless iterable"
        raise ValueError(f"{self.name} ended after {self.number} batches; {wanted}")
