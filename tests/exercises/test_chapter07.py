"""Chapter 07's checks: the solution is right, and typical wrong answers are named."""

from __future__ import annotations

import torch

from ibmd_minimal.exercises import chapter07
from tests.exercises.answers import accepts, five_exercises, names_mistakes


def both(teacher, fake, x0, x_t, t, weight, hold=True, through_x_t=True, through_x0=True):
    """The solution, and with its switches the mistakes in its gradients."""
    held, seen = (x0.detach(), x_t.detach()) if hold else (x0, x_t)
    of_fake = weight * (fake(seen, t) - held).square().sum(1)
    x_t = x_t if through_x_t else x_t.detach()
    x0 = x0 if through_x0 else x0.detach()
    r, f = teacher(x_t, t) - x0, fake(x_t, t) - x0
    return of_fake.mean(), (weight * (r.square() - f.square()).sum(1)).mean()


def changed(change):
    return lambda *given: change(*both(*given))


def nothing_left(*given):
    with torch.no_grad():
        student = both(*given)[1]
    return both(*given)[0], student


def fake_held(*given):
    of_fake, of_student = both(*given)
    return of_fake.detach(), of_student


def unweighted(teacher, fake, x0, x_t, t, weight):
    return both(teacher, fake, x0, x_t, t, torch.ones_like(weight))


def without_f(teacher, fake, x0, x_t, t, weight):
    own = both(teacher, fake, x0, x_t, t, weight)
    return own[0], own[0] + own[1]


def gap(samples, single):
    noise = samples.var(0).sum(1).mean() / len(samples)
    return (samples.mean(0) - single).square().sum(1).mean() - noise


def raw(samples, single):
    return (samples.mean(0) - single).square().sum(1).mean()


def cost(steps, fake_steps, fake_warmup, detached, fake=4, full=7, short=5):
    return fake * (fake_warmup + steps * fake_steps) + (short if detached else full) * steps


def costing(**numbers):
    return lambda *given: cost(*given, **numbers)


TABLE = dict(chapter07.RUNS)
MEANS = (
    "The teacher's one pass is the mean of all x0 behind its xT; the student adds noise z and gives one sample of them."
)

RIGHT = [
    (chapter07.losses, both),
    (chapter07.losses, changed(lambda fake, student: [fake, student])),
    (chapter07.mean_gap, gap),
    (chapter07.mean_gap, lambda samples, single: float(gap(samples, single))),
    (chapter07.diagnoses, TABLE),
    (chapter07.diagnoses, {run: name.upper() for run, name in TABLE.items()}),
    (chapter07.cost, cost),
    (chapter07.one_pass, MEANS),
    (chapter07.one_pass, "It is E[x0 | xT], an average over eight clusters, and only the student is given random z."),
]

WRONG = [
    (chapter07.losses, lambda *given: both(*given, hold=False), "reaches the student"),
    (chapter07.losses, lambda *given: both(*given, through_x_t=False), "x_t was detached"),
    (chapter07.losses, lambda *given: both(*given, through_x0=False), "x0 was detached"),
    (chapter07.losses, nothing_left, "nothing of the student's loss reaches the student"),
    (chapter07.losses, fake_held, "does not reach the fake's weights"),
    (chapter07.losses, changed(lambda fake, student: (fake, -student)), "wrong sign"),
    (chapter07.losses, changed(lambda fake, student: (student, fake)), "the other order"),
    (chapter07.losses, changed(lambda fake, student: (fake / 2, student / 2)), "over the coordinates too"),
    (chapter07.losses, changed(lambda fake, student: (16 * fake, 16 * student)), "over the batch"),
    (chapter07.losses, unweighted, "weight was left out"),
    (chapter07.losses, without_f, "lacks -|f|²"),
    (chapter07.losses, changed(lambda fake, student: fake), "wanted two losses"),
    (chapter07.losses, changed(lambda fake, student: (fake.reshape(1), student)), "shapes (1,) and ()"),
    (chapter07.mean_gap, raw, "noise of the mean over 6 draws is still in it"),
    (chapter07.mean_gap, lambda g, s: raw(g, s) - g.var(0).sum(1).mean(), "the whole variance"),
    (chapter07.mean_gap, lambda g, s: raw(g, s) - g.var(0, unbiased=False).sum(1).mean() / 6, "not n - 1"),
    (chapter07.mean_gap, lambda g, s: raw(g, s) + g.var(0).sum(1).mean() / 6, "added"),
    (chapter07.mean_gap, lambda g, s: gap(g, s) / 2, "over the coordinates too"),
    (chapter07.mean_gap, lambda g, s: (g - s).square().sum(-1).mean(), "the mean over z comes before the square"),
    (chapter07.mean_gap, lambda g, s: (g.mean(0) - s).square().sum(1), "shape (40,)"),
    (chapter07.diagnoses, TABLE | {"P": "weight near T only"}, "next to nothing from the first update"),
    (chapter07.diagnoses, TABLE | {"Q": "weight near T only", "S": "no noise input"}, "2 of 4"),
    (chapter07.diagnoses, TABLE | {"R": "path-KL weight"}, "the weight must be the same"),
    (chapter07.diagnoses, TABLE | {"S": "fake too slow"}, "small t"),
    (chapter07.diagnoses, TABLE | {"S": "bad luck"}, "not on the list"),
    (chapter07.diagnoses, list(TABLE.values()), "wanted a dictionary"),
    (chapter07.cost, costing(fake=3), "student's forward pass was left out"),
    (chapter07.cost, costing(fake=6), "held fixed"),
    (chapter07.cost, costing(full=9), "both are frozen"),
    (chapter07.cost, costing(short=7), "pass nothing on in the detached path"),
    (chapter07.cost, costing(full=5), "the full path leads through them"),
    (chapter07.cost, lambda s, k, w, d: cost(s, k, 0, d), "warm-up was left out"),
    (chapter07.cost, lambda s, k, w, d: cost(s, k, w * s, d), "it comes once"),
    (chapter07.cost, costing(full=6, short=4), "teacher's forward pass"),
    (chapter07.cost, lambda s, k, w, d: torch.ones(2), "scalar"),
    (chapter07.one_pass, "The student has noise z and the other one has none of it.", "teacher's single pass computes"),
    (chapter07.one_pass, "The teacher's single step is a mean, the student's step is better.", "besides xT"),
    (chapter07.one_pass, "The teacher is under-trained, its mean is off and it lacks noise.", "a perfect teacher"),
    (chapter07.one_pass, "A mean.", "whole sentence"),
]


test_five_exercises_of_nine_points = five_exercises(7, 9)


test_accepts = accepts(RIGHT)
test_names_the_mistake = names_mistakes(WRONG)


def test_an_unbiased_gap_is_zero_on_average_for_an_exact_student():
    dice = torch.Generator().manual_seed(0)
    found = [gap(torch.randn(4, 50, 2, generator=dice), torch.zeros(50, 2)) for _ in range(400)]
    found = torch.tensor(found)
    assert abs(float(found.mean())) < 4 * float(found.std()) / 20
