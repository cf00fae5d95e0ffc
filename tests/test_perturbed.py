"""Teachers with an error: their samplers' laws, the nearest couplings, against closed forms on the line."""

from __future__ import annotations

import json
import math

import pytest
import torch

from ibmd_minimal import perturbed
from ibmd_minimal._quadrature import integral
from ibmd_minimal.bridges import brownian, ve, vp
from ibmd_minimal.contests import contest
from ibmd_minimal.exact import GaussianCoupling, path_divergence
from ibmd_minimal.perturbed import (
    PLACES,
    ExactPlane,
    Perturbed,
    affine,
    best_student,
    divergence,
    line,
    sampler_law,
    window,
)
from ibmd_minimal.plane import plane_bridge, plane_pairs
from ibmd_minimal.samplers import sample, time_grid

F64 = torch.float64
COUPLING = GaussianCoupling.of([0.7], [-0.3], 0.16, 1.21, 0.25)
SOURCE = (-0.3, 1.21)
BRIDGE = brownian(0.5)
EXACT = COUPLING.denoiser(BRIDGE)
each_place = pytest.mark.parametrize("place", PLACES)
each_bridge = pytest.mark.parametrize("bridge", [BRIDGE, vp(), ve(2.0)], ids=lambda bridge: bridge.family)


def shifted(place: str, shift: float = 0.1, gain: float = 0.0) -> Perturbed:
    return Perturbed(EXACT, place, torch.tensor([shift], dtype=F64), gain)


def over(place: str, value) -> float:
    """∫ value over a place's window."""
    return float(integral(value, *PLACES[place]))


# -- the error ---------------------------------------------------------------------------------


@each_place
def test_windows_are_of_one_length(place):
    t = (torch.arange(100_000, dtype=F64) + 0.5) / 100_000
    assert float(window(place, t).mean()) == pytest.approx(0.1, abs=1e-4) and window(place, t).unique().tolist() == [
        0,
        1,
    ]


def test_a_place_that_is_none_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="near T"):
        window("near t", torch.ones(1))


def test_the_error_is_added_within_its_window_alone():
    x_t, t = torch.randn(4, 1, dtype=F64), torch.tensor([0.44, 0.46, 0.54, 0.56])
    found = shifted("middle", 0.3, -0.2)(x_t, t) - EXACT(x_t, t)
    assert torch.allclose(found, torch.tensor([[0.0], [1], [1], [0]]) * (0.3 - 0.2 * x_t), atol=1e-12)
    gain, rest = affine(shifted("middle", 0.3, -0.2), t.double())
    assert torch.allclose(gain[:, None] * x_t + rest[:, None], shifted("middle", 0.3, -0.2)(x_t, t), atol=1e-7)


# -- the sampler's law -----------------------------------------------------------------------------


@each_bridge
@pytest.mark.parametrize("nfe", [1, 7])
def test_the_sampler_s_law_is_that_of_its_samples(bridge, nfe):
    teacher, n = Perturbed(COUPLING.denoiser(bridge), (0.3, 1.0), torch.tensor([0.4], dtype=F64), 0.3), 20_000
    xT = COUPLING.sample(n, torch.Generator().manual_seed(0))[1]
    x0 = sample(teacher, bridge, xT, nfe, generator=torch.Generator().manual_seed(1))
    law = sampler_law(teacher, bridge, SOURCE, time_grid("uniform", nfe, bridge))
    mean, variance, cross = float(law.mean[0]), float(law.cov[0, 0]), float(law.cov[0, 1])
    assert float(x0.mean()) == pytest.approx(mean, abs=4 * (variance / n) ** 0.5)
    assert float(x0.var()) == pytest.approx(variance, rel=4 * (2 / n) ** 0.5)
    found = float(((x0 - mean) * (xT + 0.3)).mean())
    assert found == pytest.approx(cross, abs=4 * ((variance * 1.21 + cross**2) / n) ** 0.5)


def test_without_an_error_the_sampler_tends_to_the_process():
    law = sampler_law(EXACT, BRIDGE, SOURCE, time_grid("quadratic", 4000, BRIDGE))
    assert torch.allclose(law.cov, COUPLING.process_coupling(BRIDGE).cov, atol=1e-3)
    assert float(law.mean[0]) == pytest.approx(0.7, abs=1e-9)


def test_a_shift_next_to_0_grows_with_the_number_of_steps():
    """Each of the window's n steps adds `shift/i`, i counted from 0: a harmonic sum, where K = 1."""
    still = GaussianCoupling.of([0.0], [0.0], 1e8, 1e8, 1e8).denoiser(BRIDGE)  # x0 = xT: nothing is forgotten
    teacher = Perturbed(still, (0.0, 0.1001), torch.tensor([1.0], dtype=F64))
    for nfe in (10, 100, 1000):
        law = sampler_law(teacher, BRIDGE, (0.0, 1e8), time_grid("uniform", nfe, BRIDGE))
        assert float(law.mean[0]) == pytest.approx(sum(1 / i for i in range(1, nfe // 10 + 1)), rel=2e-3)


# -- the nearest coupling --------------------------------------------------------------------------


@each_bridge
def test_the_divergence_is_the_library_s(bridge):
    p = GaussianCoupling.of([0.5], [-0.3], 0.3, 1.21, 0.1)
    found = divergence(p, COUPLING.denoiser(bridge), bridge)
    assert float(found) == pytest.approx(float(path_divergence(p, COUPLING, bridge, weight="plain")), rel=1e-7)


@each_place
@pytest.mark.parametrize("weight", ["plain", "soft"])
def test_a_shift_is_projected(place, weight):
    """`d = ∫ lambda g e / ∫ lambda g²` with `g = 1 - b K`, and what is left of the loss; nothing else moves."""
    student, loss = best_student(shifted(place), BRIDGE, COUPLING, weight)

    def lam(t):
        return torch.ones_like(t) if weight == "plain" else 1 / (t + 0.05)

    def g(t):
        return 1 - (1 - t) * affine(EXACT, t)[0]

    full = float(integral(lambda t: lam(t) * g(t) ** 2, 0.0, 1.0))
    part = 0.1 * over(place, lambda t: lam(t) * g(t))
    assert float(student.mean[0]) - 0.7 == pytest.approx(part / full, rel=1e-4)
    assert loss == pytest.approx(0.01 * over(place, lam) - part**2 / full, rel=1e-5) and loss > 1e-4
    assert torch.allclose(student.cov, COUPLING.cov, atol=1e-5)


def test_a_teacher_of_another_coupling_is_found_again():
    """An exact teacher has a student without loss, wherever the search begins."""
    start = GaussianCoupling.of([0.0], [-0.3], 0.5, 1.21, 0.0)
    student, loss = best_student(EXACT, BRIDGE, start)
    assert torch.allclose(student.cov, COUPLING.cov, atol=1e-4) and torch.allclose(
        student.mean, COUPLING.mean, atol=1e-5
    )
    assert loss < 1e-8


def test_no_student_nearby_is_better():
    teacher = shifted("near T", 0.0, 0.1)
    student, loss = best_student(teacher, BRIDGE, COUPLING)
    slope, rest = (float(one) for one in student.regression)
    for moved in ((0.02, 0, 0), (-0.02, 0, 0), (0, 0.02, 0), (0, -0.02, 0), (0, 0, 0.01), (0, 0, -0.01)):
        values = torch.tensor([float(student.mean[0]), slope, rest], dtype=F64) + torch.tensor(moved)
        assert float(divergence(line(*values, SOURCE), teacher, BRIDGE)) > loss
    assert abs(float(student.cov[0, 1]) - 0.25) > 0.01  # and the pairing moved


# -- the plane -------------------------------------------------------------------------------------


def test_the_exact_plane_is_the_mean_of_x0():
    """Its error is uncorrelated with every function of `x_t`, here with itself and with `x_t`."""
    bridge, teacher = plane_bridge(), ExactPlane(plane_bridge())
    x0, xT = plane_pairs(0, 200_000).at(0)
    for time in (0.05, 0.5, 0.95, 1.0):
        t = torch.full((len(x0),), time)
        x_t = bridge.sample(x0, xT, t, generator=torch.Generator().manual_seed(1))
        guess = teacher(x_t, t)
        for of in (guess, x_t, torch.ones_like(x_t)):
            each = ((x0 - guess) * of).sum(1).double()
            assert abs(float(each.mean())) < 4 * float(each.std()) / len(each) ** 0.5
    assert torch.allclose(teacher(xT, torch.ones(len(xT))), torch.zeros(2), atol=1e-5)  # all centres vote alike


def test_the_study_of_the_plane_runs_and_is_noted(tmp_path, capsys, monkeypatch):
    arena = contest("plane", runs=tmp_path, batch=64)
    monkeypatch.setattr(perturbed, "contest", lambda *_, **__: arena)
    monkeypatch.setattr(perturbed, "POINTS", 20)
    from ibmd_minimal.networks import MLP

    with torch.random.fork_rng():
        torch.manual_seed(0)
        arena._kept["own"] = MLP(plane_bridge(), hidden=8, depth=1, sigma0=2.0)
    arena._kept["test"] = type("Exam", (), {"pairs": plane_pairs(0, 40).at(0)})
    perturbed.main(["--steps", "2", "--nfe", "2", "3", "--seeds", "1", "--out", str(tmp_path / "p.json")])
    found = json.loads((tmp_path / "p.json").read_text())["plane"]["runs"]
    assert [one["place"] for one in found] == [None, *PLACES] and [one["size"] for one in found] == [0, 0.3, 0.3, 0.3]
    assert all(math.isfinite(one["loss"]) and [row["nfe"] for row in one["teacher"]] == [2, 3] for one in found)
    assert "near T, seed 1: shift of the student" in capsys.readouterr().out
