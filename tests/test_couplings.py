"""The couplings of the image tasks: shapes, ranges, one draw one batch, halves apart, and what xT is of x0."""

from __future__ import annotations

import pytest
import torch

from ibmd_minimal._random import Draws
from ibmd_minimal.data import couplings
from ibmd_minimal.data.corruptions import corrupt
from ibmd_minimal.data.couplings import Mixture, Photographs, Renderings, rendered
from ibmd_minimal.data.images import to_float, to_uint8
from ibmd_minimal.data.masks import hole_of
from ibmd_minimal.data.solids import CLASSES, solids

CORRUPTIONS = ("sr4x-pool", "jpeg-10", "inpaint-center", "inpaint-freeform")


def flat(n: int, first: int = 0, size: int = 40) -> list[torch.Tensor]:
    """`n` photographs of one grey each, another for each: a crop's value says which photograph it is from."""
    return [torch.full((3, size, size + 3), first + 8 * k, dtype=torch.uint8) for k in range(n)]


def greys(x: torch.Tensor) -> set[int]:
    return set(to_uint8(x)[:, 0, 0, 0].tolist())


@pytest.fixture(scope="module")
def noisy() -> Photographs:
    generator = torch.Generator().manual_seed(0)
    shapes = ((48, 64), (64, 48), (40, 40), (33, 50))
    images = [torch.randint(256, (3, *shape), generator=generator, dtype=torch.uint8) for shape in shapes]
    return Photographs(images, "sr4x-pool", 32, "four")


@pytest.fixture(scope="module")
def solid() -> Renderings:
    return rendered("lines", "train", 10, 16)


# -- photographs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_photographs_are_cropped_and_corrupted_as_the_draws_say(noisy, corruption):
    coupling = Photographs(noisy.images, corruption, 32)
    x0, xT = coupling.sample(6, Draws.at(0, 3))
    for x in (x0, xT):
        assert x.shape == (6, 3, 32, 32) and x.dtype == torch.float32 and bool(x.isfinite().all())
    assert float(x0.abs().max()) <= 1
    again, other = coupling.sample(6, Draws.at(0, 3)), coupling.sample(6, Draws.at(0, 4))
    assert torch.equal(again[0], x0) and torch.equal(again[1], xT)
    assert not torch.equal(other[0], x0) and not torch.equal(other[1], xT)
    if corruption == "inpaint-freeform":  # its masks come after the crops, from the same numbers
        hidden = hole_of(xT).bool().expand_as(x0)
        assert torch.equal(xT[~hidden], x0[~hidden]) and bool((xT[hidden] == 0).all())
        assert not torch.equal(hidden[0], hidden[1])
    else:
        assert torch.equal(xT, corrupt(corruption, x0))


def test_the_halves_of_photographs_share_none_and_leave_none_out():
    halves = Photographs(flat(7), "sr4x-pool", 16, "seven").halves()
    seen = [greys(half.sample(300, Draws.at(0, k))[0]) for k, half in enumerate(halves)]
    # 300 crops miss one of four photographs with a probability under 4 (3/4)^300 < 1e-36
    assert seen == [{0, 16, 32, 48}, {8, 24, 40}]
    assert all((half.corruption, half.size, half.words) == ("sr4x-pool", 16, "seven") for half in halves)


# -- rendered solids -------------------------------------------------------------------------------


@pytest.mark.parametrize("source", couplings.SOURCES)
def test_renderings_are_the_solids_of_their_index(source):
    coupling, made = rendered(source, "test", 6, 16), solids(range(6), 16, split="test")
    assert torch.equal(coupling.x0, to_uint8(made.image)) and torch.equal(coupling.label, made.label)
    assert torch.equal(coupling.xT, to_uint8(getattr(made, source)))
    assert coupling.words == "6 solids of 16x16 (test)" and len(coupling) == 6
    x0, xT = coupling.sample(6, Draws.at(0, 0))
    rows = coupling.rows(6, Draws.at(0, 0))
    assert x0.shape == xT.shape == (6, 3, 16, 16) and x0.dtype == xT.dtype == torch.float32
    assert float(torch.stack([x0, xT]).abs().max()) <= 1
    assert torch.equal(x0, to_float(coupling.x0[rows]))
    assert torch.equal(xT, to_float(coupling.xT[rows]).expand(-1, 3, -1, -1))
    # 8 bits keep a number of [-1, 1] to half a step of 1/127.5
    assert float((xT - getattr(made, source)[rows]).abs().max()) <= 0.5 / 127.5 + 1e-6


def test_no_rendering_is_taken_twice_and_every_order_comes_from_the_draws(solid):
    rows = solid.rows(10, Draws.at(0, 0))
    assert sorted(rows.tolist()) == list(range(10)) and rows.tolist() != list(range(10))
    assert torch.equal(rows[:4], solid.rows(4, Draws.at(0, 0)))
    assert not torch.equal(rows, solid.rows(10, Draws.at(0, 1)))
    again, other = solid.sample(4, Draws.at(0, 0)), solid.sample(4, Draws.at(0, 1))
    assert torch.equal(again[0], to_float(solid.x0[rows[:4]])) and not torch.equal(again[0], other[0])
    first = torch.stack([solid.rows(1, Draws.at(0, k))[0] for k in range(2000)]).bincount(minlength=10)
    # 2,000 draws of ten: 200 each, with a standard deviation of sqrt(2000 · 0.1 · 0.9) = 13.4; five of them
    assert bool(((first - 200).abs() < 67).all())


def test_the_halves_of_renderings_share_none_and_leave_none_out(solid):
    first, second = solid.halves()
    for name in ("x0", "xT", "label"):
        both = torch.stack([getattr(first, name), getattr(second, name)], 1).flatten(0, 1)
        assert torch.equal(both, getattr(solid, name))
    assert first.words == second.words == solid.words
    assert bool((solid.label >= 0).all()) and int(solid.label.max()) < len(CLASSES)


def test_what_is_kept_in_a_folder_is_the_same_to_the_bit_and_is_rendered_once(tmp_path, monkeypatch):
    without = {source: rendered(source, "train", 5, 16) for source in couplings.SOURCES}
    first = rendered("lines", "train", 5, 16, tmp_path / "deeper")
    monkeypatch.setattr(couplings, "solids", None)  # from here on a call would fail
    for source, expected in without.items():
        kept = rendered(source, "train", 5, 16, tmp_path / "deeper")
        assert all(torch.equal(getattr(kept, name), getattr(expected, name)) for name in ("x0", "xT", "label"))
        assert kept.words == expected.words and kept.xT.dtype == torch.uint8
    assert torch.equal(first.xT, without["lines"].xT) and len(list((tmp_path / "deeper").iterdir())) == 1


def test_more_solids_than_fit_into_one_pass_are_in_order(monkeypatch):
    whole = rendered("normals", "train", 7, 16)
    monkeypatch.setattr(couplings, "AT_ONCE", 3)
    parts = rendered("normals", "train", 7, 16)
    assert torch.equal(whole.label, parts.label)
    # a pixel's value may round the other way where a pass holds other pictures
    assert int((whole.x0.int() - parts.x0.int()).abs().max()) <= 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rendered("line", "train", 4, 16), ("source is 'line'", "did you mean 'lines'")),
        (lambda: rendered("lines", "val", 4, 16), ("split is 'val'", "train, test")),
        (lambda: rendered("lines", "train", 0, 16), ("n is 0", "1 or more")),
    ],
    ids=["source", "split", "n"],
)
def test_what_cannot_be_rendered_is_refused(call, words, tmp_path):
    with pytest.raises(ValueError) as caught:
        call()
    assert all(word in str(caught.value) for word in words)


def test_more_than_there_are_is_refused(solid):
    with pytest.raises(ValueError, match="n is 11 and there are 10 renderings; wanted at most as many"):
        solid.sample(11)


# -- several together ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    """Three parts; the grey of a picture says which part it came from."""
    names = ("sr4x-pool", "inpaint-center", "inpaint-freeform")
    return Mixture([Photographs(flat(3, 80 * k + 1), name, 16, "grey") for k, name in enumerate(names)])


def test_the_label_of_a_row_is_the_part_that_it_came_from(mixture):
    x0, xT, label = mixture.sample(200, Draws.at(0, 0))
    assert x0.shape == xT.shape == (200, 3, 16, 16) and label.shape == (200,) and label.dtype == torch.int64
    assert torch.equal(to_uint8(x0)[:, 0, 0, 0].long() // 80, label)
    share = hole_of(xT).mean((1, 2, 3))
    # flat pictures stay as they are when their blocks are averaged; the centre is a quarter; the brush hides 20-30 %
    assert bool((share[label == 0] == 0).all()) and torch.allclose(xT[label == 0], x0[label == 0], atol=1e-6)
    assert bool((share[label == 1] == 0.25).all())
    painted = share[label == 2]
    assert bool(((painted >= 0.2) & (painted <= 0.3)).all()) and len(painted.unique()) > 1


def test_labels_are_even_and_come_from_the_draws(mixture):
    counts = mixture.sample(3000, Draws.at(0, 0))[2].bincount(minlength=3)
    # 1,000 each, with a standard deviation of sqrt(3000 · 2/9) = 25.8; five of them
    assert bool(((counts - 1000).abs() < 129).all())
    again, other = mixture.sample(40, Draws.at(1, 0)), mixture.sample(40, Draws.at(1, 1))
    assert all(torch.equal(a, b) for a, b in zip(again, mixture.sample(40, Draws.at(1, 0))))
    assert not torch.equal(again[0], other[0])


def test_a_batch_smaller_than_the_parts_is_whole(mixture):
    for k in range(12):  # a part that gets no row is passed over
        x0, xT, label = mixture.sample(1, Draws.at(2, k))
        assert len(x0) == len(xT) == len(label) == 1


def test_what_the_parts_say_is_said_once(mixture):
    assert mixture.words == "grey"
    assert Mixture([*mixture.parts, Photographs(flat(1), "sr4x-pool", 16, "other")]).words == "grey; other"
