"""Restore real files: any size, in pieces where the picture is large, by the student or by its teacher."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from . import _checks as check
from .checkpoints import load_model
from .data.corruptions import RANDOM
from .data.images import image_files, read_image, to_uint8, write_image
from .features import GREY_LEVEL
from .networks import Denoiser, UNet
from .recipes import Recipe
from .recipes import recipe as named
from .runs import student_role
from .samplers import sample
from .sources import by_crops, depth, pad_to, source_of, without_colour
from .students import Student

NO_MEMORY = "out of memory|can't allocate memory|not enough memory"  # in the words of torch's allocators


class Tiled(nn.Module):
    """A local network applied piece by piece: the same output, in the memory of one piece.

    Each piece is seen with a margin of `reach` pixels on every side, beyond which the network cannot look, so that
    cutting changes nothing but rounding. `tile`: the side of a piece, a multiple of the network's stride.
    """

    def __init__(self, network: nn.Module, tile: int = 512):
        super().__init__()
        if not isinstance(network, UNet):
            raise TypeError(f"the network is a {type(network).__name__}; wanted a UNet, which restores images")
        self.network, self.conditional = network, network.conditional
        self.noise_channels, self.noise_shape = network.noise_channels, network.noise_shape
        self.tile = check.count(tile, "tile", least=network.stride) // network.stride * network.stride
        self.margin = -(-network.reach // network.stride) * network.stride

    def forward(self, x_t: Tensor, t: Tensor, xT: Tensor | None = None, **images: Tensor) -> Tensor:
        """As the network's own forward pass."""
        height, width = x_t.shape[-2:]
        if max(height, width) <= self.tile + 2 * self.margin:
            return self.network(x_t, t, xT, **images)
        # a head start's slow noise reaches farther than a margin
        x_t, t = self.network.ahead(x_t, t, xT, images.get("z"), images.get("label"))
        out = torch.empty_like(x_t)
        for top in range(0, height, self.tile):
            for left in range(0, width, self.tile):
                self._piece(out, top, left, t, x_t, xT, images)
        return out

    def _piece(self, out: Tensor, top: int, left: int, t: Tensor, x_t: Tensor, xT: Tensor | None, images: dict) -> None:
        up, west = max(0, top - self.margin), max(0, left - self.margin)
        window = (..., slice(up, top + self.tile + self.margin), slice(west, left + self.tile + self.margin))
        cut = {name: value[window] if value.ndim == 4 else value for name, value in images.items()}
        piece = self.network(x_t[window], t, None if xT is None else xT[window], **cut)
        inner = piece[..., top - up : top - up + self.tile, left - west : left - west + self.tile]
        out[..., top : top + self.tile, left : left + self.tile] = inner


@dataclass(frozen=True)
class Restored:
    """One restored file: where it came from, where it went, how the source was taken, pixels, passes, seconds.

    `note`: a sentence where the result is doubtful, "" where it is not.
    """

    source: Path
    written: Path
    taken: str
    size: tuple[int, int]
    nfe: int
    seconds: float
    note: str = ""


def restorer(
    recipe: Recipe, model: Denoiser | Student, nfe: int = 1, seed: int = 0, tile: int = 512, label: int | None = None
) -> Callable[[Tensor], Tensor]:
    """`xT (1, 3, H, W)` in [-1, 1], any size -> the restored image of its size, in [-1, 1].

    `model`: a Student (its own NFE) or a teacher (posterior sampling at `nfe`), on the device of `xT`. `label`: for a
    student of several teachers, which of the recipe's it stands in for. Noise is drawn on the CPU, a function of
    `seed` and the size, so that every device restores the same image.
    """
    nfe = check.count(nfe, "nfe")
    network = Tiled(model.network if isinstance(model, Student) else model, tile)

    @torch.no_grad()
    def restore(xT: Tensor) -> Tensor:
        height, width = xT.shape[-2:]
        padded = pad_to(xT, network.network.stride)
        generator = torch.Generator().manual_seed(seed)
        if isinstance(model, Student):
            which = None if label is None else torch.full((len(padded),), label, device=padded.device)
            x0 = Student(network, model.bridge, model.times, model.anchor)(padded, which, generator=generator)
        else:
            x0 = sample(network, model.bridge, padded, nfe, generator=generator)
        return x0[..., :height, :width].clamp(-1, 1)

    return restore


def in_grey(x0: Tensor, xT: Tensor) -> Tensor:
    """`x0` `(1, 3, H, W)` without colour where `xT` has none: the mean of its channels, in each.

    The networks learned from photographs in colour, and their noise has three channels: of a grey picture they make
    one with specks of colour, about which the picture says nothing. Of all grey images the mean is the nearest.
    """
    grey = float((xT - xT[:, :1]).abs().max()) < GREY_LEVEL / 2  # JPEG of grey rounds
    return without_colour(x0) if grey else x0


def restore_files(
    recipe: Recipe,
    paths: str | Path | Iterable[str | Path],
    out: Path | str,
    *,
    teacher: bool = False,
    nfe: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    clean: bool = False,
    checkpoint: str | Path | None = None,
    mask: str | Path | None = None,
    instead: str | None = None,
) -> Iterator[Restored | str]:
    """Restore image files, or those in folders, into `out` as PNG; yields one :class:`Restored` for each, or a sentence
    for what is no image or not there, which stops nothing.

    `teacher`: by the teacher at `nfe` passes (100 if None) instead of the student, of which `nfe` chooses one; if None
    that of the most passes, one for super-resolution and JPEG.
    `checkpoint`: other weights than the shipped. `mask`: a picture, white where inpainting shall fill. `instead`: for a
    student of several teachers, the task it does. ValueError, FileNotFoundError for these; OSError where `out` cannot
    be written. No source is overwritten. What is grey stays grey, but for drawings and maps of normals
    (:func:`in_grey`); a picture that the memory does not hold is one of the sentences.
    """
    label = _label(recipe, instead)
    model = _model(recipe, teacher, nfe, device, checkpoint, instead)
    hole = None if mask is None else _mask(mask)
    recipe = named(instead) if instead else recipe
    note = "" if hole is None else _doubt(hole, mask, recipe)
    crops = recipe.pasted and hole is None and recipe.corruption not in RANDOM
    restore = restorer(recipe, model, passes := _passes(model, nfe), seed, label=label)
    files, problems = _found(paths)
    yield from problems
    written = {path.resolve() for path in files}
    for path in files:
        try:
            xT, taken = _source(path, recipe, clean, hole, seed)
            start = time.perf_counter()
            x0 = (by_crops(restore, xT.to(device), recipe) if crops else restore(xT.to(device))).cpu()
            seconds = time.perf_counter() - start
            image = to_uint8(x0 if recipe.data == "solids" else in_grey(x0, xT))[0]
        except (ValueError, OSError) as problem:
            yield str(problem)
            continue
        except (MemoryError, RuntimeError) as problem:
            yield _no_room(path, problem)
            continue
        target = write_image(free_name(Path(out), path, written), image)
        yield Restored(path, target, taken, (image.shape[-1], image.shape[-2]), passes, seconds, note)


def _doubt(hole: Tensor, path: str | Path, recipe: Recipe) -> str:
    """A sentence on a mask with holes wider than any that training had, which is half a crop; else ""."""
    wide, trained = 2 * depth(hole), recipe.size // 2
    if wide <= trained:
        return ""
    got = f"{path} has a hole some {wide} pixels wide and {recipe.name} was trained on {trained} at most"
    return f"{got}; wanted narrower ones, for deep inside a wide one the fill is flat and grey"


def _no_room(path: Path, problem: Exception) -> str:
    """The sentence on a picture that is too large; whatever else the problem is, it is raised again."""
    if not isinstance(problem, MemoryError) and not re.search(NO_MEMORY, str(problem)):
        raise problem
    return f"{path} is too large for the memory of this device; wanted a smaller picture, or a part of it"


def _model(recipe: Recipe, teacher: bool, nfe: int | None, device: str, checkpoint, instead) -> Denoiser | Student:
    if not teacher and not checkpoint and nfe not in (None, *recipe.students):
        wanted = " or ".join(map(str, recipe.students))
        raise ValueError(f"nfe is {nfe} and {recipe.name} has no such student; wanted {wanted}, or --teacher with it")
    role = "teacher" if teacher else student_role(nfe if nfe in recipe.students else recipe.students[-1])
    owner = instead if teacher and instead else recipe.name
    return load_model(checkpoint or f"{owner}-{role}", device, role=role.partition("-")[0])


def _label(recipe: Recipe, instead: str | None) -> int | None:
    """Which of the recipe's teachers is meant; ValueError where it has to be said and is not, or the reverse."""
    if recipe.teachers and instead is None:
        wanted = f"wanted --instead with one of {', '.join(recipe.teachers)}"
        raise ValueError(f"{recipe.name} does {len(recipe.teachers)} tasks and none is named; {wanted}")
    if recipe.teachers:
        return recipe.teachers.index(check.choice(instead, "instead", recipe.teachers))
    if instead is not None:
        raise ValueError(f"{recipe.name} does one task; wanted no other, got {instead!r}")
    return None


def _source(path: Path, recipe: Recipe, clean: bool, mask: Tensor | None, seed: int) -> tuple[Tensor, str]:
    """:func:`source_of` for a file, which its refusals name."""
    image = read_image(path, least=1)
    try:
        return source_of(image, recipe, clean, mask, seed)
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from problem


def _mask(path: str | Path) -> Tensor:
    """A mask from a picture: 1 where it is lighter than middle grey, `(h, w)`."""
    return (read_image(Path(path), least=1).float().mean(0) > 127.5).float()


def _passes(model: Denoiser | Student, nfe: int | None) -> int:
    if not isinstance(model, Student):
        return 100 if nfe is None else check.count(nfe, "nfe")
    if nfe not in (None, model.nfe):
        raise ValueError(f"nfe is {nfe} and this student takes {model.nfe}; wanted --teacher with --nfe, or no --nfe")
    return model.nfe


def _found(paths: str | Path | Iterable[str | Path]) -> tuple[list[Path], list[str]]:
    """The image files of all paths, each once, and a sentence for each path that leads to none."""
    files, problems = [], []
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        try:
            files += image_files(path)
        except (ValueError, OSError) as problem:
            problems.append(str(problem))
    if not files and not problems:
        raise ValueError("no paths given; wanted image files or folders of images")
    return list(dict.fromkeys(files)), problems


def free_name(out: Path, path: Path, written: set[Path]) -> Path:
    """`out/NAME.png`, but none of the resolved paths in `written`, to which it is added.

    Where two files of one call share a name, the second keeps its suffix in it, or gets a number.
    """
    names = [path.stem, path.name.replace(".", "-"), *(f"{path.stem}-{k}" for k in range(2, len(written) + 3))]
    target = next(out / f"{name}.png" for name in names if (out / f"{name}.png").resolve() not in written)
    written.add(target.resolve())
    return target
