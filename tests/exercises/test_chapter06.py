"""Chapter 06's checks accept the solutions and name the mistakes that many make."""

from __future__ import annotations

import pytest
import torch

from ibmd_minimal.exact import path_divergence
from ibmd_minimal.exercises import chapter06
from ibmd_minimal.exercises.checking import _judged
from tests.exercises.answers import accepts, five_exercises, names_mistakes


def alpha_loss(factor=2.0, cut=True, hold=False, second=True, keep=True):
    """The solution of 6.2, or one with a mistake."""

    def answer(teacher, fake, bridge, x0, xT, t, z, alpha, detached):
        x0 = x0.detach() if hold else x0
        x_t = bridge.sample(x0, xT, t, z)
        x_t = x_t.detach() if (detached and cut) or not keep else x_t
        r, f = teacher(x_t, t, xT) - x0, fake(x_t, t, xT) - x0
        return (factor * (r - f) * (r - (alpha if second else 0.5) * (r - f))).sum(1)

    return answer


def swapped(teacher, fake, *rest):
    return alpha_loss()(fake, teacher, *rest)


def per_element(teacher, fake, bridge, x0, xT, t, z, alpha, detached):
    return bridge.sample(x0, xT, t, z)


def per_time(change):
    return lambda k: torch.where(k > 0, change(k), torch.inf)


def printed(student, old, data, bridge):
    new, late = (path_divergence(student, one, bridge, weight="plain") for one in (data, old))
    return new - late


SOLUTIONS = {
    chapter06.step_kl: lambda gap2, alpha_s, rho2_s, rho2_t: gap2 * (1 / rho2_s - 1 / rho2_t) / 2,
    chapter06.alpha_loss: alpha_loss(),
    chapter06.second_moment: per_time(lambda k: 1 / (k * (1 - k))),
    chapter06.printed: printed,
    chapter06.where: "A wrong noise B leaves no trace at t = 1, because there the denoiser is the mean of x0 given xT, "
    "A xT, which a wrong pairing A does change.",
}

WRONG = [
    (chapter06.step_kl, lambda g, a, s, t: g * (1 / s - 1 / t), "the half is missing"),
    (chapter06.step_kl, lambda g, a, s, t: g / (2 * a * s), "not squared"),
    (chapter06.step_kl, lambda g, a, s, t: g * (t - s) / (2 * t**2), "Euler-Maruyama"),
    (chapter06.step_kl, lambda g, a, s, t: g * (1 - s / t) ** 2 / (2 * s), "lacks its factor"),
    (chapter06.step_kl, lambda g, a, s, t: (g * (1 / s - 1 / t) / 2).sum(), "wanted a tensor of shape (32,)"),
    (chapter06.alpha_loss, alpha_loss(second=False), "alpha is not used"),
    (chapter06.alpha_loss, swapped, "changed places"),
    (chapter06.alpha_loss, alpha_loss(factor=1.0), "half of what is wanted"),
    (chapter06.alpha_loss, alpha_loss(cut=False), "although detached is True"),
    (chapter06.alpha_loss, alpha_loss(keep=False), "although detached is False"),
    (chapter06.alpha_loss, alpha_loss(hold=True), "x0 itself is detached"),
    (chapter06.alpha_loss, per_element, "wanted a tensor of shape (24,)"),
    (chapter06.second_moment, lambda k: 1 / (k * (1 - k)), "it is finite"),
    (chapter06.second_moment, lambda k: torch.full_like(k, torch.inf), "multiply by the density"),
    (chapter06.second_moment, per_time(lambda k: 1 / k), "lacks its factor"),
    (chapter06.second_moment, per_time(lambda k: 1 / (1 - k)), "is 1/k, not 1"),
    (chapter06.second_moment, lambda k: 4.0, "wanted a tensor of shape (6,)"),
    (chapter06.printed, lambda new, old, data, b: path_divergence(new, data, b, weight="plain"), "left out"),
    (chapter06.printed, lambda new, old, data, b: path_divergence(old, data, b, weight="plain"), "old student"),
    (
        chapter06.printed,
        lambda new, old, data, b: (
            path_divergence(new, data, b, weight="plain") - path_divergence(old, new, b, weight="plain")
        ),
        "over the x_t of the old student",
    ),
    (
        chapter06.printed,
        lambda new, old, data, b: printed(new, old, data, b) + path_divergence(new, old, b, weight="plain") * 2,
        "added, not subtracted",
    ),
    (chapter06.printed, lambda *case: printed(*case) * torch.ones(2), "has shape (2, 2)"),
    (chapter06.printed, lambda *case: "zero", "is a list"),
    (chapter06.where, "The pairing A is invisible at T and the noise B is not, by the mean.", "is it really invisible"),
    (chapter06.where, "A wrong noise B is visible most at T, a wrong pairing A near 0, on average.", "move B"),
    (chapter06.where, "The noise B vanishes at t = 1, the pairing A does not vanish there.", "the reason is missing"),
    (chapter06.where, "Wrong noise leaves no trace at T, where the denoiser is a mean.", "where a wrong pairing A"),
    (chapter06.where, "yes", "whole sentence"),
]


test_the_chapter_has_nine_points_in_five_exercises = five_exercises(6, 9)


test_a_solution_is_accepted = accepts([*SOLUTIONS.items()])
test_a_mistake_is_named = names_mistakes(WRONG)


@pytest.mark.parametrize(
    "answer",
    [
        "Noise is invisible at T since the denoiser there is the average of x0 given xT; pairing is visible there.",
        "With A right and B wrong the density is zero at t=1: only E[x0|xT] = A xT counts at the source.",
        "Near t=1 you cannot see B because E[x0|xT] = A*xT has no B in it; A can be seen everywhere.",
        "The pairing shows up to T and the noise only towards t = 0: at T the denoiser is a conditional mean.",
    ],
)
def test_other_words_are_accepted_too(answer):
    assert _judged(chapter06.where, answer).right, _judged(chapter06.where, answer).says
