"""Photographs for a widget, the reader's own among them, and how strongly they can be corrupted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _checks as check
from .data.corruptions import corrupt, enlarged, jpeg, pooled
from .data.images import PHOTOS, load, read_image, to_float
from .data.masks import freeform_mask, hide, spread
from .recipes import recipe

SIDE = 192  # pixels of the longer side: a pass of the shipped networks then takes some 0.1 s of one core
LEAST = 32  # of the shorter side
CROP = 32  # the side of the crops that the models of holes saw
BLOCK = 16  # every corruption takes sides that are multiples of this

# -- pictures --------------------------------------------------------------------------------------


class Picture(NamedTuple):
    """A photograph `(1, 3, height, width)` in [-1, 1], and in words its size and what was done to it."""

    x0: Tensor
    words: str


def prepared(image: Tensor, side: int = SIDE, from_size: str = "") -> Picture:
    """A photograph uint8 `(3, height, width)`, brought to at most `side` pixels, sides cut to multiples of 16.

    Smaller ones keep their size. `from_size`: what it was before, in the words, if it is not the image's own size.
    ValueError where less than 32 pixels would be left of a side.
    """
    sides = tuple(image.shape[-2:])
    scale = min(1.0, side / max(sides))
    x0 = to_float(image)[None]
    if scale < 1:
        new = [max(1, round(length * scale)) for length in sides]
        x0 = F.interpolate(x0, new, mode="bicubic", antialias=True).clamp(-1, 1)
    height, width = (length // BLOCK * BLOCK for length in x0.shape[-2:])
    if min(height, width) < LEAST:
        found = f"{sides[1]}x{sides[0]} pixels" + (f", {width}x{height} when reduced" if scale < 1 else "")
        raise ValueError(f"the picture has {found}; wanted {LEAST} or more on each side, and no narrow strip")
    top, left = (x0.shape[-2] - height) // 2, (x0.shape[-1] - width) // 2
    words = f"{width}x{height} pixels"
    if sides != (height, width):
        words += f", {'reduced' if scale < 1 else 'cut'} from {from_size or f'{sides[1]}x{sides[0]}'}"
    return Picture(x0[..., top : top + height, left : left + width].contiguous(), words)


def plain_name(name: str) -> str:
    """The end of a file's name, without folders or letters that cannot be printed."""
    return "".join(letter for letter in Path(name).name if letter.isprintable())[-60:] or "the file"


def uploaded(name: str, content: bytes | memoryview, side: int = SIDE, from_size: str = "") -> Picture:
    """A picture from a file's name and bytes; ValueError, in a sentence with the name, for what is no photograph.

    `from_size`: "5000x4000", if the bytes are of a photograph that has been reduced before.
    """
    shown = plain_name(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        path.write_bytes(content)
        try:
            return prepared(read_image(path, least=1), side, from_size)
        except ValueError as problem:
            raise ValueError(str(problem).replace(str(path), shown).replace("the picture", shown, 1)) from None


def photographs(given: Mapping[str, Tensor] | None, side: int) -> dict[str, Picture]:
    """The pictures given, uint8 `(3, h, w)`, or scikit-image's test photographs at half size."""
    if given is None:
        given = dict(zip(PHOTOS["test"], load("photos", "test", half=True)))
    if not given:
        raise ValueError("pictures is empty; wanted names with photographs, uint8 (3, height, width)")
    for name, image in given.items():
        if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
            got = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else f"a {type(image).__name__}"
            raise ValueError(f"the picture {name!r} is {got}; wanted uint8 of shape (3, height, width)")
    return {name: prepared(image, side) for name, image in given.items()}


# -- corruptions and their strengths ---------------------------------------------------------------


class Strength(NamedTuple):
    """How strong a corruption can be: what the number is called, its values, and `xT = make(x0, value)`."""

    word: str
    values: tuple[str, ...]
    make: Callable[[Tensor, str], Tensor]


def shrunk(x: Tensor, factor: int) -> Tensor:
    """Bicubic reduction, then enlargement by nearest neighbours: sr4x-bicubic at 4, but for pixels at the border."""
    return enlarged(F.interpolate(x, scale_factor=1 / factor, mode="bicubic", antialias=True), factor)


def centred(x: Tensor, pixels: str) -> Tensor:
    """A square of so many pixels hidden in the middle, at most what the shorter side has."""
    mask, size = torch.zeros(1, 1, *x.shape[-2:]), min(int(pixels), *x.shape[-2:])
    down, across = ((length - size) // 2 for length in x.shape[-2:])
    mask[..., down : down + size, across : across + size] = 1
    return hide(x, mask)


def scattered(x: Tensor, share: str) -> Tensor:
    """Brush strokes as wide as those on the crops of 32x32 that the models saw: masks of that size, side by side."""
    low, high = (int(part) / 100 for part in share.split("-"))
    rows, columns = (range(0, length, CROP) for length in x.shape[-2:])
    tiles = freeform_mask(len(rows) * len(columns), CROP, CROP, torch.Generator().manual_seed(0), low, high)
    return hide(x, spread(tiles, rows, columns, *x.shape[-2:]))


JPEG = ("2", "5", "10", "20", "40", "80")
STRENGTHS = {
    "sr4x-pool": Strength("block", ("2", "4", "8"), lambda x, value: pooled(x, int(value))),
    "sr4x-bicubic": Strength("factor", ("2", "4", "8"), lambda x, value: shrunk(x, int(value))),
    "jpeg-10": Strength("quality", JPEG, lambda x, value: jpeg(x, int(value))),
    "jpeg-5": Strength("quality", JPEG, lambda x, value: jpeg(x, int(value))),
    "inpaint-center": Strength("hidden pixels, squared:", ("8", "16", "24", "48"), centred),
    "inpaint-freeform": Strength("per cent hidden", ("5-10", "10-20", "20-30", "40-50"), scattered),
}
TRAINED = {"sr4x-pool": "4", "sr4x-bicubic": "4", "jpeg-10": "10", "jpeg-5": "5"}
HOLES = {"inpaint-center": "16", "inpaint-freeform": "20-30"}  # of crops of 32x32; a photograph's half is much more
ONLY = "as trained"


def trained_strength(task: str) -> str:
    """The strength that a task's models were trained for."""
    return (TRAINED | HOLES).get(recipe(task).corruption, ONLY)


def strengths_of(task: str) -> tuple[str, ...]:
    """The strengths that a task's corruption can have; one word where it has only the one trained on."""
    one = STRENGTHS.get(recipe(task).corruption)
    return one.values if one else (ONLY,)


def weakened(task: str, x0: Tensor, strength: str) -> Tensor:
    """`xT` of a task's corruption at a strength, one of :func:`strengths_of`; ValueError for another."""
    check.choice(strength, f"the strength of {task}", strengths_of(task))
    corruption = recipe(task).corruption
    if strength == trained_strength(task) and corruption not in HOLES:
        return corrupt(corruption, x0, torch.Generator().manual_seed(0))
    return STRENGTHS[corruption].make(x0, strength)


def described(task: str, strength: str) -> tuple[str, bool]:
    """A task at a strength in words, and whether that is what its models were trained for."""
    trained = trained_strength(task)
    words = (
        f"{task}, {strength}" if strength == ONLY else f"{task}, {STRENGTHS[recipe(task).corruption].word} {strength}"
    )
    if strength == trained:
        return words, True
    return f"{words}: not what the model was trained for ({trained})", False
