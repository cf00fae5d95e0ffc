"""Chapter 03's checks: the solution is right, and the usual mistakes are called by their names."""

from __future__ import annotations

import pytest
import torch

from ibmd_minimal.exercises import exercises_of
from ibmd_minimal.exercises.chapter03 import SAMPLERS
from ibmd_minimal.exercises.checking import _judged

EXERCISES = {one.number: one for one in exercises_of(3)}


def judged(number, answer):
    return _judged(EXERCISES[number], answer)


def posterior(mean=lambda a_s, a_t, r, x_t, x0: a_s / a_t * r * x_t + a_s * (1 - r) * x0,
              std=lambda a_s, p_s, p_t, r: a_s * (p_s * (1 - r)).sqrt(), ratio=None):  # fmt: skip
    def answer(alpha, rho2, xhat0, x_t, s, t):
        s, t = s[:, None], t[:, None]
        p_s, p_t = rho2(s), rho2(t)
        r = s / t if ratio == "times" else p_s / p_t
        return mean(alpha(s), alpha(t), r, x_t, xhat0), std(alpha(s), p_s, p_t, p_s / p_t)

    return answer


def dbim(kappa=lambda c, c_s, omega, eta: (c_s**2 - omega**2).sqrt() / c,
         omega=lambda std, c_s, eta: eta * std, noise=lambda omega: omega):  # fmt: skip
    def answer(bridge, xhat0, x_t, xT, s, t, eta):
        (a, b, c), (a_s, b_s, c_s) = ([one[:, None] for one in bridge.coefficients(time)] for time in (t, s))
        new = omega(bridge.posterior(xhat0, x_t, s, t)[1], c_s, eta)
        return a_s * xT + b_s * xhat0 + kappa(c, c_s, new, eta) * (x_t - a * xT - b * xhat0), noise(new)

    return answer


def grid(n, delta):
    left = delta ** (1 - torch.arange(n, dtype=torch.float64) / (n - 1))
    return torch.cat([torch.ones(1, dtype=torch.float64), 1 - left])


RIGHT = {
    "3.1": [posterior(), lambda *given: tuple(x if x.shape[1] > 1 else x[:, 0] for x in posterior()(*given))],
    "3.2": [dbim(), dbim(kappa=lambda c, c_s, omega, eta: (c_s**2 / c**2 - omega**2 / c**2).sqrt())],
    "3.3": [grid],
    "3.4": [{"posterior", "euler-maruyama", "dbim eta=1"}, ["dbim eta=1", "euler-maruyama", "posterior"]],
    "3.5": [
        "At eta 1 every step adds noise and the paths are jagged; at eta 0 they are smooth, and part only in the first "
        "step off T, a posterior step, the only one that adds noise.",
        "The paths are smooth curves with eta 0 but wiggle with eta 1. At eta 0 they part when leaving T.",
        "At eta 0 the paths are smooth and fan out right at the start; with eta 1 they are rough because noise is "
        "added in every step.",
        "Paths at eta=0 are less jagged than at eta=1; they separate in the very first step.",
        "With η = 1 the paths are no longer smooth, each step adds noise. At η = 0 they part at the beginning.",
        "Straighter at eta = 0 (all randomness enters in the first step), zigzag at eta = 1.",
    ],
}


@pytest.mark.parametrize("number, answer", [(number, one) for number, all_ in RIGHT.items() for one in all_])
def test_right_answers_are_right(number, answer):
    found = judged(number, answer)
    assert found.right, found.says


def shifted(answer, mean=0.0):
    def wrong(*given):
        found = answer(*given)
        return found[0] + mean, found[1]

    return wrong


WRONG = [
    ("3.1", posterior(mean=lambda a_s, a_t, r, x_t, x0: r * x_t + (1 - r) * x0), "alpha is missing"),
    ("3.1", posterior(mean=lambda a_s, a_t, r, x_t, x0: r * x_t + a_s * (1 - r) * x0), "missing before x_t"),
    ("3.1", posterior(mean=lambda a_s, a_t, r, x_t, x0: a_s / a_t * r * x_t + (1 - r) * x0), "missing before xhat0"),
    ("3.1", posterior(ratio="times"), "ratio of times s/t"),
    ("3.1", posterior(std=lambda a_s, p_s, p_t, r: a_s**2 * p_s * (1 - r)), "the variance, not the standard deviation"),
    ("3.1", posterior(std=lambda a_s, p_s, p_t, r: (p_s * (1 - r)).sqrt()), "alpha_s is missing in the standard dev"),
    ("3.1", posterior(std=lambda a_s, p_s, p_t, r: a_s * p_s.sqrt()), "without the pin"),
    ("3.1", shifted(posterior(), 0.1), "the mean is off by"),
    ("3.1", lambda alpha, rho2, xhat0, x_t, s, t: x_t, "returns a Tensor; wanted a pair"),
    ("3.1", lambda *given: (posterior()(*given)[0][:, 0], posterior()(*given)[1]), "the mean has shape (8,)"),
    ("3.2", dbim(kappa=lambda c, c_s, omega, eta: c_s / c), "kappa is c_s/c_t for every eta"),
    ("3.2", dbim(omega=lambda std, c_s, eta: eta * c_s), "omega is eta times the posterior"),
    ("3.2", dbim(noise=lambda omega: omega**2), "the variance omega², not omega"),
    ("3.2", dbim(kappa=lambda c, c_s, omega, eta: (c_s**2 - omega**2).sqrt()), "not divided by c_t"),
    ("3.2", dbim(kappa=lambda c, c_s, omega, eta: (c_s**2 - omega**2) / c**2), "a root is missing"),
    ("3.2", dbim(kappa=lambda c, c_s, omega, eta: 0 * c), "the shared noise is left out"),
    ("3.2", lambda bridge, xhat0, x_t, xT, s, t, eta: bridge.posterior(xhat0, x_t, s, t), "posterior's for every eta"),
    ("3.2", dbim(noise=lambda omega: omega.sum()), "the standard deviation has shape ()"),
    ("3.2", lambda *given: (*dbim()(*given), 0), "returns 3 values; wanted a pair"),
    ("3.3", lambda n, delta: torch.linspace(1, 0, n + 1, dtype=torch.float64), "the grid is uniform"),
    ("3.3", lambda n, delta: grid(n, delta).flip(0), "the times run upwards"),
    ("3.3", lambda n, delta: 1 - grid(n, delta), "you return T - t"),
    ("3.3", lambda n, delta: grid(n, delta)[1:], "the first time, 1, is missing"),
    ("3.3", lambda n, delta: torch.cat([delta ** (torch.arange(n).double() / (n - 1)), torch.zeros(1)]),
     "T - t that should"),
    ("3.3", lambda n, delta: torch.cat([torch.ones(1), 1 - delta ** (1 - torch.arange(n).double() / n)]),
     "n - 1 lead from delta to 1"),
    ("3.3", grid(6, 0.01), "wanted the function itself"),
    ("3.3", lambda n, delta: list(grid(n, delta)), "wanted a tensor of shape (7,)"),
    ("3.4", set(SAMPLERS), "ode-heun follows the score"),
    ("3.4", {"posterior", "euler-maruyama", "dbim eta=1", "dbim eta=0.5"}, "only at eta 1 does xT drop out"),
    ("3.4", {"posterior", "euler-maruyama"}, "What is DBIM at eta 1?"),
    ("3.4", {"posterior", "dbim eta=1"}, "euler-maruyama is missing"),
    ("3.4", {"posterior", "heun"}, "'heun' is none of the samplers"),
    ("3.4", "posterior", "is a str; wanted a set"),
    ("3.5", "At eta 0 the paths are jagged, and they part in the first step.", "the other way round"),
    ("3.5", "The paths are smoother at eta 1 than at eta 0; they part at the start.", "the other way round"),
    ("3.5", "Paths at eta 1 are less jagged; all part in the first step.", "the other way round"),
    ("3.5", "At eta 0 the paths are smooth and never part.", "end in different clusters"),
    ("3.5", "At eta 0 they are smooth and part in the last step.", "look at the beginning"),
    ("3.5", "At eta 0 the paths are smooth, at eta 1 they are jagged.", "in which step"),
    ("3.5", "They part in the first step off T.", "which are smooth"),
    ("3.5", "smooth, first", "a whole sentence"),
    ("3.5", 3, "wanted a sentence"),
]  # fmt: skip


@pytest.mark.parametrize("number, answer, says", WRONG)
def test_wrong_answers_are_named(number, answer, says):
    found = judged(number, answer)
    assert not found.right and says in found.says, found.says


def test_the_chapter_is_worth_ten_points():
    assert list(EXERCISES) == ["3.1", "3.2", "3.3", "3.4", "3.5"]
    assert sum(one.points for one in EXERCISES.values()) == 10


@pytest.mark.parametrize("number", EXERCISES)
def test_an_open_exercise_is_kindly_asked_for(number):
    def stub(*given):
        raise NotImplementedError(f"exercise {number}: a pair")

    assert "still to be written" in judged(number, ...).says
    assert "still to be written" in judged(number, stub).says or number in ("3.4", "3.5")
