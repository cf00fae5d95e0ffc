"""Students: what they compute, and that `distill` brings linear-Gaussian ones to the coupling that theory names.

A linear-Gaussian student of a Gaussian teacher is solved in closed form, so the target is exact: 5% of the scale (of a
standard deviation for means, of the largest variance for covariances) is what the trainings below must reach.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ibmd_minimal._random import normal
from ibmd_minimal.bridges import Bridge, brownian, ve, vp
from ibmd_minimal.exact import GaussianCoupling
from ibmd_minimal.inverse import distill
from ibmd_minimal.matching import noised
from ibmd_minimal.networks import MLP
from ibmd_minimal.students import ByLabel, Student, ToldFake, student_from
from ibmd_minimal.training import Batches

F64 = torch.float64
X = torch.zeros(1, 2)
PLANE = GaussianCoupling.of([0.7, -0.4], [-0.3, 0.2], [[0.8, 0.2], [0.2, 0.6]], 1.0, [[0.3, -0.4], [0.5, 0.2]])
LINE = GaussianCoupling.of([0.7], [-0.3], 0.8, 1.0, -0.4)
OTHER = GaussianCoupling.of([-0.8], [0.2], 0.3, 1.0, 0.3)
TIMES = {1: (1.0,), 2: (1.0, 0.5), 4: (1.0, 0.75, 0.5, 0.25)}


def apply(matrices: Tensor, x: Tensor) -> Tensor:
    return (matrices @ x[..., None])[..., 0]


def between_knots(table: Tensor, t: Tensor) -> Tensor:
    """Rows of `table` at even knots over [0, 1], linear between them, at `t` `(batch,)`."""
    at = t * (len(table) - 1)
    left = at.long().clamp(max=len(table) - 2)
    part = (at - left).reshape(-1, *[1] * (table.ndim - 1))
    return (1 - part) * table[left] + part * table[left + 1]


def inputs(x_t: Tensor, xT: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(x_t[:, :1]), x_t, xT], 1)


class LinearTeacher:
    """The exact denoiser of a Gaussian coupling from a table of 129 knots: off by less than 1e-3, and quick."""

    def __init__(self, coupling: GaussianCoupling, bridge: Bridge, conditional: bool):
        gain, gainT, rest = coupling.denoiser(bridge, conditional).linear(torch.linspace(0, 1, 129, dtype=F64))
        self.table, self.conditional = torch.cat([rest[..., None], gain, gainT], -1), conditional

    def __call__(self, x_t, t, xT):
        return apply(between_knots(self.table, t), inputs(x_t, xT))


class LinearFake(nn.Module):
    """A teacher's coefficients plus corrections at 9 knots, of their own for each time the student jumps from."""

    def __init__(self, teacher: LinearTeacher, times: tuple[float, ...]):
        super().__init__()
        self.teacher, self.times, self.conditional = teacher, torch.tensor(times, dtype=F64), teacher.conditional
        _, dim, width = teacher.table.shape
        self.change = nn.Parameter(torch.zeros(9, len(times), dim, width if self.conditional else 1 + dim, dtype=F64))

    def forward(self, x_t, t, xT, t_n=None):
        step = torch.zeros(len(t), dtype=torch.long) if t_n is None else nearest(t_n, self.times)
        change = between_knots(self.change, t)[torch.arange(len(t)), step]
        return self.teacher(x_t, t, xT) + apply(change, inputs(x_t, xT)[:, : change.shape[-1]])


class Unaware(LinearFake):
    """The same, without a look at the time the student jumped from."""

    def forward(self, x_t, t, xT):
        return super().forward(x_t, t, xT)


class LabelledFake(nn.Module):
    """One fake for each label; or, blind, the first one for all."""

    def __init__(self, fakes: list[LinearFake]):
        super().__init__()
        self.fakes, self.conditional = nn.ModuleList(fakes), fakes[0].conditional

    def forward(self, x_t, t, xT, label):
        both = torch.stack([fake(x_t, t, xT) for fake in self.fakes])
        return both[label, torch.arange(len(t))]


class LinearStudent(nn.Module):
    """`x0 = P x_n + A xT + m + B z`, with parameters of their own for each step, or for each label; A only if told."""

    def __init__(self, dim: int, times: tuple[float, ...] = (1.0,), sees_xT: bool = False, labels: int = 0):
        super().__init__()
        n = max(len(times), labels)
        eye = torch.eye(dim, dtype=F64).expand(n, dim, dim)
        self.times, self.labels, self.noise_channels = torch.tensor(times, dtype=F64), labels, dim
        self.gain, self.noise = nn.Parameter(0.3 * eye.clone()), nn.Parameter(0.5 * eye.clone())
        self.mean = nn.Parameter(torch.zeros(n, dim, dtype=F64))
        self.gainT = nn.Parameter(torch.zeros(n, dim, dim, dtype=F64)) if sees_xT else None

    def noise_shape(self, x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape)

    def forward(self, x_t, t, xT, z, label=None):
        k = label if self.labels else nearest(t, self.times)
        x0 = apply(self.gain[k], x_t) + self.mean[k] + apply(self.noise[k], z)
        return x0 if self.gainT is None else x0 + apply(self.gainT[k], xT)


def nearest(t: Tensor, times: Tensor) -> Tensor:
    return (t[:, None] - times).abs().argmin(1)


def trained(data, bridge, conditional, n=1, anchor="x_t", fake_of=LinearFake, **options) -> Student:
    """A student of the data's exact teacher, that started from identity gains and half the noise."""
    teacher, times = LinearTeacher(data, bridge, conditional), TIMES[n]
    student = Student(LinearStudent(data.dim, times, sees_xT=conditional and n > 1), bridge, times, anchor)
    sources = Batches(lambda draws: data.sample(256, draws.generator)[1])
    return distilled(teacher, bridge, student, sources, fake_of(teacher, times), **options)


def distilled(teacher, bridge, student, sources, fake, steps=400, **options) -> Student:
    options = dict(lr=0.03, fake_lr=0.1, fake_steps=2, betas=(0.5, 0.99), cosine=steps, progress=False) | options
    return distill(teacher, bridge, student, sources, fake=fake, steps=steps, **options)


@torch.no_grad()
def coupling_of(student: Student, data: GaussianCoupling, label: int | None = None) -> GaussianCoupling:
    """Mean and covariance of 200,000 of the student's pairs: to about 0.3% of the scale."""
    xT = data.sample(200_000, torch.Generator().manual_seed(5))[1]
    label = None if label is None else torch.full((len(xT),), label)
    pairs = torch.cat([student(xT, label, generator=torch.Generator().manual_seed(6)), xT], 1)
    return GaussianCoupling(pairs.mean(0), torch.cov(pairs.T))


def distance(found: GaussianCoupling, wanted: GaussianCoupling) -> float:
    """Largest error of mean and covariance, in units of the scale."""
    variance = wanted.cov.diagonal().max()
    return float(
        max((found.mean - wanted.mean).abs().max() / variance.sqrt(), (found.cov - wanted.cov).abs().max() / variance)
    )


# -- where training ends -----------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True])
def test_one_step_recovers_the_datas_coupling_and_not_its_teachers_process(conditional):
    bridge = brownian(0.5)
    found = coupling_of(trained(PLANE, bridge, conditional), PLANE)
    assert distance(found, PLANE) < 0.05
    # What the sampler of the same unconditional teacher tends to: the right marginals, another pairing.
    assert distance(PLANE.process_coupling(bridge), PLANE) > 0.2


@pytest.mark.parametrize(
    ("anchor", "n"),
    [("x_t", 4), ("xT", 2), *(pytest.param(*one, marks=pytest.mark.slow) for one in (("x_t", 2), ("xT", 4)))],
)
def test_few_steps_under_a_conditional_teacher_recover_the_datas_coupling(anchor, n):
    assert distance(coupling_of(trained(LINE, brownian(0.5), True, n, anchor), LINE), LINE) < 0.05


@pytest.mark.parametrize("n", [2, 4])
def test_few_steps_under_an_unconditional_teacher_end_between_data_and_process(n):
    """Each step draws `p(x0 | x_{t_n})`, so that the chain ends at `few_step_coupling`; the law of x0 is the data's."""
    bridge = brownian(0.5)
    wanted = LINE.few_step_coupling(bridge, TIMES[n])
    student = trained(LINE, bridge, False, n, steps=600 if n == 2 else 400)
    assert distance(coupling_of(student, LINE), wanted) < 0.05
    assert distance(wanted, LINE) > 0.5 and distance(wanted, LINE.process_coupling(bridge)) > 0.15
    exact = LINE.denoiser(bridge)
    for k, t in enumerate(TIMES[n]):  # each step's own law of x0 given x_{t_n}: its slope, and its variance
        assert abs(float(student.network.gain[k].detach() - exact.linear(t)[0])) < 0.06
        assert abs(float(student.network.noise[k].detach() ** 2 - exact.residual(t))) < 0.08


def test_without_the_step_in_its_sight_the_fake_model_pins_only_the_mean_over_steps():
    """Anchored at xT, every step aims at the same law; a fake model that cannot tell them apart sees their mixture."""
    student = trained(LINE, brownian(0.5), True, 2, "xT", Unaware, steps=250)
    xT = LINE.sample(50_000, torch.Generator().manual_seed(5))[1]
    residual = float(LINE.regression[1])
    with torch.no_grad():
        spread = [float((x0 - apply(LINE.regression[0], xT)).var()) for *_, x0 in student.steps(xT)]
    assert abs(sum(spread) / 2 - residual) < 0.05
    assert max(abs(one - residual) for one in spread) > 0.07


def labelled_sources() -> Batches:
    def make(draws):
        xT = torch.cat([LINE.sample(128, draws.generator)[1], OTHER.sample(128, draws.generator)[1]])
        return xT, torch.arange(2).repeat_interleave(128)

    return Batches(make)


def test_two_teachers_with_their_own_bridges_and_weights_in_one_student():
    bridges = [brownian(0.5), vp()]
    teachers = [LinearTeacher(data, bridge, False) for data, bridge in zip((LINE, OTHER), bridges)]
    student = Student(LinearStudent(1, labels=2))
    fake = LabelledFake([LinearFake(teacher, (1.0,)) for teacher in teachers])
    distilled(teachers, bridges, student, labelled_sources(), fake, weight=["plain", "soft"])
    for label, data in enumerate((LINE, OTHER)):
        assert distance(coupling_of(student, data, label), data) < 0.05


# -- what a student computes ---------------------------------------------------------------------------


class Counting(nn.Module):
    """Returns x_t + 1, and remembers what it was asked."""

    noise_channels = 0

    def __init__(self):
        super().__init__()
        self.asked, self.scale = [], nn.Parameter(torch.ones(()))

    def forward(self, x_t, t, xT, **extra):
        self.asked.append((x_t.detach().clone(), t.clone(), xT, extra))
        return x_t + self.scale


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("anchor", ["x_t", "xT"])
def test_nfe_is_the_number_of_network_passes(n, anchor):
    network = Counting()
    student = Student(network, brownian(), TIMES[n], anchor)
    xT = torch.randn(3, 2)
    x0 = student(xT)
    assert student.nfe == n == len(network.asked) and x0.shape == xT.shape
    assert [float(t[0]) for _, t, _, _ in network.asked] == list(TIMES[n])
    assert all(seen is xT for _, _, seen, _ in network.asked) and torch.equal(network.asked[0][0], xT)
    network.asked.clear()
    student.start(xT)
    assert len(network.asked) == n - 1


@pytest.mark.parametrize("bridge", [brownian(0.5), vp(), ve(2.0)], ids=str)
@pytest.mark.parametrize("anchor", ["x_t", "xT"])
def test_intermediate_points_follow_the_bridge_the_anchor_names(bridge, anchor):
    student = Student(Counting(), bridge, (1.0, 0.6, 0.3), anchor)
    xT = torch.full((100_000, 1), 2.0, dtype=F64)
    steps = list(student.steps(xT, generator=torch.Generator().manual_seed(0)))
    (t, before, x0), (s, after, _) = steps[1:]
    pinned, end = (before, float(t[0])) if anchor == "x_t" else (xT, 1.0)
    mean, std = bridge.posterior(x0, pinned, float(s[0]), end)
    standard = ((after - mean) / std).detach()
    assert abs(float(standard.mean())) < 4 / 100_000**0.5
    assert abs(float(standard.square().mean()) - 1) < 4 * (2 / 100_000) ** 0.5


def test_start_draws_the_students_times_evenly_and_from_its_own_points():
    student = Student(Counting(), brownian(0.5), TIMES[4])
    xT = torch.zeros(40_000, 1, dtype=F64)
    x_n, t_n = student.start(xT, generator=torch.Generator().manual_seed(1))
    assert not x_n.requires_grad
    with torch.no_grad():
        paths = list(student.steps(xT, generator=torch.Generator().manual_seed(2)))
    for t, (_, x_t, _) in zip(TIMES[4], paths):
        here = x_n[t_n == t]
        assert abs(len(here) - 10_000) < 4 * (40_000 * 3 / 16) ** 0.5
        error = (x_t.var() / len(here) + x_t.var() / len(x_t)) ** 0.5
        assert abs(float(here.mean() - x_t.mean())) <= 4 * float(error)


def test_noise_is_given_or_drawn_and_repeats_with_the_generator():
    network = MLP(brownian(), 2, 8, 1, noise_channels=2)
    nn.init.normal_(network.noise.weight)
    student, xT = Student(network), torch.randn(4, 2)
    first, again = (student(xT, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first, student(xT))
    z = torch.randn(4, 2)
    assert torch.equal(student(xT, z=z), student(xT, z=z)) and not torch.equal(student(xT, z=z), student(xT, z=-z))


@pytest.mark.parametrize("conditional", [False, True])
def test_a_student_starts_as_its_teacher(conditional):
    teacher = MLP(brownian(), 2, 16, 2, conditional=conditional)
    student, xT = student_from(teacher), torch.randn(5, 2)
    assert torch.equal(student(xT), teacher(xT, torch.ones(5), xT))
    with torch.no_grad():
        next(student.parameters()).add_(1)
    assert not torch.equal(student(xT), teacher(xT, torch.ones(5), xT))


def test_labels_reach_the_network_and_choose_the_bridge_between_steps():
    network, label = Counting(), torch.tensor([0, 1])
    student = Student(network, [brownian(1e-6), brownian(4.0)], TIMES[2])
    x0 = student(torch.zeros(2, 50_000), label)
    assert all(torch.equal(extra["label"], label) for *_, extra in network.asked)
    # t = 1 to 1/2: x_s has variance eps/4 around the middle.
    assert x0.var(dim=1).tolist() == pytest.approx([0.25e-6, 1.0], rel=0.05)


@pytest.mark.parametrize("times", ["uniform", "clock"])
def test_bridges_by_label_are_the_bridges_row_by_row(times):
    bridges, label = [brownian(0.5), vp(), ve(2.0)], torch.tensor([2, 0, 1, 0, 2])
    x0, xT, z = torch.randn(3, 5, 2, dtype=F64)
    found = noised(ByLabel(bridges, label), x0, xT, None, times, z, torch.Generator().manual_seed(0))
    for k, bridge in enumerate(bridges):
        wanted = noised(bridge, x0, xT, None, times, z, torch.Generator().manual_seed(0))
        for one, other in zip(found, wanted):
            assert torch.allclose(one[label == k], other[label == k], rtol=1e-12)


def test_a_told_fake_begins_as_the_teacher_and_can_tell_the_times_apart():
    torch.manual_seed(0)
    teacher = MLP(vp(2.0, 0.1), conditional=True)
    fake, x, t = ToldFake(teacher, TIMES[4]), torch.randn(4, 2), torch.full((4,), 0.2)
    t_n = torch.tensor([1.0, 0.76, 0.5, 0.24])  # each the nearest of the times, whatever rounding did to it
    assert fake.conditional and torch.equal(fake(x, t, x + 1, t_n=t_n), teacher(x, t, x + 1))
    with torch.no_grad():
        next(p for p in fake.network.parameters() if p.ndim > 1)[:, -4:] = torch.randn(4)
    same = x[:1].expand(4, 2)
    assert len(fake(same, t, same, t_n=t_n).unique(dim=0)) == 4
    assert torch.equal(fake(same, t, same, t_n=t_n), fake(same, t, same, t_n=torch.tensor(TIMES[4])))
    assert all(p.requires_grad for p in fake.parameters()) and fake.training
    with pytest.raises(ValueError, match=r"t_n is missing; wanted \(batch,\) of the student's times, \(1.0, 0.75"):
        fake(x, t, x)


@pytest.mark.parametrize("nfe", [2, 4])
def test_a_told_fake_is_told_by_the_distillation(nfe):
    teacher, told = MLP(vp(2.0, 0.1), conditional=True), []
    student, fake = student_from(teacher, teacher.bridge, TIMES[nfe], "xT"), ToldFake(teacher, TIMES[nfe])
    heard = fake.forward
    fake.forward = lambda x_t, t, xT, t_n: told.append((t, t_n)) or heard(x_t, t, xT, t_n)
    options = {"fake": fake, "steps": 2, "fake_steps": 1, "progress": False}
    distill(teacher, teacher.bridge, student, Batches(lambda draws: normal((64, 2), X, draws)), **options)
    t, t_n = (torch.cat(each) for each in zip(*told))
    assert set(t_n.tolist()) == set(TIMES[nfe]) and bool((t > t_n).any())  # the whole bridge, from every step


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (dict(network=3), TypeError, "network is a int"),
        (dict(times=()), ValueError, "wanted 1.0 first"),
        (dict(times=(0.5,)), ValueError, "wanted 1.0 first"),
        (dict(times=(1.0, 0.0)), ValueError, "all above 0"),
        (dict(times=(1.0, 0.5, 0.5)), ValueError, "descending"),
        (dict(times=(1.0, float("nan"))), ValueError, "times"),
        (dict(times=(1.0, "half")), TypeError, "times"),
        (dict(times=(1.0, 0.5), bridge=None), ValueError, "has no bridge"),
        (dict(bridge="brownian"), TypeError, "wanted a Bridge"),
        (dict(anchor="x_0"), ValueError, "did you mean"),
    ],
)
def test_a_student_refuses_what_it_cannot_be_built_from(arguments, error, says):
    with pytest.raises(error, match=says):
        Student(**(dict(network=Counting(), bridge=brownian()) | arguments))


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: student_from(lambda x_t, t, xT: x_t), TypeError, "wanted an MLP or a UNet"),
        (lambda: Student(Counting())(torch.zeros(2, 2, dtype=torch.int64)), TypeError, "floating-point"),
        (lambda: Student(Counting())(torch.zeros(2)), ValueError, r"wanted \(batch, ...\)"),
        (lambda: Student(Counting())([0.0]), TypeError, "xT is a list"),
        (lambda: Student(Counting())(torch.zeros(2, 2), torch.zeros(3).long()), ValueError, r"wanted \(2,\)"),
        (lambda: Student(Counting())(torch.zeros(2, 2), z=torch.zeros(2, 2)), ValueError, "takes no z"),
        (
            lambda: Student(MLP(brownian(), noise_channels=2))(torch.zeros(2, 2), z=torch.zeros(2, 1)),
            ValueError,
            r"z has shape \(2, 1\)",
        ),
        (
            lambda: Student(Counting(), [brownian(), vp()], TIMES[2])(torch.zeros(2, 2)),
            ValueError,
            "the student has 2 bridges",
        ),
    ],
)
def test_a_student_refuses_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call()
