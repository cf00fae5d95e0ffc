"""A number or tensor against the right one: the distance, and a name for the mistakes that many make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Finding:
    """What a check found: whether the answer is right, one sentence on it, and what was written in words, if anything.

    An answer in words is read by a teacher as well.
    """

    right: bool
    says: str
    written: str = ""


def true_or_false(answer: object, wanted: Mapping[str, tuple[bool, str]]) -> Finding:
    """Judge a dictionary of True and False; `wanted`: for each key the right one, and the reason, which is told."""
    if not isinstance(answer, dict) or set(answer) != set(wanted):
        between = "; " if any("," in key for key in wanted) else ", "
        return Finding(False, f"not yet: wanted a dictionary with the {len(wanted)} keys {between.join(wanted)}.")
    if any(type(value) is not bool for value in answer.values()):
        return Finding(False, "not yet: wanted True or False for each.")
    for what, (right, reason) in wanted.items():
        if answer[what] is not right:
            return Finding(False, f"not yet: look again at {what!r}: {reason}.")
    return Finding(True, f"all {len(wanted)} agree.")


def uniform(n: int, low: float, high: float, seed: int) -> Tensor:
    """`n` float64 numbers between `low` and `high`, for a function to be judged at."""
    return low + (high - low) * torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inner_times(n: int, seed: int) -> Tensor:
    """`n` increasing times inside (0, 1), float64, for a function to be judged at."""
    return uniform(n, 0.0, 1.0, seed).sort().values


def compare(
    got: object,
    wanted: Tensor | float,
    what: str,
    tolerance: float = 1e-6,
    mistakes: Mapping[str, Tensor | float] | None = None,
) -> Finding:
    """Compare a number or tensor (numpy's too) with the right one.

    `what`: how the quantity is called, for the sentence. `tolerance`: the largest distance allowed, relative to the
    largest entry of `wanted` (to 1 if that is smaller); at least 1e-5 for an answer in float32. `mistakes`: diagnoses
    by the value that each would give, of the shape that each would have; the first that `got` agrees with is named.
    If none does, a constant factor, a constant distance, a square or a square root is.
    """
    wanted = torch.as_tensor(wanted).detach().to(torch.float64)
    value = _as_numbers(got)
    if isinstance(value, str):
        return Finding(False, f"not yet: {what} is {value}; wanted {_kind(wanted)}.")
    tolerance = max(tolerance, 1e-5) if value.dtype == torch.float32 else tolerance
    value = value.to(torch.float64)
    named = _named(value, wanted, tolerance, mistakes or {})
    if value.shape != wanted.shape:
        return Finding(False, f"not yet: {what} has shape {tuple(value.shape)}; wanted {_kind(wanted)}.{named}")
    if bad := int((~torch.isfinite(value)).sum()):
        return Finding(False, f"not yet: {what} is not finite in {bad} of {value.numel()} values.")
    distance = _distance(value, wanted)
    if distance <= tolerance:
        return Finding(True, f"{what} agrees to {tolerance:.0e}.")
    unit = (" of its largest value" if wanted.ndim else " of its value") if wanted.abs().max() > 1 else ""
    why = named or _pattern(value, wanted, tolerance)
    return Finding(False, f"not yet: {what} is off by {distance:.2g}{unit}.{why}")


def _as_numbers(got: object) -> Tensor | str:
    """`got` as a tensor, or what it is instead, in words."""
    if got is None:
        return "None (does the function return it?)"
    if isinstance(got, (list, tuple)) and all(isinstance(one, Tensor) for one in got):
        return f"{kind_of(got)} of {len(got)} tensors"
    if isinstance(got, (Tensor, np.ndarray, np.generic, float, int, list, tuple)) and not isinstance(got, bool):
        try:
            value = torch.as_tensor(got).detach().cpu()
        except (ValueError, TypeError, RuntimeError):
            return f"{kind_of(got)} of something else than numbers"
        return value if not (value.dtype == torch.bool or value.is_complex()) else f"of type {value.dtype}"
    return kind_of(got)


def kind_of(thing: object) -> str:
    """What a thing is, with its article: "an int"."""
    name = type(thing).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _kind(wanted: Tensor) -> str:
    return f"a tensor of shape {tuple(wanted.shape)}" if wanted.ndim else "a number"


def _distance(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1.0))


def _named(got: Tensor, wanted: Tensor, tolerance: float, mistakes: Mapping[str, Tensor | float]) -> str:
    """The first of the named mistakes that gives what was got."""
    for name, value in mistakes.items():
        value = torch.as_tensor(value).detach().to(torch.float64)
        value = value if value.ndim else value.expand_as(wanted)
        if value.shape == got.shape and _distance(got, value) <= tolerance:
            return f" It looks as if {name}."
    return ""


def _pattern(got: Tensor, wanted: Tensor, tolerance: float) -> str:
    """What a wrong answer has to do with the right one; of a single number only what does not give it away."""
    if not got.any():
        return " It is zero everywhere." if got.numel() > 1 else ""
    for name, value in {
        "minus": -wanted,
        "twice": 2 * wanted,
        "half of": wanted / 2,
        "the square of": wanted**2,
    }.items():
        if _distance(got, value) <= tolerance:
            return f" It is {name} what is wanted."
    if (wanted >= 0).all() and _distance(got, wanted.sqrt()) <= tolerance:
        return " It is the square root of what is wanted."
    if got.numel() == 1:
        return ""
    factor = float((got * wanted).sum() / (wanted * wanted).sum().clamp(min=1e-300))
    if factor and _distance(got, factor * wanted) <= tolerance:
        return f" It is {factor:.4g} times what is wanted, everywhere."
    shift = float((got - wanted).mean())
    return (
        f" It is {shift:+.4g} from what is wanted, everywhere." if _distance(got, wanted + shift) <= tolerance else ""
    )
