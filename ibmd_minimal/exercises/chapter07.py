"""Chapter 07: one-step students in the plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from .checking import Finding, compare, exercise, sentence

F64 = torch.float64


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- 7.1 -------------------------------------------------------------------------------------------


class _Bend(nn.Module):
    """A small denoiser of points in the plane, nonlinear, with four weights."""

    def __init__(self, seed: int):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(2, 2, generator=_seeded(seed), dtype=F64))

    def forward(self, x_t: Tensor, t: Tensor, xT: Tensor | None = None) -> Tensor:
        return torch.tanh(x_t @ self.matrix) * (2 - t[:, None])


class _Draw:
    """One draw as a training step makes it: `x0` and `x_t` hang on `root`, which stands for the student."""

    def __init__(self):
        dice = _seeded(71)
        self.root = torch.randn(16, 2, generator=dice, dtype=F64).requires_grad_()
        self.t = 0.1 + 0.8 * torch.rand(16, generator=dice, dtype=F64)
        self.weight = 0.5 + torch.rand(16, generator=dice, dtype=F64)
        rest = torch.randn(16, 2, generator=dice, dtype=F64)
        self.x0 = torch.sin(self.root)
        self.x_t = (1 - self.t)[:, None] * self.x0 + rest
        self.teacher, self.fake = _Bend(72).requires_grad_(False), _Bend(73)

    def squares(self) -> tuple[Tensor, Tensor]:
        """`|r|²` and `|f|²` of every sample, `(16,)`."""
        return tuple((m(self.x_t, self.t) - self.x0).square().sum(1) for m in (self.teacher, self.fake))


def _slope(loss: Tensor, of: Tensor) -> Tensor:
    """The gradient, zero where the loss does not depend on `of`."""
    if not loss.requires_grad:
        return torch.zeros_like(of)
    found = torch.autograd.grad(loss, of, retain_graph=True, allow_unused=True)[0]
    return torch.zeros_like(of) if found is None else found


def _values(draw: _Draw, got: tuple[Tensor, Tensor]) -> Finding:
    r, f = draw.squares()
    wanted, weight = torch.stack([(draw.weight * f).mean(), (draw.weight * (r - f)).mean()]).detach(), draw.weight
    plain = torch.stack([f.mean(), (r - f).mean()]).detach()
    mistakes = {
        "the student's loss has the wrong sign: it is |r|² - |f|²": wanted * torch.tensor([1.0, -1.0]),
        "the two came in the other order; the fake's is wanted first": wanted.flip(0),
        "the weight was left out": plain,
        "the weight was left out of the fake's loss": torch.stack([plain[0], wanted[1]]),
        "the weight was left out of the student's loss": torch.stack([wanted[0], plain[1]]),
        "the mean was taken over the coordinates too; |f|² is their sum": wanted / 2,
        "the sum was taken over the batch, where its mean is wanted": wanted * len(weight),
        "the student's loss lacks -|f|²": torch.stack([wanted[0], (weight * r).mean()]).detach(),
    }
    return compare(torch.stack([one.detach() for one in got]), wanted, "the pair of losses", 1e-8, mistakes)


@exercise("7.1", "One draw, two losses", points=2)
def losses(answer: Callable[..., tuple[Tensor, Tensor]]) -> Finding:
    """`answer(teacher, fake, x0, x_t, t, weight)`: the fake's loss and the student's: values, gradients."""
    with torch.enable_grad():
        draw = _Draw()
        got = answer(draw.teacher, draw.fake, draw.x0, draw.x_t, draw.t, draw.weight)
        if not isinstance(got, (tuple, list)) or len(got) != 2 or not all(isinstance(one, Tensor) for one in got):
            return Finding(False, "not yet: wanted two losses, the fake's and the student's.")
        if any(one.ndim for one in got):
            shapes = " and ".join(str(tuple(one.shape)) for one in got)
            return Finding(False, f"not yet: the losses have shapes {shapes}; wanted two single numbers.")
        found = _values(draw, got)
        return found if not found.right else _gradients(draw, *got)


def _gradients(draw: _Draw, of_fake: Tensor, of_student: Tensor) -> Finding:
    if _slope(of_fake, draw.root).abs().max() > 0:
        return Finding(
            False,
            "not yet: the values are right, but the fake's loss reaches the student: phi would bend the samples "
            "that it is to describe. Detach x0 and x_t there.",
        )
    r, f = draw.squares()
    if _slope(of_fake, draw.fake.matrix).abs().max() == 0:
        return Finding(False, "not yet: the values are right, but the fake's loss does not reach the fake's weights.")
    got, wanted = _slope(of_student, draw.root), _slope((draw.weight * (r - f)).mean(), draw.root)
    r, f = (m(draw.x_t.detach(), draw.t) - draw.x0 for m in (draw.teacher, draw.fake))
    short = _slope((draw.weight * (r.square() - f.square()).sum(1)).mean(), draw.root)
    r, f = (m(draw.x_t, draw.t) - draw.x0.detach() for m in (draw.teacher, draw.fake))
    side = _slope((draw.weight * (r.square() - f.square()).sum(1)).mean(), draw.root)
    mistakes = {
        "nothing of the student's loss reaches the student: something was detached or computed without gradients": 0.0,
        "the student's x_t was detached; the full path goes through it": short,
        "the student's x0 was detached in the residuals": side,
    }
    mistakes = {name: torch.as_tensor(value, dtype=F64).expand_as(wanted) for name, value in mistakes.items()}
    found = compare(got, wanted, "the gradient of the student's loss", 1e-8, mistakes)
    return Finding(True, "both values agree, and each loss reaches whom it should.") if found.right else found


# -- 7.2 -------------------------------------------------------------------------------------------


@exercise("7.2", "The gap, free of noise", points=2)
def mean_gap(answer: Callable[[Tensor, Tensor], Tensor]) -> Finding:
    """`answer(samples, single)`: an unbiased estimate of E|E_z G - teacher at T|² from finitely many draws."""
    dice = _seeded(74)
    samples = torch.randn(6, 40, 2, generator=dice, dtype=F64) * torch.tensor([2.0, 1.0]) + 0.3
    single = 0.2 * torch.randn(40, 2, generator=dice, dtype=F64)
    raw = (samples.mean(0) - single).square().sum(1).mean()
    spread = samples.var(0).sum(1).mean()
    biased = samples.var(0, unbiased=False).sum(1).mean()
    mistakes = {
        "the noise of the mean over 6 draws is still in it: its variance is Var_z G / draws": raw,
        "the whole variance was taken off; the mean of n draws has only an n-th of it": raw - spread,
        "the variance was taken with n in its denominator, not n - 1, which is too small": raw - biased / 6,
        "the noise was added, not taken off": raw + spread / 6,
        "the mean was taken over the coordinates too; the square of a vector is their sum": (raw - spread / 6) / 2,
        "a standard deviation was taken off, where a variance is wanted": raw - samples.std(0).sum(1).mean() / 6,
        "the mean of |G - teacher|² over single draws was taken; the mean over z comes before the square": (
            (samples - single).square().sum(-1).mean()
        ),
    }
    return compare(answer(samples, single), raw - spread / 6, "the gap", 1e-8, mistakes)


# -- 7.3 -------------------------------------------------------------------------------------------

RUNS = {"P": "fake too slow", "Q": "no noise input", "R": "rate too high", "S": "weight near T only"}
NAMES = (*RUNS.values(), "path-KL weight")
WHY = {
    "P": "a loss that is next to nothing from the first update on means r and f are nearly equal, whatever the student",
    "Q": "look at its diversity, and then at what that does to the gap",
    "R": "its loss begins where that of the good run does, so that the weight must be the same, and then it grows",
    "S": "mean and loss look settled and diversity is too small; what tells clusters from a blob is decided at small t",
}


@exercise("7.3", "Four runs, four diagnoses", points=2)
def diagnoses(answer: Mapping[str, str]) -> Finding:
    """A name of what was changed for each of the runs P, Q, R and S of the chapter's table."""
    if not isinstance(answer, Mapping) or set(answer) != set(RUNS):
        return Finding(False, 'not yet: wanted a dictionary with a name for each run, {"P": ..., "Q": ..., ...}.')
    given = {run: " ".join(str(name).lower().split()) for run, name in answer.items()}
    known = {name.lower(): name for name in NAMES}
    for run, name in given.items():
        if name not in known:
            return Finding(False, f"not yet: {answer[run]!r} for {run} is not on the list; wanted one of {NAMES}.")
    wrong = [run for run in RUNS if known[given[run]] != RUNS[run]]
    if wrong:
        right = len(RUNS) - len(wrong)
        return Finding(False, f"not yet: {right} of {len(RUNS)} are right. For {wrong[0]}: {WHY[wrong[0]]}.")
    return Finding(True, "all four.")


# -- 7.4 -------------------------------------------------------------------------------------------


def _cost(steps: int, fake_steps: int, warmup: int, fake: int = 4, student: int = 7) -> float:
    return float(fake * (warmup + steps * fake_steps) + student * steps)


@exercise("7.4", "What an update costs", points=2)
def cost(answer: Callable[..., float]) -> Finding:
    """`answer(steps, fake_steps, fake_warmup, detached)`: passes of one distillation, counted as in the text."""
    settings = [(800, 3, 100), (520, 5, 0), (7, 2, 13)]
    got = torch.tensor([float(answer(*one, path)) for path in (False, True) for one in settings], dtype=F64)

    def costs(full: int, short: int, fake: int = 4, warmup: Callable = lambda steps, warmup: warmup) -> Tensor:
        rows = [(s, k, warmup(s, w), fake, each) for each in (full, short) for s, k, w in settings]
        return torch.tensor([_cost(*row) for row in rows], dtype=F64)

    mistakes = {
        "the student's forward pass was left out of the fake's update": costs(7, 5, fake=3),
        "a backward pass was counted through the student in the fake's update; there it is held fixed": costs(7, 5, 6),
        "teacher and fake were given their weights' gradients in the student's update; both are frozen": costs(9, 5),
        "teacher and fake pass nothing on in the detached path, and cost no backward pass there": costs(7, 7),
        "frozen networks were taken to need no backward pass at all; the full path leads through them": costs(5, 5),
        "the fake's warm-up was left out": costs(7, 5, warmup=lambda steps, warmup: 0),
        "the warm-up was counted before every update; it comes once": costs(7, 5, warmup=lambda s, w: s * w),
        "the teacher's forward pass was left out of the student's update": costs(6, 4),
    }
    return compare(got, costs(7, 5), "the number of passes (3 settings, both paths)", 1e-9, mistakes)


# -- 7.5 -------------------------------------------------------------------------------------------


@exercise("7.5", "One pass of each", points=1)
def one_pass(answer: str) -> Finding:
    """Why the teacher's single pass lands in the middle, and the student's does not."""
    wanted = {
        r"\bmean|\baverage|expect|E\[|conditional mean": (
            "say what the teacher's single pass computes, of all the x0 that its xT could have come from."
        ),
        r"\bz\b|\bnois|\brandom|\bsampl|\bdraw": "say what the student has besides xT, or what one pass of it gives.",
    }
    mistakes = {
        r"not enough (?:training|updates)|under-?trained|badly trained": (
            "more training would not help: a perfect teacher lands in the middle too."
        ),
        r"\b(?:bigger|larger|deeper) network": "the two networks have the same size, but for the noise input.",
    }
    return sentence(answer, wanted, mistakes)
