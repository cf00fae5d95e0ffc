"""How good a restored photograph is, and how close a set of them is to a set of real ones.

Images are `(batch, channel, height, width)` in [-1, 1], a range of 2. Distances between sets are those of
`distances.py`, in the features of a :class:`Ruler`: those of `features.py`, made by hand and the same on every machine,
or those of `classifier.py`, trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _checks as check
from .data.corruptions import corrupt
from .distances import bootstrap, frechet, kernel_distance, mean_wasserstein2, paired_excess, ratio, wasserstein2
from .features import GREY_LEVEL, Extract, hole_features, images, inception_features, pair_features, photo_features

__all__ = [
    "DAMAGES", "LADDERS", "Ruler", "Sight", "blur", "bootstrap", "calibrate", "consistency", "frechet",
    "hole_features", "inception_features", "kernel_distance", "mean_wasserstein2", "noise", "pair_features",
    "paired_excess", "photo_features", "psnr", "ratio", "smallest", "ssim", "wasserstein2",
]  # fmt: skip

LEAST_SSIM = 11  # the Gaussian window of SSIM is 11 pixels wide


# -- image against image ------------------------------------------------------------------------


def _rmse(x: Tensor, y: Tensor) -> Tensor:
    return (x.double() - y.double()).square().flatten(1).mean(1).sqrt()


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of every pair, `(batch,)` in dB: `20 log10(2 / RMSE)`; infinite for equal images."""
    check.same(images(x, "x"), y, "x", "y")
    return 20 * (2 / _rmse(x, y)).log10()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of every pair, `(batch,)`: 1 where they are equal (Wang et al. 2004, Gaussian window).

    scikit-image's, with the settings of the paper; mean over channels. ValueError for sides under 11 pixels.
    """
    check.same(images(x, "x", LEAST_SSIM), y, "x", "y")
    from skimage.metrics import structural_similarity  # scipy's filters take half a second to import

    options = {"channel_axis": 0, "data_range": 2, "gaussian_weights": True, "use_sample_covariance": False}
    pairs = zip(x.detach().double().cpu().numpy(), y.detach().double().cpu().numpy())
    return torch.tensor([structural_similarity(a, b, sigma=1.5, **options) for a, b in pairs], dtype=torch.float64)


def consistency(output: Tensor, xT: Tensor, corruption: str | Callable[[Tensor], Tensor]) -> Tensor:
    """RMSE between the output corrupted again and `xT`, of every image, `(batch,)`, in the units of [-1, 1].

    `corruption`: a name of `data.corruptions`, or a callable. Zero where the output could have been the source of `xT`.
    """
    images(output, "output")
    again = corrupt(corruption, output) if isinstance(corruption, str) else corruption(output)
    check.same(again, xT, "the corrupted output", "xT")
    return _rmse(again, xT)


# -- the ruler ----------------------------------------------------------------------------------


Images = Tensor | tuple[Tensor, Tensor]  # images, or pairs (x0, xT)


def _extracted(extract: Extract, x: Images) -> Tensor:
    return extract(*x) if isinstance(x, tuple) else extract(x)


@dataclass(frozen=True)
class Ruler:
    """Distances from a reference set of images, or of pairs `(x0, xT)`, in features whitened by that set.

    Features of one crop rise and fall together, with its contrast; what blur and noise change is how they *differ*, in
    directions in which photographs hardly vary. Whitening gives those directions the same weight as the others
    (but none whose share of the variance is under `ridge`: there is little but chance in them).

    Wherever a method takes images `(n, 3, height, width)`, a ruler of pairs takes a tuple of two such sets.
    """

    mean: Tensor
    whitening: Tensor
    reference: Tensor
    extract: Extract = photo_features

    @classmethod
    def fit(cls, reference: Images, extract: Extract = photo_features, ridge: float = 0.1, least: float = 0.2) -> Ruler:
        """A ruler from reference images `(n, 3, height, width)`; with 2,000 crops of 32x32 it is as sharp as stated.

        `extract`: images to features `(n, d)`, or two sets of them for pairs, as :func:`features.pair_features`; n has
        to exceed d. `least`: a feature that spreads by less, in its own unit, counts as if it spread by that: the
        difference of an output and its source at a scale that the corruption keeps does not vary at all.
        """
        ridge, least = check.positive(ridge, "ridge"), check.positive(least, "least")
        features = _extracted(extract, reference)
        if len(features) <= features.shape[1]:
            raise ValueError(f"reference has {len(features)} images; wanted more than the {features.shape[1]} features")
        mean, std = features.mean(0), features.std(0).clamp_min(least)
        values, vectors = torch.linalg.eigh(((features - mean) / std).T.cov())
        whitening = (vectors / std[:, None]) * (values.clamp_min(0) + ridge).rsqrt()
        return cls(mean, whitening, (features - mean) @ whitening, extract)

    def features(self, x: Images) -> Tensor:
        """Whitened features `(n, d)` of images `(n, 3, height, width)`."""
        return (_extracted(self.extract, x) - self.mean) @ self.whitening

    def frechet(self, x: Images) -> float:
        """Fréchet distance of images from the reference set."""
        return frechet(self.features(x), self.reference)

    def kernel(self, x: Images) -> float:
        """Kernel distance of images from the reference set."""
        return kernel_distance(self.features(x), self.reference)

    def measure(self, x: Images, distance: str = "frechet", resamples: int = 200) -> tuple[float, float]:
        """A distance of images from the reference set and its bootstrap standard error."""
        return bootstrap(distance, self.features(x), self.reference, resamples)

    def excess(
        self, damaged: Images, clean: Images, distance: str = "frechet", resamples: int = 200
    ) -> tuple[float, float]:
        """Distance of the damaged images beyond that of the same images clean, and its paired standard error."""
        return paired_excess(distance, self.features(damaged), self.features(clean), self.reference, resamples)


# -- what a ruler can see -----------------------------------------------------------------------


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `sigma` pixels, the sampled kernel cut at four of them, edges mirrored."""
    sigma = check.positive(sigma, "sigma")
    reach = int(4 * sigma + 0.5)
    if min(images(x).shape[-2:]) <= reach:
        raise ValueError(
            f"sigma is {sigma:g} and reaches {reach} pixels; wanted less than x has, {tuple(x.shape[-2:])}"
        )
    line = torch.exp(-torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype).square() / (2 * sigma**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    kernel = kernel.expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(F.pad(x, (reach,) * 4, mode="reflect"), kernel, groups=x.shape[1])


def noise(x: Tensor, level: float, seed: int = 0) -> Tensor:
    """White Gaussian noise with a standard deviation of `level` grey levels of 255, the same for the same seed."""
    z = torch.randn(images(x).shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    return x + z.to(x.device) * check.positive(level, "level") * GREY_LEVEL


DAMAGES: dict[str, Callable[[Tensor, float], Tensor]] = {"blur": blur, "noise": noise}
LADDERS = {"blur": (0.3, 0.35, 0.4, 0.5, 0.7, 1.0), "noise": (0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)}


@dataclass(frozen=True)
class Sight:
    """One row of a calibration: the excess of a damaged set over the floor, with its standard error."""

    damage: str
    level: float
    excess: float
    error: float

    @property
    def seen(self) -> bool:
        """Whether the excess stands more than five standard errors above the floor."""
        return self.excess > 5 * self.error


def calibrate(
    ruler: Ruler, crops: Tensor, ladders: dict[str, Iterable[float]] = LADDERS, distance: str = "frechet",
    resamples: int = 100,
) -> list[Sight]:  # fmt: skip
    """What a ruler sees of blur (sigma in pixels) and noise (grey levels of 255): one row a level, in order.

    `crops`: clean images, others than the ruler's reference set.
    """
    rows, clean = [], ruler.features(crops)
    for name, levels in ladders.items():
        damage = DAMAGES[check.choice(name, "damage", DAMAGES)]
        for level in levels:
            damaged = ruler.features(damage(crops, level))
            rows.append(Sight(name, level, *paired_excess(distance, damaged, clean, ruler.reference, resamples)))
    return rows


def smallest(rows: Iterable[Sight], damage: str) -> float:
    """The smallest level of a damage from which on every one is seen; infinity if the largest is not."""
    least = float("inf")
    for row in sorted((row for row in rows if row.damage == damage), key=lambda row: -row.level):
        if not row.seen:
            break
        least = row.level
    return least
