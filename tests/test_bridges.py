"""Bridges: the published schedules, the formula (*) at both ends and in between, and what a denoiser implies."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch

from ibmd_minimal import bridges
from ibmd_minimal.bridges import Bridge, bridge_from, brownian, i2sb, ve, vp

DATA = Path(__file__).parent / "data"
CUSTOM = Bridge(lambda t: 1 + t**2 / 2, lambda t: t + torch.sin(t))
FAMILIES = [brownian(0.5), i2sb(0.3), ve(2.0), vp(2.0, 0.1), CUSTOM]
by_family = pytest.mark.parametrize("bridge", FAMILIES, ids=lambda bridge: bridge.family)
INNER = torch.tensor([0.0305, 0.2005, 0.5005, 0.8005, 0.9995], dtype=torch.float64)  # clear of I2SB's kinks


def table(name: str) -> dict[str, torch.Tensor]:
    with open(DATA / name, newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: torch.tensor([float(row[key]) for row in rows], dtype=torch.float64) for key in rows[0]}


def close(x, y, atol: float, rtol: float = 0.0) -> None:
    torch.testing.assert_close(x, y, atol=atol, rtol=rtol)


def step(bridge: Bridge, s, t) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Coefficients of x_t and x0 and the std of `posterior`, read off with unit inputs; `s`, `t` are `(n,)`."""
    zero, one = torch.zeros(len(s), 1, dtype=torch.float64), torch.ones(len(s), 1, dtype=torch.float64)
    of_x_t, std = bridge.posterior(zero, one, s, t)
    return of_x_t[:, 0], bridge.posterior(one, zero, s, t)[0][:, 0], std[:, 0]


# -- the published schedules -------------------------------------------------------------------


@pytest.mark.parametrize(("name", "bridge", "end"), [("vp.csv", vp(2.0, 0.1), 1.0), ("ve.csv", ve(80.0), 80.0)])
def test_ddbm_schedules(name, bridge, end):
    rows = table(name)
    a, b, c = bridge.coefficients((rows["t"] / end).clamp_max(1))
    close(a, rows["a_t"], 1e-6)
    close(b, rows["b_t"], 1e-6)
    close(c**2, rows["var"], 1e-6, 1e-12)


@pytest.mark.parametrize("beta_max", [0.3, 1.0])
def test_i2sb_schedule(beta_max):
    rows, bridge = table(f"i2sb_{beta_max}.csv"), i2sb(beta_max)
    t = (rows["step"] + 1) / 1000
    close(bridge.rho2(t), rows["std_fwd"] ** 2, 1e-6)
    a, b, c = bridge.coefficients(t)
    # The released sums count beta_n on both sides of n, which moves the marginals by up to beta_n/S.
    close(a, rows["mu_x1"], 1e-3)
    close(b, rows["mu_x0"], 1e-3)
    close(c**2, rows["var"], 1e-3)


def test_dbim_steps():
    rows, bridge = table("dbim_steps_vp.csv"), vp(2.0, 0.1)
    # The sampler ran on float32 times, printed with 8 digits: near T the step feels the difference.
    s, t = (rows[name].float().double() for name in ("s", "t"))
    (a_s, b_s, c_s), (a_t, b_t, c_t) = bridge.coefficients(s), bridge.coefficients(t)
    omega = rows["eta"] * step(bridge, t, s)[2]
    kappa = (c_t**2 - omega**2).sqrt() / c_s
    first, last = s == 1, t < 1e-3
    close(b_t[first], rows["coef_x0hat"][first], 1e-6)
    close(a_t[first], rows["coef_xT"][first], 1e-6)
    close(c_t[first], rows["noise_std"][first], 1e-6)
    rest = ~first
    close((b_t - kappa * b_s)[rest], rows["coef_x0hat"][rest], 1e-6)
    close((a_t - kappa * a_s)[rest], rows["coef_xT"][rest], 1e-6)
    close(kappa[rest], rows["coef_xs"][rest], 1e-6)
    close(omega[rest & ~last], rows["noise_std"][rest & ~last], 1e-6)  # the last step's noise is left out there


# -- the formula -------------------------------------------------------------------------------


@by_family
def test_both_ends_are_exact(bridge):
    a, b, c = bridge.coefficients(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert a.tolist() == [0, 1] and b.tolist() == [1, 0] and c.tolist() == [0, 0]
    x0, xT = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    assert torch.equal(bridge.sample(x0, xT, 0.0), x0)
    assert torch.equal(bridge.sample(x0, xT, 1.0), xT)
    for t in (0.0, 0.3, 1.0):
        mean, std = bridge.posterior(x0, xT, 0.0, t)
        assert torch.equal(mean, x0 if t else xT) and bool((std == 0).all())
        mean, std = bridge.posterior(x0, xT, t, t)
        assert torch.equal(mean, xT) and bool((std == 0).all())


@by_family
def test_nothing_is_lost_next_to_the_ends(bridge):
    t = torch.tensor([1e-12, 1e-6, 1 - 1e-6, 1 - 1e-12], dtype=torch.float64)
    a, b, c = bridge.coefficients(t)
    u, total = bridge.clock(t), bridge.rho2(torch.ones_like(t))
    alpha, alpha_T = bridge.alpha(t), bridge.alpha(torch.ones_like(t))
    assert bool((c > 0).all()) and bool(torch.isfinite(torch.stack([a, b, c])).all())
    close(a, alpha / alpha_T * u, 0.0, 1e-12)
    close(c[:2] ** 2, (alpha**2 * total * u)[:2], 0.0, 2e-6)


@by_family
def test_every_bridge_is_a_brownian_bridge_on_its_clock(bridge):
    t = torch.linspace(0, 1, 41, dtype=torch.float64)
    one = torch.ones_like(t)
    a, b, c = bridge.coefficients(t)
    u = bridge.clock(t)
    a_y, b_y, c_y = brownian(float(bridge.rho2(one)[0])).coefficients(u)
    alpha = bridge.alpha(t)
    close(a * bridge.alpha(one) / alpha, a_y, 1e-12)
    close(b / alpha, b_y, 1e-12)
    close(c**2 / alpha**2, c_y**2, 1e-12)


@by_family
def test_two_steps_back_are_one(bridge):
    """Chapman-Kolmogorov: x_t given both ends, then x_s given x0 and x_t, is x_s given both ends."""
    s, t = torch.tensor([0.0, 0.01, 0.3, 0.5, 0.7]).double(), torch.tensor([0.2, 0.02, 0.8, 1.0, 0.7]).double()
    keep, jump, std = step(bridge, s, t)
    (a_t, b_t, c_t), (a_s, b_s, c_s) = bridge.coefficients(t), bridge.coefficients(s)
    close(keep * a_t, a_s, 1e-12)
    close(keep * b_t + jump, b_s, 1e-12)
    close(keep**2 * c_t**2 + std**2, c_s**2, 1e-12)


@by_family
def test_the_posterior_is_bayes(bridge):
    """x_s given x0 and x_t, from the free process's two Gaussian laws by the textbook product."""
    s, t = torch.tensor([0.1, 0.4]).double(), torch.tensor([0.6, 1.0]).double()
    alpha_s, alpha_t, rho2_s, rho2_t = bridge.alpha(s), bridge.alpha(t), bridge.rho2(s), bridge.rho2(t)
    prior, slope, noise = alpha_s**2 * rho2_s, alpha_t / alpha_s, alpha_t**2 * (rho2_t - rho2_s)
    precision = 1 / prior + slope**2 / noise
    keep, jump, std = step(bridge, s, t)
    close(std**2, 1 / precision, 1e-12)
    close(keep, slope / noise / precision, 1e-12)
    close(jump, alpha_s / prior / precision, 1e-12)


def test_sample_uses_the_noise_it_is_given_and_draws_its_own():
    bridge, n = vp(), 40_000
    x0, xT = torch.full((n, 1), 0.3).double(), torch.full((n, 1), -1.0).double()
    a, b, c = bridge.coefficients(0.4)
    z = torch.randn(n, 1, dtype=torch.float64)
    close(bridge.sample(x0, xT, 0.4, z=z), a * xT + b * x0 + c * z, 1e-12)
    draws = [bridge.sample(x0, xT, 0.4, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*draws)
    z_score = (draws[0] - a * xT - b * x0) / c
    assert abs(float(z_score.mean())) < 5 / n**0.5 and abs(float(z_score.var()) - 1) < 5 * (2 / n) ** 0.5


def test_one_time_per_sample():
    bridge, t = ve(2.0), torch.tensor([0.0, 0.2, 1.0], dtype=torch.float64)
    x0, xT, z = (torch.randn(3, 2, 4, dtype=torch.float64) for _ in range(3))
    whole = bridge.sample(x0, xT, t, z)
    for i in range(3):
        close(whole[i : i + 1], bridge.sample(x0[i : i + 1], xT[i : i + 1], float(t[i]), z[i : i + 1]), 1e-14)


# -- drift and score ---------------------------------------------------------------------------


@by_family
def test_f_and_g2_are_the_derivatives(bridge):
    h, one = 1e-5, torch.ones_like(INNER)
    f = (bridge.alpha(INNER + h).log() - bridge.alpha(INNER - h).log()) / (2 * h)
    rate = (bridge.rho2(INNER + h) - bridge.rho2(INNER - h)) / (2 * h)
    # Central differences: h² times a third derivative of order 10, and rounding 1e-16/h.
    close(bridge.f(INNER), f, 1e-8)
    close(bridge.g2(INNER), bridge.alpha(INNER) ** 2 * rate, 1e-8)
    assert bridge.f(0.5).shape == () and bridge.g2(one).dtype == torch.float64


def gradient(log_density, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(log_density(x).sum(), x)[0]


@by_family
def test_score_and_pinned_drift_are_gradients_of_gaussians(bridge):
    x, x0, xT = (torch.randn(len(INNER), 1, dtype=torch.float64) for _ in range(3))
    t, one = INNER[:, None], torch.ones(len(INNER), 1, dtype=torch.float64)
    a, b, c = bridge.coefficients(INNER)
    a, b, c = a[:, None], b[:, None], c[:, None]
    score = gradient(lambda x: -((x - a * xT - b * x0) ** 2) / (2 * c**2), x)
    close(bridge.score(x0, x, INNER, xT), score, 1e-9, 1e-9)
    slope = bridge.alpha(one) / bridge.alpha(t)
    variance = bridge.alpha(one) ** 2 * (bridge.rho2(one) - bridge.rho2(t))
    pull = gradient(lambda x: -((xT - slope * x) ** 2) / (2 * variance), x)
    f, g2 = bridge.f(INNER)[:, None], bridge.g2(INNER)[:, None]
    close(bridge.forward_drift(x, INNER, xT), f * x + g2 * pull, 1e-9, 1e-9)
    free = gradient(lambda x: -((x - bridge.alpha(t) * x0) ** 2) / (2 * bridge.alpha(t) ** 2 * bridge.rho2(t)), x)
    # Known x0: time reversal of the free process, f x - g² score.
    close(bridge.reverse_drift(x0, x, INNER), f * x - g2 * free, 1e-9, 1e-9)


@by_family
def test_reversal_of_the_pinned_process(bridge):
    """Anderson: reverse drift = forward drift - g² score, all three given both ends."""
    x, x0, xT = (torch.randn(len(INNER), 2, dtype=torch.float64) for _ in range(3))
    forward, score = bridge.forward_drift(x, INNER, xT), bridge.score(x0, x, INNER, xT)
    close(bridge.reverse_drift(x0, x, INNER), forward - bridge.g2(INNER)[:, None] * score, 1e-8, 1e-9)


@by_family
def test_the_ode_carries_the_marginals(bridge):
    """Pinned at both ends, x = mean(t) + c(t) z with z kept: velocity = mean' + c' z, by central differences."""
    x0, xT, z = (torch.randn(3, 1, dtype=torch.float64) for _ in range(3))
    t, h = INNER[1:4], 1e-5
    velocity = (bridge.sample(x0, xT, t + h, z) - bridge.sample(x0, xT, t - h, z)) / (2 * h)
    close(bridge.ode_drift(x0, bridge.sample(x0, xT, t, z), t, xT), velocity, 1e-7)


@by_family
def test_simulated_paths_have_the_bridges_marginals(bridge):
    n, steps = 10_000, 500
    generator = torch.Generator().manual_seed(0)
    x = x0 = torch.full((n, 1), 0.7, dtype=torch.float64)
    xT, h = torch.full((n, 1), -0.4, dtype=torch.float64), 1 / steps
    for k in range(int(0.9 * steps)):
        z = torch.randn(n, 1, generator=generator, dtype=torch.float64)
        # g² at the middle of the step, where its integral is right to second order.
        x = x + h * bridge.forward_drift(x, k * h, xT) + (h * bridge.g2((k + 0.5) * h)).sqrt() * z
        t = (k + 1) * h
        if k + 1 in (steps // 5, steps // 2, int(0.9 * steps)):
            a, b, c = bridge.coefficients(t)
            # 4 standard errors, and Euler's O(h): the pull's rate is at most 1/(1 - t) here, so h/(1 - t) of c.
            bias = h / (1 - t)
            assert abs(float((x - a * xT - b * x0).mean() / c)) < 4 / n**0.5 + bias
            assert abs(float(x.var() / c**2 - 1)) < 4 * (2 / n) ** 0.5 + 2 * bias


# -- the clock ---------------------------------------------------------------------------------


@by_family
def test_time_at_inverts_the_clock(bridge):
    t = torch.tensor([0.0, 1e-4, 0.1234, 0.5, 0.9, 0.9999, 1.0], dtype=torch.float64)
    close(bridge.time_at(bridge.clock(t)), t, 1e-12)
    assert float(bridge.time_at(0.0)) < 1e-15 and float(bridge.time_at(1.0)) == pytest.approx(1, abs=1e-15)


def test_bisection_agrees_with_the_closed_inverse():
    closed = vp(2.0, 0.1)
    u = torch.linspace(0, 1, 11, dtype=torch.float64)
    close(Bridge(closed.alpha, closed.rho2).time_at(u), closed.time_at(u), 1e-12)


@pytest.mark.parametrize("parameters", [(2.0, 0.0), (0.0, 0.1)])
def test_vp_with_one_half_of_its_schedule(parameters):
    bridge = vp(*parameters)
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    close(bridge.time_at(bridge.clock(t)), t, 1e-7)  # beta_min 0: rho² ~ t², whose root halves the digits
    assert bool(torch.isfinite(torch.stack(bridge.coefficients(t))).all())


# -- conventions and refusals ------------------------------------------------------------------


def test_dtypes():
    bridge = vp()
    assert all(c.dtype == torch.float64 for c in bridge.coefficients(0.5))
    assert all(c.dtype == torch.float32 for c in bridge.coefficients(torch.tensor([0.5])))
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.ones(2, 3, dtype=dtype)
        for t in (0.5, torch.tensor([0.2, 0.3]), torch.tensor([0.2, 0.3], dtype=torch.float64)):
            assert bridge.sample(x, x, t).dtype == dtype
            assert {y.dtype for y in bridge.posterior(x, x, 0.1, t)} == {dtype}
            assert bridge.reverse_drift(x, x, t).dtype == dtype
            assert bridge.forward_drift(x, t, x).dtype == dtype
            assert bridge.ode_drift(x, x, t, x).dtype == dtype


def test_float32_times_lose_nothing_in_between():
    """Coefficients are worked out in float64: only the time itself is rounded."""
    t = torch.tensor([1 - 2**-20])
    a, b, c = ve(80.0).coefficients(t)
    exact = ve(80.0).coefficients(t.double())
    for x, y in zip((a, b, c), exact, strict=True):
        close(x.double(), y, 0.0, 1e-7)


def test_gradients_flow_through_sample():
    x0, xT, z = (torch.randn(2, 1, dtype=torch.float64, requires_grad=True) for _ in range(3))
    grads = torch.autograd.grad(brownian(0.5).sample(x0, xT, 0.3, z).sum(), (x0, xT, z))
    for grad, coefficient in zip(grads, (0.7, 0.3, math.sqrt(0.5 * 0.3 * 0.7)), strict=True):
        close(grad, torch.full_like(grad, coefficient), 1e-12)


def test_names():
    assert repr(vp(2, 0.1)) == "vp(beta_d=2, beta_min=0.1)"
    for bridge in FAMILIES[:4]:
        again = bridge_from(bridge.family, **dict(bridge.parameters))
        close(again.rho2(INNER), bridge.rho2(INNER), 0.0)
    assert set(bridges.FAMILIES) == {bridge.family for bridge in FAMILIES[:4]}


X = torch.zeros(2, 1)
B = brownian()
REFUSED = {
    "epsilon zero": (lambda: brownian(0), ValueError, "epsilon"),
    "epsilon nan": (lambda: brownian(math.nan), ValueError, "epsilon"),
    "epsilon text": (lambda: brownian("0.1"), TypeError, "epsilon"),
    "sigma negative": (lambda: ve(-1), ValueError, "sigma_max"),
    "no noise": (lambda: vp(0, 0), ValueError, "both 0"),
    "beta negative": (lambda: vp(2, -0.1), ValueError, "beta_min"),
    "odd steps": (lambda: i2sb(0.3, 999), ValueError, "even"),
    "fractional steps": (lambda: i2sb(0.3, 10.5), TypeError, "steps"),
    "alpha of 2 at 0": (lambda: Bridge(lambda t: 2 + t, lambda t: t), ValueError, "alpha"),
    "alpha through 0": (lambda: Bridge(lambda t: 1 - 2 * t, lambda t: t), ValueError, "alpha"),
    "rho2 falls": (lambda: Bridge(torch.ones_like, lambda t: t * (1 - t)), ValueError, "rho2"),
    "rho2 starts at 1": (lambda: Bridge(torch.ones_like, lambda t: 1 + t), ValueError, "rho2"),
    "schedule's shape": (lambda: Bridge(torch.ones_like, lambda t: t.sum()), ValueError, "shape"),
    "family typo": (lambda: bridge_from("bronian"), ValueError, "brownian"),
    "t above 1": (lambda: B.coefficients(1.5), ValueError, r"\[0, 1\]"),
    "t nan": (lambda: B.coefficients(math.nan), ValueError, r"\[0, 1\]"),
    "t text": (lambda: B.coefficients("half"), TypeError, "str"),
    "t for another batch": (lambda: B.sample(X, X, torch.zeros(3)), ValueError, r"\(2,\)"),
    "t with a column": (lambda: B.sample(X, X, torch.zeros(2, 1)), ValueError, "one time per sample"),
    "shapes differ": (lambda: B.sample(X, torch.zeros(2, 2), 0.5), ValueError, "same shape"),
    "dtypes differ": (lambda: B.sample(X, X.double(), 0.5), TypeError, "float64"),
    "noise's shape": (lambda: B.sample(X, X, 0.5, z=torch.zeros(2, 2)), ValueError, "z"),
    "integers": (lambda: B.sample(X.int(), X.int(), 0.5), TypeError, "floating"),
    "s after t": (lambda: B.posterior(X, X, 0.6, 0.5), ValueError, "s <= t"),
    "reverse drift at 0": (lambda: B.reverse_drift(X, X, 0.0), ValueError, "reverse drift"),
    "score at 0": (lambda: B.score(X, X, 0.0, X), ValueError, "score"),
    "score at T": (lambda: B.score(X, X, torch.tensor([0.5, 1.0]), X), ValueError, "score"),
    "pinned drift at T": (lambda: B.forward_drift(X, 1.0, X), ValueError, "pinned drift"),
    "ode at T": (lambda: B.ode_drift(X, X, 1.0, X), ValueError, "score"),
    "ode at 0": (lambda: B.ode_drift(X, X, 0.0, X), ValueError, "score"),
    "u above 1": (lambda: B.time_at(1.1), ValueError, "u "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    call, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        call()
