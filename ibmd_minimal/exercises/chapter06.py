"""Chapter 06, the tractable objective: a step's KL, SiD's loss and its two paths, times of finite variance, a fake that
lags."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..bridges import brownian, vp
from ..exact import path_divergence
from ..gaussian import GaussianCoupling
from .checking import Finding, compare, exercise, sentence


def _seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


# -- 6.1 -----------------------------------------------------------------------------------------------


@exercise("6.1", "The KL of one posterior step", points=2)
def step_kl(answer: Callable) -> Finding:
    """`answer(gap2, alpha_s, rho2_s, rho2_t)`: mean squared gap times `(1/rho_s² - 1/rho_t²)/2`, `(batch,)`."""
    gap2, alpha_s, rho2_s, more = 0.2 + torch.rand(4, 32, generator=_seeded(61), dtype=torch.float64)
    rho2_t = rho2_s + more
    rest = 1 - rho2_s / rho2_t
    mistakes = {
        "the factor of the means' difference is not squared": gap2 / (2 * alpha_s * rho2_s),
        "the half is missing, the KL divides by twice the variance": gap2 * rest / rho2_s,
        "you divide by the standard deviation, not by the variance": gap2 * (rest**1.5 * alpha_s / (2 * rho2_s**0.5)),
        "the step's variance lacks its factor 1 - rho_s²/rho_t²": gap2 * rest**2 / (2 * rho2_s),
        "this is the Euler-Maruyama step, with the weight at t": gap2 * more / (2 * rho2_t**2),
        "the gap is squared once more": gap2**2 * rest / (2 * rho2_s),
    }
    return compare(answer(gap2, alpha_s, rho2_s, rho2_t), gap2 * rest / (2 * rho2_s), "the step's KL", 1e-9, mistakes)


# -- 6.2 -----------------------------------------------------------------------------------------------


def _teacher(x_t: Tensor, t: Tensor, xT: Tensor) -> Tensor:
    return torch.sin(x_t) + 0.3 * xT - t[:, None]


def _fake(x_t: Tensor, t: Tensor, xT: Tensor) -> Tensor:
    return 0.5 * x_t * torch.cos(x_t) + 0.2


def _residuals(x0: Tensor, xT: Tensor, t: Tensor, z: Tensor, detached: bool) -> tuple[Tensor, Tensor]:
    x_t = vp().sample(x0, xT, t, z)
    x_t = x_t.detach() if detached else x_t
    return _teacher(x_t, t, xT) - x0, _fake(x_t, t, xT) - x0


def _alpha_loss(r: Tensor, f: Tensor, alpha: float) -> Tensor:
    return (2 * (r - f) * (r - alpha * (r - f))).sum(1)


def _value_mistakes(r: Tensor, f: Tensor, alpha: float) -> dict[str, Tensor]:
    return {
        "alpha is not used: this is |r|² - |f|²": (r**2 - f**2).sum(1),
        "r and f have changed places": _alpha_loss(f, r, alpha),
        "the r in the second bracket is missing": (2 * (r - f) * -alpha * (r - f)).sum(1),
        "the added square has the factor 1 - alpha, not 1 - 2 alpha": (r**2 - f**2 + (1 - alpha) * (r - f) ** 2).sum(1),
    }


def _alpha_case(answer: Callable, alpha: float, detached: bool) -> Finding:
    """Value and gradient in x0 at one alpha, on one path."""
    generator = _seeded(62)
    start, xT, z = torch.randn(3, 24, 2, generator=generator, dtype=torch.float64)
    t = 0.1 + 0.8 * torch.rand(24, generator=generator, dtype=torch.float64)

    def slope(cut: bool) -> Tensor:
        x0 = start.clone().requires_grad_()
        return torch.autograd.grad(_alpha_loss(*_residuals(x0, xT, t, z, cut), alpha).sum(), x0)[0]

    with torch.enable_grad():
        x0 = start.clone().requires_grad_()
        got = answer(_teacher, _fake, vp(), x0, xT, t, z, alpha, detached)
        r, f = _residuals(start, xT, t, z, detached)
        value = compare(
            got, _alpha_loss(r, f, alpha), f"the loss at alpha {alpha:g}", 1e-9, _value_mistakes(r, f, alpha)
        )
        if not value.right:
            return value
        if not got.requires_grad:
            return Finding(False, "not yet: no gradient reaches x0. It looks as if x0 itself is detached.")
        found = torch.autograd.grad(got.sum(), x0)[0]
    wrong = (
        "x_t keeps its gradient although detached is True" if detached else "x_t is detached although detached is False"
    )
    what = f"its gradient in x0 on the {'detached' if detached else 'full'} path"
    return compare(found, slope(detached), what, 1e-9, {wrong: slope(not detached)})


@exercise("6.2", "Alpha, and the two paths", points=2)
def alpha_loss(answer: Callable) -> Finding:
    """`answer(teacher, fake, bridge, x0, xT, t, z, alpha, detached)`: SiD's loss of each draw, `(batch,)`."""
    for alpha, detached in ((0.5, False), (1.2, False), (1.2, True)):
        found = _alpha_case(answer, alpha, detached)
        if not found.right:
            return found
    return Finding(True, "the loss and its gradients on both paths agree to 1e-09.")


# -- 6.3 -----------------------------------------------------------------------------------------------


@exercise("6.3", "Which times have a finite variance?", points=2)
def second_moment(answer: Callable) -> Finding:
    """`answer(k)`: `1/(k (1 - k))` for k in (0, 1), infinite for k <= 0; of the shape of `k` `(n,)`."""
    k = torch.tensor([-0.5, 0.0, 0.1, 0.3, 0.5, 0.8], dtype=torch.float64)
    got, good = answer(k), k > 0
    if not isinstance(got, Tensor) or got.shape != k.shape:
        return compare(got, torch.zeros_like(k), "the second moment")
    if bool(torch.isinf(got[good]).all()):
        return Finding(False, "not yet: all is infinite. It looks as if you multiply by the density, not divide.")
    if not bool((got[~good] == torch.inf).all()):
        says = "at k = -1/2 or k = 0 (uniform times) it is finite. There the integral of u^(k-1) diverges at 0"
        return Finding(False, f"not yet: {says}; wanted torch.inf.")
    inside = k[good]
    mistakes = {
        "the density lacks its factor 1 - k: it would not integrate to 1": 1 / inside,
        "the factor 1 - k of the density is multiplied by, not divided": (1 - inside) / inside,
        "you integrate 1/p and leave out the growth 1/u of the square": 1 / ((1 - inside) * (1 + inside)),
        "the integral of u^(k-1) from 0 to 1 is 1/k, not 1": 1 / (1 - inside),
    }
    return compare(got[good], 1 / (inside * (1 - inside)), "the second moment", 1e-9, mistakes)


# -- 6.4 -----------------------------------------------------------------------------------------------


def _pair(A: float, B: float) -> GaussianCoupling:
    return GaussianCoupling.of(0.0, 0.0, A**2 + B**2, 1.0, A)


@exercise("6.4", "The loss with an old fake", points=2)
def printed(answer: Callable) -> Finding:
    """`answer(student, old, data, bridge)`: `D(student, data) - D(student, old)`, weight 1."""
    bridge, data = brownian(0.5), _pair(-0.6, 0.8)
    cases = [(_pair(0.2, 0.5), _pair(0.4, 0.9), data), (_pair(-0.5, 0.7), _pair(0.3, 0.6), data)]

    def every(p: int, q: int, weight: str = "plain") -> Tensor:
        """The divergence between members p and q of each case."""
        return torch.stack([path_divergence(case[p], case[q], bridge, weight=weight) for case in cases])

    now, error, before = every(0, 2), every(0, 1), every(1, 2)
    mistakes = {
        "the error of the fake is left out": now,
        "the error of the fake is added, not subtracted": now + error,
        "the fake's error is a mean over the x_t of the old student; wanted those of the present one": now
        - every(1, 0),
        "this is the divergence of the old student, from which nobody draws any more": before,
        "the two divergences are those of the two students from the data": now - before,
        "the weight is that of the path KL; wanted weight='plain'": every(0, 2, "path_kl") - every(0, 1, "path_kl"),
    }
    found = [answer(*case, bridge) for case in cases]
    if all(isinstance(one, (Tensor, float, int)) for one in found):
        found = torch.stack([torch.as_tensor(one).double() for one in found])
    return compare(found, now - error, "the printed loss", 1e-6, mistakes)


# -- 6.5 -----------------------------------------------------------------------------------------------

_BLIND = (
    r"(?:not |no |in)?(?:visible|seen\b|sees\b|shows?|notic|trace|differ|vanish|zero|nothing|nought|blind|hidden"
    r"|disappear|absent|gone|fades?)"
)
_NOISE = r"noise|(?-i:\bB\b)|variance|spread"
_PAIRING = r"pairing|(?-i:\bA\b)|correlation"
_AT_T = r"(?:(?-i:\bT\b)|t ?(?:=|->|→|≈) ?1|1\b)"


@exercise("6.5", "Where in time?", points=1)
def where(answer: object) -> Finding:
    """A sentence: B leaves no trace at T, where the denoiser is a mean, E[x0|xT] = A xT; A is visible there."""
    wanted = {
        _PAIRING: "it does not say where a wrong pairing A is visible.",
        _NOISE: "it does not say where a wrong noise B is visible.",
        _BLIND: "it does not say what can be seen and what not.",
        rf"{_AT_T}|source|xT|right end": "look at the right end of the axis, t = 1, with only B wrong.",
        r"mean|averag|expect|E_z|E\[": "the reason is missing: what is the denoiser at t = 1, where x_t is xT?",
    }
    mistakes = {
        rf"(?:{_NOISE})(?: B)? (?:is )?(?:visible|seen|shows?|appears?)(?: up| only| most\w*| best)* "
        rf"(?:everywhere|at all times|(?:at|near) {_AT_T})": "set A = -0.6 and move B: what is left at t = 1?",
        rf"(?:{_PAIRING})(?: A)? (?:is |has |leaves )?(?:invisible|not visible|not seen|zero|no trace|hidden|vanish\w*)"
        rf" (?:at|near) {_AT_T}": "set B = 0.8 and move A: is it really invisible at t = 1?",
    }
    return sentence(answer, wanted, mistakes)
