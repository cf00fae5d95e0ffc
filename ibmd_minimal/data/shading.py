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
from .shapes import CLOSE, SHAPES, TINY, Along, Shape, at_least, dot, pick

KEY = (1.06, 1.0, 0.92)
SKY = (0.36, 0.40, 0.46)
SECTIONS, GOLDEN = 10, (math.sqrt(5) - 1) / 2
MARCH = 14
START = 0.02  # of a shadow ray, away from the surface that it leaves
HEIGHTS = ((0.07, 0.3), (0.2, 0.35), (0.5, 0.35))  # probes of ambient occlusion, and their weights
FAR = 60.0  # the ground ends here, long faded into the backdrop

Effect = Callable[[Shape, Columns, Tensor, Tensor], Tensor]
Pairs = list[tuple[Tensor, Tensor]]  # points and solids that matter to them, an entry for each place in a scene


def _smooth(x: Tensor) -> Tensor:
    """From 0 at 0 to 1 at 1, flat at both ends."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values).reshape(-1, *[1] * (like.ndim - 1))


# -- which solids matter to which points -----------------------------------------------------------------------------


def _balls(to_centre: Tensor, bound: Tensor, light: Tensor, soft: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a ball is, in part, between a point and the light; whether it is in reach of ambient occlusion."""
    along, square = dot(to_centre, light), dot(to_centre, to_centre)
    wide, wider = bound + soft * along.clamp(min=0), bound + HEIGHTS[-1][0]
    return (along > -bound) & (square - along * along < wide * wide), square < wider * wider


def _pairs_on_ground(scene: Scene, columns: Columns, p: Tensor, hidden: Tensor) -> tuple[Pairs, Pairs]:
    """Points of a grid `(3, n, pixels)`, unless `hidden`, with the solids of their scene that matter to each effect."""
    pairs = [], []
    for slot in range(3):
        of = (scene.kind[:, slot] >= 0).nonzero()[:, 0]
        here, light = p if len(of) == p.shape[1] else p.index_select(1, of), scene.light[:, of, None]
        solid, open_ = 3 * of + slot, ~hidden[of]
        to_centre = columns.centre[:, solid, None] - here
        for effect, near in zip(pairs, _balls(to_centre, columns.bound[solid, None], light, scene.softness[of, None])):
            row, pixel = (near & open_).nonzero(as_tuple=True)
            effect.append((pick(of, row) * p.shape[2] + pixel, pick(solid, row)))
    return pairs


def _pairs_on_solids(scene: Scene, columns: Columns, p: Tensor, own: Tensor, normal: Tensor) -> tuple[Pairs, Pairs]:
    """The same for points `(3, m)` on solids; `own`, on which it lies, only if it is a torus: not convex.

    The outer half of a torus is convex as well: nothing of it is above its tangent planes.
    """
    pairs, of, torus = ([], []), pick(columns.scene, own), columns.are("torus")
    for slot in range(3):
        solid = 3 * of + slot
        rows = ((pick(columns.kind, solid) >= 0) & ((own != solid) | pick(torus, solid))).nonzero()[:, 0]
        of_rows, solid = pick(of, rows), pick(solid, rows)
        to_centre, light, up = (
            pick(columns.centre, solid) - pick(p, rows),
            pick(scene.light, of_rows),
            pick(normal, rows),
        )
        soft = pick(scene.softness, of_rows)
        outside = (pick(own, rows) == solid) & (-dot(to_centre, up) > pick(columns.size[1], solid) + CLOSE)
        lit = outside & (dot(up, light) > soft)  # past its own edge, so far that no part of the light is cut off
        for effect, near, free in zip(
            pairs, _balls(to_centre, pick(columns.bound, solid), light, soft), (lit, outside)
        ):
            found = (near & ~free).nonzero()[:, 0]
            effect.append((pick(rows, found), pick(solid, found)))
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


def _marched(at: Along, t: Tensor, stop: Tensor) -> Tensor:
    """The least of distance / t over rays to the light, between `t` and `stop`: step by step."""
    least = (stop - t) / MARCH
    closest = torch.full_like(t, torch.inf)
    for _ in range(MARCH):
        distance = at(t)
        closest = torch.minimum(closest, distance / t)
        t = t + torch.maximum(distance.abs(), least)
    return closest


def _searched(at: Along, t: Tensor, stop: Tensor) -> Tensor:
    """The same for a convex solid by golden sections: distance / t has only one valley there.

    Of the two points that cut a range in golden sections the better one stays; the next one is on its other side,
    or, where the point just tried is the better one, further on.
    """
    width = stop - t
    t, step = t + (1 - GOLDEN) * width, (2 * GOLDEN - 1) * width
    closest = at(t) / t
    for _ in range(SECTIONS):
        new = t + step
        at_new = at(new) / new
        better = at_least(closest, at_new)
        closest = torch.minimum(closest, at_new)
        t, step = t + better * step, step * (2 * GOLDEN * better - GOLDEN)
    return closest


def sunlight(columns: Columns, p: Tensor, pairs: Pairs) -> Tensor:
    """The visible fraction of the key light, a disc, at points `(3, m)`: by how close the ray to its middle passes."""

    def effect(shape: Shape, one: Columns, o: Tensor, rows: Tensor) -> Tensor:
        middle = -dot(o, one.light)
        start = (middle - one.bound).clamp(min=START)
        look = _searched if shape.convex else _marched
        stop = torch.maximum(middle + one.bound, 2 * start)  # of a ray that leaves the ball at once, the beginning
        return _smooth(0.5 + 0.5 * look(shape.along(o, one.light, one.size), start, stop) / one.softness)

    return _left(columns, p, pairs, effect, needed=20)


def openness(columns: Columns, p: Tensor, normal: Tensor, pairs: Pairs) -> Tensor:
    """Ambient occlusion, 1 where nothing is near: how far from other surfaces one gets by walking along the normal."""

    def effect(shape: Shape, one: Columns, o: Tensor, rows: Tensor) -> Tensor:
        at, free = shape.along(o, into(one.axes, pick(normal, rows)), one.size), torch.zeros_like(o[0])
        for h, weight in HEIGHTS:
            part = (at(h) / h).clamp(0, 1)
            free = free + weight * part * (2 - part)
        return free

    return _left(columns, p, pairs, effect, needed=15)


def _lighting(
    scene: Scene, columns: Columns, floor: Tensor, samples: Samples, hidden: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sunlight and openness of the ground `(n, pixels)` and of samples `(m,)`: all points in one list, for speed.

    Without looking, both are 1 on the one convex solid of a scene and on ground that is `hidden` by solids.
    """
    looks = pick((columns.are("torus") | (scene.kind[:, 1] >= 0).repeat_interleave(3)), samples.solid).nonzero()[:, 0]
    own, normal = pick(samples.solid, looks), pick(samples.normal, looks)
    on = pick(samples.depth, looks) * pick(samples.ray, looks)
    points = floor[0].numel()
    p = torch.cat([floor.flatten(1), on + START * normal], 1)
    normals = torch.cat([scene.up[:, :, None].expand_as(floor).flatten(1), normal], 1)
    below, above = _pairs_on_ground(scene, columns, floor, hidden), _pairs_on_solids(scene, columns, on, own, normal)
    sun, sky = (of + [(rows + points, solid) for rows, solid in more] for of, more in zip(below, above))
    found = []
    for part in (sunlight(columns, p, sun), openness(columns, p, normals, sky)):
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
    rise = p[1] / t  # of the ray
    wall = 0.72 - (0.5 * rise + 0.35) * rise
    fade = _smooth((t - 1.1 * scene.target.square().sum(0).sqrt()[:, None]) / 9)
    near = (0.62 + 0.42 * pool) * (1 - fade)
    paint = (scene.backdrop * scene.backdrop)[:, :, None]
    key, sky = paint * (0.66 * _column(KEY, paint)), paint * (0.85 * _column(SKY, paint))
    return key * (shade * near) + sky * ((0.3 + 0.7 * open_) * near) + paint * (wall * fade)


def _shaded(scene: Scene, columns: Columns, samples: Samples, key: Tensor, open_: Tensor) -> Tensor:
    """Linear colour `(3, m)` of samples on solids."""
    of, normal, ray = pick(columns.scene, samples.solid), samples.normal, samples.ray
    up, light = pick(scene.up, of), pick(scene.light, of)
    paint = pick((scene.colour * scene.colour).flatten(1), samples.solid)
    floor = pick(scene.backdrop * scene.backdrop, of)

    facing, rise, grazing = dot(normal, light), dot(normal, up), -dot(normal, ray)
    height = samples.depth * dot(ray, up) + pick(scene.height, of)
    key = key * 0.5 * (facing + (facing * facing + 0.02).sqrt())
    bounce = (0.5 - 0.5 * rise) * (0.25 + 0.75 * _smooth(height / 0.9)) * 0.55
    sky = (0.5 + 0.5 * rise) * (0.4 + 0.6 * _smooth(height / 0.35 + 0.2))
    light_in = _column(KEY, paint) * (0.95 * key) + (_column(SKY, paint) * sky + floor * bounce) * open_

    halfway = (2 - 2 * dot(light, ray)).clamp(min=TINY).sqrt()  # the length of light - ray
    shine = ((facing + grazing) / halfway).clamp(min=0)
    for _ in range(5):
        shine = shine * shine
    edge = 1 - grazing.clamp(0, 1)
    edge = edge * edge * edge
    gloss = pick(scene.gloss.flatten(), samples.solid)
    return paint * light_in + gloss * (0.55 * shine * key + 0.16 * edge * sky * open_)


def colours(scene: Scene, columns: Columns, samples: Samples, hidden: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Linear colours of the samples `(3, m)` and of what is behind them `(3, n, size**2)`, where not `hidden`."""
    p, t = _floor(scene, size)
    shade, key, floor_open, open_ = _lighting(scene, columns, p, samples, hidden)
    return _shaded(scene, columns, samples, key, open_).clamp(0, 1), _ground(scene, p, t, shade, floor_open)


def flat_colours(scene: Scene, samples: Samples, size: int) -> tuple[Tensor, Tensor]:
    """The same without any light: what each surface is painted with."""
    paint, backdrop = pick(scene.colour.flatten(1), samples.solid), scene.backdrop[:, :, None]
    return paint * paint, (backdrop * backdrop).repeat(1, 1, size**2)
