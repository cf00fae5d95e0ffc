"""Chapter 10: super-resolution in one step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .answers import kind_of, uniform
from .checking import Finding, compare, exercise, sentence

F64 = torch.float64


# -- 10.1 ------------------------------------------------------------------------------------------


def _decibels(error: Tensor, peak: float = 2.0) -> Tensor:
    return 10 * (peak**2 / error).log10()


@exercise("10.1", "The price of one sample", points=2)
def one_sample_psnr(answer: Callable[[Tensor, Tensor], Tensor]) -> Finding:
    """`answer(e, r)`: the PSNR of one sample of a student with mean error `e` and spread `r e`."""
    e, r = uniform(12, 0.002, 0.05, 101), uniform(12, 0.3, 1.5, 102)
    mistakes = {
        "the range was taken as 1; images in [-1, 1] have a range of 2": _decibels(e * (1 + r), 1.0),
        "the range was taken as 255": _decibels(e * (1 + r), 255.0),
        "this is the spread alone; the error of the mean, e, is there as well": _decibels(e * r),
        "this is the teacher's step; a sample has its spread on top of that": _decibels(e),
        "the ratio was ignored: every student was taken for an exact one": _decibels(2 * e),
        "the two parts were added as standard deviations; variances add": _decibels((1 + r.sqrt()).square() * e),
        "the logarithm of a mean square has the factor 10, not 20": 2 * _decibels(e * (1 + r)),
        "the spread was subtracted from the error": _decibels((e * (1 - r)).abs()),
        "this is the natural logarithm; decibels want the one to base 10": 10 * (4 / (e * (1 + r))).log(),
        "the sign is wrong: a larger error is a smaller PSNR": -_decibels(e * (1 + r)),
    }
    return compare(answer(e, r), _decibels(e * (1 + r)), "the PSNR of one sample", mistakes=mistakes)


# -- 10.2 ------------------------------------------------------------------------------------------

WITHIN = ((3.1, 1.0), (1.0, 1.0), (0.5, 1.0), (0.1, 1.0), (0.5, 0.66), (6.0, 0.5))


def _needed(d: float, r: float) -> float:
    return r / (10 ** (d / 10) - 1)


@exercise("10.2", "How many to average", points=2)
def samples_needed(answer: Callable[[float, float], int]) -> Finding:
    """`answer(d, r)`: the least n whose mean is within d dB of the teacher's step."""
    got = torch.tensor([float(answer(d, r)) for d, r in WITHIN], dtype=F64)

    def counts(rule: Callable[[float, float], float]) -> Tensor:
        return torch.tensor([float(rule(d, r)) for d, r in WITHIN], dtype=F64)

    mistakes = {
        "no whole number was returned; round up": counts(_needed),
        "it was rounded down: that mean is still further away than d": counts(lambda d, r: max(1, int(_needed(d, r)))),
        "it was rounded to the nearest: rounded down, the mean is still too far away": (
            counts(lambda d, r: max(1, round(_needed(d, r))))
        ),
        "the ratio r was ignored": counts(lambda d, r: max(1, math.ceil(_needed(d, 1.0)))),
        "the ratio stands on the wrong side: less spread needs fewer samples": (
            counts(lambda d, r: max(1, math.ceil(_needed(d, 1 / r))))
        ),
        "decibels of a mean square are 10 log10, not 20": counts(
            lambda d, r: max(1, math.ceil(r / (10 ** (d / 20) - 1)))
        ),
        "the distance was taken in natural logarithms": counts(lambda d, r: max(1, math.ceil(r / (math.exp(d) - 1)))),
        "the 1 is missing: e (1 + r/n) over e is to be at most 10^(d/10)": (
            counts(lambda d, r: max(1, math.ceil(r / 10 ** (d / 10))))
        ),
        "one more than needed": counts(lambda d, r: math.ceil(_needed(d, r)) + 1),
        "none were averaged in some settings; the least number of samples is 1": counts(
            lambda d, r: math.floor(_needed(d, r))
        ),
    }
    what = f"the number of samples ({len(WITHIN)} settings)"
    return compare(got, counts(lambda d, r: max(1, math.ceil(_needed(d, r)))), what, 1e-9, mistakes)


# -- 10.3 ------------------------------------------------------------------------------------------


@exercise("10.3", "A head start for a linear teacher", points=2)
def head_start_sigma(answer: Callable[[Tensor, Tensor], Tensor]) -> Finding:
    """`answer(K, error)`: the sigma at which the variance of `K sigma z`, a mean over elements, is `error`."""
    generator = torch.Generator().manual_seed(103)
    K = torch.randn(12, 12, generator=generator, dtype=F64) / 3 + torch.eye(12, dtype=F64)
    error = torch.tensor(0.0193, dtype=F64)
    square = K.square().sum()
    wanted = (error * len(K) / square).sqrt()
    mistakes = {
        "this is sigma squared": wanted**2,
        "the mean over the d elements is missing: trace(K K^T) is their sum": (error / square).sqrt(),
        "the trace of K was taken; the variance needs that of K K^T": (error * len(K)).sqrt() / K.trace().abs(),
        "the mean over all entries of K was taken; each row gathers all of z": (error / K.square().mean()).sqrt(),
        "the largest singular value was taken: that is the worst direction, not the mean": (
            error.sqrt() / torch.linalg.matrix_norm(K, 2)
        ),
        "the teacher was left out: its denoiser changes the size of the noise": error.sqrt(),
        "error was taken for a standard deviation": error * (len(K) / square).sqrt(),
        "K was applied the wrong way round: the spread is sigma² times |K|²/d, to be solved for sigma": (
            (error * square / len(K)).sqrt()
        ),
    }
    return compare(answer(K.clone(), error.clone()), wanted, "sigma", mistakes=mistakes)


# -- 10.4 ------------------------------------------------------------------------------------------


@exercise("10.4", "Gap and spread from two distances", points=2)
def gap_and_variance(answer: Callable[..., tuple[Tensor, Tensor]]) -> Finding:
    """`answer(n, dn, m, dm)`: gap and v of `d = gap + v/n`, from the distances of means of n and of m samples."""
    gap, v = uniform(12, 1e-4, 2e-3, 104), uniform(12, 0.005, 0.03, 105)
    n, m = torch.tensor([1.0, 2, 4] * 4, dtype=F64), torch.tensor([8.0, 32, 16, 8] * 3, dtype=F64)
    dn, dm = gap + v / n, gap + v / m
    got = answer(n.clone(), dn.clone(), m.clone(), dm.clone())
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        return Finding(False, f"not yet: the answer is {kind_of(got)}; wanted two tensors, the gap and the variance.")
    gaps = {
        "the variance comes second: first the gap": v,
        "what is left of the spread, v/m, is still in it": dm,
        "this is the gap with the wrong sign": -gap,
        "v was taken off undivided; v/n of it is in the distance": dn - v,
    }
    found = compare(got[0], gap, "the gap", mistakes=gaps)
    if not found.right:
        return found
    variances = {
        "it was not divided by 1/n - 1/m": dn - dm,
        "it was divided by m - n; the distances go with 1/n": (dn - dm) / (m - n),
        "the gap is still in it": n * dn,
        "this is the standard deviation; v is its square": v.sqrt(),
        "the sign is wrong: the mean of fewer samples is farther away": -v,
    }
    return compare(got[1], v, "the variance", mistakes=variances)


# -- 10.5 ------------------------------------------------------------------------------------------


@exercise("10.5", "The slider of n", points=1)
def slider(answer: str) -> Finding:
    """A sentence: PSNR up, detail lost, towards the teacher's single step."""
    wanted = {
        r"(psnr|decibel|\bdb\b)": "say what happens to the PSNR.",
        r"soft|blur|smooth|detail|sharp|textur|grain|crisp|fuzz": "say what happens to the looks of the picture.",
        r"teacher|single (step|pass)|NFE ?=? ?1\b|conditional mean|E\[": "say which of the pictures it approaches.",
    }
    mistakes = {
        r"(psnr|decibels?|\bdb) (go(es|ing)? down|falls?|sinks?|drops?|decreases?|gets? (worse|lower))": (
            "look at the number below the mean: does it?"
        ),
        r"(detail|grain|texture|fur)\w* (comes? back|appears?|grows?|increases?|sharpens?)": (
            "look at n = 1 and at n = 32 in turn."
        ),
        r"(approach\w*|converges? to|tends? to|becomes?|reaches) the (truth|true|original)": (
            "compare it with the truth at the right, at n = 32: the detail of the truth is not in it."
        ),
        r"(becomes?|gets?|is|grows?|more) (sharp|crisp|more detail)": "look at n = 1 and at n = 32 in turn.",
        r"hundred|NFE ?=? ?100\b|\bwalk\b": "which of the teacher's pictures is as soft as that?",
    }
    return sentence(answer, wanted, mistakes)
