"""Checks of chapter 02: mixtures of bridges, bridge matching and the Markovian projection."""

from __future__ import annotations

import torch
from torch import Tensor

from ..bridges import brownian, ve
from ..finite import FiniteCoupling
from ..gaussian import GaussianCoupling
from ..matching import WEIGHTS
from .answers import inner_times
from .checking import Finding, compare, exercise, sentence


def _pairs() -> tuple[Tensor, Tensor, Tensor]:
    """Five unequal pairs `(x0, xT, w)`, `(5,)` each."""
    dice = torch.Generator().manual_seed(21)
    x0, xT, w = torch.randn(3, 5, generator=dice, dtype=torch.float64)
    return x0, xT, torch.softmax(1.5 * w, 0)


def _wrong_means(x: Tensor, t: float, x0: Tensor, xT: Tensor, w: Tensor, epsilon: float) -> dict[str, Tensor]:
    """What `E[x0 | x_t = x]` becomes by the usual slips."""
    square, c2 = (x[:, None] - t * xT - (1 - t) * x0) ** 2, epsilon * t * (1 - t)
    swapped = (x[:, None] - t * x0 - (1 - t) * xT) ** 2
    ell = w.log() - square / (2 * c2)
    p = torch.softmax(ell, 1)
    return {
        "all pairs were equally likely: the weights w are missing": torch.softmax(-square / (2 * c2), 1) @ x0,
        "the squares were divided by 2 c; wanted the variance, 2 c²": torch.softmax(w.log() - square / (2 * c2**0.5), 1)
        @ x0,
        "the squares were divided by c²; wanted 2 c²": torch.softmax(w.log() - square / c2, 1) @ x0,
        "w were added to the exponents; wanted its logarithm there": torch.softmax(w - square / (2 * c2), 1) @ x0,
        "a and b were exchanged: x_t is near x0 for small t": torch.softmax(w.log() - swapped / (2 * c2), 1) @ x0,
        "the x0 of the likeliest pair were taken; wanted the mean over the pairs": x0[ell.argmax(1)],
        "it were the mean of xT": p @ xT,
        "it were divided by nothing: the probabilities have to add up to 1": torch.exp(ell) @ x0,
        "it were the probabilities; wanted the mean of x0 under them": p,
    }


@exercise("2.1", "The posterior mean that survives the ends", points=3)
def posterior_mean(answer: object) -> Finding:
    """`answer(x, t, x0, xT, w, epsilon)`: `E[x0 | x_t = x]` of a finite coupling, at a middle t and at 1e-6."""
    x0, xT, w = _pairs()
    x = torch.linspace(-1.5, 1.5, 9, dtype=torch.float64)
    exact = FiniteCoupling(x0[:, None], xT[:, None], w).denoiser(brownian(0.3))
    found = None
    for t in (0.45, 1e-6):
        wanted, inputs = exact(x[:, None], t)[:, 0], (x, t, x0, xT, w, 0.3)
        found = compare(answer(*inputs), wanted, "E[x0 | x_t]", mistakes=_wrong_means(*inputs) if t > 0.1 else {})
        if not found.right and t < 0.1:
            return Finding(
                False,
                f"not yet: right at t = 0.45, but at t = 1e-06 {found.says.removeprefix('not yet: ')} There all the "
                "exponentials round to 0: subtract the largest exponent from all of them first.",
            )
        if not found.right:
            return found
    return found


@exercise("2.2", "The floor of a Gaussian coupling", points=2)
def gaussian_floor(answer: object) -> Finding:
    """`answer(t, V0, VT, C, epsilon)`: `V0 - (a C + b V0)²/Var x_t`."""
    t, (V0, VT, C, epsilon) = inner_times(7, seed=22), (0.6, 1.3, 0.4, 0.3)
    a, b, c2 = t, 1 - t, epsilon * t * (1 - t)
    cov, variance = a * C + b * V0, a**2 * VT + 2 * a * b * C + b**2 * V0 + c2
    coupling = GaussianCoupling.of([0.0], [0.0], V0, VT, C)
    wanted = coupling.denoiser(brownian(epsilon)).residual(t)[:, 0, 0]
    mistakes = {
        "the bridge had no noise: c² is missing in the variance of x_t": V0 - cov**2 / (variance - c2),
        "2 a b C were missing in the variance of x_t": V0 - cov**2 / (variance - 2 * a * b * C),
        "x0 and xT were independent: C is missing": V0 - (b * V0) ** 2 / (variance - 2 * a * b * C),
        "a C were missing in the covariance of x0 and x_t": V0 - (b * V0) ** 2 / variance,
        "it were the variance of xhat0; the floor is what that leaves of V0": cov**2 / variance,
        "the covariance were not squared: it is k² Var x_t that is taken off": V0 - cov / variance,
        "k² were taken off; wanted k² times the variance of x_t": V0 - (cov / variance) ** 2,
        "it were the slope k": cov / variance,
        "the square root were returned; wanted the mean squared error": wanted.sqrt(),
        "xT were known as well: that is the conditional model's floor": coupling.denoiser(
            brownian(epsilon), conditional=True
        ).residual(t)[:, 0, 0],
    }
    return compare(answer(t, V0, VT, C, epsilon), wanted, "the floor", mistakes=mistakes)


@exercise("2.3", "A step of the VE projection", points=2)
def ve_step(answer: object) -> Finding:
    """`answer(x, xhat0, t, h, sigma, z)`: `x - h 2 (x - xhat0)/t + sqrt(h 2 sigma² t) z`."""
    x, xhat0, z = torch.randn(3, 6, generator=torch.Generator().manual_seed(23), dtype=torch.float64)
    t, h, sigma = 0.7, 0.02, 0.9
    bridge = ve(sigma)
    drift = bridge.reverse_drift(xhat0[:, None], x[:, None], t)[:, 0]
    noise = float((h * bridge.g2(t)).sqrt()) * z
    mean, std = bridge.posterior(xhat0[:, None], x[:, None], t - h, t)
    brownian_drift = (x - xhat0) / t
    mistakes = {
        "it were the Brownian bridge's step with epsilon = sigma²: mind the 2 in q, and rho² = (sigma t)²": (
            x - h * brownian_drift + sigma * h**0.5 * z
        ),
        "the drift were the Brownian one: 1 - q is about 2 h/t, not h/t": x - h * brownian_drift + noise,
        "the step went away from xhat0: mind the sign of the drift": x + h * drift + noise,
        "the noise were sigma sqrt(h): wanted the variance rho_s² (1 - q) to first order": (
            x - h * drift + sigma * h**0.5 * z
        ),
        "the noise were multiplied by its variance; wanted the standard deviation": x
        - h * drift
        + h * float(bridge.g2(t)) * z,
        "the noise were sqrt(h) smaller or larger: its variance is proportional to h": x
        - h * drift
        + float(bridge.g2(t).sqrt()) * z,
        "the noise were missing": x - h * drift,
        "it were the whole posterior step, right for long steps too; here the first order in h is wanted": (
            mean[:, 0] + float(std) * z
        ),
    }
    return compare(answer(x, xhat0, t, h, sigma, z), x - h * drift + noise, "the place at t - h", mistakes=mistakes)


@exercise("2.4", "What weight is it really?", points=2)
def effective_weight(answer: object) -> Finding:
    """`answer(t)`: `2 t/(t + 0.05)`, the density of sqrt(v) times the weight."""
    t = inner_times(7, seed=24)
    soft = WEIGHTS["soft"](brownian(1.0), t)
    mistakes = {
        "the density had been divided by; it was forgotten, so it multiplies": soft / (2 * t),
        "the density were that of v², 1/(2 sqrt t): P(sqrt(v) < t) is P(v < t²)": soft / (2 * t.sqrt()),
        "the probability t² stood for the density; wanted its derivative": soft * t**2,
        "the density were sqrt(t): that is how a time is made from v, not how often it comes": soft * t.sqrt(),
        "the density were one over that of v²; P(sqrt(v) < t) = t², and the density is its derivative": (
            soft * 2 * t.sqrt()
        ),
        "the density were t; one that integrates to 1 has a factor 2": soft * t,
        "it were the density alone: the weight lambda multiplies it": 2 * t,
        "times had been uniform: the density of sqrt(v) is missing": soft,
    }
    return compare(answer(t), 2 * t * soft, "the weight", mistakes=mistakes)


_LITTLE = r"(little|less|low\w*|small\w*|weak\w*|vanish\w*|without|no|zero) (the )?(noise|epsilon|ε)"
_MUCH = r"(much|more|large\w*|strong\w*|high\w*|big\w*|great\w*) (the )?(noise|epsilon|ε)"
_FEW = (
    r"below|\bfew\w*|under (a )?half|less than|lower than|(turn|led|pushed|sent|go|come)\w* back|bounc|revers|exchang|"
    r"swap|flip|(cannot|can't|can not|hardly|don't|do not|never|no longer) (\w+ ){0,2}(cross|pass)|without crossing|"
    r"wrong|\b[12]\d ?(%|per ?cent)|quarter|fifth|(almost|nearly) (none|no)|(same|own) side|most (pairs )?(are )?lost"
)
_CHANCE = r"half|1/2|50 ?%|0\.5|chance|random|independent|forget|forgot|nothing to do|mix|coin|4\d ?%"


def _of(noise: str, what: str) -> str:
    """An expression for `what` said of this `noise`: a few words after it, none of which turns to something else."""
    turn = r"(?:than|below|under|fewer|less|far|never|with|at|for|but|while|whereas|and|much|more|little)\b"
    return rf"{noise},? (?:(?!{turn})\w+,? ){{0,6}}{what}"


@exercise("2.5", "The projection's pairing", points=1)
def pairing(answer: object) -> Finding:
    """A sentence: below chance with little noise, as paths turn back; towards chance, one half, with much."""
    everything = r"(all|every|100 ?%|perfect)"
    mistakes = {
        _of(_MUCH, rf"(keeps? (almost |nearly )?{everything}|all (the )?pairs are kept)"): (
            "it never keeps all: read the share above the right panel at the largest epsilon."
        ),
        _of(_LITTLE, rf"(keeps? (almost |nearly )?{everything}|all (the )?pairs are kept)"): (
            "at the smallest epsilon the share above the right panel is far from all: do the paths cross there?"
        ),
        _of(_LITTLE, r"(half|random|independent|chance|50 ?%)"): (
            "at the smallest epsilon the share above the right panel is not a half: read it again."
        ),
        _of(_MUCH, r"(fewer pairs|below chance|revers|bounce|turn back)"): (
            "at the largest epsilon the share above the right panel is larger than at the smallest: read both again."
        ),
    }
    wanted = {
        r"little|small|low|weak|less noise|0\.02|no noise|without noise|(→|to|towards) ?0|zero|vanish": (
            "say what happens with little noise."
        ),
        _FEW: "with little noise, is the share above or below chance? Look at what the paths do at the crossing.",
        _CHANCE: "with much noise, which share does it tend to, and what does that mean for the pairing?",
    }
    return sentence(answer, wanted, mistakes)
