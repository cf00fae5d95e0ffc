"""One bridge for every linear reference process.

A reference process `dx = f(t) x dt + g(t) dw` is known by two functions of time,
`alpha(t) = exp ∫ f` and `rho²(t) = ∫ g²/alpha²`. Pinned at both ends it is, for `0 <= s <= t`,

    x_s | x0, x_t ~ N( (alpha_s/alpha_t)(rho_s²/rho_t²) x_t + alpha_s (1 - rho_s²/rho_t²) x0,
                       alpha_s² rho_s² (1 - rho_s²/rho_t²) I )                                (*)

which serves as the forward bridge (`t = T`, `x_t = xT`) and as a sampler's step (`x0` the network's
guess). In `y = x/alpha`, on the clock `rho²`, every one of them is the same Brownian bridge.
Times run from 0 (clean data `x0`) to T = 1 (source `xT`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _checks as check
from ._random import normal

Schedule = Callable[[Tensor], Tensor]


def expand(coefficient: Tensor, x: Tensor) -> Tensor:
    """A per-sample coefficient `(batch,)` (or a single one) shaped and typed to multiply `x`."""
    coefficient = coefficient.to(device=x.device, dtype=x.dtype)
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - 1)) if coefficient.ndim else coefficient


def derivative(schedule: Schedule, t: Tensor) -> Tensor:
    """d schedule/dt at every time of `t` (float64), by automatic differentiation."""
    with torch.enable_grad():
        t = t.detach().requires_grad_()
        value = schedule(t)
        return torch.autograd.grad(value.sum(), t)[0] if value.requires_grad else torch.zeros_like(t)


@dataclass(frozen=True)
class Bridge:
    """The pinned linear process of `alpha(t)` and `rho²(t)`, `t` in [0, 1].

    `alpha` and `rho2` map float64 tensors of times to tensors of the same shape, differentiably, with
    `alpha(0) = 1`, `alpha > 0`, `rho2(0) = 0` and `rho2` increasing; ValueError otherwise.
    `clock_inverse` maps `u = rho²(t)/rho²(1)` back to `t`; without it bisection does.
    `family` and `parameters` say where the bridge came from, so that a checkpoint's card can name it.
    """

    alpha: Schedule
    rho2: Schedule
    clock_inverse: Schedule | None = None
    family: str = "custom"
    parameters: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        t = torch.linspace(0, 1, 65, dtype=torch.float64)
        alpha, rho2 = self.alpha(t), self.rho2(t)
        if alpha.shape != t.shape or rho2.shape != t.shape:
            raise ValueError("alpha(t) or rho2(t) changes the shape of t; wanted one value per time")
        if not (torch.isfinite(alpha).all() and (alpha > 0).all() and abs(alpha[0] - 1) < 1e-12):
            raise ValueError(
                f"alpha(0) is {alpha[0]:g}, its least value {alpha.min():g}; wanted alpha(0) = 1, alpha > 0"
            )
        if not (torch.isfinite(rho2).all() and (rho2.diff() > 0).all() and abs(rho2[0]) < 1e-12):
            raise ValueError(f"rho2 runs from {rho2[0]:g} to {rho2[-1]:g}; wanted rho2(0) = 0 and rho2 increasing")

    def __repr__(self) -> str:
        return f"{self.family}({', '.join(f'{name}={value:g}' for name, value in self.parameters)})"

    # -- the formula (*) -----------------------------------------------------------------------

    def _coefficients(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients of `x_t`, `x0` and the noise in (*), float64, times taken as they are."""
        s, t = s.double(), t.double()
        rho2_s, rho2_t, alpha_s = self.rho2(s), self.rho2(t), self.alpha(s)
        safe = torch.where(rho2_t > 0, rho2_t, torch.ones_like(rho2_t))
        ratio = torch.where(s == t, torch.ones_like(rho2_s), rho2_s / safe)
        rest = torch.where(s == t, torch.zeros_like(rho2_s), (rho2_t - rho2_s) / safe)
        return alpha_s / self.alpha(t) * ratio, alpha_s * rest, alpha_s * (rho2_s * rest).sqrt()

    def coefficients(self, t: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(a, b, c)` with `x_t = a xT + b x0 + c z`: equation (*) at `t = T`.

        `t`: a number or `(batch,)`, in [0, 1]; the three tensors have its shape and dtype (float64 for a number).
        Exact at both ends: `(0, 1, 0)` at t = 0 and `(1, 0, 0)` at t = 1.
        """
        t = check.times(t)
        return tuple(c.to(t.dtype) for c in self._coefficients(t, torch.ones_like(t)))

    def _sample(self, x0: Tensor, x_t: Tensor, s: Tensor, t: Tensor, z: Tensor) -> Tensor:
        a, b, c = (expand(coefficient, x0) for coefficient in self._coefficients(s, t))
        return torch.addcmul(a * x_t, b, x0).addcmul(c, z)

    def sample(self, x0: Tensor, xT: Tensor, t: float | Tensor, z: Tensor | None = None, generator=None) -> Tensor:
        """`x_t ~ q(x_t | x0, xT)`, the bridge's law at `t`, of the shape of `x0` and `xT` `(batch, ...)`.

        `t`: a number or `(batch,)` in [0, 1]. `z`: standard normal noise of the same shape, drawn if None.
        Differentiable in `x0`, `xT` and `z`.
        """
        check.same(x0, xT, "x0", "xT")
        t = check.times(t, batch=len(x0)).to(x0.device)
        if z is None:
            z = normal(x0.shape, like=x0, generator=generator)
        check.same(x0, z, "x0", "z")
        return self._sample(x0, xT, t, torch.ones_like(t), z)

    def posterior(self, x0: Tensor, x_t: Tensor, s: float | Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of `q(x_s | x0, x_t)`, `s <= t`: equation (*).

        Returns the mean, shaped like `x0`, and the std, shaped to multiply it. At `s = 0` the mean is `x0`, at
        `s = t` it is `x_t`, with std 0 in both.
        """
        check.same(x0, x_t, "x0", "x_t")
        s, t = (check.times(time, name, len(x0)).to(x0.device) for time, name in ((s, "s"), (t, "t")))
        if bool((s > t).any()):
            raise ValueError(
                f"s reaches {float(s.max()):g} and t only {float(t.min()):g}; wanted s <= t, the step goes back"
            )
        a, b, c = (expand(coefficient, x0) for coefficient in self._coefficients(s, t))
        return a * x_t + b * x0, c

    # -- what a denoiser implies ---------------------------------------------------------------

    def f(self, t: float | Tensor) -> Tensor:
        """The linear drift `f(t) = d log alpha/dt`, of the shape of `t`, float64."""
        return derivative(lambda time: self.alpha(time).log(), check.times(t).double())

    def g2(self, t: float | Tensor) -> Tensor:
        """The squared diffusion `g²(t) = alpha² d rho²/dt`, of the shape of `t`, float64."""
        t = check.times(t).double()
        return self.alpha(t) ** 2 * derivative(self.rho2, t)

    def _at(self, t: float | Tensor, x: Tensor, undefined: tuple[float, ...], what: str) -> Tensor:
        t = check.times(t, batch=len(x)).double().to(x.device)
        for end in undefined:
            if bool((t == end).any()):
                raise ValueError(f"t is {end:g}; wanted a time where the {what} is defined, it is not at t = {end:g}")
        return t

    def reverse_drift(self, xhat0: Tensor, x_t: Tensor, t: float | Tensor) -> Tensor:
        """Drift `f x_t + (d log rho²/dt)(x_t - alpha xhat0)` of the reverse-time SDE, for `t > 0`.

        `xhat0`: a denoiser's output at `(x_t, t)`, conditional or not, of the shape of `x_t`. The SDE runs from t = 1
        down: a step of length h is `x - h drift + g sqrt(h) z`. IBMD eq. 5 with `v = -(x_t - alpha xhat0)/(alpha
        rho)²`.
        """
        check.same(xhat0, x_t, "xhat0", "x_t")
        t = self._at(t, x_t, (0.0,), "reverse drift")
        rate = expand(derivative(self.rho2, t) / self.rho2(t), x_t)
        return expand(self.f(t), x_t) * x_t + rate * (x_t - expand(self.alpha(t), x_t) * xhat0)

    def score(self, xhat0: Tensor, x_t: Tensor, t: float | Tensor, xT: Tensor) -> Tensor:
        """`∇ log p(x_t | xT) = (a xT + b xhat0 - x_t)/c²`, for `0 < t < 1`.

        Only for a *conditional* denoiser `xhat0 = E[x0 | x_t, xT]`: the unconditional score needs `E[xT | x_t]` too.
        """
        check.same(xhat0, x_t, "xhat0", "x_t")
        check.same(xT, x_t, "xT", "x_t")
        t = self._at(t, x_t, (0.0, 1.0), "score")
        a, b, c = (expand(coefficient, x_t) for coefficient in self._coefficients(t, torch.ones_like(t)))
        return (a * xT + b * xhat0 - x_t) / c**2

    def _pull(self, x_t: Tensor, t: Tensor, xT: Tensor) -> Tensor:
        """`g² ∇ log q(xT | x_t)`, Doob's h-transform: what pins the process at `xT`."""
        one = torch.ones_like(t)
        rate = derivative(self.rho2, t) / (self.rho2(one) - self.rho2(t))
        return expand(rate, x_t) * (expand(self.alpha(t) / self.alpha(one), x_t) * xT - x_t)

    def forward_drift(self, x_t: Tensor, t: float | Tensor, xT: Tensor) -> Tensor:
        """Drift `f x_t + g² ∇ log q(xT | x_t)` of the process pinned at `xT` (IBMD eq. 2), for `t < 1`.

        From `x0` at t = 0, steps `x + h drift + g sqrt(h) z` draw paths of the bridge.
        """
        check.same(x_t, xT, "x_t", "xT")
        t = self._at(t, x_t, (1.0,), "pinned drift")
        return expand(self.f(t), x_t) * x_t + self._pull(x_t, t, xT)

    def ode_drift(self, xhat0: Tensor, x_t: Tensor, t: float | Tensor, xT: Tensor) -> Tensor:
        """Velocity `f x_t + g² (∇ log q(xT|x_t) - score/2)` of the probability-flow ODE, for `0 < t < 1`.

        Conditional denoisers only, as for :meth:`score`.
        """
        score = self.score(xhat0, x_t, t, xT)
        return self.forward_drift(x_t, t, xT) - expand(self.g2(t), x_t) / 2 * score

    # -- the clock -----------------------------------------------------------------------------

    def clock(self, t: float | Tensor) -> Tensor:
        """`u = rho²(t)/rho²(1)` in [0, 1], float64: the time of the Brownian bridge that this bridge is."""
        t = check.times(t).double()
        return self.rho2(t) / self.rho2(torch.ones_like(t))

    def time_at(self, u: float | Tensor) -> Tensor:
        """The time whose clock is `u`, float64: the inverse of :meth:`clock`."""
        u = check.times(u, "u").double()
        if self.clock_inverse is not None:
            return self.clock_inverse(u).clamp(0, 1)
        low, high = torch.zeros_like(u), torch.ones_like(u)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.clock(middle) < u
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


def bridge_checked(bridge: object) -> Bridge:
    """`bridge` itself if it is one, else TypeError."""
    if not isinstance(bridge, Bridge):
        raise TypeError(f"bridge is a {type(bridge).__name__}; wanted a Bridge, for example brownian(epsilon=0.1)")
    return bridge


def brownian(epsilon: float = 0.1) -> Bridge:
    """Brownian motion of variance `epsilon > 0` per unit time: `alpha = 1`, `rho² = epsilon t`."""
    epsilon = check.positive(epsilon, "epsilon")
    return Bridge(torch.ones_like, lambda t: epsilon * t, lambda u: u, "brownian", (("epsilon", epsilon),))


def ve(sigma_max: float = 80.0) -> Bridge:
    """Variance exploding: `alpha = 1`, `rho = sigma_max t`. Published tables run in `sigma = sigma_max t`."""
    sigma_max = check.positive(sigma_max, "sigma_max")
    return Bridge(torch.ones_like, lambda t: (sigma_max * t) ** 2, torch.sqrt, "ve", (("sigma_max", sigma_max),))


def vp(beta_d: float = 2.0, beta_min: float = 0.1) -> Bridge:
    """Variance preserving (DDBM): `log alpha = -beta_d t²/4 - beta_min t/2`, `rho² = 1/alpha² - 1`.

    `beta_d >= 0`, `beta_min >= 0`, not both zero: `f = -(beta_min + beta_d t)/2`, `g² = beta_min + beta_d t`.
    """
    beta_d, beta_min = check.positive(beta_d, "beta_d", zero=True), check.positive(beta_min, "beta_min", zero=True)
    if beta_d + beta_min == 0:
        raise ValueError("beta_d and beta_min are both 0; wanted at least one positive, or there is no noise")

    def log_inverse_alpha2(t: Tensor) -> Tensor:
        return beta_d * t**2 / 2 + beta_min * t

    def clock_inverse(u: Tensor) -> Tensor:
        level = torch.log1p(u * torch.special.expm1(log_inverse_alpha2(torch.ones_like(u))))
        return 2 * level / (beta_min + (beta_min**2 + 2 * beta_d * level).sqrt()).clamp_min(1e-300)

    parameters = (("beta_d", beta_d), ("beta_min", beta_min))
    return Bridge(
        lambda t: torch.exp(-log_inverse_alpha2(t) / 2),
        lambda t: torch.special.expm1(log_inverse_alpha2(t)),
        clock_inverse,
        "vp",
        parameters,
    )


def i2sb(beta_max: float = 0.3, steps: int = 1000) -> Bridge:
    """I2SB's symmetric schedule as a clock: `alpha = 1`, `rho²((n+1)/steps) = F_n`, `rho²(0) = 0`, linear between.

    `F_n = sum of the first n+1 betas`, `sqrt(beta)` linear from 0.01 towards `sqrt(beta_max/steps)` up to the middle,
    then mirrored. `steps` even. The released sums include both ends, so its marginals agree to 1e-3 only.
    """
    beta_max, steps = check.positive(beta_max, "beta_max"), check.count(steps, "steps", least=2)
    if steps % 2:
        raise ValueError(f"steps is {steps}; wanted an even number, the schedule is mirrored at its middle")
    n = torch.arange(steps, dtype=torch.float64)
    root = 0.01 + torch.minimum(n, steps - 1 - n) / (steps - 1) * ((beta_max / steps) ** 0.5 - 0.01)
    table = torch.cat([torch.zeros(1, dtype=torch.float64), (root**2).cumsum(0)])

    def rho2(t: Tensor) -> Tensor:
        values = table.to(t.device)
        left = (t.detach() * steps).floor().clamp(0, steps - 1).long()
        return values[left] + (t * steps - left) * (values[left + 1] - values[left])

    def clock_inverse(u: Tensor) -> Tensor:
        values = table.to(u.device)
        level = u * values[-1]
        left = (torch.searchsorted(values, level.contiguous(), right=True) - 1).clamp(0, steps - 1)
        return (left + (level - values[left]) / (values[left + 1] - values[left])) / steps

    return Bridge(torch.ones_like, rho2, clock_inverse, "i2sb", (("beta_max", beta_max), ("steps", float(steps))))


FAMILIES: dict[str, Callable[..., Bridge]] = {"brownian": brownian, "i2sb": i2sb, "ve": ve, "vp": vp}


def bridge_from(family: str, **parameters: float) -> Bridge:
    """A bridge by the name of its family, as a checkpoint's card stores it."""
    family = check.choice(family, "family", FAMILIES)
    if "steps" in parameters:
        parameters["steps"] = int(parameters["steps"])
    return FAMILIES[family](**parameters)
