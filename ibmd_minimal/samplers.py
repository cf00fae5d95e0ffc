"""From xT to x0: posterior sampling, Euler-Maruyama, the probability-flow ODE, DBIM(eta).

Every step of every method is linear in the state `x_t`, the network's guess `xhat0`, the source `xT` and
fresh noise. So a sampler is a table with one row of numbers per network pass, computed in float64 before
the loop by handing unit inputs to the step functions below; the loop does nothing but read it.

NFE means network passes, exactly, for every method. What a denoiser allows: `E[x0 | x_t]` fixes the reverse
SDE and no more (posterior, Euler-Maruyama, DBIM with eta 1). The ODE and DBIM below eta 1 follow the score,
`(a E[xT | x_t] + b E[x0 | x_t] - x_t)/c²`, and need a *conditional* denoiser `E[x0 | x_t, xT]`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from . import _checks as check
from ._random import normal
from .bridges import Bridge, bridge_checked, expand

Denoiser = Callable[..., Tensor]
METHODS = ("posterior", "euler-maruyama", "ode-euler", "ode-heun", "dbim")
GRIDS = ("uniform", "quadratic", "clock", "geometric")


class Step(NamedTuple):
    """One step taken: the time reached, the state `x_t` there, and the guess `xhat0` that led to it."""

    t: float
    x_t: Tensor
    xhat0: Tensor


class Sampled(NamedTuple):
    """`x0 (batch, ...)`; `path (n+1, batch, ...)` from xT to x0; its `times (n+1,)`, float64, from 1 to 0."""

    x0: Tensor
    path: Tensor
    times: Tensor


# -- one step from t to s: mean and standard deviation -------------------------------------------


def dbim_step(
    bridge: Bridge, xhat0: Tensor, x_t: Tensor, xT: Tensor, s: float | Tensor, t: float | Tensor, eta: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Mean, shaped like `x_t`, and std of `x_s`, `s <= t`: DBIM's `mean_s + kappa (x_t - mean_t) + omega z`.

    Here `mean_t = a xT + b xhat0`, `omega = eta std` of the bridge's posterior and `kappa` keeps the variance `c_s²`.
    `eta = 1` is the posterior; below it `kappa` exceeds the posterior's weight `k` of `x_t`, so the step is written
    as the posterior's plus `(kappa - k)(x_t - mean_t)`: no cancellation. There it divides by `c_t`, which is 0 at T:
    ValueError at `t = 1`; leave T by a posterior step. `s`, `t`: numbers or `(batch,)`.
    """
    check.same(x_t, xT, "x_t", "xT")
    eta = check.fraction(eta, "eta")
    mean, std = bridge.posterior(xhat0, x_t, s, t)
    if eta == 1:
        return mean, std
    s, t = (check.times(time).double().to(x_t.device) for time in (s, t))
    if bool((t == 1).any()):
        raise ValueError(f"t is 1 and eta {eta:g}; wanted t < 1 or eta 1: DBIM's step divides by c_t, which is 0 at T")
    a, b, c = bridge.coefficients(t)
    k, _, noise = bridge._coefficients(s, t)
    kappa = (k**2 + (1 - eta**2) * (noise / torch.where(c > 0, c, 1)) ** 2).sqrt()
    return mean + expand(kappa - k, x_t) * (x_t - expand(a, x_t) * xT - expand(b, x_t) * xhat0), eta * std


def euler_maruyama_step(
    bridge: Bridge, xhat0: Tensor, x_t: Tensor, xT: Tensor, s: float | Tensor, t: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and std of an Euler-Maruyama step of the reverse SDE from `t > 0` to `s`; `xT` is not used."""
    h = _length(s, t, x_t)
    return x_t - h * bridge.reverse_drift(xhat0, x_t, t), (h * expand(bridge.g2(t), x_t)).sqrt()


def ode_step(
    bridge: Bridge, xhat0: Tensor, x_t: Tensor, xT: Tensor, s: float | Tensor, t: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Euler step of the probability-flow ODE from `0 < t < 1` to `s`, and its std, zero. Conditional denoisers only."""
    h = _length(s, t, x_t)
    return x_t - h * bridge.ode_drift(xhat0, x_t, t, xT), torch.zeros_like(h)


def _length(s: float | Tensor, t: float | Tensor, x_t: Tensor) -> Tensor:
    s, t = (check.times(time, name, len(x_t)).double() for time, name in ((s, "s"), (t, "t")))
    if bool((s > t).any()):
        raise ValueError(
            f"s reaches {float(s.max()):g}, t falls to {float(t.min()):g}; wanted s <= t, the step goes back"
        )
    return expand(t - s, x_t)


# -- time grids ----------------------------------------------------------------------------------


def time_grid(grid: str | Tensor, n: int, bridge: Bridge, delta: float | None = None) -> Tensor:
    """`n + 1` times from 1 down to 0, float64: a named grid, or the caller's own, checked.

    "uniform" in t; "quadratic", `t = u²` with u uniform, fine near 0; "clock", uniform in `rho²`; "geometric", the
    one for the ODE: a first step to `1 - delta` (by default `1/n²`), from there `1 - t` grows geometrically, so that
    steps near T, where the ODE is singular, are small *relative* to what is left to T. `delta` in (0, 1), only there.
    """
    n = check.count(n, "n")
    if isinstance(grid, Tensor) and delta is None:
        return _own_grid(grid, n)
    grid = check.choice(grid, "grid", GRIDS) if isinstance(grid, str) or delta is None else "of your own"
    if delta is not None and (grid != "geometric" or check.positive(delta, "delta") >= 1):
        raise ValueError(f"delta is {delta!r}, grid {grid!r}; wanted delta in (0, 1), with grid 'geometric' only")
    u = torch.linspace(1, 0, n + 1, dtype=torch.float64)
    if grid == "geometric":
        log_delta = torch.tensor(delta or max(n, 2) ** -2, dtype=torch.float64).log()
        u = 1 - torch.exp(log_delta * u * n / max(n - 1, 1))
    elif grid != "uniform":
        u = u**2 if grid == "quadratic" else bridge.time_at(u)
    u[0], u[-1] = 1, 0
    return u


def _own_grid(grid: Tensor, n: int) -> Tensor:
    if not grid.is_floating_point() or grid.shape != (n + 1,):
        raise ValueError(
            f"grid is {grid.dtype}, shape {tuple(grid.shape)}; wanted {n + 1} floats for the steps of this nfe"
        )
    times = grid.detach().double().cpu()
    if times[0] != 1 or times[-1] != 0 or not bool((times.diff() < 0).all()):
        raise ValueError(f"grid runs from {times[0]:g} to {times[-1]:g}; wanted 1 down to 0, each time below the last")
    return times


# -- the table of a sampler ----------------------------------------------------------------------


class _Pass(NamedTuple):
    """One network pass, at `t`: the next state is the sum of these weights times what they are named after.

    `before` weighs the state one pass earlier (Heun). `s` is the time reached, None after half a Heun step.
    """

    x_t: float
    xhat0: float
    xT: float
    z: float
    before: float
    t: float
    s: float | None


def _weights(step: Callable, bridge: Bridge, times: Tensor) -> list[_Pass]:
    """The passes of a step function along `times`: its values at unit `x_t`, `xhat0`, `xT`, and its std."""
    t, s = times[:-1], times[1:]
    if not len(t):
        return []
    x_t, xhat0, xT = (unit.expand(len(t), 3) for unit in torch.eye(3, dtype=torch.float64))
    mean, std = step(bridge, xhat0, x_t, xT, s, t)
    rows = torch.cat([mean, std.reshape(-1, 1)], 1).tolist()
    return [_Pass(*row, 0.0, *ends) for row, ends in zip(rows, zip(t.tolist(), s.tolist()))]


def _second_half(bridge: Bridge, xhat0: Tensor, x_t: Tensor, xT: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Heun's second pass, at `s` from Euler's guess (here `x_t`): `(x - h v_s)/2`; half of the start is added."""
    h = _length(s, t, x_t)
    return (x_t - h * bridge.ode_drift(xhat0, x_t, s, xT)) / 2, torch.zeros_like(h)


def _heun(bridge: Bridge, times: Tensor) -> list[_Pass]:
    """Two passes a step: Euler to `x_s`, then `(x_t + x_s - h v_s)/2`, which is `x_t - h (v_t + v_s)/2`."""
    firsts, seconds = _weights(ode_step, bridge, times), _weights(_second_half, bridge, times)
    pairs = ((a._replace(s=None), b._replace(t=b.s, before=0.5)) for a, b in zip(firsts, seconds))
    return [one for pair in pairs for one in pair]


def _plan(method: str, bridge: Bridge, times: Tensor, nfe: int, eta: float) -> list[_Pass]:
    """The passes of a method along `times`, `nfe` of them."""
    if method == "euler-maruyama":
        return _weights(euler_maruyama_step, bridge, times[:-1]) + _weights(dbim_step, bridge, times[-2:])
    first, rest = _weights(dbim_step, bridge, times[:2]), times[1:]
    if method == "ode-euler":
        return first + _weights(ode_step, bridge, rest)
    if method == "ode-heun":
        pairs = nfe - len(times) + 1
        return first + _heun(bridge, rest[: pairs + 1]) + _weights(ode_step, bridge, rest[pairs:])
    return first + _weights(partial(dbim_step, eta=eta), bridge, rest)


def _steps_of(method: str, nfe: int) -> int:
    """Steps that `nfe` passes make. Heun: one pass off T, one (or two) Euler steps at 0, two passes each between."""
    return (nfe + 1) // 2 + (nfe > 1) if method == "ode-heun" else nfe


# -- the loop ------------------------------------------------------------------------------------


def sample(
    model: Denoiser,
    bridge: Bridge,
    xT: Tensor,
    nfe: int,
    method: str = "posterior",
    *,
    eta: float | None = None,
    grid: str | Tensor | None = None,
    delta: float | None = None,
    conditional: bool | None = None,
    label: Tensor | None = None,
    generator: torch.Generator | None = None,
    return_path: bool = False,
) -> Tensor | Sampled:
    """Samples of x0, shaped like `xT` `(batch, ...)`, by exactly `nfe >= 1` passes of `model`, without gradients.

    `method`, any denoiser: "posterior" (ancestral: DBIM with eta 1), "euler-maruyama" (reverse SDE). Conditional
    denoisers only: "ode-euler", "ode-heun" (probability flow), "dbim" with `eta` in [0, 1] (0 if None; at 1 for any).
    Steps where a method is undefined are posterior steps: the first one of "dbim" and the ODE, off T, and the last
    one of "euler-maruyama". So at `nfe = 1` each returns `model(xT, 1, xT)`. Heun needs two passes a step, but for
    the first step and the last one, to 0, an Euler step (two of them if `nfe` is odd).
    `grid`, `delta`: see :func:`time_grid`; "geometric" for the ODE, else "uniform". On a uniform grid the ODE does not
    converge. An own grid has `nfe + 1` times, for Heun one more than its steps. `conditional`: None reads
    `model.conditional`, False where there is none. `label`: passed on as `model(x_t, t, xT, label=label)`.
    With `return_path` a :class:`Sampled`, `(x0, path, times)`. ValueError or TypeError for anything else.
    """
    run = steps(model, bridge, xT, nfe, method, eta=eta, grid=grid, delta=delta, conditional=conditional, label=label,
                generator=generator)  # fmt: skip
    if not return_path:
        return deque(run, maxlen=1).pop().x_t
    run = list(run)
    times = torch.tensor([1.0, *(step.t for step in run)], dtype=torch.float64)
    return Sampled(run[-1].x_t, torch.stack([xT.detach(), *(step.x_t for step in run)]), times)


def steps(
    model: Denoiser,
    bridge: Bridge,
    xT: Tensor,
    nfe: int,
    method: str = "posterior",
    *,
    eta: float | None = None,
    grid: str | Tensor | None = None,
    delta: float | None = None,
    conditional: bool | None = None,
    label: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """The steps of :func:`sample`, one at a time, for the caller to plot, log or stop: same arguments, same numbers."""
    times, eta = _checked(model, bridge, xT, nfe, method, eta, grid, delta, conditional)
    if isinstance(label, Tensor) and label.shape[:1] != xT.shape[:1]:
        raise ValueError(f"label has shape {tuple(label.shape)}; wanted ({len(xT)}, ...), one label per sample")
    extra = {} if label is None else {"label": label}
    return _run(model, xT, _plan(method, bridge, times, nfe, eta), extra, generator)


def _checked(model, bridge, xT, nfe, method, eta, grid, delta, conditional) -> tuple[Tensor, float]:
    """Times and eta of a run; refuses what :func:`sample` says."""
    check.callable_(model, "model")
    bridge_checked(bridge)
    check.finite(check.tensor(xT, "xT"), "xT")
    nfe, method = check.count(nfe, "nfe"), check.choice(method, "method", METHODS)
    if eta is not None and method != "dbim":
        raise ValueError(f"eta is {eta!r} with method {method!r}; wanted eta with method 'dbim' only")
    eta = 0.0 if eta is None else check.fraction(eta, "eta")
    eta = eta if method == "dbim" else 1.0
    _check_conditional(model, conditional, method, method.startswith("ode") or eta < 1)
    grid = grid if grid is not None else "geometric" if method.startswith("ode") else "uniform"
    return time_grid(grid, _steps_of(method, nfe), bridge, delta), eta


def _check_conditional(model: Denoiser, conditional: bool | None, method: str, needed: bool) -> None:
    conditional = getattr(model, "conditional", False) if conditional is None else conditional
    if not isinstance(conditional, bool):
        raise TypeError(f"conditional is {conditional!r}; wanted True for an E[x0 | x_t, xT], False for an E[x0 | x_t]")
    if needed and not conditional:
        raise ValueError(
            f"method {method!r} follows the score of p_t, which also needs E[xT | x_t], and model is not declared"
            " conditional; wanted conditional=True or model.conditional = True if it is E[x0 | x_t, xT], else method"
            " 'posterior', 'euler-maruyama' or 'dbim' with eta=1"
        )


@torch.no_grad()
def _run(model: Denoiser, xT: Tensor, plan: list[_Pass], label: dict, generator) -> Iterator[Step]:
    precise = torch.promote_types(xT.dtype, torch.float32)  # a time in half precision would be off by 1e-3
    times = torch.tensor([one.t for one in plan], dtype=precise, device=xT.device)[:, None].expand(-1, len(xT))
    x, before = xT, xT
    for one, t in zip(plan, times):
        xhat0 = model(x, t, xT, **label)
        if one is plan[0]:
            _check_output(xhat0, xT)
        xhat0 = xhat0.to(xT.dtype)
        x, before = _move(one, x, xhat0, xT, before, generator), x
        if one.s is not None:
            yield Step(one.s, x, xhat0)


def _move(one: _Pass, x: Tensor, xhat0: Tensor, xT: Tensor, before: Tensor, generator) -> Tensor:
    """The next state; terms of weight zero are left out, so that the end is `xhat0` exactly."""
    new = xhat0 * one.xhat0
    if one.x_t:
        new.add_(x, alpha=one.x_t)
    if one.xT:
        new.add_(xT, alpha=one.xT)
    if one.before:
        new.add_(before, alpha=one.before)
    if one.z:
        new.add_(normal(x.shape, like=x, generator=generator), alpha=one.z)
    return new


def _check_output(xhat0: object, xT: Tensor) -> None:
    if not isinstance(xhat0, Tensor) or xhat0.shape != xT.shape or not xhat0.is_floating_point():
        what = (
            f"{xhat0.dtype}, shape {tuple(xhat0.shape)}" if isinstance(xhat0, Tensor) else f"a {type(xhat0).__name__}"
        )
        raise ValueError(
            f"model(x_t, t, xT) returned {what}; wanted xhat0 as floats, shaped like xT, {tuple(xT.shape)}"
        )
