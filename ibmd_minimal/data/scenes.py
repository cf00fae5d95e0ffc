"""Random scenes of solids: what stands where, in which colour, under which light, seen from where.

Every number of a scene comes from a generator seeded by `(seed, stream, index)` alone. A scene is handed over in
camera coordinates: x right, y up, z towards the viewer, camera at 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .._random import Draws
from . import layouts as lay
from .shapes import dot

NUMBERS = 80  # uniform numbers reserved for a scene; 65 are used
FIELD = 0.32  # tangent of half the angle of view

# sRGB. A solid takes a colour whose luma is at least CONTRAST from the backdrop's: seen without colour, it stays seen.
PAINTS = """d64733 ee8c24 f7c238 99ad38 299970 1a949e 5cb3e6 2166bd 474299 8c5cb3 e680a8 b3244d f2ebd6 33363f
7d4e30 99dbbd 0e7a5f e9a37a"""
BACKDROPS = """ede8de ccdbeb f0d6c7 cce3d1 ded4eb f5e6b8 a6b0bb 404a5c 2b3d4d 54404d 334d45 b89985 8fb3b8 d9b8b8"""
CONTRAST = 0.2
LUMA = (0.299, 0.587, 0.114)


class Scene(NamedTuple):
    """`n` scenes of up to three solids, in camera coordinates; `kind` is -1 where there is no solid."""

    label: Tensor  # (n,)
    kind: Tensor  # (n, 3)
    size: Tensor  # (3 sizes, n, 3)
    centre: Tensor  # (3 components, n, 3)
    axes: Tensor  # (3 axes, 3 components, n, 3): a solid's own x, y and z
    colour: Tensor  # (3 channels, n, 3), in [0, 1]
    gloss: Tensor  # (n, 3)
    up: Tensor  # (3, n): the ground's normal
    height: Tensor  # (n,): the camera's, above the ground
    light: Tensor  # (3, n): towards the light, of length 1
    softness: Tensor  # (n,): tangent of the light's angular radius
    target: Tensor  # (3, n): the middle of what is seen
    backdrop: Tensor  # (3, n): colour of the ground


def numbers(indices: list[int], seed: int, stream: int) -> Tensor:
    """Uniform numbers in [0, 1), `(n, NUMBERS)` float64, row by row from `(seed, stream, index)`."""
    rows = [
        torch.rand(NUMBERS, generator=Draws.at(seed, index, stream).generator, dtype=torch.float64) for index in indices
    ]
    return torch.stack(rows)


def _framed(kind: Tensor, size: Tensor, axes: Tensor, centre: Tensor, u: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """The middle of everything `(3, n)` and where it goes, so that all is seen and fills the frame."""
    low, high = [], []
    for k, d in enumerate(torch.eye(3, dtype=torch.float64)):
        d = d[:, None, None].expand(3, *kind.shape)
        far = lay.reach(kind, size, axes, d), lay.reach(kind, size, axes, -d)
        low.append(torch.where(kind < 0, torch.inf, centre[k] - far[1]).amin(-1))
        high.append(torch.where(kind < 0, -torch.inf, centre[k] + far[0]).amax(-1))
    low, high = torch.stack(low), torch.stack(high)
    half = (high - low) / 2
    near = torch.maximum(half[0], half[1]) / (FIELD * (0.68 + 0.28 * next(u)))  # of the nearest point: all is seen
    distance, slack = near + half[2], (FIELD * near)[None] - half[:2]
    shift = 0.7 * slack * (2 * torch.stack([next(u), next(u)]) - 1)
    return (low + high) / 2, torch.stack([*shift, -distance])


def _rgb(words: str) -> Tensor:
    """Colours written as six hexadecimal digits, `(colours, 3)` in [0, 1]."""
    return torch.tensor([list(bytes.fromhex(word)) for word in words.split()], dtype=torch.float64) / 255


def _choices() -> tuple[Tensor, Tensor]:
    """For each backdrop the paints that stand out from it, in random order, padded; and how many they are."""
    luma = torch.tensor(LUMA, dtype=torch.float64)
    contrast = ((_rgb(PAINTS) @ luma)[None] - (_rgb(BACKDROPS) @ luma)[:, None]).abs() >= CONTRAST
    return (~contrast).long().argsort(dim=1, stable=True), contrast.sum(1)


def _colours(n: int, u: Iterator[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Solids' colours `(3, n, 3)`, all three different, their gloss `(n, 3)`, and the backdrop `(3, n)`."""
    order, many = _choices()
    behind = (len(many) * next(u)).long()
    many = many[behind]
    first, step, more = ((many * next(u)).long(), *(1 + ((many // 2 - 1) * next(u)).long() for _ in range(2)))
    which = torch.stack([first, first + step, first + step + more], 1) % many[:, None]
    paint = _rgb(PAINTS)[order[behind[:, None], which]].permute(2, 0, 1)
    jitter = torch.stack([lay.take(u) for _ in range(3)]) - 0.5
    shade = 0.08 * (torch.stack([next(u) for _ in range(3)]) - 0.5)
    gloss = 0.15 + 0.85 * lay.take(u) ** 2
    return (paint + 0.1 * jitter).clamp(0.03, 0.97), gloss, (_rgb(BACKDROPS)[behind].T + shade).clamp(0.1, 0.97)


def _light(u: Iterator[Tensor]) -> Tensor:
    """Towards the light `(3, n)`, in the world: 35 to 62 degrees high, 25 to 115 from the camera, left or right."""
    rise, away = lay.between(next(u), 35, 62), lay.between(next(u), 25, 115)
    side = torch.where(next(u) < 0.5, -1.0, 1.0)
    return torch.stack([side * rise[0] * away[1], rise[1], rise[0] * away[0]])


def scenes(indices: list[int], seed: int, stream: int = 0) -> Scene:
    """The scenes with these indices, float64, on the CPU."""
    u = iter(numbers(indices, seed, stream).unbind(1))
    label, kind, arrangement = lay.kinds(u)
    size = lay.sizes(kind, arrangement, u)
    axes = lay.axes(kind, size, arrangement, u)
    centre = lay.centres(kind, size, axes, arrangement, u)
    tilt = lay.between(next(u), 14, 46)
    slots = tuple(part[:, None] for part in tilt)
    axes, centre = torch.stack([lay.about_x(axis, slots) for axis in axes]), lay.about_x(centre, slots)
    middle, target = _framed(kind, size, axes, centre, u)
    up = torch.stack([torch.zeros_like(tilt[0]), *tilt])
    colour, gloss, backdrop = _colours(len(indices), u)
    return Scene(
        label=label,
        kind=kind,
        size=size,
        centre=centre + (target - middle)[..., None],
        axes=axes,
        colour=colour,
        gloss=gloss,
        up=up,
        height=dot(up, middle - target),
        light=lay.about_x(_light(u), tilt),
        softness=0.05 + 0.13 * next(u),
        target=target,
        backdrop=backdrop,
    )


def on(scene: Scene, device: torch.device | str) -> Scene:
    """The scene as the renderer wants it: float32 on `device`."""
    return Scene(*(part.to(device, torch.float32 if part.is_floating_point() else part.dtype) for part in scene))
