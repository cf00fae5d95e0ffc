"""Files that are whole or not there: how a run is saved, and found again after an interruption."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

if TYPE_CHECKING:
    from .training import History, Learner


def write_whole(path: Path | str, content: bytes) -> None:
    """Write a file whole or not at all: to a neighbour first, then renamed over `path`.

    OSError, in a sentence, where the disk refuses; what stood at `path` stands there still, after an interrupt too.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as problem:
        wanted = f"wanted room for {len(content)} bytes; what was saved before is untouched"
        raise OSError(problem.errno, f"{path} cannot be written ({problem.strerror or problem}); {wanted}") from problem
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def save_run(
    folder: Path | str, learners: dict[str, Learner], step: int, history: History, recipe: dict | None = None
) -> None:
    """State after `step` steps: tensors in `state-STEP.safetensors`, then `run.json`, which names them.

    The renaming of `run.json` is the moment of saving: before it the older state stands, after it the new one. Older
    states, and what a killed process left half written, are removed then. One process saves to a folder at a time.
    """
    folder = Path(folder)
    state = folder / f"state-{step}.safetensors"
    tensors = {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, learner in learners.items()
        for key, value in learner.tensors().items()
    }
    run = {"step": step, "tensors": state.name, "history": history} | ({"recipe": recipe} if recipe is not None else {})
    fresh = not state.exists()
    try:
        write_whole(state, save(tensors))
        write_whole(folder / "run.json", json.dumps(run).encode())
    except BaseException:
        with contextlib.suppress(OSError):
            if fresh and not _names(folder / "run.json", state.name):
                state.unlink(missing_ok=True)
        raise
    for old in (*folder.glob("state-*.safetensors"), *folder.glob(".state-*.part"), *folder.glob(".run.json.*.part")):
        if old.name != state.name:
            old.unlink(missing_ok=True)


def _names(run: Path, state: str) -> bool:
    return run.exists() and json.loads(run.read_text())["tensors"] == state


def load_run(folder: Path | str, learners: dict[str, Learner], recipe: dict | None = None) -> tuple[int, History]:
    """Restore the learners from a folder of :func:`save_run`; `(step, history)`, `(0, [])` where nothing is saved.

    ValueError for a damaged or foreign folder, for learners of other shapes, and for another `recipe` where the run
    has stored one. Nothing is restored unless everything fits.
    """
    folder = Path(folder)
    if not (folder / "run.json").exists():
        return 0, []
    try:
        run = json.loads((folder / "run.json").read_text())
        tensors = _read(folder / run["tensors"])
        step, history = int(run["step"]), list(run["history"])
        _fit(tensors, learners)
        _same_recipe(run.get("recipe"), recipe)
    except Exception as problem:
        what = f"no {problem}" if isinstance(problem, KeyError) else problem
        wanted = "wanted one of this very recipe, or an empty folder"
        raise ValueError(f"the run saved in {folder} cannot be resumed ({what}); {wanted}") from problem
    for name, learner in learners.items():
        learner.restore(_under(name, tensors))
    return step, history


def _same_recipe(saved: dict | None, recipe: dict | None) -> None:
    if saved is None or recipe is None:
        return
    recipe = json.loads(json.dumps(recipe))
    for key in sorted(saved.keys() | recipe.keys()):
        if saved.get(key) != recipe.get(key):
            raise ValueError(f"its {key} is {saved.get(key)!r}, this one's {recipe.get(key)!r}")


def _read(path: Path) -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def _under(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}


def _fit(tensors: dict[str, Tensor], learners: dict[str, Learner]) -> None:
    """Refuse tensors of other names, shapes or dtypes than the learners have, and say which."""
    there = sorted({key.split("/")[0] for key in tensors})
    if there != sorted(learners):
        raise ValueError(f"it holds {', '.join(there) or 'nothing'} and this one {', '.join(sorted(learners))}")
    for name, learner in learners.items():
        saved, held = _shapes(_under(name, tensors)), _shapes(learner.tensors())
        for key in sorted(saved.keys() | held.keys()):
            if saved.get(key) != held.get(key):
                raise ValueError(f"its {name} has {key} {saved.get(key, 'not')} and this one {held.get(key, 'not')}")


def _shapes(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Names with shape and dtype; without the optimiser's, which exist from the first update on."""
    kept = {key: value for key, value in tensors.items() if not key.startswith("optimiser.")}
    return {key: f"{tuple(value.shape)} {value.dtype}" for key, value in kept.items()}
