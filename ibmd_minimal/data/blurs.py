"""Blurs: a uniform one of 9x9 pixels and a Gaussian one of 5x5, as convolutions that keep the image's size.

Kernels are separable, odd, symmetric and sum to 1, so that a constant image is kept, a mean moves only at the border
and no value leaves the range of the image. Beyond its border the image is continued as its own half-sample mirror,
`... x1 x0 | x0 x1 x2 ...`, the border of this library's bicubic reduction; in one dimension the operator is then a
symmetric matrix with rows and columns that sum to 1.

These are not the operators of the published restoration models (DDRM's, inherited by I2SB and IBMD), which go by the
same names: there an off-by-one drops the last tap, so that 8 of 9 taps (which sum to 0.889 in each direction) or 4 of 5
(0.802) are left, off-centre, over a border of zeros, and the image, in [0, 1], darkens by a factor 0.79 or 0.64;
singular values under 0.03 are set to 0; and the two-dimensional singular values are handed to the wrong modes, because
they are tiled by channel and used by pixel, which changes an image by 10 to 35 % more. Numbers or checkpoints published
for `blur-uni` and `blur-gauss` are therefore not comparable with these.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks as check


def uniform_kernel(size: int = 9) -> Tensor:
    """`size` equal taps that sum to 1, `(size,)` float64; `size` odd."""
    return torch.full((_odd(size),), 1 / size, dtype=torch.float64)


def gaussian_kernel(size: int = 5, sigma: float = 10.0) -> Tensor:
    """`exp(-k²/(2 sigma²))` at the `size` whole numbers around 0, over their sum: `(size,)` float64; `size` odd.

    At the published 5 taps and `sigma` 10 it is nearly uniform: 0.199 to 0.203.
    """
    k = torch.arange(_odd(size), dtype=torch.float64) - size // 2
    taps = torch.exp(-((k / check.positive(sigma, "sigma")) ** 2) / 2)
    return taps / taps.sum()


def _odd(size: int) -> int:
    if check.count(size, "size") % 2 == 0:
        raise ValueError(f"size is {size}; wanted an odd number of taps, so that the kernel has a middle")
    return int(size)


def mirrored(x: Tensor, reach: int) -> Tensor:
    """The last axis continued by `reach` at both ends as its own half-sample mirror, `... x1 x0 | x0 x1 x2 ...`."""
    n = x.shape[-1]
    place = torch.arange(-reach, n + reach, device=x.device) % (2 * n)
    return x[..., torch.where(place < n, place, 2 * n - 1 - place)]


def _along(x: Tensor, taps: Tensor) -> Tensor:
    """The last axis convolved with symmetric `taps`, over half-sample mirrors at both ends."""
    n, reach = x.shape[-1], len(taps) // 2
    if n < reach:
        raise ValueError(f"x has a side of {n} pixels; wanted at least {reach}, half of the kernel, to mirror")
    padded, out = mirrored(x, reach), x
    for k in range(reach):
        far = len(taps) - 1 - k
        # Equal taps in pairs, as differences from the middle: mirrored images have mirrored results, and constants
        # remain, to the bit; that the taps sum to 1 is used here.
        out = out + taps[k].item() * (padded[..., k : k + n] + padded[..., far : far + n] - 2 * x)
    return out


def convolved(x: Tensor, taps: Tensor) -> Tensor:
    """`x` `(batch, channel, height, width)` convolved with the kernel `taps[i] taps[j]`, each channel by itself.

    `taps`: symmetric, an odd number of them, with the sum 1. Same shape, dtype and device; differentiable.
    ValueError where a side is shorter than half the kernel.
    """
    check.tensor(x, "x")
    if x.ndim != 4:
        raise ValueError(f"x has shape {tuple(x.shape)}; wanted images, (batch, channel, height, width)")
    if taps.ndim != 1 or len(taps) % 2 == 0 or not torch.equal(taps, taps.flip(0)):
        raise ValueError(f"taps has shape {tuple(taps.shape)}; wanted an odd number of taps, the same from both ends")
    if abs(float(taps.sum()) - 1) > 1e-6:
        raise ValueError(f"taps sum to {float(taps.sum()):g}; wanted 1, so that constants are kept")
    return _along(_along(x, taps).mT, taps).mT


def blur_uniform(x: Tensor, size: int = 9) -> Tensor:
    """The mean over `size` x `size` pixels around each, mirrored at the border; `size` odd, 9 by default."""
    return convolved(x, uniform_kernel(size))


def blur_gaussian(x: Tensor, size: int = 5, sigma: float = 10.0) -> Tensor:
    """A Gaussian blur of standard deviation `sigma` pixels, cut to `size` x `size`, mirrored at the border.

    5 taps and `sigma` 10 by default, the published names' numbers: a Gaussian cut so short is nearly uniform.
    """
    return convolved(x, gaussian_kernel(size, sigma))
