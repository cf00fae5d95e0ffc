"""Tiny tasks that are nothing but dataclasses, and photographs made up: what the tests of whole runs share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ibmd_minimal import evaluation, recipes, training
from ibmd_minimal.__main__ import main
from ibmd_minimal.data import corruptions, images
from ibmd_minimal.metrics import Ruler, bootstrap
from ibmd_minimal.recipes import VP, Budget, Recipe

SMALL = Budget(4, 4, student_steps=2, student_batch=4, fake_steps=2, fake_warmup=3, widths=(8, 8))
SR = Recipe("tiny-sr", "sr4x-pool", half=False, size=16, multiple=4, enlarge=4, small=SMALL)
MIRROR = Recipe("tiny-mirror", "mirror", half=False, size=16, small=SMALL, conditional=True)
JPEG = Recipe("tiny-jpeg", "jpeg-10", half=False, size=16, multiple=16, small=replace(SMALL, start="tiny-sr"))
HOLE = Recipe("tiny-hole", "inpaint-center", VP, True, half=False, size=16, pasted=True, students=(1, 2), small=SMALL)
SKETCH = Recipe("tiny-sketch", "lines", VP, True, "solids", size=16, students=(1, 2), small=SMALL)
SEVERAL = Recipe("tiny-multi", size=16, teachers=("tiny-sr", "tiny-jpeg"), head_start=(0.85, 0.155), small=SMALL)
TASKS = (SR, MIRROR, JPEG, HOLE, SKETCH, SEVERAL)


@cache
def photographs(n: int = 4) -> list[torch.Tensor]:
    """Made-up photographs with structure at several scales, uint8."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(n):
        levels = (torch.randn(1, 3, 48 // 2**k, 64 // 2**k, generator=generator) for k in range(4))
        total = sum(nn.functional.interpolate(level, (48, 64), mode="bilinear") for level in levels)
        found.append((60 * total[0] + 128).clamp(0, 255).to(torch.uint8))
    return found


@contextlib.contextmanager
def made_up() -> Iterator[pytest.MonkeyPatch]:
    """The tiny tasks, four photographs and a dozen solids, nothing of BSDS500; few resamples, for nothing is judged."""
    with pytest.MonkeyPatch.context() as patched:
        for task in TASKS:
            patched.setitem(recipes.RECIPES, task.name, task)
        patched.setitem(corruptions.CORRUPTIONS, "mirror", lambda x: x.flip(-1))
        for module in (recipes, images):
            given = photographs(), "4 photographs made up"
            patched.setattr(module, "training_photographs", lambda *args, given=given, **options: given)
        patched.setattr(recipes, "RENDERED", {"train": 12, "test": 12})
        patched.setattr(training, "bfloat16_is_faster", lambda *_: False)  # asking costs more than a tiny run
        few = partial(bootstrap, resamples=2)
        patched.setattr(evaluation, "bootstrap", few)
        patched.setattr(Ruler, "measure", lambda self, x, kind="frechet": few(kind, self.features(x), self.reference))
        yield patched


def stem(runs: Path, role: str, task: str = "tiny-sr") -> str:
    """The checkpoint of a tiny run of seed 0, without its suffix."""
    return str(runs / task / "small" / f"{role}-seed0" / f"{task}-{role}")


def refused(capsys, *arguments: str) -> str:
    """The one sentence on stderr of a command that fails with exit status 2."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith(f"ibmd_minimal {arguments[0]}: "), said
    return said[-1]


def picture(path: Path, height: int, width: int, channels: int = 3, bits: int = 8) -> Path:
    """A file of random pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width) if channels == 1 else (height, width, channels)
    pixels = np.random.default_rng(height * width).integers(0, 2**bits, shape)
    Image.fromarray(pixels.astype(np.uint8 if bits == 8 else np.uint16)).save(path)
    return path


def randomised(network: nn.Module) -> nn.Module:
    """Every parameter drawn anew: layers that start from zero would hide a mistake."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = max(1, parameter[0].numel() if parameter.ndim > 1 else 1)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
    return network.eval()
