"""Numbers that tell sets of images, or of pairs of images, apart: made by hand, the same on every machine.

Log standard deviations of random filters say how much contrast there is at each scale and how fine it is. For a pair
`(x0, xT)` the same is asked of their difference, and whether their contours lie on each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _checks as check
from .data.images import to_float, to_uint8
from .data.masks import hole_of

LEAST_CROP = 16  # three scales of 3x3 filters
FILTERS = (40, 28, 20)  # at full, half and quarter size
PAIR_FILTERS = (6, 6, 6)
GREY_LEVEL = 2 / 255
SLIGHT = 8 * GREY_LEVEL
SEED = 20250203

Extract = Callable[[Tensor], Tensor]


def images(x: Tensor, name: str = "x", least: int = 1) -> Tensor:
    """`x` itself if it is a batch of images with sides of `least` pixels or more, else TypeError or ValueError."""
    check.tensor(x, name)
    if x.ndim != 4 or min(x.shape[-2:]) < least:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; wanted (batch, channel, height, width), sides >= {least}")
    return x


def colour_images(x: Tensor, name: str = "x") -> Tensor:
    """`x` itself if it is a batch of images of three channels, sides of 16 pixels or more; ValueError otherwise."""
    if images(x, name, LEAST_CROP).shape[1] != 3:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; wanted three channels, (batch, 3, height, width)")
    return x


# -- one image ----------------------------------------------------------------------------------


@cache
def _filters(scale: int) -> Tensor:
    """Random 3x3 filters over three channels, `(n, 3, 3, 3)`: zero mean in each channel (flat areas give 0), norm 1."""
    generator = torch.Generator().manual_seed(SEED + scale)
    filters = torch.randn(FILTERS[scale], 3, 3, 3, generator=generator, dtype=torch.float64)
    filters = filters - filters.mean((2, 3), keepdim=True)
    return (filters / filters.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).float()


def _mean(x: Tensor, where: Tensor | None) -> Tensor:
    """Over positions, weighted by `where` `(n, 1, height, width)`."""
    return x.mean((2, 3)) if where is None else (x * where).sum((2, 3)) / where.sum((2, 3))


def _log_std(x: Tensor, where: Tensor | None = None) -> Tensor:
    """Over positions; one grey level keeps it finite in flat areas."""
    if where is None:
        return (x.std((2, 3)) + GREY_LEVEL).log()
    return (_mean((x - _mean(x, where)[..., None, None]).square(), where).sqrt() + GREY_LEVEL).log()


def _responses(x: Tensor, filters: tuple[int, int, int]) -> list[Tensor]:
    """What the first so many filters at full, half and quarter size answer, each `(n, filters, height, width)`."""
    sizes = [x, F.avg_pool2d(x, 2), F.avg_pool2d(x, 4)]
    return [F.conv2d(one, _filters(scale)[:n].to(x.device)) for scale, (one, n) in enumerate(zip(sizes, filters))]


def contrasts(x: Tensor, filters: tuple[int, int, int] = FILTERS, where: Tensor | None = None) -> Tensor:
    """Mean and log standard deviation of each channel, log standard deviations of the filters: `(n, 6 + filters)`.

    `where`: how much each position counts, `(n, 1, height, width)`; for a filter the mean of that over what it sees.
    """
    seen = 3 * [None]
    if where is not None:
        seen = [F.avg_pool2d(F.avg_pool2d(where, 2**scale), 3, 1) for scale in range(3)]
    rows = [_mean(x, where), _log_std(x, where), *map(_log_std, _responses(x, filters), seen)]
    return torch.cat(rows, 1).double().cpu()


@torch.no_grad()
def photo_features(x: Tensor, batch: int = 100) -> Tensor:
    """94 numbers for each photograph or crop `(n, 3, height, width)`, float64 `(n, 94)` on the CPU.

    Mean and log standard deviation of each channel, log standard deviations of 40, 28 and 20 random zero-mean filters
    at full, half and quarter size. Of what a file would hold: rounded to 8 bits first. Crops of one size only, for the
    law of these numbers changes with it. ValueError for other than three channels or sides under 16 pixels.
    """
    parts = colour_images(x).split(check.count(batch, "batch"))
    return torch.cat([contrasts(to_float(to_uint8(part))) for part in parts])


@torch.no_grad()
def hole_features(x: Tensor, xT: Tensor, batch: int = 100) -> Tensor:
    """The 94 numbers of :func:`photo_features` for what fills the hole of `xT` alone, `(n, 94)` likewise.

    Of pictures of which three quarters are copied, those of the whole hardly see the rest. `x`, `xT`:
    `(n, 3, height, width)`. ValueError for shapes that differ, or where a source has no hole (`masks.hole_of`).
    """
    check.same(colour_images(x), xT, "x", "xT")
    holes = hole_of(xT)
    if not bool((holes.sum((1, 2, 3)) > 0).all()):
        raise ValueError("xT has pictures without a hole; wanted some pixels of each hidden, at 0")
    parts = zip(x.split(check.count(batch, "batch")), holes.split(batch))
    return torch.cat([contrasts(to_float(to_uint8(part)), where=hole) for part, hole in parts])


# -- grain --------------------------------------------------------------------------------------

GRAIN = (0.1, 0.3, 0.5)  # quantiles


def _fine(x: Tensor, where: Tensor | None) -> Tensor:
    """By how much each pixel of files differs from its neighbours' binomial mean, `(n, 3, height, width)`; NaN where
    `where` is 0."""
    x, line = to_float(to_uint8(colour_images(x))), torch.tensor([0.25, 0.5, 0.25], device=x.device)
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    fine = (x - F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=3)).abs()
    return fine if where is None else torch.where(where > 0, fine, torch.nan)


@torch.no_grad()
def grain(x: Tensor, where: Tensor | None = None) -> Tensor:
    """How fine the evenest parts of each picture are, 9 numbers, float64 on the CPU, `(n, 9)`.

    For each channel the logarithms of three quantiles (10, 30 and 50%) over positions of how far a pixel is from its
    neighbours' mean. Standard deviations are made by the contours and do not hear a grain of one or two grey levels;
    quantiles do, for it leaves no position even. `where`: the positions that count, `(n, 1, height, width)` above 0.
    """
    found = _fine(x, where).flatten(2).nanquantile(torch.tensor(GRAIN, device=x.device), 2)
    return (found.permute(1, 2, 0).flatten(1) + GREY_LEVEL / 4).log().double().cpu()


@torch.no_grad()
def fine_features(x: Tensor, batch: int = 100) -> Tensor:
    """:func:`photo_features` and the :func:`grain`, `(n, 103)` likewise."""
    return torch.cat([photo_features(x, batch), torch.cat([grain(part) for part in x.split(batch)])], 1)


@torch.no_grad()
def fine_hole_features(x: Tensor, xT: Tensor, batch: int = 100) -> Tensor:
    """:func:`hole_features` and the grain of what fills the hole, `(n, 103)` likewise."""
    parts = zip(x.split(batch), hole_of(xT).split(batch))
    return torch.cat([hole_features(x, xT, batch), torch.cat([grain(*part) for part in parts])], 1)


@torch.no_grad()
def smooth(x: Tensor, xT: Tensor | None = None) -> Tensor:
    """Whether most of a picture is even, `(n,)`, float64: 1 where the median of how far a pixel is from its neighbours'
    mean is under one grey level, else 0. With `xT`: of what fills its hole."""
    fine = _fine(x, None if xT is None else hole_of(xT))
    return (fine.flatten(1).nanmedian(1).values < GREY_LEVEL).double().cpu()


# -- a pair -------------------------------------------------------------------------------------


def _shares(f: Tensor, g: Tensor) -> Tensor:
    """Contrast of the difference of two answers over the sum of theirs, `(n, k)`: 0 for equal ones, 1 for opposite."""
    both = f.std((2, 3)) + g.std((2, 3)) + SLIGHT
    return (f - g).std((2, 3)) / both


def _together(f: Tensor, g: Tensor) -> Tensor:
    """Whether two energies are large at the same places: log of `E[f² g²] / (E f² E g²)` over positions, `(n, k)`."""
    f, g = f.square() + GREY_LEVEL**2, g.square() + GREY_LEVEL**2
    return ((f * g).mean((2, 3)) / (f.mean((2, 3)) * g.mean((2, 3)))).log()


def _correlations(x: Tensor, y: Tensor) -> Tensor:
    """Correlation over positions of every channel of `x` with every one of `y`, `(n, 9)`; flat ones have none."""
    x, y = (one.flatten(2) - one.flatten(2).mean(2, keepdim=True) for one in (x, y))
    scale = (x.square().mean(2) + GREY_LEVEL**2)[:, :, None] * (y.square().mean(2) + GREY_LEVEL**2)[:, None]
    return (x @ y.mT / x.shape[2] / scale.sqrt()).flatten(1)


def agreement(x0: Tensor, xT: Tensor) -> Tensor:
    """48 numbers that say how the two images of each pair agree, position by position: float64 on the CPU, `(n, 48)`.

    Mean difference of each channel; correlations of the channels; for six filters each at full, half and quarter size
    the contrast of the difference, and whether contours lie on contours, whatever their sign.
    """
    answers = list(zip(_responses(x0, PAIR_FILTERS), _responses(xT, PAIR_FILTERS)))
    rows = [(x0 - xT).mean((2, 3)), _correlations(x0, xT), *(_shares(*both) for both in answers)]
    return torch.cat([*rows, *(_together(*both) for both in answers)], 1).double().cpu()


@torch.no_grad()
def pair_features(x0: Tensor, xT: Tensor, extract: Extract = photo_features, batch: int = 100) -> Tensor:
    """Features of pairs `(n, 3, height, width)` twice: `extract(x0)`, and 48 of how `x0` lies on `xT`, float64.

    `x0` is rounded to 8 bits first, `xT` taken as it is. ValueError for other than three channels or different shapes.
    """
    check.same(colour_images(x0, "x0"), xT, "x0", "xT")
    check.finite(xT, "xT")
    parts = zip(*(one.split(check.count(batch, "batch")) for one in (x0, xT)))
    return torch.cat([extract(x0), torch.cat([agreement(to_float(to_uint8(a)), b) for a, b in parts])], 1)


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
