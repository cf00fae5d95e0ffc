"""What a comparison and its ablations say, and how surely: means over draws and seeds, differences, their errors.

Reads the entries that `comparison.py` and `ablations.py` note; trains and measures nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _checks as check
from .ablations import over_seeds
from .distances import resampled

Key = tuple[str, int]


@dataclass(frozen=True)
class Measured:
    """The rows of one method at one NFE, over seeds; `teacher`: "own" or "conditional"; `clean`: it saw clean data."""

    rows: tuple[dict, ...]
    teacher: str
    clean: bool
    trained: bool

    @property
    def draws(self) -> Tensor:
        """Distances `(seeds, draws)`, float64; `(seeds, 1)` where the draws were not kept."""
        return torch.tensor([row.get("each", [row["distance"]]) for row in self.rows], dtype=torch.float64)

    def distance(self) -> tuple[float, float]:
        """The mean, and its standard error: a bootstrap over draws and seeds, else what the exam noted of each row."""
        draws = self.draws
        if draws.shape[1] > 1:
            return float(draws.mean()), float(resampled_means(draws).std())
        return float(draws.mean()), sum(row["distance_error"] ** 2 for row in self.rows) ** 0.5 / len(self.rows)


def resampled_means(values: Tensor, n: int = 1000, seed: int = 0) -> Tensor:
    """Means `(n,)` of `values` `(seeds, draws)`, both resampled with replacement; of one seed, the draws alike."""
    dice = torch.Generator().manual_seed(seed)
    of_draws, of_seeds = (resampled(values.shape[k], n, dice) / values.shape[k] for k in (1, 0))
    return torch.einsum("ns,sd,nd->n", of_seeds, values, of_draws)


def measured(entry: dict) -> dict[Key, Measured]:
    """All of a comparison by `(name, NFE)`: samplers, and of each method the seeds of its best rate."""
    found = {}
    for row in entry["samplers"]:
        found[row["method"], row["nfe"]] = Measured((row,), row["teacher"], False, False)
    for name, one in entry["methods"].items():
        runs = [run for run in one["runs"] if run["factor"] == one["best"] and run["rows"]]
        for rows in zip(*(run["rows"] for run in runs)):
            found[name, rows[0]["nfe"]] = Measured(rows, one["teacher"], one["clean"], True)
    return found


def against(entry: dict, base: Key = ("ibmd", 1)) -> dict[Key, tuple[float, float]]:
    """By how much each is farther from the data than `base`, and the standard error of that difference.

    Where draws were kept both are resampled together: what a draw's luck did to both cancels.
    """
    found = measured(entry)
    if base not in found:
        raise ValueError(f"{base} was not measured; wanted one of {', '.join(map(str, found))}")
    reference = found.pop(base)
    return {key: _difference(one, reference) for key, one in found.items()}


def _difference(one: Measured, other: Measured) -> tuple[float, float]:
    (mean, error), (base, base_error) = one.distance(), other.distance()
    if one.draws.shape[1] == other.draws.shape[1] > 1:
        return mean - base, float((resampled_means(one.draws) - resampled_means(other.draws)).std())
    return mean - base, math.hypot(error, base_error)


def stages(runs: Sequence[dict]) -> list[tuple[float, float, float]]:
    """`(passes, distance, error)` along trainings of the same plan: means over seeds, as :meth:`Measured.distance`."""
    found = zip(*(run["along"] for run in runs if run["rows"]))
    rows = [tuple({"distance_error": 0.0} | row for row in stage) for stage in found]
    return [(stage[0]["passes"], *Measured(stage, "", False, True).distance()) for stage in rows]


SURE, DOUBTFUL = 4.0, 2.0  # of three seeds each: by chance once in sixty, in nine (Student's t of four degrees)
DEFAULTS = {
    "inner-steps": "L = 3",
    "noise": "head start",
    "weight": "soft",
    "start": "both from the teacher",
    "ema": "EMA 0.99",
    "gradient": "full",
    "sources": "all",
}
"""The variant of each ablation that the others are held against."""


def signals(entry: dict, default: str, key: str = "distance") -> dict[str, str]:
    """Of each other variant "worse", "better" (by SURE standard errors of seeds), "unclear" (DOUBTFUL), "level",
    "diverged" or "one seed".

    `key`: which number of the rows; the smaller the better, but for "inside", the share of points inside clusters.
    """
    check.choice(default, "variant", entry["variants"])
    sign = -1 if key == "inside" else 1
    base = over_seeds(entry["variants"][default]["runs"], key)
    others = {label: one["runs"] for label, one in entry["variants"].items() if label != default}
    return {label: _signal(runs, key, sign, *base) for label, runs in others.items()}


def _signal(runs: Sequence[dict], key: str, sign: int, mean: float, error: float) -> str:
    if runs and not any(run["rows"] for run in runs):
        return "diverged"
    own, own_error = over_seeds(runs, key)
    gap, noise = sign * (own - mean), math.hypot(error, own_error)
    if math.isnan(noise):
        return "one seed"
    if abs(gap) > SURE * noise:
        return "worse" if gap > 0 else "better"
    return "unclear" if abs(gap) > DOUBTFUL * noise else "level"
