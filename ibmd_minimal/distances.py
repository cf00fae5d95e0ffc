"""Distances between two laws known by samples, and how far chance alone moves them.

Rows are samples. Fréchet and kernel distance are written for *counts*: how often each row is taken. All ones give the
distance, a multinomial draw gives one resample of the bootstrap, and the same counts for two sets of crops, with
and without a damage, give the paired bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import _checks as check

Counted = Callable[[Tensor, Tensor], float]


def clouds(x: Tensor, y: Tensor, x_name: str = "x", y_name: str = "y") -> tuple[Tensor, Tensor]:
    """Two sets of rows `(n, d)` and `(m, d)`, n and m at least 2, in float64 on the CPU; ValueError otherwise."""
    for value, name in ((x, x_name), (y, y_name)):
        check.tensor(value, name)
        if value.ndim != 2 or len(value) < 2:
            raise ValueError(f"{name} has shape {tuple(value.shape)}; wanted (samples, dimensions), 2 samples or more")
        check.finite(value, name)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{x_name} has {x.shape[1]} columns and {y_name} {y.shape[1]}; wanted the same number")
    return x.detach().double().cpu(), y.detach().double().cpu()


# -- between point clouds -----------------------------------------------------------------------


def wasserstein2(x: Tensor, y: Tensor) -> float:
    """Squared 2-Wasserstein distance of two clouds `(n, d)` of equal size: the mean ‖x - y‖² of the cheapest pairing.

    Exact (the network simplex of POT; about a quarter of a second for 1,000 points). Between two draws of one law it
    is not zero: that is the floor, see :func:`mean_wasserstein2`. ValueError for clouds of different sizes.
    """
    x, y = clouds(x, y)
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} points and y {len(y)}; wanted as many in both")
    import ot  # here and not above: it takes about a second to import

    weights = torch.full((len(x),), 1 / len(x), dtype=torch.float64).numpy()
    cost = (x[:, None] - y[None]).square().sum(-1) if x.shape[1] <= 8 else torch.cdist(x, y).square()
    return float(ot.emd2(weights, weights, cost.numpy(), numItermax=10_000_000))


def mean_wasserstein2(x: Tensor, y: Tensor, size: int = 1000) -> tuple[float, float]:
    """Mean and standard error of :func:`wasserstein2` over the draws of `size` points that `x` and `y` hold.

    `x`, `y`: `(draws * size, d)`, cut in order into draws, what is left over unused; two draws or more. With both from
    the data this is the floor, which a model can reach but not beat.
    """
    x, y = clouds(x, y)
    draws = min(len(x), len(y)) // check.count(size, "size", least=2)
    if draws < 2:
        raise ValueError(f"x has {len(x)} rows and y {len(y)}; wanted two draws of {size} rows or more")
    each = torch.tensor([wasserstein2(x[i : i + size], y[i : i + size]) for i in range(0, draws * size, size)])
    return float(each.mean()), float(each.std() / draws**0.5)


# -- between features ---------------------------------------------------------------------------


def _moments(rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (unbiased) covariance of rows taken `counts` times each."""
    n = counts.sum()
    mean = counts @ rows / n
    centred = rows - mean
    return mean, (centred * counts[:, None]).T @ centred / (n - 1)


def _root(covariance: Tensor) -> Tensor:
    """The symmetric root; eigenvalues that rounding pushed below zero are zero."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def counted_frechet(f: Tensor, g: Tensor) -> Counted:
    """The Fréchet distance as a function of the counts of `f`'s rows and of `g`'s."""
    f, g = clouds(f, g, "f", "g")

    def distance(of_f: Tensor, of_g: Tensor) -> float:
        (mean_f, cov_f), (mean_g, cov_g) = _moments(f, of_f), _moments(g, of_g)
        root = _root(cov_f)
        cross = torch.linalg.eigvalsh(root @ cov_g @ root).clamp_min(0).sqrt().sum()
        return float((mean_f - mean_g).square().sum() + cov_f.trace() + cov_g.trace() - 2 * cross)

    return distance


def counted_kernel(f: Tensor, g: Tensor) -> Counted:
    """The kernel distance as a function of the counts of `f`'s rows and of `g`'s; memory O((n + m)²)."""
    f, g = clouds(f, g, "f", "g")
    within_f, within_g, between = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((f, f), (g, g), (f, g)))

    def off_diagonal(kernel: Tensor, counts: Tensor) -> Tensor:
        """Mean over ordered pairs of different draws; a row drawn k times is k(k - 1) such pairs with itself."""
        n = counts.sum()
        return (counts @ kernel @ counts - counts @ kernel.diagonal()) / (n * (n - 1))

    def distance(of_f: Tensor, of_g: Tensor) -> float:
        across = of_f @ between @ of_g / (of_f.sum() * of_g.sum())
        return float(off_diagonal(within_f, of_f) + off_diagonal(within_g, of_g) - 2 * across)

    return distance


DISTANCES: dict[str, Callable[[Tensor, Tensor], Counted]] = {"frechet": counted_frechet, "kernel": counted_kernel}


def _ones(rows: Tensor) -> Tensor:
    return torch.ones(len(rows), dtype=torch.float64)


def frechet(f: Tensor, g: Tensor) -> float:
    """Fréchet distance `‖m_f - m_g‖² + tr(C_f + C_g - 2 (C_f C_g)^½)` of Gaussians fitted to `f (n, d)`, `g (m, d)`.

    In float64. Biased upwards by about `d(d + 1)/4 (1/n + 1/m)` in whitened features: compare with a floor of as many.
    """
    return counted_frechet(f, g)(_ones(f), _ones(g))


def kernel_distance(f: Tensor, g: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of features `(n, d)`, `(m, d)` in the kernel `(x·y/d + 1)³`.

    Mean zero, and so as often negative as positive, where the laws agree.
    """
    return counted_kernel(f, g)(_ones(f), _ones(g))


# -- standard errors ----------------------------------------------------------------------------


def resampled(n: int, resamples: int, generator: torch.Generator, groups: Tensor | None = None) -> Tensor:
    """Counts `(resamples, n)`, float64: how often each of n rows is drawn in n draws with replacement.

    `groups`: int64 `(n,)`, which group each row belongs to; as many groups as there are are drawn then, each whole: all
    crops of a photograph together. ValueError for other than one number of 0 or more for each row.
    """
    if groups is None:
        drawn = torch.randint(n, (resamples, n), generator=generator)
        return torch.zeros(resamples, n, dtype=torch.float64).scatter_add_(1, drawn, torch.ones_like(drawn).double())
    if groups.shape != (n,) or groups.dtype != torch.int64 or bool((groups < 0).any()):
        raise ValueError(f"groups has shape {tuple(groups.shape)}, {groups.dtype}; wanted int64 ({n},), 0 or more")
    _, own = groups.unique(return_inverse=True)
    return resampled(int(own.max()) + 1, resamples, generator)[:, own]


Groups = tuple[Tensor | None, Tensor | None]
EACH: Groups = (None, None)


def _counts(f: Tensor, g: Tensor, resamples: int, seed: int, groups: Groups = EACH) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    resamples = check.count(resamples, "resamples", least=2)
    return list(zip(*(resampled(len(one), resamples, generator, own) for one, own in zip((f, g), groups))))


def bootstrap(distance: str, f: Tensor, g: Tensor, resamples: int = 200, seed: int = 0) -> tuple[float, float]:
    """A distance ("frechet" or "kernel") between features, and its bootstrap standard error.

    The rows of both sets are resampled. The spread is the estimate's, not its bias: resampled Fréchet distances lie
    above the distance itself.
    """
    counted = DISTANCES[check.choice(distance, "distance", DISTANCES)](f, g)
    spread = torch.tensor([counted(*counts) for counts in _counts(f, g, resamples, seed)])
    return counted(_ones(f), _ones(g)), float(spread.std())


def paired_excess(
    distance: str,
    damaged: Tensor,
    clean: Tensor,
    reference: Tensor,
    resamples: int = 200,
    seed: int = 0,
    groups: Groups = EACH,
) -> tuple[float, float]:
    """How much farther from `reference` the damaged set is than the clean one, and the standard error of that.

    Features `(n, d)`, `(n, d)`, `(m, d)`; row i of `damaged` and of `clean` come from the same crop and are resampled
    together, so that what the choice of crops does to both cancels. `groups`: of the crops, and of the reference's, see
    :func:`resampled`. ValueError where they are not as many.
    """
    if len(damaged) != len(clean):
        raise ValueError(f"damaged has {len(damaged)} rows and clean {len(clean)}; wanted the same crops in both")
    distance = DISTANCES[check.choice(distance, "distance", DISTANCES)]
    worse, floor = distance(damaged, reference), distance(clean, reference)
    ones = _ones(clean), _ones(reference)
    spread = [worse(*counts) - floor(*counts) for counts in _counts(clean, reference, resamples, seed, groups)]
    return worse(*ones) - floor(*ones), float(torch.tensor(spread).std())


def ratio(numerators: Tensor, denominators: Tensor, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """A mean over a mean, `sum a_i / sum b_i`, and its bootstrap standard error.

    `numerators`, `denominators`: one number an image each, `(n,)`; the images are resampled, both numbers of one
    together. For diversity: the variance of a student's draws over the squared error of its teacher's single step.
    ValueError unless there are as many of both, two or more, and the denominators are 0 or more and not all 0.
    """
    for value, name in ((numerators, "numerators"), (denominators, "denominators")):
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if not isinstance(value, Tensor) or value.ndim != 1 or len(value) < 2 or len(value) != len(numerators):
            raise ValueError(f"{name} has shape {shape}; wanted a tensor (images,), as many in both, 2 or more")
        check.finite(value, name)
    above, below = numerators.detach().double().cpu(), denominators.detach().double().cpu()
    if bool((below < 0).any()) or not float(below.sum()):
        raise ValueError(f"denominators run from {below.min():g} to {below.max():g}; wanted 0 or more, and some above")
    generator = torch.Generator().manual_seed(seed)
    counts = resampled(len(above), check.count(resamples, "resamples", least=2), generator)
    spread = (counts @ above) / (counts @ below).clamp_min(torch.finfo(torch.float64).tiny)
    return float(above.sum() / below.sum()), float(spread.std())
