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
    return torch.copysign(x.abs().clamp(min=least), x)


def at_least(a: Tensor, b: Tensor | float) -> Tensor:
    """1 where `a >= b`, else 0, in the dtype of `a`: with arithmetic in place of `torch.where`, much faster."""
    return torch.ge(a, b, out=torch.empty_like(a))


# -- where a ray o + t d meets the surface first: (t, normal, face); a miss has no finite t, and any normal ---------

Hit = tuple[Tensor, Tensor, Tensor]


def _unless(inside: Tensor) -> Tensor:
    """0 where `inside` is 1, infinite where it is 0: added to a t, it takes away a root that is none."""
    return 1 / inside - 1


def sphere_hit(o: Tensor, d: Tensor, size: Tensor) -> Hit:
    """The smaller root of a quadratic, not a number for a miss."""
    b, c = dot(o, d), dot(o, o) - size[0] * size[0]
    t = -b - (b * b - c).sqrt()
    return t, (o + t * d) / size[0], torch.zeros_like(t)


def box_hit(o: Tensor, d: Tensor, size: Tensor) -> Hit:
    """The last of the three slabs to be entered, if none has been left by then; faces 0 to 5."""
    inverse = 1 / nonzero(d, 1e-7)
    middle, half = -o * inverse, inverse.abs() * size
    (x, y, z), leave = middle - half, (middle + half).amin(0)
    t = torch.maximum(torch.maximum(x, y), z)
    through_x = at_least(x, t)
    through_y = at_least(y, t) * (1 - through_x)
    through_z = 1 - through_x - through_y
    normal = torch.copysign(torch.stack([through_x, through_y, through_z]), -d)
    face = 2 * through_y + 4 * through_z + (normal[0] + normal[1] + normal[2]).clamp(min=0)
    return t + _unless(at_least(leave, t)), normal, face


def torus_hit(o: Tensor, d: Tensor, size: Tensor) -> Hit:
    """Sphere tracing, from where the ray enters the ball and the slab that hold the torus, if it enters both."""
    b, reach = dot(o, d), size[0] + size[1]
    half = safe_sqrt(b * b - dot(o, o) + reach * reach)
    slope = 1 / nonzero(d[1], 1e-7)
    middle, thick = -o[1] * slope, slope.abs() * size[1]
    enter, leave = torch.maximum(-b - half, middle - thick), torch.minimum(-b + half, middle + thick)
    t = _traced(o, d, size, enter, leave)
    p = o + t * d
    ring = 1 - size[0] / (p[0] * p[0] + p[2] * p[2]).sqrt().clamp(min=TINY)
    normal = torch.stack([p[0] * ring, p[1], p[2] * ring])
    length = dot(normal, normal).sqrt()
    there = at_least(size[1] + 2 * CLOSE, length) * at_least(leave + CLOSE, t) * (1 - at_least(enter, leave))
    return t + _unless(there), normal / length.clamp(min=TINY), torch.zeros_like(t)


def _traced(o: Tensor, d: Tensor, size: Tensor, t: Tensor, leave: Tensor) -> Tensor:
    """Steps along rays from `t` towards a torus until it or `leave` is reached."""
    rows, far, at, t = torch.arange(len(t), device=t.device), t, torus_along(o, d, size), t.clone()
    for steps in TORUS_STEPS:  # each time those that have neither arrived nor left
        on = ((far < leave) & (at(far) > CLOSE)).nonzero()[:, 0]
        rows, far, leave, o, d, size = (pick(part, on) for part in (rows, far, leave, o, d, size))
        at = torus_along(o, d, size)
        for _ in range(steps):
            distance = at(far)
            far = far + (distance + HURRY * at_least(distance, CLOSE))
        t.index_copy_(0, rows, far)
    return t


def cone_hit(o: Tensor, d: Tensor, size: Tensor) -> Hit:
    """A double cone's two roots, cut to the height of ours, and the disc below; faces: 0 the side, 1 the base."""
    radius, height = size[0], size[1]
    slope = radius / (2 * height)
    k, apex = slope * slope, o[1] - height
    steep, far = k * d[1], k * apex
    a = d[0] * d[0] + d[2] * d[2] - steep * d[1]
    b = o[0] * d[0] + o[2] * d[2] - steep * apex
    c = o[0] * o[0] + o[2] * o[2] - far * apex
    root = b * b - a * c
    real = at_least(root, 0)
    q = -b - torch.copysign(safe_sqrt(root), b)  # both roots without cancellation: q / a and c / q
    first, second = (
        t + _unless(real * at_least(height, (o[1] + t * d[1]).abs())) for t in (q / nonzero(a), c / nonzero(q))
    )
    side = torch.minimum(first, second)
    base = (-height - o[1]) / nonzero(d[1])
    x, z = o[0] + base * d[0], o[2] + base * d[2]
    base = base + _unless(at_least(radius * radius, x * x + z * z))
    t, beside = torch.minimum(side, base), at_least(base, side)
    p = o + t * d
    normal = torch.stack([p[0], k * (height - p[1]), p[2]])
    normal = normal * (beside / dot(normal, normal).sqrt().clamp(min=TINY))
    normal[1] -= 1 - beside
    return t, normal, 1 - beside


def capsule_hit(o: Tensor, d: Tensor, size: Tensor) -> Hit:
    """The cylinder, or, beyond its ends, the ball at the end that the ray comes from."""
    radius, height = size[0], size[1]
    square = radius * radius
    a = (d[0] * d[0] + d[2] * d[2]).clamp(min=TINY)
    b = o[0] * d[0] + o[2] * d[2]
    across = o[0] * o[0] + o[2] * o[2] - square
    root = b * b - a * across
    wall = (-b - safe_sqrt(root)) / a
    y = o[1] + wall * d[1]
    beside, up = at_least(height, y.abs()), o[1] - torch.copysign(height, y)
    b = b + up * d[1]
    at_end = b * b - across - up * up
    ball = -b - safe_sqrt(at_end)
    t = ball + beside * (wall - ball)
    t = t + _unless(at_least(root, 0) * torch.maximum(beside, at_least(at_end, 0)))
    p = o + t * d
    beyond = p[1] - torch.maximum(torch.minimum(p[1], height), -height)
    return t, torch.stack([p[0], beyond, p[2]]) / radius, torch.zeros_like(t)


# -- the signed distance of the points o + t d, negative inside: what depends on o and d alone is worked out once ----

Along = Callable[[Tensor | float], Tensor]


def _turned(profile: Callable[[Tensor, Tensor], Tensor], o: Tensor, d: Tensor) -> Along:
    """Of a solid of revolution, whose `profile` is the distance by the squared distance from the axis and by y."""
    a, b = d[0] * d[0] + d[2] * d[2], 2 * (o[0] * d[0] + o[2] * d[2])
    c = o[0] * o[0] + o[2] * o[2]
    return lambda t: profile(((a * t + b) * t + c).clamp(min=0), o[1] + t * d[1])


def sphere_along(o: Tensor, d: Tensor, size: Tensor) -> Along:
    return _turned(lambda square, y: (square + y * y).sqrt() - size[0], o, d)


def box_along(o: Tensor, d: Tensor, size: Tensor) -> Along:
    def at(t: Tensor | float) -> Tensor:
        q = (o + t * d).abs() - size
        outside = q.clamp(min=0)
        return dot(outside, outside).sqrt() + q.amax(0).clamp(max=0)

    return at


def torus_along(o: Tensor, d: Tensor, size: Tensor) -> Along:
    def profile(square: Tensor, y: Tensor) -> Tensor:
        ring = square.sqrt() - size[0]
        return (ring * ring + y * y).sqrt() - size[1]

    return _turned(profile, o, d)


def cone_along(o: Tensor, d: Tensor, size: Tensor) -> Along:
    """The larger of the distances from side and base: exact beside either, too small beyond an edge or the apex."""
    radius, height = size[0], size[1]
    slant = (radius * radius + 4 * height * height).sqrt()
    out, up = 2 * height / slant, radius / slant
    return _turned(lambda square, y: torch.maximum(out * square.sqrt() + up * (y - height), -height - y), o, d)


def capsule_along(o: Tensor, d: Tensor, size: Tensor) -> Along:
    def profile(square: Tensor, y: Tensor) -> Tensor:
        beyond = (y.abs() - size[1]).clamp(min=0)
        return (square + beyond * beyond).sqrt() - size[0]

    return _turned(profile, o, d)


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
    """What the renderer asks of a solid; `bound`: radius of the ball around it, `loose` unless it fills that ball."""

    hit: Callable[[Tensor, Tensor, Tensor], Hit]
    along: Callable[[Tensor, Tensor, Tensor], Along]
    reach: Callable[[Tensor, Tensor], Tensor]
    bound: Callable[[Tensor], Tensor]
    convex: bool = True
    loose: bool = True

    def distance(self, p: Tensor, size: Tensor) -> Tensor:
        """Of the points `p` `(3, m)` from the surface, negative inside."""
        return self.along(p, torch.zeros_like(p), size)(0.0)


SHAPES: dict[str, Shape] = {
    "sphere": Shape(sphere_hit, sphere_along, sphere_reach, lambda size: size[0], loose=False),
    "box": Shape(box_hit, box_along, box_reach, lambda size: dot(size, size).sqrt()),
    "torus": Shape(torus_hit, torus_along, torus_reach, lambda size: size[0] + size[1], False),
    "cone": Shape(cone_hit, cone_along, cone_reach, lambda size: (size[0] ** 2 + size[1] ** 2).sqrt()),
    "capsule": Shape(capsule_hit, capsule_along, capsule_reach, lambda size: size[0] + size[1]),
}
