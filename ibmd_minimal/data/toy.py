"""Couplings in the plane: standard normal `xT`, and `x0` from a law that one can see.

`x0` and `xT` are independent, so that all of the pairing a bridge finds is its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _checks as check
from .._random import Draws, normal, uniform

LIKE = torch.empty(0, dtype=torch.float32)


class ToyCoupling:
    """A coupling of `(x0, xT)` in the plane, `xT ~ N(0, I)` independent of `x0`."""

    dim = 2

    def data(self, n: int, generator: torch.Generator | Draws | None = None) -> Tensor:
        """`n` points `(n, 2)` of x0, float32."""
        raise NotImplementedError

    def source(self, n: int, generator: torch.Generator | Draws | None = None) -> Tensor:
        """`n` points `(n, 2)` of xT, float32."""
        return normal((check.count(n, "n"), 2), LIKE, generator)

    def sample(self, n: int, generator: torch.Generator | Draws | None = None) -> tuple[Tensor, Tensor]:
        """`(x0, xT)`, both float32 `(n, 2)`; x0 is drawn first."""
        x0 = self.data(n, generator)
        return x0, self.source(n, generator)


@dataclass(frozen=True)
class EightGaussians(ToyCoupling):
    """Eight normal laws of standard deviation `std`, equally likely, evenly on a circle of `radius`."""

    radius: float = 2.8
    std: float = 0.3

    def __post_init__(self) -> None:
        check.positive(self.radius, "radius")
        check.positive(self.std, "std", zero=True)

    @property
    def centres(self) -> Tensor:
        """The eight means, `(8, 2)`, the first on the positive axis."""
        angles = torch.arange(8) * (math.pi / 4)
        return self.radius * torch.stack([angles.cos(), angles.sin()], 1)

    def data(self, n: int, generator: torch.Generator | Draws | None = None) -> Tensor:
        which = (8 * (1 - uniform(n, LIKE, generator))).long()
        return self.centres[which] + self.std * normal((n, 2), LIKE, generator)


@dataclass(frozen=True)
class Moons(ToyCoupling):
    """Two interleaved half circles, centred, of radius `radius`, blurred by normal noise of `std`."""

    radius: float = 2.0
    std: float = 0.15

    def __post_init__(self) -> None:
        check.positive(self.radius, "radius")
        check.positive(self.std, "std", zero=True)

    def data(self, n: int, generator: torch.Generator | Draws | None = None) -> Tensor:
        angle = (math.pi * uniform(n, LIKE, generator)).float()
        side = torch.where(uniform(n, LIKE, generator) <= 0.5, 1.0, -1.0)  # the second moon: the first, turned by 180°
        arc = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], 1)
        return self.radius * side[:, None] * arc + self.std * normal((n, 2), LIKE, generator)


@dataclass(frozen=True)
class Checkerboard(ToyCoupling):
    """Uniform on the eight dark squares of a 4x4 board, `side` long, centred; sharp edges."""

    side: float = 6.0

    def __post_init__(self) -> None:
        check.positive(self.side, "side")

    def data(self, n: int, generator: torch.Generator | Draws | None = None) -> Tensor:
        which = (8 * (1 - uniform(n, LIKE, generator))).long()
        row = which // 2
        column = 2 * (which % 2) + row % 2
        within = torch.stack([1 - uniform(n, LIKE, generator) for _ in range(2)], 1)
        return (self.side * ((torch.stack([column, row], 1) + within) / 4 - 0.5)).float()


TOYS: dict[str, type[ToyCoupling]] = {"eight-gaussians": EightGaussians, "moons": Moons, "checkerboard": Checkerboard}


def toy(name: str, **parameters: float) -> ToyCoupling:
    """The coupling called `name`, with parameters of its own: `toy("eight-gaussians", radius=2.8, std=0.3)`.

    ValueError for an unknown name (with the nearest one), an unknown parameter, or one that is not positive.
    """
    kind = TOYS[check.choice(name, "name", TOYS)]
    for parameter in parameters:
        check.choice(parameter, f"a parameter of {name}", kind.__dataclass_fields__)
    return kind(**parameters)
