"""Checks of chapter 09: pooling, moments, the reach of a U-Net, a block of JPEG, the teacher's walk."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..bridges import brownian
from ..data.corruptions import LUMA, corrupt, jpeg, jpeg_table
from ..networks import UNet
from .checking import Finding, compare, exercise, sentence

F64 = torch.float64


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- 9.1 -------------------------------------------------------------------------------------------


@exercise("9.1", "The nearest image that fits", points=2)
def nearest_consistent(answer) -> Finding:
    """`nearest_consistent(y, xT)`: the image nearest to y, by least squares, that pools to xT."""
    y, x0 = torch.randn(2, 2, 3, 16, 24, generator=_seeded(91), dtype=F64)
    pooled, xT = corrupt("sr4x-pool", y), corrupt("sr4x-pool", x0)
    mistakes = {
        "the blocks' means of y were left in it: the result pools to P y + xT": y + xT,
        "what y has besides its blocks' means was thrown away; xT fits, but something nearer does too": xT,
        "the blocks' means of y were taken away and those of xT not put in": y - pooled,
        "signs are swapped: y has to lose P y and to gain xT": y + pooled - xT,
        "y and xT were averaged: half of the wrong means is left": (y + xT) / 2,
        "y is returned as it was": y,
        "y was pooled, and what xT gives is missing": pooled,
    }
    return compare(answer(y.clone(), xT.clone()), y - pooled + xT, "the nearest image", 1e-8, mistakes)


# -- 9.2 -------------------------------------------------------------------------------------------

MOMENTS = ("sigma_T²", "sigma_0T", "c_skip(T)", "c_out(T)")


def _skip_and_out(v0: Tensor, vT: Tensor, v0T: Tensor) -> tuple[Tensor, Tensor]:
    return v0T / vT, (v0 - v0T**2 / vT).clamp_min(0).sqrt()


def _moment_mistakes(v0: Tensor, h: Tensor) -> list[dict[str, Tensor]]:
    """For each of the four, what a slip would give; a slip in the first two is named there."""
    vT, v0T = (1 - h) * v0 + h, (1 - h) * v0
    skip, out = _skip_and_out(v0, vT, v0T)
    return [
        {
            "the noise in the hole, of variance 1 on a share h of the pixels, is missing": v0T,
            "the shares were squared: a mask of 0 and 1 is its own square": (1 - h) ** 2 * v0 + h**2,
            "the shares were swapped: h is the hole": h * v0 + 1 - h,
            "this is the standard deviation, not its square": vT.sqrt(),
            "sigma0 was not squared": (1 - h) * v0.sqrt() + h,
        },
        {
            "it is the share of the hole, not of what is visible": h * v0,
            "the hole was left out: the noise there has no covariance with x0": v0,
            "the noise was counted; it is independent of x0 and adds nothing": vT,
            "the share was squared: a mask of 0 and 1 is its own square": (1 - h) ** 2 * v0,
            "sigma0 was not squared": (1 - h) * v0.sqrt(),
        },
        {
            "it was divided by Var x0: that predicts xT from x0": v0T / v0,
            "it was divided by the standard deviations: this is the correlation": v0T / (v0 * vT).sqrt(),
            "it is turned upside down": 1 / skip,
            "holes were taken for a projection, where it is 1; filled with noise they are none": torch.ones_like(h),
        },
        {
            "this is its square": out**2,
            "xT was taken to say nothing of x0": v0.sqrt(),
            "the covariance was not squared": (v0 - v0T / vT).clamp_min(0).sqrt(),
            "the plus should be a minus": (v0 + v0T**2 / vT).sqrt(),
            "this is the root of Var(xT - x0), with no c_skip": (v0 + vT - 2 * v0T).sqrt(),
        },
    ]


@exercise("9.2", "The moments of a hole", points=2)
def hole_moments(answer) -> Finding:
    """`hole_moments(sigma0, h)`: sigma_T², sigma_0T, c_skip(T), c_out(T), judged one after the other."""
    u, h = torch.rand(2, 12, generator=_seeded(92), dtype=F64)
    sigma0, h = 0.3 + 0.5 * u, 0.1 + 0.5 * h
    got = answer(sigma0.clone(), h.clone())
    if not isinstance(got, (tuple, list, Tensor)) or len(got) != 4:
        return Finding(False, f"not yet: wanted four things, in this order: {', '.join(MOMENTS)}.")
    vT, v0T = (1 - h) * sigma0**2 + h, (1 - h) * sigma0**2
    wanted = (vT, v0T, *_skip_and_out(sigma0**2, vT, v0T))
    for name, one, right, mistakes in zip(MOMENTS, got, wanted, _moment_mistakes(sigma0**2, h)):
        found = compare(one, right, name, 1e-8, mistakes)
        if not found.right:
            return found
    return Finding(True, "all four agree to 1e-08.")


# -- 9.3 -------------------------------------------------------------------------------------------

SIZES = ((2, 3, 1), (2, 1, 1), (4, 2, 3), (2, 4, 2), (1, 5, 1), (2, 5, 2))


def _followed(patch: int, levels: int, blocks: int, each: int = 2, rounded=True, ends=(1, 1), up=True, first=0) -> int:
    """The reach, counted as in the text, or with a slip."""
    pixels = [patch * 2 ** (k + first) for k in range(levels)]
    spoilt = ends[0] * patch
    for pixel in pixels:
        spoilt = (-(-spoilt // pixel) * pixel if rounded else spoilt) + each * blocks * pixel
    return spoilt + (sum(each * blocks * pixel for pixel in pixels) if up else 0) + ends[1] * patch


@exercise("9.3", "The reach of another U-Net", points=2)
def reach(answer) -> Finding:
    """`reach(patch, levels, blocks)`: pixels, for six networks; judged by the library's."""
    got = torch.tensor([float(answer(*one)) for one in SIZES], dtype=F64)
    networks = (UNet(brownian(), 3, (4,) * levels, blocks, patch) for patch, levels, blocks in SIZES)
    wanted = torch.tensor([network.reach for network in networks], dtype=F64)

    def slip(**changes) -> Tensor:
        return torch.tensor([_followed(*one, **changes) for one in SIZES], dtype=F64)

    mistakes = {
        "the damage was not rounded up on the way to a coarser level": slip(rounded=False),
        "a block has two convolutions, not one": slip(each=1),
        "the first convolution is missing": slip(ends=(0, 1)),
        "the last convolution is missing": slip(ends=(1, 0)),
        "the first and the last convolution are missing": slip(ends=(0, 0)),
        "the way up is missing": slip(up=False),
        "the levels are counted from 1: a position of level 0 is `patch` pixels wide": slip(first=1),
        "there is one block at each level, whatever `blocks` says": torch.tensor(
            [_followed(patch, levels, 1) for patch, levels, _ in SIZES], dtype=F64
        ),
        "it is counted in positions of level 0, not in pixels": wanted / torch.tensor([one[0] for one in SIZES]),
        "this is the size of the whole field that a position sees, on both sides": 2 * wanted + 1,
    }
    return compare(got, wanted, "the reach (six networks)", 1e-9, mistakes)


# -- 9.4 -------------------------------------------------------------------------------------------

QUALITIES = (1, 5, 10, 23, 50, 61, 75, 90, 100)


def _flat(v: float, Q: float, gain: float = 8, shift: float = 128, nearest=round) -> float:
    return shift + nearest(gain * (v - shift) / Q) * Q / gain


@exercise("9.4", "A flat wall in JPEG", points=2)
def flat_level(answer) -> Finding:
    """`flat_level(v, quality)`: the grey level of a flat block after JPEG; judged by the library's."""
    levels = 255 * torch.rand(len(QUALITIES), 6, generator=_seeded(94), dtype=F64)
    cases = [(v, quality) for quality, row in zip(QUALITIES, levels.tolist()) for v in row]
    got = torch.tensor([float(answer(v, quality)) for v, quality in cases], dtype=F64)
    walls = (levels / 127.5 - 1)[:, :, None, None, None].expand(-1, -1, 3, 16, 16)
    wanted = (torch.cat([jpeg(row, quality).mean((1, 2, 3)) for row, quality in zip(walls, QUALITIES)]) + 1) * 127.5

    def table(quality: int, least: float = 1) -> float:
        return float(jpeg_table(LUMA, quality)[0, 0].clamp(min=least))

    def unrounded(quality: int) -> float:
        return 16 * (5000 / quality if quality < 50 else 200 - 2 * quality) / 100

    def slip(Q=table, **changes) -> Tensor:
        return torch.tensor([_flat(v, max(Q(quality), 1e-9), **changes) for v, quality in cases], dtype=F64)

    def one_scale(quality: int) -> float:
        return min(max((5000 / quality * 16 + 50) // 100, 1), 255)

    mistakes = {
        "C_00 was taken as the block's mean; it is 8 times that": slip(gain=1),
        "128 was not subtracted first": slip(shift=0),
        "the table was not scaled with the quality": slip(lambda quality: 16.0),
        "the coefficient was rounded down, not to the nearest": slip(nearest=math.floor),
        "C_00 was taken as the sum of the 64 pixels, as without the factors of D": slip(gain=64),
        "the first rule for s was used at every quality; from 50 on it is 200 - 2 q": slip(one_scale),
        "the table's entry was not rounded down and clipped": slip(unrounded),
        "128 was not added back": wanted - 128,
        "this is the coefficient C_00, not the grey level": 8 * (wanted - 128),
        "this is v as it was, and JPEG loses something": torch.tensor([v for v, _ in cases], dtype=F64),
    }
    return compare(got, wanted, f"the grey level ({len(cases)} walls)", 1e-8, mistakes)


# -- 9.5 -------------------------------------------------------------------------------------------


@exercise("9.5", "The walk of the teacher", points=1)
def walk(answer) -> Finding:
    """A sentence: PSNR falls, detail grows; from a mean to a sample."""
    wanted = {
        r"sharp|detail|crisp|texture|fur|grain|less (?:soft|blur)|blur\w* .*(?:vanish|disappear|less)": (
            "say what happens to the look of the guess."
        ),
        r"\bfall|\bfell|drop|decr|lower|worse|declin|shrink|sink|go(?:es)? down|los(?:es|ing)|less close|reduc": (
            "say what happens to the PSNR."
        ),
        r"\bmean|averag|expect|E\[": "say what the first guess is, of all pictures that fit the blocks.",
    }
    mistakes = {
        r"psnr\b[^.,;]{0,30}\b(?:rises?|climbs?|grows?|increases?|improves?|goes up)\b": (
            "look at the number above the guess again while you drag."
        ),
        r"(?:starts?|begins?|first guess is) (?:out |off )?(?:sharp|crisp|full of)|"
        r"(?:ends?(?: up)?|last guess is|becomes?|gets?) (?:soft|blur)|becomes? (?:the|a) (?:mean|average)": (
            "drag again, and see which end of the walk is the soft one."
        ),
        r"(?:under-?trained|badly trained|not (?:well )?trained|poor(?:ly)? (?:train|network))": (
            "a perfect network would do the same: the first guess is the best possible."
        ),
    }
    return sentence(answer, wanted, mistakes)
