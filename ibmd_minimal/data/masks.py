"""Inpainting masks: which pixels of an image are hidden, and how they are filled and pasted back.

A mask is `(batch, 1, height, width)` of 0 and 1, float32; 1 is the hole. A batch of one serves every image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from numbers import Real

import torch
from einops import rearrange
from torch import Tensor

from .. import _checks as check
from .._random import Draws, draw, normal

Generator = torch.Generator | Draws | None

LEAST_SIDE = 8
SEGMENTS = 40  # of all strokes of a mask together; they cover about half an image
AT_ONCE = 2**16  # pixels painted together, so that they stay in the processor's cache
# The brush of the usual free-form masks (MMEditing's, which Palette drew its own with): 12 to 40 pixels thick on an
# image of 256, segments of about an eighth of the diagonal, 4 to 12 of them in a stroke.
THICKNESS = (12 / 256, 40 / 256)  # of the shorter side
LENGTH = (1 / 16, 3 / 16)  # of the diagonal
LIFT = 1 / 8  # the probability that a stroke ends after a segment
TURN = math.pi / 2  # the sharpest turn between two segments, to either side


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """`(height, width)` from a pair or from the side of a square, each 8 or more."""
    pair = size if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2:
        raise ValueError(f"size is {size!r}; wanted the side of a square, or (height, width)")
    height, width = (check.count(side, name, LEAST_SIDE) for side, name in zip(pair, ("height", "width")))
    return height, width


def centre_mask(size: int | tuple[int, int]) -> Tensor:
    """The middle half of both sides hidden, a quarter of the image: `(1, 1, height, width)`.

    Rows `[H/4, 3H/4)` and columns `[W/4, 3W/4)`, I2SB's and Palette's centre; where 4 does not divide a side, the
    quarter at either end is rounded to whole pixels, so that the hole stays centred. `size`: a side or `(height,
    width)`, each 8 or more.
    """
    height, width = sides(size)
    down, across = (height + 2) // 4, (width + 2) // 4
    mask = torch.zeros(1, 1, height, width)
    mask[..., down : height - down, across : width - across] = 1
    return mask


# -- free-form masks -------------------------------------------------------------------------------


def freeform_mask(
    n: int, height: int, width: int, generator: Generator = None, low: float = 0.2, high: float = 0.3
) -> Tensor:
    """`n` masks of random brush strokes, `(n, 1, height, width)`, each hiding a share of `low` to `high`.

    A round brush of a random thickness runs along random segments, is lifted now and then and set down elsewhere, and
    stops at the pixel at which the hidden share is reached. That share is drawn first, uniformly, and no mask is
    rejected, so that thick brushes paint small holes as often as thin ones. Where the strokes do not suffice (of 30 %
    once in 200 masks, of 60 % as a rule), they are painted again with a brush half as thick again.

    `generator`: a `torch.Generator`, or `Draws` for masks that do not depend on how a batch is cut. On the CPU: about
    1.5 ms of one core for a mask of 64x64, 20 ms for one of 256x256.

    ValueError for sides below 8, or unless `0 < low <= high <= 1` with a whole number of pixels between.
    Yu et al. 2019 (arXiv 1806.03589), algorithm 1, is where such masks come from; Saharia et al. 2022 (Palette) drew
    theirs by shares of 10-20 % and 20-30 %, see :data:`MASKS`.
    """
    n, (height, width) = check.count(n, "n"), sides((height, width))
    least, most = _hidden(low, high, height * width)
    numbers = draw(torch.rand, (n, 1 + 6 * SEGMENTS), torch.empty(0, dtype=torch.float64), generator)
    hidden = least + (numbers[:, 0] * (most - least + 1)).long()
    some = max(1, AT_ONCE // (height * width))
    parts = zip(numbers[:, 1:].split(some), hidden.split(some))
    return torch.cat([_painted(_strokes(part, height, width), count, height, width) for part, count in parts])


def _hidden(low: float, high: float, pixels: int) -> tuple[int, int]:
    """The least and the most pixels to hide."""
    low, high = check.fraction(low, "low"), check.fraction(high, "high")
    # A share such as 0.3 is a float a little off: 0.3 of 1000 pixels are 300, not 299 or 301.
    least, most = math.ceil(low * pixels - 1e-9 * pixels), math.floor(high * pixels + 1e-9 * pixels)
    if not 0 < low <= high or least > most:
        raise ValueError(f"low is {low:g} and high {high:g}; wanted 0 < low <= high and a whole pixel between the two")
    return max(least, 1), most


def _strokes(numbers: Tensor, height: int, width: int) -> dict[str, Tensor]:
    """The segments that the brush runs along, each `(n, SEGMENTS)`, in pixels, from `(n, 6 SEGMENTS)` uniform numbers.

    `x`, `y`: the start; `dx`, `dy`: to the end; `radius`: of the brush, one for a stroke; `begins`: how far the brush
    has run before. A path that leaves the image comes back mirrored.
    """
    lifted, turn, length, thick, *places = rearrange(numbers, "n (s k) -> k n s", k=6)
    fresh = lifted < LIFT
    fresh[:, 0] = True
    stroke = torch.where(fresh, torch.arange(SEGMENTS), 0).cummax(1).values  # the segment that a stroke began with
    heading = torch.where(fresh, 2 * math.pi * turn, TURN * (2 * turn - 1)).cumsum(1)
    length = math.hypot(height, width) * (LENGTH[0] + (LENGTH[1] - LENGTH[0]) * length)
    radius = min(height, width) / 2 * (THICKNESS[0] + (THICKNESS[1] - THICKNESS[0]) * thick)
    found = {"radius": radius.clamp(min=1).gather(1, stroke)}
    for name, side, place, way in zip("xy", (width, height), places, (heading.cos(), heading.sin())):
        end = (2 * side * place * fresh + length * way).cumsum(1)
        found[name], end = _mirrored(end - length * way, side), _mirrored(end, side)
        found[f"d{name}"] = end - found[name]
    run = torch.hypot(found["dx"], found["dy"])
    return {name: value.float() for name, value in (found | {"begins": run.cumsum(1) - run}).items()}


def _mirrored(place: Tensor, side: int) -> Tensor:
    """A place on a line folded into `[0, side]`: what is beyond an end comes back, as light does between mirrors."""
    return side - (place % (2 * side) - side).abs()


def _painted(strokes: dict[str, Tensor], hidden: Tensor, height: int, width: int) -> Tensor:
    """Masks `(n, 1, height, width)` of the first `hidden` `(n,)` pixels that the brush of `strokes` comes to."""
    reached = _reached(strokes, height, width)
    while bool((short := reached.isfinite().sum(1) < hidden).any()):
        strokes = strokes | {"radius": torch.where(short[:, None], 1.5 * strokes["radius"], strokes["radius"])}
        reached = _reached(strokes, height, width)
    order = reached.argsort(dim=1, stable=True)  # stable: ties, if any, in the order of reading
    first = (torch.arange(height * width) < hidden[:, None]).float()
    return torch.zeros_like(first).scatter(1, order, first).reshape(-1, 1, height, width)


def _reached(strokes: dict[str, Tensor], height: int, width: int) -> Tensor:
    """How far the brush has run when it comes to a pixel, `(n, height width)`; infinity where it never does."""
    x, y, dx, dy, radius, begins = (
        strokes[name][..., None, None] for name in ("x", "y", "dx", "dy", "radius", "begins")
    )
    rows, columns = _window(y, dy, radius, height).mT, _window(x, dx, radius, width)
    run = torch.hypot(dx, dy).clamp(min=1e-6)
    east, north = columns + (0.5 - x), rows + (0.5 - y)
    along = east * (dx / run) + north * (dy / run)
    across = east * (dy / run) - north * (dx / run)
    chord = radius**2 - across**2  # negative where the brush passes by
    half = chord.clamp(min=0).sqrt_()
    met = (chord >= 0) & (along + half >= 0) & (along - half <= run)
    press = (along**2 + across**2) / (100 * radius)  # where the brush is set down, the middle comes first
    when = torch.where(met, begins + (along - half).clamp_(min=0) + press, math.inf).flatten(1)
    never = torch.full((len(when), height * width), math.inf)
    return never.scatter_reduce_(1, (rows * width + columns).flatten(1), when, "amin")


def _window(start: Tensor, step: Tensor, radius: Tensor, side: int) -> Tensor:
    """The whole numbers around each segment along one axis, `(n, SEGMENTS, 1, as many as the longest takes)`."""
    first = (torch.minimum(start, start + step) - radius).floor().long()
    long = min(side, math.ceil(float((step.abs() + 2 * radius).max())) + 1)
    return first.clamp(0, side - long) + torch.arange(long)


MASKS: dict[str, Callable[..., Tensor]] = {
    "center": lambda n, height, width, generator=None: centre_mask((height, width)).repeat(n, 1, 1, 1),
    "freeform-10-20": partial(freeform_mask, low=0.1, high=0.2),
    "freeform-20-30": partial(freeform_mask, low=0.2, high=0.3),
}


def masks(name: str, n: int, height: int, width: int, generator: Generator = None) -> Tensor:
    """`n` masks `(n, 1, height, width)` by a name of MASKS: "center", "freeform-10-20" or "freeform-20-30" (per cent).

    `generator` as for :func:`freeform_mask`; the centre draws nothing. ValueError for an unknown name.
    """
    return MASKS[check.choice(name, "name", MASKS)](check.count(n, "n"), height, width, generator)


def spread(tiles: Tensor, rows: Sequence[int], columns: Sequence[int], height: int, width: int) -> Tensor:
    """One mask `(1, 1, height, width)` of smaller ones `(len(rows) len(columns), 1, h, w)`, laid out as one reads.

    Their upper left pixels come to `rows` and `columns`. What leaves the image is cut off; nothing is hidden between.
    """
    mask = torch.zeros(1, 1, height, width)
    for tile, (row, column) in zip(tiles, product(rows, columns)):
        place = mask[..., row : row + tile.shape[-2], column : column + tile.shape[-1]]
        place.copy_(tile[..., : place.shape[-2], : place.shape[-1]])
    return mask


# -- hiding and pasting ----------------------------------------------------------------------------


def _fitting(mask: Tensor, x: Tensor, name: str) -> Tensor:
    """The mask with the dtype and device of the images `x`; ValueError if it is no mask of theirs."""
    check.tensor(x, name), check.tensor(mask, "mask")
    if x.ndim != 4:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; wanted images, (batch, channel, height, width)")
    wanted = (len(x), 1, *x.shape[-2:])
    if mask.shape not in (wanted, (1, *wanted[1:])):
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}; wanted {wanted}, or one mask for all, {(1, *wanted[1:])}"
        )
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"mask runs from {mask.min():g} to {mask.max():g}; wanted 0 and 1 only, 1 in the hole")
    return mask.to(x)


def hide(x: Tensor, mask: Tensor, fill: float | str = 0.0, generator: Generator = None) -> Tensor:
    """`xT = (1 - mask) x + mask fill`: the source of an inpainting bridge, of the shape of `x`.

    `x`: images `(batch, channel, height, width)`. `fill`: a number, as a rule in [-1, 1] (1 is white, for display; 0
    lies between two levels of an 8-bit image, which is what :func:`hole_of` goes by), or "noise": fresh N(0, 1) from
    `generator`, I2SB's and Palette's way, which is what an unconditional bridge needs. The gradient reaches `x` outside
    the hole only. ValueError for a mask of another shape or with values between 0 and 1, and for another fill.
    """
    mask = _fitting(mask, x, "x")
    if isinstance(fill, str):
        check.choice(fill, "fill", ("noise",))
        filling = normal(x.shape, like=x, generator=generator)
    else:
        filling = torch.full_like(x, _level(fill))
    return torch.where(mask > 0, filling, x)


def _level(fill: object) -> float:
    if isinstance(fill, bool) or not isinstance(fill, Real):
        raise TypeError(f"fill is a {type(fill).__name__}; wanted a number or 'noise'")
    if not math.isfinite(fill):
        raise ValueError(f"fill is {fill!r}; wanted a finite number or 'noise'")
    return float(fill)


def paste(x0: Tensor, xT: Tensor, mask: Tensor) -> Tensor:
    """`mask x0 + (1 - mask) xT`: what was painted, in the hole; the rest copied from the source, exactly.

    `x0`, `xT`: images of one shape. As the last layer of a denoiser it makes the error of all that is visible zero, so
    that a mean squared error is one on the hole, and a gradient comes from there only.
    """
    check.same(x0, xT, "x0", "xT")
    return torch.where(_fitting(mask, x0, "x0") > 0, x0, xT)


def hole_of(xT: Tensor, fill: float = 0.0) -> Tensor:
    """The mask of `hide(x, mask, fill)` read off its result: 1 where every channel is `fill` exactly.

    Exact at `fill = 0` for images read from 8 bits, whose values `v/127.5 - 1` are never 0. Returns
    `(batch, 1, height, width)` of the dtype of `xT`.
    """
    check.tensor(xT, "xT")
    if xT.ndim != 4:
        raise ValueError(f"xT has shape {tuple(xT.shape)}; wanted images, (batch, channel, height, width)")
    return (xT == _level(fill)).all(1, keepdim=True).to(xT.dtype)
