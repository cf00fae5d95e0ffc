"""Chapter 13's checks: the solution is right, and typical wrong answers are named."""

from __future__ import annotations

import pytest
import torch

from ibmd_minimal.bridges import vp
from ibmd_minimal.exercises import chapter13
from ibmd_minimal.recipes import recipe
from ibmd_minimal.runs import passes
from tests.exercises.answers import accepts, asks_kindly, five_exercises, names_mistakes


def at(bridge, sigma0, level):
    return bridge.time_at(level(sigma0**2, bridge.rho2(torch.ones_like(sigma0))))


def equal(bridge, sigma0):
    return at(bridge, sigma0, lambda v, total: v / (total + v))


def best(e, b, c):
    return b * e / (b**2 * e + c**2)


def gate(skip, out, scale, b, c, e):
    return (best(e, b, c) - skip) / (out * scale)


def share(samples, mask):
    inside = samples[:, :, mask]
    return inside.mean(2).var(0).mean() / inside.var(0).mean()


def cost(nfe, fake):
    return (nfe + 3) * fake + nfe + 6


def pays(one, two, fake, batch):
    return max(0, (one * cost(1, fake) - two * cost(2, fake)) * batch)


def masked(samples, mask):
    return samples * mask


SENTENCE = (
    "Colour and light change while the outline stays, because the drawing fixes the shape and leaves the rest to z."
)

RIGHT = [
    (chapter13.equal_time, equal),
    (chapter13.equal_time, lambda bridge, s: bridge.time_at(1 / (1 + bridge.rho2(torch.ones_like(s)) / s.square()))),
    (chapter13.best_gate, gate),
    (chapter13.best_gate, lambda skip, out, scale, b, c, e: (1 / (b + c**2 / (b * e)) - skip) / out / scale),
    (chapter13.share_of_colour, share),
    (chapter13.share_of_colour, lambda s, m: float(share(s, m))),
    (
        chapter13.share_of_colour,
        lambda s, m: (masked(s, m).sum((2, 3)) / m.sum()).var(0).mean() / (s.var(0) * m).sum() * m.sum() * 3,
    ),
    (chapter13.break_even, pays),
    (chapter13.break_even, lambda *training: float(pays(*training))),
    (chapter13.slider, SENTENCE),
    (chapter13.slider, "The paint and the shadows differ from seed to seed, the contour does not: it is given by xT."),
    (chapter13.slider, "The shape stays as the lines say; z decides the colours, which the drawing leaves open."),
]

WRONG = [
    (
        chapter13.equal_time,
        lambda bridge, s: s**2 / (bridge.rho2(torch.ones_like(s)) + s**2),
        "this is the clock u",
    ),
    (chapter13.equal_time, lambda bridge, s: at(bridge, s, lambda v, total: v**0.5 / (total + v**0.5)), "not sigma0"),
    (chapter13.equal_time, lambda bridge, s: at(bridge, s, lambda v, total: total / (total + v)), "upside down"),
    (chapter13.equal_time, lambda bridge, s: at(bridge, s, lambda v, total: v / (1 + v)), "taken as 1"),
    (chapter13.equal_time, lambda bridge, s: at(bridge, s, lambda v, total: v / total), "1 - u was dropped"),
    (chapter13.equal_time, lambda bridge, s: equal(bridge, s)[:1], "has shape (4, 1); wanted"),
    (chapter13.best_gate, lambda skip, out, scale, b, c, e: best(e, b, c), "this is k"),
    (chapter13.best_gate, lambda skip, out, scale, b, c, e: best(e, b, c) / (out * scale), "subtract it from k"),
    (chapter13.best_gate, lambda *given: -gate(*given), "sign is wrong"),
    (chapter13.best_gate, lambda skip, out, scale, b, c, e: (best(e, b, c) - skip) / out, "c_in is missing"),
    (chapter13.best_gate, lambda skip, out, scale, b, c, e: (best(e, b, c) - skip) / scale, "c_out is missing"),
    (chapter13.best_gate, lambda skip, out, scale, b, c, e: (best(e, b, c) - skip) * out * scale, "divide by it"),
    (chapter13.best_gate, lambda skip, out, scale, b, c, e: -skip / (out * scale), "shuts the gate"),
    (chapter13.best_gate, lambda skip, out, scale, b, c, e: (1 / b - skip) / (out * scale), "noise included"),
    (chapter13.best_gate, lambda skip, out, scale, b, c, e: gate(skip, out, scale, b, c, e**2), "it is the variance"),
    (
        chapter13.best_gate,
        lambda skip, out, scale, b, c, e: gate(skip, out, scale, b, c.sqrt(), e),
        "c was not squared",
    ),
    (
        chapter13.best_gate,
        lambda skip, out, scale, b, c, e: (best(e, b, c) / b - skip) / (out * scale),
        "b above the fraction",
    ),
    (
        chapter13.best_gate,
        lambda skip, out, scale, b, c, e: (b * e / (e + c**2) - skip) / (out * scale),
        "b² below the fraction",
    ),
    (chapter13.best_gate, lambda *given: gate(*given)[:3], "has shape (3,); wanted"),
    (chapter13.share_of_colour, lambda s, m: 1 / share(s, m), "upside down"),
    (chapter13.share_of_colour, lambda s, m: share(s, torch.ones_like(m)), "the mask was ignored"),
    (chapter13.share_of_colour, lambda s, m: share(s, ~m), "the wrong way round"),
    (chapter13.share_of_colour, lambda s, m: share(s, m).sqrt(), "standard deviations"),
    (chapter13.share_of_colour, lambda s, m: share(s.mean(1, keepdim=True), m), "that is grey"),
    (
        chapter13.share_of_colour,
        lambda s, m: (s[:, :, m].mean(2).var(0) / s[:, :, m].var(0).mean(1)).mean(),
        "channel by channel",
    ),
    (chapter13.share_of_colour, lambda s, m: 1 - share(s, m), "1 minus the share"),
    (
        chapter13.share_of_colour,
        lambda s, m: masked(s, m).mean((2, 3)).var(0).mean() / masked(s, m).var(0).mean(),
        "zeros outside",
    ),
    (
        chapter13.share_of_colour,
        lambda s, m: s[:, :, m].mean(2).var(0) / s[:, :, m].var(0).mean(1),
        "has shape (3,); wanted",
    ),
    (
        chapter13.break_even,
        lambda one, two, fake, batch: (one * cost(1, fake) - two * cost(2, fake)) * batch,
        "a negative number",
    ),
    (chapter13.break_even, lambda one, two, fake, batch: pays(one, two, fake, 1), "the batch is missing"),
    (chapter13.break_even, lambda one, two, fake, batch: max(0, one - two) * batch, "updates were counted"),
    (
        chapter13.break_even,
        lambda one, two, fake, batch: max(0, one - two) * cost(1, fake) * batch,
        "one pass's cost",
    ),
    (
        chapter13.break_even,
        lambda one, two, fake, batch: max(0, one - two) * cost(2, fake) * batch,
        "two passes' cost",
    ),
    (chapter13.break_even, lambda one, two, fake, batch: pays(one, two, 0, batch), "fake model's updates are missing"),
    (chapter13.break_even, lambda one, two, fake, batch: pays(one, two, 1, batch), "updated once"),
    (chapter13.break_even, lambda *training: pays(*training) / 2, "the second, not two"),
    (
        chapter13.break_even,
        lambda one, two, fake, batch: (one * cost(1, fake) + two * cost(2, fake)) * batch,
        "added instead",
    ),
    (
        chapter13.break_even,
        lambda one, two, fake, batch: pays(one, two, fake, batch) or [1.0, 2.0],
        "TypeError",
    ),
    (chapter13.slider, "The outline stays because the drawing gives it.", "what changes with z"),
    (chapter13.slider, "The colours change because they are free.", "what stays"),
    (chapter13.slider, "Colours change, outlines change as well, z decides.", "is it not where the drawing has it"),
    (chapter13.slider, "The colour stays, the shape too, because it is given.", "move z once more"),
    (
        chapter13.slider,
        "The lines move with z, the colour is always the same, because the drawing fixes it.",
        "is it not where the drawing has it",
    ),
    (
        chapter13.slider,
        "Different outlines appear for each seed while colour and light never change, since the drawing decides them.",
        "is it not where the drawing has it",
    ),
    (chapter13.slider, "The shape is fixed; colour and light never change, since both are given.", "move z once more"),
    (chapter13.slider, "Nothing changes when I move it.", "move z, not the drawing"),
    (chapter13.slider, "The colours.", "whole sentence"),
    (chapter13.slider, 4, "wanted a sentence"),
]


test_five_exercises_of_nine_points = five_exercises(13, 9)


test_accepts = accepts(RIGHT)
test_names_the_mistake = names_mistakes(WRONG)
test_what_is_missing_is_said_kindly = asks_kindly(13)


@pytest.mark.parametrize("bridge", chapter13.BRIDGES, ids=repr)
def test_noise_and_picture_are_equal_there(bridge):
    sigma0 = torch.tensor([0.1, 0.3, 0.514], dtype=torch.float64)
    _, b, c = bridge.coefficients(equal(bridge, sigma0))
    torch.testing.assert_close(c, b * sigma0)


def test_no_other_gate_has_a_smaller_error():
    t, e = torch.linspace(0.1, 0.9, 5, dtype=torch.float64), 0.24
    _, b, c = vp().coefficients(t)

    def error(k):
        return (1 - k * b).square() * e + (k * c).square()

    k = best(torch.tensor(e), b, c)
    assert bool((error(k) < error(k + 0.01)).all() and (error(k) < error(k - 0.01)).all())


def test_flat_colours_are_all_share_and_pixel_noise_hardly_any():
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(20, 3, 1, 1, generator=generator).expand(-1, -1, 8, 8)
    noise = torch.randn(400, 3, 8, 8, generator=generator)
    mask = torch.ones(8, 8, dtype=torch.bool)
    assert abs(float(share(flat, mask)) - 1) < 1e-5
    # The mean of 64 independent pixels has 1/64 of their variance; its estimate from 1,200 numbers errs by 4 %.
    assert abs(64 * float(share(noise, mask)) - 1) < 0.25


def test_the_cost_is_the_librarys():
    plan = recipe("sketch-to-image").small
    for nfe, role in ((1, "student"), (2, "student-2")):
        updates = plan.student_steps * chapter13._cost(nfe, plan.fake_steps) + (nfe + 3) * plan.fake_warmup
        assert passes(plan, role) == updates * plan.student_batch
