"""Chapter 14's checks: solutions are right, typical mistakes are named."""

from __future__ import annotations

import pytest
import torch

from ibmd_minimal.exercises.checking import _judged, exercises_of
from tests.exercises.answers import accepts, asks_kindly, names_mistakes


def fits(budget, batch, L, warmup):
    return (budget - warmup * 4 * batch) // (batch * (4 * L + 7))


def of_the_mean(v0, vT, cross):
    return (v0.sqrt() - cross.abs() / vT.sqrt()).square()


def ve_end(x_t, guess, t, eps, sigma):
    k = ((eps / t) ** 2)[:, None]
    return k * x_t + (1 - k) * guess


def best_shift(e, g, lam, dt):
    d = (lam * g * e * dt).sum() / (lam * g * g * dt).sum()
    return d, (lam * (d * g - e) ** 2 * dt).sum()


SENTENCE = (
    "The sampler's shift grows as nothing later forgets it; the student's goes to almost zero, since no coupling "
    "has such a denoiser next to t = 0 and the error stays in the loss."
)
SOLUTIONS = {
    "14.1": fits,
    "14.2": of_the_mean,
    "14.3": ve_end,
    "14.4": best_shift,
    "14.5": SENTENCE,
}
WRONG = [
    ("14.1", lambda b, n, L, w: b // (n * (4 * L + 7)), "warm-up is missing"),
    ("14.1", lambda b, n, L, w: (b - 4 * w * n) // (n * (4 * L + 5)), "detached"),
    ("14.1", lambda b, n, L, w: (b - 4 * w * n) / (n * (4 * L + 7)), "round down"),
    ("14.1", lambda b, n, L, w: (b - 3 * w * n) // (n * (3 * L + 7)), "without the student's sample"),
    ("14.2", lambda v0, vT, c: v0 - c**2 / vT, "the squared error, not the distance"),
    ("14.2", lambda v0, vT, c: v0.sqrt() - c.abs() / vT.sqrt(), "its square is wanted"),
    ("14.2", lambda v0, vT, c: (v0.sqrt() - c / vT.sqrt()).square(), "the sign of cross"),
    ("14.2", lambda v0, vT, c: of_the_mean(v0, vT, c)[:3], "shape"),
    ("14.3", lambda x, y, t, e, s: e / t[:, None] * x + (1 - e / t[:, None]) * y, "Brownian bridge"),
    ("14.3", lambda x, y, t, e, s: ve_end(y, x, t, e, s), "exchanged"),
    ("14.3", lambda x, y, t, e, s: y, "the guess alone"),
    ("14.4", lambda e, g, lam, dt: (*_of(e, g, lam, dt, lam * 0 + 1),), "the weight is missing"),
    (
        "14.4",
        lambda e, g, lam, dt: (best_shift(e, g, lam, dt)[0], (lam * e * e * dt).sum()),
        "d = 0",
    ),
    ("14.4", lambda e, g, lam, dt: best_shift(e, g, lam, dt)[0], "the pair"),
    (
        "14.5",
        "The sampler's shift grows and the student's shift grows too, for no coupling follows; almost zero is lost.",
        "second number",
    ),
    ("14.5", "The sampler's shift grows.", "the student"),
]


def _of(e, g, lam, dt, used):
    d = best_shift(e, g, used, dt)[0]
    return d, (lam * (d * g - e) ** 2 * dt).sum()


EXERCISES = {one.number: one for one in exercises_of(14)}
test_the_solution_is_right = accepts([(EXERCISES[number], answer) for number, answer in SOLUTIONS.items()])
test_a_mistake_is_named = names_mistakes([(EXERCISES[number], *rest) for number, *rest in WRONG])
test_every_exercise_says_what_is_wanted = asks_kindly(14)


def test_the_chapter_has_nine_points():
    assert list(EXERCISES) == list(SOLUTIONS) and sum(one.points for one in EXERCISES.values()) == 9


@pytest.mark.parametrize("number", ["14.2", "14.3", "14.4"])
def test_an_answer_in_half_precision_or_with_a_gradient_is_taken(number):
    def answered(*given):
        given = [one.requires_grad_() if isinstance(one, torch.Tensor) else one for one in given]
        return SOLUTIONS[number](*given)

    assert _judged(EXERCISES[number], answered).right
