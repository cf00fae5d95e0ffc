"""Photographs: read and written whatever their format, loaded by name, cut into random crops.

An image on the disk or in a data set is a `(3, height, width)` uint8 tensor; a network sees `(batch, 3, height,
width)` float32 in [-1, 1]. :func:`to_float` and :func:`to_uint8` lead from one to the other.
"""

from __future__ import annotations

import importlib.util
import io
import struct
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, reduce
from PIL import Image, ImageOps
from torch import Tensor

from .. import _checks as check
from .._files import write_whole
from .._random import Draws, draw
from . import download as archive

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
LEAST_SIDE = 8
SPLITS = ("train", "test")

# What scikit-image ships inside its wheel: photographs only, whole photographs on one side of the split or the
# other (the two motorcycles are one scene seen by two cameras).
PHOTOS = {
    "train": ("astronaut", "brick", "camera", "coffee", "grass", "motorcycle_left", "motorcycle_right"),
    "test": ("chelsea", "coins", "gravel", "rocket"),
}

# What Pillow raises for damaged files, besides its own UnidentifiedImageError (an OSError).
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)


# -- numbers ------------------------------------------------------------------------------------


def to_float(image: Tensor) -> Tensor:
    """uint8 0..255 as float32 in [-1, 1], any shape; TypeError for another dtype."""
    if not isinstance(image, Tensor) or image.dtype != torch.uint8:
        raise TypeError(f"image is {getattr(image, 'dtype', type(image).__name__)}; wanted a uint8 tensor")
    return image.float() / 127.5 - 1


def to_uint8(image: Tensor) -> Tensor:
    """Floats in [-1, 1] as uint8, rounded to the nearest and clamped, any shape; ValueError for NaN and infinity."""
    if not isinstance(image, Tensor) or not image.is_floating_point():
        raise TypeError(f"image is {getattr(image, 'dtype', type(image).__name__)}; wanted a floating-point tensor")
    check.finite(image, "image")
    return ((image.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def halve(image: Tensor) -> Tensor:
    """A `(3, H, W)` uint8 image at half its size, each pixel the mean of 2x2; an odd last row or column is cropped.

    Averaging removes most of what JPEG compression left in the finest detail.
    """
    height, width = (side // 2 * 2 for side in image.shape[-2:])
    mean = reduce(image[:, :height, :width].float(), "c (h p) (w q) -> c h w", "mean", p=2, q=2)
    return mean.round().to(torch.uint8)


# -- one file -----------------------------------------------------------------------------------


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit greyscale scaled to 8 bits; floating-point and 32-bit pixels, whose range nobody states, are refused."""
    if not image.mode.startswith(("I", "F")):
        return image
    pixels = np.asarray(image)
    if image.mode == "F" or pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError("has floating-point or 32-bit pixels; wanted 8 or 16 bits")
    return Image.fromarray(np.round(pixels / 257).astype(np.uint8))


def _rgb(image: Image.Image) -> Image.Image:
    """Three equal channels for grey; transparent pixels over white; palettes, CMYK and the rest converted."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return _eight_bits(image).convert("RGB")


def read_image(path: str | Path, least: int = LEAST_SIDE) -> Tensor:
    """The image in a file, uint8 `(3, height, width)`, whatever Pillow reads, turned as its EXIF data say.

    Greyscale becomes three equal channels, 16 bits become 8, transparency is composited on white, of an animation
    the first frame is taken. FileNotFoundError where there is no such file; ValueError, naming the file, for one that
    is empty, truncated, not an image, smaller than `least` pixels on a side, or of more pixels than Pillow opens
    without a warning, 89 millions: `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is {'a folder' if path.is_dir() else 'not there'}; wanted an image file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); wanted an image file")
    try:
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(path) as image,
        ):
            pixels = np.array(_rgb(ImageOps.exif_transpose(image)))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        most = Image.MAX_IMAGE_PIXELS // 10**6
        raise ValueError(f"{path} has more than {most} million pixels; wanted a smaller photograph") from None
    except DAMAGED as error:
        reason = "is no image that Pillow knows" if isinstance(error, Image.UnidentifiedImageError) else f"({error})"
        raise ValueError(f"{path} cannot be read, {reason}; wanted a whole image file") from error
    if min(pixels.shape[:2]) < least:
        raise ValueError(f"{path} is {pixels.shape[1]}x{pixels.shape[0]} pixels; wanted {least} or more on each side")
    return rearrange(torch.from_numpy(pixels), "h w c -> c h w").contiguous()


def write_image(path: str | Path, image: Tensor) -> Path:
    """Write a `(3, height, width)` image, uint8 or floats in [-1, 1], as PNG, or as JPEG if the suffix says so.

    A path without a suffix gets `.png`; the path written is returned. The file appears whole or not at all: a
    full disk or an interrupt leaves what was there before. ValueError for another suffix or shape.
    """
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".png")
    check.choice(path.suffix.lower(), "the suffix of path", WRITTEN)
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ValueError(f"image is {tuple(getattr(image, 'shape', ()))}; wanted a tensor of shape (3, height, width)")
    image = image if image.dtype == torch.uint8 else to_uint8(image)
    pixels = Image.fromarray(rearrange(image.cpu(), "c h w -> h w c").numpy())
    stream = io.BytesIO()
    pixels.save(stream, format=WRITTEN[path.suffix.lower()], quality=95)
    write_whole(path, stream.getvalue())
    return path


def image_files(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Files as given, and the images directly inside folders as given, each folder's sorted by name.

    FileNotFoundError for a path that is not there or a folder without images, ValueError for an empty list.
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not paths:
        raise ValueError("no paths given; wanted image files or folders of images")
    files = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there; wanted an image file or a folder of images")
        found = _inside(path) if path.is_dir() else [path]
        if not found:
            raise FileNotFoundError(f"{path} holds no images; wanted files ending in {', '.join(SUFFIXES)}")
        files += found
    return files


def _inside(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )


# -- data sets by name --------------------------------------------------------------------------


def _bsds500_files(split: str, root: str | Path | None) -> list[Path]:
    """Train is the archive's train and val (200 + 100 photographs), test its test (200)."""
    folder = archive.data_folder(root) / archive.IMAGES
    files = []
    for part in ("train", "val") if split == "train" else ("test",):
        found = sorted((folder / part).glob("*.jpg"))
        if len(found) != archive.COUNTS[part]:
            raise FileNotFoundError(archive.missing(folder / part, len(found), archive.COUNTS[part]))
        files += found
    return files


def _photo_files(split: str, root: str | Path | None = None) -> list[Path]:
    """scikit-image's photographs, found without importing it: nothing is ever downloaded."""
    folder = Path(importlib.util.find_spec("skimage").submodule_search_locations[0]) / "data"
    files = [next(folder.glob(f"{name}.*"), folder / name) for name in PHOTOS[split]]
    return image_files(files)


LOADERS = {"bsds500": _bsds500_files, "photos": _photo_files}


def load(name: str | Path, split: str = "train", root: str | Path | None = None, half: bool = False) -> list[Tensor]:
    """Photographs by name, a list of uint8 tensors `(3, height, width)`, in the order of their file names.

    `name`: "bsds500" (300 to train, 200 to test), "photos" (those inside scikit-image's wheel, for a machine
    without data), or a folder of images; a folder's own subfolder called like the split is used where there is one,
    otherwise the same images serve both splits. `root`: the folder that holds BSDS500, see `download.data_folder`.
    `half`: at half size, see :func:`halve`. FileNotFoundError, with what to type, where the data are missing;
    ValueError for an unknown name or split.
    """
    check.choice(split, "split", SPLITS)
    if name in LOADERS:
        files = LOADERS[name](split, root)
    elif Path(name).is_dir():
        files = image_files(Path(name) / split if (Path(name) / split).is_dir() else name)
    else:
        raise ValueError(f"name is {str(name)!r}; wanted one of {', '.join(LOADERS)}, or a folder of images")
    images = [read_image(file) for file in files]
    return [halve(image) for image in images] if half else images


def training_photographs(
    split: str = "train", root: str | Path | None = None, half: bool = False
) -> tuple[list[Tensor], str]:
    """BSDS500's photographs, or scikit-image's where BSDS500 is missing, and a sentence that says which."""
    try:
        images = load("bsds500", split, root, half)
        return images, f"{len(images)} photographs of BSDS500 ({split})"
    except FileNotFoundError as missing:
        images = load("photos", split, half=half)
        return images, f"only the {len(images)} photographs ({split}) that scikit-image ships: {missing}"


# -- crops --------------------------------------------------------------------------------------


def _places(n: int, draws: Draws | torch.Generator | None) -> Tensor:
    """Four numbers in [0, 1) for each crop, float64 `(n, 4)`: which image, how far down, how far across, mirrored."""
    return draw(torch.rand, (n, 4), torch.empty(0, dtype=torch.float64), draws)


def cropped_from(images: int, n: int, draws: Draws | torch.Generator | None) -> Tensor:
    """Which of so many images each of :func:`random_crops`' n crops comes from at the same draws, int64 `(n,)`."""
    return (_places(n, draws)[:, 0] * images).long()


def random_crops(images: Sequence[Tensor], n: int, size: int, draws: Draws | torch.Generator | None = None) -> Tensor:
    """`n` square crops, float32 `(n, 3, size, size)` in [-1, 1]: image, place and mirroring drawn uniformly.

    `images`: uint8 tensors `(3, height, width)`. Four uniform numbers a crop, all from `draws`: with
    `Draws.at(seed, step)` a batch is a function of `(seed, step)`, and a part of it has the rows of the whole.
    ValueError for an image smaller than `size`.
    """
    n, size = check.count(n, "n"), check.count(size, "size")
    if not len(images):
        raise ValueError("images is empty; wanted uint8 tensors of shape (3, height, width)")
    small = next((image for image in images if image.shape[1] < size or image.shape[2] < size), None)
    if small is not None:
        raise ValueError(f"an image is {small.shape[1]}x{small.shape[2]} pixels; wanted {size} or more on each side")
    crops = []
    for which, down, across, mirror in _places(n, draws).tolist():
        image = images[int(which * len(images))].numpy()  # a view: slices and mirrors cost less than in torch
        top, left = int(down * (image.shape[1] - size + 1)), int(across * (image.shape[2] - size + 1))
        crop = image[:, top : top + size, left : left + size]
        crops.append(crop[..., ::-1] if mirror < 0.5 else crop)
    return to_float(torch.from_numpy(np.stack(crops)))
