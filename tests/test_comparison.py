"""Equal compute, counted; trainings that are kept and not made again; what the results hold of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import tiny
import torch

from ibmd_minimal import ablations, comparison, contests, runs, trials
from ibmd_minimal.__main__ import main
from ibmd_minimal.ablations import ABLATIONS, ablate, over_seeds
from ibmd_minimal.checkpoints import load_model, save_model
from ibmd_minimal.comparison import SAMPLERS, compare, methods_of, unequal
from ibmd_minimal.compute import Cost, Meter, consistency_cost, distillation_cost, regression_cost
from ibmd_minimal.contests import Contest, Pictures, Plane, conditional_recipe, contest, spread
from ibmd_minimal.networks import MLP
from ibmd_minimal.plane import plane_bridge
from ibmd_minimal.recipes import recipe
from ibmd_minimal.training import NonFiniteLoss
from ibmd_minimal.trials import METHODS, attempt

BATCH, BUDGET, LEAST = 2, 810, 300  # LEAST: where nothing is compared


class StubExam:
    """Nothing but the mean square of what is restored, and a note of who asked."""

    def __init__(self, xT: torch.Tensor):
        self.xT, self.asked, self.clocked = xT, 0, 0

    def measure(self, restore, quick: bool = False) -> dict[str, float]:
        self.asked += 1
        value = float(restore(self.xT).double().square().mean())
        return {"distance": value, "distance_error": 0.1, "spread": spread(restore, self.xT, 2), "seconds": 1.0}

    def floor(self) -> dict[str, float]:
        return self.measure(lambda xT: xT)

    def clock(self, restore) -> float:
        self.clocked += 1
        assert restore(self.xT).shape == self.xT.shape
        return float(self.clocked)


class Tiny(Plane):
    """The plane with networks of eight neurons that nobody trained."""

    def _teacher(self, kind: str) -> MLP:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = MLP(plane_bridge(), hidden=8, depth=1, sigma0=2.0, conditional=kind == "conditional")
        return tiny.randomised(model).requires_grad_(False)

    def _exam(self, split: str) -> StubExam:
        return StubExam(torch.randn(16, 2, generator=torch.Generator().manual_seed(len(split))))


def arena(folder, **options) -> Tiny:
    """A contest that costs nothing."""
    plane = contest("plane")
    regression = plane.regression | {"nfe": 4, "share": 0.2}
    ibmd = plane.ibmd | {"fake_warmup": 2}
    given = {
        "budget": BUDGET,
        "ablated": 0.5,
        "batch": BATCH,
        "ibmd": ibmd,
        "regression": regression,
        "runs": folder,
        "nfes": (1, 2, 5),
    }
    return Tiny(
        "plane",
        consistency=plane.consistency | {"n": 4, "starts": (0.97, 0.9)},
        head_start=plane.head_start,
        **(given | options),
    )


@pytest.fixture
def plane(tmp_path) -> Tiny:
    return arena(tmp_path)


@pytest.fixture
def small(tmp_path) -> Tiny:
    return arena(tmp_path, budget=LEAST)


# -- counting --------------------------------------------------------------------------------------


def test_passes_are_counted_by_row_direction_and_what_learns():
    model, x, t = MLP(plane_bridge(), hidden=4), torch.randn(5, 2), torch.full((5,), 0.5)
    with Meter() as meter:
        with torch.no_grad():
            model(x, t)
        assert (meter.forward, meter.backward) == (5, 0)
        model(x, t).sum().backward()  # to the weights, and through the layers to the input
        assert (meter.forward, meter.backward) == (10, 10)
        model.requires_grad_(False)(x, t)  # nothing learns and nothing returns
        assert (meter.forward, meter.backward) == (15, 10)
        model(x.requires_grad_(), t).sum().backward()  # to the input alone
        assert (meter.forward, meter.backward) == (20, 15)
        with meter.paused():
            model(x, t).sum().backward()
        model(x[:2], t[:2]).sum()  # forward without backward
    model(x, t)
    assert (meter.forward, meter.backward, meter.passes) == (22, 15, 37) and 0 < meter.seconds < 60


def test_seconds_stand_still_in_a_pause(monkeypatch):
    from ibmd_minimal import compute

    now = iter(range(100))
    monkeypatch.setattr(compute, "clock", lambda: next(now))
    with Meter() as meter, meter.paused():  # starts at 0, stands at 1
        pass  # goes on at 2, ends at 3
    assert meter.seconds == 2


@pytest.mark.parametrize("label", METHODS)
def test_what_is_counted_is_the_formula_and_fills_the_budget_to_5_percent(plane, label):
    pairs, seen = plane.pairs, []
    plane.pairs = lambda seed: seen.append(seed) or pairs(seed)
    card = attempt(plane, label, METHODS[label])
    assert card["passes"] == card["formula"] and card["steps"] == card["planned"] > 3
    assert 0.95 * BUDGET < card["passes"] <= BUDGET
    assert bool(seen) == METHODS[label].clean == (label == "consistency")  # who saw clean points


COSTLY = [("inner-steps", "L = 1"), ("inner-steps", "L = 10"),
    ("noise", "no noise"), ("start", "both fresh"), ("weight", "path KL"), ("sources", "200"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "label"), COSTLY)
def test_every_variant_of_an_ablation_takes_the_same_compute(plane, name, label):
    card = attempt(plane, "some", METHODS["ibmd"], **ABLATIONS[name][label])
    assert card["passes"] == card["formula"] and 0.9 * BUDGET < card["passes"] <= BUDGET  # L = 10: 8 steps


@pytest.mark.parametrize("nfe", [1, 2, 4])
def test_the_formula_is_that_of_the_cards_of_students(nfe):
    plan = recipe("sr4x-pool").small
    cost = distillation_cost(plan.student_batch, plan.fake_steps, plan.fake_warmup, nfe)
    assert cost.total(plan.student_steps) == runs.passes(plan, runs.student_role(nfe))


def test_costs_of_a_step_by_hand():
    assert distillation_cost(10, 3) == Cost(0, 10 * (3 * 4 + 7))
    assert distillation_cost(10, 5, 7, gradient="detached") == Cost(7 * 4 * 10, 10 * (5 * 4 + 5))
    assert distillation_cost(1, 1, 1, nfe=3) == Cost(6, 6 + 9)
    assert regression_cost(10, 6, 20) == Cost(1200, 30) and consistency_cost(10) == Cost(0, 50)


def test_a_budget_is_filled_and_never_exceeded():
    cost = Cost(100, 7)
    assert cost.steps(107) == 1 and cost.steps(113) == 1 and cost.steps(114) == 2 and cost.total(2) == 114
    with pytest.raises(ValueError, match="budget is 106 passes; wanted 107 or more"):
        cost.steps(106)


# -- one training ----------------------------------------------------------------------------------


def test_a_training_that_is_there_is_not_made_again(small, monkeypatch):
    first = attempt(small, "ibmd", METHODS["ibmd"])
    files = sorted(path.name for path in small.folder.iterdir())
    assert [name.split(".")[-1] for name in files] == ["json", "safetensors"] and files[0].startswith("ibmd-")
    monkeypatch.setitem(trials.TRAININGS, "ibmd", None)  # a call would fail
    assert attempt(small, "by another name", METHODS["ibmd"]) == first
    for other in ({"seed": 1}, {"factor": 3.0}, {"budget": 200}, {"ema": 0.5}, {"fake_steps": 2}):
        with pytest.raises(TypeError):
            attempt(small, "ibmd", METHODS["ibmd"], **other)


def test_trainings_are_functions_of_their_settings(tmp_path):
    for label in ("ibmd", "regression", "consistency"):
        one, same = (attempt(arena(tmp_path / k, budget=LEAST), label, METHODS[label], seed=2) for k in "ab")
        other = attempt(arena(tmp_path / "a", budget=LEAST), label, METHODS[label], seed=3)
        assert one["sha256"] == same["sha256"] != other["sha256"] and one["rows"] == same["rows"]


def test_a_card_says_what_was_done_and_its_weights_can_be_used(small):
    card = attempt(small, "ibmd", METHODS["ibmd"], factor=3.0, seed=4)
    options, own = card["settings"]["options"], small.ibmd
    assert options["lr"] == 3 * own["lr"] and options["fake_lr"] == 3 * own["fake_lr"] and options["ema"] == own["ema"]
    assert {"machine", "train_seconds", "passes", "along", "rows", "choice", "sha256"} <= set(card)
    assert card["settings"]["seed"] == 4 and card["settings"]["budget"] == LEAST and len(card["along"]) == 4
    passes = [one["passes"] for one in card["along"]]
    assert passes[-1] == card["passes"]
    assert passes == sorted(set(passes)) and passes[2] == pytest.approx(LEAST / 2, rel=0.15)
    model = load_model(next(small.folder.glob("ibmd-*.json")), role="student")
    xT, g = small.exam("test").xT, torch.Generator().manual_seed(4)
    again = float(model(xT, generator=g).double().square().mean())
    assert again == pytest.approx(card["rows"][0]["distance"], rel=5e-3)  # weights are kept in half precision


def test_an_interruption_leaves_nothing_half_done(small, monkeypatch):
    monkeypatch.setattr(trials, "measured", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        attempt(small, "ibmd", METHODS["ibmd"])
    assert not small.folder.exists() or not list(small.folder.iterdir())


def diverging(monkeypatch, problem: Exception, restore=None):
    """Regression that ends with `problem` after five steps, and is measured by `restore` where one is given."""
    fit = trials.TRAININGS["regression"]

    def fitted(*given):
        made = fit(*given)
        made.training = cut(made.training)
        if restore is not None:
            made.restorers = {1: {(1.0,): restore}}
        return made

    def cut(training):
        for k, one in enumerate(training):
            if k == 5:
                raise problem
            yield one

    monkeypatch.setitem(trials.TRAININGS, "regression", fitted)


def test_a_training_that_diverges_is_measured_where_it_stood(small, monkeypatch):
    diverging(monkeypatch, NonFiniteLoss("the loss is nan"))
    card = attempt(small, "regression", METHODS["regression"])
    assert card["diverged"] == "step 5: the loss is nan" and math.isfinite(card["rows"][0]["distance"])
    assert card["passes"] < card["formula"] and card["steps"] == 5 < card["planned"]


@pytest.mark.parametrize("size", [1e6, math.nan, math.inf], ids=str)
def test_outputs_that_are_far_off_are_no_result(small, monkeypatch, size):
    monkeypatch.setattr(trials, "MARKS", ())
    diverging(monkeypatch, NonFiniteLoss("the loss is nan"), lambda xT, g: size + xT)
    card = attempt(small, "regression", METHODS["regression"])
    assert card["rows"] == [] and card["choice"] is None and card["diverged"] == "step 5: the loss is nan"
    assert comparison.best_factor([card, card | {"choice": 9.0, "factor": 3.0}]) == 3.0
    assert "diverged" in comparison.trimmed(card) and "diverged, step 5" in comparison.said_of(card)[0]
    assert math.isnan(over_seeds([card])[0])
    entry = comparison.method_entry(small, METHODS["regression"], [card] * 5)
    whole = {"floor": {"distance": 0.1}, "samplers": [], "methods": {"regression": entry}, "budget": LEAST}
    assert "5 of 5 diverged" in comparison.summary(whole) and unequal(whole) == ["regression"]


def test_the_table_holds_means_over_seeds_of_what_was_measured():
    def run(distance: float, inside: float) -> dict:
        row = {"nfe": 1, "distance": distance, "spread": 4.0, "inside": inside, "seconds": 0.5}
        return {"factor": 1.0, "rows": [row], "passes": 2_000_000}

    one = {
        "teacher": "own",
        "clean": True,
        "best": 1.0,
        "runs": [run(0.2, 0.8), run(0.4, 0.6), run(9.0, 0) | {"factor": 3.0}],
    }
    sampler = {"method": "posterior", "teacher": "own", **run(0.3, 0.9)["rows"][0], "nfe": 5}
    floor = {"distance": 0.1, "inside": 0.86, "spread": 4.0, "seconds": 0.1}
    lines = comparison.summary({"floor": floor, "samplers": [sampler], "methods": {"ibmd": one}}).splitlines()
    assert " ".join(lines[0].split()) == "method teacher clean NFE distance spread inside s/1,000 M passes"
    assert lines[2].split() == ["floor", "0.100", "4.0000", "0.860"]
    assert lines[3].split() == ["posterior", "own", "5", "0.300", "4.0000", "0.900", "0.500"]
    assert lines[4].split() == ["ibmd", "own", "yes", "1", "0.300", "4.0000", "0.700", "0.500", "2.00"]


def test_a_training_that_ends_well_and_restores_nothing_says_so(small):
    ways = {1: {(1.0,): lambda xT, g: 1e6 + xT}}
    found = trials.outcome(small, trials.Fit(None, 1, Cost(0, 1), None, ways), 0)
    assert found["rows"] == [] and found["diverged"].startswith("at the end: what is restored reaches 1e+06, its input")


def test_a_training_whose_outputs_are_far_off_on_the_way_ends_there(small, monkeypatch):
    monkeypatch.setattr(trials, "MARKS", (0.01,))
    diverging(monkeypatch, AssertionError("it went on"), lambda xT, g: 1e6 + xT)
    card = attempt(small, "regression", METHODS["regression"])
    assert card["rows"] == [] and card["steps"] < card["planned"] and card["along"] == []


def test_weights_that_half_precision_cannot_hold_do_not_lose_the_card(small, monkeypatch):
    def refuse(*_):
        raise ValueError("the weight w holds an infinity")

    monkeypatch.setattr(trials, "save_model", refuse)
    card = attempt(small, "regression", METHODS["regression"])
    assert card["weights"] == "the weight w holds an infinity" and card["rows"]
    monkeypatch.setattr(trials, "TRAININGS", {})
    assert attempt(small, "regression", METHODS["regression"]) == card


def test_the_way_is_chosen_on_one_exam_and_measured_on_the_other(small):
    """Two ways, of which the exams prefer different ones: `x0 = 0` is best by the mean square, on either."""
    ways = {(1.0,): lambda xT, g: xT, (0.5,): lambda xT, g: 0 * xT}
    small._kept["test"] = StubExam(torch.full((4, 2), 2.0))
    small._kept["choice"] = StubExam(torch.full((4, 2), 3.0))
    row = trials.measured(small, 2, ways, 0)
    assert row["times"] == [0.5] and row["choice"] == 0 and row["distance"] == 0 and row["nfe"] == 2
    row = trials.measured(small, 2, {(1.0,): ways[1.0,]}, 0)
    assert row["choice"] == 9 and row["distance"] == 4
    assert small.exam("test").asked == 2 and small.exam("choice").asked == 3


def test_noise_is_an_input_of_the_student_unless_said_otherwise(small):
    told, mean = (attempt(small, label, METHODS[label]) for label in ("regression", "regression-mean"))
    assert told["network"]["arguments"]["noise_channels"] == 2 and told["rows"][0]["spread"] > 1e-6
    assert mean["network"]["arguments"]["noise_channels"] == 0 and mean["rows"][0]["spread"] == 0


def test_consistency_is_measured_from_two_passes_on(small):
    card = attempt(small, "consistency", METHODS["consistency"])
    assert [row["nfe"] for row in card["rows"]] == [2, 3] and [len(row["times"]) for row in card["rows"]] == [1, 2]


# -- comparison ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few():
    """Two methods and three samplers."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(comparison, "METHODS", {name: METHODS[name] for name in ("ibmd", "consistency")})
        kept = {name: SAMPLERS[name] for name in ("posterior", "dbim-0", "ode-heun")}
        patched.setattr(comparison, "SAMPLERS", kept)
        yield


@pytest.fixture(scope="module")
def compared(few, tmp_path_factory) -> tuple[dict, Tiny]:
    """A whole comparison, and its contest."""
    folder = tmp_path_factory.mktemp("compared")
    plane = arena(folder, seeds=(0, 1), budget=396)  # ten steps of IBMD, 39 of consistency
    return compare(plane, path=folder / "comparison.json"), plane


def test_a_comparison_keeps_all_and_says_which_rate_was_best(compared):
    entry, plane = compared
    kept = json.loads((plane.runs / "comparison.json").read_text())
    assert kept["plane"] == json.loads(json.dumps(entry)) and not unequal(entry)
    assert set(entry) == {"data", "budget", "machine", "floor", "teachers", "samplers", "methods"}
    for label in ("ibmd", "consistency"):
        one = entry["methods"][label]
        search, more = one["runs"][:3], one["runs"][3:]
        assert [run["factor"] for run in search] == [1 / 3, 1.0, 3.0] and {run["seed"] for run in search} == {0}
        assert one["best"] == min(search, key=lambda run: run["choice"])["factor"]
        assert [(run["factor"], run["seed"]) for run in more] == [(one["best"], 1)]
        assert one["search_passes"] == sum(run["passes"] for run in search)
    names = [(row["method"], row["nfe"]) for row in entry["samplers"]]
    wanted = [("posterior", k) for k in (1, 2, 5)] + [("dbim-0", k) for k in (1, 2, 5)]
    assert names == wanted + [("ode-heun", k) for k in (2, 5)]
    assert all(row["grid"] in comparison.GRIDS for row in entry["samplers"])
    assert len(comparison.summary(entry).splitlines()) == 2 + 1 + 8 + 1 + 2


def test_a_comparison_goes_on_where_it_stopped(compared, tmp_path, monkeypatch):
    entry, plane = compared
    again = arena(plane.runs, seeds=(0, 1), budget=plane.budget)
    again._kept["test"] = again._kept["choice"] = StubExam(torch.ones(1, 2))
    monkeypatch.delattr(trials, "trained")  # a call would fail
    assert compare(again, path=tmp_path / "b.json") == entry
    assert again.exam("test").asked == 0


def test_seconds_are_measured_in_one_go_at_the_end(compared):
    entry, plane = compared
    rows = entry["samplers"] + [row for one in entry["methods"].values() for row in one["runs"][0]["rows"]]
    assert [row["seconds"] for row in rows] == list(range(1, len(rows) + 1))
    for one in entry["methods"].values():
        assert len({tuple(row["seconds"] for row in run["rows"]) for run in one["runs"]}) == 1


def test_only_some_leave_the_results_alone(compared, tmp_path):
    entry = compare(compared[1], ["ibmd"], path=tmp_path / "c.json")
    assert list(entry["methods"]) == ["ibmd"] and entry["samplers"] == [] and not (tmp_path / "c.json").exists()
    with pytest.raises(ValueError, match="'ibdm'"):
        compare(compared[1], ["ibdm"], path=tmp_path / "c.json")


def test_a_method_of_other_compute_is_named():
    entry = {
        "budget": 100,
        "methods": {
            "a": {"search_passes": 300, "searched": 3},
            "b": {"search_passes": 284, "searched": 3},
            "c": {"search_passes": 96, "searched": 1},
        },
    }
    assert unequal(entry) == ["b"]


def test_ibmd_of_the_conditional_teacher_is_left_out_where_the_own_one_is(plane, monkeypatch):
    monkeypatch.setattr(comparison, "METHODS", METHODS)
    assert list(methods_of(plane)) == list(METHODS)
    plane._kept["own"] = plane.teacher("conditional")
    assert [name for name in METHODS if name not in methods_of(plane)] == ["ibmd-conditional"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_runs(plane, name, monkeypatch):
    monkeypatch.setattr(comparison, "SAMPLERS", SAMPLERS)
    row = comparison.sampler_row(plane, name, 3)
    assert row["nfe"] == 3 and row["teacher"] == SAMPLERS[name][0] and math.isfinite(row["distance"])


def test_dbim_at_eta_1_is_left_out_where_it_takes_the_own_teacher_s_posterior_steps(plane, monkeypatch):
    monkeypatch.setattr(comparison, "SAMPLERS", SAMPLERS)
    assert ("dbim-1", 5) in [(row["method"], row["nfe"]) for row in comparison.sampler_rows(plane)]
    plane._kept["own"] = plane.teacher("conditional")
    rows = [(row["method"], row["nfe"]) for row in comparison.sampler_rows(plane)]
    assert {name for name, _ in rows} == set(SAMPLERS) - {"dbim-1"}
    assert [name for name, nfe in rows if nfe == 1] == ["posterior"]
    same, other = (comparison.sampler_row(plane, name, 5)["distance"] for name in ("posterior", "dbim-1"))
    assert same == pytest.approx(other, rel=1e-5)


# -- ablations -------------------------------------------------------------------------------------


def test_an_ablation_trains_every_variant_from_every_seed(small, tmp_path):
    entry = ablate("noise", small, seeds=[0, 5], path=tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["plane/noise"] == json.loads(json.dumps(entry))
    assert list(entry["variants"]) == list(ABLATIONS["noise"]) and entry["budget"] == LEAST // 2
    assert [[run["seed"] for run in one["runs"]] for one in entry["variants"].values()] == [[0, 5]] * 3
    mean, error = over_seeds([{"rows": [{"distance": value}]} for value in (1.0, 2.0, 6.0)])
    assert mean == 3 and error == pytest.approx((7 / 3) ** 0.5)
    assert len(ablations.summary(entry).splitlines()) == 2 + 3
    with pytest.raises(ValueError, match="'nois'"):
        ablate("nois", small)


def test_a_variant_that_changes_nothing_is_the_comparison_s_training(small):
    attempt(small, "ibmd", METHODS["ibmd"])
    before = sorted(small.folder.iterdir())
    for name, label in (("inner-steps", "L = 3"), ("noise", "head start"), ("weight", "soft"), ("gradient", "full"),
                        ("start", "both from the teacher"), ("sources", "all")):  # fmt: skip
        attempt(small, name, METHODS["ibmd"], **ABLATIONS[name][label])
    assert sorted(small.folder.iterdir()) == before
    for name, label in (("inner-steps", "L = 5"), ("noise", "no noise"), ("ema", "EMA 0.99")):
        attempt(small, name, METHODS["ibmd"], **ABLATIONS[name][label])
    assert len(list(small.folder.iterdir())) == len(before) + 6


@pytest.fixture
def given(plane, monkeypatch):
    """What reaches `inverse.distillation`."""
    seen = {}

    def note(teacher, bridge, student, sources, **options):
        seen.update(options, teacher=teacher, student=student, sources=sources)
        return iter(())

    monkeypatch.setattr(trials, "distillation", note)

    def make(name: str, label: str) -> dict:
        seen.clear()
        options = plane.ibmd | ABLATIONS[name][label]
        trials.fit_ibmd(plane, "own", dict(options), 10 * BUDGET, 0, 1)
        return dict(seen)

    return make


def test_what_an_ablation_says_is_what_it_does(given):
    assert [given("inner-steps", f"L = {k}")["fake_steps"] for k in (1, 3, 5, 10)] == [1, 3, 5, 10]
    assert [given("ema", f"EMA {k}")["ema"] for k in (0, 0.9, 0.99, 0.999)] == [0, 0.9, 0.99, 0.999]
    assert [given("gradient", k)["gradient"] for k in ("full", "detached")] == ["full", "detached"]
    assert given("weight", "path KL")["weight"] == "path_kl" and given("weight", "path KL")["times"] == "clock"
    networks = [given("noise", label)["student"].network for label in ABLATIONS["noise"]]
    assert [one.noise_channels for one in networks] == [2, 2, 0]
    assert [one.head_start for one in networks] == [(0.9, 9.0), None, None]


def test_steps_follow_from_what_a_variant_costs(given):
    one, ten = (given("inner-steps", f"L = {k}")["steps"] for k in (1, 10))
    budget = 10 * BUDGET - 2 * 4 * BATCH
    assert (one, ten) == (budget // (11 * BATCH), budget // (47 * BATCH))
    assert given("gradient", "detached")["steps"] == budget // (17 * BATCH)


def test_fresh_starts_are_those_that_are_named(given):
    def same(model, teacher) -> bool:
        return torch.equal(
            model.hidden.weight if hasattr(model.hidden, "weight") else model.last.weight, teacher.last.weight
        )

    for label, student, fake in (("both from the teacher", True, None), ("student fresh", False, None),
                                 ("both fresh", False, False)):  # fmt: skip
        found = given("start", label)
        assert same(found["student"].network, found["teacher"]) is student
        assert ("fake" in found) == (fake is False)
        if fake is False:
            assert not same(found["fake"], found["teacher"])
            assert not torch.equal(found["fake"].last.weight, found["student"].network.last.weight)
            assert not any(p.requires_grad for p in found["teacher"].parameters())
        assert all(p.requires_grad for p in found["student"].parameters())


def test_sources_are_few_where_few_are_available(plane, given):
    found = given("sources", "200")["sources"]
    every = torch.cat([found.at(k) for k in range(1500)])
    assert len(every) == 1500 * BATCH and len(every.unique(dim=0)) == 200  # one is missed with probability 6e-5
    endless = given("sources", "all")["sources"]
    assert len(torch.cat([endless.at(k) for k in range(300)]).unique(dim=0)) == 300 * BATCH
    first = torch.cat([endless.at(k) for k in range(200 // BATCH)])
    assert {tuple(row) for row in every.tolist()} == {tuple(row) for row in first.tolist()}


# -- contests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", contests.CONTESTS)
def test_contests_have_what_the_methods_take(name):
    made = contest(name, budget=123, seeds=(7,))
    assert isinstance(made, Contest) and made.budget == 123 and made.seeds == (7,) and made.name == name
    assert {"lr", "fake_lr", "fake_steps", "fake_warmup", "gradient"} <= set(made.ibmd)
    assert {"lr", "share", "nfe", "method"} <= set(made.regression) and {"lr", "n", "starts"} <= set(made.consistency)
    assert set(made.head_start) == set(contests.TEACHERS)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match="plane"):
        contest("plain")
    with pytest.raises(ValueError, match="teacher"):
        contest("plane").teacher("other")
    with pytest.raises(ValueError, match="split"):
        contest("plane").exam("train")


def test_the_plane_s_exam_measures_distance_and_spread():
    exam = contests.PlaneExam("choice", 2)
    row, floor = exam.measure(lambda xT: xT), exam.floor()
    assert row["distance"] > 2 > 1 > floor["distance"] > 0 and row["spread"] == 0 and row["inside"] < 0.3
    assert floor["spread"] == pytest.approx(2.8**2 / 2 + 0.09, rel=0.1) and floor["inside"] == pytest.approx(
        0.865, abs=0.03
    )
    assert not torch.equal(exam.pairs[0], contests.PlaneExam("test", 2).pairs[0])
    assert set(exam.measure(lambda xT: xT, quick=True)) == {"distance", "distance_error", "inside"}


def test_the_second_teacher_of_pictures_is_a_recipe_of_its_own():
    pool, sketch = recipe("sr4x-pool"), recipe("sketch-to-image")
    other = conditional_recipe(pool)
    assert other.name == "sr4x-pool-conditional" and other.conditional and conditional_recipe(sketch) is sketch
    assert replace(other, name=pool.name, conditional=False, small=pool.small) == pool
    assert other.small.start == pool.name and other.small.widths == pool.small.widths


def test_a_second_teacher_that_is_missing_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        contest("sr4x-pool", runs=tmp_path).teacher("conditional")
    said = str(caught.value)
    assert "wanted it trained before: python -m ibmd_minimal compare sr4x-pool --teacher" in said and "\n" not in said


@pytest.mark.parametrize("name", ["tiny-sr", "tiny-sketch"])
def test_pictures_take_the_same_methods(name, tmp_path):
    with tiny.made_up():
        task = contests._pictures(name, 130)
        changed = {"ibmd": {"fake_warmup": 1}, "regression": {"nfe": 3}, "consistency": {"n": 3, "starts": (0.9,)}}
        options = {training: getattr(task, training) | change for training, change in changed.items()}
        own = replace(task, runs=tmp_path, budget=130, batch=2, **options)
        for one in (own.task, conditional_recipe(own.task)):
            model = tiny.randomised(one.network(one.small, 0))
            save_model(runs.run_folder(tmp_path, one, "small", "teacher", 0) / f"{one.name}-teacher", model, {})
        assert isinstance(own, Pictures) and own.teacher("conditional").conditional
        for split in ("choice", "test"):
            own._kept[split] = StubExam(own.sources(0).at(0))
        for label in ("ibmd", "regression", "consistency"):
            card = attempt(own, label, METHODS[label])
            assert card["passes"] == card["formula"] and math.isfinite(card["rows"][0]["distance"])


# -- the commands ----------------------------------------------------------------------------------


def test_the_commands_are_listed(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out
    assert "compare" in listed and "ablate" in listed
    for name in ("compare", "ablate"):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        said = capsys.readouterr().out
        assert all(task in said for task in contests.CONTESTS) and "--budget" in said


@pytest.fixture
def mains(few, tmp_path, monkeypatch):
    """The command line, on contests that cost nothing."""
    made = []
    for module, name in ((comparison, "comparison"), (ablations, "ablations")):
        monkeypatch.setattr(module, "contest", lambda task, runs, device: made.append(task) or arena(runs))
        monkeypatch.setattr(module, "FILE", tmp_path / f"{name}.json")
    return lambda *words: (main([*words, "--runs", str(tmp_path), "--budget", str(LEAST)]), made)


def test_commands_do_as_they_are_told(mains, tmp_path, capsys):
    assert mains("compare", "plane", "--only", "posterior", "consistency") == (0, ["plane"])
    assert mains("ablate", "gradient", "sr4x-pool", "--seeds", "1") == (0, ["plane", "sr4x-pool"])
    out = capsys.readouterr().out
    assert "consistency" in out and "detached" in out and "ode-heun, NFE" not in out
    assert list(json.loads((tmp_path / "ablations.json").read_text())) == ["plane/gradient"]
    assert not (tmp_path / "comparison.json").exists()


def test_all_ablations_of_a_task_are_one_command(mains, tmp_path, monkeypatch):
    for name in ("ABLATIONS", "ON_PICTURES"):
        monkeypatch.setattr(ablations, name, {one: ABLATIONS[one] for one in ("gradient", "sources")})
    assert mains("ablate", "--all", "--seeds", "1")[0] == 0
    assert list(json.loads((tmp_path / "ablations.json").read_text())) == ["plane/gradient", "plane/sources"]
    assert ablations.every(contest("sr4x-pool")) == ablations.ON_PICTURES


def test_all_ablations_of_pictures_are_three():
    assert len(ablations.every(contest("sr4x-pool"))) == 3 <= len(ablations.every(contest("plane"))) == len(ABLATIONS)
    assert set(ablations.ON_PICTURES) < set(ABLATIONS)


@pytest.mark.parametrize("words", [["ablate"], ["ablate", "--all", "gradient", "plane"]], ids=["none", "both"])
def test_an_ablation_wants_one_name(words, capsys):
    assert main(words) == 2 and "wanted one ablation or --all" in capsys.readouterr().err
