"""Where solids stand in the world (y up, the ground at 0): kinds, sizes, poses of rest, arrangements of two or three.

Angles are drawn through the tangent of their half, in which cosine and sine are rational: see shapes.py for why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .shapes import SHAPES, dot

KINDS = tuple(SHAPES)
SOLIDS = 3  # at most, in one scene
COMBINATION = len(KINDS)

# Lowest and highest size of each kind, in the order of KINDS; see shapes.py for what the three numbers are.
SMALLEST = [[0.6, 0, 0], [0.4, 0.4, 0.4], [0.66, 0.2, 0], [0.5, 0.5, 0], [0.28, 0.35, 0]]
LARGEST = [[0.8, 0, 0], [0.8, 0.8, 0.8], [0.8, 0.34, 0], [0.75, 0.85, 0], [0.42, 0.7, 0]]

# Three ways for each kind to rest, drawn with the probabilities POSE: degrees by which its axis leans from upright.
LEAN = [
    [(0, 90), (0, 90), (0, 90)],
    [(0, 0), (0, 0), (15, 60)],
    [(0, 0), (90, 90), (15, 75)],
    [(0, 0), (10, 50), (90, 90)],  # the last of them stands for: on its side
    [(90, 90), (0, 0), (20, 75)],
]
POSE = (0.45, 0.25, 0.30)


# -- angles without trigonometry: half their tangent is drawn, cosine and sine are rational in it --------------------

Turn = tuple[Tensor, Tensor]


def half(degrees: float) -> float:
    return math.tan(math.radians(degrees) / 2)


def turn(t: Tensor) -> Turn:
    """Cosine and sine of the angle whose half has the tangent `t`."""
    return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


def between(u: Tensor, low: float, high: float) -> Turn:
    return turn(half(low) + (half(high) - half(low)) * u)


def anywhere(u: Tensor) -> Turn:
    """Any direction: one of four quarters, and an angle within 45 degrees of its middle."""
    quarter = (4 * u).floor()
    c, s = between(4 * u - quarter, -45, 45)
    swap, sign = quarter % 2 == 1, 1 - 2 * (quarter >= 2).to(u)
    return sign * torch.where(swap, -s, c), sign * torch.where(swap, c, s)


def about_y(v: Tensor, turn: Turn) -> Tensor:
    c, s = turn
    return torch.stack([c * v[0] + s * v[2], v[1], c * v[2] - s * v[0]])


def about_x(v: Tensor, turn: Turn) -> Tensor:
    c, s = turn
    return torch.stack([v[0] + 0 * c, c * v[1] - s * v[2], s * v[1] + c * v[2]])


def reach(kind: Tensor, size: Tensor, axes: Tensor, d: Tensor) -> Tensor:
    """How far each solid reaches from its centre in the direction `d` `(3, ...)`."""
    local = torch.stack([dot(axis, d) for axis in axes])
    far = torch.zeros_like(size[0])
    for k, shape in enumerate(SHAPES.values()):
        far = torch.where(kind == k, shape.reach(local, size), far)
    return far


# -- one batch of layouts; `u` yields uniform numbers, float64 (n,) each ----------------------------------------------


def take(u: Iterator[Tensor], n: int = SOLIDS) -> Tensor:
    return torch.stack([next(u) for _ in range(n)], -1)


def kinds(u: Iterator[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Label, kinds and arrangement (0: one beside the other, 1: one on the other, 2: one through the other)."""
    label = (6 * next(u)).long()
    kind = (len(KINDS) * take(u)).long()
    three, how = next(u) < 0.4, next(u)
    arrangement = (how > 0.4).long() + (how > 0.75).long()
    on_torus = (next(u) < 0.4) & (arrangement == 1)
    stacked, combined = arrangement == 1, label == COMBINATION
    first = torch.where(stacked, torch.where(on_torus, KINDS.index("torus"), KINDS.index("box")), kind[:, 0])
    second = torch.where(on_torus, KINDS.index("sphere"), kind[:, 1])
    kind = torch.stack(
        [
            torch.where(combined, first, label),
            torch.where(combined, second, -1),
            torch.where(combined & three, kind[:, 2], -1),
        ],
        1,
    )
    return label, kind, torch.where(combined, arrangement, 0)


def sizes(kind: Tensor, arrangement: Tensor, u: Iterator[Tensor]) -> Tensor:
    """Sizes `(3, n, 3)`: the second and third solid smaller than the first; what bears another one lower and wider."""
    low, high = (torch.tensor(table, dtype=torch.float64)[kind.clamp(min=0)] for table in (SMALLEST, LARGEST))
    size = low + (high - low) * torch.stack([take(u) for _ in range(3)], -1)
    shrink = 0.6 + 0.35 * take(u)
    shrink[:, 0] = 1
    bears = (kind[:, 0] == KINDS.index("box")) & (arrangement == 1)
    size[bears, 0] = size[bears, 0] * torch.tensor([1.15, 0.65, 1.15], dtype=torch.float64)
    return (size * shrink[..., None]).permute(2, 0, 1).contiguous()


def _leaning(kind: Tensor, size: Tensor, upright: Tensor, u: Iterator[Tensor]) -> Turn:
    """How far each solid's axis leans; a cone on its side leans by 90 degrees and half its opening angle."""
    way, where = take(u), take(u)
    pose = (way > POSE[0]).long() + (way > POSE[0] + POSE[1]).long()
    table = torch.tensor([[[half(low), half(high)] for low, high in ways] for ways in LEAN], dtype=torch.float64)
    low, high = table[kind.clamp(min=0), torch.where(upright, 0, pose)].unbind(-1)
    c, s = turn(low + (high - low) * where)
    on_side = (kind == KINDS.index("cone")) & (pose == 2) & ~upright
    slant = (size[0] * size[0] + 4 * size[1] * size[1]).sqrt()
    return torch.where(on_side, -size[0] / slant, c), torch.where(on_side, 2 * size[1] / slant, s)


def _sideways(u: Tensor, most: float) -> Turn:
    """To the left or to the right in the picture, `most` degrees from that at most."""
    far = between(2 * u % 1, -most, most)
    return torch.where(u < 0.5, -1.0, 1.0) * far[0], far[1]


def _yaw(kind: Tensor, u: Tensor) -> Turn:
    """Turns about the vertical; of a cone or capsule that lies, so that the length is seen; of a torus, the hole."""
    c, s = anywhere(u)
    side, near = _sideways(u, 42), between(u, -58, 58)
    long = (kind == KINDS.index("cone")) | (kind == KINDS.index("capsule"))
    torus = kind == KINDS.index("torus")
    c = torch.where(long, side[1], torch.where(torus, near[0], c))
    return c, torch.where(long, side[0], torch.where(torus, near[1], s))


def axes(kind: Tensor, size: Tensor, arrangement: Tensor, u: Iterator[Tensor]) -> Tensor:
    """The solids' own axes in the world: spun about their axis, leaning, then turned about the vertical."""
    upright = torch.zeros_like(kind, dtype=torch.bool)
    upright[:, 0] = arrangement == 1
    spin, lean, yaw = anywhere(take(u)), _leaning(kind, size, upright, u), _yaw(kind, take(u))
    unit = torch.eye(3, dtype=torch.float64)[:, :, None, None].expand(3, 3, *kind.shape)
    return torch.stack([about_y(about_x(about_y(axis, spin), lean), yaw) for axis in unit])


def _beside(kind: Tensor, size: Tensor, axes: Tensor, slot: int, way: Turn, gap: Tensor) -> Tensor:
    """Horizontal offset `(3, n)` at which solid `slot` is `gap` beyond the first one, seen along `way`."""
    d = torch.stack([way[0], torch.zeros_like(way[0]), way[1]])
    first = reach(kind[:, 0], size[:, :, 0], axes[..., 0], d)
    return d * (first + reach(kind[:, slot], size[:, :, slot], axes[..., slot], -d) + gap)


def centres(kind: Tensor, size: Tensor, axes: Tensor, arrangement: Tensor, u: Iterator[Tensor]) -> Tensor:
    """Centres `(3, n, 3)` in the world, every solid's lowest point on the ground or on the first solid."""
    way, sway = _sideways(next(u), 50), between(next(u), -30, 30)
    other = (-way[0] * sway[0] + way[1] * sway[1], -way[0] * sway[1] - way[1] * sway[0])
    gaps = 0.3 * take(u, 2) - 0.05
    beside = _beside(kind, size, axes, 1, way, gaps[:, 0])
    within = torch.where(arrangement == 2, 0.5 + 0.3 * next(u), 1.0)
    shift = 0.3 * (torch.stack([next(u), 0.5 + 0 * gaps[:, 0], next(u)]) - 0.5)
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)[:, None, None].expand(3, *kind.shape)
    low, high = reach(kind, size, axes, -up), reach(kind, size, axes, up)

    on_torus = (arrangement == 1) & (kind[:, 0] == KINDS.index("torus"))
    ring, tube, ball = size[0, :, 0], size[1, :, 0], size[0, :, 1]
    seat = torch.maximum(tube + ((ball + tube) ** 2 - ring * ring).clamp(min=0).sqrt(), ball)
    lifted = torch.where(on_torus, seat, torch.where(arrangement == 1, (low + high)[:, 0], 0) + low[:, 1])

    second = torch.where(arrangement == 1, shift * ~on_torus, beside * within)
    third = _beside(kind, size, axes, 2, other, gaps[:, 1])
    flat = torch.stack([torch.zeros_like(second), second, third], -1)
    return torch.stack([flat[0], torch.stack([low[:, 0], lifted, low[:, 2]], -1), flat[2]])
