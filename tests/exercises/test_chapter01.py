"""Chapter 01's checks: the solution is right, and typical wrong answers are named."""

from __future__ import annotations

import math

import torch

from ibmd_minimal.exercises import chapter01
from ibmd_minimal.exercises.checking import _judged, check, exercises_of
from tests.exercises.answers import accepts, names_mistakes


def spread(t, epsilon, sigma):
    return (epsilon * t * (1 - t) + t**2 * sigma**2).sqrt()


def walk(times, x0, xT, z, pull, std):
    path = [x0]
    for t, s, noise in zip(times, times[1:], z):
        path.append(path[-1] + pull(t, s) * (xT - path[-1]) + std(t, s) * noise)
    return torch.stack(path)


def exact(times, x0, xT, epsilon, z):
    return walk(
        times, x0, xT, z, lambda t, s: (s - t) / (1 - t), lambda t, s: (epsilon * (s - t) * (1 - s) / (1 - t)).sqrt()
    )


def euler(times, x0, xT, epsilon, z):
    return walk(times, x0, xT, z, lambda t, s: (s - t) / (1 - t), lambda t, s: (epsilon * (s - t)).sqrt())


def independent(times, x0, xT, epsilon, z):
    path = x0 + times[:, None] * (xT - x0)
    noise = torch.cat([torch.zeros_like(z[:1]), z])
    return path + (epsilon * times * (1 - times)).sqrt()[:, None] * noise


def subtracted(times, x0, xT, epsilon, z):
    steps = (epsilon * times.diff()).sqrt()[:, None] * z
    free = torch.cat([x0[None], x0 + steps.cumsum(0)])
    return free - times[:, None] * (free[-1] - xT)


def noise(alpha, alpha_T):
    rho2, rho2_T = 1 / alpha**2 - 1, 1 / alpha_T**2 - 1
    return alpha * (rho2 * (1 - rho2 / rho2_T)).sqrt()


DIGITS = -1000 * math.log10(chapter01.share_kept())
SENTENCE = "At t = 0.69, as the noise of VP comes late: its clock shows only 0.17 at t = 1/2."

RIGHT = [
    (chapter01.uncertain_end, spread),
    (chapter01.bridge_on_grid, exact),
    (chapter01.vp_noise, noise),
    (chapter01.selection, DIGITS),
    (chapter01.selection, round(DIGITS)),
    (chapter01.selection, torch.tensor(DIGITS)),
    (chapter01.widest, SENTENCE),
    (chapter01.widest, "Around 0.7 because g^2 = 0.1 + 2t is small at first; the clock runs slow in the first half."),
    (chapter01.widest, "t is 0.68; beta(t) grows, so that half of the variance has not come yet at half time."),
    (chapter01.widest, "It is not 1/2 but 0.69. The clock reaches a half at 0.78, and alpha pulls it back a little."),
]

WRONG = [
    (chapter01.uncertain_end, lambda t, e, s: (e * t * (1 - t)).sqrt(), "sigma = 0"),
    (chapter01.uncertain_end, lambda t, e, s: (e * t * (1 - t) + s**2).sqrt(), "felt at every time"),
    (chapter01.uncertain_end, lambda t, e, s: (e * t * (1 - t) + t * s**2).sqrt(), "multiplied by t"),
    (chapter01.uncertain_end, lambda t, e, s: (e * t * (1 - t)).sqrt() + t * s, "variances add"),
    (chapter01.uncertain_end, lambda t, e, s: spread(t, e, s) ** 2, "square root is wanted"),
    (chapter01.uncertain_end, lambda t, e, s: spread(t, e, s)[:3], "has shape (3,); wanted a tensor of shape (7,)"),
    (chapter01.uncertain_end, 0.3, "wanted the function itself"),
    (chapter01.bridge_on_grid, euler, "steps were Euler's"),
    (chapter01.bridge_on_grid, independent, "do not belong together"),
    (chapter01.bridge_on_grid, subtracted, "step by step"),
    (
        chapter01.bridge_on_grid,
        lambda times, x0, xT, e, z: walk(
            times, x0, xT, z, lambda t, s: (s - t) / (1 - t), lambda t, s: e * (s - t) * (1 - s) / (1 - t)
        ),
        "had the variance where",
    ),
    (
        chapter01.bridge_on_grid,
        lambda times, x0, xT, e, z: walk(
            times, x0, xT, z, lambda t, s: s - t, lambda t, s: (e * (s - t) * (1 - s) / (1 - t)).sqrt()
        ),
        "divided by the time that is left",
    ),
    (
        chapter01.bridge_on_grid,
        lambda times, x0, xT, e, z: walk(
            times, x0, xT, z, lambda t, s: (s - t) / (1 - t), lambda t, s: (e * s * (1 - s)).sqrt()
        ),
        "pinned anew at t",
    ),
    (chapter01.bridge_on_grid, lambda times, x0, xT, e, z: exact(times, x0, xT, e, z)[1:], "has shape (6, 3)"),
    (chapter01.vp_noise, lambda a, end: (1 - a**2).sqrt(), "xT were not known"),
    (chapter01.vp_noise, lambda a, end: noise(a, end) / a, "factor alpha were missing"),
    (chapter01.vp_noise, lambda a, end: noise(a, end) ** 2, "square root is wanted"),
    (
        chapter01.vp_noise,
        lambda a, end: a * ((1 - a**2) * (1 - (1 - a**2) / (1 - end**2))).sqrt(),
        "variance of x; rho² is the one of y",
    ),
    (chapter01.vp_noise, lambda a, end: 2 * noise(a, end), "twice what is wanted"),
    (chapter01.vp_noise, lambda a, end: noise(a, end)[:, None], "has shape (7, 1)"),
    (chapter01.selection, DIGITS * math.log(10), "base e"),
    (chapter01.selection, -DIGITS, "sign is plus"),
    (
        chapter01.selection,
        math.log10(1000 / chapter01.share_kept()),
        "probabilities of independent coordinates multiply",
    ),
    (chapter01.selection, DIGITS / 1000, "for one coordinate"),
    (chapter01.selection, math.inf, "not finite"),
    (chapter01.selection, torch.tensor([DIGITS]), "has shape (1,)"),
    (chapter01.widest, "At t = 0.78, where the clock of VP shows one half.", "alpha falls"),
    (chapter01.widest, "At t = 1/2, it is symmetric like any bridge.", "narrower at 1/2"),
    (chapter01.widest, "At t = 0.2, early, where most of the noise enters.", "beyond 1/2"),
    (chapter01.widest, "The VP bridge is widest at t = 0.69.", "say why"),
    (chapter01.widest, "It is widest later, since the noise comes late.", "say at which t"),
    (chapter01.widest, "It is not at 1/2 but later, since the noise comes late.", "say at which t"),
    (chapter01.widest, "At t = 0.69, because the noise comes early.", "other way round"),
    (chapter01.widest, "It is at t = 0.7 because alpha shrinks the walk towards zero.", "say why"),
    (chapter01.widest, 0.69, "wanted a sentence"),
]


test_right_answers = accepts(RIGHT)
test_wrong_answers_are_named = names_mistakes(WRONG)


def test_unfinished_and_gradients():
    def stub(*inputs):
        raise NotImplementedError("exercise 1.2: a tensor")

    assert "still to be written: a tensor" in _judged(chapter01.bridge_on_grid, stub).says
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    assert _judged(chapter01.uncertain_end, lambda t, e, s: scale * spread(t, e, s)).right


def test_points_and_the_line_printed(capsys):
    assert [one.number for one in exercises_of(1)] == ["1.1", "1.2", "1.3", "1.4", "1.5"]
    assert sum(one.points for one in exercises_of(1)) == 10
    check("1.4", ...)
    assert capsys.readouterr().out == "Exercise 1.4 (1 point): still to be written.\n"
