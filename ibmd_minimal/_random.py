"""Random numbers that do not depend on how a batch is cut.

A run draws everything it needs at a step from a generator seeded by `(seed, step)`. Where the batch of a step is
cut into micro-batches or spread over processes, each part draws the numbers of the *whole* batch and keeps its
own rows, so that the update is the one that a single process would have made.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import _checks as check


def step_seed(seed: int, step: int, stream: int = 0) -> int:
    """One 63-bit seed for `(seed, step, stream)`, well mixed (splitmix64), so that neighbours share nothing."""
    value = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + stream * 0x8CB92BA72F3D8DD7) % 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = ((value ^ (value >> shift)) * factor) % 2**64
    return (value ^ (value >> 31)) % 2**63


@dataclass
class Draws:
    """The draws of one step for rows `[start, stop)` of a batch of `total` rows."""

    generator: torch.Generator
    start: int
    stop: int
    total: int

    @classmethod
    def at(cls, seed: int, step: int, stream: int = 0, rows: tuple[int, int, int] | None = None, device="cpu"):
        """Draws for `(seed, step, stream)`; `rows = (start, stop, total)`, or the whole batch if None."""
        generator = torch.Generator(device).manual_seed(step_seed(seed, step, stream))
        return cls(generator, *(rows or (0, 0, 0)))


def draw(kind, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | Draws | None) -> Tensor:
    """`kind` (torch.randn or torch.rand) of `shape`, with the dtype and device of `like`."""
    if isinstance(generator, Draws) and generator.total:
        if shape[0] != generator.stop - generator.start:
            raise ValueError(
                f"{shape[0]} rows asked for; wanted {generator.stop - generator.start}, those of this part"
            )
        whole = kind((generator.total, *shape[1:]), generator=generator.generator, dtype=like.dtype,
                     device=generator.generator.device)  # fmt: skip
        return whole[generator.start : generator.stop].to(like.device)
    generator = generator.generator if isinstance(generator, Draws) else generator
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator is a {type(generator).__name__}; wanted a torch.Generator or None")
    device = like.device if generator is None else generator.device
    return kind(shape, generator=generator, dtype=like.dtype, device=device).to(like.device)


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | Draws | None = None) -> Tensor:
    """Standard normal noise of `shape`."""
    return draw(torch.randn, tuple(shape), like, generator)


def uniform(n: int, like: Tensor, generator: torch.Generator | Draws | None = None) -> Tensor:
    """`n` uniform numbers in (0, 1], float64: never 0, where several densities are infinite."""
    n = check.count(n, "n")
    return 1 - draw(torch.rand, (n,), torch.empty(0, dtype=torch.float64, device=like.device), generator)
