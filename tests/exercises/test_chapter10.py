"""Chapter 10's checks: the solution is right, and typical wrong answers are named."""

from __future__ import annotations

import math

import torch

from ibmd_minimal.exercises import chapter10
from tests.exercises.answers import accepts, asks_kindly, five_exercises, names_mistakes


def db(error, peak=2.0):
    return 10 * (peak**2 / error).log10()


def needed(d, r, factor=10, rounding=math.ceil):
    return max(1, rounding(r / (10 ** (d / factor) - 1)))


def sigma(K, error):
    return (error * len(K) / K.square().sum()).sqrt()


def split(n, dn, m, dm):
    v = (dn - dm) / (1 / n - 1 / m)
    return dn - v / n, v


SENTENCE = "The PSNR rises, the detail goes and the picture approaches the teacher's single step, the mean over z."

RIGHT = [
    (chapter10.one_sample_psnr, lambda e, r: db(e * (1 + r))),
    (chapter10.one_sample_psnr, lambda e, r: db(e) - 10 * (1 + r).log10()),
    (chapter10.samples_needed, needed),
    (chapter10.samples_needed, lambda d, r=1.0: torch.tensor(needed(d, r))),
    (chapter10.head_start_sigma, sigma),
    (chapter10.head_start_sigma, lambda K, error: float((error / torch.diagonal(K @ K.T).mean()) ** 0.5)),
    (chapter10.gap_and_variance, split),
    (chapter10.gap_and_variance, lambda n, dn, m, dm: [(m * dm - n * dn) / (m - n), n * m * (dn - dm) / (m - n)]),
    (chapter10.slider, SENTENCE),
    (chapter10.slider, "More dB and a blurrier picture: it becomes E[x0 | xT], the conditional mean."),
    (chapter10.slider, "It gets smoother while its PSNR climbs, and it tends to what the teacher does in one pass."),
    (
        chapter10.slider,
        "The PSNR goes up, the grain is averaged away; it does not approach the truth but the teacher's step.",
    ),
]

WRONG = [
    (chapter10.one_sample_psnr, lambda e, r: db(e * (1 + r), 1.0), "range was taken as 1"),
    (chapter10.one_sample_psnr, lambda e, r: db(e * (1 + r), 255.0), "range was taken as 255"),
    (chapter10.one_sample_psnr, lambda e, r: db(e * r), "the spread alone"),
    (chapter10.one_sample_psnr, lambda e, r: db(e), "this is the teacher's step"),
    (chapter10.one_sample_psnr, lambda e, r: db(2 * e), "the ratio was ignored"),
    (chapter10.one_sample_psnr, lambda e, r: db((e.sqrt() + (r * e).sqrt()) ** 2), "variances add"),
    (chapter10.one_sample_psnr, lambda e, r: 2 * db(e * (1 + r)), "factor 10, not 20"),
    (chapter10.one_sample_psnr, lambda e, r: db((e - r * e).abs()), "subtracted"),
    (chapter10.one_sample_psnr, lambda e, r: 10 * (4 / (e * (1 + r))).log(), "natural logarithm"),
    (chapter10.one_sample_psnr, lambda e, r: -db(e * (1 + r)), "sign is wrong"),
    (chapter10.one_sample_psnr, lambda e, r: db(e * (1 + r)).mean(), "has shape (); wanted"),
    (chapter10.samples_needed, lambda d, r: r / (10 ** (d / 10) - 1), "no whole number"),
    (chapter10.samples_needed, lambda d, r: needed(d, r, rounding=int), "rounded down"),
    (chapter10.samples_needed, lambda d, r: needed(d, r, rounding=round), "rounded to the nearest"),
    (chapter10.samples_needed, lambda d, r: needed(d, 1.0), "the ratio r was ignored"),
    (chapter10.samples_needed, lambda d, r: needed(d, 1 / r), "wrong side"),
    (chapter10.samples_needed, lambda d, r: needed(d, r, factor=20), "10 log10, not 20"),
    (chapter10.samples_needed, lambda d, r: max(1, math.ceil(r / (math.exp(d) - 1))), "natural logarithms"),
    (chapter10.samples_needed, lambda d, r: max(1, math.ceil(r / 10 ** (d / 10))), "the 1 is missing"),
    (chapter10.samples_needed, lambda d, r: needed(d, r) + 1, "one more than needed"),
    (chapter10.samples_needed, lambda d, r: math.floor(r / (10 ** (d / 10) - 1)), "the least number of samples is 1"),
    (chapter10.samples_needed, lambda d, r: torch.ones(2), "scalar"),
    (chapter10.head_start_sigma, lambda K, error: sigma(K, error) ** 2, "sigma squared"),
    (chapter10.head_start_sigma, lambda K, error: (error / K.square().sum()).sqrt(), "mean over the d elements"),
    (chapter10.head_start_sigma, lambda K, error: (error * len(K)).sqrt() / K.trace().abs(), "the trace of K"),
    (chapter10.head_start_sigma, lambda K, error: (error / K.square().mean()).sqrt(), "all entries of K"),
    (
        chapter10.head_start_sigma,
        lambda K, error: error.sqrt() / torch.linalg.svdvals(K).max(),
        "largest singular value",
    ),
    (chapter10.head_start_sigma, lambda K, error: error.sqrt(), "the teacher was left out"),
    (chapter10.head_start_sigma, lambda K, error: error * len(K) ** 0.5 / K.norm(), "taken for a standard deviation"),
    (chapter10.head_start_sigma, lambda K, error: (error / len(K)).sqrt() * K.norm(), "the wrong way round"),
    (chapter10.head_start_sigma, lambda K, error: (error / K.square().sum(1)).sqrt(), "has shape (12,); wanted"),
    (chapter10.gap_and_variance, lambda *one: split(*one)[::-1], "the variance comes second"),
    (chapter10.gap_and_variance, lambda n, dn, m, dm: (dm, split(n, dn, m, dm)[1]), "still in it"),
    (chapter10.gap_and_variance, lambda *one: (-split(*one)[0], split(*one)[1]), "the wrong sign"),
    (chapter10.gap_and_variance, lambda n, dn, m, dm: (dn - split(n, dn, m, dm)[1], dn), "taken off undivided"),
    (chapter10.gap_and_variance, lambda n, dn, m, dm: (split(n, dn, m, dm)[0], dn - dm), "not divided"),
    (
        chapter10.gap_and_variance,
        lambda n, dn, m, dm: (split(n, dn, m, dm)[0], (dn - dm) / (m - n)),
        "divided by m - n",
    ),
    (chapter10.gap_and_variance, lambda n, dn, m, dm: (split(n, dn, m, dm)[0], n * dn), "the gap is still in it"),
    (chapter10.gap_and_variance, lambda *one: (split(*one)[0], split(*one)[1].sqrt()), "the standard deviation"),
    (chapter10.gap_and_variance, lambda *one: (split(*one)[0], -split(*one)[1]), "fewer samples is farther"),
    (chapter10.gap_and_variance, lambda *one: split(*one)[0], "wanted two tensors"),
    (chapter10.slider, "It becomes soft like the teacher's single step, nothing else happens.", "happens to the PSNR"),
    (chapter10.slider, "The PSNR rises because it approaches the teacher's single step.", "the looks"),
    (chapter10.slider, "The PSNR rises and the picture turns soft and blurred.", "which of the pictures"),
    (chapter10.slider, "The PSNR falls, it becomes soft like the teacher's step.", "number below the mean"),
    (chapter10.slider, "PSNR rises, the detail is right, it approaches the truth.", "compare it with the truth"),
    (chapter10.slider, "PSNR rises and it becomes sharper, like the teacher's walk.", "n = 1 and at n = 32"),
    (
        chapter10.slider,
        "The PSNR sinks and the picture gets crisp detail, approaching the teacher after a hundred passes.",
        "number below the mean",
    ),
    (chapter10.slider, "The decibels go down, the detail comes back, until it equals the teacher.", "does it?"),
    (chapter10.slider, "PSNR rises, it gets soft, as the teacher after a hundred passes.", "as soft as that"),
    (chapter10.slider, "PSNR rises, the detail comes back, as with the teacher's step.", "n = 1 and at n = 32"),
    (chapter10.slider, "Soft.", "whole sentence"),
    (chapter10.slider, 32, "wanted a sentence"),
]


test_five_exercises_of_nine_points = five_exercises(10, 9)


test_accepts = accepts(RIGHT)
test_names_the_mistake = names_mistakes(WRONG)
test_what_is_missing_is_said_kindly = asks_kindly(10)


def test_a_sample_of_an_exact_student_is_three_decibels_below_its_teacher():
    e = torch.tensor([0.0193], dtype=torch.float64)
    price = chapter10._decibels(e) - chapter10._decibels(2 * e)
    torch.testing.assert_close(price, torch.tensor([10 * math.log10(2)], dtype=torch.float64))


def test_averaging_that_many_is_enough_and_one_less_is_not():
    for d, r in chapter10.WITHIN:
        n = needed(d, r)
        assert 10 * math.log10(1 + r / n) <= d + 1e-9
        assert n == 1 or 10 * math.log10(1 + r / (n - 1)) > d


def test_sigma_gives_the_spread_asked_for():
    generator = torch.Generator().manual_seed(0)
    K = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    z = torch.randn(200_000, 6, generator=generator, dtype=torch.float64)
    spread = (sigma(K, torch.tensor(0.02, dtype=torch.float64)) * z @ K.T).var(0).mean()
    assert abs(float(spread) / 0.02 - 1) < 5 * math.sqrt(2 / len(z))  # at most: each variance has that relative error


def test_gap_and_spread_are_found_in_samples_too():
    """From means of 1 and of 8 samples of a made-up student, whose gap and spread are known; within five errors."""
    generator = torch.Generator().manual_seed(0)
    off, size, n, m = 0.05, 0.2, 1, 8
    draws = off + size * torch.randn(40_000, m, generator=generator, dtype=torch.float64)
    near, far = draws.mean(1).square(), draws[:, 0].square()
    gap, v = split(float(n), far.mean(), float(m), near.mean())
    error = (far - near).std() / len(draws) ** 0.5 / (1 / n - 1 / m)
    assert abs(v - size**2) < 5 * error and abs(gap - off**2) < 5 * error
