"""Chapter 05's checks: the solution is right, and typical wrong answers are named."""

from __future__ import annotations

import math

import torch

from ibmd_minimal.exercises import chapter05
from ibmd_minimal.exercises.checking import exercises_of
from tests.exercises.answers import accepts, names_mistakes


def one_time(k, h, a, b, c):
    return (h + a * k) / (1 - b * k), k * c**2 / (b * (1 - b * k))


def only_R(change):
    return lambda k, h, a, b, c: (one_time(k, h, a, b, c)[0], change(k, a, b, c))


def only_B(change):
    return lambda k, h, a, b, c: (change(k, h, a, b), one_time(k, h, a, b, c)[1])


def signs(xT, generator=None, share=0.5):
    return torch.where(torch.rand(len(xT), 1, generator=generator) < share, 1.0, -1.0).double()


def turn(xT):
    return torch.stack([-xT[:, 1], xT[:, 0]], 1)


def coupling_A(xT, generator):
    return signs(xT, generator) * turn(xT)


def coupling_B(xT, generator):
    return torch.randn(xT.shape, generator=generator, dtype=xT.dtype)


def either(xT, generator):
    return torch.where(signs(xT, generator) > 0, coupling_A(xT, generator), coupling_B(xT, generator))


def both(xT, generator):
    return 0.6 * coupling_A(xT, generator) + 0.8 * coupling_B(xT, generator)


def by_region(xT, generator):
    """A quarter turn for sources that another independent coin picks, noise from the global generator."""
    return torch.where(torch.rand(len(xT), 1) < 0.3, coupling_A(xT, None), torch.randn_like(xT))


def any_angle(xT, generator):
    angle = 2 * math.pi * torch.rand(len(xT), 1, generator=generator, dtype=xT.dtype)
    return angle.cos() * xT + angle.sin() * turn(xT)


def sixty(xT, generator):
    return 0.5 * xT + 0.75**0.5 * coupling_A(xT, generator)


RIGHT = [
    (chapter05.from_one_time, one_time),
    (chapter05.from_one_time, lambda *gains: list(one_time(*gains))),
    (chapter05.shared_correlation, torch.cos),
    (chapter05.third_coupling, either),
    (chapter05.third_coupling, both),
    (chapter05.third_coupling, by_region),
    (chapter05.error_of_average, lambda n, e: (1 + 1 / n) * e),
    (
        chapter05.pairings,
        "As epsilon goes to 0 the teacher's process becomes a deterministic transport that keeps the order (correlation"
        " 1), as epsilon grows it forgets its start; the student's pairing stays the data's, -0.8.",
    ),
    (
        chapter05.pairings,
        "With a small epsilon the teacher's correlation tends to 1, with a large one its pairs become independent, "
        "because it adds noise all the way. The student doesn't change at all.",
    ),
    (
        chapter05.pairings,
        "The teacher goes from order-preserving at small epsilon to losing the pairing at large epsilon, whereas the "
        "student always has correlation -0.8.",
    ),
]

WRONG = [
    (chapter05.from_one_time, only_B(lambda k, h, a, b: h), "x_t carries xT as well"),
    (chapter05.from_one_time, only_B(lambda k, h, a, b: h + a * k), "b B was left out"),
    (chapter05.from_one_time, only_B(lambda k, h, a, b: h / (1 - b * k)), "a was left out"),
    (chapter05.from_one_time, only_B(lambda k, h, a, b: (h - a * k) / (1 - b * k)), "the sign of a k is wrong"),
    (chapter05.from_one_time, only_R(lambda k, a, b, c: k * c / (b * (1 - b * k))), "not as its variance"),
    (chapter05.from_one_time, only_R(lambda k, a, b, c: k * c**2 / b), "b² R in the variance"),
    (chapter05.from_one_time, only_R(lambda k, a, b, c: k * c**2 / (1 - b * k)), "one factor b is missing"),
    (chapter05.from_one_time, lambda *gains: one_time(*gains)[::-1], "the other order"),
    (chapter05.from_one_time, lambda *gains: one_time(*gains)[0], "wanted two tensors"),
    (chapter05.from_one_time, lambda *gains: [x[:3] for x in one_time(*gains)], "has shape (3,)"),
    (chapter05.shared_correlation, torch.zeros_like, "every angle was taken for 90 degrees"),
    (chapter05.shared_correlation, torch.sin, "sine and cosine are exchanged"),
    (chapter05.shared_correlation, lambda theta: theta.cos().abs(), "the sign is lost"),
    (chapter05.shared_correlation, lambda theta: theta.cos() + theta.sin(), "not averaged over"),
    (chapter05.shared_correlation, lambda theta: torch.deg2rad(theta).cos(), "in degrees"),
    (chapter05.shared_correlation, lambda theta: theta.cos()[:2], "has shape (2,)"),
    (chapter05.third_coupling, coupling_A, "it is coupling A"),
    (chapter05.third_coupling, coupling_B, "it is coupling B"),
    (chapter05.third_coupling, any_angle, "x_t is not Gaussian"),
    (chapter05.third_coupling, lambda xT, generator: signs(xT, generator) * xT, "x_t is not Gaussian"),
    (chapter05.third_coupling, sixty, "E[x0 | xT] is not 0"),
    (chapter05.third_coupling, lambda xT, generator: turn(xT), "E[x0 | xT] is not 0"),
    (chapter05.third_coupling, lambda xT, g: (coupling_A(xT, g) + coupling_B(xT, g)) / 2, "does not have covariance I"),
    (chapter05.third_coupling, lambda xT, generator: xT[:, 0], "has shape (64000,)"),
    (chapter05.error_of_average, lambda n, e: e / n, "the truth's own distance"),
    (chapter05.error_of_average, lambda n, e: e + 0 * n, "taken for the mean itself"),
    (chapter05.error_of_average, lambda n, e: 2 * e / n, "there is only one truth"),
    (chapter05.error_of_average, lambda n, e: e + e / n.sqrt(), "like sqrt(n)"),
    (chapter05.error_of_average, lambda n, e: (e.sqrt() + (e / n).sqrt()) ** 2, "standard deviations were added"),
    (chapter05.error_of_average, lambda n, e: (e + e / n).sum(), "has shape ()"),
    (
        chapter05.pairings,
        "As epsilon goes to 0 the teacher keeps the order, as it grows both forget their start, also the student.",
        "look at the middle panel",
    ),
    (
        chapter05.pairings,
        "As epsilon grows the teacher's process becomes deterministic; the student stays and forgets nothing, as data.",
        "the other way round",
    ),
    (
        chapter05.pairings,
        "As epsilon goes to 0 the teacher keeps the order and as it grows it forgets its start.",
        "the student's pairing too",
    ),
    (chapter05.pairings, 0.8, "wanted a sentence"),
]


test_a_right_answer_is_accepted = accepts(RIGHT)
test_a_wrong_answer_is_named = names_mistakes(WRONG)


def test_the_third_coupling_is_judged_alike_every_time():
    state = torch.random.get_rng_state()
    says = [chapter05.third_coupling.judge(by_region).says for _ in range(2)]
    assert says[0] == says[1]
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_chapter_is_worth_ten_points():
    assert [one.points for one in exercises_of(5)] == [2, 2, 3, 2, 1]
