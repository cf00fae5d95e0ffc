"""Chapter 14: measuring, rivals, and the teacher's error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .answers import uniform
from .checking import Finding, compare, exercise, sentence

F64 = torch.float64


# -- 14.1 ------------------------------------------------------------------------------------------

PLANS = ((10_900_000, 512, 3, 100), (120_000, 32, 3, 50), (1_000_003, 64, 10, 0), (77_777, 16, 1, 7))


@exercise("14.1", "What a budget buys", points=2)
def updates_that_fit(answer: Callable[[int, int, int, int], int]) -> Finding:
    """`answer(budget, batch, L, warmup)`: the whole updates of one-step IBMD that a budget of passes allows."""
    got = torch.tensor([float(answer(*plan)) for plan in PLANS], dtype=F64)

    def counts(rule: Callable[[int, int, int, int], float]) -> Tensor:
        return torch.tensor([float(rule(*plan)) for plan in PLANS], dtype=F64)

    mistakes = {
        "it is not a whole number; round down": counts(lambda b, n, L, w: (b - 4 * w * n) / (n * (4 * L + 7))),
        "it was rounded up: the last update does not fit": counts(
            lambda b, n, L, w: -((4 * w * n - b) // (n * (4 * L + 7)))
        ),
        "the warm-up is missing; it is paid before the first update": counts(lambda b, n, L, w: b // (n * (4 * L + 7))),
        "the warm-up was paid for every update; it comes once": counts(
            lambda b, n, L, w: b // (n * (4 * L + 7 + 4 * w))
        ),
        "the batch is missing: a pass is counted for every point": (
            counts(lambda b, n, L, w: (b - 4 * w) // (4 * L + 7))
        ),
        "these are the detached gradient's updates; the full one returns through teacher and fake": counts(
            lambda b, n, L, w: (b - 4 * w * n) // (n * (4 * L + 5))
        ),
        "a fake step was counted without the student's sample that it is fitted to": counts(
            lambda b, n, L, w: (b - 3 * w * n) // (n * (3 * L + 7))
        ),
        "the teacher and the fake were forgotten in the student's step": counts(
            lambda b, n, L, w: (b - 4 * w * n) // (n * (4 * L + 3))
        ),
        "a single fake step was counted for each update": counts(lambda b, n, L, w: (b - 4 * w * n) // (n * 11)),
        "the fake steps were counted, the student's update was not": counts(
            lambda b, n, L, w: (b - 4 * w * n) // (n * 4 * L)
        ),
    }
    wanted = counts(lambda b, n, L, w: (b - 4 * w * n) // (n * (4 * L + 7)))
    return compare(got, wanted, f"the number of updates ({len(PLANS)} settings)", 1e-9, mistakes)


# -- 14.2 ------------------------------------------------------------------------------------------


@exercise("14.2", "What a mean lacks", points=2)
def distance_of_the_mean(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Finding:
    """`answer(v0, vT, cross)`: the squared 2-Wasserstein distance of E[x0 | xT] from x0, Gaussian on the line."""
    v0, vT = uniform(12, 0.2, 2.0, 1401), uniform(12, 0.5, 3.0, 1402)
    cross = (v0 * vT).sqrt() * uniform(12, -0.9, 0.9, 1403)
    explained = cross**2 / vT
    mistakes = {
        "this is the spread that is missing, Var(x0 | xT): the squared error, not the distance of the laws": (
            v0 - explained
        ),
        "variances were subtracted; the distance is that of standard deviations, squared": (v0 - explained).square(),
        "this is the distance itself; its square is wanted": v0.sqrt() - explained.sqrt(),
        "the slope cross / vT was taken for the standard deviation of E[x0 | xT]": (
            (v0.sqrt() - (cross / vT).abs()).square()
        ),
        "the sign of cross was kept: a standard deviation is positive": (v0.sqrt() - cross / vT.sqrt()).square(),
        "the covariance was taken for the variance of E[x0 | xT]": (v0.sqrt() - cross.abs().sqrt()).square(),
        "what is left, Var(x0 | xT), was taken for what is explained": (v0.sqrt() - (v0 - explained).sqrt()).square(),
        "the source's own spread was compared: that is where one starts": (v0.sqrt() - vT.sqrt()).square(),
    }
    got = answer(v0.clone(), vT.clone(), cross.clone())
    return compare(got, (v0.sqrt() - explained.sqrt()).square(), "the squared distance", mistakes=mistakes)


# -- 14.3 ------------------------------------------------------------------------------------------


@exercise("14.3", "The end of a VE bridge", points=2)
def ve_end(answer: Callable[[Tensor, Tensor, Tensor, float, float], Tensor]) -> Finding:
    """`answer(x_t, guess, t, eps, sigma)`: `k x_t + (1 - k) guess`, `k = (eps/t)²`."""
    generator = torch.Generator().manual_seed(1404)
    x_t, guess = torch.randn(2, 9, 3, generator=generator, dtype=F64)
    eps, sigma = 0.02, 3.0
    t = torch.cat([torch.tensor([eps], dtype=F64), uniform(8, 0.03, 0.3, 1405)])
    ratio = (eps / t)[:, None]

    def end(k: Tensor) -> Tensor:
        return k * x_t + (1 - k) * guess

    mistakes = {
        "this is the Brownian bridge's k; on the VE clock rho² grows with the square of t": end(ratio),
        "the two weights were exchanged: at t = eps it has to return x_t": end(1 - ratio**2),
        "the weights do not add up to one: j is 1 - k": ratio**2 * x_t + (1 - ratio) * guess,
        "this is the guess alone: at t = eps the network must have no say": guess,
        "sigma does not cancel here: it stands above and below": end(sigma**2 * ratio**2),
        "the ratio is upside down": end(1 / ratio**2),
        "k was taken for the root, eps/t to the power of a half": end(ratio.sqrt()),
        "the part of x_t is missing": (1 - ratio**2) * guess,
        "the guess was added whole: x0 would be counted twice": ratio**2 * x_t + guess,
    }
    got = answer(x_t.clone(), guess.clone(), t.clone(), eps, sigma)
    return compare(got, end(ratio**2), "the end of the ODE", mistakes=mistakes)


# -- 14.4 ------------------------------------------------------------------------------------------


@exercise("14.4", "The projection of an error", points=2)
def best_shift(answer: Callable[..., tuple[Tensor, Tensor]]) -> Finding:
    """`answer(e, g, lam, dt)`: the least-squares d of `d g` to `e` under the weight, and what is left."""
    e, g = uniform(30, -0.2, 0.6, 1406), uniform(30, 0.05, 1.0, 1407)
    lam, dt = uniform(30, 0.5, 8.0, 1408), uniform(30, 0.01, 0.06, 1409)

    def over(values: Tensor) -> Tensor:
        return (values * dt).sum()

    def both(d: Tensor, left: Tensor | None = None) -> Tensor:
        return torch.stack([d, over(lam * (d * g - e) ** 2) if left is None else left])

    full, part, all_of_it = over(lam * g * g), over(lam * g * e), over(lam * e * e)
    d = part / full
    mistakes = {
        "the weight is missing: this is the projection with weight one": both(over(g * e) / over(g * g)),
        "d divides by the integral of lam g; the projection has g squared there": both(part / over(lam * g)),
        "the error was averaged, whatever the student can follow of it": both(over(lam * e) / over(lam)),
        "d divides by the integral of lam e²; the direction is g": both(part / all_of_it),
        "dt is missing in the sums": torch.stack([(lam * g * e).sum() / (lam * g * g).sum(), (lam * e * e).sum()]),
        "the loss is that of a student that has not moved, d = 0": both(d, all_of_it),
        "the loss is what the student follows, not what is left": both(d, part**2 / full),
        "the loss was divided by the integral of the weight; it is no mean": both(
            d, over(lam * (d * g - e) ** 2) / over(lam)
        ),
        "the loss left has a plus where the projection takes away": both(d, all_of_it + part**2 / full),
        "the weight was squared": both(over(lam**2 * g * e) / over(lam**2 * g * g)),
        "the sign of d is wrong: the student follows its teacher": both(-d),
    }
    got = answer(e.clone(), g.clone(), lam.clone(), dt.clone())
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        return Finding(False, f"not yet: the answer is a {type(got).__name__}; wanted the pair (d, loss).")
    got = torch.stack([torch.as_tensor(one, dtype=F64).reshape(()) for one in got])
    return compare(got, both(d), "d and the smallest loss", mistakes=mistakes)


# -- 14.5 ------------------------------------------------------------------------------------------


@exercise("14.5", "The slider of the error", points=1)
def slider(answer: str) -> Finding:
    """A sentence: the sampler's shift grows, the student's vanishes, because no coupling can follow there."""
    wanted = {
        r"sampler|teacher|steps": "say what happens to the sampler's shift.",
        r"grow|larger|more|increase|increasing|rise|accumulat|gather|big|far|diverg|up\b": (
            "say which way the sampler's shift goes."
        ),
        r"student|pass": "say what happens to the student's shift.",
        r"zero|small|shrink|vanish|less|hardly|almost no|fall|deaf|ignor|nothing|decrease|decreasing|drop": (
            "say which way the student's shift goes."
        ),
        r"coupling|loss|x_?0|denoiser|kernel|\bg\b|follow|project|weight": (
            "say why: what can a coupling's denoiser do next to t = 0?"
        ),
    }
    mistakes = {
        r"student'?s? (shift )?(grows|increases|rises|gets larger)": "look at the second number: does it grow?",
        r"sampler'?s? (shift )?(shrinks|falls|vanishes|decreases|gets smaller)": (
            "look at the sampler's number once more, at 500 steps."
        ),
        r"both (grow|increase|rise|shrink|fall|vanish)": "the two go different ways: look at each number.",
    }
    return sentence(answer, wanted, mistakes)
