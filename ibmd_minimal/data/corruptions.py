"""Corruptions: the maps that turn a clean image `x0` into the source `xT` of an image bridge.

A task costs one function `(x, **options) -> xT` and one line of :data:`CORRUPTIONS`. Images are
`(batch, channel, height, width)` in [-1, 1]; a corruption keeps shape, dtype and device.
"""

from __future__ import annotations

from collections.abc import Callable

from einops import reduce, repeat
from torch import Tensor

from .. import _checks as check


def sr4x_pool(x: Tensor) -> Tensor:
    """Every 4x4 block replaced by its mean: average pooling, then nearest-neighbour enlargement, both by 4.

    A linear projection (applied twice it changes nothing more), without a clamp: means stay in [-1, 1].
    ValueError where height or width is not a multiple of 4.
    """
    height, width = x.shape[-2:]
    if height % 4 or width % 4:
        raise ValueError(f"x is {height}x{width} pixels; sr4x-pool wants height and width that are multiples of 4")
    small = reduce(x, "b c (h p) (w q) -> b c h w", "mean", p=4, q=4)
    return repeat(small, "b c h w -> b c (h p) (w q)", p=4, q=4)


CORRUPTIONS: dict[str, Callable[..., Tensor]] = {
    "sr4x-pool": sr4x_pool,
}


def corrupt(name: str, x: Tensor, **options) -> Tensor:
    """`xT` for the clean images `x` `(batch, channel, height, width)` under the corruption called `name`.

    Same shape, dtype and device; differentiable in `x` wherever the corruption is. ValueError for an unknown name
    (with the nearest one) or a shape that the corruption cannot take, TypeError for anything but a floating tensor.
    """
    corruption = CORRUPTIONS[check.choice(name, "name", CORRUPTIONS)]
    check.tensor(x, "x")
    if x.ndim != 4:
        raise ValueError(f"x has shape {tuple(x.shape)}; wanted images, (batch, channel, height, width)")
    return corruption(x, **options)
