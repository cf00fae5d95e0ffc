"""What of IBMD matters: one thing changed at a time, everything else as in the comparison, from several seeds.

Each variant gets the same budget of network passes, in the plane half that of a training in the comparison, so that
more inner steps mean fewer steps of the student. Every training is kept as those of the comparison are (`trials.py`),
and one that several ablations share is made once.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from . import _checks as check
from .checkpoints import machine
from .comparison import said_of, trimmed
from .contests import Contest, Pictures, contest
from .evaluation import mean, table
from .results import note
from .trials import METHODS, attempt

SEEDS = (0, 1, 2)
ON_PICTURES = ("gradient", "noise", "inner-steps")
FILE = Path(__file__).resolve().parents[1] / "assets" / "ablations.json"

ABLATIONS: dict[str, dict[str, dict]] = {
    "inner-steps": {f"L = {steps}": {"fake_steps": steps} for steps in (1, 3, 5, 10)},
    "noise": {
        "head start": {},
        "layers from zero": {"head_start": None},
        "no noise": {"noise": False},
    },
    "weight": {
        "soft": {"weight": "soft"},
        "plain": {"weight": "plain"},
        "late": {"weight": "late"},
        "noise": {"weight": "noise"},
        "path KL": {"weight": "path_kl", "times": "clock"},
    },
    "start": {
        "both from the teacher": {},
        "student fresh": {"fresh": "student"},
        "both fresh": {"fresh": "both"},
    },
    "ema": {f"EMA {decay:g}": {"ema": decay} for decay in (0.0, 0.9, 0.99, 0.999)},
    "gradient": {"full": {"gradient": "full"}, "detached": {"gradient": "detached"}},
    "sources": {"200": {"available": 200}, "2,000": {"available": 2000}, "all": {}},
}
"""The ablations by name: their variants, and what each changes, of `inverse.distillation` or of the start."""


def ablate(
    name: str,
    contest: Contest,
    budget: int | None = None,
    seeds: Sequence[int] | None = None,
    path: Path | str | None = None,
) -> dict:
    """Train and measure every variant from every seed, where it is not there yet; the entry, noted in the results.

    `name`: one of ABLATIONS. `budget`: passes of one training, the contest's share if None. `seeds`: SEEDS if None.
    """
    variants = ABLATIONS[check.choice(name, "ablation", ABLATIONS)]
    budget, seeds = budget or int(contest.ablated * contest.budget), list(SEEDS if seeds is None else seeds)
    entry = {"data": contest.words, "budget": budget, "seeds": seeds, "machine": machine(contest.device)}
    entry["variants"] = {label: {"changes": changes, "runs": []} for label, changes in variants.items()}
    for seed in seeds:
        for label, changes in variants.items():
            card = attempt(contest, f"{name}-{_slug(label)}", METHODS["ibmd"], 1.0, seed, budget, **changes)
            print("\n".join(said_of(card | {"label": f"{name}, {label}"})), flush=True)
            entry["variants"][label]["runs"].append(trimmed(card))
        note(f"{contest.name}/{name}", entry, path or FILE)
    return entry


def every(contest: Contest) -> tuple[str, ...]:
    """The ablations of a task: all of them in the plane, three of pictures, where a training takes minutes."""
    return ON_PICTURES if isinstance(contest, Pictures) else tuple(ABLATIONS)


def _slug(label: str) -> str:
    """A label as a part of the name of a file."""
    return "".join(letter if letter.isalnum() or letter == "." else "-" for letter in label.lower())


def over_seeds(runs: Sequence[dict], key: str = "distance") -> tuple[float, float]:
    """The mean of one number of the first rows over seeds, and its standard error; NaN for a single seed.

    Runs that diverged have no rows and are left out: the mean of none is NaN.
    """
    values = [run["rows"][0][key] for run in runs if run["rows"]]
    if len(values) < 2:
        return values[0] if values else math.nan, math.nan
    return mean(torch.tensor(values, dtype=torch.float64))


def summary(entry: dict) -> str:
    """The table of an entry: each variant's distance and spread, means over seeds with their standard errors."""
    rows = []
    for label, one in entry["variants"].items():
        both = (over_seeds(one["runs"], key) for key in ("distance", "spread"))
        cells = (f"{value:.4f} ({error:.4f})" for value, error in both)
        rows.append((label, str(one["runs"][0]["steps"]), *cells))
    return table(rows, ("variant", "student steps", "distance", "spread"))


def run(args: argparse.Namespace) -> None:
    """The command, its arguments as `__main__` reads them."""
    given = [word for word in (args.name, args.task) if word is not None]
    if len(given) + args.all not in (1, 2):
        raise ValueError(f"{len(given)} names and --all {args.all}; wanted one ablation or --all, then perhaps a task")
    name = None if args.all else given.pop(0)
    task = contest(given[0] if given else "plane", runs=Path(args.runs), device=args.device)
    for one in every(task) if name is None else (name,):
        print(f"\n{one}\n" + summary(ablate(one, task, args.budget, args.seeds)), flush=True)
