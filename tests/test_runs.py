"""Recipes and their runs: every recipe builds and has a loss; tiny ones are trained, distilled, cut and resumed."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import tiny
import torch
from torch.nn.modules.module import register_module_forward_hook

from ibmd_minimal import recipes, runs
from ibmd_minimal._random import Draws
from ibmd_minimal.checkpoints import card_of, load_model
from ibmd_minimal.data.corruptions import CORRUPTIONS
from ibmd_minimal.data.couplings import SOURCES, Mixture, Photographs, Renderings
from ibmd_minimal.matching import bridge_matching_loss
from ibmd_minimal.networks import UNet
from ibmd_minimal.recipes import RECIPES, Recipe, recipe
from ibmd_minimal.runs import distill_student, passes, settings_of, student_role, teacher_of, train_teacher
from ibmd_minimal.students import Student
from ibmd_minimal.training import Batches

EVERY = tuple(RECIPES)
TASKS = tuple(name for name in EVERY if not RECIPES[name].teachers)


@pytest.fixture(scope="module", autouse=True)
def made_up():
    with tiny.made_up() as patched:
        yield patched


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of runs with three tiny teachers, of which the second begins from the first."""
    found = tmp_path_factory.mktemp("runs")
    for task in (tiny.SR, tiny.JPEG, tiny.HOLE):
        train_teacher(task, runs=found, progress=False)
    return found


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# -- recipes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_a_recipe_is_found_by_its_name_and_made_of_things_that_are_there(name):
    task = recipe(name)
    assert task.name == name and task.students and all(nfe >= 1 for nfe in task.students)
    if task.teachers:
        assert all(not recipe(one).teachers for one in task.teachers) and len(set(task.teachers)) > 1
    else:
        assert task.corruption in (SOURCES if task.data == "solids" else CORRUPTIONS)
    assert task.pasted == name.startswith("inpaint")
    assert task.conditional == (task.bridge["family"] == "vp")


@pytest.mark.parametrize("name", TASKS)
def test_a_recipe_s_teacher_has_1_7_million_parameters_and_is_a_function_of_the_seed(name):
    task = recipe(name)
    before = torch.get_rng_state()
    one, same, other = (task.network(task.small, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert 1.65e6 < sum(p.numel() for p in one.parameters()) < 1.85e6
    assert equal(one, same) and not equal(one, other)
    assert (one.conditional, one.pasted, one.patch) == (task.conditional, task.pasted, task.patch)
    assert (one.precondition.sigma0, one.precondition.sigmaT) == (task.sigma0, task.sigmaT)
    assert task.size % one.stride == 0 and one.precondition.covariance == task.covariance


@pytest.mark.parametrize("name", EVERY)
def test_students_go_down_from_1_in_even_steps(name):
    task = recipe(name)
    for nfe in task.students:
        times = task.times(nfe)
        assert len(times) == nfe and times[0] == 1
        assert times == pytest.approx([1 - k / nfe for k in range(nfe)]) and times[-1] > 0
    with pytest.raises(ValueError, match=rf"nfe is 3; wanted one of {name}'s students, 1"):
        task.times(3)


@pytest.mark.parametrize("name", TASKS)
def test_a_recipe_s_loss_is_finite_and_has_a_gradient(name):
    task = recipe(name)
    coupling = task.coupling("train")
    network = tiny.randomised(task.network(replace(task.small, widths=(8, 8)), 0))
    x0, xT = task.pairs(coupling, 4, 0).at(0)
    assert x0.shape == xT.shape == (4, 3, task.size, task.size)
    loss = bridge_matching_loss(network, task.make_bridge(), x0, xT, weight=task.weight, generator=Draws.at(0, 0))
    loss.backward()
    assert 0 < float(loss.detach()) < float("inf") and float(network.first.weight.grad.abs().max()) > 0
    assert isinstance(coupling, Renderings if task.data == "solids" else Photographs)
    sources = task.sources(coupling, 4, 0).at(0)
    assert torch.equal(sources, xT)  # the same numbers: the same pairs, without their x0


def test_sources_of_several_teachers_come_with_labels():
    task = recipe("multi")
    coupling = task.coupling("train")
    xT, label = task.sources(coupling, 5, 0).at(0)
    assert isinstance(coupling, Mixture) and [part.corruption for part in coupling.parts] == list(task.teachers)
    assert torch.equal(xT, coupling.sample(5, Draws.at(0, 0, stream=1 << 20))[1]) and label.shape == (5,)


@pytest.mark.parametrize("name", TASKS)
def test_a_recipe_begins_from_a_teacher_of_its_own_kind(name):
    seen, task = [name], recipe(name)
    while task.small.start is not None:
        other = recipe(task.small.start)
        shapes = [{k: v.shape for k, v in one.network(one.small, 0).state_dict().items()} for one in (task, other)]
        assert shapes[0] == shapes[1] and other.name not in seen
        seen.append(other.name)
        task = other
    assert all(recipe(one).full.start is None for one in seen)


# -- teachers ------------------------------------------------------------------------------------


def test_a_training_begins_from_the_other_recipe_s_teacher(folder, monkeypatch):
    monkeypatch.setattr(runs, "train", lambda model, *_, **__: (model, [{"step": 0, "loss": 0.0}]))
    task = replace(tiny.JPEG, name="tiny-again")
    done = train_teacher(task, runs=folder, progress=False)
    first = load_model(tiny.stem(folder, "teacher"))
    assert equal(done.model, first) and not equal(done.model, task.network(task.small, 0))
    assert card_of(done.card)["started_from"] == card_of(tiny.stem(folder, "teacher"))["sha256"]
    assert "started_from" not in card_of(tiny.stem(folder, "teacher"))


def test_a_training_that_began_from_another_teacher_is_not_gone_on_with(folder, tmp_path):
    train_teacher(tiny.SR, runs=tmp_path, steps=2, progress=False)
    train_teacher(tiny.JPEG, runs=tmp_path, steps=2, progress=False)
    train_teacher(tiny.SR, runs=tmp_path, steps=3, progress=False)
    with pytest.raises(ValueError, match="has started_from .*; wanted the same, or another folder of runs"):
        train_teacher(tiny.JPEG, runs=tmp_path, steps=3, progress=False)


def test_a_start_that_is_nowhere_is_one_sentence(tmp_path):
    task = replace(tiny.JPEG, small=replace(tiny.SMALL, start="tiny-mirror"))
    with pytest.raises(FileNotFoundError) as caught:
        train_teacher(task, runs=tmp_path, progress=False)
    said = str(caught.value)
    assert "'tiny-mirror-teacher'" in said and "wanted teacher or student of" in said and "\n" not in said
    assert not list(tmp_path.rglob("*.*"))


def test_several_teachers_are_not_trained_at_once(tmp_path):
    for task in (tiny.SEVERAL, recipe("multi")):
        with pytest.raises(ValueError) as caught:
            train_teacher(task, runs=tmp_path, progress=False)
        wanted = f"wanted one of {', '.join(task.teachers)}, or distill"
        assert str(caught.value) == f"{task.name} has no teacher of its own; {wanted}"


def test_solids_are_rendered_once_for_all_runs_of_a_folder(tmp_path, monkeypatch):
    train_teacher(tiny.SKETCH, runs=tmp_path, steps=2, progress=False)
    assert [path.name for path in (tmp_path / "solids").iterdir()] == ["train-16-12.safetensors"]
    monkeypatch.setattr("ibmd_minimal.data.couplings.solids", None)  # a call would fail
    done = train_teacher(tiny.SKETCH, runs=tmp_path, steps=3, progress=False)
    assert len(done.history) == 3 and card_of(done.card)["data"] == "12 solids of 16x16 (train)"


def test_what_is_missing_is_said_aloud_and_not_on_the_card(tmp_path, monkeypatch, capsys):
    given = tiny.photographs(), "only 4 photographs: fetch more"
    monkeypatch.setattr(recipes, "training_photographs", lambda *_, **__: given)
    done = train_teacher(tiny.SR, runs=tmp_path, steps=2, progress=False)
    assert capsys.readouterr().err == "only 4 photographs: fetch more\n"
    assert card_of(done.card)["data"] == "only 4 photographs"


def test_a_run_s_own_teacher_comes_before_the_shipped_one(folder, tmp_path, capsys):
    own = card_of(tiny.stem(folder, "teacher"))["sha256"]
    assert runs.checksum(runs.weights_of(teacher_of("tiny-sr", "small", folder))) == own
    assert isinstance(teacher_of("sr4x-pool", "small", tmp_path), UNet)  # shipped
    assert not capsys.readouterr().err
    assert isinstance(teacher_of("sr4x-pool", "full", tmp_path), UNet)
    assert "no teacher of sr4x-pool of the full budget" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="'tiny-sr-teacher'"):
        teacher_of("tiny-sr", "small", folder, seed=1)


# -- students ------------------------------------------------------------------------------------


@pytest.mark.parametrize("anchor", ["x_t", "xT"])
def test_a_student_of_two_passes_has_a_name_of_its_own_and_goes_on_where_it_stopped(folder, tmp_path, anchor):
    teacher, task = teacher_of("tiny-hole", "small", folder), replace(tiny.HOLE, from_xT=(2,) if anchor == "xT" else ())
    options = {"nfe": 2, "progress": False}
    whole = distill_student(task, teacher, runs=tmp_path / "a", **options)
    distill_student(task, teacher, runs=tmp_path / "b", steps=1, **options)
    parts = distill_student(task, teacher, runs=tmp_path / "b", **options)
    assert whole.card == tmp_path / "a/tiny-hole/small/student-2-seed0/tiny-hole-student-2.json"
    assert len(parts.history) == 2 and parts.history == whole.history and equal(parts.model, whole.model)
    card, loaded = card_of(whole.card), load_model(whole.card, role="student")
    assert card["times"] == [1.0, 0.5] and card["role"] == "student-2" and card["steps"] == 2 and loaded.nfe == 2
    assert loaded.anchor == card["anchor"] == task.anchor(2) == anchor and task.anchor(1) == "x_t"
    assert card["teacher"] == card_of(tiny.stem(folder, "teacher", "tiny-hole"))["sha256"]
    x0, xT = tiny.HOLE.coupling("test").sample(3, Draws.at(0, 0))
    outside = (xT != 0).any(1, keepdim=True).expand_as(xT)
    y = loaded(xT, generator=torch.Generator().manual_seed(0))
    assert loaded.network.pasted and torch.equal(y[outside], xT[outside]) and not torch.equal(y, xT)


def test_students_of_one_and_two_passes_stand_side_by_side(folder):
    teacher = teacher_of("tiny-hole", "small", folder)
    made = [distill_student(tiny.HOLE, teacher, nfe=nfe, runs=folder, steps=1, progress=False) for nfe in (1, 2)]
    assert [one.card.name for one in made] == ["tiny-hole-student.json", "tiny-hole-student-2.json"]
    assert [one.model.nfe for one in made] == [1, 2] and [student_role(k) for k in (1, 4)] == ["student", "student-4"]
    with pytest.raises(ValueError, match="nfe is 4; wanted one of tiny-hole's students, 1, 2"):
        distill_student(tiny.HOLE, teacher, nfe=4, runs=folder, progress=False)


def test_one_student_of_several_teachers(folder, tmp_path):
    teachers = [teacher_of(name, "small", folder) for name in tiny.SEVERAL.teachers]
    done = distill_student(tiny.SEVERAL, teachers, runs=tmp_path, progress=False)
    card, student = card_of(done.card), load_model(done.card, role="student")
    assert card["teacher"] == [card_of(tiny.stem(folder, "teacher", name))["sha256"] for name in tiny.SEVERAL.teachers]
    assert isinstance(student, Student) and student.network.labels == 2 and student.network.head_start == (0.85, 0.155)
    heard = done.model.network.embed[0].weight[:, -2:]  # zero at first
    assert len(done.history) == 2 and bool((heard != 0).any(0).all())
    with pytest.raises(ValueError, match=r"has teacher \[.*; wanted the same, or another folder of runs"):
        distill_student(tiny.SEVERAL, teachers[::-1], runs=tmp_path, steps=3, progress=False)


def test_a_student_of_another_teacher_or_other_settings_is_not_gone_on_with(folder, tmp_path):
    teacher = teacher_of("tiny-sr", "small", folder)
    options = {"runs": tmp_path, "progress": False}
    distill_student(tiny.SR, teacher, **options)
    with pytest.raises(ValueError, match="has teacher '.*; wanted the same"):
        distill_student(tiny.SR, teacher_of("tiny-jpeg", "small", folder), steps=3, **options)
    with pytest.raises(ValueError, match=r"has head_start None and this one \[0.5, 0.1\]; wanted the same"):
        distill_student(replace(tiny.SR, head_start=(0.5, 0.1)), teacher, steps=3, **options)
    other = distill_student(tiny.SR, teacher, seed=1, **options)  # another seed is another folder
    assert other.card.parent.name == "student-seed1"


def test_a_student_s_losses_may_have_another_weight_than_its_teacher_s(folder, tmp_path, monkeypatch):
    asked, made = [], runs.distillation

    def distillation(*parts, **options):
        asked.append(options["weight"])
        return made(*parts, **options)

    monkeypatch.setattr(runs, "distillation", distillation)
    for task in (tiny.SR, replace(tiny.SR, student_weight="noise")):
        options = {"runs": tmp_path / str(task.student_weight), "steps": 1, "progress": False}
        card = card_of(distill_student(task, teacher_of("tiny-sr", "small", folder), **options).card)
        assert (card["settings"]["weight"], card["settings"]["student_weight"]) == ("soft", task.student_weight)
    assert asked == ["soft", "noise"]


def test_a_student_of_several_passes_may_have_a_small_budget_of_its_own():
    task = replace(tiny.SR, small_several={4: {"student_steps": 7}})
    assert task.budget("small", 4).student_steps == 7 != task.budget("small").student_steps
    assert task.budget("small", 2) is task.small
    assert task.budget("full", 4) is task.full and tiny.SR.budget("small", 4) is tiny.SR.small


KEYS = {
    "blocks", "bridge", "conditional", "corruption", "covariance", "data", "gated", "half", "multiple",
    "patch", "pasted", "seed", "sigma0", "sigmaT", "size", "teachers", "weight", "widths",
}  # fmt: skip
TEACHER_KEYS = {"teacher_batch", "teacher_drawn", "teacher_ema", "teacher_lr", "start"}
STUDENT_KEYS = {"betas", "fake_betas", "fake_lr", "fake_steps", "fake_warmup", "from_xT", "gradient", "head_start",
                "student_batch", "student_cool", "student_drawn", "student_ema", "student_lr",
                "student_share", "student_weight"}  # fmt: skip


@pytest.mark.parametrize(
    ("role", "more"), [("teacher", TEACHER_KEYS), ("student", STUDENT_KEYS), ("student-4", STUDENT_KEYS)]
)
def test_what_has_to_be_the_same_is_all_that_a_run_uses(role, more):
    task = recipe("jpeg-5")
    assert set(settings_of(task, task.small, role, 0, "some")) == KEYS | more


# -- what it costs -------------------------------------------------------------------------------


class Count:
    """Network passes, one for each picture: forward, back to the input, back to the weights."""

    def __init__(self):
        self.passes = 0

    def __enter__(self):
        self.handle = register_module_forward_hook(self.forward)
        return self

    def __exit__(self, *_):
        self.handle.remove()

    def forward(self, module, _, output):
        if not isinstance(module, UNet):
            return
        rows, learns = len(output), any(p.requires_grad for p in module.parameters())
        self.passes += rows
        if output.requires_grad:
            output.register_hook(lambda _: self.back(rows * (2 if learns else 1)))

    def back(self, much: int):
        self.passes += much


COSTLY = {
    "teacher": (tiny.SR, 1), "student": (tiny.SR, 1), "student-2": (tiny.HOLE, 2), "several": (tiny.SEVERAL, 1),
}  # fmt: skip


@pytest.mark.parametrize("role", COSTLY)
def test_the_passes_on_the_card_are_those_that_were_made(folder, tmp_path, role):
    task, nfe = COSTLY[role]
    with Count() as count:
        if role == "teacher":
            done = train_teacher(task, runs=tmp_path, progress=False)
        else:
            teachers = [teacher_of(name, "small", folder) for name in task.teachers or (task.name,)]
            teacher = teachers if task.teachers else teachers[0]
            done = distill_student(task, teacher, nfe=nfe, runs=tmp_path, progress=False)
    card = card_of(done.card)
    assert count.passes == card["passes"] == passes(task.small, "teacher" if role == "teacher" else student_role(nfe))
    assert card["memory_mb"] > 50 and card["hours"] >= 0 and set(asdict(task.small)) <= set(card["settings"])


def test_batches_of_pairs_and_sources_are_functions_of_seed_and_number():
    coupling = tiny.SR.coupling("train")
    for make in (tiny.SR.pairs, tiny.SR.sources):
        one, same, other = (make(coupling, 3, seed) for seed in (0, 0, 1))
        assert isinstance(one, Batches) and isinstance(tiny.SR, Recipe)
        first = [batches.at(5) if make == tiny.SR.sources else batches.at(5)[0] for batches in (one, same, other)]
        assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])
