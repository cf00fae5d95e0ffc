"""Chapter 08's checks: the solution is right, and typical wrong answers are named."""

from __future__ import annotations

from ibmd_minimal.exercises import chapter08
from ibmd_minimal.exercises.checking import _judged
from tests.exercises.answers import accepts, asks_kindly, five_exercises, names_mistakes

RIGHT = {
    ("unconditional", "x_t"): "between",
    ("unconditional", "xT"): "wrong",
    ("conditional", "x_t"): "data",
    ("conditional", "xT"): "data",
}


def loop(last="guess", pin=None, end=None, noisy=1.0, jumps=None):
    """A few-step student's loop, right by default, or with one slip."""

    def answer(jump, bridge, xT, times, noises, anchor):
        x_t, x0, used = xT, xT, times[:jumps]
        for k, t in enumerate(used):
            x0 = jump(x_t, t, xT)
            if k + 1 < len(used):
                at_x_t = (pin or anchor) == "x_t"
                pinned, time = (x_t, end or t) if at_x_t else (xT, 1.0)
                mean, std = bridge.posterior(x0, pinned, times[k + 1], time)
                x_t = mean + noisy * std * noises[k]
        return x0 if last == "guess" else x_t

    return answer


def reads_noise_backwards(jump, bridge, xT, times, noises, anchor):
    return loop()(jump, bridge, xT, times, noises[::-1], anchor)


def puts_back_at_last(jump, bridge, xT, times, noises, anchor):
    """One put-back too many: there is no time, and no noise, for it."""
    x_t = xT
    for k, t in enumerate(times):
        mean, std = bridge.posterior(jump(x_t, t, xT), x_t, times[k + 1], t)
        x_t = mean + std * noises[k]
    return x_t


def two_steps(first=1.0, both=1.0, noise=1.0, pull=1.0):
    def answer(r, s, epsilon):
        variance = s**2 + (1 - s) ** 2 + both * 2 * s * (1 - s) * r + noise * epsilon * s * (1 - s)
        return (1 - s + pull * s * r) / variance * (s + first * (1 - s) * r)

    return answer


def blind(means, shares):
    return -(shares * (means - (shares * means).sum()) ** 2).sum()


SENTENCE = "The lines end in the nearest cluster: the student approaches the pairing of its teacher's walk."

ACCEPTED = [
    (chapter08.few_steps, loop()),
    (chapter08.two_step_correlation, two_steps()),
    (chapter08.two_step_correlation, lambda r, s, e: two_steps()(r, s, e)[:]),
    (chapter08.anchors, RIGHT),
    (chapter08.anchors, {key: f" {word.upper()}" for key, word in RIGHT.items()}),
    (chapter08.blind_at_T, blind),
    (chapter08.blind_at_T, lambda m, p: (p * m).sum() ** 2 - (p * m**2).sum()),
    (chapter08.slider, SENTENCE),
    (chapter08.slider, "As N grows every source goes to the closest corner, as the sampler of the teacher does."),
    (chapter08.slider, "With more steps the lines end next to their source, so it tends to the teacher's process."),
    (
        chapter08.slider,
        "They end in the cluster nearest to the source; the pairing moves away from the data's to the teacher's walk.",
    ),
]

REFUSED = [
    (chapter08.few_steps, loop(pin="x_t"), "anchored at xT is off", "the bridge is pinned at x_t where the anchor"),
    (chapter08.few_steps, loop(pin="xT"), "anchored at x_t is off", "the bridge is pinned at xT where the anchor"),
    (chapter08.few_steps, loop(last="point"), "the last point put back is returned"),
    (chapter08.few_steps, loop(noisy=0.0), "without its noise"),
    (chapter08.few_steps, loop(jumps=2), "the last jump is missing"),
    (chapter08.few_steps, loop(jumps=1), "one jump only"),
    (chapter08.few_steps, loop(end=1.0), "pinned at the time 1 where it stands at t"),
    (chapter08.few_steps, reads_noise_backwards, "x0 anchored at x_t is off"),
    (chapter08.few_steps, puts_back_at_last, "your code raised IndexError"),
    (chapter08.few_steps, lambda *given: loop()(*given)[:1], "has shape (1, 2); wanted"),
    (chapter08.few_steps, lambda *given: None, "is None"),
    (chapter08.two_step_correlation, two_steps(first=0.0), "its slope is K(1) = r"),
    (chapter08.two_step_correlation, two_steps(both=0.0), "missing in Var x_t"),
    (chapter08.two_step_correlation, two_steps(noise=0.0), "the bridge's noise is missing"),
    (chapter08.two_step_correlation, two_steps(pull=0.0), "xT adds t r"),
    (chapter08.two_step_correlation, two_steps(0.0, 0.0, 1.0, 0.0), "independent x0 and xT"),
    (chapter08.two_step_correlation, lambda r, s, e: s + (1 - s) * r, "before the last jump"),
    (chapter08.two_step_correlation, lambda r, s, e: r, "which only one step keeps"),
    (chapter08.two_step_correlation, lambda r, s, e: two_steps()(r, s, e)[:, None], "has shape (20, 1)"),
    (chapter08.anchors, RIGHT | {("unconditional", "xT"): "data"}, "unconditional teacher with anchor xT", "lost"),
    (chapter08.anchors, RIGHT | {("unconditional", "x_t"): "data"}, "anchor x_t", "forgets a portion"),
    (chapter08.anchors, RIGHT | {("conditional", "xT"): "wrong"}, "conditional teacher with anchor xT"),
    (chapter08.anchors, RIGHT | {("conditional", "x_t"): "between"}, "nothing of the pairing is forgotten"),
    (chapter08.anchors, RIGHT | {("conditional", "x_t"): "the data's"}, "none of 'data', 'between', 'wrong'"),
    (chapter08.anchors, {"unconditional": "between"}, "the four keys"),
    (chapter08.anchors, ["between", "wrong", "data", "data"], "wanted a dictionary"),
    (chapter08.blind_at_T, lambda m, p: -blind(m, p), "the sign is wrong"),
    (chapter08.blind_at_T, lambda m, p: -m.var(unbiased=False), "equally likely."),
    (chapter08.blind_at_T, lambda m, p: -m.var(), "over n - 1"),
    (chapter08.blind_at_T, lambda m, p: -(p * m**2).sum(), "a blind fake answers that, not zero"),
    (chapter08.blind_at_T, lambda m, p: -((-blind(m, p)) ** 0.5), "the standard deviation, not the variance"),
    (chapter08.blind_at_T, lambda m, p: 0.0, "the label was taken to reach"),
    (chapter08.blind_at_T, lambda m, p: len(m) * blind(m, p), "the blind objective is off"),
    (chapter08.blind_at_T, lambda m, p: -p * (m - (p * m).sum()) ** 2, "has shape (4,); wanted"),
    (chapter08.slider, "Each line ends in a random cluster and the pairing is the teacher's.", "drag N to 16"),
    (chapter08.slider, "They end in the nearest cluster and it approaches the data's pairing.", "that of N = 1"),
    (chapter08.slider, "The lines lead to the nearest cluster, whatever N is.", "whose pairing"),
    (chapter08.slider, "The student approaches the pairing of its teacher's sampler.", "which cluster"),
    (chapter08.slider, "The nearest.", "a whole sentence"),
    (chapter08.slider, 16, "wanted a sentence"),
]


test_right_answers_are_accepted = accepts(ACCEPTED)
test_wrong_answers_are_refused_and_named = names_mistakes(REFUSED)
test_what_is_missing_is_said_kindly = asks_kindly(8)


test_the_points_of_the_chapter = five_exercises(8, 9)


def test_two_steps_do_not_care_which_side_of_the_middle_they_stop():
    """`s` and `1 - s` give the same correlation: a property of the right answer, not a slip."""
    right = two_steps()
    assert _judged(chapter08.two_step_correlation, lambda r, s, e: right(r, 1 - s, e)).right
    assert not _judged(chapter08.two_step_correlation, lambda r, s, e: right(-r, s, e)).right
