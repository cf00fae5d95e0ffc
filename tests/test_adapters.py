"""Adapters against exact linear denoisers: turned into each convention by its definition, and back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ibmd_minimal import adapters
from ibmd_minimal.bridges import brownian, expand, i2sb, ve, vp
from ibmd_minimal.exact import GaussianCoupling

BRIDGES = [brownian(0.3), i2sb(0.3), ve(2.0), vp(2.0, 0.1), vp(1.0, 0.0)]
COUPLING = GaussianCoupling(
    torch.tensor([0.7, 0.1, -0.3, 0.4], dtype=torch.float64),
    torch.tensor([[0.4, 0.1, 0.2, 0.0], [0.1, 0.5, 0.1, 0.1], [0.2, 0.1, 1.2, 0.3], [0.0, 0.1, 0.3, 0.9]]).double(),
)


def spots(seed=0, n=64):
    """Points and inner times to compare at, float64."""
    generator = torch.Generator().manual_seed(seed)
    x_t, xT = torch.randn(2, n, 2, generator=generator, dtype=torch.float64)
    return x_t, torch.linspace(0.02, 0.98, n, dtype=torch.float64), xT


# Each output is computed from xhat0 by its definition as an expectation over the bridge, not by the library's formula.
def noise(bridge, xhat0, x_t, t, xT):
    a, b, c = (expand(k, x_t) for k in bridge.coefficients(t))
    return (x_t - a * xT - b * xhat0) / c


def score(bridge, xhat0, x_t, t, xT):
    return -noise(bridge, xhat0, x_t, t, xT) / expand(bridge.coefficients(t)[2], x_t)


def label(bridge, xhat0, x_t, t, xT):
    alpha, rho = expand(bridge.alpha(t), x_t), expand(bridge.rho2(t).sqrt(), x_t)
    return (x_t - alpha * xhat0) / (alpha * rho)


def ibmd(bridge, xhat0, x_t, t, xT):
    alpha = expand(bridge.alpha(t), x_t)
    return (alpha * xhat0 - x_t) / (alpha**2 * expand(bridge.rho2(t), x_t))


def drift(bridge, xhat0, x_t, t, xT):
    return bridge.reverse_drift(xhat0, x_t, t)


def ode(bridge, xhat0, x_t, t, xT):
    return bridge.ode_drift(xhat0, x_t, t, xT)


CASES = {
    "noise": (noise, adapters.from_noise, {}, True),
    "score": (score, adapters.from_score, {}, True),
    "ode": (ode, adapters.from_velocity, {"convention": "ode", "conditional": True}, True),
    "i2sb": (label, adapters.from_i2sb, {}, False),
    "i2sb conditional": (label, adapters.from_i2sb, {"conditional": True}, True),
    "ibmd": (ibmd, adapters.from_velocity, {"convention": "ibmd"}, False),
    "drift": (drift, adapters.from_velocity, {}, False),
    "drift conditional": (drift, adapters.from_velocity, {"conditional": True}, True),
}


def adapted(name, bridge, **more):
    """The adapter of a case around the exact network of its convention, and the exact denoiser."""
    output, adapter, options, conditional = CASES[name]
    exact = COUPLING.denoiser(bridge, conditional)

    def network(x_t, t, xT):
        return output(bridge, exact(x_t, t, xT), x_t, t, xT)

    return adapter(network, bridge, **options, **more), exact


@pytest.mark.parametrize("bridge", BRIDGES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_round_trip_gives_the_denoiser_back(name, bridge):
    model, exact = adapted(name, bridge)
    x_t, t, xT = spots()
    # Amplification by 1/b or 1/slope stays below 1e4 on these times, float64 rounding is 1e-16.
    torch.testing.assert_close(model(x_t, t, xT), exact(x_t, t, xT), rtol=1e-9, atol=1e-9)
    assert model.conditional is CASES[name][3]


@pytest.mark.parametrize("name", ["i2sb", "ibmd", "drift"])
@pytest.mark.parametrize("bridge", BRIDGES, ids=str)
def test_at_T_the_formula_holds_where_it_says_so(name, bridge):
    model, exact = adapted(name, bridge)
    x_t, _, xT = spots()
    end = torch.ones(len(x_t), dtype=torch.float64)
    torch.testing.assert_close(model(x_t, end, xT), exact(x_t, end, xT), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["noise", "score", "ode"])
def test_at_T_the_others_refuse_or_answer_as_at_until(name):
    bridge = brownian(0.3)
    x_t, _, xT = spots()
    end = torch.ones(len(x_t), dtype=torch.float64)
    finite = lambda x_t, t, xT: torch.zeros_like(x_t)  # noqa: E731
    _, adapter, options, _ = CASES[name]
    with pytest.raises(ValueError, match=r"t is 1 and the .* wanted t < 1"):
        adapter(finite, bridge, **options)(x_t, end, xT)
    model, exact = adapted(name, bridge, until=0.99)
    torch.testing.assert_close(model(x_t, end, xT), exact(x_t, 0.99 * end, xT), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bridge", BRIDGES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_at_0_it_is_x_t(name, bridge):
    _, adapter, options, _ = CASES[name]
    model = adapter(lambda x_t, t, xT: torch.ones_like(x_t), bridge, **options)
    x_t, t, xT = spots()
    assert torch.equal(model(x_t, torch.zeros_like(t), xT), x_t)


def test_i2sb_is_the_released_formula():
    """`x_n - sqrt(F_n) y` with `F_n` the sum of the first n + 1 betas, at `t = (n + 1)/1000`."""
    bridge, seen = i2sb(0.3), []

    def network(x, step):
        seen.append(step)
        return torch.full_like(x, 0.5)

    n = torch.tensor([0, 99, 499, 999])
    root = torch.linspace(1e-4**0.5, (0.3 / 1000) ** 0.5, 1000, dtype=torch.float64)
    beta = torch.cat([root[:500], root[:500].flip(0)]) ** 2
    times = 1000 * torch.linspace(1e-4, 1, 1000, dtype=torch.float64)
    model = adapters.from_i2sb(network, bridge, time=lambda t: times[(1000 * t).round().long() - 1])
    x = torch.zeros(4, 2, dtype=torch.float64)
    expected = -0.5 * beta.cumsum(0)[n].sqrt()[:, None].expand(4, 2)
    torch.testing.assert_close(model(x, (n + 1) / 1000.0, x), expected, rtol=1e-6, atol=0)
    assert torch.equal(seen[0], times[n])


def test_drift_of_a_brownian_bridge_is_the_flow_matching_velocity():
    x0, xT = torch.randn(2, 8, 2, dtype=torch.float64)
    t = torch.linspace(0.1, 1, 8, dtype=torch.float64)
    straight = (1 - t)[:, None] * x0 + t[:, None] * xT
    model = adapters.from_velocity(lambda x, t: xT - x0, brownian(0.1))
    torch.testing.assert_close(model(straight, t), x0, rtol=1e-12, atol=1e-12)


def test_a_module_stays_one():
    layer = nn.Linear(2, 2)
    network = nn.Sequential(layer)
    forward = lambda x, t, xT=None: layer(x)  # noqa: E731
    network.forward = forward
    model = adapters.from_i2sb(network, brownian(0.1))
    assert {id(p) for p in model.parameters()} == {id(p) for p in layer.parameters()}
    twin = copy.deepcopy(adapters.from_i2sb(Plain(), vp()))
    assert all(not p.requires_grad for p in twin.requires_grad_(False).parameters())
    assert twin.double()(torch.ones(3, 2).double(), torch.full((3,), 0.5)).dtype == torch.float64


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x, t, y=None, label=None):
        assert y is None, "an unconditional network's third argument need not be xT"
        return self.layer(x) if label is None else label[:, None] * torch.ones_like(x)


def test_labels_reach_the_network():
    model = adapters.from_i2sb(Plain(), brownian(1.0))
    x, t = torch.zeros(3, 2), torch.ones(3)
    expected = -torch.tensor([0.0, 1.0, 2.0])[:, None].expand(3, 2)
    assert torch.equal(model(x, t, x, label=torch.arange(3)), expected)


def ones(x, t, xT=None):
    return torch.ones_like(x)


X, T = torch.zeros(4, 2), torch.full((4,), 0.5)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: adapters.from_noise(3, brownian()), TypeError, "network is a int"),
        (lambda: adapters.from_score(ones, "brownian"), TypeError, "bridge is a str"),
        (lambda: adapters.from_i2sb(ones, brownian(), time=3), TypeError, "time is a int"),
        (lambda: adapters.from_noise(ones, brownian(), until=1.0), ValueError, "until is 1.0"),
        (lambda: adapters.from_velocity(ones, brownian(), "drfit"), ValueError, "did you mean 'drift'"),
        (lambda: adapters.from_velocity(ones, brownian(), "ode"), ValueError, "wanted conditional=True"),
        (lambda: adapters.from_velocity(ones, brownian(), until=0.9), ValueError, "with 'ode' only"),
        (lambda: adapters.from_noise(ones, brownian())(X, T), ValueError, "xT is missing"),
        (lambda: adapters.from_noise(ones, brownian())(X, T, X[:3]), ValueError, "wanted the same shape"),
        (lambda: adapters.from_i2sb(ones, brownian())(X, 2 * T[:3]), ValueError, "one time per sample"),
        (lambda: adapters.from_i2sb(ones, brownian())(X, 3 * T), ValueError, r"wanted times in \[0, 1\]"),
        (lambda: adapters.from_i2sb(lambda x, t: x[:, :1], brownian())(X, T), ValueError, "the network returned"),
    ],
)
def test_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()
