"""Couplings whose bridges are known exactly, and the divergences between them.

A coupling is a joint law of `(x0, xT)`; with `x_t = a xT + b x0 + c z` it makes a mixture of bridges. Gaussian ones
(`gaussian.py`) and finite ones (`finite.py`) have exact denoisers; between Gaussian ones the KLs of this file are exact
too, in float64 and differentiable in both couplings. They carry the tests and half of the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import _checks as check
from ._quadrature import integral
from .bridges import Bridge
from .finite import FiniteCoupling, FiniteDenoiser
from .gaussian import GaussianCoupling, GaussianDenoiser, inverse, per_matrix, support, trace

__all__ = [
    "FiniteCoupling",
    "FiniteDenoiser",
    "GaussianCoupling",
    "GaussianDenoiser",
    "kl_mixtures",
    "kl_paths",
    "noised_kl",
    "path_divergence",
]


def _same_support(cov_p: Tensor, cov_q: Tensor, shift: Tensor) -> bool:
    """Do `N(shift_k, cov_p)` and `N(0, cov_q)` live on the same plane, for every column of `shift`?"""
    basis_p, basis_q = support(cov_p), support(cov_q)
    shift = shift.detach().reshape(len(cov_p), -1)
    off_plane = (shift - basis_q @ (basis_q.T @ shift)).abs().max()
    scale = shift.abs().max() + (trace(cov_p) + trace(cov_q)).detach().sqrt()
    tilted = (basis_p - basis_q @ (basis_q.T @ basis_p)).abs().sum()
    return basis_p.shape == basis_q.shape and bool(tilted < 1e-6) and bool(off_plane <= 1e-9 * scale)


def _infinity(like: Tensor) -> Tensor:
    return torch.full((), math.inf, dtype=torch.float64, device=like.device)


def _kl(mean_p: Tensor, cov_p: Tensor, mean_q: Tensor, cov_q: Tensor) -> Tensor:
    """KL(N(mean_p, cov_p) ‖ N(mean_q, cov_q)), infinite unless both live on the same plane."""
    if not _same_support(cov_p, cov_q, mean_p - mean_q):
        return _infinity(mean_p)
    basis = support(cov_q)
    shift, cov_p, cov_q = basis.T @ (mean_p - mean_q), basis.T @ cov_p @ basis, basis.T @ cov_q @ basis
    precision = inverse(cov_q)
    quadratic = trace(precision @ (cov_p - cov_q)) + shift @ precision @ shift
    return (quadratic + torch.logdet(cov_q) - torch.logdet(cov_p)) / 2


def kl_mixtures(p: GaussianCoupling, q: GaussianCoupling) -> Tensor:
    """KL of the mixtures of bridges of `p` and `q`: that of the couplings, whatever the bridge they share.

    0-d, float64; infinite where one is singular with respect to the other, 0 for equal ones even if degenerate.
    """
    _pair(p, q)
    return _kl(p.mean, p.cov, q.mean, q.cov)


def _pair(p: GaussianCoupling, q: GaussianCoupling) -> None:
    for value, name in ((p, "p"), (q, "q")):
        if not isinstance(value, GaussianCoupling):
            raise TypeError(f"{name} is a {type(value).__name__}; wanted a GaussianCoupling")
    if p.dim != q.dim:
        raise ValueError(f"p has dimension {p.dim} and q {q.dim}; wanted the same")


def _squared_gap(p: GaussianDenoiser, q: GaussianDenoiser, t: Tensor) -> Tensor:
    """`E_p ‖xhat0^p - xhat0^q‖²` at times `(n,)`, summed over dimensions, under p's law of `(x_t, xT)`."""
    coupling = p.coupling
    _, meanT, _, covT, cross = coupling.parts
    a, b, _ = (per_matrix(x) for x in p.bridge.coefficients(t))
    mean, cov = coupling.marginal(p.bridge, t)
    gain, gainT, rest = (x - y for x, y in zip(p.linear(t), q.linear(t)))
    with_xT = gainT @ (b * cross + a * covT).mT
    spread = (gain @ cov + 2 * with_xT) @ gain.mT + gainT @ covT @ gainT.mT
    shift = (gain @ mean[..., None])[..., 0] + gainT @ meanT + rest
    return trace(spread) + shift.square().sum(-1)


def _over_time(value: Callable, p, q, bridge: Bridge, weight, interval: tuple[float, float]) -> Tensor:
    """∫ weight(t) value(p, q, bridge, t) dt, for a `value` that is the same in `x` and in `y = x/alpha`."""
    if weight == "path_kl":
        # On the clock the weight is 1/(2 rho⁴) d rho², the same for every bridge, and nothing has a kink.
        ends = bridge.clock(torch.tensor(interval, dtype=torch.float64)).tolist()
        (p, clock), (q, _) = p.on_clock(bridge), q.on_clock(bridge)
        rho2 = float(clock.rho2(torch.ones((), dtype=torch.float64)))
        return integral(lambda u: value(p, q, clock, u) / (2 * rho2 * u**2), *ends)
    if not callable(weight):
        check.choice(weight, "weight", ("path_kl", "plain"))
    scale = weight if callable(weight) else torch.ones_like
    # I2SB's clock is linear between its steps: let the panels end there.
    parts = int(dict(bridge.parameters).get("steps", 4))
    return integral(lambda t: scale(t) * value(p, q, bridge, t), *interval, parts)


def _interval(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = (check.fraction(end, "an end of the interval") for end in interval)
    if low >= high:
        raise ValueError(f"interval is ({low:g}, {high:g}); wanted (low, high) within [0, 1]")
    return low, high


def path_divergence(
    p: GaussianCoupling,
    q: GaussianCoupling,
    bridge: Bridge,
    conditional: bool = False,
    weight: str | Callable[[Tensor], Tensor] = "path_kl",
    interval: tuple[float, float] = (0.0, 1.0),
) -> Tensor:
    """`∫ lambda(t) E_p ‖xhat0^p - xhat0^q‖² dt` over `interval`, summed over dimensions.

    0-d, float64, differentiable in p and q. `p` is the student, whose `x_t` are looked at. `weight`: "path_kl",
    `g²/(2 alpha² rho⁴)`, with which it is the KL between the two bridge-matching processes started from the same `xT`;
    "plain", 1; or a callable of float64 times.
    With "path_kl" it is infinite where the laws of `x0` (given `xT`, if conditional) are mutually singular.
    To 1e-8 relative; ValueError if the weight is too rough for that.
    """
    _pair(p, q)
    interval = _interval(interval)
    if weight == "path_kl" and interval[0] == 0 and not _starts_agree(p, q, conditional):
        return _infinity(p.mean)

    def value(p, q, bridge, t):
        return _squared_gap(p.denoiser(bridge, conditional), q.denoiser(bridge, conditional), t)

    return _over_time(value, p, q, bridge, weight, interval)


def _starts_agree(p: GaussianCoupling, q: GaussianCoupling, conditional: bool) -> bool:
    """Are the laws of `x0` (given `xT`, for all of p's) absolutely continuous with respect to each other?"""
    if not conditional:
        columns = p.parts[0] - q.parts[0]
    else:
        shift, slope = _regression_gap(p, q)
        columns = torch.cat([shift[:, None], slope @ support(p.parts[3])], 1)
    return _same_support(_start(p, conditional), _start(q, conditional), columns)


def _start(p: GaussianCoupling, conditional: bool) -> Tensor:
    """The covariance of `x0`, given `xT` if conditional."""
    return p.regression[1] if conditional else p.parts[2]


def _regression_gap(p: GaussianCoupling, q: GaussianCoupling) -> tuple[Tensor, Tensor]:
    """`E_p[x0|xT] - E_q[x0|xT] = shift + slope (xT - meanT of p)`."""
    slope_p, slope_q = p.regression[0], q.regression[0]
    shift = p.parts[0] - q.parts[0] - slope_q @ (p.parts[1] - q.parts[1])
    return shift, slope_p - slope_q


def kl_paths(p: GaussianCoupling, q: GaussianCoupling, bridge: Bridge, conditional: bool = False) -> Tensor:
    """KL between the bridge-matching processes of `p` and `q`, each started from its own `xT`.

    Conditional: equal to :func:`kl_mixtures`. Unconditional: neither equal to it nor bounded by it.
    """
    _pair(p, q)
    start = _kl(p.parts[1], p.parts[3], q.parts[1], q.parts[3])
    return start if math.isinf(start) else start + path_divergence(p, q, bridge, conditional)


def noised_kl(
    p: GaussianCoupling,
    q: GaussianCoupling,
    bridge: Bridge,
    weight: str | Callable[[Tensor], Tensor] = "plain",
    interval: tuple[float, float] = (0.0, 1.0),
) -> Tensor:
    """`∫ 2 lambda (c²/b²) E_xT KL(p_t(.|xT) ‖ q_t(.|xT)) dt`, `xT` from p; 0-d, differentiable in p and q.

    Its gradient in p, the law of `xT` fixed, is what the inverse objective of a *conditional* teacher gives when the
    path through `x_t` is cut. Weights as for :func:`path_divergence`; with "path_kl" it is infinite from t = 0 on.
    """
    _pair(p, q)
    interval = _interval(interval)
    if weight == "path_kl" and interval[0] == 0 and not _same_conditionals(p, q):
        return _infinity(p.mean)
    return _over_time(_scaled_conditional_kl, p, q, bridge, weight, interval)


def _same_conditionals(p: GaussianCoupling, q: GaussianCoupling) -> bool:
    shift, slope = _regression_gap(p, q)
    gaps = (shift, slope @ support(p.parts[3]), p.regression[1] - q.regression[1])
    return all(bool((gap == 0).all()) for gap in gaps)


def _scaled_conditional_kl(p: GaussianCoupling, q: GaussianCoupling, bridge: Bridge, t: Tensor) -> Tensor:
    """`2 (c²/b²) E_xT KL(p_t(.|xT) ‖ q_t(.|xT))` at times `(n,)`: the KL of N(E[x0|xT], R + (c²/b²) I)."""
    _, b, c = bridge.coefficients(t)
    snr = per_matrix(b**2 / c**2)
    shift, slope = _regression_gap(p, q)
    residual_p, residual_q = p.regression[1], q.regression[1]
    eye = torch.eye(p.dim, dtype=torch.float64, device=t.device)
    precision = inverse(eye + snr * residual_q)
    excess = precision @ (residual_p - residual_q)
    spread = trace(excess) - torch.logdet(eye + snr * excess) / snr[..., 0, 0]
    return spread + trace(precision @ (torch.outer(shift, shift) + slope @ p.parts[3] @ slope.T))
