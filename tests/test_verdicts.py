"""What results say, and how surely."""

from __future__ import annotations

import pytest
import torch

from ibmd_minimal.ablations import ABLATIONS
from ibmd_minimal.verdicts import DEFAULTS, Measured, against, measured, resampled_means, signals, stages


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def row(distance: float, nfe: int = 1, each=None, error: float = 0.1) -> dict:
    found = {"nfe": nfe, "distance": distance, "distance_error": error}
    return found if each is None else found | {"each": list(each)}


def run(factor: float, *rows: dict, seed: int = 0, **more) -> dict:
    return {"factor": factor, "seed": seed, "rows": list(rows), "passes": 80, "along": []} | more


def entry(**methods) -> dict:
    def one(runs: list[dict]) -> dict:
        return {"teacher": "own", "clean": False, "best": 1.0, "runs": runs}

    samplers = [{"method": "posterior", "teacher": "own"} | row(0.5, 5)]
    return {"samplers": samplers, "methods": {name: one(runs) for name, runs in methods.items()}}


def test_the_bootstrap_s_error_is_the_formula_s():
    """Of one seed: the standard deviation over the root of the number of draws, but for n/(n - 1)."""
    values = normal(1, 200)
    error = float(resampled_means(values, 4000).std())
    assert error == pytest.approx(float(values.std(correction=0)) / 200**0.5, rel=4 / (2 * 4000) ** 0.5)


def test_seeds_are_resampled_too():
    """Seeds that differ, draws that do not: their spread over the root of their number."""
    values = torch.tensor([0.0, 1.0, 5.0]).double()[:, None].expand(3, 10)
    wanted = float(values[:, 0].std(correction=0)) / 3**0.5
    assert float(resampled_means(values, 4000).std()) == pytest.approx(wanted, rel=4 / (2 * 4000) ** 0.5)


def test_luck_that_two_share_cancels():
    luck = 10 * normal(10)
    own = [run(1.0, row(0, each=luck + 0.01 * normal(10, seed=1)))]
    other = [run(1.0, row(0, each=luck + 1 + 0.01 * normal(10, seed=2)))]
    gap, error = against(entry(ibmd=own, rival=other))["rival", 1]
    assert gap == pytest.approx(1, abs=4 * 0.01) and error < 0.01
    assert measured(entry(ibmd=own))["ibmd", 1].distance()[1] > 1


def test_rows_without_draws_have_the_errors_that_were_noted():
    own, other = [run(1.0, row(2, error=0.3)), run(1.0, row(4, error=0.4))], [run(1.0, row(5, error=0.6))]
    assert measured(entry(ibmd=own))["ibmd", 1].distance() == pytest.approx((3, 0.25))
    gaps = against(entry(ibmd=own, rival=other))
    assert gaps["rival", 1] == pytest.approx((2, 0.65)) and gaps["posterior", 5][0] == pytest.approx(-2.5)
    with pytest.raises(ValueError, match="was not measured"):
        against(entry(rival=other))


def test_only_the_best_rate_s_seeds_that_ended_well_are_taken():
    runs = [run(1.0, row(1), row(3, 2)), run(3.0, row(50), row(50, 2)), run(1.0), run(1.0, row(2), row(5, 2), seed=2)]
    found = measured(entry(ibmd=runs))
    assert found["ibmd", 1].draws.tolist() == [[1], [2]] and found["ibmd", 2].distance()[0] == 4
    assert found["ibmd", 1].trained and not found["posterior", 5].trained


def test_stages_of_a_training_are_means_over_seeds():
    runs = [
        run(1.0, row(d), along=[{"passes": 10, "distance": 4 + d}, {"passes": 20, "distance": 2 + d}]) for d in (1, 3)
    ]
    found = [stage[:2] for stage in stages([*runs, run(1.0)])]
    assert found == [(10, 6), (20, 4)] and Measured((row(1),), "", False, True).draws.shape == (1, 1)


def test_signals_are_told_from_noise():
    def variant(*distances: float) -> dict:
        return {"runs": [run(1.0, row(d)) for d in distances]}

    lost = {"runs": [run(1.0), run(1.0)]}
    variants = {"all": variant(1.0, 1.1, 0.9), "far": variant(3.0, 3.1, 2.9), "near": variant(0.3, 0.31, 0.29)}
    variants |= {"alike": variant(1.2, 0.8, 1.3), "perhaps": variant(1.2, 1.3, 1.25), "single": variant(7.0)}
    variants["lost"] = lost
    wanted = {"far": "worse", "near": "better", "alike": "level", "perhaps": "unclear", "single": "one seed"}
    assert signals({"variants": variants}, "all") == wanted | {"lost": "diverged"}
    for one in (runs for runs in variants.values() if runs is not lost):
        for each in one["runs"]:
            each["rows"][0]["inside"] = each["rows"][0]["distance"]
    turned = wanted | {"far": "better", "near": "worse", "lost": "diverged"}
    assert signals({"variants": variants}, "all", "inside") == turned
    with pytest.raises(ValueError, match="'al'"):
        signals({"variants": variants}, "al")


def test_every_ablation_has_a_variant_that_the_others_are_held_against():
    assert {name: DEFAULTS[name] in variants for name, variants in ABLATIONS.items()} == dict.fromkeys(ABLATIONS, True)
