"""The shipped checkpoints: small, whole, and what their cards say of them."""

from __future__ import annotations

import hashlib

import pytest
import torch

from ibmd_minimal.checkpoints import SHIPPED, card_of, load_model, shipped
from ibmd_minimal.demo import photograph
from ibmd_minimal.metrics import psnr
from ibmd_minimal.recipes import RECIPES, recipe
from ibmd_minimal.restoring import restorer, source_of

DRAWS = 8


def test_what_is_shipped_are_pairs_of_recipes():
    names = {name.rpartition("-")[0] for name in shipped()}
    assert "sr4x-pool" in names <= set(RECIPES)
    assert set(shipped()) == {f"{name}-{role}" for name in names for role in ("teacher", "student")}


@pytest.mark.parametrize("name", shipped())
def test_files_are_small_and_match_their_cards(name):
    content = (SHIPPED / f"{name}.safetensors").read_bytes()
    card = card_of(name)
    assert len(content) <= 6 * 2**20
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert {"recipe", "data", "seed", "steps", "hours", "machine", "settings", "metrics"} <= set(card)


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
