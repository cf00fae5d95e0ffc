"""From a folder of runs to the repository's checkpoints, with a number on each card that every machine can check."""

from __future__ import annotations

from pathlib import Path

import torch

from ._random import Draws
from .checkpoints import SHIPPED, add_to_card, card_of, find, load_model, write_together
from .data.couplings import Photographs, rendered
from .data.images import load
from .evaluation import student_of
from .networks import Denoiser
from .recipes import Recipe, recipe
from .runs import nfe_of, passes, run_folder, scaled
from .students import Student

PROBES = 32


def _pairs(task: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """32 pairs that need no download: crops of scikit-image's test photographs, or the first test solids."""
    if task.data == "solids":
        return rendered(task.corruption, "test", PROBES, task.size).sample(PROBES, Draws.at(0, 0))
    return Photographs(load("photos", "test", half=task.half), task.corruption, task.size).sample(
        PROBES, Draws.at(0, 0)
    )


@torch.no_grad()
def probe(model: Denoiser | Student, task: Recipe) -> dict[str, float]:
    """Mean squared error of one use of a model on 32 fixed pairs, for each of the recipe's teachers or for itself.

    A teacher's single step from T, a student's sample of seed 0: what a test repeats for every shipped checkpoint.
    """
    found = {}
    for label, name in enumerate(task.teachers or (task.name,)):
        x0, xT = _pairs(recipe(name))
        if isinstance(model, Student):
            y = student_of(model, 0, label if task.teachers else None)(xT)
        else:
            y = model(xT, torch.ones(len(xT)), xT)
        found[name] = float((y - x0).square().mean())
    return found


def ship(task: Recipe, role: str, budget: str = "small", runs: Path | str = "runs", seed: int = 0) -> Path:
    """Copy a finished run's checkpoint into the repository, with its :func:`probe` on the card; the card's path.

    `role`: "teacher", "student", "student-2", ... FileNotFoundError where the run has not come to its end.
    """
    name, plan = f"{task.name}-{role}", task.budget(budget, nfe_of(role))
    stem = find(run_folder(runs, task, budget, role, seed) / name)
    found = probe(load_model(stem), task)
    suffixes = (".safetensors", ".json")
    write_together({SHIPPED / (name + end): stem.with_name(stem.name + end).read_bytes() for end in suffixes})
    made = scaled(plan, card_of(name)["steps"], role.partition("-")[0])
    return add_to_card(name, probe=found, passes=passes(made, role))


def probed(name: str) -> tuple[dict[str, float], dict[str, float]]:
    """What a shipped checkpoint's card says of its probe, and what the checkpoint gives here."""
    card = card_of(name)
    return card["probe"], probe(load_model(name), recipe(card["recipe"]))
