"""What a camera sees of scenes of solids: rays, visibility, normals, coverage, line drawings.

A pixel is cut into `oversample` x `oversample` samples, one ray each. Rays meet solids analytically (the torus by
sphere tracing), each solid only those rays that meet the ball and the box around it; what is hit is kept as a list of
samples.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .scenes import FIELD, Scene
from .shapes import SHAPES, Shape, dot, nonzero, pick, safe_sqrt

DEPTH_BREAK = 0.55  # of a torus's tube radius, between neighbouring samples: one part of it passes before another
INK = 1.25  # strengthens a line that the smoothing has thinned


class Samples(NamedTuple):
    """Samples that see a solid; vectors `(3, m)` in camera coordinates."""

    place: Tensor  # index into the samples of the batch, (n, oversample**2, size, size) flattened
    solid: Tensor  # 3 * scene + slot
    depth: Tensor  # along the ray
    ray: Tensor
    normal: Tensor
    face: Tensor


@lru_cache(maxsize=16)
def rays(size: int, oversample: int, device: torch.device | str) -> Tensor:
    """Directions of length 1, `(3, oversample**2 * size**2)`: for each place within a pixel, all pixels row by row."""
    side = size * oversample
    x = ((torch.arange(side, dtype=torch.float64) + 0.5) * (2 / side) - 1) * FIELD
    y, x = (_planes(part, oversample).flatten() for part in torch.meshgrid(-x, x, indexing="ij"))
    d = torch.stack([x, y, -torch.ones_like(x)])
    return (d / dot(d, d).sqrt()).float().to(device)


def _planes(grid: Tensor, oversample: int) -> Tensor:
    """A grid of samples `(side, side)` as one of pixels for each place within a pixel, `(oversample**2, s, s)`."""
    size = len(grid) // oversample
    return grid.reshape(size, oversample, size, oversample).permute(1, 3, 0, 2).reshape(-1, size, size)


def _grid(planes: Tensor, oversample: int) -> Tensor:
    """The other way round, `(n, oversample**2, s, s)` to `(n, side, side)`."""
    n, size = len(planes), planes.shape[-1]
    squares = planes.reshape(n, oversample, oversample, size, size).permute(0, 3, 1, 4, 2)
    return squares.reshape(n, size * oversample, size * oversample)


class Columns(NamedTuple):
    """The `3 n` places for solids of a batch, as columns of one table, of which many are fetched at once."""

    kind: Tensor  # (solids,), -1 where there is none
    table: Tensor  # (23, solids), what is needed most often first

    axes = property(lambda self: self.table[0:9])
    size = property(lambda self: self.table[9:12])
    local = property(lambda self: self.table[12:15])  # the centre, along the solid's own axes
    light = property(lambda self: self.table[15:18])  # towards the light, along its own axes
    bound = property(lambda self: self.table[18])  # radius of the ball around it
    softness = property(lambda self: self.table[19])  # of the light
    centre = property(lambda self: self.table[20:23])

    @classmethod
    def of(cls, scene: Scene) -> Columns:
        kind, size, centre = scene.kind.flatten(), scene.size.flatten(1), scene.centre.flatten(1)
        bounds = torch.stack([shape.bound(size) for shape in SHAPES.values()])
        bound = bounds.gather(0, kind.clamp(min=0)[None])
        axes = scene.axes.transpose(0, 1).flatten(0, 1).flatten(1)
        light, soft = (part.repeat_interleave(3, -1) for part in (scene.light, scene.softness))
        return cls(kind, torch.cat([axes, size, into(axes, centre), into(axes, light), bound, soft[None], centre]))

    @property
    def scene(self) -> Tensor:
        """The scene of each, `(solids,)`: looked up for many, much faster than a division of whole numbers."""
        return torch.arange(len(self.kind), device=self.kind.device).div(3, rounding_mode="floor")

    @property
    def slot(self) -> Tensor:
        """The place in its scene of each, 0 to 2."""
        return torch.arange(len(self.kind), device=self.kind.device) % 3

    def at(self, which: Tensor, rows: int = 20) -> Columns:
        """Some of them, or each as often as wanted; of the table only the first `rows`."""
        return Columns(pick(self.kind, which), pick(self.table[:rows], which))

    def are(self, name: str) -> Tensor:
        """True for those of the kind called `name`."""
        return self.kind == tuple(SHAPES).index(name)


def into(axes: Tensor, v: Tensor) -> Tensor:
    """The vector `v` `(3, m)` along axes `(9, m)`: the three axes' first components, their second, their third."""
    return axes[0:3] * v[0] + axes[3:6] * v[1] + axes[6:9] * v[2]


def out_of(axes: Tensor, v: Tensor) -> Tensor:
    """The other way round."""
    return torch.stack([dot(axes[k : k + 3], v) for k in (0, 3, 6)])


def _meet(kind: int, which: Tensor, columns: Columns, size: int, oversample: int) -> Samples:
    """All samples at which the solids `which`, of one kind, are hit, whether something stands before them or not."""
    shape = tuple(SHAPES.values())[kind]
    row, pixel = _near(pick(columns.centre, which), pick(columns.bound, which), size)
    solid = pick(which, row)
    if shape.loose:
        boxed = _boxed(shape, columns, solid, pixel, size)
        solid, pixel = pick(solid, boxed), pick(pixel, boxed)
    ray = pick(rays(size, oversample, pixel.device).reshape(-1, size**2), pixel).unflatten(0, (3, -1))
    table = columns.at(solid, rows=15).table[:, None]  # once for all samples of a pixel
    axes, local = table[0:9], table[12:15]
    d = into(axes, ray)
    start = dot(local, d)  # rays start beside the centre, which costs the roots no digits
    o, own = start * d - local, table[9:12].expand_as(d)
    t, normal, face = shape.hit(*(part.flatten(1) for part in (o, d, own)))
    hit = (t.abs() < torch.inf).nonzero()[:, 0]
    normal = out_of(axes, normal.view_as(d)).flatten(1)
    first = pick(columns.scene, solid) * (size * oversample) ** 2 + pixel
    place = first + torch.arange(oversample**2, device=pixel.device)[:, None] * size**2
    own, every = solid.expand_as(place), (start.flatten() + t, ray.flatten(1), normal, face)
    return Samples(pick(place.flatten(), hit), pick(own.flatten(), hit), *(pick(part, hit) for part in every))


def _near(centre: Tensor, bound: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Which solid, which pixel of its scene: all pixels that may see the balls around solids."""
    coarse = rays(size, 1, centre.device)
    square = dot(centre, centre)
    wide = bound + square.sqrt() * (1.5 * FIELD / size)  # a pixel's corner is 1.42 half pixels from its middle
    least = safe_sqrt(square - wide * wide)
    along = centre[0][:, None] * coarse[0] + centre[1][:, None] * coarse[1] + centre[2][:, None] * coarse[2]
    return (along >= least[:, None]).nonzero(as_tuple=True)


def _boxed(shape: Shape, columns: Columns, solid: Tensor, pixel: Tensor, size: int) -> Tensor:
    """Those of the pairs of solids and pixels of which the pixel may see the box around the solid: a fraction."""
    unit_axes = torch.eye(3, device=solid.device)[:, :, None].expand(3, *columns.size.shape)
    half = torch.stack([shape.reach(axis, columns.size) for axis in unit_axes])
    wide = (dot(columns.centre, columns.centre).sqrt() + columns.bound) * (1.5 * FIELD / size)  # as in _near
    box = pick(torch.cat([columns.axes, half + wide, columns.local]), solid)
    slope = 1 / nonzero(into(box[0:9], pick(rays(size, 1, solid.device), pixel)), 1e-7)
    middle, thick = box[12:15] * slope, box[9:12] * slope.abs()
    return ((middle - thick).amax(0) <= (middle + thick).amin(0)).nonzero()[:, 0]


def visible(columns: Columns, size: int, oversample: int) -> Samples:
    """The samples that see a solid, each with the nearest one."""
    groups = [(k, (columns.kind == k).nonzero()[:, 0]) for k in range(len(SHAPES))]
    met = [_meet(k, which, columns, size, oversample) for k, which in groups if len(which)]
    every = Samples(*(torch.cat(parts, -1) for parts in zip(*met)))
    seen = _in_front(columns, every, len(columns.kind) // 3 * (size * oversample) ** 2).nonzero()[:, 0]
    return Samples(*(pick(part, seen) for part in every))


def _in_front(columns: Columns, every: Samples, places: int) -> Tensor:
    """True for the samples before which no other solid stands; only scenes of several solids are looked at."""
    several = (columns.kind[1::3] >= 0).repeat_interleave(3)
    rows = pick(several, every.solid).nonzero()[:, 0]
    place, depth, slot = pick(every.place, rows), pick(every.depth, rows), pick(columns.slot, pick(every.solid, rows))
    nearest, winner = depth.new_full((places,), torch.inf), torch.zeros(places, dtype=torch.long, device=rows.device)
    for k in range(3):
        mine = (slot == k).nonzero()[:, 0]
        mine = pick(mine, (pick(depth, mine) < pick(nearest, pick(place, mine))).nonzero()[:, 0])
        nearest.index_copy_(0, pick(place, mine), pick(depth, mine))
        winner.index_copy_(0, pick(place, mine), pick(rows, mine))
    return torch.ones_like(every.solid, dtype=torch.bool).index_copy_(0, rows, pick(winner, place) == rows)


class Pixels(NamedTuple):
    """The pixels in which a solid is seen, and which samples they are made of."""

    place: Tensor  # (pixels,): index into the pixels of the batch
    sample: Tensor  # (oversample**2, pixels): index of a sample, one beyond the last for none
    hidden: Tensor  # (n, size**2): true for all pixels that solids fill

    @classmethod
    def of(cls, samples: Samples, shape: tuple[int, int], oversample: int) -> Pixels:
        """`shape`: n and the size in pixels."""
        n, size = shape
        beyond, device = len(samples.place), samples.place.device
        sample = torch.full((n, oversample**2, size**2), beyond, dtype=torch.int32, device=device)
        sample.view(-1).index_copy_(0, samples.place, torch.arange(beyond, dtype=torch.int32, device=device))
        place = (sample.amin(1) < beyond).flatten().nonzero()[:, 0]
        return cls(place, pick(sample.transpose(0, 1).flatten(1), place), sample.amax(1) < beyond)

    def means(self, values: Tensor) -> Tensor:
        """Of samples' values `(c, m)`, `(c, pixels)`: 0 where a sample sees no solid."""
        padded = torch.nn.functional.pad(values, (0, 1))
        total = pick(padded, self.sample[0])
        for sample in self.sample[1:]:  # in one order, whatever the batch
            total += pick(padded, sample)
        return total / len(self.sample)


def unit(mean: Tensor, coverage: Tensor) -> Tensor:
    """Mean normals `(3, pixels)` made unit vectors, times the pixel's coverage."""
    return mean * (coverage / safe_sqrt(dot(mean, mean)).clamp(min=1e-6))


def _codes(columns: Columns, samples: Samples, shape: tuple[int, int], oversample: int) -> tuple[Tensor, Tensor]:
    """What each sample sees, a number per face of a solid, 0 for none; and a torus's depth in units of a break.

    Both are grids `(n, side, side)`; `shape`: n and the size in pixels.
    """
    n, size = shape
    planes = n, oversample**2, size, size
    code = torch.zeros(math.prod(planes), dtype=torch.uint8, device=samples.place.device)
    code.index_copy_(0, samples.place, (8 * pick(columns.slot, samples.solid) + samples.face + 1).to(torch.uint8))
    depth = samples.depth.new_zeros(math.prod(planes))
    torus = pick(columns.are("torus"), samples.solid).nonzero()[:, 0]
    tube = pick(columns.size[1], pick(samples.solid, torus))
    depth.index_copy_(0, pick(samples.place, torus), pick(samples.depth, torus) / (DEPTH_BREAK * tube))
    return _grid(code.reshape(planes), oversample), _grid(depth.reshape(planes), oversample)


def _marks(code: Tensor, depth: Tensor) -> Tensor:
    """True for the two samples on both sides of a break, horizontal or vertical."""
    marks = torch.zeros_like(code, dtype=torch.bool)
    for marked, c, d in ((marks, code, depth), (marks.mT, code.mT, depth.mT)):
        between = (c[..., 1:] != c[..., :-1]) | ((d[..., 1:] - d[..., :-1]).abs() > 1)
        marked[..., 1:] |= between
        marked[..., :-1] |= between
    return marks


def _grown(marks: Tensor) -> Tensor:
    """A sample more on each side."""
    grown = marks.clone()
    for to, of in ((grown, marks), (grown.mT, marks.mT)):
        to[..., 1:] |= of[..., :-1]
        to[..., :-1] |= of[..., 1:]
    return grown


def _smoothly_pooled(marks: Tensor, oversample: int) -> Tensor:
    """Means over a pixel and half of a sample beyond, `(n, s, s)`: pooling after the filter 1 2 1, without its cost."""
    weights = [1, 3, *[4] * (oversample - 2), 3, 1] if oversample > 1 else [1, 2, 1]
    x = torch.nn.functional.pad(marks[:, None].float(), (1, 1, 1, 1), mode="replicate")[:, 0]
    for _ in range(2):
        stop = x.shape[-1] - len(weights) + 1
        x = sum(w * x[..., k : k + stop : oversample] for k, w in enumerate(weights)).mT
    return x / sum(weights) ** 2


def line_drawing(columns: Columns, samples: Samples, shape: tuple[int, int], oversample: int) -> Tensor:
    """Ink `(n, 1, s, s)` in [0, 1]: silhouettes, creases and depth breaks, some 1.2 pixels wide, wider from 128 on."""
    marks = _marks(*_codes(columns, samples, shape, oversample))
    for _ in range(round(shape[1] * oversample / 256 - 0.5)):
        marks = _grown(marks)
    return (INK * _smoothly_pooled(marks, oversample)).clamp(max=1)[:, None]
