"""Restore real files: any size, in pieces where the picture is large, by the student or by its teacher."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import _checks as check
from .checkpoints import load_model
from .data.corruptions import corrupt
from .data.images import image_files, read_image, to_float, write_image
from .data.masks import hide
from .networks import Denoiser, UNet
from .recipes import Recipe
from .recipes import recipe as named
from .runs import student_role
from .samplers import sample
from .students import Student


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Edges repeated to the right and below until both sides are multiples of `multiple`."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


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


def on_blocks(x: Tensor, size: int) -> bool:
    """Whether `x` is constant on every block of `size` x `size` pixels, but for the rounding of one grey level."""
    padded = pad_to(x, size)
    corners = padded[..., ::size, ::size].repeat_interleave(size, -2).repeat_interleave(size, -1)
    return float((padded - corners).abs().max()) <= 1.01 / 127.5


def corrupted(x: Tensor, recipe: Recipe) -> Tensor:
    """The recipe's corruption of photographs of any size: padded to what it wants, and cut again."""
    return corrupt(recipe.corruption, pad_to(x, recipe.multiple))[..., : x.shape[-2], : x.shape[-1]]


def source_of(
    image: Tensor, recipe: Recipe, clean: bool = False, mask: Tensor | None = None, seed: int = 0
) -> tuple[Tensor, str]:
    """`xT` `(1, 3, H, W)` for a photograph or drawing uint8 `(3, h, w)`, and how it was taken.

    `clean`: the photograph is whole and is corrupted first. Otherwise it is the corrupted one. A recipe that enlarges
    takes it for the small photograph and enlarges it by nearest neighbours, unless that has been done already (it is
    constant on the blocks), in which case it keeps its size. For inpainting it is whole in any case, and what `mask`
    `(h, w)` has above 0 is hidden, or, without one, what the recipe's own mask hides, drawn from `seed`. ValueError for
    a mask of another size, or where there is nothing to hide, and for `clean` where xT is no corrupted picture.
    """
    x = to_float(image)[None]
    if recipe.pasted:
        return _hidden(x, recipe, mask, seed)
    if mask is not None:
        raise ValueError(f"a mask was given and {recipe.name} fills no holes; wanted one of the inpaint tasks")
    if recipe.data == "solids":
        if clean:
            got = f"{recipe.name} starts from {recipe.corruption}, which cannot be made of a whole picture here"
            raise ValueError(f"{got}; wanted them as they are, without clean")
        return (x.mean(1, keepdim=True).expand_as(x).contiguous() if recipe.corruption == "lines" else x), "as given"
    if clean:
        return corrupted(x, recipe), "clean, corrupted here"
    if recipe.enlarge == 1:
        return x, "as given"
    if on_blocks(x, recipe.enlarge):
        return x, "enlarged before"
    large = x.repeat_interleave(recipe.enlarge, -2).repeat_interleave(recipe.enlarge, -1)
    return large, f"small, enlarged by {recipe.enlarge}"


def _hidden(x: Tensor, recipe: Recipe, mask: Tensor | None, seed: int) -> tuple[Tensor, str]:
    if mask is None:
        return corrupt(recipe.corruption, x, torch.Generator().manual_seed(seed)), f"hidden by {recipe.corruption}"
    if mask.shape != x.shape[-2:] or not bool((mask > 0).any()):
        got = f"the mask is {tuple(mask.shape)}, {int((mask > 0).sum())} pixels of it marked"
        raise ValueError(f"{got}; wanted the picture's size, {tuple(x.shape[-2:])}, and some pixels to fill")
    return hide(x, (mask > 0).float()[None, None]), "hidden by the mask"


@dataclass(frozen=True)
class Restored:
    """One restored file: where it came from, where it went, how the source was taken, pixels, passes, seconds."""

    source: Path
    written: Path
    taken: str
    size: tuple[int, int]
    nfe: int
    seconds: float


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

    `teacher`: by the teacher at `nfe` passes (100 if None) instead of the student, of which `nfe` chooses one.
    `checkpoint`: other weights than the shipped. `mask`: a picture, white where inpainting shall fill. `instead`: for a
    student of several teachers, the task it does. ValueError, FileNotFoundError for these; OSError where `out` cannot
    be written. No source is overwritten.
    """
    label = _label(recipe, instead)
    model = _model(recipe, teacher, nfe, device, checkpoint, instead)
    hole = None if mask is None else _mask(mask)
    recipe = named(instead) if instead else recipe
    restore = restorer(recipe, model, passes := _passes(model, nfe), seed, label=label)
    files, problems = _found(paths)
    yield from problems
    written = {path.resolve() for path in files}
    for path in files:
        try:
            xT, taken = _source(path, recipe, clean, hole, seed)
        except (ValueError, OSError) as problem:
            yield str(problem)
            continue
        start = time.perf_counter()
        image = restore(xT.to(device))[0].cpu()
        seconds = time.perf_counter() - start
        target = write_image(free_name(Path(out), path, written), image)
        yield Restored(path, target, taken, (image.shape[-1], image.shape[-2]), passes, seconds)


def _model(recipe: Recipe, teacher: bool, nfe: int | None, device: str, checkpoint, instead) -> Denoiser | Student:
    role = "teacher" if teacher else student_role(nfe if nfe in recipe.students else recipe.students[0])
    owner = instead if teacher and instead else recipe.name
    return load_model(checkpoint or f"{owner}-{role}", device, role=role.partition("-")[0])


def _label(recipe: Recipe, instead: str | None) -> int | None:
    """Which of the recipe's teachers is meant; ValueError where it has to be said and is not, or the reverse."""
    if recipe.teachers:
        return recipe.teachers.index(check.choice(instead or "", "instead", recipe.teachers))
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
