"""Couplings of finitely many atoms: their denoisers are a softmax over the atoms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _checks as check
from ._random import uniform
from .bridges import Bridge, expand
from .gaussian import GaussianCoupling, check_sizes


@dataclass(frozen=True, eq=False)
class FiniteCoupling:
    """`(x0, xT)` one of `N` pairs of atoms, `(N, D)` each, with probabilities `weights` `(N,)` (equal ones if None).

    Weights are positive and are normalised. The law of `x0` that samplers tend to is that of its atoms; their law of
    the *pair* has no closed form for unconditional denoisers (for conditional ones it is the coupling).
    """

    x0: Tensor
    xT: Tensor
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        check.same(self.x0, self.xT, "x0", "xT")
        weights = torch.ones(len(self.x0)) if self.weights is None else torch.as_tensor(self.weights)
        weights = weights.to(self.x0.device).double()
        if self.x0.ndim != 2 or weights.shape != (len(self.x0),):
            shapes = f"{tuple(self.x0.shape)} and weights {tuple(weights.shape)}"
            raise ValueError(f"x0 and xT have shape {shapes}; wanted (N, D) and (N,), one weight per pair of atoms")
        for value, name in ((self.x0, "x0"), (self.xT, "xT"), (weights, "weights")):
            check.finite(value, name)
        if not bool((weights > 0).all()):
            raise ValueError(f"weights reach down to {float(weights.min()):g}; wanted positive ones")
        for name, value in (("x0", self.x0.double()), ("xT", self.xT.double()), ("weights", weights / weights.sum())):
            object.__setattr__(self, name, value)

    def moments(self) -> GaussianCoupling:
        """The Gaussian coupling of the same mean and covariance."""
        pairs = torch.cat([self.x0, self.xT], 1)
        mean = self.weights @ pairs
        return GaussianCoupling(mean, (pairs - mean).T @ ((pairs - mean) * self.weights[:, None]))

    def marginal(self, bridge: Bridge, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of `x_t`, as :meth:`GaussianCoupling.marginal`: two moments see no more than two."""
        return self.moments().marginal(bridge, t)

    def sample(self, n: int, generator=None, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """`n` independent pairs `(x0, xT)`, `(n, D)` each."""
        u = uniform(n, like=self.x0, generator=generator)
        index = torch.searchsorted(self.weights.cumsum(0), u).clamp_max(len(self.x0) - 1)
        return self.x0[index].to(dtype), self.xT[index].to(dtype)

    def denoiser(self, bridge: Bridge, conditional: bool = False) -> FiniteDenoiser:
        """`E[x0 | x_t]`, or `E[x0 | x_t, xT]` if `conditional`, as a callable `(x_t, t, xT)`."""
        return FiniteDenoiser(self, bridge, conditional)


def _squares(x: Tensor, atoms: Callable[[int], Tensor]) -> Tensor:
    """`‖x_n - atom_i‖²`, `(batch, N)`, one coordinate at a time: equal atoms tie to the last bit."""
    return sum((x[:, d, None] - atoms(d)).square() for d in range(x.shape[1]))


@dataclass(frozen=True, eq=False)
class FiniteDenoiser:
    """The mean of the atoms by their posterior, a softmax of `log w_i - ‖x_t - a xT_i - b x0_i‖²/(2 c²)`."""

    coupling: FiniteCoupling
    bridge: Bridge
    conditional: bool = False

    def __call__(self, x_t: Tensor, t: float | Tensor, xT: Tensor | None = None) -> Tensor:
        """`xhat0` of the shape and dtype of `x_t`. Computed in float64 with `(batch, N)` numbers at a time.

        At `t = 0` and `t = 1`, where c = 0, the nearest atoms share by weight. Conditional: among the atoms whose `xT`
        is the given one; ValueError if some given `xT` is none of them, to its dtype's precision.
        """
        check_sizes(x_t, xT, self.coupling.x0.shape[1], self.conditional)
        weights = self.posterior(x_t.flatten(1), t, xT.flatten(1) if self.conditional else None)
        return (weights @ self.coupling.x0.to(x_t.device)).to(x_t.dtype).reshape(x_t.shape)

    def posterior(self, x_t: Tensor, t: float | Tensor, xT: Tensor | None = None) -> Tensor:
        """Probability of each atom given `x_t` `(batch, D)` (and `xT`), `(batch, N)`, float64."""
        t = check.times(t, batch=len(x_t)).double().to(x_t.device)
        a, b, c = (expand(x, x_t.double()) for x in self.bridge.coefficients(t))
        atoms0, atomsT = self.coupling.x0.to(x_t.device), self.coupling.xT.to(x_t.device)
        squares = _squares(x_t.double(), lambda d: a * atomsT[:, d] + b * atoms0[:, d])
        if self.conditional:
            squares = squares.masked_fill(~self._matches(xT, atomsT), math.inf)
        excess = squares - squares.amin(1, keepdim=True)
        # Where c = 0 the division by 1e-300 leaves the nearest atoms alone.
        penalty = excess / (2 * c**2).clamp_min(1e-300)
        return torch.softmax(self.coupling.weights.to(x_t.device).log() - penalty, dim=1)

    def _matches(self, xT: Tensor, atoms: Tensor) -> Tensor:
        squares = _squares(xT.double(), lambda d: atoms[:, d])
        nearest = squares.amin(1, keepdim=True)
        tolerance = 4 * torch.finfo(xT.dtype).eps * float(atoms.norm(dim=1).max())
        if bool((nearest > tolerance**2).any()):
            distance = float(nearest.max()) ** 0.5
            raise ValueError(f"an xT lies {distance:.3g} from the nearest atom; wanted one of the coupling's xT atoms")
        return squares == nearest
