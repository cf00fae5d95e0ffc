"""The five solids: where a ray meets them, how far a point is from them, how far they reach.

A solid lives in a frame of its own, centred, its axis along y. Vectors are tensors `(3, m)`, the components first.
Only sums, products, quotients, square roots and comparisons are used: IEEE arithmetic rounds those alike in a vector
register and in its tail, on one core and on many, which is why a picture has the same bits in whatever batch it is
rendered.

Sizes are `(3, m)`: sphere radius; box half widths; torus radius of the ring, of the tube; cone radius of the base,
half height; capsule radius, half length of the straight part. Entries that a solid does not use are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

TORUS_STEPS = (8, 8, 16, 16)  # sphere tracing's; the later ones only for rays that are still on their way
CLOSE = 2e-3  # this near, a ray has arrived
HURRY = 6e-3  # added to every step, so that rays do not crawl past a surface; a step too far is taken back
TINY = 1e-9


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product over the first dimension, added in one order."""
    product = a * b
    return product[0] + product[1] + product[2]


def safe_sqrt(x: Tensor) -> Tensor:
    """The square root, 0 below 0."""
    return x.clamp(min=0).sqrt()


def pick(x: Tensor, which: Tensor) -> Tensor:
    """`x[..., which]`, several times as fast."""
    return x.index_select(-1, which)


def nonzero(x: Tensor, least: float = TINY) -> Tensor:
    """`x`, kept at least `least` away from zero, on its own side."""
    return torch.where(x < 0, x.clamp(max=-least), x.clamp(min=least))


# -- where a ray o + t d meets the surface first: (t, normal, face); t is infinite for a miss -----------------------

Hit = tuple[Tensor, Tensor, Tensor]


def _hit(t: Tensor, there: Tensor, normal: Tensor, face: Tensor | None = None) -> Hit:
    return torch.where(there, t, torch.inf), normal, torch.zeros_like(t) if face is None else face


def _at(o: Tensor, d: Tensor, t: Tensor, rows: Tensor) -> Tensor:
    return pick(o, rows) + pick(t, rows) * pick(d, rows)


def sphere_hit(o: Tensor, d: Tensor, size: Tensor) -> Hit:
    """The smaller root of a quadratic."""
    b, c = dot(o, d), dot(o, o) - size[0] * size[0]
    t = -b - safe_sqrt(b * b - c)
    return _hit(t, b * b >= c, (o + t * d) / size[0])


def box_hit(o: Tensor, d: Tensor, size: Tensor) -> Hit:
    """The last of the three slabs to be entered, if none has been left by then; faces 0 to 5."""
    inverse = 1 / nonzero(d, 1e-7)
    middle, half = -o * inverse, inverse.abs() * size
    (x, y, z), leave = middle - half, (middle + half).amin(0)
    through_x = (x >= y) & (x >= z)
    through_y = ~through_x & (y >= z)
    faces = torch.stack([through_x, through_y, ~(through_x | through_y)])
    normal = torch.where(faces, 1 - 2 * (d > 0).to(d.dtype), torch.zeros_like(d))
    t = torch.maximum(torch.maximum(x, y), z)
    return _hit(t, t <= leave, normal, 2 * faces[1] + 4 * faces[2] + (dot(normal, torch.ones_like(normal)) > 0))


def torus_hit(o: Tensor, d: Tensor, size: Tensor) -> Hit:
    """Sphere tracing, from where the ray enters the ball and the slab that hold the torus, if it enters both."""
    b, reach = dot(o, d), size[0] + size[1]
    half = safe_sqrt(b * b - dot(o, o) + reach * reach)
    slope = 1 / nonzero(d[1], 1e-7)
    enter = torch.maximum(-b - half, -o[1] * slope - slope.abs() * size[1])
    leave = torch.minimum(-b + half, -o[1] * slope + slope.abs() * size[1])
    t = torch.where(enter < leave, enter, torch.inf)
    for steps in TORUS_STEPS:  # each time those that have neither arrived nor left
        rows = (t < leave).nonzero()[:, 0]
        rows = pick(rows, (torus_distance(_at(o, d, t, rows), pick(size, rows)) > CLOSE).nonzero()[:, 0])
        on, ray, own, far = pick(o, rows), pick(d, rows), pick(size, rows), pick(t, rows)
        for _ in range(steps):
            distance = torus_distance(on + far * ray, own)
            far = far + torch.where(distance > CLOSE, distance + HURRY, distance)
        t = t.index_copy(0, rows, far)
    p = o + torch.where(t < leave + CLOSE, t, 0) * d
    ring = 1 - size[0] / nonzero((p[0] * p[0] + p[2] * p[2]).sqrt())
    normal = torch.stack([p[0] * ring, p[1], p[2] * ring])
    length = safe_sqrt(dot(normal, normal))
    return _hit(t, (length - size[1] <= 2 * CLOSE) & (t < leave + CLOSE), normal / nonzero(length))


def cone_hit(o: Tensor, d: Tensor, size: Tensor) -> Hit:
    """A double cone's two roots, cut to the height of ours, and the disc below; faces: 0 the side, 1 the base."""
    radius, height = size[0], size[1]
    slope = radius / (2 * height)
    k, apex = slope * slope, o[1] - height
    a = d[0] * d[0] + d[2] * d[2] - k * d[1] * d[1]
    b = o[0] * d[0] + o[2] * d[2] - k * apex * d[1]
    c = o[0] * o[0] + o[2] * o[2] - k * apex * apex
    root = b * b - a * c
    q = -b - torch.where(b < 0, -safe_sqrt(root), safe_sqrt(root))  # both roots without cancellation: q / a and c / q
    side = torch.full_like(b, torch.inf)
    for t in (q / nonzero(a), c / nonzero(q)):
        inside = (root >= 0) & ((o[1] + t * d[1]).abs() <= height)
        side = torch.where(inside & (t < side), t, side)
    base = (-height - o[1]) / nonzero(d[1])
    x, z = o[0] + base * d[0], o[2] + base * d[2]
    base = torch.where(x * x + z * z <= radius * radius, base, torch.inf)
    t, below = torch.minimum(side, base), base < side
    p = o + torch.where(t.isfinite(), t, 0) * d
    normal = torch.stack([p[0], k * (height - p[1]), p[2]])
    normal = normal / nonzero(safe_sqrt(dot(normal, normal)))
    down = o.new_tensor([0.0, -1.0, 0.0])[:, None]
    return _hit(t, t.isfinite(), torch.where(below, down, normal), below.to(t.dtype))


def capsule_hit(o: Tensor, d: Tensor, size: Tensor) -> Hit:
    """The cylinder, or, beyond its ends, the ball at the end that the ray comes from."""
    radius, height = size[0], size[1]
    a = (d[0] * d[0] + d[2] * d[2]).clamp(min=TINY)
    b = o[0] * d[0] + o[2] * d[2]
    root = b * b - a * (o[0] * o[0] + o[2] * o[2] - radius * radius)
    wall = (-b - safe_sqrt(root)) / a
    y = o[1] + wall * d[1]
    centre = torch.stack([o[0], o[1] - torch.where(y > 0, height, -height), o[2]])
    ball = sphere_hit(centre, d, size)[0]
    t = torch.where(y.abs() <= height, wall, ball)
    there = (root >= 0) & t.isfinite()
    p = o + torch.where(there, t, 0) * d
    beyond = p[1] - torch.maximum(torch.minimum(p[1], height), -height)
    return _hit(t, there, torch.stack([p[0], beyond, p[2]]) / radius)


# -- the signed distance of a point, negative inside -----------------------------------------------------------------


def sphere_distance(p: Tensor, size: Tensor) -> Tensor:
    return dot(p, p).sqrt() - size[0]


def box_distance(p: Tensor, size: Tensor) -> Tensor:
    q = p.abs() - size
    outside = q.clamp(min=0)
    return dot(outside, outside).sqrt() + q.amax(0).clamp(max=0)


def torus_distance(p: Tensor, size: Tensor) -> Tensor:
    ring = (p[0] * p[0] + p[2] * p[2]).sqrt() - size[0]
    return (ring * ring + p[1] * p[1]).sqrt() - size[1]


def cone_distance(p: Tensor, size: Tensor) -> Tensor:
    """The larger of the distances from side and base: exact beside either, too small beyond an edge or the apex."""
    radius, height = size[0], size[1]
    slant = (radius * radius + 4 * height * height).sqrt()
    side = (2 * height * (p[0] * p[0] + p[2] * p[2]).sqrt() + radius * (p[1] - height)) / slant
    return torch.maximum(side, -height - p[1])


def capsule_distance(p: Tensor, size: Tensor) -> Tensor:
    y = p[1] - torch.maximum(torch.minimum(p[1], size[1]), -size[1])
    return (p[0] * p[0] + y * y + p[2] * p[2]).sqrt() - size[0]


# -- how far a solid reaches in the direction d of length 1 ----------------------------------------------------------


def _across(d: Tensor) -> Tensor:
    return (d[0] * d[0] + d[2] * d[2]).sqrt()


def sphere_reach(d: Tensor, size: Tensor) -> Tensor:
    return size[0] + 0 * d[0]


def box_reach(d: Tensor, size: Tensor) -> Tensor:
    return dot(d.abs(), size)


def torus_reach(d: Tensor, size: Tensor) -> Tensor:
    return size[0] * _across(d) + size[1]


def cone_reach(d: Tensor, size: Tensor) -> Tensor:
    return torch.maximum(size[1] * d[1], size[0] * _across(d) - size[1] * d[1])


def capsule_reach(d: Tensor, size: Tensor) -> Tensor:
    return size[0] + size[1] * d[1].abs()


class Shape(NamedTuple):
    """What the renderer asks of a solid; `bound` is the radius of the ball around it."""

    hit: Callable[[Tensor, Tensor, Tensor], Hit]
    distance: Callable[[Tensor, Tensor], Tensor]
    reach: Callable[[Tensor, Tensor], Tensor]
    bound: Callable[[Tensor], Tensor]
    convex: bool = True


SHAPES: dict[str, Shape] = {
    "sphere": Shape(sphere_hit, sphere_distance, sphere_reach, lambda size: size[0]),
    "box": Shape(box_hit, box_distance, box_reach, lambda size: dot(size, size).sqrt()),
    "torus": Shape(torus_hit, torus_distance, torus_reach, lambda size: size[0] + size[1], False),
    "cone": Shape(cone_hit, cone_distance, cone_reach, lambda size: (size[0] ** 2 + size[1] ** 2).sqrt()),
    "capsule": Shape(capsule_hit, capsule_distance, capsule_reach, lambda size: size[0] + size[1]),
}
