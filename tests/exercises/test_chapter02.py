"""Chapter 02's checks: the solution is right, and typical wrong answers are named."""

from __future__ import annotations

import torch

from ibmd_minimal.exercises import chapter02
from ibmd_minimal.exercises.checking import _judged, check, exercises_of
from tests.exercises.answers import accepts, names_mistakes


def exponents(x, t, x0, xT, w, epsilon, c=lambda c2: 2 * c2):
    return w.log() - (x[:, None] - t * xT - (1 - t) * x0) ** 2 / c(epsilon * t * (1 - t))


def mean(x, t, x0, xT, w, epsilon):
    ell = exponents(x, t, x0, xT, w, epsilon)
    p = torch.exp(ell - ell.max(1, keepdim=True).values)
    return (p @ x0) / p.sum(1)


def naive(x, t, x0, xT, w, epsilon):
    p = torch.exp(exponents(x, t, x0, xT, w, epsilon))
    return (p @ x0) / p.sum(1)


def guarded(x, t, x0, xT, w, epsilon):
    p = torch.exp(exponents(x, t, x0, xT, w, epsilon))
    return (p @ x0) / (p.sum(1) + 1e-12)


def soft(c):
    return lambda x, t, x0, xT, w, e: torch.softmax(exponents(x, t, x0, xT, w, e, c), 1) @ x0


def floor(t, V0, VT, C, epsilon, noise=1):
    a, b = t, 1 - t
    variance = a**2 * VT + 2 * a * b * C + b**2 * V0 + noise * epsilon * a * b
    return V0 - (a * C + b * V0) ** 2 / variance


def slope(t, V0, VT, C, epsilon):
    return (t * C + (1 - t) * V0) / (t**2 * VT + 2 * t * (1 - t) * C + (1 - t) ** 2 * V0 + epsilon * t * (1 - t))


def step(x, xhat0, t, h, sigma, z):
    return x - 2 * h / t * (x - xhat0) + sigma * (2 * t * h) ** 0.5 * z


def whole_step(x, xhat0, t, h, sigma, z):
    q = (t - h) ** 2 / t**2
    return q * x + (1 - q) * xhat0 + sigma * (t - h) * (1 - q) ** 0.5 * z


def weight(t):
    return 2 * t / (t + 0.05)


SENTENCE = (
    "With little noise it keeps fewer pairs than chance would, since paths turn back at the crossing; with much noise "
    "the share tends to a half."
)

RIGHT = [
    (chapter02.posterior_mean, mean),
    (chapter02.posterior_mean, soft(lambda c2: 2 * c2)),
    (chapter02.gaussian_floor, floor),
    (chapter02.ve_step, step),
    (chapter02.effective_weight, weight),
    (chapter02.pairing, SENTENCE),
    (chapter02.pairing, "Small epsilon: the paths cannot cross and bounce, 16% are kept. Large epsilon: it is chance."),
    (
        chapter02.pairing,
        "At epsilon 0.02 almost none keep their pair, they are led back; at 2 the ends are independent.",
    ),
    (
        chapter02.pairing,
        "For small noise most paths end on the wrong side; much noise forgets the pairing, 40% is near 1/2.",
    ),
    (chapter02.pairing, "With little noise they reverse, with much noise fewer turn back and the share is near 1/2."),
    (chapter02.pairing, "With little noise only a fifth of the pairs are kept, with much noise nearly a half of them."),
    (chapter02.pairing, "As the noise goes to 0 the pairing is reversed, and with more noise it becomes random."),
]

WRONG = [
    (chapter02.posterior_mean, naive, "subtract the largest exponent"),
    (chapter02.posterior_mean, guarded, "subtract the largest exponent"),
    (
        chapter02.posterior_mean,
        lambda x, t, x0, xT, w, e: mean(x, t, x0, xT, torch.ones_like(w), e),
        "weights w are missing",
    ),
    (chapter02.posterior_mean, soft(lambda c2: 2 * c2**0.5), "divided by 2 c"),
    (chapter02.posterior_mean, soft(lambda c2: c2), "wanted 2 c²"),
    (chapter02.posterior_mean, lambda x, t, x0, xT, w, e: mean(x, 1 - t, x0, xT, w, e), "a and b were exchanged"),
    (
        chapter02.posterior_mean,
        lambda x, t, x0, xT, w, e: x0[exponents(x, t, x0, xT, w, e).argmax(1)],
        "likeliest pair",
    ),
    (
        chapter02.posterior_mean,
        lambda x, t, x0, xT, w, e: torch.softmax(exponents(x, t, x0, xT, w.exp(), e), 1) @ x0,
        "wanted its logarithm",
    ),
    (
        chapter02.posterior_mean,
        lambda x, t, x0, xT, w, e: torch.softmax(exponents(x, t, x0, xT, w, e), 1),
        "has shape (9, 5); wanted a tensor of shape (9,). It looks as if it were the probabilities",
    ),
    (chapter02.posterior_mean, lambda *inputs: mean(*inputs)[:, None], "has shape (9, 1)"),
    (chapter02.gaussian_floor, lambda *inputs: floor(*inputs, noise=0), "bridge had no noise"),
    (chapter02.gaussian_floor, lambda t, V0, VT, C, e: floor(t, V0, VT, 0 * C, e), "C is missing"),
    (chapter02.gaussian_floor, lambda t, V0, VT, C, e: V0 - floor(t, V0, VT, C, e), "the variance of xhat0"),
    (chapter02.gaussian_floor, lambda t, V0, VT, C, e: V0 - slope(t, V0, VT, C, e), "were not squared"),
    (chapter02.gaussian_floor, lambda t, V0, VT, C, e: V0 - slope(t, V0, VT, C, e) ** 2, "times the variance of x_t"),
    (chapter02.gaussian_floor, slope, "the slope k"),
    (chapter02.gaussian_floor, lambda *inputs: floor(*inputs).sqrt(), "square root were returned"),
    (chapter02.gaussian_floor, lambda *inputs: floor(*inputs).mean(), "has shape (); wanted a tensor of shape (7,)"),
    (chapter02.ve_step, lambda x, g, t, h, s, z: x - h / t * (x - g) + s * h**0.5 * z, "Brownian bridge's step"),
    (chapter02.ve_step, lambda x, g, t, h, s, z: x - h / t * (x - g) + s * (2 * t * h) ** 0.5 * z, "not h/t"),
    (chapter02.ve_step, lambda x, g, t, h, s, z: x + 2 * h / t * (x - g) + s * (2 * t * h) ** 0.5 * z, "the sign"),
    (chapter02.ve_step, lambda x, g, t, h, s, z: x - 2 * h / t * (x - g) + s * h**0.5 * z, "noise were sigma sqrt(h)"),
    (
        chapter02.ve_step,
        lambda x, g, t, h, s, z: x - 2 * h / t * (x - g) + 2 * s**2 * t * h * z,
        "wanted the standard deviation",
    ),
    (chapter02.ve_step, whole_step, "whole posterior step"),
    (chapter02.ve_step, lambda x, *rest: step(x, *rest)[:2], "has shape (2,); wanted a tensor of shape (6,)"),
    (chapter02.effective_weight, lambda t: 1 / (2 * t * (t + 0.05)), "so it multiplies"),
    (chapter02.effective_weight, lambda t: 1 / (2 * t.sqrt() * (t + 0.05)), "that of v²"),
    (chapter02.effective_weight, lambda t: t**2 / (t + 0.05), "wanted its derivative"),
    (chapter02.effective_weight, lambda t: t.sqrt() / (t + 0.05), "not how often it comes"),
    (chapter02.effective_weight, lambda t: 2 * t, "density alone"),
    (chapter02.effective_weight, lambda t: 1 / (t + 0.05), "times had been uniform"),
    (chapter02.effective_weight, lambda t: weight(t)[:1], "has shape (1,)"),
    (chapter02.effective_weight, weight(torch.tensor(0.3)), "wanted the function itself"),
    (chapter02.pairing, "With little noise it keeps all pairs, with much noise half of them.", "far from all"),
    (chapter02.pairing, "Little noise: almost half are kept. With much noise it keeps all pairs.", "never keeps all"),
    (chapter02.pairing, "With little noise the pairing is preserved, with much noise it is random.", "above or below"),
    (chapter02.pairing, "With little noise few pairs are kept, the paths turn back.", "with much noise, which share"),
    (chapter02.pairing, "The share is always one half, whatever epsilon.", "what happens with little noise"),
    (chapter02.pairing, "With little noise it is about a half, with much noise fewer pairs are kept.", "not a half"),
    (chapter02.pairing, "Few pairs are kept by chance, and with large epsilon the paths turn back.", "larger than at"),
    (chapter02.pairing, 0.16, "wanted a sentence"),
]


test_right_answers = accepts(RIGHT)
test_wrong_answers_are_named = names_mistakes(WRONG)


def test_unfinished_and_gradients():
    def stub(*inputs):
        raise NotImplementedError("exercise 2.2: a tensor")

    assert "still to be written: a tensor" in _judged(chapter02.gaussian_floor, stub).says
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    assert _judged(chapter02.ve_step, lambda *inputs: scale * step(*inputs)).right


def test_points_and_the_line_printed(capsys):
    assert [one.number for one in exercises_of(2)] == ["2.1", "2.2", "2.3", "2.4", "2.5"]
    assert sum(one.points for one in exercises_of(2)) == 10
    check("2.5", ...)
    assert capsys.readouterr().out == "Exercise 2.5 (1 point): still to be written.\n"
