"""The couplings of the image tasks: where pairs `(x0, xT)` come from, a batch at a time.

Every coupling has `sample(n, draws)`, which gives `(x0, xT)`, float32 `(n, 3, size, size)` in [-1, 1], and `halves()`,
two couplings that share no picture: one to measure with, one to measure. `words` go onto a card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from .. import _checks as check
from .._files import write_whole
from .._random import Draws, draw
from .corruptions import corrupt
from .images import cropped_from, random_crops, to_float, to_uint8
from .solids import SPLITS, solids

SOURCES = ("lines", "normals")
AT_ONCE = 256


@dataclass(frozen=True)
class Photographs:
    """Crops of `size` pixels from photographs, uint8 `(3, height, width)`, and what a corruption makes of them."""

    images: Sequence[Tensor]
    corruption: str
    size: int = 32
    words: str = ""

    def sample(self, n: int, draws: Draws | torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """`n` pairs: image, place, mirroring and a random corruption's own numbers all come from `draws`."""
        x0 = random_crops(self.images, n, self.size, draws)
        return x0, corrupt(self.corruption, x0, draws)

    def rows(self, n: int, draws: Draws | torch.Generator | None = None) -> Tensor:
        """Which photograph each of the `n` pairs of :meth:`sample` comes from, int64 `(n,)`."""
        return cropped_from(len(self.images), n, draws)

    def halves(self) -> tuple[Photographs, Photographs]:
        """Every second photograph, and the others."""
        return replace(self, images=self.images[0::2]), replace(self, images=self.images[1::2])


@dataclass(frozen=True)
class Renderings:
    """Rendered *solids*, uint8: pictures `x0` `(n, 3, size, size)`, sources `xT` `(n, 1 or 3, ...)`, classes `(n,)`."""

    x0: Tensor
    xT: Tensor
    label: Tensor
    words: str = ""

    def __len__(self) -> int:
        return len(self.x0)

    def rows(self, n: int, draws: Draws | torch.Generator | None = None) -> Tensor:
        """Which `n` pairs :meth:`sample` takes, no pair twice; ValueError for more than there are."""
        if check.count(n, "n") > len(self):
            raise ValueError(f"n is {n} and there are {len(self)} renderings; wanted at most as many")
        return draw(torch.rand, (len(self),), torch.empty(0, dtype=torch.float64), draws).argsort()[:n]

    def sample(self, n: int, draws: Draws | torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """`n` pairs, no pair twice; a line drawing is repeated in all three channels."""
        rows = self.rows(n, draws)
        return to_float(self.x0[rows]), to_float(self.xT[rows]).expand(-1, 3, -1, -1).contiguous()

    def halves(self) -> tuple[Renderings, Renderings]:
        """Every second rendering, and the others."""
        x0, xT, label = self.x0, self.xT, self.label
        return tuple(replace(self, x0=x0[k::2], xT=xT[k::2], label=label[k::2]) for k in (0, 1))


@dataclass(frozen=True)
class Mixture:
    """Several couplings side by side: row `i` of a batch comes from `parts[label[i]]`, the labels drawn evenly."""

    parts: Sequence[Photographs]

    @property
    def words(self) -> str:
        """Those of the parts, each once."""
        return "; ".join(dict.fromkeys(part.words for part in self.parts))

    def sample(self, n: int, draws: Draws | torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """`(x0, xT, label)`, label int64 `(n,)`."""
        numbers = draw(torch.rand, (check.count(n, "n"),), torch.empty(0, dtype=torch.float64), draws)
        label = (numbers * len(self.parts)).long().sort().values
        counts = label.bincount(minlength=len(self.parts)).tolist()
        pairs = [part.sample(count, draws) for part, count in zip(self.parts, counts) if count]
        x0, xT = (torch.cat(images) for images in zip(*pairs))
        return x0, xT, label


def rendered(source: str, split: str, n: int, size: int = 64, folder: Path | str | None = None) -> Renderings:
    """The first `n` solids of a split with their "lines" or "normals" as `xT`.

    Some 7 ms of one core each at 64 pixels. `folder`: where they are kept for the next time (7 bytes a pixel), None for
    nowhere. ValueError for another source or split.
    """
    check.choice(source, "source", SOURCES), check.choice(split, "split", SPLITS), check.count(n, "n")
    path = None if folder is None else Path(folder) / f"{split}-{size}-{n}.safetensors"
    if path is not None and not path.exists():
        write_whole(path, save(_render(split, n, size)))
    words = f"{n} solids of {size}x{size} ({split})"
    if path is None:
        kept = _render(split, n, size)
        return Renderings(kept["image"], kept[source], kept["label"], words)
    with safe_open(path, "pt") as kept:
        return Renderings(*(kept.get_tensor(name) for name in ("image", source, "label")), words)


def _render(split: str, n: int, size: int) -> dict[str, Tensor]:
    parts = []
    for start in range(0, n, AT_ONCE):
        made = solids(range(start, min(start + AT_ONCE, n)), size, split=split)
        parts.append({name: to_uint8(getattr(made, name)) for name in ("image", *SOURCES)} | {"label": made.label})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
