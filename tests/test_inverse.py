"""The inverse objective against closed forms of Gaussian couplings, and what `distill` refuses.

Every Monte-Carlo figure comes with a standard error from the spread over independent chunks; a comparison holds within
4 of them, and those that must fail (a wrong sign, coefficient, weight or alpha) fail by more.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ibmd_minimal.bridges import brownian, i2sb, ve, vp
from ibmd_minimal.exact import GaussianCoupling, noised_kl, path_divergence
from ibmd_minimal.inverse import distill, distillation, fake_from, fake_loss, student_loss
from ibmd_minimal.matching import TIMES, bridge_matching_loss
from ibmd_minimal.networks import MLP
from ibmd_minimal.students import Student, student_from
from ibmd_minimal.training import Batches

F64 = torch.float64
BRIDGES = [brownian(0.5), vp(), ve(2.0), i2sb(1.0)]
CHUNKS = 32


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pair(dim: int, shift: float = 2.0) -> tuple[GaussianCoupling, GaussianCoupling]:
    """A student's coupling and the data's: the same law of xT, all else different, cross-covariances not symmetric."""
    generator = seeded(dim)
    turn = torch.randn(2, 2 * dim, 2 * dim, generator=generator, dtype=F64)
    factors = torch.eye(2 * dim, dtype=F64) + 0.35 * turn / (2 * dim) ** 0.5
    student, other = 0.5 * factors[0] @ factors[0].T, 0.8 * factors[1] @ factors[1].T
    covT, slope = student[dim:, dim:], other[:dim, dim:] @ torch.linalg.inv(other[dim:, dim:])
    residual = other[:dim, :dim] - slope @ other[dim:, :dim]
    mean0, meanT = torch.randn(2, dim, generator=generator, dtype=F64)
    data = GaussianCoupling.of(mean0 + shift, meanT, slope @ covT @ slope.T + residual, covT, slope @ covT)
    return GaussianCoupling.of(mean0, meanT, student[:dim, :dim], covT, student[:dim, dim:]), data


def mean_and_error(values: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard error from independent chunks."""
    values = torch.stack(values).detach()
    return values.mean(0), values.std(0) / len(values) ** 0.5


def objective(student, data, bridge, conditional, n: int, *, swap=False, look=None, **options) -> tuple[float, float]:
    """The Monte-Carlo objective at the exact phi, with its standard error, from `n` samples."""
    teacher, fake = data.denoiser(bridge, conditional), student.denoiser(bridge, conditional)
    teacher, fake = (fake, teacher) if swap else (teacher, fake)
    generator, losses = seeded(0), []
    for _ in range(CHUNKS):
        x0, xT = student.sample(n // CHUNKS, generator)
        losses.append(student_loss(teacher, fake, look or bridge, x0, xT, generator=generator, **options))
    return tuple(float(x) for x in mean_and_error(losses))


# -- (a) the value -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", ["plain", "path_kl"])
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("bridge", BRIDGES, ids=lambda bridge: bridge.family)
@pytest.mark.parametrize(("dim", "n"), [(1, 120_000), (2, 40_000), (5, 40_000)])
def test_the_objective_at_the_exact_phi_is_the_weighted_path_divergence(dim, n, bridge, conditional, weight):
    student, data = pair(dim, shift=3.0)
    wanted = float(path_divergence(student, data, bridge, conditional, weight)) / dim
    times = "clock" if weight == "path_kl" else "uniform"  # with uniform times the path-KL variance is infinite
    found, error = objective(student, data, bridge, conditional, n, weight=weight, times=times)
    assert error < 0.01 * wanted
    assert abs(found - wanted) < 4 * error


@pytest.mark.parametrize(
    "wrong",
    [
        dict(weight=lambda t: 2.0),
        dict(weight="soft"),
        dict(alpha=1.0),
        dict(alpha=0.4),
        dict(alpha=0.6),
        dict(swap=True),
        dict(look=brownian(5.0)),
        dict(look=ve(2.0)),
        dict(t=0.9),
    ],
)
@pytest.mark.parametrize("conditional", [False, True])
def test_a_wrong_objective_is_told_apart(wrong, conditional):
    student, data = pair(2, shift=0.0)
    wanted = float(path_divergence(student, data, BRIDGES[0], conditional, "plain")) / 2
    found, error = objective(student, data, BRIDGES[0], conditional, 40_000, **wrong)
    assert abs(found - wanted) > 5 * error


def test_how_times_are_drawn_changes_the_error_and_not_the_value():
    student, data = pair(1)
    wanted = float(path_divergence(student, data, vp(), False, lambda t: 1 / (t + 0.05)))
    for times in TIMES:
        found, error = objective(student, data, vp(), False, 60_000, weight="soft", times=times)
        assert abs(found - wanted) < 4 * error


# -- (b) the gradient ----------------------------------------------------------------------------------


class LinearStudent(nn.Module):
    """`x0 = A xT + m + B z`, and the coupling this makes of a law of xT."""

    def __init__(self, dim: int = 2):
        super().__init__()
        start = torch.randn(2, dim, dim, generator=seeded(3), dtype=F64)
        self.A = nn.Parameter(0.4 * start[0])
        self.B = nn.Parameter(0.5 * torch.eye(dim, dtype=F64) + 0.2 * start[1])
        self.m = nn.Parameter(torch.full((dim,), 0.5, dtype=F64))

    def forward(self, xT: Tensor, generator=None) -> Tensor:
        z = torch.randn(xT.shape, generator=getattr(generator, "generator", generator), dtype=xT.dtype)
        return xT @ self.A.T + self.m + z @ self.B.T

    def coupling(self, source: GaussianCoupling) -> GaussianCoupling:
        _, meanT, _, covT, _ = source.parts
        cross = self.A @ covT
        return GaussianCoupling.of(self.A @ meanT + self.m, meanT, cross @ self.A.T + self.B @ self.B.T, covT, cross)


def flat_gradient(value: Tensor, student: nn.Module) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(student.parameters()))])


def gradients(student, data, bridge, conditional, n, chunks=2 * CHUNKS, **options) -> list[Tensor]:
    """The loss's gradient at the exact phi, held fixed, chunk by chunk."""
    with torch.no_grad():
        fake = student.coupling(data).denoiser(bridge, conditional)
    teacher, generator, found = data.denoiser(bridge, conditional), seeded(1), []
    for _ in range(chunks):
        xT = data.sample(n // chunks, generator)[1]
        loss = student_loss(teacher, fake, bridge, student(xT, generator), xT, generator=generator, **options)
        found.append(flat_gradient(loss, student))
    return found


def disagreement(found: list[Tensor], wanted: Tensor) -> float:
    """The largest error of a component, in standard errors."""
    mean, error = mean_and_error(found)
    return float(((mean - wanted).abs() / error).max())


@pytest.mark.parametrize(("weight", "times"), [("plain", "uniform"), ("path_kl", "clock")])
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("bridge", BRIDGES[:3], ids=lambda bridge: bridge.family)
def test_the_full_gradient_is_that_of_the_closed_form(bridge, conditional, weight, times):
    """Envelope theorem: phi held fixed, the gradient is the derivative of the divergence, phi moving along."""
    student, (_, data) = LinearStudent(), pair(2, shift=0.3)
    wanted = flat_gradient(path_divergence(student.coupling(data), data, bridge, conditional, weight) / 2, student)
    found = gradients(student, data, bridge, conditional, 12_800, weight=weight, times=times)
    assert disagreement(found, wanted) < 4
    assert disagreement(found, -wanted) > 12


@pytest.mark.parametrize(
    "wrong", [dict(alpha=1.0), dict(alpha=0.0), dict(gradient="detached"), dict(weight="soft"), dict(t=0.5)], ids=str
)
@pytest.mark.parametrize("conditional", [False, True])
def test_a_wrong_gradient_is_told_apart(conditional, wrong):
    student, (_, data) = LinearStudent(), pair(2, shift=0.3)
    wanted = flat_gradient(path_divergence(student.coupling(data), data, vp(), conditional, "plain") / 2, student)
    assert disagreement(gradients(student, data, vp(), conditional, 12_800, **wrong), wanted) > 6


@pytest.mark.parametrize("bridge", BRIDGES[:3], ids=lambda bridge: bridge.family)
def test_the_detached_gradient_of_a_conditional_teacher_is_that_of_the_noised_kl(bridge):
    student, (_, data) = LinearStudent(), pair(2, shift=0.3)
    wanted = flat_gradient(noised_kl(student.coupling(data), data, bridge) / 2, student)
    assert disagreement(gradients(student, data, bridge, True, 12_800, gradient="detached"), wanted) < 4
    for wrong in (dict(gradient="full"), dict(gradient="detached", weight=lambda t: 0.5)):
        assert disagreement(gradients(student, data, bridge, True, 12_800, **wrong), wanted) > 6
    assert disagreement(gradients(student, data, bridge, False, 12_800, gradient="detached"), wanted) > 6


@pytest.mark.parametrize("conditional", [False, True])
def test_alpha_cancels_on_the_detached_path_and_only_there(conditional):
    student, (_, data) = LinearStudent(), pair(2, shift=0.3)
    exact, sid = (
        gradients(student, data, vp(), conditional, 500, 1, gradient="detached", alpha=alpha)[0] for alpha in (0.5, 1.2)
    )
    assert torch.allclose(exact, sid, rtol=1e-10, atol=1e-12)
    exact, sid = (gradients(student, data, vp(), conditional, 500, 1, alpha=alpha)[0] for alpha in (0.5, 1.2))
    assert (exact - sid).abs().max() > 0.02 * exact.abs().max()


def curl(gradient: str, conditional: bool, step: float = 0.02) -> tuple[float, float]:
    """`dF_A/dB - dF_B/dA` of the field that trains a scalar student, by central differences at common numbers."""
    data = GaussianCoupling.of([0.7], [-0.3], 0.16, 1.21, 0.25)

    def field(a: float, b: float) -> Tensor:
        student = LinearStudent(1)
        with torch.no_grad():
            student.A.fill_(0.8 + a), student.B.fill_(0.6 + b), student.m.fill_(0.2)
        found = gradients(student, data, brownian(0.5), conditional, 16_000, gradient=gradient)
        return torch.stack(found)[:, :2]  # A, then B

    along_b = (field(0, step) - field(0, -step))[:, 0]
    along_a = (field(step, 0) - field(-step, 0))[:, 1]
    return tuple(float(x) for x in mean_and_error(list((along_b - along_a) / (2 * step))))


@pytest.mark.parametrize(
    ("gradient", "conditional", "rotates"),
    [("full", False, False), ("full", True, False), ("detached", True, False), ("detached", False, True)],
)
def test_only_the_detached_gradient_of_an_unconditional_teacher_is_the_gradient_of_nothing(
    gradient, conditional, rotates
):
    found, error = curl(gradient, conditional)
    assert (abs(found) > 10 * error and abs(found) > 0.05) if rotates else abs(found) < 4 * error + 1e-3


# -- (c) zeros and signs -------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", ["full", "detached"])
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("bridge", BRIDGES, ids=lambda bridge: bridge.family)
def test_zero_with_zero_gradient_at_the_true_coupling(bridge, conditional, gradient):
    """Sample by sample: teacher and phi are the same function there, and the difference is taken before the square."""
    student = LinearStudent()
    data = GaussianCoupling(*(x.detach() for x in vars(student.coupling(pair(2)[1])).values()))
    xT = data.sample(500, seeded(0))[1]
    exact = data.denoiser(bridge, conditional)
    loss = student_loss(exact, exact, bridge, student(xT, seeded(1)), xT, generator=seeded(2), gradient=gradient)
    assert float(loss.detach()) == 0 and float(flat_gradient(loss, student).abs().max()) == 0


DIRECTIONS = {
    "mean of x0": dict(mean0=[1.0, 0.0]),
    "variance of x0": dict(cov0=[[1.0, 0.0], [0.0, 0.0]]),
    "correlation in x0": dict(cov0=[[0.0, 1.0], [1.0, 0.0]]),
    "symmetric pairing": dict(cross=[[0.0, 1.0], [1.0, 0.0]]),
    "diagonal pairing": dict(cross=[[1.0, 0.0], [0.0, 0.0]]),
    "antisymmetric pairing": dict(cross=[[0.0, 1.0], [-1.0, 0.0]]),
}


@pytest.mark.parametrize("sign", [-0.15, 0.15])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("conditional", [False, True])
def test_positive_in_every_direction_away_from_the_truth(conditional, direction, sign):
    names = ("mean0", "meanT", "cov0", "covT", "cross")
    data = GaussianCoupling.of([0.2, -0.1], [0.4, 0.3], 0.8, 1.0, [[0.2, 0.1], [-0.2, 0.1]])
    moved = [
        x + sign * torch.tensor(DIRECTIONS[direction].get(name, 0.0), dtype=F64) for name, x in zip(names, data.parts)
    ]
    found, error = objective(GaussianCoupling.of(*moved), data, brownian(0.5), conditional, 40_000)
    assert found > 6 * error > 0


ROTATION = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=F64)


def turned(xT: Tensor, generator) -> Tensor:
    """`x0 = s J xT`, s a fair sign: coupling A of two that share their unconditional bridge."""
    return torch.where(torch.rand(len(xT), 1, generator=generator) < 0.5, -1.0, 1.0).double() * (xT @ ROTATION.T)


def turned_given_xT(bridge):
    """The conditional denoiser of coupling A: x0 is one of two points, and x_t tells the odds."""

    def denoiser(x_t, t, xT):
        a, b, c = (x.to(x_t)[:, None] for x in bridge.coefficients(t))
        point = xT @ ROTATION.T
        return point * torch.tanh((((x_t - a * xT) * b * point).sum(1, keepdim=True)) / c**2)

    return denoiser


@pytest.mark.parametrize("bridge", BRIDGES, ids=lambda bridge: bridge.family)
def test_two_couplings_share_an_unconditional_bridge_and_no_conditional_one(bridge):
    independent = GaussianCoupling.of([0.0, 0.0], [0.0, 0.0], 1.0, 1.0, 0.0)
    xT = independent.sample(40_000, seeded(0))[1]
    x0 = turned(xT, seeded(1))
    unconditional = independent.denoiser(bridge)
    # The bridge of A as a regression finds it: no linear correction of B's denoiser lowers A's own loss.
    change = torch.zeros(3, requires_grad=True, dtype=F64)
    losses = []
    for rows in torch.arange(len(xT)).chunk(CHUNKS):

        def changed(x_t, t, xT):
            return (1 + change[0]) * unconditional(x_t, t, xT) + change[1] * x_t @ ROTATION.T + change[2]

        loss = fake_loss(changed, bridge, x0[rows], xT[rows], generator=seeded(int(rows[0])))
        losses.append(torch.autograd.grad(loss, change)[0])
    assert disagreement(losses, torch.zeros(3)) < 4
    # Given xT they differ: A's two points against B's Gaussian.
    values = [
        student_loss(independent.denoiser(bridge, True), turned_given_xT(bridge), bridge, x0[rows], xT[rows],
                     generator=seeded(int(rows[0])))
        for rows in torch.arange(len(xT)).chunk(CHUNKS)
    ]  # fmt: skip
    found, error = mean_and_error(values)
    assert found > 10 * error


@pytest.mark.parametrize("conditional", [False, True])
def test_with_phi_not_exact_the_loss_is_too_small_by_its_error(conditional):
    """`L(G, phi) = D(G) - E lambda |phi - phi*|²`, here for `phi = phi* + 0.6`: below zero at the truth."""
    bridge = vp()
    for student, data in (pair(2), pair(2)[1:] * 2):
        teacher, exact = data.denoiser(bridge, conditional), student.denoiser(bridge, conditional)
        generator, losses = seeded(0), []
        for _ in range(CHUNKS):
            x0, xT = student.sample(1_500, generator)
            phi = partial(lambda exact, *at: exact(*at) + 0.6, exact)
            losses.append(student_loss(teacher, phi, bridge, x0, xT, generator=generator))
        found, error = mean_and_error(losses)
        wanted = path_divergence(student, data, bridge, conditional, "plain") / 2 - 0.36
        assert abs(found - wanted) < 4 * error
        assert abs(found - wanted - 0.36) > 8 * error


# -- several teachers ----------------------------------------------------------------------------------


def test_a_fake_model_blind_to_the_label_gives_less_than_zero_at_the_truth():
    """Two scalar tasks with means +1 and -1: the loss at the truth is `-E|E[x0|x_t,k] - E[x0|x_t]|²`, not 0."""
    bridge, xT = brownian(1.0), torch.zeros(1, 1)
    tasks = [GaussianCoupling.of([mean], [0.0], 1.0, 1.0, 0.0) for mean in (1.0, -1.0)]
    exact = [task.denoiser(bridge) for task in tasks]
    generator, blind, seeing = seeded(0), [], []

    def mixture(x_t, t, xT, label=None):
        """`E[x0 | x_t]` of both tasks together: each task's own by its odds."""
        moments = [task.marginal(bridge, t) for task in tasks]
        logs = torch.stack([-((x_t - mean) ** 2) / (2 * cov[..., 0]) for mean, cov in moments])
        return (torch.softmax(logs, 0) * torch.stack([one(x_t, t, xT) for one in exact])).sum(0)

    for _ in range(CHUNKS):
        x0s, xTs = zip(*(task.sample(500, generator) for task in tasks))
        for k in range(2):
            seed = int(torch.randint(2**40, (1,), generator=generator))
            for fake, into in ((mixture, blind), (exact[k], seeing)):
                into.append(student_loss(exact[k], fake, bridge, x0s[k], xTs[k], generator=seeded(seed)))
    found, error = mean_and_error(blind)
    assert found < -0.2 and found < -20 * error
    assert all(float(one) == 0 for one in seeing)
    # The same number by quadrature over t and x: the mean squared distance between the two denoisers.
    v, x = torch.linspace(0.005, 0.995, 100, dtype=F64), torch.linspace(-8, 8, 161, dtype=F64)
    grid_t, grid_x = v.repeat_interleave(len(x)), x.repeat(len(v))[:, None]
    mean, cov = tasks[0].marginal(bridge, grid_t)
    density = torch.exp(-((grid_x - mean) ** 2) / (2 * cov[..., 0])) / (2 * torch.pi * cov[..., 0]).sqrt()
    gap = exact[0](grid_x, grid_t, None) - mixture(grid_x, grid_t, xT)
    wanted = -float((density * gap**2).sum() * (x[1] - x[0]) / len(v))
    assert abs(float(found) - wanted) < 4 * float(error)


# -- distill: what it takes, what it leaves alone, what it refuses --------------------------------------


def small(conditional: bool = False, **options) -> MLP:
    torch.manual_seed(0)
    return MLP(brownian(), 2, 8, 1, conditional=conditional, **options)


def quick(teacher=None, student=None, sources=None, bridge=None, **options):
    """A distillation of two steps, of sound arguments but for those given."""
    teacher = small() if teacher is None else teacher
    student = student_from(small()) if student is None else student
    sources = [torch.randn(4, 2)] * 9 if sources is None else sources
    return distill(
        teacher, bridge or brownian(), student, sources, **(dict(steps=2, fake_steps=1, progress=False) | options)
    )


@pytest.mark.parametrize("gradient", ["full", "detached"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["module", "closure"])
def test_the_teacher_is_only_read(wrapped, gradient):
    inner = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))  # its buffers would follow every call in training mode
    before = {name: value.clone() for name, value in inner.state_dict().items()}

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, x_t, t, xT):
            return self.inner(x_t)

    teacher = Module()
    asked = (lambda x_t, t, xT: inner.eval()(x_t)) if wrapped else teacher
    student = quick(asked, fake=small(), gradient=gradient)
    assert all(torch.equal(before[name], value) for name, value in inner.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in inner.parameters())
    assert wrapped or inner[1].training
    assert not torch.equal(student.network.last.weight, small().last.weight)


def test_no_gradient_is_left_on_teacher_or_fake_by_the_loss_itself():
    teacher, fake, student = small(), small(), student_from(small())
    xT = torch.randn(4, 2)
    student_loss(teacher, fake, brownian(), student(xT), xT).backward()
    assert all(p.grad is None and p.requires_grad for p in (*teacher.parameters(), *fake.parameters()))
    assert any(p.grad is not None for p in student.parameters())


def test_the_fake_loss_is_bridge_matching_on_the_students_points_held_fixed():
    fake, student, xT = small(), student_from(small()), torch.randn(4, 2)
    x0 = student(xT)
    loss = fake_loss(fake, vp(), x0, xT, weight="soft", generator=seeded(0))
    assert torch.equal(loss, bridge_matching_loss(fake, vp(), x0.detach(), xT, weight="soft", generator=seeded(0)))
    loss.backward()
    assert all(p.grad is None for p in student.parameters()) and all(p.grad is not None for p in fake.parameters())


class Both(nn.Module):
    """A student that remembers its inputs and takes a label."""

    def __init__(self):
        super().__init__()
        self.line, self.seen = nn.Linear(2, 2), []

    def forward(self, xT, label=None):
        self.seen.append((xT, label))
        return self.line(xT)


@pytest.mark.parametrize("kind", ["list", "generator", "Batches"])
@pytest.mark.parametrize("labelled", [False, True])
def test_sources_are_iterables_of_xT_or_of_pairs_with_a_label(kind, labelled):
    xT, label = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    batch = (xT, label) if labelled else xT
    sources = {"list": [batch] * 4, "generator": (batch for _ in range(4)), "Batches": Batches(lambda draws: batch)}[
        kind
    ]
    student, fake = Both(), small(labels=2 if labelled else 0)
    quick(student=student, fake=fake, sources=sources)
    assert len(student.seen) == 4  # steps (fake_steps + 1)
    assert all(torch.equal(seen, xT) for seen, _ in student.seen)
    assert all(got is None if not labelled else torch.equal(got, label) for _, got in student.seen)


def test_a_teacher_that_knows_labels_gets_them():
    asked = []

    class Teacher(nn.Module):
        labels = 2

        def forward(self, x_t, t, xT, label=None):
            asked.append(label)
            return x_t

    label = torch.tensor([0, 1, 1, 0])
    quick(Teacher(), Both(), [(torch.randn(4, 2), label)] * 4, fake=small(labels=2))
    assert len(asked) == 2 and all(torch.equal(one, label) for one in asked)


@pytest.mark.parametrize("several", [False, True])
def test_cutting_the_batch_changes_nothing(several):
    """Micro-batches make the update of the whole batch, also where labels scatter its rows over teachers."""
    label = torch.tensor([0, 1, 1, 0, 0, 0, 1, 1])
    sources = Batches(lambda draws: (torch.randn(8, 2, generator=draws.generator), label))
    teacher = [small(), small(noise_channels=0)] if several else small()
    bridges = [brownian(0.2), vp()] if several else brownian(0.2)
    made = []
    for accumulate in (1, 4):
        torch.manual_seed(1)
        student, fake = Student(small(labels=2, noise_channels=2)), small(labels=2)
        made.append(quick(teacher, student, sources, bridges, fake=fake, accumulate=accumulate, lr=1e-2))
    for one, other in zip(*(student.parameters() for student in made)):
        assert torch.allclose(one, other, atol=2e-5)


def test_distillation_yields_each_step_with_the_history_so_far():
    options = dict(steps=3, fake_steps=2, progress=False)
    steps = list(distillation(small(), brownian(), student_from(small()), [torch.randn(4, 2)] * 9, **options))
    assert len(steps) == 3 and len(steps[-1][1]) == 3
    assert set(steps[-1][1][0]) == {"step", "fake", "student"}


def test_the_fake_model_starts_as_a_copy_of_the_teacher():
    teacher = small()
    fake = fake_from(teacher)
    assert all(torch.equal(a, b) and a is not b for a, b in zip(teacher.parameters(), fake.parameters()))


class Deaf(nn.Module):
    """A student that takes no label."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 2)

    def forward(self, xT):
        return self.line(xT)


X, LABEL = torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)
SHARED = small()
WRONG = [
    (dict(sources=3), TypeError, "sources is a int"),
    (dict(sources=X), TypeError, "wanted an iterable of batches"),
    (dict(sources="xT"), TypeError, "wanted an iterable of batches"),
    (dict(sources=[]), ValueError, "ended after 0"),
    (dict(sources=[X] * 2), ValueError, "ended after 2"),
    (dict(sources=[X * float("nan")]), ValueError, "xT holds 8 non-finite"),
    (dict(sources=[X.long()]), TypeError, "floating-point"),
    (dict(sources=[{"xT": X}]), TypeError, "is a dict"),
    (dict(sources=[(X, X)]), ValueError, "wanted xT alone or"),
    (dict(sources=[(X, X, LABEL)]), ValueError, "and nothing else"),
    (dict(sources=[(X, LABEL[:2])]), ValueError, "wanted xT alone or"),
    (dict(sources=[(X, LABEL)], student=Deaf(), fake=small(labels=2)), TypeError, "the student takes none"),
    (dict(sources=[(X, LABEL)], student=Both(), fake=Deaf()), TypeError, "the fake takes none"),
    (dict(teacher=[small(), small()], fake=small(labels=2)), ValueError, "there are 2 teachers"),
    (
        dict(teacher=[small()] * 2, fake=small(labels=2), student=Both(), sources=[(X, LABEL + 2)]),
        ValueError,
        "wanted 0 to 1",
    ),
    (dict(teacher=[small()] * 2, fake=small(labels=2), bridge=[brownian()] * 3), ValueError, "2 teachers, 3 bridges"),
    (dict(teacher=[small()] * 2, fake=small(labels=2), weight=["plain"]), ValueError, "1 weights"),
    (dict(teacher=[small()] * 2), ValueError, "several teachers"),
    (dict(teacher=[], fake=small()), ValueError, "0 teachers"),
    (dict(teacher=3, fake=small()), TypeError, "teacher is a int"),
    (dict(teacher=lambda x_t, t, xT: x_t), ValueError, "fake is missing"),
    (dict(teacher=lambda x_t, t, xT: x_t[:2], fake=small()), ValueError, "the teacher returned"),
    (dict(bridge="brownian"), TypeError, "wanted a Bridge"),
    (dict(student=lambda xT: xT), TypeError, "wanted a module"),
    (dict(student=nn.Identity()), ValueError, "no parameters"),
    (dict(fake=lambda x_t, t, xT: x_t), TypeError, "the fake is a function"),
    (dict(teacher=SHARED, student=Student(SHARED)), ValueError, "share parameters"),
    (dict(teacher=SHARED, fake=SHARED), ValueError, "share parameters"),
    (dict(fake=small(conditional=True)), ValueError, "is conditional and one is not"),
    (dict(student=student_from(small(), brownian(), (1.0, 0.5), "xT")), ValueError, "wanted anchor='x_t'"),
    (dict(student=student_from(small(), brownian(0.3), (1.0, 0.5))), ValueError, "wanted the same one"),
    (dict(steps=0), ValueError, "steps is 0"),
    (dict(fake_steps=0), ValueError, "fake_steps is 0"),
    (dict(lr=0.0), ValueError, "lr is 0"),
    (dict(fake_lr=0.0), ValueError, "lr is 0"),
    (dict(lr="fast"), TypeError, "lr is 'fast'"),
    (dict(ema=1.5), ValueError, "ema is 1.5"),
    (dict(alpha=-1), ValueError, "alpha is -1"),
    (dict(gradient="ful"), ValueError, "did you mean 'full'"),
    (dict(times="uniforms"), ValueError, "did you mean 'uniform'"),
    (dict(weight="plane"), ValueError, "did you mean 'plain'"),
    (dict(weight=lambda t: t[None]), ValueError, "one per time"),
    (dict(stpes=3), TypeError, "did you mean 'steps'"),
    (dict(accumulate=3), ValueError, "the batch has 4 rows"),
]


@pytest.mark.parametrize(("arguments", "error", "says"), WRONG, ids=lambda one: one if isinstance(one, str) else "")
def test_distill_refuses(arguments, error, says):
    with pytest.raises(error, match=says):
        quick(**arguments)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (dict(teacher=3), TypeError, "teacher is a int"),
        (dict(fake=None), TypeError, "fake is a NoneType"),
        (dict(x0=X[:2]), ValueError, "wanted the same shape"),
        (dict(x0=X.double()), TypeError, "wanted the same"),
        (dict(t=1.5), ValueError, r"wanted times in \[0, 1\]"),
        (dict(t=torch.zeros(3)), ValueError, "wanted a number or shape"),
        (dict(z=X[:, :1]), ValueError, "wanted the same shape"),
        (dict(alpha="half"), TypeError, "alpha is 'half'"),
        (dict(gradient="none"), ValueError, "wanted one of full, detached"),
        (dict(fake=lambda x_t, t, xT: None), ValueError, "the fake returned NoneType"),
    ],
)
def test_the_loss_refuses(options, error, says):
    arguments = dict(teacher=small(), fake=small(), bridge=brownian(), x0=X, xT=X) | options
    with pytest.raises(error, match=says):
        student_loss(**arguments)
