"""The rivals of IBMD where they have closed forms: a scalar Gaussian coupling, in which every sampler is affine."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ibmd_minimal.bridges import brownian, i2sb, ve, vp
from ibmd_minimal.exact import GaussianCoupling
from ibmd_minimal.rivals import (
    consistency,
    consistency_loss,
    consistency_sample,
    dataset,
    ode_pair,
    ode_times,
    regression,
    regression_loss,
    sampled,
    solution,
)
from ibmd_minimal.samplers import dbim_step, sample, time_grid
from ibmd_minimal.students import Student
from ibmd_minimal.training import Batches

F64 = torch.float64
COUPLING = GaussianCoupling.of([0.7], [-0.3], 0.16, 1.21, 0.25)
BRIDGES = [brownian(0.5), vp(), ve(2.0), i2sb(1.0)]
EPS, DELTA = 1e-3, 1e-3
each_bridge = pytest.mark.parametrize("bridge", BRIDGES, ids=lambda bridge: bridge.family)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Exact:
    """`E[x0 | x_t, xT]` of the scalar coupling, quicker than the general one."""

    conditional = True

    def __init__(self, bridge):
        self.bridge = bridge

    def __call__(self, x_t, t, xT):
        a, b, c = (x.to(F64).reshape(-1, 1) for x in self.bridge.coefficients(torch.as_tensor(t, dtype=F64)))
        slope, rest = (float(x) for x in COUPLING.regression)
        mean = 0.7 + slope * (xT + 0.3)
        return mean + rest * b / (b**2 * rest + c**2).clamp_min(1e-300) * (x_t - a * xT - b * mean)


exact = Exact


def sources(batch: int = 64, seed: int = 0) -> Batches:
    return Batches(lambda draws: COUPLING.sample(batch, draws)[1], seed)


def pairs(batch: int = 256, seed: int = 0) -> Batches:
    return Batches(lambda draws: COUPLING.sample(batch, draws), seed)


class Affine(nn.Module):
    """`x0 = m + A xT + B z`, called as a student's network is; without noise inputs the last term is missing."""

    def __init__(self, values=(0.0, 0.0, 0.0), noise_channels: int = 1):
        super().__init__()
        self.noise_channels = noise_channels
        self.values = nn.Parameter(torch.as_tensor(values, dtype=F64).clone())

    def noise_shape(self, x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape)

    def forward(self, x_t, t, xT, z=None):
        return self.values[0] + self.values[1] * xT + (0 if z is None else self.values[2] * z)


@each_bridge
def test_the_quick_denoiser_is_the_general_one(bridge):
    (x_t, xT), t = COUPLING.sample(50, seeded()), torch.linspace(0.02, 0.99, 50, dtype=F64)
    assert torch.allclose(exact(bridge)(x_t, t, xT), COUPLING.denoiser(bridge, True)(x_t, t, xT), atol=1e-12)


# -- regression ------------------------------------------------------------------------------------


def sampler_map(bridge, nfe: int, method: str) -> Tensor:
    """`(m, A, B)` of the sampler's affine map `x0 = m + A xT + B z`, from a hundred of its results."""
    found = torch.cat(
        [torch.stack(one, 1) for one in dataset(exact(bridge), bridge, sources(), 2, nfe=nfe, method=method)]
    )
    x0, xT, z = found.unbind(1)
    return torch.linalg.lstsq(torch.cat([torch.ones_like(xT), xT, z], 1), x0).solution[:, 0]


@each_bridge
@pytest.mark.parametrize("nfe", [2, 5])
def test_dbim_is_a_function_of_xT_and_of_the_noise_that_is_handed_on(bridge, nfe):
    x0, xT, z = sampled(exact(bridge), bridge, COUPLING.sample(50, seeded())[1], nfe, lambda: seeded(3))
    times = time_grid("uniform", nfe, bridge)
    a, b, c = bridge.coefficients(times[1])
    x = a * xT + b * exact(bridge)(xT, torch.ones(50), xT) + c * z
    for t, s in zip(times[1:-1], times[2:]):
        x = dbim_step(bridge, exact(bridge)(x, t, xT), x, xT, s, t, 0.0)[0]
    assert torch.allclose(x0, x, atol=1e-10) and not torch.allclose(x0, x.flip(0), atol=1e-2)


@pytest.mark.parametrize(("method", "explained"), [("dbim", True), ("ode-heun", True), ("posterior", False)])
def test_only_samplers_without_further_noise_are_explained_by_the_first(method, explained):
    bridge = vp()
    m, A, B = sampler_map(bridge, 6, method)
    x0, xT, z = dataset(exact(bridge), bridge, sources(seed=9), 1, nfe=6, method=method, seed=5)[0]
    left = float((x0 - m - A * xT - B * z).abs().max())
    assert (left < 1e-9) if explained else (left > 0.1)


@each_bridge
def test_with_the_noise_the_student_becomes_the_sampler(bridge):
    """Zero loss and gradient at the sampler's map, and nowhere near it."""
    data = dataset(exact(bridge), bridge, sources(seed=4), 1, nfe=8, method="ode-heun", seed=7)[0]
    wanted = sampler_map(bridge, 8, "ode-heun")
    student = Student(Affine(wanted))
    loss = regression_loss(student, *data)
    loss.backward()
    assert float(loss.detach()) < 1e-18 and float(student.network.values.grad.abs().max()) < 1e-8
    assert wanted[2] > 0.2  # more noise, larger x0: a flipped sign is told apart
    for k in range(3):
        wrong = wanted.clone()
        wrong[k] = -wrong[k]
        if abs(wanted[k]) > 0.05:
            assert regression_loss(Student(Affine(wrong)), *data) > 0.01


def test_regression_finds_the_sampler_s_map_by_training():
    bridge = vp()
    data, student = dataset(exact(bridge), bridge, sources(), 4, nfe=8, seed=1), Student(Affine())
    *_, (learner, history) = regression(student, data, steps=150, lr=0.1, cosine=150, ema=0.5, progress=False)
    found = learner.finish().network.values.detach()
    assert torch.allclose(found, sampler_map(bridge, 8, "dbim"), atol=3e-3) and len(history) == 150


@each_bridge
def test_without_the_noise_the_student_becomes_the_mean(bridge):
    """DBIM keeps the mean exactly: the best affine guess from xT alone is `E[x0 | xT]` of the data, with an error."""
    m, A, B = sampler_map(bridge, 8, "dbim")
    slope, _ = COUPLING.regression
    mean0, meanT, *_ = COUPLING.parts
    assert torch.allclose(torch.stack([m, A]), torch.stack([(mean0 - slope[0] * meanT)[0], slope[0, 0]]), atol=1e-8)
    data = dataset(exact(bridge), bridge, sources(20_000), 1, nfe=8, seed=2)[0]
    student = Student(Affine((m, A, 0.0), noise_channels=0))
    loss = regression_loss(student, *data)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(B) ** 2, rel=4 * (2 / 20_000) ** 0.5)
    assert float(student.network.values.grad.abs().max()) < 4 * 2 * float(B) * 1.3 / 20_000**0.5


def test_a_data_set_is_a_function_of_its_seed():
    make = partial(dataset, exact(vp()), vp(), sources(), 2, nfe=3)
    one, same, other = make(seed=1), make(seed=1), make(seed=2)
    assert len(one) == 2 and all(torch.equal(a, b) for x, y in zip(one, same) for a, b in zip(x, y))
    assert torch.equal(one[0][1], other[0][1]) and not torch.equal(one[0][2], other[0][2])
    assert not torch.equal(one[0][2], one[1][2])  # each batch has noise of its own
    with pytest.raises(ValueError, match="batches is 0"):
        dataset(exact(vp()), vp(), sources(), 0)
    with pytest.raises(ValueError, match="follows the score"):
        dataset(COUPLING.denoiser(vp()), vp(), sources(), 1)


# -- consistency -----------------------------------------------------------------------------------


def along(bridge, x_t: Tensor, t, xT: Tensor, s) -> Tensor:
    """Where the exact ODE takes `x_t` from `t` to `s`: what is left of the mean scales with the standard deviation."""
    slope, rest = COUPLING.regression
    mean0, meanT, *_ = COUPLING.parts
    mean = mean0 + (xT - meanT) * slope[0, 0]

    def moments(time) -> tuple[Tensor, Tensor]:
        a, b, c = (x[:, None] if x.ndim else x for x in bridge.coefficients(time))
        return a * xT + b * mean, (b**2 * rest[0, 0] + c**2).sqrt()

    (here, std), (there, std_there) = moments(t), moments(s)
    return there + std_there / std * (x_t - here)


def told(bridge, h, eps: float = EPS):
    """The model whose `solution` is `h(x_t, t, xT)`."""

    def model(x_t, t, xT):
        k, j, _ = (x.to(F64)[:, None] for x in bridge._coefficients(torch.full_like(t, eps), t))
        return (h(x_t, t, xT) - k * x_t) / j

    return model


def exact_model(bridge):
    return told(bridge, lambda x_t, t, xT: along(bridge, x_t, t, xT, torch.full_like(t, EPS)))


def pair_at(bridge, n: int, rows: int = 400):
    """Points on both ends of random steps of the ODE: `(x_t, t, x_s, s, xT)`."""
    times, (x0, xT) = ode_times(bridge, n, DELTA, EPS), COUPLING.sample(rows, seeded(1))
    k = torch.randint(n - 1, (rows,), generator=seeded(2))  # not the last step: there the model is divided by zero
    x_t, x_s = ode_pair(exact(bridge), bridge, x0, xT, times[k], times[k + 1], seeded(3))
    return x_t, times[k], x_s, times[k + 1], xT


@each_bridge
def test_times_of_the_ode_grow_alike_in_what_they_say_of_x0(bridge):
    times = ode_times(bridge, 12, 0.01, 0.002)
    _, b, c = bridge.coefficients(times)
    steps = (b / c).log().diff()
    assert len(times) == 13 and times[0] == 0.99 and times[-1] == 0.002 and times.dtype == F64
    assert (steps > 0).all() and torch.allclose(steps, steps.mean().expand(12), rtol=1e-3)


@pytest.mark.parametrize("given", [(0.0, 0.1), (0.1, 0.0), (0.6, 0.5)], ids=str)
def test_times_of_the_ode_leave_both_ends_out(given):
    with pytest.raises(ValueError, match="wanted both above 0"):
        ode_times(vp(), 4, *given)


@each_bridge
def test_at_the_last_time_the_solution_is_the_point_itself(bridge):
    x_t, xT = torch.randn(2, 5, 3, generator=seeded(), dtype=F64)
    t = torch.full((5,), EPS, dtype=F64)
    assert torch.equal(solution(lambda *_: torch.full_like(x_t, 7.0), bridge, x_t, t, xT, EPS), x_t)
    beyond = solution(lambda *_: torch.full_like(x_t, 7.0), bridge, x_t, 0 * t + 0.9, xT, EPS)
    assert torch.allclose(beyond, torch.tensor(7.0, dtype=F64), atol=0.05)


@each_bridge
def test_the_step_between_two_points_is_the_ode_s(bridge):
    """Its error falls with the square of the step: of first order, with the exact flow as its limit."""
    errors = []
    for n in (40, 160):
        x_t, t, x_s, s, xT = pair_at(bridge, n)
        errors.append(float((along(bridge, x_t, t, xT, s) - x_s).abs().mean()))
    assert errors[0] / errors[1] > 4**1.7 and errors[1] < 3e-4


@each_bridge
def test_points_are_drawn_from_the_bridge(bridge):
    times, (x0, xT) = ode_times(bridge, 5, DELTA, EPS), COUPLING.sample(9, seeded(1))
    t, s = times[:1].expand(9), times[1:2].expand(9)
    x_t, _ = ode_pair(exact(bridge), bridge, x0, xT, t, s, seeded(3))
    assert torch.equal(x_t, bridge.sample(x0, xT, t, generator=seeded(3)))


@each_bridge
def test_the_ode_s_solution_is_the_fixed_point(bridge):
    """Its loss is the square of a step's error, which falls with the square of the step; that of others with the
    step."""

    def order(model) -> float:
        """The power of the step with which the loss goes to zero."""
        losses = []
        for n in (40, 160):
            x_t, t, x_s, s, xT = pair_at(bridge, n)
            target = solution(model, bridge, x_s, s, xT, EPS)
            losses.append(float(consistency_loss(model, target, bridge, x_t, t, xT, EPS)))
        return math.log(losses[0] / losses[1], 4)

    assert order(exact_model(bridge)) > 3.4
    backwards = told(bridge, lambda x_t, t, xT: along(bridge, x_t, torch.full_like(t, EPS), xT, t))
    for wrong in (exact(bridge), backwards):
        assert order(wrong) < 2.6


@each_bridge
def test_the_boundary_tells_what_is_constant_along_the_ode_from_its_solution(bridge):
    """The solution moved by one is as constant; on the last step, where the target is the point itself, it is off."""
    times, (x0, xT) = ode_times(bridge, 40, DELTA, EPS), COUPLING.sample(400, seeded(1))
    t, s = times[-2].expand(400), times[-1].expand(400)
    x_t, x_s = ode_pair(exact(bridge), bridge, x0, xT, t, s, seeded(3))
    for shift, loss in ((0.0, 0.0), (1.0, 1.0)):
        moved = told(bridge, lambda x_t, t, xT, shift=shift: along(bridge, x_t, t, xT, s) + shift)
        assert float(consistency_loss(moved, x_s, bridge, x_t, t, xT, EPS)) == pytest.approx(loss, abs=2e-2)


class Table(nn.Module):
    """A model that is affine in `x_t` and `xT` at each of a few times, known by their number."""

    conditional = True

    def __init__(self, times: Tensor):
        super().__init__()
        self.times = times
        self.values = nn.Parameter(torch.zeros(len(times), 3, dtype=F64))

    def forward(self, x_t, t, xT):
        one, of_x, of_xT = self.values[(t[:, None] - self.times).abs().argmin(1)].unbind(1)
        return one[:, None] + of_x[:, None] * x_t + of_xT[:, None] * xT


def test_training_ends_at_the_composition_of_the_teacher_s_steps():
    bridge, n = vp(), 4
    times = ode_times(bridge, n, 0.05, 0.02)
    model = Table(times)
    options = {"steps": 400, "n": n, "delta": 0.05, "eps": 0.02, "ema": 0.8, "lr": 0.05, "cosine": 400}
    *_, (learner, _) = consistency(model, exact(bridge), bridge, pairs(128), progress=False, **options)
    learner.finish()
    x0, xT = COUPLING.sample(500, seeded(5))
    x_t = x = bridge.sample(x0, xT, times[0], generator=seeded(6))
    for t, s in zip(times, times[1:]):
        x = dbim_step(bridge, exact(bridge)(x, t, xT), x, xT, s, t, 0.0)[0]
    found = solution(model, bridge, x_t, times[:1].expand(500), xT, 0.02)
    gap, spread = float((found - x).square().mean().sqrt().detach()), float((x - exact(bridge)(xT, 1.0, xT)).std())
    assert gap < 0.06 * spread


@each_bridge
@pytest.mark.parametrize("start", [0.99, 0.5])
def test_samples_start_below_T_with_noise_of_their_own(bridge, start):
    """Mean exact; variance that of the first step carried down the ODE: what it lacks is `b² Var(x0 | xT)`."""
    xT = torch.full((40_000, 1), 0.4, dtype=F64)
    x = consistency_sample(exact_model(bridge), exact(bridge), bridge, xT, (start,), EPS, generator=seeded(8))
    slope, rest = COUPLING.regression
    mean = 0.7 + float(slope) * 0.7
    (_, b, c), (a_end, b_end, c_end) = bridge.coefficients(start), bridge.coefficients(EPS)
    variance = (b_end**2 * rest[0, 0] + c_end**2) * c**2 / (b**2 * rest[0, 0] + c**2)
    assert float(x.mean()) == pytest.approx(
        float(a_end) * 0.4 + float(b_end) * mean, abs=4 * float(variance / 40_000) ** 0.5
    )
    assert float(x.var()) == pytest.approx(float(variance), rel=4 * (2 / 40_000) ** 0.5)


def test_samples_take_one_pass_of_the_teacher_and_one_for_each_time():
    bridge, seen = vp(), []

    def noted(who, model):
        def called(x_t, t, xT):
            seen.append((who, float(t[0])))
            return model(x_t, t, xT)

        return called

    xT = COUPLING.sample(4, seeded())[1]
    teacher, model = noted("teacher", exact(bridge)), noted("model", exact_model(bridge))
    x0 = consistency_sample(model, teacher, bridge, xT, (0.9, 0.4), EPS, generator=seeded())
    assert seen == [("teacher", 1.0), ("model", 0.9), ("model", 0.4)] and x0.shape == xT.shape
    with pytest.raises(ValueError, match="times"):
        consistency_sample(model, teacher, bridge, xT, (1.2,), EPS)


def test_consistency_wants_a_conditional_teacher_and_leaves_it_alone():
    bridge = vp()
    with pytest.raises(ValueError, match="the teacher is not conditional; wanted"):
        next(consistency(Table(ode_times(bridge, 3)), COUPLING.denoiser(bridge), bridge, pairs(), progress=False))
    teacher = Table(ode_times(bridge, 3))
    before = copy.deepcopy(teacher.state_dict())
    model = copy.deepcopy(teacher)
    for _ in consistency(model, teacher, bridge, pairs(8), steps=3, n=3, progress=False):
        pass
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert not torch.equal(model.values, teacher.values) and teacher.values.grad is None


def test_sampling_leaves_no_gradient():
    bridge = vp()
    xT = COUPLING.sample(4, seeded())[1].requires_grad_()
    assert not consistency_sample(exact_model(bridge), exact(bridge), bridge, xT, (0.9,), EPS).requires_grad
    assert not sample(exact(bridge), bridge, xT, 2).requires_grad
