"""Shipped weights: safetensors in half precision, and beside each a card that says how it was made.

A checkpoint `NAME` is two files: `NAME.safetensors` and `NAME.json`, the card, which holds the network's specification,
the bridge, the recipe, what was measured, and the checksum of the weights. Loading executes no code.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import platform
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from . import _checks as check
from .networks import Denoiser, network_from
from .students import Student
from .training import write_whole

SHIPPED = Path(__file__).resolve().parents[1] / "assets" / "checkpoints"


def shipped() -> list[str]:
    """Names of the checkpoints in the repository."""
    return sorted(path.stem for path in SHIPPED.glob("*.json"))


def machine(device: torch.device | str = "cpu") -> dict[str, str]:
    """What a card says of the machine and the versions that trained a network on `device`."""
    cuda, threads = torch.device(device).type == "cuda", torch.get_num_threads()
    processor = "1 CPU thread" if threads == 1 else f"{threads} CPU threads"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else processor,
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
    }


def weights_of(model: nn.Module) -> bytes:
    """The parameters in half precision as a safetensors file; ValueError for one that half precision cannot hold."""
    network = model.network if isinstance(model, Student) else model
    weights = {name: value.detach().half().cpu().contiguous() for name, value in network.state_dict().items()}
    for name, value in weights.items():
        check.finite(value, f"the weight {name} in half precision")
    return save_safetensors(weights)


def checksum(content: bytes) -> str:
    """sha256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def verified(path: Path, sha256: str) -> bytes:
    """A file's content; ValueError where it is not the one of which a card has the checksum."""
    content = path.read_bytes()
    if checksum(content) != sha256:
        raise ValueError(f"{path} does not match the checksum on its card; wanted the file as it was written")
    return content


def save_model(stem: Path | str, model: Denoiser | Student, card: dict) -> Path:
    """Write a teacher or a student, `stem.safetensors`, and its card, `stem.json`; the card's path.

    To what `card` says come the network's specification, the student's times and anchor, and the checksum. Where the
    disk is full (OSError) or the writing is interrupted, the checkpoint that stood there before is whole.
    """
    network = model.network if isinstance(model, Student) else model
    if not isinstance(network, Denoiser):
        raise TypeError(f"the model is a {type(network).__name__}; wanted an MLP or a UNet, or a Student of one")
    content = weights_of(network)
    card = dict(card, network=network.spec(), parameters=sum(v.numel() for v in network.state_dict().values()))
    card["sha256"] = checksum(content)
    if isinstance(model, Student):
        card |= {"times": list(model.times), "anchor": model.anchor}
    stem = Path(stem)
    files = {".safetensors": content, ".json": (json.dumps(card, indent=1) + "\n").encode()}
    write_together({stem.with_name(stem.name + suffix): what for suffix, what in files.items()})
    return stem.with_name(stem.name + ".json")


def write_together(files: dict[Path, bytes]) -> None:
    """Write several files so that a failure leaves all the older ones: each to a neighbour, then all renamed."""
    staged = {path: path.with_name(f".{path.name}.new") for path in files}
    try:
        for path, content in files.items():
            write_whole(staged[path], content)
        for path in files:
            os.replace(staged[path], path)
    finally:
        for path in staged.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def add_to_card(name: str | Path, **entries: object) -> Path:
    """Write more onto a checkpoint's card, for example `metrics=[...]`; the card's path."""
    stem = find(name)
    path = stem.with_name(stem.name + ".json")
    write_whole(path, (json.dumps(card_of(name) | entries, indent=1) + "\n").encode())
    return path


def find(name: str | Path) -> Path:
    """The path, without suffix, of a checkpoint: a shipped name, or a path to one of its two files or to both.

    FileNotFoundError with the nearest name where there is none.
    """
    if not isinstance(name, (str, Path)) or not Path(name).name:
        raise ValueError(f"checkpoint is {name!r}; wanted a shipped name or the path of one")
    path = Path(name)
    path = path.with_suffix("") if path.suffix in (".json", ".safetensors") else path
    for stem in (SHIPPED / path if len(path.parts) == 1 else path, path):
        if stem.with_name(stem.name + ".json").is_file():
            return stem
    if path.with_name(path.name + ".safetensors").is_file():
        raise FileNotFoundError(f"checkpoint {str(name)!r} has no card; wanted {path.name}.json beside its weights")
    names = shipped()
    tasks = ", ".join(one.removesuffix("-teacher") for one in names if one.endswith("-teacher"))
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    wanted = f"teacher or student of {tasks}, as in 'sr4x-pool-student', or the path of one{hint}"
    raise FileNotFoundError(f"checkpoint is {str(name)!r}; wanted {wanted}")


def card_of(name: str | Path) -> dict:
    """The card of a checkpoint; ValueError if it is not one of ours."""
    path = find(name)
    path = path.with_name(path.name + ".json")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        missing = sorted({"network", "sha256"} - set(card))
    except (TypeError, ValueError) as problem:
        raise ValueError(f"{path} is no card of a checkpoint ({problem}); wanted one written by save_model") from None
    if missing or not isinstance(card, dict):
        raise ValueError(f"{path} is no card of a checkpoint, it lacks {', '.join(missing)}; wanted save_model's")
    return card


ROLES = {"teacher": Denoiser, "student": Student}


def load_model(name: str | Path, device: torch.device | str = "cpu", role: str | None = None) -> Denoiser | Student:
    """A teacher (a denoiser) or a student by its shipped name or its path, in float32, in evaluation mode.

    `role`: "teacher" or "student", where only one of the two will do. FileNotFoundError where it is missing; ValueError
    where the weights are damaged, belong to another network or play the other role.
    """
    stem, card = find(name), card_of(name)
    path = stem.with_name(stem.name + ".safetensors")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing beside its card; wanted the weights of the checkpoint {stem.name}")
    content = verified(path, card["sha256"])
    try:
        model = _built(card, load_safetensors(content))
    except Exception as problem:  # whatever a foreign file makes torch, safetensors or a constructor raise
        what = " ".join(str(problem).split())[:120]
        raise ValueError(f"{path} does not fit the network on its card ({what}); wanted save_model's files") from None
    if role is not None and not isinstance(model, ROLES[check.choice(role, "role", ROLES)]):
        raise ValueError(f"checkpoint {stem.name} is a {'student' if 'times' in card else 'teacher'}; wanted a {role}")
    return model.to(device).eval().requires_grad_(False)


def _built(card: dict, weights: dict[str, torch.Tensor]) -> Denoiser | Student:
    network = network_from(card["network"])
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    return Student(network, network.bridge, card["times"], card["anchor"]) if "times" in card else network
