"""The sentences that refuse bad input: what was given, what is wanted.

Every public function calls these at its entry. They look at shapes, types and ranges, which costs
microseconds; :func:`finite` reads every element and is called once per run, never once per step.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable

import torch
from torch import Tensor


def tensor(x: object, name: str) -> Tensor:
    """`x` itself if it is a floating-point tensor with a batch dimension, else TypeError or ValueError."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} is a {type(x).__name__}; wanted a floating-point tensor of shape (batch, ...)")
    if not x.is_floating_point():
        raise TypeError(f"{name} has dtype {x.dtype}; wanted a floating-point tensor, for example {name}.float()")
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; wanted (batch, ...), at least two non-empty dimensions")
    return x


def same(x: Tensor, y: Tensor, x_name: str, y_name: str) -> None:
    """Refuse two tensors whose shapes, dtypes or devices differ: nothing here broadcasts by accident."""
    tensor(x, x_name)
    tensor(y, y_name)
    if x.shape != y.shape:
        raise ValueError(f"{x_name} has shape {tuple(x.shape)} and {y_name} {tuple(y.shape)}; wanted the same shape")
    if x.dtype != y.dtype or x.device != y.device:
        raise TypeError(f"{x_name} is {x.dtype} on {x.device} and {y_name} {y.dtype} on {y.device}; wanted the same")


def times(t: float | Tensor, name: str = "t", batch: int | None = None) -> Tensor:
    """Times as a tensor: a number or 0-d tensor, or shape `(batch,)`, all within [0, 1]."""
    if isinstance(t, bool) or not isinstance(t, (numbers.Real, Tensor)):
        raise TypeError(f"{name} is a {type(t).__name__}; wanted a number or a tensor of times in [0, 1]")
    t = t if isinstance(t, Tensor) else torch.tensor(float(t), dtype=torch.float64)
    if not t.is_floating_point():
        t = t.double()
    if t.ndim > 1 or (batch is not None and t.ndim == 1 and len(t) != batch):
        wanted = "a number or shape (batch,)" if batch is None else f"a number or shape ({batch},)"
        raise ValueError(f"{name} has shape {tuple(t.shape)}; wanted {wanted}, one time per sample")
    if t.numel() and not bool(((t >= 0) & (t <= 1)).all()):
        low, high = float(t.detach().min()), float(t.detach().max())
        raise ValueError(f"{name} runs from {low:g} to {high:g}; wanted times in [0, 1], 0 at x0 and 1 at xT")
    return t


def finite(x: Tensor, name: str) -> None:
    """Refuse NaN and infinity, with how many of them there are."""
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        raise ValueError(f"{name} holds {bad} non-finite values of {x.numel()}; wanted finite numbers only")


def positive(value: object, name: str, zero: bool = False) -> float:
    """A finite number above zero (or not below it), as a float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r}; wanted a {'non-negative' if zero else 'positive'} number")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name} is {value!r}; wanted a {'non-negative' if zero else 'positive'} finite number")
    return float(value)


def count(value: object, name: str, least: int = 1) -> int:
    """A whole number, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} is {value!r}; wanted a whole number, {least} or more")
    if value < least:
        raise ValueError(f"{name} is {value}; wanted a whole number, {least} or more")
    return int(value)


def fraction(value: object, name: str) -> float:
    """A number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r}; wanted a number in [0, 1]")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}; wanted a number in [0, 1]")
    return float(value)


def choice(value: object, name: str, allowed: Iterable[str]) -> str:
    """One of the allowed names; a near miss is answered with the nearest one."""
    allowed = list(allowed)
    if isinstance(value, str) and value in allowed:
        return value
    near = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name} is {value!r}; wanted one of {', '.join(allowed)}{hint}")


def callable_(value: object, name: str, wanted: str = "a callable xhat0 = model(x_t, t, xT)") -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise TypeError(f"{name} is a {type(value).__name__}; wanted {wanted}")
