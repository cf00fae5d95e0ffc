"""Bridge matching: its weights, its times, its minimiser, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ibmd_minimal.bridges import brownian, expand, i2sb, ve, vp
from ibmd_minimal.exact import GaussianCoupling
from ibmd_minimal.matching import TIMES, WEIGHTS, bridge_matching_loss, draw_times, noised, train, weight_at
from ibmd_minimal.networks import MLP
from ibmd_minimal.training import Batches

F64 = torch.float64
BRIDGES = [brownian(0.5), vp(), ve(2.0), i2sb(1.0)]
DATA = GaussianCoupling.of([0.7, -0.4], [-0.3, 0.2], [[0.8, 0.2], [0.2, 0.6]], 1.0, [[0.3, -0.4], [0.5, 0.2]])
X0, XT = DATA.sample(6, torch.Generator().manual_seed(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def family(bridge) -> str:
    return bridge.family


# -- weights and times ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bridge", BRIDGES[:3], ids=family)
def test_weights_are_what_their_names_say(bridge):
    t = torch.linspace(0.05, 1, 20, dtype=F64)
    alpha, rho2 = bridge.alpha(t), bridge.rho2(t)
    wanted = {
        "plain": torch.ones(20, dtype=F64),
        "path_kl": bridge.g2(t) / (2 * alpha**2 * rho2**2),
        "noise": 1 / (alpha**2 * rho2),
        "soft": 1 / (t + 0.05),
        "late": 10 ** (1 - t),
    }
    assert wanted.keys() == WEIGHTS.keys()
    for name, value in wanted.items():
        assert torch.allclose(weight_at(name, bridge, t), value, rtol=1e-12)


def test_the_path_kl_weight_of_brownian_motion():
    assert float(weight_at("path_kl", brownian(0.5), torch.tensor([0.2], dtype=F64))) == pytest.approx(
        1 / (2 * 0.5 * 0.04)
    )


def test_a_weight_may_be_any_callable_of_the_times():
    t = torch.tensor([0.25, 0.5])
    assert torch.equal(weight_at(lambda t: t**2, vp(), t), torch.tensor([0.0625, 0.25], dtype=F64))
    assert torch.equal(weight_at(lambda t: 3.0, vp(), t), torch.tensor([3.0, 3.0], dtype=F64))


@pytest.mark.parametrize("bridge", BRIDGES, ids=family)
@pytest.mark.parametrize("times", TIMES)
def test_dividing_by_the_density_makes_every_way_of_drawing_times_the_same_mean(times, bridge):
    t, over = draw_times(times, bridge, 100_000, X0, seeded(1))
    assert float(t.min()) > 0 and float(t.max()) <= 1
    for value, wanted in ((t**2, 1 / 3), (torch.cos(3 * t), torch.sin(torch.tensor(3.0)) / 3)):
        values = value * over
        assert abs(float(values.mean()) - float(wanted)) < 4 * float(values.std()) / 100_000**0.5
        if times != "uniform" and not (
            times == "clock" and bridge.family == "ve"
        ):  # ve's clock t² undoes the square root
            assert abs(float(value.mean()) - float(wanted)) > 6 * float(value.std()) / 100_000**0.5


@pytest.mark.parametrize("bridge", BRIDGES, ids=family)
def test_clock_times_have_the_square_root_density_on_the_clock(bridge):
    t, _ = draw_times("clock", bridge, 50_000, X0, seeded(2))
    v = bridge.clock(t).sqrt().sort().values  # uniform: Kolmogorov's distance, 1.95 / sqrt(n) at one in a thousand
    assert float((v - torch.arange(1, 50_001) / 50_000).abs().max()) < 1.95 / 50_000**0.5


# -- where the loss looks --------------------------------------------------------------------------------


@pytest.mark.parametrize("bridge", BRIDGES, ids=family)
def test_points_are_on_the_bridge_between_x0_and_xT(bridge):
    t, z = torch.linspace(0, 1, 6, dtype=F64), torch.randn(6, 2, dtype=F64, generator=seeded(0))
    x_t, at, over = noised(bridge, X0, XT, t, z=z)
    assert torch.equal(at, t) and torch.equal(over, torch.ones(6, dtype=F64))
    a, b, c = (expand(k, X0) for k in bridge.coefficients(t))
    assert torch.allclose(x_t, a * XT + b * X0 + c * z, atol=1e-12)


@pytest.mark.parametrize("bridge", BRIDGES, ids=family)
def test_an_anchor_pins_the_bridge_below_its_time(bridge):
    x_n, t_n = XT + 1, torch.tensor([1.0, 0.8, 0.6, 0.5, 0.3, 0.2], dtype=F64)
    z = torch.randn(6, 2, dtype=F64, generator=seeded(0))
    x_t, t, _ = noised(bridge, X0, XT, None, z=z, generator=seeded(1), anchor=(x_n, t_n))
    assert bool((t <= t_n).all()) and bool((t > 0).all())
    mean, std = bridge.posterior(X0, x_n, t, t_n)
    assert torch.allclose(x_t, mean + std * z, atol=1e-12)
    drawn, _ = draw_times("uniform", bridge, 6, X0, seeded(1))
    assert torch.equal(t, drawn * t_n)


# -- the loss and its minimiser ---------------------------------------------------------------------------


def test_the_loss_is_a_weighted_mean_over_batch_and_elements():
    t, z = torch.linspace(0.1, 0.9, 6, dtype=F64), torch.zeros(6, 2, dtype=F64)
    loss = bridge_matching_loss(lambda x_t, t, xT: x_t, vp(), X0, XT, t, weight="soft", z=z)
    a, b, _ = (expand(k, X0) for k in vp().coefficients(t))
    wanted = ((a * XT + b * X0 - X0) ** 2 / (t + 0.05)[:, None]).sum() / 12
    assert float(loss) == pytest.approx(float(wanted), rel=1e-12)


class Nearby(nn.Module):
    """A denoiser plus a linear change, zero at first."""

    def __init__(self, exact, scale: float = 1.0):
        super().__init__()
        self.exact, self.change = exact, nn.Parameter(torch.zeros(2, 5, dtype=F64))
        self.scale = scale

    def forward(self, x_t, t, xT):
        xT = xT if self.exact.conditional else torch.zeros_like(xT)
        inputs = torch.cat([torch.ones_like(x_t[:, :1]), x_t, xT], 1)
        return self.scale * self.exact(x_t, t, xT) + inputs @ self.change.T


def slope_at(model: Nearby, bridge, **options) -> float:
    """The largest component of the loss's gradient in the change, in standard errors."""
    generator, found = seeded(3), []
    for _ in range(40):
        x0, xT = DATA.sample(500, generator)
        loss = bridge_matching_loss(model, bridge, x0, xT, generator=generator, **options)
        found.append(torch.autograd.grad(loss, model.change)[0])
    found = torch.stack(found)
    return float((found.mean(0).abs() / (found.std(0) / 40**0.5).clamp_min(1e-12)).max())


@pytest.mark.parametrize(
    "options", [dict(), dict(weight="soft", times="early"), dict(weight=torch.sqrt, times="clock")]
)
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("bridge", BRIDGES[:3], ids=family)
def test_the_exact_denoiser_is_the_minimiser(bridge, conditional, options):
    exact = DATA.denoiser(bridge, conditional)
    assert slope_at(Nearby(exact), bridge, **options) < 4.5  # the largest of ten, with 39 degrees of freedom
    assert slope_at(Nearby(exact, scale=0.8), bridge, **options) > 6


def test_an_unconditional_denoiser_is_not_the_minimiser_for_a_model_that_sees_xT():
    class Sees(Nearby):
        def forward(self, x_t, t, xT):
            return self.exact(x_t, t, xT) + torch.cat([torch.ones_like(x_t[:, :1]), x_t, xT], 1) @ self.change.T

    assert slope_at(Sees(DATA.denoiser(vp())), vp()) > 6


def test_below_an_anchor_drawn_from_the_bridge_the_minimiser_is_the_same():
    """The pinned process is Markov: `x_t ~ q(x_t | x0, x_n)` with `x_n ~ q(x_n | x0, xT)` has the law of `x_t`."""
    bridge, generator, found = vp(), seeded(4), []
    model = Nearby(DATA.denoiser(bridge))
    for _ in range(40):
        x0, xT = DATA.sample(500, generator)
        t_n = torch.full((500,), 0.6, dtype=F64)
        anchor = (bridge.sample(x0, xT, t_n, generator=generator), t_n)
        loss = bridge_matching_loss(model, bridge, x0, xT, generator=generator, anchor=anchor)
        found.append(torch.autograd.grad(loss, model.change)[0][:, :3])
    found = torch.stack(found)
    assert float((found.mean(0).abs() / (found.std(0) / 40**0.5)).max()) < 4.5


def test_labels_are_passed_on_and_times_keep_their_precision():
    seen = {}

    def model(x_t, t, xT, label=None):
        seen.update(label=label, t=t.dtype)
        return x_t

    label = torch.arange(6)
    bridge_matching_loss(model, vp(), X0.half(), XT.half(), label=label)
    assert seen["label"] is label and seen["t"] == torch.float32
    bridge_matching_loss(model, vp(), X0, XT)
    assert seen["label"] is None and seen["t"] == F64


# -- training ----------------------------------------------------------------------------------------------


def mlp(**options) -> MLP:
    torch.manual_seed(0)
    return MLP(brownian(0.5), 2, 16, 1, **options)


def test_training_brings_the_denoiser_towards_the_exact_one():
    bridge = brownian(0.5)
    pairs = Batches(lambda draws: DATA.sample(256, draws.generator, torch.float32))
    model, history = train(mlp(), bridge, pairs, steps=150, lr=1e-2, ema=0.9, progress=False)
    x0, xT = DATA.sample(5_000, seeded(9), torch.float32)
    t = torch.linspace(0.05, 1, 5_000)
    x_t = bridge.sample(x0, xT, t, generator=seeded(8))
    exact = DATA.denoiser(bridge)(x_t, t, xT)
    with torch.no_grad():
        before, after = (float(((one(x_t, t, xT) - exact) ** 2).mean()) for one in (mlp(), model))
    assert after < 0.1 * before and len(history) == 150 and not model.training


@pytest.mark.parametrize("labelled", [False, True])
def test_training_takes_pairs_with_a_label_or_without(labelled):
    batch = (X0.float(), XT.float(), *([torch.tensor([0, 1, 0, 1, 0, 1])] if labelled else []))
    model, history = train(mlp(labels=2 if labelled else 0), brownian(), [batch] * 3, steps=3, progress=False)
    assert [one["step"] for one in history] == [0, 1, 2]


X = torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (dict(model=3), TypeError, "model is a int"),
        (dict(model=lambda x_t, t, xT: x_t[:, :1]), ValueError, r"the model returned \(4, 1\)"),
        (dict(model=lambda x_t, t, xT: 0.0), ValueError, "the model returned float"),
        (dict(x0=X[:3]), ValueError, "wanted the same shape"),
        (dict(x0=X[0]), ValueError, r"wanted \(batch, ...\)"),
        (dict(xT=X.double()), TypeError, "wanted the same"),
        (dict(xT=None), TypeError, "xT is a NoneType"),
        (dict(t=-0.1), ValueError, r"wanted times in \[0, 1\]"),
        (dict(t=torch.full((4,), float("nan"))), ValueError, r"wanted times in \[0, 1\]"),
        (dict(t=torch.zeros(4, 1)), ValueError, "one time per sample"),
        (dict(t="late"), TypeError, "t is a str"),
        (dict(z=X[:2]), ValueError, "wanted the same shape"),
        (dict(weight="path-kl"), ValueError, "did you mean 'path_kl'"),
        (dict(weight=lambda t: torch.ones(3)), ValueError, "one per time"),
        (dict(times="clocks"), ValueError, "did you mean 'clock'"),
        (dict(t=0.7, anchor=(X, torch.full((4,), 0.5))), ValueError, "beyond the anchor's time"),
        (dict(anchor=(X[:2], torch.full((4,), 0.5))), ValueError, "the anchor's x_n"),
        (dict(anchor=(X, torch.full((3,), 0.5))), ValueError, "the anchor's time"),
        (dict(generator=0), TypeError, "generator is a int"),
    ],
)
def test_the_loss_refuses(options, error, says):
    arguments = dict(model=lambda x_t, t, xT: x_t, bridge=brownian(), x0=X, xT=X) | options
    with pytest.raises(error, match=says):
        bridge_matching_loss(**arguments)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (dict(model=nn.Identity()), ValueError, "no parameters"),
        (dict(pairs=[(X,)]), TypeError, "wanted \\(x0, xT\\) or"),
        (dict(pairs=[X]), TypeError, "pairs yields a Tensor"),
        (dict(pairs=[(X, X * float("inf"))]), ValueError, "non-finite"),
        (dict(pairs=[(X, X[:2])]), ValueError, "wanted the same shape"),
        (dict(pairs=[]), ValueError, "ended after 0"),
        (dict(pairs=4), TypeError, "wanted an iterable"),
        (dict(steps=0), ValueError, "steps is 0"),
        (dict(lr=-1.0), ValueError, "lr is -1"),
        (dict(weight="plan"), ValueError, "did you mean 'plain'"),
        (dict(times="even"), ValueError, "wanted one of uniform, early, near_T, clock"),
        (dict(batch_size=3), TypeError, "'batch_size' is not an option"),
        (dict(warmpu=3), TypeError, "did you mean 'warmup'"),
    ],
)
def test_train_refuses(options, error, says):
    arguments = dict(model=mlp(), bridge=brownian(), pairs=[(X, X)] * 3, steps=2, progress=False) | options
    with pytest.raises(error, match=says):
        train(**arguments)
