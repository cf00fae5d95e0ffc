"""Light on solids and on the ground below them: a soft key light with its shadows, sky, bounce, gloss.

Colours are linear here; the square root, an approximate sRGB curve, comes last. Shadows and ambient occlusion march
through signed distances, only where a solid is near the point or between it and the light.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .rendering import Columns, Samples, into, rays
from .scenes import Scene
from .shapes import SHAPES, Shape, dot, pick

KEY = (1.06, 1.0, 0.92)
SKY = (0.36, 0.40, 0.46)
SECTIONS, GOLDEN = 9, (math.sqrt(5) - 1) / 2
MARCH = 14
START = 0.02  # of a shadow ray, away from the surface that it leaves
HEIGHTS = ((0.07, 0.3), (0.2, 0.35), (0.5, 0.35))  # probes of ambient occlusion, and their weights
FAR = 60.0  # the ground ends here, long faded into the backdrop

Effect = Callable[[Shape, Columns, Tensor, Tensor], Tensor]
Near = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Pairs = list[tuple[Tensor, Tensor]]  # points and solids that matter to them, an entry for each place in a scene


def _smooth(x: Tensor) -> Tensor:
    """From 0 at 0 to 1 at 1, flat at both ends."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values).reshape(-1, *[1] * (like.ndim - 1))


# -- which solids matter to which points -----------------------------------------------------------------------------


def _in_the_way(to_centre: Tensor, bound: Tensor, light: Tensor, soft: Tensor) -> Tensor:
    """Whether a ball is, in part, between a point and the light."""
    along = dot(to_centre, light)
    wide = bound + soft * along.clamp(min=0)
    return (along > -bound) & (dot(to_centre, to_centre) - along * along < wide * wide)


def _close_by(to_centre: Tensor, bound: Tensor, light: Tensor, soft: Tensor) -> Tensor:
    """Whether a ball is within the reach of ambient occlusion."""
    wide = bound + HEIGHTS[-1][0]
    return dot(to_centre, to_centre) < wide * wide


def _pairs_on_ground(scene: Scene, columns: Columns, p: Tensor, near: Near) -> Pairs:
    """Points of a grid `(3, n, pixels)` with the solids of their scene."""
    pairs = []
    for slot in range(3):
        of = (scene.kind[:, slot] >= 0).nonzero()[:, 0]
        here, light = p if len(of) == p.shape[1] else p.index_select(1, of), scene.light[:, of, None]
        solid = 3 * of + slot
        to_centre = columns.centre[:, solid, None] - here
        row, pixel = near(to_centre, columns.bound[solid, None], light, scene.softness[of, None]).nonzero(as_tuple=True)
        pairs.append((pick(of, row) * p.shape[2] + pixel, pick(solid, row)))
    return pairs


def _pairs_on_solids(scene: Scene, columns: Columns, p: Tensor, own: Tensor, near: Near) -> Pairs:
    """Points `(3, m)` with the solids of their scene; `own`, on which it lies, only if it is a torus: not convex."""
    pairs, of, torus = [], pick(columns.scene, own), columns.are("torus")
    for slot in range(3):
        solid = 3 * of + slot
        rows = ((pick(columns.kind, solid) >= 0) & ((own != solid) | pick(torus, solid))).nonzero()[:, 0]
        of_rows, solid = pick(of, rows), pick(solid, rows)
        to_centre = pick(columns.centre, solid) - pick(p, rows)
        light, soft = pick(scene.light, of_rows), pick(scene.softness, of_rows)
        found = near(to_centre, pick(columns.bound, solid), light, soft).nonzero()[:, 0]
        pairs.append((pick(rows, found), pick(solid, found)))
    return pairs


# -- what they leave of the light ------------------------------------------------------------------------------------


def _left(columns: Columns, p: Tensor, pairs: Pairs, effect: Effect, needed: int) -> Tensor:
    """The product of the effects of all solids at each of the points `(3, m)`; `needed`: rows of the table."""
    rows, solid = (torch.cat(parts) for parts in zip(*pairs))
    kind, effects = pick(columns.kind, solid), torch.empty_like(rows, dtype=p.dtype)
    for k, shape in enumerate(SHAPES.values()):
        mine = (kind == k).nonzero()[:, 0]
        if len(mine):
            point, one = pick(rows, mine), columns.at(pick(solid, mine), needed)
            effects.index_copy_(0, mine, effect(shape, one, into(one.axes, pick(p, point)) - one.local, point))
    left = torch.ones_like(p[0])
    for (rows, _), part in zip(pairs, effects.split([len(rows) for rows, _ in pairs])):
        left.index_copy_(0, rows, pick(left, rows) * part)
    return left


def _marched(shape: Shape, one: Columns, o: Tensor, t: Tensor, stop: Tensor) -> Tensor:
    """The least of distance / t over rays from `o` to the light, between `t` and `stop`: step by step."""
    least = (stop - t) / MARCH
    closest = torch.full_like(t, torch.inf)
    for _ in range(MARCH):
        distance = shape.distance(o + t * one.light, one.size)
        closest = torch.minimum(closest, distance / t)
        t = t + torch.maximum(distance.abs(), least)
    return closest


def _searched(shape: Shape, one: Columns, o: Tensor, t: Tensor, stop: Tensor) -> Tensor:
    """The same for a convex solid by golden sections: distance / t has only one valley there."""
    light, size = one.light, one.size
    width = stop - t
    left, right = t + (1 - GOLDEN) * width, t + GOLDEN * width
    at_left, at_right = (shape.distance(o + x * light, size) / x for x in (left, right))
    for _ in range(SECTIONS):
        width = GOLDEN * width
        down = at_left < at_right
        t = torch.where(down, t, left)
        new = t + torch.where(down, 1 - GOLDEN, GOLDEN).to(t.dtype) * width
        at_new = shape.distance(o + new * light, size) / new
        left, right = torch.where(down, new, right), torch.where(down, left, new)
        at_left, at_right = torch.where(down, at_new, at_right), torch.where(down, at_left, at_new)
    return torch.minimum(at_left, at_right)


def sunlight(columns: Columns, p: Tensor, pairs: Pairs) -> Tensor:
    """The visible fraction of the key light, a disc, at points `(3, m)`: by how close the ray to its middle passes."""

    def effect(shape: Shape, one: Columns, o: Tensor, rows: Tensor) -> Tensor:
        middle = -dot(o, one.light)
        start = (middle - one.bound).clamp(min=START)
        look = _searched if shape.convex else _marched
        stop = torch.maximum(middle + one.bound, 2 * start)  # of a ray that leaves the ball at once, the beginning
        return _smooth(0.5 + 0.5 * look(shape, one, o, start, stop) / one.softness)

    return _left(columns, p, pairs, effect, needed=20)


def openness(columns: Columns, p: Tensor, normal: Tensor, pairs: Pairs) -> Tensor:
    """Ambient occlusion, 1 where nothing is near: how far from other surfaces one gets by walking along the normal."""

    def effect(shape: Shape, one: Columns, o: Tensor, rows: Tensor) -> Tensor:
        d, free = into(one.axes, pick(normal, rows)), torch.zeros_like(o[0])
        for h, weight in HEIGHTS:
            part = (shape.distance(o + h * d, one.size) / h).clamp(0, 1)
            free = free + weight * part * (2 - part)
        return free

    return _left(columns, p, pairs, effect, needed=15)


def _lighting(scene: Scene, columns: Columns, floor: Tensor, samples: Samples) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sunlight and openness of the ground `(n, pixels)` and of samples `(m,)`: all points in one list, for speed.

    Without looking, both are 1 on the one convex solid of a scene.
    """
    looks = pick((columns.are("torus") | (scene.kind[:, 1] >= 0).repeat_interleave(3)), samples.solid).nonzero()[:, 0]
    own, normal = pick(samples.solid, looks), pick(samples.normal, looks)
    on = pick(samples.depth * samples.ray, looks)
    points = floor[0].numel()
    p = torch.cat([floor.flatten(1), on + START * normal], 1)
    normals = torch.cat([scene.up[:, :, None].expand_as(floor).flatten(1), normal], 1)

    def pairs(near: Near) -> Pairs:
        below, above = _pairs_on_ground(scene, columns, floor, near), _pairs_on_solids(scene, columns, on, own, near)
        return below + [(rows + points, solid) for rows, solid in above]

    found = []
    for part in (sunlight(columns, p, pairs(_in_the_way)), openness(columns, p, normals, pairs(_close_by))):
        found.append(part[:points].unflatten(0, floor.shape[1:]))
        found.append(torch.ones_like(samples.depth).index_copy(0, looks, part[points:]))
    return tuple(found)


def _floor(scene: Scene, size: int) -> tuple[Tensor, Tensor]:
    """Where the rays of the pixels' middles meet the ground, `(3, n, size * size)`, and how far away, `(n, ...)`."""
    d = rays(size, 1, scene.up.device)[:, None]
    fall = -dot(scene.up[:, :, None], d)
    t = (scene.height[:, None] / fall.clamp(min=1e-4)).clamp(max=FAR)
    return t * d, t


def _ground(scene: Scene, p: Tensor, t: Tensor, shade: Tensor, open_: Tensor) -> Tensor:
    """Linear colour `(3, n, pixels)` of what lies behind the solids: the ground, faded into a backdrop."""
    away = p - scene.target[:, :, None]
    pool = 1 / (1 + 0.035 * dot(away, away))
    paint = (scene.backdrop * scene.backdrop)[:, :, None]
    key, sky = _column(KEY, paint), _column(SKY, paint)
    lit = paint * (0.66 * key * shade + 0.85 * sky * (0.3 + 0.7 * open_)) * (0.62 + 0.42 * pool)
    rise = p[1] / t  # of the ray
    wall = paint * (0.72 - 0.5 * rise * rise - 0.35 * rise)
    fade = _smooth((t - 1.1 * scene.target.square().sum(0).sqrt()[:, None]) / 9)
    return lit + (wall - lit) * fade


def _shaded(scene: Scene, columns: Columns, samples: Samples, key: Tensor, open_: Tensor) -> Tensor:
    """Linear colour `(3, m)` of samples on solids."""
    of = pick(columns.scene, samples.solid)
    p, normal, view = samples.depth * samples.ray, samples.normal, -samples.ray
    up, light = pick(scene.up, of), pick(scene.light, of)
    paint = pick(scene.colour.flatten(1), samples.solid)
    floor = pick(scene.backdrop * scene.backdrop, of)

    facing, rise = dot(normal, light), dot(normal, up)
    height = dot(p, up) + pick(scene.height, of)
    key = key * 0.5 * (facing + (facing * facing + 0.02).sqrt())
    bounce = (0.5 - 0.5 * rise) * (0.25 + 0.75 * _smooth(height / 0.9)) * 0.55
    sky = (0.5 + 0.5 * rise) * (0.4 + 0.6 * _smooth(height / 0.35 + 0.2))
    light_in = _column(KEY, paint) * (0.95 * key) + (_column(SKY, paint) * sky + floor * bounce) * open_

    half = light + view
    half = half / dot(half, half).sqrt()
    shine = dot(normal, half).clamp(min=0)
    for _ in range(5):
        shine = shine * shine
    edge = 1 - dot(normal, view).clamp(0, 1)
    edge = edge * edge * edge
    gloss = pick(scene.gloss.flatten(), samples.solid)
    return paint * paint * light_in + gloss * (0.55 * shine * key + 0.16 * edge * sky * open_)


def colours(scene: Scene, columns: Columns, samples: Samples, size: int) -> tuple[Tensor, Tensor]:
    """Linear colours of the samples `(3, m)` and of what is behind them `(n, 3, size, size)`."""
    p, t = _floor(scene, size)
    shade, key, floor_open, open_ = _lighting(scene, columns, p, samples)
    behind = _ground(scene, p, t, shade, floor_open)
    return _shaded(scene, columns, samples, key, open_).clamp(0, 1), behind.unflatten(2, (size, size)).transpose(0, 1)


def flat_colours(scene: Scene, samples: Samples, size: int) -> tuple[Tensor, Tensor]:
    """The same without any light: what each surface is painted with."""
    paint, backdrop = pick(scene.colour.flatten(1), samples.solid), scene.backdrop.T[:, :, None, None]
    return paint * paint, (backdrop * backdrop).expand(-1, -1, size, size)
