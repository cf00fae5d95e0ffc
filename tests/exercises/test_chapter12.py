"""Chapter 12's checks: the solution is right, and typical wrong answers are named."""

from __future__ import annotations

import torch

from ibmd_minimal.exercises import chapter12
from tests.exercises.answers import accepts, asks_kindly, five_exercises, names_mistakes


def guess(prior=0.5, exponent=1.0, power=2, with_b=True):
    """The guess for a pixel of two values, right by default, or with one slip."""

    def answer(x_t, b, c, p):
        seen = exponent * (b if with_b else 1) * x_t / c**power
        return torch.tanh(seen + prior * (p / (1 - p)).log())

    return answer


def shares(e):
    return torch.cat([e[:-1] - e[1:], e[-1:]]) / e[0]


RIGHT = {
    "conditional, noise, posterior steps": True,
    "conditional, noise, NFE 1": False,
    "conditional, no noise, hole of 0": False,
    "conditional, no noise, hole of fresh noise": False,
    "unconditional, no noise, hole of 0": False,
    "unconditional, no noise, hole of fresh noise": True,
}
SENTENCE = (
    "They differ most in the middle of the hole, far from any visible pixel, and least at its rim and in thin strokes, "
    "because visible neighbours nearly determine what is next to them."
)

ACCEPTED = [
    (chapter12.in_the_hole, lambda psnr, share: psnr + 10 * share.log10()),
    (chapter12.black_or_white, guess()),
    (
        chapter12.black_or_white,
        lambda x, b, c, p: 2 * torch.sigmoid(2 * b * x / c**2 + (p / (1 - p)).log()) - 1,
    ),
    (chapter12.decided_where, shares),
    (chapter12.different, RIGHT),
    (chapter12.slider, SENTENCE),
    (chapter12.slider, "Most in the centre, hardly at the border: there the known pixels tell what has to come."),
    (
        chapter12.slider,
        "Deep inside they vary, close to the edge they agree, as the distance to what is seen is small.",
    ),
]

REFUSED = [
    (chapter12.in_the_hole, lambda psnr, share: psnr - 10 * share.log10(), "the sign is wrong"),
    (chapter12.in_the_hole, lambda psnr, share: psnr + 20 * share.log10(), "20 is for its root"),
    (chapter12.in_the_hole, lambda psnr, share: psnr + 10 * share.log(), "to base 10"),
    (chapter12.in_the_hole, lambda psnr, share: psnr / share, "divide the mean square"),
    (chapter12.in_the_hole, lambda psnr, share: psnr * share, "multiplies the decibels"),
    (chapter12.in_the_hole, lambda psnr, share: psnr + 10 * (1 - share).log10(), "1 - share is visible"),
    (chapter12.in_the_hole, lambda psnr, share: psnr, "the whole pictures' PSNRs"),
    (chapter12.in_the_hole, lambda psnr, share: (psnr + 10 * share.log10())[:, None], "has shape (8, 1)"),
    (chapter12.black_or_white, guess(prior=0.0), "p is missing"),
    (chapter12.black_or_white, guess(prior=1.0), "a factor of 1/2"),
    (chapter12.black_or_white, guess(prior=-0.5), "the wrong way round"),
    (chapter12.black_or_white, guess(exponent=2.0), "tanh takes half of that"),
    (chapter12.black_or_white, guess(exponent=0.5), "not a quarter"),
    (chapter12.black_or_white, guess(power=1), "not over c"),
    (chapter12.black_or_white, guess(with_b=False), "b is missing"),
    (
        chapter12.black_or_white,
        lambda x, b, c, p: torch.sigmoid(2 * b * x / c**2 + (p / (1 - p)).log()),
        "the probability of white",
    ),
    (chapter12.black_or_white, lambda x, b, c, p: x / b, "without noise"),
    (chapter12.black_or_white, lambda x, b, c, p: 2 * p - 1, "before x_t was seen"),
    (chapter12.black_or_white, lambda *given: guess()(*given)[:, None], "has shape (12, 1)"),
    (chapter12.decided_where, lambda e: shares(e) * e[0], "these are the amounts"),
    (chapter12.decided_where, lambda e: shares(e).flip(0), "the first time comes first"),
    (chapter12.decided_where, lambda e: e / e[0], "what is left at each time"),
    (chapter12.decided_where, lambda e: shares(e.sqrt()), "not their roots"),
    (chapter12.decided_where, lambda e: shares(e) * e[0] / e, "divide all by e(T)"),
    (chapter12.decided_where, lambda e: shares(e).cumsum(0), "wanted the parts"),
    (chapter12.decided_where, lambda e: -shares(e) + 2 * torch.cat([0 * e[:-1], e[-1:]]) / e[0], "e falls"),
    (chapter12.decided_where, lambda e: shares(e)[:-1], "the last share is missing"),
    (chapter12.decided_where, lambda e: shares(e)[None], "has shape (1, 4)"),
    (
        chapter12.decided_where,
        lambda e: shares(torch.tensor([0.31, 0.24, 0.13, 0.05], dtype=torch.float64)),
        "of two passes",
    ),
    (chapter12.different, RIGHT | {"conditional, noise, NFE 1": True}, "E[x0 | xT], one picture"),
    (chapter12.different, RIGHT | {"conditional, no noise, hole of fresh noise": True}, "(1) holds for any xT"),
    (chapter12.different, RIGHT | {"unconditional, no noise, hole of 0": True}, "a single end"),
    (chapter12.different, RIGHT | {"unconditional, no noise, hole of fresh noise": False}, "another start"),
    (chapter12.different, RIGHT | {"conditional, noise, NFE 1": "no"}, "True or False"),
    (chapter12.different, {"conditional, noise, NFE 1": False}, "the 6 keys"),
    (chapter12.different, [True, False], "wanted a dictionary"),
    (chapter12.slider, "They differ most at the rim and hardly in the middle, far from visible ones.", "look at"),
    (chapter12.slider, "They differ in the middle because nothing visible determines it.", "differ least"),
    (chapter12.slider, "They vary a lot in the middle and hardly at all at the rim.", "say why"),
    (
        chapter12.slider,
        "They differ most close to the visible pixels and least deep inside, because the network knows those.",
        "where is it light",
    ),
    (
        chapter12.slider,
        "Fillings differ most next to the visible pixels, because their variance is largest there, and least inside.",
        "where is it light",
    ),
    (
        chapter12.slider,
        "At the border they vary a lot; deep inside they are nearly equal, because the surroundings constrain it.",
        "where is it dark",
    ),
    (chapter12.slider, "They differ.", "a whole sentence"),
    (chapter12.slider, 3, "wanted a sentence"),
]


test_right_answers_are_accepted = accepts(ACCEPTED)
test_wrong_answers_are_refused_and_named = names_mistakes(REFUSED)
test_what_is_missing_is_said_kindly = asks_kindly(12)


test_the_points_of_the_chapter = five_exercises(12, 9)


def test_the_guess_of_a_pixel_is_bayes_rule():
    """The closed form against two normal densities, not against itself."""
    x, b, c, p = (torch.tensor([value], dtype=torch.float64) for value in (0.3, 0.6, 0.7, 0.2))
    density = torch.distributions.Normal(0, c)
    white, black = (density.log_prob(x - sign * b).exp() * odds for sign, odds in ((1, p), (-1, 1 - p)))
    assert torch.allclose(chapter12._two_values(x, b, c, p), (white - black) / (white + black))


def test_the_shares_add_up():
    e = torch.tensor([0.4, 0.3, 0.1], dtype=torch.float64)
    assert torch.allclose(chapter12._shares(e), torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64))
