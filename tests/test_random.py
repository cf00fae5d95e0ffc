"""Draws do not depend on how a batch is cut, and steps share nothing."""

from __future__ import annotations

import pytest
import torch

from ibmd_minimal._random import Draws, normal, step_seed, uniform

LIKE = torch.zeros(6, 3)


def cut(kind, parts):
    """The same draws of a batch of 6, made part by part."""
    return torch.cat([kind(Draws.at(3, 7, rows=(start, stop, 6)), stop - start) for start, stop in parts])


@pytest.mark.parametrize("kind", [lambda d, n: normal((n, 3), LIKE, d), lambda d, n: uniform(n, LIKE, d)])
@pytest.mark.parametrize("parts", [[(0, 3), (3, 6)], [(0, 1), (1, 2), (2, 6)], [(0, 6)]])
def test_parts_are_rows_of_the_whole(kind, parts):
    whole = kind(Draws.at(3, 7), 6)
    assert torch.equal(cut(kind, parts), whole)


def test_second_draw_of_a_part_is_a_row_of_the_second_whole():
    whole, part = Draws.at(0, 0), Draws.at(0, 0, rows=(2, 4, 6))
    normal((6, 3), LIKE, whole), normal((2, 3), LIKE, part)
    assert torch.equal(normal((6, 3), LIKE, whole)[2:4], normal((2, 3), LIKE, part))


def test_a_part_refuses_another_number_of_rows():
    with pytest.raises(ValueError, match="3 rows asked for; wanted 2"):
        normal((3, 3), LIKE, Draws.at(0, 0, rows=(2, 4, 6)))


def test_seeds_do_not_collide_and_their_bits_are_even():
    seeds = [step_seed(s, n, k) for s in range(30) for n in range(300) for k in (0, 1, 1 << 20)]
    assert len(set(seeds)) == len(seeds)
    bits = torch.tensor([[seed >> k & 1 for k in range(63)] for seed in seeds]).double()
    # 27,000 fair coins: 63 bits within 5 standard errors of one half.
    assert (bits.mean(0) - 0.5).abs().max() < 5 * 0.5 / len(seeds) ** 0.5


def test_neighbouring_seeds_differ_in_half_their_bits():
    flips = [bin(step_seed(0, n) ^ step_seed(0, n + 1)).count("1") for n in range(1000)]
    # Binomial(63, 1/2): the mean of 1,000 within 5 standard errors.
    assert abs(sum(flips) / 1000 - 31.5) < 5 * (63 / 4 / 1000) ** 0.5


def test_draws_of_different_steps_streams_and_seeds_are_uncorrelated():
    keys = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1)]
    noise = torch.stack([normal((20_000, 1), LIKE.double(), Draws.at(*key))[:, 0] for key in keys])
    correlation = torch.corrcoef(noise) - torch.eye(len(keys))
    assert correlation.abs().max() < 5 / 20_000**0.5


def test_uniform_is_never_zero_and_reaches_one(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, **k: torch.zeros(shape, dtype=k["dtype"]))
    assert torch.equal(uniform(4, LIKE), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_device_are_those_of_like(dtype):
    like = torch.zeros(2, 2, dtype=dtype)
    drawn = normal((2, 2), like, torch.Generator().manual_seed(0))
    assert drawn.dtype == dtype and drawn.device == like.device
    assert uniform(5, like).dtype == torch.float64


def test_numbers_come_from_where_the_generator_lives():
    # "meta" stands for any other device than the generator's: the numbers are drawn on the CPU and moved there.
    assert normal((2, 2), torch.zeros(2, 2, device="meta"), torch.Generator().manual_seed(0)).device.type == "meta"


def test_a_generator_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="generator is a int"):
        normal((2, 2), LIKE, 3)
