"""Integrals and linear ODEs over [0, 1] by Gauss-Legendre panels, halved until nothing changes; differentiable.

The panels shrink by 4 towards 0 and towards 1: Gaussian laws of little spread vary fast there, on the scale of their
variance, and a panel a fixed fraction away from what varies converges geometrically.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def panels(low: float, high: float, parts: int, depth: int) -> Tensor:
    """Edges from `low` to `high`: multiples of 1/parts, powers of 4 down to `4^-depth` from 0, `4^-10` from 1."""
    towards_0, towards_1 = (4.0 ** -torch.arange(1, n + 1, dtype=torch.float64) for n in (depth, 10))
    edges = torch.cat([torch.arange(parts + 1, dtype=torch.float64) / parts, towards_0, 1 - towards_1])
    return edges.clamp(low, high).unique()


def settled(compute: Callable[[Tensor], Tensor], edges: Tensor, rtol: float, atol: float) -> Tensor:
    """`compute(edges)` on panels halved until it changes by less than `rtol`; ValueError after six times."""
    coarse = compute(edges)
    for _ in range(6):
        edges = torch.cat([edges, (edges[1:] + edges[:-1]) / 2]).sort().values
        fine = compute(edges)
        if bool(((fine - coarse).abs() <= rtol * fine.abs().max() + atol).all()):
            return fine
        coarse = fine
    size = float(fine.detach().abs().max())
    raise ValueError(f"the integral does not settle (at {size:.6g} now); wanted a weight that is smooth in 0 < t < 1")


def integral(integrand: Callable[[Tensor], Tensor], low: float, high: float, parts: int = 4) -> Tensor:
    """∫ integrand over [low, high] within [0, 1], to about 1e-9 relative; `integrand` maps `(n,)` times to `(n,)`."""
    return settled(lambda edges: gauss_legendre(integrand, edges), panels(low, high, parts, 22), 1e-9, 1e-17)


def gauss_legendre(integrand: Callable[[Tensor], Tensor], edges: Tensor, order: int = 16) -> Tensor:
    from numpy.polynomial.legendre import leggauss

    nodes, weights = (torch.as_tensor(x) for x in leggauss(order))
    half = edges.diff()[:, None] / 2
    points = edges[:-1, None] + half * (1 + nodes)
    return ((half * weights).flatten() * integrand(points.flatten())).sum()


def transition(rate: Callable[[Tensor], Tensor], dim: int) -> Tensor:
    """`Phi(0)` of `dPhi/dlog u = rate(u) Phi`, `Phi(1) = I`, `(dim, dim)`, where `rate` `(n, dim, dim)` stays bounded.

    Ends at u = 4^-30: what lies below is less than rounding for rates that vanish like u.
    """
    log_u = panels(4.0**-30, 1.0, 16, 30).log()
    return settled(lambda edges: _gauss_steps(rate, edges, dim), log_u, 1e-11, 1e-13)


def _gauss_steps(rate: Callable[[Tensor], Tensor], edges: Tensor, dim: int, order: int = 8) -> Tensor:
    """One implicit Gauss step per panel (order 16), multiplied from u = 1 down."""
    nodes, weights, matrix = _collocation(order)
    half = edges.diff()[:, None] / 2
    rates = rate((edges[:-1, None] + half * (1 + nodes)).flatten().exp()).reshape(-1, order, dim, dim)
    # Slopes F_i = A_i (I - half Σ_j Q_ij F_j), running down from the panel's upper edge.
    coupled = torch.einsum("pikl,ij,p->pikjl", rates, matrix, half[:, 0]).reshape(-1, order * dim, order * dim)
    slopes = torch.linalg.solve(torch.eye(order * dim) + coupled, rates.reshape(-1, order * dim, dim))
    total = torch.einsum("pikl,i->pkl", slopes.reshape(rates.shape), weights)
    phi = torch.eye(dim, dtype=torch.float64)
    for step in (torch.eye(dim) - half[:, :, None] * total).flip(0):
        phi = step @ phi
    return phi


def _collocation(order: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gauss nodes, weights, and `Q_ij = ∫ from x_i to 1` of the j-th node's Lagrange polynomial."""
    import numpy as np
    from numpy.polynomial import legendre

    nodes, weights = legendre.leggauss(order)
    at_nodes = legendre.legvander(nodes, order - 1)
    tails = [legendre.legval(1, c) - legendre.legval(nodes, c) for c in map(legendre.legint, np.eye(order))]
    matrix = np.stack(tails, 1) @ np.linalg.inv(at_nodes)
    return torch.as_tensor(nodes), torch.as_tensor(weights), torch.as_tensor(matrix)
