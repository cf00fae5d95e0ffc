"""The shipped checkpoints: small, whole, and what their cards say of them."""

from __future__ import annotations

import hashlib

import pytest
import torch

from ibmd_minimal.checkpoints import SHIPPED, card_of, load_model, shipped
from ibmd_minimal.data.images import to_float
from ibmd_minimal.demo import photograph
from ibmd_minimal.metrics import psnr
from ibmd_minimal.networks import UNet
from ibmd_minimal.recipes import RECIPES, recipe
from ibmd_minimal.restoring import restorer, source_of
from ibmd_minimal.results import results, teachers_best
from ibmd_minimal.runs import student_role
from ibmd_minimal.shipping import probed
from ibmd_minimal.sources import by_crops
from ibmd_minimal.students import Student

DRAWS = 8
ROLES = {
    f"{name}-{role}": (name, role)
    for name, task in RECIPES.items()
    for role in ([] if task.teachers else ["teacher"]) + [student_role(nfe) for nfe in task.students]
}


def test_what_is_shipped_are_teachers_and_students_of_recipes():
    names = set(shipped())
    assert {"sr4x-pool-teacher", "sr4x-pool-student"} <= names <= set(ROLES)
    assert {path.stem for path in SHIPPED.glob("*.safetensors")} == names


@pytest.mark.parametrize("name", [name for name in shipped() if name in ROLES and "student" in ROLES[name][1]])
def test_no_student_is_shipped_without_its_teachers(name):
    task = recipe(ROLES[name][0])
    wanted = [f"{teacher}-teacher" for teacher in task.teachers or (task.name,)]
    assert set(wanted) <= set(shipped())
    sums = [card_of(teacher)["sha256"] for teacher in wanted]
    assert card_of(name)["teacher"] == (sums if task.teachers else sums[0])


def test_all_of_them_take_no_more_than_120_megabytes():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 120 * 2**20


@pytest.mark.parametrize("name", shipped())
def test_files_are_small_and_match_their_cards(name):
    content = (SHIPPED / f"{name}.safetensors").read_bytes()
    card = card_of(name)
    assert len(content) <= 6 * 2**20
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert {"recipe", "role", "data", "seed", "steps", "hours", "machine", "settings", "probe"} <= set(card)
    assert (card["recipe"], card["role"]) == ROLES[name]


@pytest.mark.parametrize("name", shipped())
def test_a_checkpoint_gives_the_error_on_its_card(name):
    """32 pictures from fixed seeds: float32 sums in another order move a mean square by far less than a thousandth."""
    stored, found = probed(name)
    assert found == pytest.approx(stored, rel=1e-3)
    grey = 0.25 if recipe(card_of(name)["recipe"]).data == "photographs" else 0.3  # the error of a flat grey
    drawing = recipe(card_of(name)["recipe"]).data == "solids" and "student" in name  # colours open: twice the mean's
    assert all(0 < error < (2 if drawing else 1) * grey for error in found.values())


@pytest.mark.parametrize("name", shipped())
def test_a_checkpoint_is_its_recipe_s_network(name):
    task, role = recipe(ROLES[name][0]), ROLES[name][1]
    model = load_model(name)
    network = model.network if isinstance(model, Student) else model
    assert isinstance(network, UNet) and network.widths == list(task.small.widths) and network.patch == task.patch
    assert (network.conditional, network.pasted) == (task.conditional, task.pasted)
    assert network.labels == (len(task.teachers) if role != "teacher" else 0)
    if isinstance(model, Student):
        assert role == student_role(model.nfe) and model.times == task.times(model.nfe)


@pytest.fixture(scope="module")
def restored():
    """The truth, the teacher's single step and several samples of the student, of a part of the demo's photograph."""
    task, photo = recipe("sr4x-pool"), photograph()[:, 32:160, 64:192]
    xT = source_of(photo, task, clean=True)[0]
    single = restorer(task, load_model("sr4x-pool-teacher"), 1)(xT)
    student = load_model("sr4x-pool-student")
    samples = torch.cat([restorer(task, student, seed=k)(xT) for k in range(DRAWS)])
    return photo[None].float() / 127.5 - 1, single, samples


def test_the_mean_of_the_students_samples_is_nearer_to_the_teachers_single_step_than_one_sample_is(restored):
    # The mean of n draws keeps 1/n of the variance, so an exact student is n times nearer. A trained one has a bias
    # besides; it has to stay below the variance itself.
    _, single, samples = restored
    one = float((samples - single).square().mean())
    mean = float((samples.mean(0, keepdim=True) - single).square().mean())
    assert mean < one * (1 / DRAWS + 0.25)


def test_one_sample_pays_about_three_decibels(restored):
    # Squared error and variance are equal in the mean over photographs, hence 20 log10 sqrt 2 = 3.0 dB; on one part
    # of one photograph the two differ by up to a factor of two either way, hence 1.8 to 4.8 dB.
    truth, single, samples = restored
    price = float(psnr(single, truth)) - float(psnr(samples, truth.expand_as(samples)).mean())
    assert 1.8 < price < 4.8


def test_the_centre_s_holes_are_filled_better_crop_by_crop_than_in_the_whole_photograph():
    task, photo = recipe("inpaint-center"), photograph()
    xT, x0 = source_of(photo, task)[0], to_float(photo)[None]
    run = restorer(task, load_model("inpaint-center-student"))
    whole, crops = (float(psnr(y, x0)) for y in (run(xT), by_crops(run, xT, task)))
    assert crops > whole + 1  # decibels: 2 to 9 on five photographs


def falls_short() -> list[str]:
    """The shipped students whose distance is above that of their teacher at its best, by the stored results."""
    found = []
    for name, entry in results().items():
        near = teachers_best(entry)["frechet"]
        own = [row["nfe"] for row in entry["rows"] if row["who"] == "student" and row["frechet"] > near]
        found += [f"{name.partition('/')[0]}-{student_role(nfe)}" for nfe in own]
    return sorted(set(found))


@pytest.mark.parametrize("name", falls_short())
def test_a_student_that_falls_short_says_what_was_tried_at_which_cost_and_what_came_of_it(name):
    diagnosis = card_of(name)["diagnosis"]
    tried = diagnosis.get("trained", diagnosis)
    assert len(tried["passes_m"]) == len(tried["tries"]) and all(cost >= 0 for cost in tried["passes_m"])
    assert sum("(shipped)" in what for what, *_ in tried["tries"]) == 1
    assert tried["pictures"] >= 1000 and tried["floor"] > 0
    (shipped_cost,) = (cost for (what, *_), cost in zip(tried["tries"], tried["passes_m"]) if "(shipped)" in what)
    assert shipped_cost == pytest.approx(card_of(name)["passes"] / 1e6, abs=0.006)
