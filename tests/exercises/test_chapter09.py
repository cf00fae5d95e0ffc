"""Chapter 09's checks: the solution is right, and typical wrong answers are named."""

from __future__ import annotations

import math

from ibmd_minimal.data.corruptions import sr4x_pool
from ibmd_minimal.exercises import chapter09
from ibmd_minimal.exercises.checking import _judged
from tests.exercises.answers import accepts, asks_kindly, five_exercises, names_mistakes


def nearest(y, xT):
    return y - sr4x_pool(y) + xT


def hole(sigma0, h, visible=None, noise=1.0, by=None):
    """The four moments, right by default, or with one slip."""
    vT = (1 - h) * sigma0**2 + noise * h
    v0T = (1 - h) * sigma0**2 if visible is None else visible(h) * sigma0**2
    skip = v0T / (vT if by is None else by(sigma0, vT))
    return vT, v0T, skip, (sigma0**2 - v0T**2 / vT) ** 0.5


def changed(place, value):
    """The four moments with one of them replaced by `value(four, sigma0, h)`."""

    def answer(sigma0, h):
        four = list(hole(sigma0, h))
        four[place] = value(four, sigma0, h)
        return four

    return answer


def reach(patch, levels, blocks, each=2, rounded=True, ends=2, up=True, first=0):
    pixels = [patch * 2 ** (k + first) for k in range(levels)]
    spoilt = patch
    for pixel in pixels:
        spoilt = (math.ceil(spoilt / pixel) * pixel if rounded else spoilt) + each * blocks * pixel
    return spoilt + up * sum(each * blocks * pixel for pixel in pixels) + (ends - 1) * patch


def flat(v, quality, base=16, gain=8, shift=128, nearest=round, split=50, clip=True, whole=True):
    scale = 5000 / quality if quality < split else 200 - 2 * quality
    Q = (scale * base + 50) // 100 if whole else scale * base / 100
    Q = min(max(Q, 1), 255) if clip else max(Q, 1e-9)
    return shift + nearest(gain * (v - shift) / Q) * Q / gain


def flat_by_one_table(v, quality):
    return 128 + round(8 * (v - 128) / 16) * 2


SENTENCE = (
    "The guess gains detail while its PSNR falls: at first it is the mean of all that fits, in the end one sample."
)

ACCEPTED = [
    (chapter09.nearest_consistent, nearest),
    (chapter09.nearest_consistent, lambda y, xT: xT + (y - sr4x_pool(y))),
    (chapter09.hole_moments, hole),
    (chapter09.hole_moments, lambda s, h: list(hole(s, h))),
    (chapter09.reach, reach),
    (chapter09.flat_level, flat),
    (chapter09.walk, SENTENCE),
    (chapter09.walk, "It gets sharper and the number drops, because the first guess averages over all candidates."),
    (chapter09.walk, "PSNR decreases and texture appears; the expected value was best but smooth, the sample is not."),
    (
        chapter09.walk,
        "The decibels go down from 26 to 23 as it becomes crisper: the start is an average, the end a draw.",
    ),
    (
        chapter09.walk,
        "From the blurred average, best in PSNR, to a sharp picture with invented fur that is less close to the truth.",
    ),
    (chapter09.walk, "The PSNR does not rise but falls while grain appears, since the mean is closest to the truth."),
]

REFUSED = [
    (chapter09.nearest_consistent, lambda y, xT: y + xT, "the blocks' means of y were left in it"),
    (chapter09.nearest_consistent, lambda y, xT: xT, "something nearer does too"),
    (chapter09.nearest_consistent, lambda y, xT: y - sr4x_pool(y), "those of xT not put in"),
    (chapter09.nearest_consistent, lambda y, xT: y + sr4x_pool(y) - xT, "signs are swapped"),
    (chapter09.nearest_consistent, lambda y, xT: (y + xT) / 2, "were averaged"),
    (chapter09.nearest_consistent, lambda y, xT: y, "as it was"),
    (chapter09.nearest_consistent, lambda y, xT: sr4x_pool(y), "y was pooled"),
    (chapter09.nearest_consistent, lambda y, xT: nearest(y, xT)[:1], "has shape (1, 3, 16, 24); wanted"),
    (chapter09.nearest_consistent, lambda y, xT: None, "is None"),
    (chapter09.hole_moments, lambda s, h: hole(s, h, noise=0.0), "sigma_T² is off", "the noise in the hole"),
    (chapter09.hole_moments, changed(0, lambda f, s, h: (1 - h) ** 2 * s**2 + h**2), "its own square"),
    (chapter09.hole_moments, changed(0, lambda f, s, h: h * s**2 + 1 - h), "the shares were swapped"),
    (chapter09.hole_moments, changed(0, lambda f, s, h: f[0] ** 0.5), "the standard deviation, not its square"),
    (chapter09.hole_moments, changed(0, lambda f, s, h: (1 - h) * s + h), "sigma0 was not squared"),
    (chapter09.hole_moments, lambda s, h: hole(s, h, visible=lambda h: h), "sigma_0T is off", "not of what is visible"),
    (chapter09.hole_moments, lambda s, h: hole(s, h, visible=lambda h: 1), "has no covariance with x0"),
    (chapter09.hole_moments, changed(1, lambda f, s, h: f[0]), "it is independent of x0"),
    (chapter09.hole_moments, lambda s, h: hole(s, h, by=lambda s, vT: s**2), "c_skip(T) is off", "predicts xT from x0"),
    (chapter09.hole_moments, lambda s, h: hole(s, h, by=lambda s, vT: s * vT**0.5), "this is the correlation"),
    (chapter09.hole_moments, changed(2, lambda f, s, h: 1 / f[2]), "upside down"),
    (chapter09.hole_moments, changed(2, lambda f, s, h: 1 + 0 * h), "filled with noise they are none"),
    (chapter09.hole_moments, changed(3, lambda f, s, h: f[3] ** 2), "c_out(T) is off", "this is its square"),
    (chapter09.hole_moments, changed(3, lambda f, s, h: s), "xT was taken to say nothing"),
    (chapter09.hole_moments, changed(3, lambda f, s, h: (s**2 + f[1] ** 2 / f[0]) ** 0.5), "should be a minus"),
    (chapter09.hole_moments, changed(3, lambda f, s, h: (s**2 - f[1] / f[0]).clamp(min=0) ** 0.5), "was not squared"),
    (chapter09.hole_moments, changed(3, lambda f, s, h: (s**2 + f[0] - 2 * f[1]) ** 0.5), "with no c_skip"),
    (chapter09.hole_moments, lambda s, h: hole(s, h)[:2], "wanted four things"),
    (chapter09.hole_moments, lambda s, h: [one[:, None] for one in hole(s, h)], "has shape (12, 1); wanted"),
    (chapter09.reach, lambda *one: reach(*one, rounded=False), "was not rounded up"),
    (chapter09.reach, lambda *one: reach(*one, each=1), "two convolutions, not one"),
    (chapter09.reach, lambda *one: reach(*one, ends=1), "the last convolution is missing"),
    (chapter09.reach, lambda *one: reach(*one, up=False), "the way up is missing"),
    (chapter09.reach, lambda *one: reach(*one, first=1), "counted from 1"),
    (chapter09.reach, lambda patch, levels, blocks: reach(patch, levels, 1), "whatever `blocks` says"),
    (chapter09.reach, lambda patch, *rest: reach(patch, *rest) / patch, "in positions of level 0"),
    (chapter09.reach, lambda *one: 2 * reach(*one) + 1, "on both sides"),
    (chapter09.reach, lambda *one: 62, "the reach (six networks) is off"),
    (chapter09.reach, lambda *one: [reach(*one)], "your code raised", "TypeError"),
    (chapter09.flat_level, lambda v, q: flat(v, q, gain=1), "it is 8 times that"),
    (chapter09.flat_level, lambda v, q: flat(v, q, shift=0), "128 was not subtracted first"),
    (chapter09.flat_level, flat_by_one_table, "was not scaled with the quality"),
    (chapter09.flat_level, lambda v, q: flat(v, q, nearest=math.floor), "rounded down, not to the nearest"),
    (chapter09.flat_level, lambda v, q: flat(v, q, gain=64), "the sum of the 64 pixels"),
    (chapter09.flat_level, lambda v, q: flat(v, q, split=101), "from 50 on it is 200 - 2 q"),
    (chapter09.flat_level, lambda v, q: flat(v, q, clip=False, whole=False), "not rounded down and clipped"),
    (chapter09.flat_level, lambda v, q: flat(v, q) - 128, "128 was not added back"),
    (chapter09.flat_level, lambda v, q: 8 * (flat(v, q) - 128), "this is the coefficient C_00"),
    (chapter09.flat_level, lambda v, q: v, "JPEG loses something"),
    (chapter09.flat_level, lambda v, q: flat(v, q, base=17), "the grey level (54 walls) is off"),
    (chapter09.walk, "The PSNR rises and it gets more detail, the average of all pictures.", "while you drag"),
    (
        chapter09.walk,
        "Detail appears and PSNR falls because the network is under-trained; not a mean.",
        "a perfect network",
    ),
    (chapter09.walk, "The PSNR falls from the mean to a sample of what could have been.", "the look of the guess"),
    (chapter09.walk, "It becomes sharp, as the first one was the mean.", "what happens to the PSNR"),
    (chapter09.walk, "The guess gains detail and its PSNR falls along the way.", "what the first guess is"),
    (
        chapter09.walk,
        "It starts sharp and full of grain, and ends soft, while the PSNR falls, because it becomes the mean of all.",
        "which end of the walk",
    ),
    (
        chapter09.walk,
        "The guess becomes blurry detail and the PSNR climbs from lower to higher because it approaches the mean.",
        "while you drag",
    ),
    (chapter09.walk, "The PSNR falls and its detail becomes blurry, an average.", "which end of the walk"),
    (chapter09.walk, "It gets sharper.", "a whole sentence"),
    (chapter09.walk, 20, "wanted a sentence"),
]


test_right_answers_are_accepted = accepts(ACCEPTED)
test_wrong_answers_are_refused_and_named = names_mistakes(REFUSED)
test_what_is_missing_is_said_kindly = asks_kindly(9)


test_the_points_of_the_chapter = five_exercises(9, 9)


def test_a_hole_without_noise_in_it_is_not_what_is_asked():
    """`(1 - m) x0` is an orthogonal projection: c_skip(T) would be 1, and the check says which noise is missing."""
    found = _judged(chapter09.hole_moments, lambda s, h: hole(s, h, noise=0.0))
    assert "the noise in the hole, of variance 1" in found.says
