"""The exact cases, against formulas that do not share a line with them: block conditioning, brute force, sampling."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from torch.distributions import MultivariateNormal, kl_divergence

from ibmd_minimal import _quadrature, exact
from ibmd_minimal._quadrature import gauss_legendre
from ibmd_minimal.bridges import Bridge, brownian, i2sb, ve, vp
from ibmd_minimal.exact import FiniteCoupling, GaussianCoupling, kl_mixtures, kl_paths, noised_kl, path_divergence

FAMILIES = [brownian(0.5), i2sb(0.3), ve(2.0), vp(2.0, 0.1)]
by_family = pytest.mark.parametrize("bridge", FAMILIES, ids=lambda bridge: bridge.family)
by_kind = pytest.mark.parametrize("conditional", [False, True], ids=["unconditional", "conditional"])
SCALAR = GaussianCoupling.of(0.7, -0.3, 0.16, 1.21, 0.25)
INDEPENDENT = GaussianCoupling.of(0.0, 0.0, 1.0, 1.0, 0.0)


def close(x, y, atol: float = 1e-10, rtol: float = 0.0) -> None:
    x, y = (torch.as_tensor(value, dtype=torch.float64) for value in (x, y))
    torch.testing.assert_close(x, y, atol=atol, rtol=rtol)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coupling(dim: int, seed: int = 0, like: GaussianCoupling | None = None) -> GaussianCoupling:
    """A random coupling, every block full and the cross-covariance not symmetric; `like`: the same law of xT."""
    generator = seeded(seed)
    root = torch.randn(2 * dim, 2 * dim, generator=generator, dtype=torch.float64) / (2 * dim) ** 0.5
    mean = torch.randn(2 * dim, generator=generator, dtype=torch.float64) / 2
    made = GaussianCoupling(mean, root @ root.T + 0.1 * torch.eye(2 * dim))
    if like is None:
        return made
    slope, residual = made.regression
    _, meanT, _, covT, _ = like.parts
    return GaussianCoupling.of(mean[:dim], meanT, residual + slope @ covT @ slope.T, covT, slope @ covT)


def conditioned(p: GaussianCoupling, bridge: Bridge, t: float, conditional: bool):
    """Gain, offset and covariance of x0 given x_t (then xT) by block conditioning of the stacked (x0, x_t, xT)."""
    a, b, c = (float(x) for x in bridge.coefficients(t))
    d, eye, zero = p.dim, torch.eye(p.dim).double(), torch.zeros(p.dim, p.dim).double()
    rows = torch.cat([torch.cat([eye, zero], 1), torch.cat([b * eye, a * eye], 1), torch.cat([zero, eye], 1)])
    cov = rows @ p.cov @ rows.T
    cov[d : 2 * d, d : 2 * d] += c**2 * eye
    mean, seen = rows @ p.mean, slice(d, 3 * d if conditional else 2 * d)
    gain = torch.linalg.solve(cov[seen, seen], cov[seen, :d]).T
    return gain, mean[:d] - gain @ mean[seen], cov[:d, :d] - gain @ cov[seen, :d]


# -- Gaussian couplings ------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 5])
@by_kind
@by_family
def test_gaussian_denoiser_is_conditioning(bridge, conditional, dim):
    p, t = coupling(dim), torch.tensor([0.05, 0.4, 0.95], dtype=torch.float64)
    denoiser = p.denoiser(bridge, conditional)
    gain, gainT, rest = denoiser.linear(t)
    x_t, xT = (torch.randn(3, dim, generator=seeded(1), dtype=torch.float64) for _ in range(2))
    xhat0 = denoiser(x_t, t, xT)
    for i, time in enumerate(t.tolist()):
        wanted, offset, residual = conditioned(p, bridge, time, conditional)
        close(torch.cat([gain[i], gainT[i]], 1)[:, : wanted.shape[1]], wanted, 1e-9)
        close(rest[i], offset, 1e-9)
        close(denoiser.residual(t)[i], residual, 1e-9)
        seen = torch.cat([x_t[i], xT[i]]) if conditional else x_t[i]
        close(xhat0[i], wanted @ seen + offset, 1e-9)
    assert denoiser.conditional is conditional and (conditional or bool((gainT == 0).all()))


@by_kind
@by_family
def test_gaussian_denoiser_at_both_ends(bridge, conditional):
    p = coupling(2)
    denoiser, x = p.denoiser(bridge, conditional), torch.randn(4, 2, generator=seeded(2), dtype=torch.float64)
    mean0, meanT, *_ = p.parts
    close(denoiser(x, 0.0, x + 1), x)
    close(denoiser(x, 1.0, x), mean0 + (x - meanT) @ p.regression[0].T)
    for end, near in ((0.0, 1e-10), (1.0, 1 - 1e-10)):
        for at_end, close_by in zip(denoiser.linear(end), denoiser.linear(near)):
            close(at_end, close_by, 1e-7)  # the coefficients' slopes are of order 10 and less


@by_kind
@pytest.mark.parametrize("which", ["x0 on a line", "xT a point", "x0 a function of xT", "both points"])
def test_degenerate_couplings_have_denoisers(which, conditional):
    eye, zero, line = torch.eye(2).double(), torch.zeros(2, 2).double(), torch.tensor([[1.0, 2.0], [2.0, 4.0]]).double()
    blocks = {
        "x0 on a line": (line, eye, line / 4),
        "xT a point": (line + eye, zero, zero),
        "x0 a function of xT": (line @ line, eye, line),
        "both points": (zero, zero, zero),
    }[which]
    mean0, meanT = torch.tensor([0.3, -1.0]).double(), torch.tensor([1.0, 0.0]).double()
    p, bridge = GaussianCoupling.of(mean0, meanT, *blocks), vp()
    x0, xT = p.sample(5, seeded(3))
    for t in (0.0, 1e-9, 0.3, 1 - 1e-9, 1.0):
        x_t = bridge.sample(x0, xT, t, generator=seeded(4))
        xhat0 = p.denoiser(bridge, conditional)(x_t, t, xT)
        off_support = xhat0 - mean0 - (xhat0 - mean0) @ torch.linalg.pinv(blocks[0]) @ blocks[0]
        assert float(off_support.abs().max()) < 1e-5
        if t == 0 or (conditional and which == "x0 a function of xT"):
            close(xhat0, x0, 1e-5)


def test_marginals_and_samples():
    p, bridge, n = coupling(2), vp(), 100_000
    x0, xT = p.sample(n, seeded(5))
    pairs = torch.cat([x0, xT], 1)
    assert float((pairs.mean(0) - p.mean).div(p.cov.diagonal().sqrt()).abs().max()) < 5 / n**0.5
    scale = torch.outer(p.cov.diagonal(), p.cov.diagonal()).sqrt()
    assert float((pairs.T.cov() - p.cov).div(scale).abs().max()) < 5 * (2 / n) ** 0.5
    mean, cov = p.marginal(bridge, 0.4)
    x_t = bridge.sample(x0, xT, 0.4, generator=seeded(6))
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(cov), (x_t - mean).T, upper=False)
    assert float(whitened.mean(1).abs().max()) < 5 / n**0.5
    assert float((whitened.cov() - torch.eye(2)).abs().max()) < 5 * (2 / n) ** 0.5
    means, covs = p.marginal(bridge, torch.tensor([0.0, 0.4, 1.0]))
    close(means, torch.stack([p.parts[0], p.marginal(bridge, torch.tensor(0.4))[0], p.parts[1]]))
    close(covs[[0, 2]], torch.stack([p.parts[2], p.parts[3]]))


def test_dtypes_shapes_and_generators():
    p, bridge = coupling(4), brownian()
    x = torch.randn(3, 1, 2, 2)
    for dtype in (torch.float32, torch.float64):
        for conditional in (False, True):
            xhat0 = p.denoiser(bridge, conditional)(x.to(dtype), torch.tensor([0.1, 0.5, 1.0]), x.to(dtype))
            assert xhat0.dtype == dtype and xhat0.shape == x.shape
            flat = p.denoiser(bridge, conditional)(
                x.flatten(1).double(), torch.tensor([0.1, 0.5, 1.0]), x.flatten(1).double()
            )
            close(xhat0.flatten(1), flat, 1e-5)
    assert all(torch.equal(*pair) for pair in zip(p.sample(4, seeded(1)), p.sample(4, seeded(1))))
    assert p.sample(2, dtype=torch.float32)[0].dtype == torch.float32


def test_the_parts_make_the_whole():
    p = coupling(3)
    again = GaussianCoupling.of(*p.parts)
    close(again.mean, p.mean)
    close(again.cov, p.cov)
    close(GaussianCoupling.of([0.0, 1.0], 0.5, 2.0, 3.0, 1.0).cov, torch.tensor([[2.0, 1], [1, 3]]).kron(torch.eye(2)))


# -- what samplers tend to ---------------------------------------------------------------------


@pytest.mark.parametrize(("bridge", "covariance"), [(brownian(0.5), 0.255), (vp(2.0, 0.1), 0.158), (ve(2.0), 0.054)])
def test_the_unconditional_process_forgets_the_pairing(bridge, covariance):
    process = SCALAR.process_coupling(bridge)
    assert float(process.cov[0, 1]) == pytest.approx(covariance, abs=5e-4)  # three printed digits
    close(process.mean, SCALAR.mean)
    close(process.cov.diagonal(), SCALAR.cov.diagonal())


def test_a_process_far_from_its_data():
    process = INDEPENDENT.process_coupling(brownian(0.1))
    assert float(process.regression[1]) == pytest.approx(0.141, abs=5e-4)
    assert float(process.cov[0, 1]) == pytest.approx(0.927, abs=5e-4)


@by_family
def test_process_in_one_dimension_is_an_integral(bridge):
    """log Phi = -∫ (1 - K_y)/u du by scipy, in y and u, with K_y from the scalar formula."""
    mean0, meanT, v0, vT, cross = (float(x) for x in SCALAR.parts)
    one = torch.ones((), dtype=torch.float64)
    alpha, rho2 = float(bridge.alpha(one)), float(bridge.rho2(one))

    def rate(u: float) -> float:
        variance = (1 - u) ** 2 * v0 + 2 * u * (1 - u) * cross / alpha + u**2 * vT / alpha**2 + rho2 * u * (1 - u)
        # (variance - Cov(x0, y))/u, divided out by hand so that u = 0 is a number
        numerator = -(1 - u) * v0 + (1 - 2 * u) * cross / alpha + u * vT / alpha**2 + rho2 * (1 - u)
        return numerator / variance

    phi = math.exp(-quad(rate, 0, 1, epsabs=1e-13, epsrel=1e-13)[0])
    close(SCALAR.process_coupling(bridge).cov[0, 1], phi * vT / alpha, 1e-9)


def test_process_in_two_dimensions():
    """Against ever finer exact steps back, whose error is first order on this grid: two of them extrapolated."""
    p, bridge = coupling(2, seed=4), vp()
    crosses = []
    for n in (200, 400):
        times = [float(bridge.time_at((i / n) ** 2)) for i in range(n, 0, -1)]
        crosses.append(p.few_step_coupling(bridge, [1.0, *times[1:]]).parts[4])
    process = p.process_coupling(bridge).parts[4]
    error = float((2 * crosses[1] - crosses[0] - process).abs().max())
    assert error < 2e-4 and error < 0.1 * float((crosses[1] - process).abs().max()) + 1e-6
    assert float((process - p.parts[4]).abs().max()) > 0.01  # there is something to forget


def test_process_of_a_degenerate_coupling():
    """A coordinate of x0 that is a constant stays out of the other's way."""
    cov0, cross = torch.diag(torch.tensor([0.16, 0.0])), torch.diag(torch.tensor([0.25, 0.0]))
    p = GaussianCoupling.of([0.7, 2.0], [-0.3, 0.0], cov0, torch.diag(torch.tensor([1.21, 1.0])), cross)
    wanted = SCALAR.process_coupling(brownian(0.5)).cov[0, 1]
    close(p.process_coupling(brownian(0.5)).parts[4], torch.diag(torch.stack([wanted, torch.zeros_like(wanted)])), 1e-7)


@by_family
def test_one_step_is_the_coupling(bridge):
    p = coupling(2)
    close(p.few_step_coupling(bridge, [1.0]).cov, p.cov, 1e-12)
    close(p.few_step_coupling(bridge, [1.0, 0.4, 0.0]).cov, p.few_step_coupling(bridge, [1.0, 0.4]).cov, 1e-12)


def test_two_steps_forget_some():
    """Two published digits: correlation 0.476, and 0.055 from the truth by the unweighted divergence."""
    bridge = brownian(0.1)
    student = INDEPENDENT.few_step_coupling(bridge, [1.0, 0.5])
    assert float(student.cov[0, 1]) == pytest.approx(0.476, abs=5e-4)
    assert float(path_divergence(student, INDEPENDENT, bridge, weight="plain")) == pytest.approx(0.055, abs=5e-4)


def test_few_steps_rolled_out():
    """The chain drawn: x0 from its exact law given x_t, then the bridge's posterior."""
    p, bridge, n, times = coupling(2, seed=3), ve(2.0), 100_000, [1.0, 0.6, 0.2]
    generator, denoiser = seeded(7), p.denoiser(bridge)
    x = xT = p.sample(n, generator)[1]
    for t, s in zip(times, [*times[1:], 0.0]):
        z = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        x0 = denoiser(x, t) + z @ torch.linalg.cholesky(denoiser.residual(t)).T
        mean, std = bridge.posterior(x0, x, s, t)
        x = mean + std * torch.randn(n, 2, generator=generator, dtype=torch.float64)
    exactly = p.few_step_coupling(bridge, times)
    scale = torch.outer(exactly.cov.diagonal(), exactly.cov.diagonal()).sqrt()
    assert float((torch.cat([x, xT], 1).T.cov() - exactly.cov).div(scale).abs().max()) < 5 * (2 / n) ** 0.5


# -- finite couplings --------------------------------------------------------------------------

ATOMS = FiniteCoupling(
    torch.tensor([[0.0, 0.0], [1.0, 2.0], [-1.0, 1.0], [2.0, -1.0]]),
    torch.tensor([[1.0, 1.0], [0.0, -1.0], [1.0, 1.0], [3.0, 0.0]]),
    torch.tensor([1.0, 2.0, 3.0, 4.0]),
)


@by_kind
@by_family
def test_finite_denoiser_by_brute_force(bridge, conditional):
    t, x_t = 0.35, [[0.5, 0.25], [1.25, -0.5]]  # binary fractions: no rounding on the way to a tensor
    a, b, c = (float(x) for x in bridge.coefficients(t))
    for point, xT in zip(x_t, ([1.0, 1.0], [3.0, 0.0])):
        weights = []
        for w, u, v in zip(ATOMS.weights.tolist(), ATOMS.x0.tolist(), ATOMS.xT.tolist()):
            square = sum((point[d] - a * v[d] - b * u[d]) ** 2 for d in range(2))
            weights.append(w * math.exp(-square / (2 * c**2)) * (not conditional or v == xT))
        wanted = [sum(w * u[d] for w, u in zip(weights, ATOMS.x0.tolist())) / sum(weights) for d in range(2)]
        given = (torch.tensor([point]).double(), t, torch.tensor([xT]).double())
        close(ATOMS.denoiser(bridge, conditional)(*given)[0], wanted, 1e-12)


@by_kind
@by_family
def test_finite_denoiser_is_finite_everywhere(bridge, conditional):
    denoiser = ATOMS.denoiser(bridge, conditional)
    for dtype in (torch.float32, torch.float64):
        xT = ATOMS.xT[[0, 0, 1, 3]].to(dtype)
        for t in (0.0, 1e-300, 1e-30, 1e-9, 0.5, 1 - 1e-9, 1 - 2**-52, 1.0):
            for x_t in (xT, 1e6 * xT, ATOMS.x0.to(dtype)):
                xhat0 = denoiser(x_t, t, xT)
                assert bool(torch.isfinite(xhat0).all()) and xhat0.dtype == dtype


@by_kind
def test_finite_denoiser_at_both_ends(conditional):
    denoiser = ATOMS.denoiser(vp(), conditional)
    close(denoiser(ATOMS.x0, 0.0, ATOMS.xT), ATOMS.x0)
    # Two pairs share xT = (1, 1), with weights 1 and 3.
    shared = torch.tensor([-0.75, 0.75], dtype=torch.float64)
    for t in (1.0, 1 - 1e-9):
        close(denoiser(ATOMS.xT, t, ATOMS.xT), torch.stack([shared, ATOMS.x0[1], shared, ATOMS.x0[3]]), 1e-6)
    t = torch.tensor([0.0, 0.3, 0.6, 1.0], dtype=torch.float64)
    each = [denoiser(ATOMS.x0[i : i + 1], float(t[i]), ATOMS.xT[i : i + 1]) for i in range(4)]
    close(denoiser(ATOMS.x0, t, ATOMS.xT), torch.cat(each))


def test_ties_are_shared_by_weight():
    twins = FiniteCoupling(torch.tensor([[-1.0], [1.0]]), torch.tensor([[0.3], [0.3]]), torch.tensor([1.0, 3.0]))
    close(twins.denoiser(vp())(torch.zeros(1, 1), 0.0), 0.5 * torch.ones(1, 1))
    close(twins.denoiser(vp())(torch.full((1, 1), 0.3), 1.0), 0.5 * torch.ones(1, 1))


@by_kind
def test_finite_denoiser_is_the_regression(conditional):
    """Its residual is orthogonal to whatever is a function of what it sees."""
    bridge, n, generator = brownian(0.5), 50_000, seeded(8)
    x0, xT = ATOMS.sample(n, generator)
    t = torch.rand(n, generator=generator, dtype=torch.float64)
    x_t = bridge.sample(x0, xT, t, generator=generator)
    residual = x0 - ATOMS.denoiser(bridge, conditional)(x_t, t, xT)
    seen = [x_t, x_t.tanh(), t[:, None] * x_t, torch.ones_like(x_t)] + [xT, xT.sin()] * conditional
    for product in (residual * h for h in seen):
        assert float((product.mean(0).abs() / (product.std(0) / n**0.5)).max()) < 5


@by_kind
def test_many_atoms_are_a_gaussian(conditional):
    """Atoms drawn from a Gaussian coupling: the softmax is importance sampling, with its standard error beside it."""
    p, bridge, t, n = coupling(2, seed=6), brownian(0.5), 0.4, 20_000
    x0, xT = p.sample(n, seeded(9))
    if conditional:  # many atoms with one xT: draw x0 from its law given it
        slope, residual = p.regression
        xT = xT[:1].expand(n, 2)
        noise = torch.randn(n, 2, generator=seeded(10), dtype=torch.float64)
        x0 = p.parts[0] + (xT - p.parts[1]) @ slope.T + noise @ torch.linalg.cholesky(residual).T
    x_t = bridge.sample(x0[:3], xT[:3], t, generator=seeded(11))
    finite = FiniteCoupling(x0, xT).denoiser(bridge, conditional)
    estimate, weights = finite(x_t, t, xT[:3]), finite.posterior(x_t, t, xT[:3] if conditional else None)
    gap = estimate - p.denoiser(bridge, conditional)(x_t, t, xT[:3])
    error = ((weights**2) @ x0**2 - 2 * (weights**2 @ x0) * estimate + (weights**2).sum(1, True) * estimate**2).sqrt()
    assert float((gap / error).abs().max()) < 5 and float(error.max()) < 0.1


def test_finite_moments_and_samples():
    n = 100_000
    x0, xT = ATOMS.sample(n, seeded(12))
    counts = torch.stack([((x0 == u) & (xT == v)).all(1).double().mean() for u, v in zip(ATOMS.x0, ATOMS.xT)])
    assert float(((counts - ATOMS.weights) / (ATOMS.weights * (1 - ATOMS.weights) / n).sqrt()).abs().max()) < 5
    moments, pairs = ATOMS.moments(), torch.cat([ATOMS.x0, ATOMS.xT], 1)
    close(moments.mean, (ATOMS.weights[:, None] * pairs).sum(0))
    close(moments.cov, sum(w * torch.outer(x, x) for w, x in zip(ATOMS.weights, pairs - moments.mean)))
    mean, cov = ATOMS.marginal(vp(), 0.3)
    x_t = vp().sample(x0, xT, 0.3, generator=seeded(13))
    close(x_t.mean(0), mean, 5 * float(cov.max() / n) ** 0.5)
    close(x_t.T.cov(), cov, 5 * float(cov.max()) * (2 / n) ** 0.5)


# -- divergences -------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_kl_of_mixtures(dim):
    p, q = coupling(dim), coupling(dim, seed=1)
    wanted = kl_divergence(MultivariateNormal(p.mean, p.cov), MultivariateNormal(q.mean, q.cov))
    close(kl_mixtures(p, q), wanted, 1e-9, 1e-9)


@pytest.mark.parametrize("dim", [1, 2, 5])
@by_family
def test_conditional_path_kl_is_the_kl_of_mixtures(bridge, dim):
    p, q = coupling(dim), coupling(dim, seed=1)
    same_xT = coupling(dim, seed=2, like=q)
    close(path_divergence(same_xT, q, bridge, conditional=True), kl_mixtures(same_xT, q), 0, 1e-8)
    close(kl_paths(p, q, bridge, conditional=True), kl_mixtures(p, q), 0, 1e-8)


def scalar_gap(p: GaussianCoupling, q: GaussianCoupling, bridge: Bridge, t: float, conditional: bool) -> float:
    """E_p |xhat0^p - xhat0^q|² from block conditioning, in D = 1."""
    a, b, c = (float(x) for x in bridge.coefficients(t))
    (gain_p, rest_p, _), (gain_q, rest_q, _) = (conditioned(x, bridge, t, conditional) for x in (p, q))
    rows = torch.tensor([[b, a], [0.0, 1.0]])[: gain_p.shape[1]].double()
    cov = rows @ p.cov @ rows.T
    cov[0, 0] += c**2
    gain = gain_p - gain_q
    return float(gain @ cov @ gain.T + (gain @ (rows @ p.mean) + rest_p - rest_q) ** 2)


@by_kind
@pytest.mark.parametrize("bridge", [brownian(0.5), ve(2.0), vp()], ids=lambda bridge: bridge.family)
def test_path_divergence_by_another_quadrature(bridge, conditional):
    """scipy on the bridge's own time, with g² and rho² of the bridge: neither y, nor the clock, nor our panels."""
    q = GaussianCoupling.of(0.5, -0.3, 0.3, 1.21, 0.1)

    def path_weight(t: float) -> float:
        t = torch.tensor(t, dtype=torch.float64)
        return float(bridge.g2(t) / (2 * bridge.alpha(t) ** 2 * bridge.rho2(t) ** 2))

    for weight, scale in (("path_kl", path_weight), ("plain", lambda t: 1.0), (torch.exp, math.exp)):

        def integrand(t: float, scale=scale) -> float:
            return scale(t) * scalar_gap(SCALAR, q, bridge, t, conditional)

        value = quad(integrand, 0.01, 0.99, epsrel=1e-9)[0]
        close(path_divergence(SCALAR, q, bridge, conditional, weight, (0.01, 0.99)), value, 0, 1e-7)


@by_kind
@by_family
def test_named_weight_is_its_formula(bridge, conditional):
    p, q = coupling(2), coupling(2, seed=1)

    def path_weight(t):
        return bridge.g2(t) / (2 * bridge.alpha(t) ** 2 * bridge.rho2(t) ** 2)

    interval = (0.02, 1.0)
    named = path_divergence(p, q, bridge, conditional, "path_kl", interval)
    close(path_divergence(p, q, bridge, conditional, path_weight, interval), named, 0, 1e-8)
    parts = [path_divergence(p, q, bridge, conditional, "path_kl", ends) for ends in ((0.0, 0.02), interval)]
    close(sum(parts), path_divergence(p, q, bridge, conditional), 0, 1e-8)


@by_kind
def test_quadrature_has_converged(conditional, monkeypatch):
    """Twice the nodes in every panel change nothing, neither for small nor for large noise, nor near a singular law."""
    cases = [(brownian(1e-3), SCALAR), (ve(80.0), SCALAR), (vp(), GaussianCoupling.of(0.0, 0.0, 1e-6, 1.0, 1e-4))]
    q = GaussianCoupling.of(0.0, -0.3, 0.3, 1.21, -0.4)
    values = [path_divergence(p, q, bridge, conditional, w) for bridge, p in cases for w in ("path_kl", "plain")]
    monkeypatch.setattr(_quadrature, "gauss_legendre", lambda f, edges: gauss_legendre(f, edges, order=32))
    again = [path_divergence(p, q, bridge, conditional, w) for bridge, p in cases for w in ("path_kl", "plain")]
    close(torch.stack(values), torch.stack(again), 0, 1e-8)


def test_unconditional_path_kl_is_not_bounded_by_the_mixtures():
    p, bridge = GaussianCoupling.of(0.0, 0.0, 1.0, 1.0, 0.5), brownian(0.1)
    assert float(kl_mixtures(p, INDEPENDENT)) == pytest.approx(-math.log(1 - 0.5**2) / 2, rel=1e-12)
    assert float(kl_paths(p, INDEPENDENT, bridge)) > 5 * float(kl_mixtures(p, INDEPENDENT))
    assert float(kl_paths(SCALAR, GaussianCoupling.of(0.5, -0.3, 0.3, 1.21, 0.1), ve(2.0))) < 0.6 * 0.2814


@by_kind
def test_path_kl_by_the_chain_rule(conditional):
    """No Girsanov: KL summed over small Gaussian steps back with equal variances, ‖mean difference‖²/(2 var)."""
    bridge, p = vp(), coupling(2)
    q = coupling(2, seed=1, like=p)

    def summed(n: int) -> float:
        t = bridge.time_at((torch.arange(n + 1, dtype=torch.float64) / n) ** 2)
        s, t = t[1:-1], t[2:]  # the last step back has no noise: left out, it is of order 1/n²
        zero, one = torch.zeros(len(s), 1, dtype=torch.float64), torch.ones(len(s), 1, dtype=torch.float64)
        jump, std = bridge.posterior(one, zero, s, t)
        gap = exact._squared_gap(p.denoiser(bridge, conditional), q.denoiser(bridge, conditional), t)
        return float(((jump / std) ** 2 / 2)[:, 0] @ gap)

    # The sum is a rule of first order: extrapolated once, what is left is of second.
    close(2 * summed(4000) - summed(2000), path_divergence(p, q, bridge, conditional), 0, 1e-4)


def test_singular_couplings_are_infinitely_far():
    line = GaussianCoupling.of(0.7, -0.3, 0.25, 1.0, 0.5)  # x0 = 0.85 + xT/2
    bridge = brownian(0.5)
    for p, q in ((line, SCALAR), (SCALAR, line)):
        assert math.isinf(kl_mixtures(p, q)) and math.isinf(kl_paths(p, q, bridge, conditional=True))
        assert math.isfinite(kl_paths(p, q, bridge))  # the laws of x0 alone are both of full rank
    assert float(kl_mixtures(line, line)) == 0 and float(kl_paths(line, line, bridge, True)) == 0
    moved = GaussianCoupling.of(0.8, -0.3, 0.25, 1.0, 0.5)
    assert math.isinf(kl_mixtures(line, moved)) and math.isinf(kl_paths(line, moved, bridge, True))
    assert math.isfinite(path_divergence(line, moved, bridge, True, "plain"))
    point, other = (GaussianCoupling.of(x, 0.0, 0.0, 1.0, 0.0) for x in (0.0, 1.0))
    for conditional in (False, True):
        assert math.isinf(kl_paths(point, INDEPENDENT, bridge, conditional))
        assert math.isinf(kl_paths(INDEPENDENT, point, bridge, conditional))
        assert math.isinf(kl_paths(point, other, bridge, conditional))
        assert math.isfinite(path_divergence(point, other, bridge, conditional, interval=(0.1, 1.0)))
        assert float(kl_paths(point, point, bridge, conditional)) == 0
    assert math.isinf(kl_paths(INDEPENDENT, GaussianCoupling.of(0.0, 0.0, 1.0, 0.0, 0.0), bridge))


def test_degenerate_but_comparable():
    """Both laws on one plane: the KL is that within the plane."""
    turn = torch.linalg.qr(torch.randn(4, 4, generator=seeded(14), dtype=torch.float64)).Q
    flat = [
        (torch.tensor([0.1, k, 0, 0]).double(), torch.diag(torch.tensor([1.0, 1 + k, 0, 0])).double()) for k in (0, 1)
    ]
    p, q = (GaussianCoupling(turn @ mean, turn @ cov @ turn.T) for mean, cov in flat)
    close(kl_mixtures(p, q), (0.5 - 1 + 0.5 + math.log(2)) / 2, 1e-9)
    cov = torch.tensor([[1.0, 2.0], [2.0, 4.0]]).double()
    p, q = (GaussianCoupling.of([0.0, 0.0], 0.0, k * cov, 1.0, 0.2 * cov / 4) for k in (1.0, 2.0))
    for conditional in (False, True):
        assert 0 < float(kl_paths(p, q, vp(), conditional)) < math.inf
    close(kl_paths(p, q, vp(), True), kl_mixtures(p, q), 0, 1e-7)


@by_family
def test_two_couplings_one_bridge(bridge):
    """x0 = ± J xT, a rotation by 90 degrees and a fair sign, has the unconditional bridge of independent Gaussians."""
    n, t, generator = 100_000, 0.4, seeded(15)
    independent = GaussianCoupling.of([0.0, 0.0], 0.0, 1.0, 1.0, 0.0)
    xT = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    turned = torch.stack([-xT[:, 1], xT[:, 0]], 1)
    sign = 2.0 * torch.randint(2, (n, 1), generator=generator) - 1
    x0 = sign * turned
    x_t = bridge.sample(x0, xT, t, generator=generator)
    residual = x0 - independent.denoiser(bridge)(x_t, t)
    for h in (x_t, x_t.tanh(), x_t.flip(1), x_t * x_t.flip(1) ** 2, x_t**3):
        assert float(((residual * h).mean(0) / ((residual * h).std(0) / n**0.5)).abs().max()) < 5
    # Given xT the sign is all there is to guess, and the Gaussian's guess is the worse by many standard errors.
    a, b, c = bridge.coefficients(t)
    best = torch.tanh(b / c**2 * ((x_t - a * xT) * turned).sum(1, keepdim=True)) * turned
    wrong = independent.denoiser(bridge, conditional=True)(x_t, t, xT)
    excess = ((x0 - wrong) ** 2 - (x0 - best) ** 2).sum(1)
    assert float(excess.mean() / (excess.std() / n**0.5)) > 20


@by_kind
def test_zero_only_at_the_truth(conditional):
    """Among Gaussian couplings even the unconditional bridge is unique, antisymmetric cross-covariance included."""
    p, bridge, h = coupling(2), vp(), 1e-3
    assert float(path_divergence(p, p, bridge, conditional)) == 0
    mean0, meanT, cov0, covT, cross = p.parts
    turn, one = torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double(), torch.tensor([1.0, 0.0]).double()
    moves = [
        GaussianCoupling.of(mean0 + h * one, meanT, cov0, covT, cross),
        GaussianCoupling.of(mean0, meanT, cov0 + h * torch.eye(2), covT, cross),
        *(p.with_cross(cross + h * move) for move in (turn, torch.eye(2).double(), turn.abs(), torch.outer(one, one))),
    ]
    for moved in moves:
        for weight in ("path_kl", "plain"):
            assert float(path_divergence(moved, p, bridge, conditional, weight)) > 1e-4 * h**2


# -- gradients ---------------------------------------------------------------------------------

SLOPE = torch.tensor([[0.5, -0.3], [0.2, 0.4]], dtype=torch.float64)
ROOT = torch.tensor([[0.6, 0.0], [-0.2, 0.5]], dtype=torch.float64)
SHIFT = torch.tensor([0.3, -0.1], dtype=torch.float64)


def student(shift, slope, root) -> GaussianCoupling:
    """x0 = shift + slope xT + root z, xT ~ N((0.2, 0), diag(1.2, 0.7))."""
    meanT, covT = torch.tensor([0.2, 0.0]).double(), torch.diag(torch.tensor([1.2, 0.7])).double()
    cov0 = slope @ covT @ slope.T + root @ root.T
    return GaussianCoupling.of(shift + slope @ meanT, meanT, cov0, covT, slope @ covT)


def test_divergences_are_differentiable():
    bridge, q = vp(), coupling(2, seed=1)
    values = [
        lambda p: kl_mixtures(p, q),
        lambda p: path_divergence(p, q, bridge),
        lambda p: path_divergence(p, q, bridge, True, "plain"),
        lambda p: noised_kl(p, q, bridge),
    ]
    inputs = tuple(x.clone().requires_grad_() for x in (SHIFT, SLOPE, ROOT))
    for value in values:
        assert torch.autograd.gradcheck(lambda *x, value=value: value(student(*x)), inputs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("bridge", [brownian(0.5), vp()], ids=lambda bridge: bridge.family)
def test_noised_kl_has_the_detached_gradient(bridge):
    """∇ of it = ∫ E 2 (xhat0^p - xhat0^q)(x_t, xT) · ∂x0, the moments of the gap with (1, xT, z) in closed form."""
    inputs = tuple(x.clone().requires_grad_() for x in (SHIFT, SLOPE, ROOT))
    meanT, q = torch.tensor([0.2, 0.0]).double(), coupling(2, seed=1)
    p = student(SHIFT, SLOPE, ROOT)
    _, _, _, covT, cross = p.parts

    def detached(t: torch.Tensor, which: int) -> torch.Tensor:
        a, b, _ = (x[:, None, None] for x in bridge.coefficients(t))
        gain, gainT, rest = (
            x - y for x, y in zip(p.denoiser(bridge, True).linear(t), q.denoiser(bridge, True).linear(t))
        )
        mean = (gain @ p.marginal(bridge, t)[0][..., None])[..., 0] + gainT @ meanT + rest
        with_xT = gain @ (b * cross + a * covT) + gainT @ covT + mean[..., None] * meanT
        return 2 * (mean, with_xT, b * gain @ ROOT)[which].flatten(1).T

    grads = torch.autograd.grad(noised_kl(student(*inputs), q, bridge), inputs)
    edges = torch.linspace(0, 1, 65, dtype=torch.float64)
    for which, grad in enumerate(grads):
        for i, entry in enumerate(grad.flatten()):
            wanted = gauss_legendre(lambda t, which=which, i=i: detached(t, which)[i], edges)
            close(entry, wanted, 1e-8)


def test_noised_kl_at_the_truth_and_at_the_ends():
    q = GaussianCoupling.of(0.5, -0.3, 0.3, 1.21, 0.1)
    assert float(noised_kl(SCALAR, SCALAR, vp())) == 0 == float(noised_kl(SCALAR, SCALAR, vp(), "path_kl"))
    assert float(noised_kl(SCALAR, q, vp())) > 0
    # With the path weight it grows like log(1/t) times the KL at t = 0.
    assert math.isinf(noised_kl(SCALAR, q, vp(), "path_kl"))
    assert math.isfinite(noised_kl(SCALAR, q, vp(), "path_kl", (0.01, 1.0)))


# -- refusals ----------------------------------------------------------------------------------

X, EYE = torch.zeros(3, 1), torch.eye(2)
REFUSED = {
    "odd mean": (lambda: GaussianCoupling(torch.zeros(3), torch.eye(3)), ValueError, r"\(2D,\)"),
    "cov's shape": (lambda: GaussianCoupling(torch.zeros(2), torch.eye(3)), ValueError, r"\(2D, 2D\)"),
    "cov not symmetric": (
        lambda: GaussianCoupling(torch.zeros(2), torch.tensor([[1, 0.5], [0, 1]])),
        ValueError,
        "asym",
    ),
    "cov negative": (lambda: GaussianCoupling.of(0.0, 0.0, 1.0, 1.0, 2.0), ValueError, "semi-definite"),
    "mean nan": (lambda: GaussianCoupling(torch.tensor([0, math.nan]), EYE), ValueError, "non-finite"),
    "cov infinite": (lambda: GaussianCoupling(torch.zeros(2), EYE * math.inf), ValueError, "non-finite"),
    "a block's shape": (lambda: GaussianCoupling.of([0.0, 0.0], 0.0, 1.0, torch.eye(3), 0.0), ValueError, "shapes"),
    "no samples": (lambda: SCALAR.sample(0), ValueError, "n is 0"),
    "t above 1": (lambda: SCALAR.marginal(vp(), 1.1), ValueError, r"\[0, 1\]"),
    "another dimension": (lambda: SCALAR.denoiser(vp())(torch.zeros(3, 2), 0.5), ValueError, "dimension"),
    "no xT": (lambda: SCALAR.denoiser(vp(), True)(X, 0.5), TypeError, "xT"),
    "times for another batch": (lambda: SCALAR.denoiser(vp())(X, torch.zeros(2)), ValueError, "one time per sample"),
    "times ascend": (lambda: SCALAR.few_step_coupling(vp(), [1.0, 0.2, 0.5]), ValueError, "descend"),
    "times start late": (lambda: SCALAR.few_step_coupling(vp(), [0.9]), ValueError, "start at 1"),
    "no times": (lambda: SCALAR.few_step_coupling(vp(), []), ValueError, "start at 1"),
    "atoms of two shapes": (lambda: FiniteCoupling(X, torch.zeros(2, 1)), ValueError, "same shape"),
    "atoms are images": (lambda: FiniteCoupling(torch.zeros(3, 1, 2), torch.zeros(3, 1, 2)), ValueError, r"\(N, D\)"),
    "weights' shape": (lambda: FiniteCoupling(X, X, torch.ones(2)), ValueError, "one weight per pair"),
    "a weight of zero": (lambda: FiniteCoupling(X, X, torch.tensor([1.0, 1.0, 0.0])), ValueError, "positive"),
    "an atom is nan": (lambda: FiniteCoupling(X / 0, X), ValueError, "non-finite"),
    "xT off the atoms": (lambda: FiniteCoupling(X, X).denoiser(vp(), True)(X, 0.5, X + 1), ValueError, "nearest atom"),
    "dimensions differ": (lambda: kl_mixtures(SCALAR, coupling(2)), ValueError, "dimension"),
    "not Gaussian": (lambda: kl_mixtures(SCALAR, ATOMS), TypeError, "GaussianCoupling"),
    "weight's name": (lambda: path_divergence(SCALAR, SCALAR, vp(), weight="path"), ValueError, "path_kl"),
    "interval": (lambda: path_divergence(SCALAR, SCALAR, vp(), interval=(0.5, 0.5)), ValueError, "interval"),
    "weight too rough": (
        lambda: path_divergence(SCALAR, INDEPENDENT, vp(), weight=lambda t: 1 / (1 - t) ** 2),
        ValueError,
        "settle",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    call, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        call()
