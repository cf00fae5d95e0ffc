"""What a picture from a file becomes before it is restored: `xT`, and in words how it was taken."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from .data.corruptions import RANDOM, corrupt, enlarged
from .data.images import to_float
from .data.masks import hide, hole_of, spread
from .data.sets import scaled
from .features import GREY_LEVEL
from .recipes import Recipe

PERIOD = 64  # pixels from one hole to the next: see `scattered`
TOGETHER = 256  # crops restored in one batch: as many pixels as in a piece of 512x512
LEVEL = 1.01 * GREY_LEVEL  # one of 8 bits, but for rounding


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Edges repeated to the right and below until both sides are multiples of `multiple`."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def on_blocks(x: Tensor, size: int) -> bool:
    """Whether `x` is constant on every block of `size` x `size` pixels, but for the rounding of one grey level."""
    padded = pad_to(x, size)
    corners = padded[..., ::size, ::size]
    return float((padded - enlarged(corners, size)).abs().max()) <= LEVEL


def enlarged_before(x: Tensor, size: int) -> bool:
    """Whether `x` was enlarged by `size`: whole blocks, each constant, and not all of one colour.

    A flat picture is constant on blocks of any size, and says nothing of where it comes from: it counts as small.
    """
    whole = not any(side % size for side in x.shape[-2:])
    flat = float((x - x[..., :1, :1]).abs().max()) <= LEVEL
    return whole and not flat and on_blocks(x, size)


def corrupted(x: Tensor, recipe: Recipe) -> Tensor:
    """The recipe's corruption of photographs of any size: padded to what it wants, and cut again."""
    return corrupt(recipe.corruption, pad_to(x, recipe.multiple))[..., : x.shape[-2], : x.shape[-1]]


def source_of(
    image: Tensor, recipe: Recipe, clean: bool = False, mask: Tensor | None = None, seed: int = 0
) -> tuple[Tensor, str]:
    """`xT` `(1, 3, H, W)` for a photograph or drawing uint8 `(3, h, w)`, and how it was taken.

    `clean`: the photograph is whole and is corrupted first. Otherwise it is the corrupted one. A recipe that enlarges
    takes it for the small photograph and enlarges it by nearest neighbours, unless that has been done already
    (:func:`enlarged_before`), in which case it keeps its size. For inpainting it is whole in any case, and what `mask`
    `(h, w)` has above 0 is hidden, or, without one, holes of the size trained on, drawn from `seed`
    (:func:`scattered`). Drawings and maps of normals are brought to the recipe's size, the only one that its models
    know. ValueError for a mask of another size, or where there is nothing to hide, and for `clean` where xT is no
    corrupted picture.
    """
    x = to_float(image)[None]
    if recipe.pasted:
        return _hidden(x, recipe, mask, seed)
    if mask is not None:
        raise ValueError(f"a mask was given and {recipe.name} fills no holes; wanted one of the inpaint tasks")
    if recipe.data == "solids":
        return _translated(image, recipe, clean)
    if clean:
        return corrupted(x, recipe), "clean, corrupted here"
    if recipe.enlarge == 1:
        return x, "as given"
    if enlarged_before(x, recipe.enlarge):
        return x, "enlarged before"
    return enlarged(x, recipe.enlarge), f"small, enlarged by {recipe.enlarge}"


# -- drawings and maps of normals ------------------------------------------------------------------


def _translated(image: Tensor, recipe: Recipe, clean: bool) -> tuple[Tensor, str]:
    """A drawing in grey, or a map of normals, of the recipe's size: its middle square, by antialiased bicubics."""
    if clean:
        got = f"{recipe.name} starts from {recipe.corruption}, which cannot be made of a whole picture here"
        raise ValueError(f"{got}; wanted them as they are, without clean")
    (height, width), size, taken = image.shape[-2:], recipe.size, "as given"
    if (height, width) != (size, size):
        image = scaled(image, size)
        taken = f"{'' if height == width else 'its middle square '}scaled to {size}x{size}"
    x = to_float(image)[None]
    return (without_colour(x) if recipe.corruption == "lines" else _grounded(x)), taken


def without_colour(x: Tensor) -> Tensor:
    """The mean of the channels of `x` `(batch, 3, H, W)`, in each of them."""
    return x.mean(1, keepdim=True).expand_as(x).contiguous()


def _grounded(normals: Tensor) -> Tensor:
    """Normals `(1, 3, H, W)` with the ground that training saw, the level 128, where a map has its nearest to 0.

    0 has no level of its own in 8 bits, and other programs write 127. One level off, on the ground alone, the shipped
    teacher's squared error at NFE 1 rises by a third.
    """
    bare = normals.norm(dim=1, keepdim=True) < 0.02
    return torch.where(bare, to_float(torch.tensor(128, dtype=torch.uint8)), normals)


# -- holes -----------------------------------------------------------------------------------------


def _hidden(x: Tensor, recipe: Recipe, mask: Tensor | None, seed: int) -> tuple[Tensor, str]:
    if mask is None:
        holes, taken = scattered(*x.shape[-2:], recipe, seed)
        return hide(x, holes), taken
    if mask.shape != x.shape[-2:] or not bool((mask > 0).any()):
        got = f"the mask is {tuple(mask.shape)}, {int((mask > 0).sum())} pixels of it marked"
        raise ValueError(f"{got}; wanted the picture's size, {tuple(x.shape[-2:])}, and some pixels to fill")
    return hide(x, (mask > 0).float()[None, None]), "hidden by the mask"


def lattice(height: int, width: int, recipe: Recipe) -> tuple[int, range, range]:
    """Squares of the recipe's size on a photograph: their side, and the rows and columns at which they begin.

    64 pixels lie from one to the next, and as many fit as can; what is left over is shared by both ends. The side is
    smaller where the photograph is.
    """
    size = min(recipe.size, height, width)
    rests = height - size, width - size
    rows, columns = (range(rest % PERIOD // 2, rest + 1, PERIOD) for rest in rests)
    return size, rows, columns


def scattered(height: int, width: int, recipe: Recipe, seed: int = 0) -> tuple[Tensor, str]:
    """The holes that training had, spread over a photograph: a mask `(1, 1, height, width)`, and what it is in words.

    A quarter of a whole photograph in one hole is nothing that models of crops can fill. So what the recipe hides of
    its crops is hidden in squares of their size on a :func:`lattice` with a period of 64 pixels. What lies around a
    hole is then visible as in training: the shipped networks look 62 pixels far, so that from its middle they hardly
    see another. A photograph of the recipe's size is hidden as its crops were. `seed`: what free forms are drawn from.
    """
    size, rows, columns = lattice(height, width, recipe)
    many = len(rows) * len(columns)
    crops = corrupt(recipe.corruption, torch.ones(many, 3, size, size), torch.Generator().manual_seed(seed))
    tiles = hole_of(crops)
    words = f"hidden by {recipe.corruption}"
    if (height, width) != (size, size):
        squares, every = ("squares", f", every {PERIOD} pixels") if many > 1 else ("a square", "")
        drawn = recipe.corruption in RANDOM
        side = size if drawn else int(tiles[0].amax((0, 1)).sum())
        words = f"{'strokes in ' if drawn else ''}{squares} of {side}x{side} hidden{every}"
    return spread(tiles, rows, columns, height, width), words


def by_crops(restore: Callable[[Tensor], Tensor], xT: Tensor, recipe: Recipe) -> Tensor:
    """`xT` `(1, 3, H, W)` with the squares of its :func:`lattice` restored, each by itself, and the rest as it is.

    For a hole that was in the middle of every crop: the networks have learned where it lies from the crop's border,
    and where a photograph goes on behind that border they paint frames. Free forms lay anywhere, and do not need it.
    """
    size, rows, columns = lattice(*xT.shape[-2:], recipe)
    places = [(slice(row, row + size), slice(column, column + size)) for row, column in product(rows, columns)]
    crops = torch.cat([xT[..., down, across] for down, across in places])
    x0 = xT.clone()
    for (down, across), crop in zip(places, torch.cat([restore(part) for part in crops.split(TOGETHER)])):
        x0[0, :, down, across] = crop
    return x0


def depth(mask: Tensor) -> int:
    """How far the most hidden pixel of a mask `(height, width)` is from a visible one, in steps of a chess king.

    A hole of `2 r` pixels across is `r` deep, unless it reaches the image's border, behind which nothing is visible.
    0 where nothing is hidden; the longer side where everything is.
    """
    from scipy.ndimage import distance_transform_cdt  # a third of a second to import

    if bool((mask > 0).all()):
        return max(mask.shape)
    return int(distance_transform_cdt((mask > 0).cpu().numpy(), "chessboard").max())
