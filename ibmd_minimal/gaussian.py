"""Gaussian couplings: every denoiser, marginal and limit of a sampler in closed form.

With `(x0, xT)` jointly Gaussian and `x_t = a xT + b x0 + c z` everything is linear. All of it in float64, and
differentiable in `mean` and `cov` where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _checks as check
from ._quadrature import transition
from ._random import normal
from .bridges import Bridge, brownian

RANK = 1e-13  # eigenvalues below this fraction of the largest are rounding: the law does not spread that way


def per_matrix(coefficient: Tensor) -> Tensor:
    """A coefficient per time, shaped to multiply matrices."""
    return coefficient[..., None, None]


def inverse(matrix: Tensor) -> Tensor:
    """Inverse of positive definite matrices `(..., D, D)`; the pseudo-inverse where one of them is degenerate."""
    if not matrix.shape[-1]:
        return matrix
    factor, failed = torch.linalg.cholesky_ex(matrix)
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    if not failed.any() and bool((pivots.amin(-1) > RANK * pivots.amax(-1)).all()):
        return torch.cholesky_inverse(factor)
    return torch.linalg.pinv(matrix, rtol=RANK, hermitian=True)


def support(cov: Tensor) -> Tensor:
    """An orthonormal basis `(D, rank)` of the directions a covariance spreads in; a constant to autograd."""
    values, vectors = torch.linalg.eigh(cov.detach())
    return vectors[:, values > RANK * values[-1].clamp_min(0)]


def trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


@dataclass(frozen=True, eq=False)
class GaussianCoupling:
    """`(x0, xT)` jointly Gaussian in dimension `D`: `mean` `(2D,)`, `cov` `(2D, 2D)`, `x0` first.

    `cov` may be degenerate. ValueError unless it is finite, symmetric and positive semi-definite.
    """

    mean: Tensor
    cov: Tensor

    def __post_init__(self) -> None:
        mean, cov = (torch.as_tensor(x).double() for x in (self.mean, self.cov))
        if mean.ndim != 1 or len(mean) % 2 or not len(mean) or cov.shape != (len(mean), len(mean)):
            raise ValueError(f"mean has shape {tuple(mean.shape)}, cov {tuple(cov.shape)}; wanted (2D,) and (2D, 2D)")
        check.finite(mean, "mean")
        check.finite(cov, "cov")
        scale = float(cov.detach().abs().max())
        asymmetry = float((cov - cov.T).detach().abs().max())
        lowest = float(torch.linalg.eigvalsh(cov.detach())[0])
        if asymmetry > 1e-10 * scale or lowest < -1e-10 * scale:
            raise ValueError(
                f"cov is asymmetric by {asymmetry:.3g}, its least eigenvalue {lowest:.3g}; wanted a covariance, "
                "symmetric and positive semi-definite"
            )
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "cov", (cov + cov.T) / 2)

    @classmethod
    def of(cls, mean0, meanT, cov0, covT, cross) -> GaussianCoupling:
        """From the parts, `cross = Cov(x0, xT)`. `D` is the length of `mean0` (a number: 1).

        Means are `(D,)`, the others `(D, D)`; a number stands for a constant vector, or that multiple of the identity.
        """
        mean0, meanT, cov0, covT, cross = (
            torch.as_tensor(x, dtype=torch.float64) for x in (mean0, meanT, cov0, covT, cross)
        )
        dim = mean0.numel()
        one, eye = torch.ones(dim, dtype=torch.float64), torch.eye(dim, dtype=torch.float64)
        mean0, meanT = (x if x.ndim else x * one for x in (mean0, meanT))
        blocks = cov0, covT, cross = [x if x.ndim else x * eye for x in (cov0, covT, cross)]
        if meanT.shape != (dim,) or any(x.shape != (dim, dim) for x in blocks):
            shapes = ", ".join(str(tuple(x.shape)) for x in (mean0, meanT, *blocks))
            raise ValueError(f"mean0, meanT, cov0, covT, cross have shapes {shapes}; wanted (D,) twice, then (D, D)")
        return cls(torch.cat([mean0, meanT]), torch.cat([torch.cat([cov0, cross], 1), torch.cat([cross.T, covT], 1)]))

    @property
    def dim(self) -> int:
        return len(self.mean) // 2

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """`(mean0, meanT, cov0, covT, cross)`, as :meth:`of` takes them."""
        d = self.dim
        return self.mean[:d], self.mean[d:], self.cov[:d, :d], self.cov[d:, d:], self.cov[:d, d:]

    @property
    def regression(self) -> tuple[Tensor, Tensor]:
        """`(B, R)`: `x0 | xT ~ N(mean0 + B (xT - meanT), R)`."""
        _, _, cov0, covT, cross = self.parts
        slope = cross @ inverse(covT)
        return slope, cov0 - slope @ cross.T

    def with_cross(self, cross: Tensor) -> GaussianCoupling:
        """The same laws of `x0` and of `xT`, paired otherwise."""
        return GaussianCoupling.of(*self.parts[:4], cross)

    def sample(self, n: int, generator=None, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """`n` independent pairs `(x0, xT)`, `(n, D)` each. Not differentiable in `cov`."""
        z = normal((check.count(n, "n"), 2 * self.dim), like=self.mean, generator=generator)
        values, vectors = torch.linalg.eigh(self.cov.detach())
        pairs = self.mean + z @ (vectors * values.clamp_min(0).sqrt()).T
        return pairs[:, : self.dim].to(dtype), pairs[:, self.dim :].to(dtype)

    def marginal(self, bridge: Bridge, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """Mean `(..., D)` and covariance `(..., D, D)` of `x_t`; `t` a number or `(batch,)`, which `...` stands for."""
        mean0, meanT, cov0, covT, cross = self.parts
        a, b, c = (per_matrix(x) for x in bridge.coefficients(check.times(t).double().to(self.mean.device)))
        eye = torch.eye(self.dim, dtype=torch.float64, device=self.mean.device)
        cov = b**2 * cov0 + a * b * (cross + cross.T) + a**2 * covT + c**2 * eye
        return a[..., 0] * meanT + b[..., 0] * mean0, cov

    def denoiser(self, bridge: Bridge, conditional: bool = False) -> GaussianDenoiser:
        """`E[x0 | x_t]`, or `E[x0 | x_t, xT]` if `conditional`, as a callable `(x_t, t, xT)`."""
        return GaussianDenoiser(self, bridge, conditional)

    def on_clock(self, bridge: Bridge) -> tuple[GaussianCoupling, Bridge]:
        """The process in `y = x/alpha` on the clock `u`: the coupling of `(x0, xT/alpha_T)`, a Brownian bridge."""
        one = torch.ones((), dtype=torch.float64)
        mean0, meanT, cov0, covT, cross = self.parts
        scale = bridge.alpha(one).to(self.mean.device)
        scaled = GaussianCoupling.of(mean0, meanT / scale, cov0, covT / scale**2, cross / scale)
        return scaled, brownian(float(bridge.rho2(one)))

    def aligned(self) -> tuple[GaussianCoupling, Tensor]:
        """The coupling in axes `Q` `(D, D)` along and across the support of `x0`, and `Q`; itself at full rank.

        What rounding leaves across the support is removed: next to t = 0 the denoiser divides it by next to nothing.
        """
        mean0, meanT, cov0, covT, cross = self.parts
        eye = torch.eye(self.dim, dtype=torch.float64, device=self.mean.device)
        rank = support(cov0).shape[1]
        if rank == self.dim:
            return self, eye
        axes = torch.linalg.eigh(cov0.detach()).eigenvectors
        keep = (torch.arange(self.dim, device=axes.device) >= self.dim - rank).double()[:, None]
        mean0, meanT, cov0, covT, cross = (
            axes.T @ mean0,
            axes.T @ meanT,
            *(axes.T @ x @ axes for x in (cov0, covT, cross)),
        )
        return GaussianCoupling.of(mean0, meanT, keep * cov0 * keep.T, covT, keep * cross), axes

    def process_coupling(self, bridge: Bridge) -> GaussianCoupling:
        """The law of `(x0, xT)` along the *unconditional* reverse process, what its samplers tend to.

        Both marginals are those of the coupling, `Cov(x0, xT)` is not: on the clock the process's regression `Phi` of
        `y` on `yT` obeys `dPhi/dlog u = (I - K(u)) Phi`, `Phi(1) = I`, solved to 1e-10. The conditional process gives
        the coupling itself.
        """
        scaled, clock = self.on_clock(bridge)
        denoiser, eye = scaled.denoiser(clock), torch.eye(self.dim, dtype=torch.float64)
        phi = transition(lambda u: eye - denoiser.linear(u)[0], self.dim)
        return self.with_cross(phi @ scaled.parts[3] * bridge.alpha(torch.ones((), dtype=torch.float64)))

    def few_step_coupling(self, bridge: Bridge, times: Sequence[float]) -> GaussianCoupling:
        """The law of `(x0, xT)` of an ideal `N`-step student anchored at `x_{t_n}`.

        At each of `times` (from 1, descending) it draws `x0 ~ p(x0 | x_{t_n})`, then the bridge's posterior at the
        next; the last `x0` is the sample. One time gives the coupling itself, ever finer ones the process's.
        """
        times = [float(t) for t in times]
        if not times or times[0] != 1 or any(s >= t for s, t in zip(times[1:], times)) or times[-1] < 0:
            raise ValueError(f"times are {times}; wanted them to start at 1 and descend to 0 or above")
        t = torch.tensor(times, dtype=torch.float64)
        gains, cross = self.denoiser(bridge).linear(t)[0], self.parts[3]
        keep, jump, _ = bridge._coefficients(t[1:], t[:-1])
        for k, j, gain in zip(keep, jump, gains):
            cross = k * cross + j * (gain @ cross)
        return self.with_cross(gains[-1] @ cross)


@dataclass(frozen=True, eq=False)
class GaussianDenoiser:
    """`xhat0 = K x_t + KT xT + m`, exact for a Gaussian coupling; `KT = 0` unless conditional."""

    coupling: GaussianCoupling
    bridge: Bridge
    conditional: bool = False

    def linear(self, t: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(K, KT, m)` at `t`, a number or `(batch,)`: `(..., D, D)` twice and `(..., D)`, float64.

        Limits are taken at both ends; at a degenerate end, on the law's support.
        """
        t = check.times(t).double().to(self.coupling.mean.device)
        return self._conditional(t) if self.conditional else self._unconditional(t)

    def _unconditional(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        aligned, axes = self.coupling.aligned()
        mean0, _, cov0, _, cross = aligned.parts
        a, b, _ = (per_matrix(x) for x in self.bridge.coefficients(t))
        mean, cov = aligned.marginal(self.bridge, t)
        gain = (b * cov0 + a * cross) @ inverse(cov)
        rest = mean0 - (gain @ mean[..., None])[..., 0]
        return axes @ gain @ axes.T, torch.zeros_like(gain), rest @ axes.T

    def _conditional(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean0, meanT, *_ = self.coupling.parts
        slope, residual = self.coupling.regression
        a, b, _ = (per_matrix(x) for x in self.bridge.coefficients(t))
        eye = torch.eye(self.coupling.dim, dtype=torch.float64, device=t.device)
        # b R (b² R + c² I)^-1 on the support of R, divided through by b: c²/b = alpha rho² does not vanish at t = 1.
        plane = support(residual)
        spread = plane.T @ residual @ plane
        noise = per_matrix(self.bridge.alpha(t) * self.bridge.rho2(t)) * (plane.T @ plane)
        gain = plane @ spread @ inverse(b * spread + noise) @ plane.T
        rest = ((eye - b * gain) @ (mean0 - slope @ meanT)[:, None])[..., 0]
        return gain, slope - gain @ (a * eye + b * slope), rest

    def residual(self, t: float | Tensor) -> Tensor:
        """`Cov(x0 | x_t)`, or `Cov(x0 | x_t, xT)`, `(..., D, D)`: with :meth:`linear` all of that law of `x0`."""
        gain, _, _ = self.linear(t)
        _, _, cov0, _, cross = self.coupling.parts
        a, b, _ = (per_matrix(x) for x in self.bridge.coefficients(check.times(t).double().to(gain.device)))
        if self.conditional:
            residual = self.coupling.regression[1]
            return residual - b * gain @ residual
        return cov0 - gain @ (b * cov0 + a * cross.T)

    def __call__(self, x_t: Tensor, t: float | Tensor, xT: Tensor | None = None) -> Tensor:
        """`xhat0` of the shape and dtype of `x_t`, `(batch, ...)` with `D` elements per sample."""
        check_sizes(x_t, xT, self.coupling.dim, self.conditional)
        terms = [k.to(x_t) for k in self.linear(check.times(t, batch=len(x_t)))]
        flat = (terms[0] @ x_t.flatten(1)[..., None])[..., 0] + terms[2]
        if self.conditional:
            flat = flat + (terms[1] @ xT.flatten(1)[..., None])[..., 0]
        return flat.reshape(x_t.shape)


def check_sizes(x_t: Tensor, xT: Tensor | None, dim: int, conditional: bool) -> None:
    check.tensor(x_t, "x_t")
    if conditional:
        check.same(xT, x_t, "xT", "x_t")
    if x_t[0].numel() != dim:
        raise ValueError(
            f"x_t has shape {tuple(x_t.shape)}; wanted {dim} elements per sample, the coupling's dimension"
        )
