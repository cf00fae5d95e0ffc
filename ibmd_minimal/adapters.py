"""Any teacher as a denoiser: networks that predict noise, velocity, score or I2SB's label, turned into `xhat0`.

Each function wraps a network, unmodified, in a module that is called as every denoiser is, `xhat0 = model(x_t, t, xT)`.
The formulas, with `x_t = a xT + b x0 + c eps` on the bridge and `sigma_t = alpha_t rho_t`:

    from_i2sb      xhat0 = (x_t - sigma_t y)/alpha_t                  y = (x_t - alpha_t x0)/sigma_t
    from_velocity  xhat0 = (x_t - (u - f x_t)/(d log rho²/dt))/alpha_t   u the reverse drift ("drift")
                   xhat0 = (x_t + sigma_t² v)/alpha_t                 v as in IBMD eq. 5 ("ibmd")
                   xhat0 from `Bridge.ode_drift`, solved for it       the probability-flow ODE ("ode")
    from_noise     xhat0 = (x_t - a xT - c eps)/b                     conditional
    from_score     xhat0 = (x_t - a xT + c² score)/b                  conditional

At t = 0 all give the limit `xhat0 = x_t` exactly. At t = T the last three say nothing of `x0`, because there b = 0 and
`x_t = xT` whatever `x0` is: ValueError, unless `until` says from where on to answer as at an earlier time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from . import _checks as check
from .bridges import Bridge, bridge_checked, derivative, expand

Formula = Callable[[Bridge, Tensor, Tensor, Tensor, Tensor | None], Tensor]
Time = Callable[[Tensor], Tensor]


class Adapter(nn.Module):
    """A network and the formula that turns its output into `xhat0`.

    `network`: called `network(x_t, time(t), xT)`, or `network(x_t, time(t))` if unconditional and two arguments do;
    with `label=` where a label is given. A module's parameters are this one's: it is copied, moved and frozen as one.
    `conditional`: whether `xhat0` is `E[x0 | x_t, xT]`. `time`: the network's own time from t `(batch,)` in [0, 1].
    `until`: times above it are answered as if they were it; None for no such thing.
    """

    def __init__(
        self,
        network: Callable,
        bridge: Bridge,
        formula: Formula,
        conditional: bool,
        time: Time | None = None,
        until: float | None = None,
    ):
        super().__init__()
        check.callable_(network, "network", "a callable network(x_t, t, xT)")
        bridge_checked(bridge)
        if time is not None:
            check.callable_(time, "time", "a callable from t in [0, 1] to the network's own time")
        if until is not None and not 0 < check.fraction(until, "until") < 1:
            raise ValueError(f"until is {until!r}; wanted a time between 0 and 1, near 1, for example 0.999")
        self.network, self.bridge, self.formula = network, bridge, formula
        self.conditional, self.time, self.until = bool(conditional), time, until
        self.takes_xT = self.conditional or not _two_arguments_do(network)

    def forward(self, x_t: Tensor, t: Tensor, xT: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        """`xhat0`, of the shape of `x_t`. `t`: `(batch,)` in [0, 1]; `xT`: shaped like `x_t`, needed if conditional."""
        t = check.times(t, batch=len(check.tensor(x_t, "x_t"))).to(x_t.device).expand(len(x_t))
        if self.conditional and xT is None:
            raise ValueError("xT is missing; this denoiser is conditional and wants model(x_t, t, xT)")
        if self.conditional:
            check.same(x_t, xT, "x_t", "xT")
        t = t if self.until is None else t.clamp_max(self.until)
        own = t if self.time is None else self.time(t)
        inputs = (x_t, own, xT) if self.takes_xT else (x_t, own)
        output = self.network(*inputs) if label is None else self.network(*inputs, label=label)
        if not isinstance(output, Tensor) or output.shape != x_t.shape:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"the network returned {got}; wanted the shape of x_t, {tuple(x_t.shape)}")
        return self.formula(self.bridge, output, x_t, t.double(), xT)


def _two_arguments_do(network: Callable) -> bool:
    try:
        inspect.signature(network.forward if isinstance(network, nn.Module) else network).bind(None, None)
    except TypeError:
        return False
    return True


# -- the formulas ----------------------------------------------------------------------------------


def _x0_from_label(bridge: Bridge, y: Tensor, x_t: Tensor, t: Tensor, xT: Tensor | None) -> Tensor:
    alpha, rho = bridge.alpha(t), bridge.rho2(t).sqrt()
    return x_t / expand(alpha, x_t) - expand(rho, x_t) * y


def _x0_from_ibmd(bridge: Bridge, v: Tensor, x_t: Tensor, t: Tensor, xT: Tensor | None) -> Tensor:
    alpha, rho2 = bridge.alpha(t), bridge.rho2(t)
    return x_t / expand(alpha, x_t) + expand(alpha * rho2, x_t) * v


def _x0_from_drift(bridge: Bridge, u: Tensor, x_t: Tensor, t: Tensor, xT: Tensor | None) -> Tensor:
    rho2, slope = bridge.rho2(t), derivative(bridge.rho2, t)
    over_rate = torch.where(rho2 > 0, rho2 / slope, torch.zeros_like(t))  # rho²/(d rho²/dt) tends to 0 with t
    return (x_t - expand(over_rate, x_t) * (u - expand(bridge.f(t), x_t) * x_t)) / expand(bridge.alpha(t), x_t)


def _x0_from_ode(bridge: Bridge, velocity: Tensor, x_t: Tensor, t: Tensor, xT: Tensor) -> Tensor:
    """The ODE's drift is linear in `xhat0`: what it is without, and what one unit of `xhat0` adds, `-g² b/(2 c²)`."""
    _, b, c = _not_at_T(bridge, t, "velocity of the ODE")
    start = t == 0
    inside = torch.where(start, torch.full_like(t, 0.5), t)
    without = bridge.ode_drift(torch.zeros_like(x_t), x_t, inside, xT)
    scale = torch.where(start, torch.zeros_like(t), 2 * c**2 / (bridge.g2(inside) * b))
    return torch.where(expand(start.to(t), x_t) > 0, x_t, expand(scale, x_t) * (without - velocity))


def _x0_from_noise(bridge: Bridge, eps: Tensor, x_t: Tensor, t: Tensor, xT: Tensor) -> Tensor:
    a, b, c = (expand(coefficient, x_t) for coefficient in _not_at_T(bridge, t, "noise"))
    return (x_t - a * xT - c * eps) / b


def _x0_from_score(bridge: Bridge, score: Tensor, x_t: Tensor, t: Tensor, xT: Tensor) -> Tensor:
    a, b, c = (expand(coefficient, x_t) for coefficient in _not_at_T(bridge, t, "score"))
    return (x_t - a * xT + c**2 * score) / b


def _not_at_T(bridge: Bridge, t: Tensor, what: str) -> tuple[Tensor, Tensor, Tensor]:
    if bool((t == 1).any()):
        raise ValueError(
            f"t is 1 and the {what} says nothing of x0 there; wanted t < 1, or an adapter with until=0.999, say, "
            "which answers times above it as if they were it"
        )
    return bridge.coefficients(t)


# -- one line per convention -----------------------------------------------------------------------


def from_i2sb(network: Callable, bridge: Bridge, *, conditional: bool = False, time: Time | None = None) -> Adapter:
    """A denoiser from a network that predicts I2SB's label `y = (x_t - alpha_t x0)/sigma_t`, `sigma = alpha rho`.

    For `alpha = 1` it is theirs, `(x_t - x0)/std_fwd`. Their network's time, step n of N counted from 0, is
    `N linspace(1e-4, 1, N)[n]`; on the bridge of `i2sb(...)` step n is at `t = (n + 1)/N`. Defined for all t.
    """
    return Adapter(network, bridge, _x0_from_label, conditional, time)


VELOCITIES: dict[str, Formula] = {"drift": _x0_from_drift, "ibmd": _x0_from_ibmd, "ode": _x0_from_ode}


def from_velocity(
    network: Callable,
    bridge: Bridge,
    convention: str = "drift",
    *,
    conditional: bool = False,
    time: Time | None = None,
    until: float | None = None,
) -> Adapter:
    """A denoiser from a network that predicts a velocity, by one of three conventions.

    "drift": the drift u of the reverse-time SDE `dx = u dt + g dw`, `Bridge.reverse_drift`. On a Brownian bridge it is
    `u = (x_t - x0)/t` in the mean, the velocity of bridge and flow matching with data at t = 0; where time runs the
    other way, hand over the network's output with its sign changed. "ibmd": v in `dx = (f x - g² v) dt + g dw` (IBMD
    eq. 5), the mean of `∇ log q(x_t | x0)`. Both for any denoiser and all t. "ode": the probability-flow ODE's velocity
    dx/dt, `Bridge.ode_drift`: conditional ones only, and not at T, for which there is `until`.
    """
    formula = VELOCITIES[check.choice(convention, "convention", VELOCITIES)]
    if convention == "ode" and not conditional:
        why = "an unconditional bridge's ODE does not give E[x0 | x_t] alone"
        raise ValueError(f"convention is 'ode' and conditional False; wanted conditional=True, since {why}")
    if convention != "ode" and until is not None:
        raise ValueError(
            f"until is {until!r} with convention {convention!r}; wanted it with 'ode' only, the others hold at T"
        )
    return Adapter(network, bridge, formula, conditional, time, until)


def from_noise(network: Callable, bridge: Bridge, *, time: Time | None = None, until: float | None = None) -> Adapter:
    """A conditional denoiser from a network that predicts `eps` of `x_t = a xT + b x0 + c eps`, `E[eps | x_t, xT]`.

    `network(x_t, time(t), xT)`. Not at T, for which there is `until`. The noise of `x_t = alpha x0 + sigma eps`, the
    forward process before it is pinned, is another: :func:`from_i2sb`'s label.
    """
    return Adapter(network, bridge, _x0_from_noise, True, time, until)


def from_score(network: Callable, bridge: Bridge, *, time: Time | None = None, until: float | None = None) -> Adapter:
    """A conditional denoiser from a network that predicts the score `∇ log p(x_t | xT)` (DDBM).

    `network(x_t, time(t), xT)`. Not at T, for which there is `until`. The unconditional score `∇ log p(x_t)` does not
    give `E[x0 | x_t]`: `E[xT | x_t]` is in it too.
    """
    return Adapter(network, bridge, _x0_from_score, True, time, until)
