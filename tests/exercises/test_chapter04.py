"""Chapter 04's checks: the solution is right, and typical wrong answers are named."""

from __future__ import annotations

import math

import torch

from ibmd_minimal.exercises import chapter04
from ibmd_minimal.exercises.checking import _judged, exercises_of
from tests.exercises.answers import accepts, names_mistakes


def posterior(centre=None, masked=True, w=None, scale=None, power=2):
    """A reader's answer to 4.1, with one thing changed."""

    def answer(x_t, xT, atoms0, atomsT, weights, a, b, c):
        middle = a * xT[:, None] + b * atoms0 if centre is None else centre(xT, atoms0, atomsT, a, b)
        distance = (x_t[:, None] - middle).norm(dim=-1) ** power
        logits = (weights if w is None else w(weights)).log() - distance / (2 * c**2 if scale is None else scale(c))
        other = (xT[:, None] != atomsT).any(-1)
        return torch.softmax(logits.masked_fill(other, -math.inf) if masked else logits, dim=1)

    return answer


def not_normalised(x_t, xT, atoms0, atomsT, weights, a, b, c):
    squares = (x_t[:, None] - a * xT[:, None] - b * atoms0).square().sum(-1)
    return weights * torch.exp(-squares / (2 * c**2)) * (xT[:, None] == atomsT).all(-1)


def covariance(C, V0, VT, epsilon, s, first=None, k=None, cross=1.0, noise=1.0):
    variance = s**2 * VT + cross * 2 * s * (1 - s) * C + (1 - s) ** 2 * V0 + noise * epsilon * s * (1 - s)
    first = s + (1 - s) * C / VT if first is None else first
    return VT * first * ((s * C + (1 - s) * V0) / variance if k is None else k)


def scored(score, x_t, xT, a, b, c):
    return (x_t - a * xT + c**2 * score) / b, -c * score


KINDS = {name: kind for name, (kind, _) in chapter04.TASKS.items()}
SENTENCE = (
    "With the quarter turn the wrong ends vanish as epsilon goes to 0, because the bridges cross in place but never at "
    "the same time; opposite partners stay wrong, as all bridges meet in the centre at t = 1/2."
)

RIGHT = [
    (chapter04.conditional_posterior, posterior()),
    (chapter04.two_pass_covariance, covariance),
    (chapter04.from_score, scored),
    (chapter04.from_score, lambda *given: list(scored(*given))),
    (chapter04.which_kind, KINDS),
    (chapter04.which_kind, {name: f" {kind.upper()} " for name, kind in KINDS.items()}),
    (chapter04.who_meets, SENTENCE),
    (
        chapter04.who_meets,
        "Small epsilon does not help for opposite pairs, since all twelve walks collide in the origin; for a quarter "
        "turn fewer and fewer end wrong, down to none.",
    ),
    (
        chapter04.who_meets,
        "Quarter turn: the share drops from about 90% to 0, its bridges aren't at one place simultaneously. Opposite:"
        " it remains near 95%, they are all in the middle half way.",
    ),
    (chapter04.who_meets, "The opposite partners are not kept, they meet at the centre; the quarter turn's are kept."),
]

WRONG = [
    (
        chapter04.conditional_posterior,
        posterior(lambda xT, atoms0, atomsT, a, b: a * atomsT + b * atoms0, masked=False),
        "all pairs share: this is the unconditional posterior",
    ),
    (chapter04.conditional_posterior, posterior(masked=False), "only placed at the given xT"),
    (chapter04.conditional_posterior, posterior(w=torch.ones_like), "the weights were forgotten"),
    (
        chapter04.conditional_posterior,
        posterior(lambda xT, atoms0, atomsT, a, b: b * atoms0[None]),
        "a xT is missing",
    ),
    (
        chapter04.conditional_posterior,
        posterior(lambda xT, atoms0, atomsT, a, b: a * xT[:, None] + atoms0),
        "b is missing",
    ),
    (chapter04.conditional_posterior, posterior(scale=lambda c: 2 * c), "not as its variance c²"),
    (chapter04.conditional_posterior, posterior(scale=lambda c: c**2), "the factor 2"),
    (chapter04.conditional_posterior, posterior(power=1), "was not squared"),
    (chapter04.conditional_posterior, posterior(scale=lambda c: 1e12), "x_t was not looked at"),
    (chapter04.conditional_posterior, not_normalised, "not normalised"),
    (chapter04.conditional_posterior, lambda *g: not_normalised(*g) / not_normalised(*g).sum(0), "over the batch"),
    (chapter04.conditional_posterior, lambda *given: posterior()(*given)[:, 0], "has shape (10,)"),
    (chapter04.conditional_posterior, 0.5, "wanted the function"),
    (chapter04.two_pass_covariance, lambda C, V0, VT, epsilon, s: C, "what a conditional denoiser keeps"),
    (
        chapter04.two_pass_covariance,
        lambda C, V0, VT, epsilon, s: covariance(C, V0, VT, epsilon, s) / VT,
        "it is a regression slope",
    ),
    (
        chapter04.two_pass_covariance,
        lambda C, V0, VT, epsilon, s: covariance(C, V0, VT, epsilon, s) / (V0 * VT).sqrt(),
        "it is a correlation",
    ),
    (
        chapter04.two_pass_covariance,
        lambda C, V0, VT, epsilon, s: covariance(C, V0, VT, epsilon, s, first=1.0),
        "taken for x_T itself",
    ),
    (
        chapter04.two_pass_covariance,
        lambda C, V0, VT, epsilon, s: covariance(C, V0, VT, epsilon, s, k=1.0),
        "only the first pass",
    ),
    (
        chapter04.two_pass_covariance,
        lambda C, V0, VT, epsilon, s: covariance(C, V0, VT, epsilon, s, first=s + (1 - s) * C),
        "k_1 was taken for C",
    ),
    (
        chapter04.two_pass_covariance,
        lambda C, V0, VT, epsilon, s: covariance(C, V0, VT, epsilon, s, noise=0.0),
        "the noise epsilon s (1 - s) is missing",
    ),
    (
        chapter04.two_pass_covariance,
        lambda C, V0, VT, epsilon, s: covariance(C, V0, VT, epsilon, s, cross=0.0),
        "the term 2 a b C is missing",
    ),
    (chapter04.two_pass_covariance, lambda *given: covariance(*given)[:3], "has shape (3,)"),
    (chapter04.two_pass_covariance, torch.ones(12), "wanted the function"),
    (chapter04.from_score, lambda *given: scored(*given)[::-1], "the other order"),
    (
        chapter04.from_score,
        lambda score, x_t, xT, a, b, c: ((x_t - a * xT - c**2 * score) / b, -c * score),
        "the sign of the score is wrong",
    ),
    (chapter04.from_score, lambda score, x_t, xT, a, b, c: ((x_t + c**2 * score) / b, -c * score), "a xT is missing"),
    (
        chapter04.from_score,
        lambda score, x_t, xT, a, b, c: ((x_t - a * xT + c * score) / b, -c * score),
        "not as its variance c²",
    ),
    (chapter04.from_score, lambda score, *rest: (scored(score, *rest)[0], rest[-1] * score), "against the noise"),
    (chapter04.from_score, lambda score, *rest: (scored(score, *rest)[0], -score), "a factor c is missing"),
    (chapter04.from_score, lambda *given: scored(*given)[0], "wanted two tensors"),
    (chapter04.from_score, lambda *given: (scored(*given)[0][:, 0], scored(*given)[1]), "has shape (8,)"),
    (chapter04.from_score, None, "still to be written"),
    (chapter04.which_kind, KINDS | {"sketch to photograph": "unconditional"}, "many photographs fit a sketch"),
    (chapter04.which_kind, KINDS | {"a bridge without noise": "conditional"}, "can solve for x0"),
    (chapter04.which_kind, KINDS | {"sampling with DBIM, eta 0": "unconditional"}, "follows the score"),
    (chapter04.which_kind, dict.fromkeys(KINDS, "conditional"), "3 of the five"),
    (chapter04.which_kind, KINDS | {"a sketch": "conditional"}, "none of the tasks"),
    (chapter04.which_kind, {"sketch to photograph": "conditional"}, "is missing"),
    (chapter04.which_kind, KINDS | {"a bridge without noise": 1}, "wanted 'conditional' or 'unconditional'"),
    (chapter04.which_kind, ["conditional"], "wanted a dictionary"),
    (
        chapter04.who_meets,
        "Both become right: opposite partners are kept at small epsilon, and those of the quarter turn too, t = 1/2.",
        "look at the opposite partners",
    ),
    (
        chapter04.who_meets,
        "The quarter turn stays wrong and the opposite ones meet in the centre at small epsilon.",
        "look at the quarter turn",
    ),
    (
        chapter04.who_meets,
        "With larger epsilon fewer wrong ends; opposite and quarter turn both meet in the middle.",
        "the other way round",
    ),
    (
        chapter04.who_meets,
        "For the quarter turn the bridges never cross, opposite ones meet in the centre.",
        "do they pass the crossing at the same time",
    ),
    (chapter04.who_meets, "With the quarter turn they vanish, opposite partners stay wrong.", "say why"),
    (chapter04.who_meets, "The opposite walks all meet in the centre at once.", "the quarter turn"),
    (chapter04.who_meets, 3, "wanted a sentence"),
]


test_a_right_answer_is_accepted = accepts(RIGHT)
test_a_wrong_answer_is_named = names_mistakes(WRONG)


def test_every_solution_of_the_text_may_need_gradients():
    found = _judged(chapter04.two_pass_covariance, lambda *given: covariance(*given).requires_grad_())
    assert found.right, found.says


def test_the_chapter_is_worth_ten_points():
    assert [one.points for one in exercises_of(4)] == [3, 2, 2, 2, 1]
