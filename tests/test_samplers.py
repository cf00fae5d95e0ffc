"""Samplers against exactly propagated Gaussian laws: with a linear denoiser each is an affine map of xT and noise.

`law` reads that map off the *real* `sample`: one row of the batch per basis input (nothing, xT, and each unit noise).
Orders and limits are those computed before the library was written; no Monte Carlo but in one test.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch

from ibmd_minimal import samplers
from ibmd_minimal.bridges import brownian, i2sb, ve, vp
from ibmd_minimal.exact import GaussianCoupling
from ibmd_minimal.samplers import METHODS, dbim_step, euler_maruyama_step, ode_step, sample, steps, time_grid

BRIDGES = {"brownian": brownian(0.5), "vp": vp(2, 0.1), "ve": ve(2)}
MEAN0, VAR0, MEANT, VART, CROSS = 0.7, 0.16, -0.3, 1.21, 0.25
SLOPE, REST = CROSS / VART, VAR0 - CROSS**2 / VART  # x0 | xT ~ N(MEAN0 + SLOPE (xT - MEANT), REST)
ANY = ("posterior", "euler-maruyama")


class Linear:
    """The exact denoiser of the scalar coupling, written out here so that nothing is tested against itself."""

    def __init__(self, bridge, conditional):
        self.bridge, self.conditional, self.passes = bridge, conditional, 0

    def __call__(self, x_t, t, xT):
        self.passes += 1
        t = t[0].double()
        alpha, rho2, one = self.bridge.alpha, self.bridge.rho2, torch.ones_like(t)
        u = float(rho2(t) / rho2(one))
        a, b = float(alpha(t) / alpha(one)) * u, float(alpha(t)) * (1 - u)
        c2 = float(alpha(t) ** 2 * rho2(t)) * (1 - u)
        if self.conditional:
            mean0 = MEAN0 + SLOPE * (xT - MEANT)
            return mean0 + b * REST / (b**2 * REST + c2 or 1) * (x_t - a * xT - b * mean0)
        variance = a**2 * VART + b**2 * VAR0 + 2 * a * b * CROSS + c2
        return MEAN0 + (a * CROSS + b * VAR0) / variance * (x_t - a * MEANT - b * MEAN0)


@pytest.fixture
def law(monkeypatch):
    """`law(model, nfe, method, ...)`: exact mean and variance of the sampler's x0, and its covariance with xT."""

    def propagate(model, nfe, method, **options):
        draws = iter(range(2, nfe + 2))

        def unit_noise(shape, like, generator=None):
            z = torch.zeros(shape, dtype=like.dtype)
            z[next(draws)] = 1
            return z

        monkeypatch.setattr(samplers, "normal", unit_noise)
        xT = torch.zeros(nfe + 2, 1, dtype=torch.float64)
        xT[1] = 1
        x0 = sample(model, model.bridge, xT, nfe, method, **options)[:, 0]
        base, of_xT, of_noise = x0[0], x0[1] - x0[0], x0[2:] - x0[0]
        return torch.stack([base + of_xT * MEANT, of_xT**2 * VART + of_noise.square().sum(), of_xT * VART])

    return propagate


def error(found, conditional, variance=VAR0):
    """Largest error in mean, variance and, for conditional denoisers, covariance with xT."""
    wanted = torch.tensor([MEAN0, variance, CROSS], dtype=torch.float64)
    return float((found - wanted).abs()[: 3 if conditional else 2].max())


# Slopes between NFE 50 and 100, and 400 and 800, must lie within 0.2 of the range stated for NFE 10 to 640. VE's
# posterior on a uniform grid is not in that table; like the others its error is h log(1/h), of order just below 1.
ORDERS = [
    ("posterior", {}, "uniform", {"brownian": (0.51, 0.76), "vp": (0.64, 0.89), "ve": (0.7, 1.0)}, (False, True)),
    ("posterior", {}, "quadratic", {"brownian": (0.71, 0.97), "vp": (0.77, 0.99), "ve": (0.8, 1.0)}, (False, True)),
    ("euler-maruyama", {}, "uniform", dict.fromkeys(BRIDGES, (1.0, 1.08)), (False, True)),
    ("euler-maruyama", {}, "quadratic", dict.fromkeys(BRIDGES, (1.0, 1.06)), (False, True)),
    ("dbim", {"eta": 0.0}, "uniform", {"brownian": (0.65, 0.87), "vp": (0.84, 0.93), "ve": (0.85, 0.99)}, (True,)),
    ("dbim", {"eta": 0.5}, "uniform", {"brownian": (0.65, 0.87), "vp": (0.84, 0.93), "ve": (0.85, 0.99)}, (True,)),
    ("dbim", {"eta": 0.0}, "quadratic", dict.fromkeys(BRIDGES, (0.88, 1.0)), (True,)),
]  # fmt: skip
CASES = [
    pytest.param(method, options, grid, name, conditional, ranges[name])
    for method, options, grid, ranges, kinds in ORDERS
    for conditional in kinds
    for name in BRIDGES
]  # fmt: skip


@pytest.mark.parametrize("method, options, grid, name, conditional, stated", CASES)
def test_orders_of_the_stochastic_samplers(law, method, options, grid, name, conditional, stated):
    model = Linear(BRIDGES[name], conditional)
    for nfe in (50, 400):
        coarse, fine = (error(law(model, n, method, grid=grid, **options), conditional) for n in (nfe, 2 * nfe))
        assert stated[0] - 0.2 < math.log2(coarse / fine) < stated[1] + 0.2
    assert fine < 4e-3


@pytest.mark.parametrize("name", BRIDGES)
@pytest.mark.parametrize("method, order", [("ode-euler", 1.0), ("ode-heun", 2.0)])
def test_ode_from_a_fixed_start_has_its_order(law, method, order, name):
    # The flow scales x_t - E[x_t | xT] by the ratio of standard deviations; the start at T - delta lacks the variance
    # b² REST, which the posterior step off T, around the denoiser's mean, does not have.
    model = Linear(BRIDGES[name], True)
    _, b, c = (float(x) for x in model.bridge.coefficients(0.99))
    limit = VAR0 - REST + REST * c**2 / (b**2 * REST + c**2)
    assert 1e-5 < VAR0 - limit < 1e-3
    coarse, fine = (error(law(model, nfe, method, delta=0.01), True, limit) for nfe in (50, 800))
    # stated: Euler 1.05, Heun 1.9 rising to 2.0 (VE reaches it last); 0.2 to either side
    assert order - 0.2 - 0.1 * (order == 2) < math.log2(coarse / fine) / 4 < order + 0.2


@pytest.mark.parametrize("name", BRIDGES)
def test_ode_on_a_uniform_grid_does_not_converge(law, name):
    model = Linear(BRIDGES[name], True)
    for nfe in (200, 800):
        assert 0.025 < error(law(model, nfe, "ode-euler", grid="uniform"), True) < 0.035
        assert 0.0045 < error(law(model, nfe, "ode-heun", grid="uniform"), True) < 0.0055


@pytest.mark.parametrize("name", BRIDGES)
def test_ode_on_the_default_grid_tends_to_the_exact_law(law, name):
    model = Linear(BRIDGES[name], True)
    for method, ratio, last in (("ode-euler", 3.0, 1e-2), ("ode-heun", 8.0, 3e-3)):
        coarse, fine = (error(law(model, nfe, method), True) for nfe in (100, 800))
        assert coarse > ratio * fine and fine < last


def test_heun_on_the_default_grid_has_the_tabulated_errors(law):
    # NFE 2n - 2 makes n steps: one pass off T, one to 0, two for each step between. The table has one or two digits.
    model = Linear(BRIDGES["brownian"], True)
    for n, stated in ((10, 8e-2), (20, 4e-2), (40, 1.6e-2), (80, 6e-3), (160, 2.3e-3)):
        assert error(law(model, 2 * n - 2, "ode-heun"), True) == pytest.approx(stated, rel=0.1)


@pytest.mark.parametrize("name, cross", [("brownian", 0.255), ("vp", 0.158), ("ve", 0.054)])
@pytest.mark.parametrize("method", ANY)
def test_unconditional_samplers_end_with_the_pairing_of_the_process(law, method, name, cross):
    joint = GaussianCoupling(torch.tensor([MEAN0, MEANT]), torch.tensor([[VAR0, CROSS], [CROSS, VART]]))
    process = float(joint.process_coupling(BRIDGES[name]).cov[0, 1])
    assert process == pytest.approx(cross, abs=6e-4)
    coarse, fine = (float(law(Linear(BRIDGES[name], False), n, method, grid="quadratic")[2]) for n in (200, 400))
    # Order 1: the extrapolated covariance is off by the second order only, here below 1/400 of CROSS.
    assert 2 * fine - coarse == pytest.approx(process, abs=6e-4)


WRONG = [(0.0, "vp", 0.017), (0.0, "ve", 0.023), (0.5, "vp", 0.010), (0.5, "ve", 0.011)]


@pytest.mark.parametrize("eta, name, off", WRONG)
def test_dbim_below_eta_1_settles_at_a_wrong_law_with_an_unconditional_denoiser(law, eta, name, off):
    model = Linear(BRIDGES[name], False)
    found = [float(law(model, n, "dbim", eta=eta, conditional=True, grid="quadratic")[1]) for n in (200, 400)]
    assert abs(2 * found[1] - found[0] - VAR0) == pytest.approx(off, abs=1e-3)


# -- single steps --------------------------------------------------------------------------------


def random_states(dtype=torch.float64):
    return (torch.randn(5, 3, dtype=dtype, generator=torch.Generator().manual_seed(i)) for i in range(3))


@pytest.mark.parametrize("bridge", [*BRIDGES.values(), i2sb(1.0)], ids=repr)
def test_dbim_keeps_the_bridge(bridge):
    x0, x_t, xT = random_states()
    one = torch.ones(5, dtype=torch.float64)
    for s, t in ((0.0, 0.4), (0.2, 0.9), (0.7, 0.7), (0.3, 0.999)):
        (a_s, b_s, c_s), (a, b, c) = bridge.coefficients(s), bridge.coefficients(t)
        for eta in (0.0, 0.3, 1.0):
            on_mean, std = dbim_step(bridge, x0, a * xT + b * x0, xT, s, t, eta)
            torch.testing.assert_close(on_mean, a_s * xT + b_s * x0, atol=1e-12, rtol=0)
            kappa = (dbim_step(bridge, 0 * x0, x_t, 0 * xT, s, t, eta)[0] / x_t)[:, 0]
            torch.testing.assert_close((kappa * c) ** 2 + std**2, c_s**2 * one, atol=1e-12, rtol=0)
            torch.testing.assert_close(std, eta * bridge.posterior(x0, x_t, s, t)[1])


@pytest.mark.parametrize("bridge", [*BRIDGES.values(), i2sb(1.0)], ids=repr)
def test_dbim_at_eta_1_is_the_posterior(bridge):
    x0, x_t, xT = random_states()
    for s, t in ((0.0, 1.0), (0.4, 1.0), (0.3, 0.8), (0.0, 0.1)):
        mean, std = bridge.posterior(x0, x_t, s, t)
        torch.testing.assert_close(dbim_step(bridge, x0, x_t, xT, s, t, 1.0), (mean, std), atol=0, rtol=0)
        if t < 1:  # the general formula tends to it
            close = dbim_step(bridge, x0, x_t, xT, s, t, 1 - 1e-15)
            torch.testing.assert_close(close, (mean, std), atol=1e-12, rtol=1e-12)


def test_dbim_has_the_published_coefficients():
    table = (Path(__file__).parent / "data" / "dbim_steps_vp.csv").read_text().splitlines()
    xhat0, xT, x_t = torch.eye(3, dtype=torch.float64)[:, None]
    for row in csv.DictReader(table):
        # their step runs from s to t, ours from t to s; their grid was float32, and 1 - t matters to 8 digits
        t, s = (float(torch.tensor(float(row[name]), dtype=torch.float32)) for name in "st")
        eta = 1.0 if t == 1 else float(row["eta"])  # their step off T is a posterior step
        mean, std = dbim_step(vp(2, 0.1), xhat0, x_t, xT, s, t, eta)
        found, wanted = mean[0].tolist(), [float(row[f"coef_{name}"]) for name in ("x0hat", "xT", "xs")]
        if t == 1:  # x_t is xT there: they count it as xT
            found, wanted = [found[0], found[1] + found[2]], wanted[:2]
        assert found == pytest.approx(wanted, abs=1e-6)
        if s > 1e-3:  # they leave the noise out of their last step
            assert float(std) == pytest.approx(float(row["noise_std"]), abs=1e-6)


def test_steps_of_euler_maruyama_and_the_ode_follow_the_drifts():
    bridge, (x0, x_t, xT) = vp(), random_states()
    t, s = torch.linspace(0.3, 0.9, 5, dtype=torch.float64), torch.linspace(0.1, 0.5, 5, dtype=torch.float64)
    mean, std = euler_maruyama_step(bridge, x0, x_t, xT, s, t)
    torch.testing.assert_close(mean, x_t - (t - s)[:, None] * bridge.reverse_drift(x0, x_t, t))
    torch.testing.assert_close(std[:, 0] ** 2, (0.1 + 2 * t) * (t - s))
    mean, std = ode_step(bridge, x0, x_t, xT, s, t)
    torch.testing.assert_close(mean, x_t - (t - s)[:, None] * bridge.ode_drift(x0, x_t, t, xT))
    assert not std.any()


# -- passes, ends, paths, noise ------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("nfe", [1, 2, 3, 4, 5, 8, 13])
def test_nfe_counts_network_passes(method, nfe):
    for bridge in (*BRIDGES.values(), i2sb(0.3)):
        model, xT = Linear(bridge, True), torch.randn(4, 1, dtype=torch.float64)
        for grid in ("uniform", "quadratic", "clock", "geometric"):
            model.passes = 0
            x0 = sample(model, bridge, xT, nfe, method, grid=grid)
            assert model.passes == nfe and bool(torch.isfinite(x0).all())


@pytest.mark.parametrize("method", METHODS)
def test_one_pass_is_the_denoiser_at_T(method):
    for dtype in (torch.float32, torch.float64):
        model, xT = Linear(BRIDGES["vp"], True), torch.randn(4, 1, dtype=dtype)
        assert torch.equal(sample(model, BRIDGES["vp"], xT, 1, method), model(xT, torch.ones(4, dtype=dtype), xT))


@pytest.mark.parametrize("method", ["posterior", "euler-maruyama", "dbim"])
def test_the_last_step_is_the_last_guess(method):
    *_, last = steps(Linear(BRIDGES["ve"], True), BRIDGES["ve"], torch.randn(4, 1), 6, method)
    assert last.t == 0 and torch.equal(last.x_t, last.xhat0)


@pytest.mark.parametrize("method", METHODS)
def test_path_and_steps_agree(method):
    model, xT = Linear(BRIDGES["vp"], True), torch.randn(4, 1, dtype=torch.float64)
    x0, path, times = sample(
        model, BRIDGES["vp"], xT, 7, method, return_path=True, generator=torch.Generator().manual_seed(3)
    )
    taken = list(steps(model, BRIDGES["vp"], xT, 7, method, generator=torch.Generator().manual_seed(3)))
    n = 5 if method == "ode-heun" else 7
    assert path.shape == (n + 1, 4, 1) and torch.equal(path[0], xT) and torch.equal(path[-1], x0)
    assert times.tolist() == [1.0] + [step.t for step in taken] and times[-1] == 0 and bool((times.diff() < 0).all())
    assert all(torch.equal(one, step.x_t) for one, step in zip(path[1:], taken, strict=True))


def test_a_step_of_the_path_is_the_step_function():
    bridge, xT = BRIDGES["ve"], torch.randn(4, 1, dtype=torch.float64)
    model = Linear(bridge, True)
    for method, step in (("dbim", lambda *now: dbim_step(*now, eta=0.0)), ("ode-euler", ode_step)):
        _, path, times = sample(model, bridge, xT, 6, method, return_path=True, grid="uniform")
        for i in range(1, 5):
            xhat0 = model(path[i], times[i].expand(4), xT)
            wanted, _ = step(bridge, xhat0, path[i], xT, float(times[i + 1]), float(times[i]))
            torch.testing.assert_close(path[i + 1], wanted, atol=1e-12, rtol=1e-12)


def test_noise_comes_from_the_generator_alone():
    model, xT = Linear(BRIDGES["vp"], True), torch.randn(64, 1)
    first, second, other = (
        sample(model, BRIDGES["vp"], xT, 5, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_monte_carlo_agrees_with_the_propagated_law(law, monkeypatch):
    model, n = Linear(BRIDGES["vp"], False), 40_000
    mean, variance, cross = law(model, 6, "posterior").tolist()
    monkeypatch.undo()
    generator = torch.Generator().manual_seed(0)
    xT = MEANT + math.sqrt(VART) * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    x0 = sample(model, BRIDGES["vp"], xT, 6, generator=generator)
    # four standard errors of a mean, a variance and a covariance of Gaussians
    assert abs(float(x0.mean()) - mean) < 4 * math.sqrt(variance / n)
    assert abs(float(x0.var()) - variance) < 4 * variance * math.sqrt(2 / n)
    found = float(((x0 - x0.mean()) * (xT - xT.mean())).mean())
    assert abs(found - cross) < 4 * math.sqrt((variance * VART + cross**2) / n)


def test_runs_without_gradients_and_leaves_the_callers_mode_alone():
    xT = torch.randn(4, 1, requires_grad=True)
    for step in steps(lambda x_t, t, xT: 0.5 * x_t, brownian(), xT, 3):
        assert not step.x_t.requires_grad and torch.is_grad_enabled()


def test_label_reaches_the_model_only_if_given():
    seen = []

    def model(x_t, t, xT, **extra):
        seen.append(extra)
        return 0.5 * x_t

    xT, label = torch.randn(4, 2), torch.arange(4)
    sample(model, brownian(), xT, 2)
    sample(model, brownian(), xT, 2, label=label)
    assert seen == [{}, {}, {"label": label}, {"label": label}]


def test_half_precision_sees_exact_enough_times():
    seen = []
    xT = torch.randn(4, 2, dtype=torch.bfloat16)
    x0 = sample(lambda x_t, t, xT: seen.append(t) or 0.5 * x_t, brownian(), xT, 10)
    assert x0.dtype == torch.bfloat16 and float(seen[3][0]) == pytest.approx(0.7, abs=1e-6)


# -- grids ---------------------------------------------------------------------------------------


def test_grids():
    bridge = vp()
    for name in samplers.GRIDS:
        for n in (1, 2, 5, 40):
            times = time_grid(name, n, bridge)
            assert times[0] == 1 and times[-1] == 0 and len(times) == n + 1 and bool((times.diff() < 0).all())
    torch.testing.assert_close(bridge.clock(time_grid("clock", 5, bridge)), time_grid("uniform", 5, bridge))
    assert time_grid("quadratic", 4, bridge).tolist() == [1, 0.5625, 0.25, 0.0625, 0]
    left = 1 - time_grid("geometric", 11, bridge, delta=0.01)[1:]
    torch.testing.assert_close(left, torch.logspace(-2, 0, 11, dtype=torch.float64))
    assert float(1 - time_grid("geometric", 10, bridge)[1]) == pytest.approx(0.01)


def test_own_grid_is_used():
    own = torch.tensor([1.0, 0.5, 0.25, 0.0])
    run = sample(Linear(vp(), False), vp(), torch.randn(4, 1), 3, grid=own, return_path=True)
    assert run.times.tolist() == own.tolist()


# -- refusals ------------------------------------------------------------------------------------

XT = torch.randn(4, 1)


@pytest.mark.parametrize(
    "kind, says, change",
    [
        (ValueError, "E\\[xT \\| x_t\\].*conditional=True", {"method": "ode-heun"}),
        (ValueError, "E\\[xT \\| x_t\\].*conditional=True", {"method": "dbim", "eta": 0.5}),
        (ValueError, "eta is 0.5 with method 'posterior'", {"eta": 0.5}),
        (ValueError, "eta is 1.5", {"method": "dbim", "eta": 1.5}),
        (ValueError, "did you mean 'posterior'", {"method": "posterio"}),
        (ValueError, "nfe is 0", {"nfe": 0}),
        (TypeError, "nfe is 2.5", {"nfe": 2.5}),
        (ValueError, "did you mean 'uniform'", {"grid": "unifrom"}),  # codespell:ignore
        (ValueError, "wanted 4 floats", {"grid": torch.linspace(1, 0, 5)}),
        (ValueError, "wanted 1 down to 0", {"grid": torch.linspace(0, 1, 4)}),
        (ValueError, "wanted 1 down to 0", {"grid": torch.tensor([1.0, 0.2, 0.5, 0.0])}),
        (ValueError, "wanted 1 down to 0", {"grid": torch.tensor([1.0, math.nan, 0.5, 0.0])}),
        (ValueError, "delta is 0.1", {"delta": 0.1}),
        (ValueError, "delta is 0.1", {"delta": 0.1, "grid": torch.linspace(1, 0, 4)}),
        (ValueError, "delta is 1.5", {"delta": 1.5, "grid": "geometric"}),
        (ValueError, "delta is -0.1", {"delta": -0.1, "grid": "geometric"}),
        (TypeError, "conditional is 1", {"conditional": 1}),
        (ValueError, "xT holds 1 non-finite", {"xT": torch.tensor([[0.0], [math.inf]])}),
        (ValueError, "xT has shape \\(4,\\)", {"xT": torch.zeros(4)}),
        (TypeError, "xT has dtype torch.int64", {"xT": torch.zeros(4, 1, dtype=torch.long)}),
        (ValueError, "label has shape \\(3,\\)", {"label": torch.arange(3)}),
        (TypeError, "model is a NoneType", {"model": None}),
        (TypeError, "bridge is a str", {"bridge": "vp"}),
        (TypeError, "generator is a int", {"generator": 0}),
        (ValueError, "returned torch.float32, shape \\(4,\\)", {"model": lambda x_t, t, xT: x_t[:, 0]}),
        (ValueError, "returned a tuple", {"model": lambda x_t, t, xT: (x_t, xT)}),
    ],
)
def test_refuses(kind, says, change):
    arguments = {"model": lambda x_t, t, xT: x_t, "bridge": brownian(), "xT": XT, "nfe": 3} | change
    with pytest.raises(kind, match=says):
        sample(**arguments)


def test_steps_refuses_before_the_first_step():
    with pytest.raises(ValueError, match="nfe is 0"):
        steps(lambda x_t, t, xT: x_t, brownian(), XT, 0)


def test_eta_1_and_declared_denoisers_are_not_refused():
    assert sample(lambda x_t, t, xT: x_t, brownian(), XT, 3, "dbim", eta=1).shape == XT.shape
    assert sample(lambda x_t, t, xT: x_t, brownian(), XT, 3, "ode-heun", conditional=True).shape == XT.shape
    with pytest.raises(ValueError, match="not declared"):
        sample(Linear(brownian(), True), brownian(), XT, 3, "dbim", conditional=False)


def test_single_steps_refuse_where_they_are_undefined():
    with pytest.raises(ValueError, match="divides by c_t"):
        dbim_step(brownian(), XT, XT, XT, 0.5, 1.0, eta=0.5)
    with pytest.raises(ValueError, match="t = 1"):
        ode_step(brownian(), XT, XT, XT, 0.5, 1.0)
    with pytest.raises(ValueError, match="t = 0"):
        euler_maruyama_step(brownian(), XT, XT, XT, 0.0, 0.0)
    for step in (dbim_step, euler_maruyama_step, ode_step):
        with pytest.raises(ValueError, match="s reaches"):
            step(brownian(), XT, XT, XT, 0.9, 0.5)
