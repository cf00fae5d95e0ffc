"""Random shaded solids with their normals, their line drawing and their class: see :data:`CARD` and :func:`solids`."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from .. import _checks as check
from .layouts import kinds
from .rendering import Columns, Pixels, line_drawing, unit, visible
from .scenes import Scene, numbers, on, scenes
from .shading import colours, flat_colours
from .shapes import SHAPES, pick

CARD = (
    "solids: renderings of one to three simple solids (spheres, boxes, tori, cones, capsules) on a ground, in random "
    "poses, colours, light and view, each with its normal map, its line drawing and its class, one of six. Made for "
    "this library, computed by it when asked for, at any size and in any number (about 5 ms of one core for an image "
    "of 64x64); nothing is downloaded or stored. An image is a function of its seed, split and index; the splits "
    "train and test draw from two streams of random numbers. Licence: MIT, like the code that draws them. Cite: "
    "ibmd_minimal, CITATION.cff."
)
CLASSES = (*SHAPES, "combination")
SPLITS = ("train", "test")
LEAST_SIZE, MOST_SIZE = 8, 1024
SAMPLES_AT_ONCE = 2**19  # in one pass of the renderer: some 100 bytes each at the peak; more fall out of the caches
OVERSAMPLE = 2
SCENES_ALONG = (0, 0, 1, 1, 2, 1, 0, 1, 0, 1, 0, 1, 1)  # the dimension of each part of a Scene that counts scenes


class Solids(NamedTuple):
    """What :func:`solids` returns, one entry an index; images are float32 in [-1, 1]."""

    image: Tensor  # (batch, 3, size, size)
    normals: Tensor  # (batch, 3, size, size): unit vectors times coverage
    lines: Tensor  # (batch, 1, size, size): 1 is paper, -1 is ink
    label: Tensor  # (batch,), int64: index into CLASSES


def solids(
    indices: int | Iterable[int],
    size: int = 64,
    seed: int = 0,
    split: str = "train",
    shading: bool = True,
    device: torch.device | str = "cpu",
) -> Solids:
    """Pictures of random solids with normals, line drawings and labels, by index.

    `indices`: whole numbers from 0, for example `range(1000, 1064)`; a single number `n` stands for `range(n)`.
    `size`: of the square images, 8 to 1024 pixels. `seed`, `split` ("train" or "test"): which stream of scenes; two
    splits of one seed share no random number. `shading=False` leaves light, shadow and gloss away: flat paint on a
    flat ground, the rest as before. All tensors are on `device`.

    `normals` are in camera coordinates, x right, y up, z towards the viewer: the unit vector of a pixel's mean normal
    times the fraction of the pixel that solids cover. The background, ground and shadow included, is 0, so that the
    length of a normal is the picture's mask. (Models are trained on them in 8 bits, `images.to_uint8`, where 0 becomes
    the level 128, a 255th above 0: give them `to_float(to_uint8(normals))`.) `lines` hold silhouettes, creases and
    depth breaks of the solids.
    `label` is an index into :data:`CLASSES`, each class with probability 1/6; of the combinations some 0.4 % show one
    solid only, the other hidden behind it.

    An element has the same bits whatever the batch it is drawn in and whatever the number of threads; on another
    machine or device the same up to rounding. ValueError and TypeError for indices, sizes, seeds and splits that are
    none of these.
    """
    indices, size, stream = _indices(indices), _size(size), _stream(seed, split)
    at_once = max(1, SAMPLES_AT_ONCE // (size * OVERSAMPLE) ** 2)
    scene = scenes(indices, seed, stream)  # of all passes: it is many small operations, whatever their number
    parts = [
        _rendered(on(_some(scene, start, min(start + at_once, len(indices))), device), size, shading)
        for start in range(0, len(indices), at_once)
    ]
    return Solids(*(torch.cat(part) for part in zip(*parts)))


def labels(indices: int | Iterable[int], seed: int = 0, split: str = "train") -> Tensor:
    """The labels that :func:`solids` would return, `(batch,)` int64, without rendering: some 15 microseconds each."""
    drawn = numbers(_indices(indices), seed, _stream(seed, split))
    return kinds(iter(drawn.unbind(1)))[0]


def _indices(indices: int | Iterable[int]) -> list[int]:
    if isinstance(indices, Tensor):
        indices = indices.tolist()
    if isinstance(indices, Integral):
        return list(range(check.count(indices, "indices")))
    if isinstance(indices, str) or not isinstance(indices, Iterable):
        raise TypeError(f"indices is a {type(indices).__name__}; wanted a whole number, a range or a list of them")
    found = [check.count(index, "an index", 0) for index in indices]
    if not found:
        raise ValueError("indices is empty; wanted at least one whole number from 0 on")
    return found


def _size(size: int) -> int:
    if not LEAST_SIZE <= check.count(size, "size") <= MOST_SIZE:
        raise ValueError(f"size is {size}; wanted {LEAST_SIZE} to {MOST_SIZE} pixels")
    return int(size)


def _stream(seed: int, split: str) -> int:
    check.count(seed, "seed", 0)
    return SPLITS.index(check.choice(split, "split", SPLITS))


def _some(scene: Scene, start: int, stop: int) -> Scene:
    """The scenes from `start` to before `stop`."""
    return Scene(*(part.narrow(dim, start, stop - start) for part, dim in zip(scene, SCENES_ALONG)))


@torch.no_grad()
def _rendered(scene: Scene, size: int, shading: bool) -> Solids:
    """One pass of the renderer: these scenes' pictures."""
    columns, shape = Columns.of(scene), (len(scene.label), size)
    samples = visible(columns, size, OVERSAMPLE)
    pixels = Pixels.of(samples, shape, OVERSAMPLE)
    if shading:
        paint, image = colours(scene, columns, samples, pixels.hidden, size)
    else:
        paint, image = flat_colours(scene, samples, size)
    means = pixels.means(torch.cat([paint, samples.normal, torch.ones_like(paint[:1])]))
    front, normal, coverage = means.split([3, 3, 1])
    normals = image.new_zeros(image.shape)
    normals.flatten(1).index_copy_(1, pixels.place, unit(normal, coverage))
    image = image.flatten(1)
    image.index_copy_(1, pixels.place, front + (1 - coverage) * pick(image, pixels.place))
    image = 2 * image.clamp(0, 1).sqrt() - 1  # linear light to display
    lines = line_drawing(columns, samples, shape, OVERSAMPLE)
    image, normals = (part.reshape(3, -1, size, size).transpose(0, 1).contiguous() for part in (image, normals))
    return Solids(image, normals, 1 - 2 * lines, scene.label)
