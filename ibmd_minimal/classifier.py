"""A small classifier of *solids*: how often a picture shows what was asked for, and features that see its shading.

Trained on the renderer's pictures in minutes (`python -m ibmd_minimal.classifier`), shipped in half precision with a
card. It learns two things at once: the class, and how a picture was treated (not at all, shading weakened, channels
permuted, blurred, noisy). The second keeps its features from being read off silhouettes alone.
"""

from __future__ import annotations

import json
import time
from functools import cache, partial
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from . import _checks as check
from ._random import Draws
from .checkpoints import checksum, machine, verified, weights_of, write_together
from .data.blurs import blur_gaussian
from .data.images import to_float, to_uint8
from .data.solids import CLASSES, solids
from .distances import paired_excess
from .features import GREY_LEVEL, colour_images, contrasts
from .metrics import Ruler, blur, noise
from .training import Batches, Learner

STEM = Path(__file__).resolve().parents[1] / "assets" / "rulers" / "solids"
SIZE = 64
HAND_MADE = (10, 6, 4)  # filters at full, half and quarter size
LAYERS = ((3, 32, 5, 2), (32, 48, 3, 1), (48, 64, 3, 2), (64, 64, 3, 1), (64, 128, 3, 2), (128, 96, 3, 1))
MIDDLE = 4  # layers to a quarter of the size, whose 64 means over positions are features
PENULTIMATE = 32
TREATMENTS = ("none", "shading weakened", "channels permuted", "blurred", "noisy")


class Classifier(nn.Module):
    """Six convolutions, three of stride 2, then means over positions: 0.3 M parameters.

    `forward` gives logits of class `(n, 6)` and of treatment `(n, 5)`. `training`: with batch norms, which
    :func:`fused` makes part of the convolutions.
    """

    def __init__(self, training: bool = False):
        super().__init__()
        layers = [_layer(*layer, training) for layer in LAYERS]
        self.fine, self.coarse = nn.Sequential(*layers[:MIDDLE]), nn.Sequential(*layers[MIDDLE:])
        self.penultimate = nn.Linear(LAYERS[-1][1], PENULTIMATE)
        self.label = nn.Linear(PENULTIMATE, len(CLASSES))
        self.treatment = nn.Linear(LAYERS[MIDDLE - 1][1] + PENULTIMATE, len(TREATMENTS))

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means over positions half-way `(n, 64)` and the last hidden layer `(n, 32)` of images in [-1, 1]."""
        fine = self.fine(x)
        return fine.mean((2, 3)), F.silu(self.penultimate(self.coarse(fine).mean((2, 3))))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        middle, last = self.features(x)
        return self.label(last), self.treatment(torch.cat([middle, last], 1))


def _layer(inputs: int, outputs: int, size: int, stride: int, training: bool) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2)
    return nn.Sequential(convolution, *([nn.BatchNorm2d(outputs)] if training else []), nn.ReLU(inplace=True))


def fused(trained: Classifier) -> Classifier:
    """The same function without batch norms: their means and scales are the convolutions' from now on."""
    plain, trained = Classifier(), trained.eval()
    for name in ("penultimate", "label", "treatment"):
        getattr(plain, name).load_state_dict(getattr(trained, name).state_dict())
    for part in ("fine", "coarse"):
        for layer, (convolution, norm, _) in zip(getattr(plain, part), getattr(trained, part)):
            layer[0].load_state_dict(fuse_conv_bn_eval(convolution, norm).state_dict())
    return plain.eval().requires_grad_(False)


# -- training -----------------------------------------------------------------------------------


class Pictures(NamedTuple):
    """What is rendered once: with and without shading, uint8, `(n, 3, 64, 64)`, and the labels `(n,)`."""

    shaded: Tensor
    flat: Tensor
    label: Tensor


def render(n: int, seed: int = 0, split: str = "train") -> Pictures:
    """The first `n` pictures of a split, twice; some 11 ms of one core each."""
    parts = [range(start, min(start + 500, n)) for start in range(0, check.count(n, "n"), 500)]
    shaded = [solids(part, SIZE, seed, split) for part in parts]
    flat = [to_uint8(solids(part, SIZE, seed, split, shading=False).image) for part in parts]
    return Pictures(
        torch.cat([to_uint8(s.image) for s in shaded]), torch.cat(flat), torch.cat([s.label for s in shaded])
    )


def treated(shaded: Tensor, flat: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch `(n, 3, 64, 64)` in five parts, one for each of TREATMENTS, and which was done to each row.

    Strengths are random: 0 to 70 % of the shading is left, a blur has 0.4 to 1.5 pixels, noise 2 to 12 levels of 255.
    """

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    rows = [len(part) for part in shaded.chunk(len(TREATMENTS))]
    as_it_is, strong, colours, sharp, clean = shaded.split(rows)
    plain = flat.split(rows)[1]
    order = list(permutations(range(3)))[1 + int(between(0, 5))]
    z = torch.randn(clean.shape, generator=generator)
    weak, blurred = plain + between(0, 0.7) * (strong - plain), blur_gaussian(sharp, 7, between(0.4, 1.5))
    parts = [as_it_is, weak, colours[:, list(order)], blurred, clean + between(2, 12) * GREY_LEVEL * z]
    return torch.cat(parts).clamp(-1, 1), torch.arange(len(rows)).repeat_interleave(torch.tensor(rows))


def _loss(network: Classifier, x: Tensor, label: Tensor, treatment: Tensor) -> Tensor:
    of_label, of_treatment = network(x)
    return F.cross_entropy(of_label, label) + F.cross_entropy(of_treatment, treatment)


def train_classifier(
    pictures: Pictures | None = None, steps: int = 1200, batch: int = 80, lr: float = 2e-3, seed: int = 0
) -> Classifier:
    """Train from nothing, the same for the same seed and machine; about ten minutes of one core by default.

    `pictures`: of the training split, 8,000 rendered if None.
    """
    pictures = pictures or render(8000)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Classifier(training=True).to(memory_format=torch.channels_last)  # a fifth faster on a CPU
    learner = Learner(network, lr, weight_decay=0.05, warmup=min(50, steps // 10), cosine=steps)

    def make(draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.randint(len(pictures.label), (batch,), generator=draws.generator)
        x, treatment = treated(to_float(pictures.shaded[rows]), to_float(pictures.flat[rows]), draws.generator)
        mirror = torch.rand(batch, generator=draws.generator) < 0.5
        x = torch.where(mirror[:, None, None, None], x.flip(3), x).contiguous(memory_format=torch.channels_last)
        return x, pictures.label[rows], treatment

    batches = Batches(make, seed)
    for step in range(check.count(steps, "steps")):
        learner.update([partial(_loss, network, *batches.at(step))], step)
    return fused(network)


# -- the shipped one ----------------------------------------------------------------------------


def save_classifier(network: Classifier, card: dict, stem: Path | str = STEM) -> Path:
    """Write the weights in half precision, `stem.safetensors`, and `card` with their checksum; the card's path."""
    content, stem = weights_of(network), Path(stem)
    size = sum(value.numel() for value in network.state_dict().values())
    card = card | {"parameters": size, "sha256": checksum(content)}
    paths = [stem.with_name(stem.name + suffix) for suffix in (".safetensors", ".json")]
    write_together(dict(zip(paths, (content, (json.dumps(card, indent=1) + "\n").encode()))))
    return paths[1]


def card_of_classifier(stem: Path | str = STEM) -> dict:
    """What is known of the shipped classifier: data, seed, accuracy, calibration. ValueError for a damaged card."""
    path = Path(stem).with_name(Path(stem).name + ".json")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; wanted the classifier's card, or python -m ibmd_minimal.classifier"
        )
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        return card | {"sha256": str(card["sha256"])}
    except (KeyError, TypeError, ValueError) as problem:
        raise ValueError(f"{path} is no card of a classifier ({problem}); wanted save_classifier's") from None


def load_classifier(stem: Path | str = STEM) -> Classifier:
    """The shipped classifier in float32, in evaluation mode; no code is executed.

    FileNotFoundError where one of its two files is missing; ValueError where they are damaged or foreign.
    """
    card, path = card_of_classifier(stem), Path(stem).with_name(Path(stem).name + ".safetensors")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing beside its card; wanted the classifier's weights")
    content = verified(path, card["sha256"])
    network = Classifier()
    try:
        network.load_state_dict({name: value.float() for name, value in load_safetensors(content).items()})
    except Exception as problem:  # whatever a foreign file makes torch or safetensors raise
        what = " ".join(str(problem).split())[:120]
        raise ValueError(f"{path} does not fit the classifier ({what}); wanted save_classifier's file") from None
    return network.eval().requires_grad_(False)


_shipped = cache(load_classifier)


def _seen(x: Tensor, batch: int = 200) -> list[Tensor]:
    """Batches of what a file would hold of colour images `x`."""
    return [to_float(to_uint8(part)).cpu() for part in colour_images(x).split(batch)]


@torch.no_grad()
def predicted(x: Tensor, network: Classifier | None = None) -> Tensor:
    """Labels `(n,)` int64, indices into `data.solids.CLASSES`, of images `(n, 3, height, width)` in [-1, 1].

    By the shipped classifier, or `network`. It was trained at 64x64: other sizes are taken, at a lower accuracy.
    """
    network = network or _shipped()
    return torch.cat([network(part)[0].argmax(1) for part in _seen(x)])


def accuracy(x: Tensor, label: Tensor, network: Classifier | None = None) -> tuple[float, float]:
    """Share of images whose predicted class is `label` `(n,)`, and its standard error `sqrt(p (1 - p)/n)`."""
    if not isinstance(label, Tensor) or label.shape != x.shape[:1] or label.is_floating_point():
        raise ValueError(f"label is {getattr(label, 'shape', type(label).__name__)}; wanted {len(x)} whole numbers")
    return _share(predicted(x, network) == label.cpu())


def _share(right: Tensor) -> tuple[float, float]:
    share = float(right.double().mean())
    return share, (share * (1 - share) / len(right)) ** 0.5


@torch.no_grad()
def solid_features(x: Tensor, network: Classifier | None = None) -> Tensor:
    """128 numbers for each image of solids `(n, 3, height, width)`, float64 `(n, 128)` on the CPU, for :class:`Ruler`.

    The classifier's 64 means half-way, 32 last hidden numbers and 6 probabilities; 26 hand-made numbers. Of what a
    file would hold: rounded to 8 bits first. ValueError for other than three channels or sides under 16 pixels.
    """
    network, rows = network or _shipped(), []
    for part in _seen(x):
        middle, last = network.features(part)
        trained = torch.cat([middle, last, network.label(last).softmax(1)], 1).double()
        rows.append(torch.cat([trained, contrasts(part, HAND_MADE)], 1))
    return torch.cat(rows)


# -- what its features can see ------------------------------------------------------------------


def _without(features: Tensor, label: Tensor, one: int) -> Tensor:
    """Rows of class `one` replaced by rows of the others, in turn: the set with that class left out."""
    others = (label != one).nonzero()[:, 0]
    rows = torch.arange(len(label))
    rows[label == one] = others[torch.arange(int((label == one).sum())) % len(others)]
    return features[rows]


def calibrate_solids(pictures: Pictures, network: Classifier, resamples: int = 50) -> list[dict]:
    """What a ruler of :func:`solid_features`, of the second half of `pictures`, sees of damage done to the first."""
    half = len(pictures.label) // 2
    x, flat = to_float(pictures.shaded[:half]), to_float(pictures.flat[:half])
    ruler = Ruler.fit(to_float(pictures.shaded[half:]), partial(solid_features, network=network))
    clean = ruler.features(x)
    damages = {"shading removed": flat, "blur 1 px": blur(x, 1.0), "noise 5/255": noise(x, 5)}
    damages["channels permuted"] = x[:, [1, 2, 0]]
    damaged = {name: ruler.features(one) for name, one in damages.items()}
    damaged |= {f"{name} left out": _without(clean, pictures.label[:half], k) for k, name in enumerate(CLASSES)}
    measured = {name: paired_excess("frechet", one, clean, ruler.reference, resamples) for name, one in damaged.items()}
    return [{"damage": name, "excess": excess, "error": error} for name, (excess, error) in measured.items()]


def card_of(network: Classifier, pictures: Pictures, **entries: object) -> dict:
    """What is measured of a classifier on pictures of the test split, with `entries`."""
    right = predicted(to_float(pictures.shaded), network) == pictures.label
    return entries | {
        "classes": list(CLASSES),
        "test": f"{len(right)} pictures of 64x64, split test, indices from 0, seed 0",
        "accuracy": _share(right),
        "accuracy by class": {name: _share(right[pictures.label == k]) for k, name in enumerate(CLASSES)},
        "calibration": calibrate_solids(pictures, network),
        "machine": machine(),
    }


def main() -> None:
    """Render, train, measure and write the files that are shipped."""
    pictures, start = render(8000), time.process_time()
    network = train_classifier(pictures)
    made = {"data": "solids, 8,000 pictures of 64x64, split train, indices from 0, seed 0", "seed": 0, "steps": 1200}
    seconds = round(time.process_time() - start)
    print(save_classifier(network, card_of(network, render(4000, split="test"), **made, processor_seconds=seconds)))


if __name__ == "__main__":
    main()
