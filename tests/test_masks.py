"""Inpainting masks: where the hole is, how much it hides, and what hiding and pasting keep."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ibmd_minimal._random import Draws
from ibmd_minimal.data import masks as painting
from ibmd_minimal.data.images import to_float
from ibmd_minimal.data.masks import MASKS, centre_mask, freeform_mask, hide, hole_of, masks, paste, spread
from ibmd_minimal.sources import depth

SHARES = {"freeform-10-20": (0.1, 0.2), "freeform-20-30": (0.2, 0.3)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image(batch: int = 4, size: int = 16, dtype=torch.float32) -> torch.Tensor:
    return 2 * torch.rand(batch, 3, size, size, generator=generator(9), dtype=dtype) - 1


def pattern(batch: int = 4, size: int = 16) -> torch.Tensor:
    return (torch.rand(batch, 1, size, size, generator=generator(8)) < 0.4).float()


def runs(mask: torch.Tensor) -> float:
    """The mean length of a horizontal run of hidden pixels: their number over that of the runs' beginnings."""
    return float(mask.sum() / (F.pad(mask, (1, 0)).diff(dim=-1) > 0).sum())


# -- the centre ---------------------------------------------------------------------------------


def test_the_centre_is_the_middle_half_of_both_sides():
    mask = centre_mask((16, 24))
    assert mask.shape == (1, 1, 16, 24) and mask.dtype == torch.float32
    rows, columns = torch.arange(16)[:, None], torch.arange(24)
    inside = (rows >= 4) & (rows < 12) & (columns >= 6) & (columns < 18)
    assert torch.equal(mask[0, 0], inside.float()) and mask.mean() == 0.25
    assert torch.equal(centre_mask(32), centre_mask((32, 32)))
    assert torch.equal(masks("center", 3, 16, 24), mask.expand(3, 1, 16, 24))


@pytest.mark.parametrize("size", [9, 10, 11, (13, 18)])
def test_the_centre_of_other_sides_is_centred(size):
    mask = centre_mask(size)
    assert torch.equal(mask, mask.flip(-1)) and torch.equal(mask, mask.flip(-2)) and 0.15 < mask.mean() < 0.35


# -- free-form ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("height, width", [(64, 64), (40, 96)])
def test_freeform_masks_hide_a_share_within_the_bounds(name, height, width):
    (low, high), n = SHARES[name], 96
    found = masks(name, n, height, width, generator())
    assert found.shape == (n, 1, height, width) and found.dtype == torch.float32
    assert set(found.unique().tolist()) == {0.0, 1.0}
    shares = found.mean((1, 2, 3), dtype=torch.float64)
    assert low <= shares.min() and shares.max() <= high
    # uniform between the bounds: mean and standard deviation within 4 standard errors
    spread = (high - low) / math.sqrt(12)
    assert abs(shares.mean() - (low + high) / 2) < 4 * spread / math.sqrt(n) and 0.8 < shares.std() / spread < 1.2


@pytest.mark.parametrize("low, high", [(0.25, 0.25), (0.5, 0.6), (0.95, 1.0), (0.001, 0.01)])
def test_any_other_share_is_met_as_exactly(low, high):
    shares = freeform_mask(12, 32, 40, generator(), low, high).sum((1, 2, 3))
    assert bool((low * 1280 - 1e-6 <= shares).all() and (shares <= high * 1280 + 1e-6).all())


def test_freeform_masks_are_functions_of_the_seed():
    one = freeform_mask(8, 32, 32, generator(3))
    assert torch.equal(one, freeform_mask(8, 32, 32, generator(3)))
    assert not torch.equal(one, freeform_mask(8, 32, 32, generator(4)))
    flat = one.flatten(1)
    same = (flat[:, None] == flat[None]).all(-1)
    assert torch.equal(same, torch.eye(8, dtype=torch.bool))  # no two of a batch are equal


@pytest.mark.parametrize("size, high", [(64, 0.3), (32, 0.7)])  # at 0.7 some are painted again, with a thicker brush
def test_a_mask_does_not_depend_on_its_batch(size, high):
    whole = freeform_mask(70, size, size, Draws.at(5, 2), 0.1, high)
    for start, stop in ((0, 1), (1, 33), (33, 70)):
        part = freeform_mask(stop - start, size, size, Draws.at(5, 2, rows=(start, stop, 70)), 0.1, high)
        assert torch.equal(part, whole[start:stop])


@pytest.mark.parametrize("name", SHARES)
def test_freeform_masks_are_strokes_and_not_dust(name):
    found = masks(name, 64, 64, 64, generator())
    scattered = (torch.rand(found.shape, generator=generator()) < found.mean()).float()
    for mask in (found, found.mT):
        assert runs(mask) > 4 > 2 > runs(scattered)
    # a brush is round and at least 3 pixels thick: almost every hidden pixel lies in a plus of five
    plus = F.conv2d(found, torch.tensor([[[[0.0, 1, 0], [1, 1, 1], [0, 1, 0]]]]), padding=1) == 5
    cross = F.max_pool2d(plus.float(), (1, 3), 1, (0, 1)).maximum(F.max_pool2d(plus.float(), (3, 1), 1, (1, 0)))
    assert (cross * found).sum() > 0.8 * found.sum()


def test_a_pixel_is_reached_when_the_brush_first_covers_it():
    numbers = torch.rand(3, 6 * painting.SEGMENTS, generator=generator(), dtype=torch.float64)
    strokes = {name: value[:, :6] for name, value in painting._strokes(numbers, 20, 28).items()}
    reached = painting._reached(strokes, 20, 28).reshape(3, 20, 28)
    x, y, dx, dy, radius, begins = (strokes[name][0] for name in ("x", "y", "dx", "dy", "radius", "begins"))
    along = torch.linspace(0, 1, 2001)[:, None]  # the brush at 2001 places of each segment, in order
    places = torch.stack([x + along * dx, y + along * dy], -1).permute(1, 2, 0)  # (segment, 2, place)
    when = begins[:, None] + along.T * torch.hypot(dx, dy)[:, None]
    for row, column in [(row, column) for row in range(0, 20, 3) for column in range(0, 28, 3)]:
        away = torch.hypot(places[:, 0] - column - 0.5, places[:, 1] - row - 0.5)
        first = torch.where(away <= radius[:, None], when, math.inf).min()
        if (away - radius[:, None]).min().abs() > 1e-3:  # the brush does not merely touch it
            assert torch.isclose(reached[0, row, column], first, atol=0.25)  # 0.01 radius for pressing, and steps


def test_strokes_are_as_long_as_they_should_be():
    numbers = torch.rand(400, 6 * painting.SEGMENTS, generator=generator(), dtype=torch.float64)
    radius = painting._strokes(numbers, 64, 64)["radius"].double()
    lifts, chances = (radius.diff(dim=1) != 0).double().mean(), 400 * (painting.SEGMENTS - 1)
    assert abs(lifts - 1 / 8) < 4 * math.sqrt(1 / 8 * 7 / 8 / chances)  # 8 segments a stroke
    assert radius.min() >= 1.5 and radius.max() <= 5 and abs(radius.mean() - 3.25) < 0.15  # 12 to 40 of 256 across


def test_a_brush_is_set_down_with_its_middle():
    dots = freeform_mask(300, 64, 64, generator(), 0.003, 0.005)  # 13 to 20 pixels, mostly of one dot of up to 78
    assert abs(runs(dots) / runs(dots.mT) - 1) < 0.1 and runs(dots) > 2


def test_freeform_holes_lie_everywhere():
    often = freeform_mask(600, 32, 32, generator()).mean((0, 1))
    blocks = F.avg_pool2d(often[None], 8)[0]
    assert blocks.min() > 0.12 and blocks.max() < 0.38
    for turned in (often.flip(0), often.flip(1), often.T):
        assert (F.avg_pool2d(turned[None], 8)[0] - blocks).abs().max() < 0.1  # no side is preferred


# -- hide and paste -----------------------------------------------------------------------------


@pytest.mark.parametrize("fill", [0.0, 1.0, -1, 0.5])
def test_hide_is_its_formula(fill):
    x, mask = image(), pattern()
    assert torch.equal(hide(x, mask, fill), (1 - mask) * x + mask * fill)
    shared = hide(x, mask[:1], fill)  # one mask for all
    assert torch.equal(shared, hide(x, mask[:1].expand(4, 1, 16, 16), fill))
    assert torch.equal(hide(x.double(), mask, fill), hide(x, mask, fill).double())


def test_noise_fills_the_hole_only_and_comes_from_the_generator():
    x, mask = image(16, 32), pattern(16, 32)
    xT = hide(x, mask, "noise", generator(1))
    visible, hidden = (mask == 0).expand_as(x), (mask == 1).expand_as(x)
    z, n = xT[hidden], int(hidden.sum())
    assert torch.equal(xT[visible], x[visible]) and torch.equal(xT, hide(x, mask, "noise", generator(1)))
    assert not torch.equal(xT, hide(x, mask, "noise", generator(2)))
    assert abs(z.mean()) < 4 / math.sqrt(n) and abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    rows = Draws.at(0, 0, rows=(2, 5, 16))
    assert torch.equal(hide(x[2:5], mask[2:5], "noise", rows), hide(x, mask, "noise", Draws.at(0, 0))[2:5])


def test_paste_keeps_the_source_outside_and_the_painting_inside():
    x, mask = image(), pattern()
    painted = image().flip(0)
    out = paste(painted, hide(x, mask), mask)
    assert torch.equal(out, mask * painted + (1 - mask) * x)
    assert torch.equal(paste(x, hide(x, mask, "noise", generator()), mask), x)  # the truth pasted is the truth
    assert torch.equal(paste(out, hide(x, mask), mask), out)  # and once is enough


def test_gradients_come_from_the_hole_of_what_is_pasted_and_from_outside_of_what_is_hidden():
    x, mask = image().requires_grad_(), pattern()
    (hidden,) = torch.autograd.grad(hide(x, mask, "noise", generator()).sum(), x)
    (pasted,) = torch.autograd.grad(paste(x, image(), mask).sum(), x)
    assert torch.equal(hidden, (1 - mask).expand_as(x)) and torch.equal(pasted, mask.expand_as(x))


def test_the_hole_is_read_off_an_image_of_8_bits():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(4, 3, 16, 16)
    x, mask = to_float(levels.contiguous()), pattern()
    assert x.abs().min() > 0.003  # grey 0 is between two levels
    assert torch.equal(hole_of(hide(x, mask)), mask) and hole_of(x).sum() == 0
    assert hole_of(x * torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1)).sum() == 0  # every channel has to be 0
    assert torch.equal(hole_of(hide(x, mask, -1.0), -1.0)[..., 1:, :], mask[..., 1:, :])  # black is also a level


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: centre_mask(4), ValueError, "height is 4; wanted a whole number, 8 or more"),
        (lambda: centre_mask((8, 8, 8)), ValueError, r"size is \(8, 8, 8\)"),
        (lambda: centre_mask(16.0), TypeError, "height is 16.0"),
        (lambda: freeform_mask(0, 16, 16), ValueError, "n is 0"),
        (lambda: freeform_mask(1, 16, 16, low=0.3, high=0.2), ValueError, "low is 0.3 and high 0.2"),
        (lambda: freeform_mask(1, 16, 16, low=0.0), ValueError, "low is 0 "),
        (lambda: freeform_mask(1, 16, 16, low=0.2001, high=0.2002), ValueError, "a whole pixel"),
        (lambda: freeform_mask(1, 16, 16, high=1.5), ValueError, "high is 1.5"),
        (lambda: freeform_mask(1, 16, 16, 7), TypeError, "generator is a int"),
        (lambda: masks("freeform-20-3", 1, 16, 16), ValueError, "did you mean 'freeform-20-30'"),
        (lambda: masks("center", 1.5, 16, 16), TypeError, "n is 1.5"),
        (lambda: hide(image(), pattern(3)), ValueError, "mask has shape"),
        (lambda: hide(image(), pattern()[:, 0]), ValueError, "mask has shape"),
        (lambda: hide(image(), pattern().expand(4, 3, 16, 16)), ValueError, "mask has shape"),
        (lambda: hide(image(), pattern() / 2), ValueError, "mask runs from 0 to 0.5"),
        (lambda: hide(image(), pattern() > 0), TypeError, "mask has dtype torch.bool"),
        (lambda: hide(image()[0], pattern()), ValueError, "x has shape"),
        (lambda: hide(image(), pattern(), "white"), ValueError, "fill is 'white'"),
        (lambda: hide(image(), pattern(), math.nan), ValueError, "fill is nan"),
        (lambda: hide(image(), pattern(), None), TypeError, "fill is a NoneType"),
        (lambda: paste(image(), image(3), pattern()), ValueError, "wanted the same shape"),
        (lambda: hole_of(image()[0]), ValueError, "xT has shape"),
    ],
)
def test_what_a_mask_cannot_take_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_every_name_makes_masks():
    for name in MASKS:
        assert masks(name, 2, 24, 32, generator()).shape == (2, 1, 24, 32)


# -- several masks in one, and how deep one is -------------------------------------------------------


def test_small_masks_are_laid_out_as_one_reads_and_cut_at_the_border():
    tiles = pattern(4, 8)
    whole = spread(tiles, (0, 12), (3, 14), 18, 24)
    assert whole.shape == (1, 1, 18, 24)
    for tile, (row, column) in zip(tiles, ((0, 3), (0, 14), (12, 3), (12, 14))):
        found = whole[0, :, row : row + 8, column : column + 8]
        assert torch.equal(found, tile[:, : found.shape[-2], : found.shape[-1]])
        found.zero_()
    assert not whole.any()


@pytest.mark.parametrize(
    ("rows", "columns", "found"),
    [
        (slice(10, 26), slice(12, 28), 8),  # the hole of a crop of 32
        (slice(10, 27), slice(12, 29), 9),
        (slice(10, 13), slice(0, 40), 2),  # a line across is no deeper than it is wide
        (slice(0, 20), slice(0, 40), 20),  # behind the border nothing is visible
        (slice(0, 30), slice(0, 40), 40),
        (slice(0, 0), slice(0, 0), 0),
    ],
    ids=["trained", "one wider", "a line", "at the border", "all", "none"],
)
def test_how_deep_a_hole_is(rows, columns, found):
    mask = torch.zeros(30, 40)
    mask[rows, columns] = 1
    assert depth(mask) == found
