"""Corruptions: the maps that turn a clean image `x0` into the source `xT` of an image bridge.

A task costs one function `(x, **options) -> xT` and one line of :data:`CORRUPTIONS`. Images are
`(batch, channel, height, width)` in [-1, 1]; a corruption keeps shape, dtype and device. Line drawings and normals are
no maps of a picture, they come from its scene: `data.solids` renders them, `data.couplings.rendered` pairs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor

from .. import _checks as check
from .._random import Draws
from .blurs import blur_gaussian, blur_uniform, mirrored
from .masks import hide, masks


def _multiple(x: Tensor, of: int, name: str) -> None:
    height, width = x.shape[-2:]
    if height % of or width % of:
        raise ValueError(f"x is {height}x{width} pixels; {name} wants height and width that are multiples of {of}")


# -- super-resolution by 4 -------------------------------------------------------------------------


def sr4x_pool(x: Tensor) -> Tensor:
    """Every 4x4 block replaced by its mean: average pooling, then nearest-neighbour enlargement, both by 4.

    A linear projection (applied twice it changes nothing more), without a clamp: means stay in [-1, 1].
    ValueError where height or width is not a multiple of 4.
    """
    _multiple(x, 4, "sr4x-pool")
    return pooled(x, 4)


def pooled(x: Tensor, factor: int) -> Tensor:
    """Blocks of `factor` x `factor` pixels, which have to fit, replaced by their means."""
    return enlarged(reduce(x, "b c (h p) (w q) -> b c h w", "mean", p=factor, q=factor), factor)


def enlarged(small: Tensor, factor: int = 4) -> Tensor:
    """Every pixel repeated to a block of `factor` x `factor`."""
    return repeat(small, "b c h w -> b c (h p) (w q)", p=factor, q=factor)


def keys_cubic(x: Tensor, a: float = -0.5) -> Tensor:
    """Keys's cubic interpolation kernel: 1 at 0, 0 at the other whole numbers and from 2 on."""
    x = x.abs()
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _shrunk(x: Tensor) -> Tensor:
    """The last axis shortened by 4: 16 taps of the cubic, stretched by 4, over half-sample mirrors at the ends."""
    taps = keys_cubic((torch.arange(16, dtype=torch.float64) - 7.5) / 4)  # made here: not every device has float64
    return mirrored(x, 6).unfold(-1, 16, 4) @ (taps / taps.sum()).to(x)


def sr4x_bicubic(x: Tensor) -> Tensor:
    """Bicubic reduction by 4 with antialiasing, then nearest-neighbour enlargement by 4; no clamp, so overshoots stay.

    Keys's kernel with a = -1/2, half-pixel centres, normalised, the image mirrored at its border. In the interior it is
    torch's `interpolate(mode="bicubic", antialias=True)`, which renormalises at the border instead. ValueError where
    height or width is not a multiple of 4.
    """
    _multiple(x, 4, "sr4x-bicubic")
    return enlarged(_shrunk(_shrunk(x).mT).mT)


# -- JPEG ------------------------------------------------------------------------------------------

# ITU T.81, tables K.1 and K.2, for luma and chroma at quality 50.
LUMA = """16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99"""
CHROMA = """17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99"""
TO_YCBCR = [[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]]


def jpeg_table(base: str, quality: int) -> Tensor:
    """The divisors `(8, 8)` of a table at `quality` 1 to 100, by the rule of the Independent JPEG Group; float64."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = torch.tensor([float(word) for word in base.split()], dtype=torch.float64).reshape(8, 8)
    return ((scale * table + 50) / 100).floor().clamp(1, 255)


def _cosines(like: Tensor) -> Tensor:
    """The orthonormal discrete cosine transform of 8 values, a matrix."""
    k = torch.arange(8, dtype=torch.float64)
    rows = torch.cos(math.pi * (2 * k + 1) * k[:, None] / 16) / 2
    rows[0] /= math.sqrt(2)
    return rows.to(like)


def _quantised(plane: Tensor, table: Tensor) -> Tensor:
    """A plane `(batch, height, width)` in [0, 255] after its 8x8 blocks' coefficients are rounded to the table."""
    dct, table = _cosines(plane), table.to(plane)
    blocks = rearrange(plane - 128, "b (h p) (w q) -> b h w p q", p=8, q=8)
    rounded = (dct @ blocks @ dct.T / table).round() * table
    return rearrange(dct.T @ rounded @ dct, "b h w p q -> b (h p) (w q)") + 128


def jpeg(x: Tensor, quality: int = 10) -> Tensor:
    """JPEG's loss at `quality` 1 to 100, computed here and not by a codec: no file, no entropy code, no 8-bit rounding.

    Y, Cb, Cr; chroma at half size by dropping every second row and column; 8x8 cosine transforms rounded to the
    Independent JPEG Group's tables; back again, chroma enlarged by nearest neighbours. The rounding is hard, so the
    gradient is zero almost everywhere, and nothing is clamped: values may leave [-1, 1]. ValueError where height or
    width is not a multiple of 16.
    """
    if check.count(quality, "quality") > 100:
        raise ValueError(f"quality is {quality}; wanted a whole number from 1 to 100")
    _multiple(x, 16, "jpeg")
    matrix = torch.tensor(TO_YCBCR, dtype=torch.float64)
    y, cb, cr = einsum((x + 1) * 127.5, matrix.to(x), "b c h w, k c -> b k h w").unbind(1)
    y = _quantised(y, jpeg_table(LUMA, quality))
    chroma = [_quantised(one[:, ::2, ::2] + 128, jpeg_table(CHROMA, quality)) - 128 for one in (cb, cr)]
    planes = torch.stack([y, *(repeat(one, "b h w -> b (h p) (w q)", p=2, q=2) for one in chroma)], 1)
    return einsum(planes, torch.linalg.inv(matrix).to(x), "b k h w, c k -> b c h w") / 127.5 - 1


# -- inpainting ------------------------------------------------------------------------------------


def inpaint(x: Tensor, mask: str = "center", generator: torch.Generator | Draws | None = None) -> Tensor:
    """The image with a hole filled with 0, a value that no 8-bit image has, so that `masks.hole_of` finds it again.

    `mask`: a name of `masks.MASKS`; the free-form ones are drawn from `generator`, one for each image. I2SB's code
    fills the hole with noise and shows it as 1; here the bridge brings the noise (chapter 12).
    """
    return hide(x, masks(mask, len(x), *x.shape[-2:], generator))


CORRUPTIONS: dict[str, Callable[..., Tensor]] = {
    "sr4x-pool": sr4x_pool,
    "sr4x-bicubic": sr4x_bicubic,
    "jpeg-5": partial(jpeg, quality=5),
    "jpeg-10": partial(jpeg, quality=10),
    "blur-uniform": blur_uniform,
    "blur-gaussian": blur_gaussian,
    "inpaint-center": inpaint,
    "inpaint-freeform": partial(inpaint, mask="freeform-20-30"),
}
RANDOM = {"inpaint-freeform"}  # these draw numbers of their own


def corrupt(name: str, x: Tensor, generator: torch.Generator | Draws | None = None, **options) -> Tensor:
    """`xT` for the clean images `x` `(batch, channel, height, width)` under the corruption called `name`.

    Same shape, dtype and device; differentiable in `x` wherever the corruption is. `generator`: what the RANDOM ones
    draw from. ValueError for an unknown name (with the nearest one) or a shape that the corruption cannot take,
    TypeError for anything but a floating tensor.
    """
    corruption = CORRUPTIONS[check.choice(name, "name", CORRUPTIONS)]
    check.tensor(x, "x")
    if x.ndim != 4:
        raise ValueError(f"x has shape {tuple(x.shape)}; wanted images, (batch, channel, height, width)")
    return corruption(x, generator=generator, **options) if name in RANDOM else corruption(x, **options)
