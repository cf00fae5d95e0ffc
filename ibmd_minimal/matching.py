"""Bridge matching: a regression of `x0` on the bridge between `x0` and `xT`.

Its minimiser is `E[x0 | x_t]` for a model that does not look at `xT`, `E[x0 | x_t, xT]` for one that does (IBMD
eq. 7): the same loss, and the model decides which.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from . import _checks as check
from ._random import Draws, normal, uniform
from .bridges import Bridge, bridge_checked, derivative, expand
from .training import Feed, History, Learner, loop, parts

Weight = str | Callable[[Tensor], Tensor]
Anchor = tuple[Tensor, Tensor]

WEIGHTS: dict[str, Callable[[Bridge, Tensor], Tensor]] = {
    "plain": lambda bridge, t: torch.ones_like(t),
    "path_kl": lambda bridge, t: derivative(bridge.rho2, t) / (2 * bridge.rho2(t) ** 2),
    "noise": lambda bridge, t: 1 / (bridge.alpha(t) ** 2 * bridge.rho2(t)),
    "soft": lambda bridge, t: 1 / (t + 0.05),
    "late": lambda bridge, t: 10 ** (1 - t),
}
"""Weights of the squared error by name, functions of the bridge and t.

`plain`: 1. `path_kl`: g²/(2 alpha² rho⁴), with which the divergence is the KL of two path measures. `noise`:
1/(alpha rho)², I2SB's loss on its noise target. `soft`: 1/(t + 0.05). `late`: 10^(1 - t), heavy late in sampling, a
factor in the released DDBM students' weight. Any other is a callable of t, DDBM's 1/c_out² among them: `lambda t:
network.precondition(t)[1] ** -2`.
"""


def weight_at(weight: Weight, bridge: Bridge, t: Tensor) -> Tensor:
    """The weight at each time, `(batch,)` float64, from a name of WEIGHTS or a callable of the float64 times.

    A callable returns one weight for all times or one for each; ValueError otherwise.
    """
    if not callable(weight):
        return WEIGHTS[check.choice(weight, "weight", WEIGHTS)](bridge, t.double())
    value = torch.as_tensor(weight(t.double()), dtype=torch.float64, device=t.device)
    if value.ndim and value.shape != t.shape:
        raise ValueError(
            f"the weight has shape {tuple(value.shape)}; wanted a number or {tuple(t.shape)}, one per time"
        )
    return value.expand_as(t)


def _clock_times(bridge: Bridge, v: Tensor) -> tuple[Tensor, Tensor]:
    u = v**2
    t = bridge.time_at(u)
    total = bridge.rho2(torch.ones_like(t))
    return t, 2 * v * total / derivative(bridge.rho2, t)


TIMES: dict[str, Callable[[Bridge, Tensor], tuple[Tensor, Tensor]]] = {
    "uniform": lambda bridge, v: (v, torch.ones_like(v)),
    "early": lambda bridge, v: (v**2, 2 * v),
    "near_T": lambda bridge, v: (v * (2 - v), 2 * (1 - v)),
    "clock": _clock_times,
}
"""How times are drawn, by name: from uniform `v` in (0, 1], `t` and one over its density.

`uniform`: 1. `early`: 1/(2 sqrt t). `near_T`: 1/(2 sqrt(1 - t)). `clock`: 1/(2 sqrt u) du/dt with
`u = rho²(t)/rho²(T)`, the one with which the path-KL objective has a finite variance. A loss divides by the density:
how times are drawn changes its variance, never what it estimates.
"""


def draw_times(times: str, bridge: Bridge, n: int, like: Tensor, generator=None) -> tuple[Tensor, Tensor]:
    """`n` times in (0, 1] and one over their density, float64, by a name of TIMES."""
    return TIMES[check.choice(times, "times", TIMES)](bridge, uniform(n, like, generator))


def noised(
    bridge: Bridge,
    x0: Tensor,
    xT: Tensor,
    t: Tensor | float | None,
    times: str = "uniform",
    z: Tensor | None = None,
    generator=None,
    anchor: Anchor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Where both losses look: `(x_t, t, 1/density)` with `x_t ~ q(x_t | x0, xT)`.

    `anchor = (x_n, t_n)` pins the bridge at `x_n` at the times `t_n` `(batch,)` instead of `xT` at T: then `t` is `t_n`
    times a draw from (0, 1], and the loss a mean over the times below `t_n`. With `t` given, 1/density is 1.
    """
    bridge_checked(bridge)
    check.same(x0, xT, "x0", "xT")
    end = torch.ones(len(x0), dtype=torch.float64, device=x0.device)
    pinned, t_n = (xT, end) if anchor is None else anchor
    check.same(x0, pinned, "x0", "the anchor's x_n")
    t_n = t_n if anchor is None else check.times(t_n, "the anchor's time", len(x0)).double().expand(len(x0))
    if t is None:
        t, over = draw_times(times, bridge, len(x0), x0, generator)
        t = t * t_n
    else:
        t = check.times(t, batch=len(x0)).to(x0.device).double()
        t, over = t.expand(len(x0)), end
        if anchor is not None and bool((t > t_n).any()):
            raise ValueError(f"t reaches {float(t.max()):g}, beyond the anchor's time; wanted t <= t_n")
    z = normal(x0.shape, like=x0, generator=generator) if z is None else z
    check.same(x0, z, "x0", "z")
    return bridge._sample(x0, pinned, t, t_n, z), t, over


def denoise(model: Callable, x_t: Tensor, t: Tensor, xT: Tensor, label: Tensor | None, name: str) -> Tensor:
    """`model(x_t, t, xT)`, with the label where there is one; ValueError if its shape is not that of `x_t`."""
    t = t.to(torch.promote_types(x_t.dtype, torch.float32))  # a time in half precision would be off by 1e-3
    xhat0 = model(x_t, t, xT) if label is None else model(x_t, t, xT, label=label)
    if not isinstance(xhat0, Tensor) or xhat0.shape != x_t.shape:
        got = tuple(xhat0.shape) if isinstance(xhat0, Tensor) else type(xhat0).__name__
        raise ValueError(f"the {name} returned {got}; wanted xhat0 of the shape of x_t, {tuple(x_t.shape)}")
    return xhat0


def bridge_matching_loss(
    model: Callable,
    bridge: Bridge,
    x0: Tensor,
    xT: Tensor,
    t: Tensor | float | None = None,
    *,
    weight: Weight = "plain",
    times: str = "uniform",
    z: Tensor | None = None,
    label: Tensor | None = None,
    generator=None,
    anchor: Anchor | None = None,
) -> Tensor:
    """`E lambda(t) |model(x_t, t, xT) - x0|²`, a mean over batch and elements (IBMD eq. 7).

    `x0`, `xT`: `(batch, ...)`, one shape. `t`: `(batch,)` or a number in [0, 1]; drawn if None, by the density that
    `times` names. `weight`: a name of WEIGHTS or a callable of t. `label`: passed on as `model(..., label=label)`.
    Unconditional if the model ignores `xT`, conditional if not.
    """
    check.callable_(model, "model")
    x_t, t, over = noised(bridge, x0, xT, t, times, z, generator, anchor)
    error = denoise(model, x_t, t, xT, label, "model") - x0
    return (expand(weight_at(weight, bridge, t) * over, x0) * error**2).mean()


PROGRESSIVE = ("cosine", "flat", "precision")
"""Options in which a run may differ from the saved one that it goes on from: a longer one, or on another machine."""


def named_weight(weight: Weight) -> str:
    """What a saved run notes of a weight: its name, or that it was a callable."""
    return weight if isinstance(weight, str) else "a callable"


def known(options: dict[str, object], *takers: Callable) -> None:
    """Refuse options that none of `takers` has as a keyword; a near miss is answered with the nearest one."""
    names = [
        name
        for taker in takers
        for name, one in inspect.signature(taker).parameters.items()
        if one.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for name in options:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{name!r} is not an option; wanted one of {', '.join(names)}{hint}")


def _check_pairs(batch: object) -> None:
    """Refuse a batch that is not `(x0, xT)` or `(x0, xT, label)`, with non-finite values in it."""
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        got = f"{len(batch)} things" if isinstance(batch, (tuple, list)) else f"a {type(batch).__name__}"
        raise TypeError(f"pairs yields {got}; wanted (x0, xT) or (x0, xT, label)")
    check.same(*batch[:2], "x0", "xT")
    check.finite(batch[0], "x0"), check.finite(batch[1], "xT")


def train(
    model: nn.Module,
    bridge: Bridge,
    pairs: object,
    *,
    steps: int = 2000,
    lr: float = 1e-3,
    weight: Weight = "plain",
    times: str = "uniform",
    seed: int = 0,
    accumulate: int = 1,
    folder: Path | str | None = None,
    every: int = 500,
    progress: bool = True,
    **options,
) -> tuple[nn.Module, History]:
    """Train a denoiser by bridge matching; `(model, history)`, the model with its averaged parameters.

    `pairs`: an iterable of `(x0, xT)` or `(x0, xT, label)`, best a `training.Batches`. `folder`: where to save every
    `every` steps and to resume from: a run of the same seed, rate, weight, times and, but for PROGRESSIVE, options.
    `options` go to :class:`training.Learner` (ema, clip, warmup, cosine, flat, precision).
    """
    known(options, Learner.__init__)
    check.callable_(model, "model"), weight_at(weight, bridge, torch.ones(1)), check.choice(times, "times", TIMES)
    learner = Learner(model, lr, **({"ema": 0.999} | options))
    feed, seen = Feed(pairs, "pairs"), []

    def body(step: int) -> dict[str, float]:
        batch = feed.take(step)
        seen or seen.append(_check_pairs(batch))
        batch = [v.to(learner.device) for v in batch]

        def loss(part: tuple[int, int, int]) -> Tensor:
            x0, xT, *label = (v[part[0] : part[1]] for v in batch)
            draws = Draws.at(seed, step, rows=part, device=learner.device)
            return bridge_matching_loss(
                model, bridge, x0, xT, weight=weight, times=times, generator=draws, label=label[0] if label else None
            )

        return {"loss": learner.update([lambda p=p: loss(p) for p in parts(len(batch[0]), accumulate)], step)}

    model.train()
    recipe = {"seed": seed, "pairs": getattr(pairs, "seed", None), "lr": lr, "weight": named_weight(weight)}
    recipe |= {"times": times} | {name: value for name, value in options.items() if name not in PROGRESSIVE}
    saving = {"folder": folder, "every": every, "recipe": recipe}
    *_, history = loop({"model": learner}, body, steps, **saving, progress=progress, title="teacher")
    return learner.finish().eval(), history
