"""How good a restored photograph is, and how close a set of them is to a set of real ones.

Images are `(batch, channel, height, width)` in [-1, 1], a range of 2. Distances between sets are those of
`distances.py`, in the features of a :class:`Ruler`: made by hand, built from a seed, the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _checks as check
from .data.corruptions import corrupt
from .data.images import to_float, to_uint8
from .distances import bootstrap, frechet, kernel_distance, mean_wasserstein2, paired_excess, wasserstein2

__all__ = [
    "DAMAGES", "LADDERS", "Ruler", "Sight", "blur", "bootstrap", "calibrate", "consistency", "frechet",
    "inception_features", "kernel_distance", "mean_wasserstein2", "noise", "paired_excess", "photo_features", "psnr",
    "smallest", "ssim", "wasserstein2",
]  # fmt: skip

LEAST_SSIM = 11  # the Gaussian window of SSIM is 11 pixels wide
LEAST_CROP = 16  # three scales of 3x3 filters
FILTERS = (40, 28, 20)  # at full, half and quarter size
GREY_LEVEL = 2 / 255
SEED = 20250203


def images(x: Tensor, name: str = "x", least: int = 1) -> Tensor:
    """`x` itself if it is a batch of images with sides of `least` pixels or more, else TypeError or ValueError."""
    check.tensor(x, name)
    if x.ndim != 4 or min(x.shape[-2:]) < least:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; wanted (batch, channel, height, width), sides >= {least}")
    return x


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


@cache
def _filters(scale: int) -> Tensor:
    """Random 3x3 filters over three channels, `(n, 3, 3, 3)`: zero mean in each channel (flat areas give 0), norm 1."""
    generator = torch.Generator().manual_seed(SEED + scale)
    filters = torch.randn(FILTERS[scale], 3, 3, 3, generator=generator, dtype=torch.float64)
    filters = filters - filters.mean((2, 3), keepdim=True)
    return (filters / filters.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).float()


def _log_std(x: Tensor) -> Tensor:
    """Over positions; one grey level keeps it finite in flat areas."""
    return (x.std((2, 3)) + GREY_LEVEL).log()


def _features(x: Tensor) -> Tensor:
    x = to_float(to_uint8(x))
    rows = [x.mean((2, 3)), _log_std(x)]
    for scale in range(len(FILTERS)):
        rows.append(_log_std(F.conv2d(x, _filters(scale).to(x.device))))
        x = F.avg_pool2d(x, 2)
    return torch.cat(rows, 1).double().cpu()


@torch.no_grad()
def photo_features(x: Tensor, batch: int = 100) -> Tensor:
    """94 numbers for each photograph or crop `(n, 3, height, width)`, float64 `(n, 94)` on the CPU.

    Mean and log standard deviation of each channel, log standard deviations of 40, 28 and 20 random zero-mean filters
    at full, half and quarter size. Of what a file would hold: rounded to 8 bits first. Crops of one size only, for the
    law of these numbers changes with it. ValueError for other than three channels or sides under 16 pixels.
    """
    if images(x, "x", LEAST_CROP).shape[1] != 3:
        raise ValueError(f"x has shape {tuple(x.shape)}; wanted three channels, (batch, 3, height, width)")
    return torch.cat([_features(part) for part in x.split(check.count(batch, "batch"))])


@dataclass(frozen=True)
class Ruler:
    """Distances from a reference set of photographs, in features whitened by that set.

    Features of one crop rise and fall together, with its contrast; what blur and noise change is how they *differ*, in
    directions in which photographs hardly vary. Whitening gives those directions the same weight as the others
    (but none whose share of the variance is under `ridge`: there is little but chance in them).
    """

    mean: Tensor
    whitening: Tensor
    reference: Tensor
    extract: Callable[[Tensor], Tensor] = photo_features

    @classmethod
    def fit(cls, reference: Tensor, extract: Callable[[Tensor], Tensor] = photo_features, ridge: float = 0.1) -> Ruler:
        """A ruler from reference images `(n, 3, height, width)`; with 2,000 crops of 32x32 it is as sharp as stated.

        `extract`: images to features `(n, d)`; n has to exceed d.
        """
        ridge, features = check.positive(ridge, "ridge"), extract(reference)
        if len(features) <= features.shape[1]:
            raise ValueError(f"reference has {len(features)} images; wanted more than the {features.shape[1]} features")
        mean, std = features.mean(0), features.std(0).clamp_min(1e-9)
        values, vectors = torch.linalg.eigh(((features - mean) / std).T.cov())
        whitening = (vectors / std[:, None]) * (values.clamp_min(0) + ridge).rsqrt()
        return cls(mean, whitening, (features - mean) @ whitening, extract)

    def features(self, x: Tensor) -> Tensor:
        """Whitened features `(n, d)` of images `(n, 3, height, width)`."""
        return (self.extract(x) - self.mean) @ self.whitening

    def frechet(self, x: Tensor) -> float:
        """Fréchet distance of images from the reference set."""
        return frechet(self.features(x), self.reference)

    def kernel(self, x: Tensor) -> float:
        """Kernel distance of images from the reference set."""
        return kernel_distance(self.features(x), self.reference)

    def measure(self, x: Tensor, distance: str = "frechet", resamples: int = 200) -> tuple[float, float]:
        """A distance of images from the reference set and its bootstrap standard error."""
        return bootstrap(distance, self.features(x), self.reference, resamples)

    def excess(
        self, damaged: Tensor, clean: Tensor, distance: str = "frechet", resamples: int = 200
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


# -- a trained network's features ---------------------------------------------------------------


def inception_features(weights: str | Path | None = None, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """A function from images `(n, 3, height, width)` to Inception-v3's 2,048 numbers, for :meth:`Ruler.fit`.

    torchvision's network trained on ImageNet (not the conversion that published FIDs use: compare within this
    library only). `weights`: its file, by default where torchvision keeps it. Nothing is downloaded:
    FileNotFoundError where the file is missing, RuntimeError where torchvision cannot be imported.
    """
    default = Path(torch.hub.get_dir()) / "checkpoints" / "inception_v3_google-0cc3c7bd.pth"
    file = Path(weights or default)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; wanted torchvision's Inception-v3 weights (104 MB)")
    try:
        from torchvision.models import inception_v3
    except (ImportError, RuntimeError, AttributeError) as error:  # torchvision and torch built for different devices
        raise RuntimeError(f"torchvision cannot be imported ({error}); the hand-made ruler does without it") from error
    network = inception_v3(weights=None, init_weights=False, aux_logits=True, transform_input=False)
    network.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
    network.fc = torch.nn.Identity()
    network.eval().to(device)

    @torch.no_grad()
    def features(x: Tensor, batch: int = 50) -> Tensor:
        parts = (F.interpolate(part.to(device), (299, 299), mode="bilinear", antialias=True) for part in x.split(batch))
        return torch.cat([network(to_float(to_uint8(part))).double().cpu() for part in parts])

    return features
