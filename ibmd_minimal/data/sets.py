"""Every data set behind one function, :func:`data_set`, each with a card: what it is, how large, under which licence.

An item is what the rest of the library calls an image, uint8 `(3, height, width)`, or a pair `(x0, xT)` of two such
images of one size. Nothing is downloaded: what is missing is answered with the line to type.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from .. import _checks as check
from . import solids as rendered
from .cards import cards, how_to_get
from .download import data_folder
from .images import LEAST_SIDE, SPLITS, image_files, load, read_image, to_uint8

TORCHVISION = {"fashion-mnist": "FashionMNIST", "cifar-10": "CIFAR10", "celeba": "CelebA"}
PARTS = {"train": ("train",), "test": ("test", "val")}  # the folders that serve a split: the first that is there
PAIRS = (("x0", "xT"), ("B", "A"), ("target", "source"), ("clean", "corrupted"), ("rgb", "normals"))
SOLIDS = {"train": 50_000, "test": 10_000}  # how many are counted: there is no end to them


@dataclass(frozen=True)
class DataSet:
    """What :func:`data_set` returns: `len(data)` items, each read or drawn when it is asked for.

    `data[i]` is `x0` or `(x0, xT)`, uint8 `(3, height, width)`; `data[a:b]` is a list of them. `card`: what it is, its
    size, licence and citation. `classes`: their names where the items have labels, else empty.
    """

    name: str
    split: str
    card: str
    keys: Sequence = field(repr=False)  # what `read` makes an item of: a file, two files, an index
    read: Callable[[Any], Tensor | tuple[Tensor, Tensor]] = field(repr=False)
    size: int | None = None
    classes: tuple[str, ...] = field(default=(), repr=False)
    label_of: Callable[[int], int] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        item = self.read(self.keys[range(len(self))[index]])
        if self.size is None:
            return item
        return scaled(item, self.size) if isinstance(item, Tensor) else tuple(scaled(x, self.size) for x in item)

    def label(self, index: int) -> int:
        """The class of an item, an index into `classes`; ValueError for a set without labels."""
        if self.label_of is None:
            raise ValueError(f"{self.name} has no labels; solids, fashion-mnist, cifar-10 and imagenet have")
        return int(self.label_of(range(len(self))[index]))


def data_set(
    name: str | Path,
    split: str = "train",
    root: str | Path | None = None,
    size: int | None = None,
    source: str | None = None,
    side_by_side: bool = False,
) -> DataSet:
    """A data set by name, or by the path of a folder, as a :class:`DataSet`; its `card` says what it is.

    Images `x0`: "photos", "bsds500", "fashion-mnist", "cifar-10", "celeba", "imagenet". Pairs `(x0, xT)`: "solids"
    (`source` "lines" or "normals": which is xT; 64 pixels unless `size` says otherwise), "edges2handbags", "diode".
    A folder: its subfolder called like the split, where there is one ("val" serves "test" too), else itself, holds
    images, or two subfolders of :data:`PAIRS` with equal file names, or, with `side_by_side`, images whose left half
    is xT and whose right half is x0.

    `split`: "train" or "test". `root`: where the sets lie, see `download.data_folder`. `size`: squares of that many
    pixels, see :func:`scaled`; None leaves images as they are. FileNotFoundError where data are missing, with where to
    get them, how large they are and what to type; ValueError for an unknown name (with the nearest), split, source or
    size, and for files without partner; RuntimeError where torchvision is wanted and cannot be imported.
    """
    check.choice(split, "split", SPLITS)
    if size is not None and check.count(size, "size") < LEAST_SIDE:
        raise ValueError(f"size is {size}; wanted {LEAST_SIDE} pixels or more, or None")
    if source is not None and name != "solids":
        raise ValueError(f"source is {source!r} for {name}; only solids have a choice of xT")
    if name in cards():
        if side_by_side:
            raise ValueError(f"side_by_side is for folders by path; {name} knows its own layout")
        source = check.choice(source or "lines", "source", ("lines", "normals"))
        return DataSet(name, split, cards()[name], size=size, **_known(name, split, data_folder(root), size, source))
    folder = _own(name)
    found = _folder(_part(folder, split) or folder, side_by_side)
    what = f"{len(found['keys'])} {'images' if found['read'] is read_image else 'pairs of images'} in a folder"
    card = f"{folder.name}: {what}. Size: as found. Licence: as their source states. Cite: their source."
    return DataSet(str(name), split, card, size=size, **found)


def _own(name: str | Path) -> Path:
    """The reader's own folder, or the refusal of what is neither a name nor a folder."""
    if not isinstance(name, (str, Path)):
        raise TypeError(f"name is a {type(name).__name__}; wanted a name or the path of a folder")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    near = difflib.get_close_matches(str(name).lower(), cards(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    wrong = FileNotFoundError if isinstance(name, Path) or len(folder.parts) > 1 else ValueError
    raise wrong(f"name is {str(name)!r}; wanted one of {', '.join(cards())}, or a folder that is there{hint}")


# -- an item ---------------------------------------------------------------------------------------


def scaled(image: Tensor, size: int) -> Tensor:
    """The middle square of an image `(3, h, w)`, its shorter side brought to `size` by antialiased bicubics; uint8."""
    sides = list(image.shape[1:])
    new = [round(side * size / min(sides)) for side in sides]
    if new != sides:
        image = F.interpolate(image[None].float(), new, mode="bicubic", antialias=True)[0]
    top, left = ((side - size) // 2 for side in new)
    return image[:, top : top + size, left : left + size].round().clamp(0, 255).to(torch.uint8).contiguous()


def _solid(index: int, split: str, size: int, source: str) -> tuple[Tensor, Tensor]:
    one = rendered.solids([index], size, split=split)
    return to_uint8(one.image[0]), to_uint8(getattr(one, source)[0]).expand(3, -1, -1).contiguous()


def _solid_label(index: int, split: str) -> int:
    return int(rendered.labels([index], split=split))


def _from_pillow(item: tuple[Image.Image, Any]) -> Tensor:
    return rearrange(torch.from_numpy(np.array(item[0].convert("RGB"))), "h w c -> c h w").contiguous()


def _halves(file: Path) -> tuple[Tensor, Tensor]:
    image = read_image(file)
    if image.shape[2] % 2:
        raise ValueError(f"{file} is {image.shape[2]} pixels wide; wanted an even width, xT left and x0 right")
    xT, x0 = image.chunk(2, 2)
    return x0.contiguous(), xT.contiguous()


def _two(files: tuple[Path, Path]) -> tuple[Tensor, Tensor]:
    x0, xT = (_normals(file) if file.suffix == ".npy" else read_image(file) for file in files)
    if x0.shape != xT.shape:
        raise ValueError(f"{files[0]} is {tuple(x0.shape)} and {files[1]} {tuple(xT.shape)}; wanted one shape")
    return x0, xT


def _normals(file: Path) -> Tensor:
    """Unit vectors `(height, width, 3)` as an image: x, y, z in red, green, blue, and grey where none was measured."""
    try:
        vectors = torch.from_numpy(np.load(file, allow_pickle=False)).float()
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise ValueError(f"{file} cannot be read ({error}); wanted an array of unit vectors") from error
    if vectors.ndim != 3 or vectors.shape[2] != 3 or not bool((vectors.abs() <= 1.01).all()):  # NaN is refused as well
        raise ValueError(f"{file} holds {tuple(vectors.shape)}; wanted unit vectors of shape (height, width, 3)")
    return to_uint8(rearrange(vectors, "h w c -> c h w").contiguous())


# -- where the items are ---------------------------------------------------------------------------


def _part(folder: Path, split: str) -> Path | None:
    return next((folder / part for part in PARTS[split] if (folder / part).is_dir()), None)


def _by_stem(files: Sequence[Path], ending: str = "") -> dict[str, Path]:
    found = {file.stem.removesuffix(ending): file for file in files}
    if len(found) < len(files):
        raise ValueError(f"{len(files)} files in {files[0].parent} have {len(found)} names; wanted each name once")
    return found


def _matched(x0: dict[str, Path], xT: dict[str, Path]) -> list[tuple[Path, Path]]:
    alone = sorted(x0.keys() ^ xT.keys())
    if alone:
        files = {**x0, **xT}
        raise ValueError(f"{files[alone[0]]} has no partner ({len(alone)} such files); wanted x0 and xT of one name")
    return [(x0[name], xT[name]) for name in sorted(x0)]


def _folder(folder: Path, side_by_side: bool = False) -> dict[str, Any]:
    """Two subfolders of pairs where :data:`PAIRS` names them; else the images directly inside."""
    for names in PAIRS:
        if all((folder / name).is_dir() for name in names):
            return {"keys": _matched(*(_by_stem(image_files(folder / name)) for name in names)), "read": _two}
    return {"keys": image_files(folder), "read": _halves if side_by_side else read_image}


def _diode(folder: Path) -> dict[str, Any]:
    """NAME.png with NAME_normal.npy or NAME_normal.png, at any depth; or two subfolders, rgb and normals."""
    if all((folder / name).is_dir() for name in PAIRS[-1]):
        return _folder(folder)
    files = sorted(file for file in folder.rglob("*.*") if not file.name.startswith("."))
    normals = [file for file in files if file.name.endswith(("_normal.npy", "_normal.png"))]
    photographs = [file for file in files if file.suffix == ".png" and not file.stem.endswith(("_normal", "_depth"))]
    if not normals or not photographs:
        raise FileNotFoundError(f"{folder} holds {len(photographs)} photographs and {len(normals)} maps of normals")
    return {"keys": _matched(_by_stem(photographs), _by_stem(normals, "_normal")), "read": _two}


def _classes(folder: Path) -> dict[str, Any]:
    """One subfolder a class, in the order of their names."""
    classes = sorted(part for part in folder.iterdir() if part.is_dir() and not part.name.startswith("."))
    files = [(file, label) for label, part in enumerate(classes) for file in image_files(part)]
    if not files:
        raise FileNotFoundError(f"{folder} holds no folders of images")
    keys, labels = zip(*files)
    return {"keys": keys, "read": read_image, "classes": tuple(x.name for x in classes), "label_of": labels.__getitem__}


FOLDERS = {"edges2handbags": partial(_folder, side_by_side=True), "diode": _diode, "imagenet": _classes}


def _torchvision(name: str, split: str, root: Path) -> dict[str, Any]:
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError, AttributeError) as error:  # torchvision and torch built for different devices
        wanted = f"wanted the torchvision made for this torch, and then, for the data, {how_to_get(name, root)}"
        raise RuntimeError(f"torchvision, which reads {name}, cannot be imported ({error}); {wanted}") from error
    which = {"split": split} if name == "celeba" else {"train": split == "train"}
    try:
        found = getattr(datasets, TORCHVISION[name])(str(root), download=False, **which)
    except (RuntimeError, OSError) as error:
        raise FileNotFoundError(f"{name} is not in {root}, or not whole") from error
    labels = {} if name == "celeba" else {"classes": tuple(found.classes), "label_of": found.targets.__getitem__}
    return {"keys": found, "read": _from_pillow} | labels


def _in_root(name: str, split: str, root: Path) -> dict[str, Any]:
    """A set that lies in the data folder; where it does not, the sentence that says what to type."""
    try:
        if name in TORCHVISION:
            return _torchvision(name, split, root)
        part = _part(root / name, split)
        if part is None:
            raise FileNotFoundError(f"{root / name / PARTS[split][-1]} is not there")
        return FOLDERS[name](part)
    except FileNotFoundError as lack:
        raise FileNotFoundError(f"{lack}: {how_to_get(name, root)}") from lack


def _known(name: str, split: str, root: Path, size: int | None, source: str) -> dict[str, Any]:
    if name == "solids":
        read = partial(_solid, split=split, size=size or 64, source=source)
        label = partial(_solid_label, split=split)
        return {"keys": range(SOLIDS[split]), "read": read, "classes": rendered.CLASSES, "label_of": label}
    if name in ("photos", "bsds500"):
        return {"keys": load(name, split, root), "read": torch.clone}
    return _in_root(name, split, root)
