"""Image tasks as recipes: what is corrupted how, which bridge, which network, how long.

A task costs one :class:`Recipe` here and, where its corruption is new, one function in `data/corruptions.py`. Each has
a `small` budget (two CPU cores, about an hour for teacher and student) and a `full` one (a GPU). Everything random is a
function of `(seed, step)`. How they are trained: `runs.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from . import _checks as check
from .bridges import Bridge, bridge_from
from .data.couplings import Mixture, Photographs, Renderings, rendered
from .data.images import training_photographs
from .networks import Denoiser, UNet
from .training import Batches

Coupling = Photographs | Renderings | Mixture
RENDERED = {"train": 16_384, "test": 4_000}


@dataclass(frozen=True)
class Budget:
    """How long and how fast: steps, batch sizes and learning rates of teacher and student.

    `start`: the recipe whose teacher the training begins from, None for fresh weights. `student_cool`: in so many
    updates at the end, the learning rates of student and fake fall to a tenth. `student_share`: the student's weights
    are averaged over about so much of its updates, the last ones; 0: by the recipe's `student_ema`. `teacher_drawn`,
    `student_drawn`: how the times of their losses are drawn, names of `matching.TIMES`; those of the student's fake
    model too.
    """

    teacher_steps: int = 4000
    teacher_batch: int = 64
    teacher_lr: float = 1e-3
    student_steps: int = 500
    student_batch: int = 32
    fake_steps: int = 3
    fake_warmup: int = 150
    student_lr: float = 3e-5
    fake_lr: float = 4e-4
    widths: tuple[int, ...] = (64, 128, 128)
    blocks: int = 1
    start: str | None = None
    student_cool: int = 0
    student_share: float = 0.0
    teacher_drawn: str = "uniform"
    student_drawn: str = "uniform"


FULL = Budget(60_000, 256, 4e-4, 10_000, 256, 5, 500, 3e-5, 2e-4, (128, 256, 256), 2)
VP = {"family": "vp", "beta_d": 2.0, "beta_min": 0.1}  # DDBM's
WARM_LR = 4e-4  # of a small teacher that begins from another's weights


@dataclass(frozen=True)
class Recipe:
    """One image task.

    `corruption`: a name of `data.corruptions`, or for rendered solids ("lines" or "normals") the source. `data`:
    "photographs" or "solids"; `half`: photographs at half size. `bridge`: family and parameters. `sigma0`, `sigmaT`,
    `covariance`: second moments of the data, in [-1, 1], for the preconditioning. `weight`: a name of
    `matching.WEIGHTS`; `student_weight`: the same for a student's losses, None for the teacher's. `pasted`: the network
    fills the hole of xT and copies the rest. `gated`: it gets its input back (`networks.UNet`). `students`: the NFE of
    its students; `from_xT`: of those that are anchored at xT (`students.Student`). `small_several`: by NFE, in what the
    small budget of a student of several passes differs from `small`. `teachers`: the recipes whose teachers share one
    student, told apart by a label. `multiple`: what height and width have to be multiples of for the corruption;
    `enlarge`: by how much `restore` enlarges files.
    """

    name: str
    corruption: str = ""
    bridge: dict = field(default_factory=lambda: {"family": "i2sb", "beta_max": 0.3})
    conditional: bool = False
    data: str = "photographs"
    half: bool = True
    size: int = 32
    patch: int = 2
    sigma0: float = 0.5
    sigmaT: float = 0.5
    covariance: float = 0.0
    pasted: bool = False
    gated: bool = False
    weight: str = "soft"
    student_weight: str | None = None
    students: tuple[int, ...] = (1,)
    from_xT: tuple[int, ...] = ()
    teachers: tuple[str, ...] = ()
    gradient: str = "full"
    head_start: tuple[float, ...] | None = None
    teacher_ema: float = 0.999
    student_ema: float = 0.98
    betas: tuple[float, float] = (0.5, 0.99)
    fake_betas: tuple[float, float] = (0.9, 0.99)
    multiple: int = 1
    enlarge: int = 1
    small: Budget = Budget()
    small_several: dict = field(default_factory=dict)
    full: Budget = FULL

    def budget(self, name: str, nfe: int = 1) -> Budget:
        """The budget called "small" or "full", of a teacher or of the student of `nfe` passes."""
        plan = getattr(self, check.choice(name, "budget", ("small", "full")))
        own = self.small_several.get(nfe, {}) if name == "small" else {}
        return replace(plan, **own) if own else plan

    def make_bridge(self) -> Bridge:
        """The recipe's bridge."""
        return bridge_from(**self.bridge)

    def times(self, nfe: int) -> tuple[float, ...]:
        """The times of the student of `nfe` passes, evenly spaced from 1; ValueError for one that is not trained."""
        if nfe not in self.students:
            raise ValueError(
                f"nfe is {nfe}; wanted one of {self.name}'s students, {', '.join(map(str, self.students))}"
            )
        return tuple(1 - k / nfe for k in range(nfe))

    def anchor(self, nfe: int) -> str:
        """Where the bridge below the steps of the student of `nfe` passes is pinned, see `students.Student`."""
        return "xT" if nfe in self.from_xT else "x_t"

    def network(self, budget: Budget, seed: int) -> Denoiser:
        """The teacher with fresh weights, a function of the seed."""
        moments = {"sigma0": self.sigma0, "sigmaT": self.sigmaT, "covariance": self.covariance}
        kind = {"patch": self.patch, "conditional": self.conditional, "pasted": self.pasted, "gated": self.gated}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return UNet(self.make_bridge(), 3, budget.widths, budget.blocks, **kind, **moments)

    def coupling(self, split: str = "train", folder: Path | str | None = None) -> Coupling:
        """What it trains on, or is measured on: crops of BSDS500's photographs, or of scikit-image's where those are
        missing, as its `words` say then; or solids, kept in `folder`."""
        if self.teachers:
            return Mixture([recipe(name).coupling(split, folder) for name in self.teachers])
        if self.data == "solids":
            return rendered(self.corruption, split, RENDERED[split], self.size, folder)
        images, words = training_photographs(split, half=self.half)
        return Photographs(images, self.corruption, self.size, words)

    def pairs(self, coupling: Coupling, batch: int, seed: int) -> Batches:
        """Batches `(x0, xT)`: what a teacher learns from."""
        return Batches(lambda draws: coupling.sample(batch, draws), seed)

    def sources(self, coupling: Coupling, batch: int, seed: int) -> Batches:
        """Batches of `xT`, or of `(xT, label)` where there are several teachers: all that a student's training sees."""

        def make(draws):
            _, *seen = coupling.sample(batch, draws)
            return tuple(seen) if self.teachers else seen[0]

        return Batches(make, seed)


def _warm(start: str, steps: int = 1200, **options) -> Budget:
    """A small budget whose teacher begins from another recipe's, a good part of the way there."""
    return Budget(teacher_steps=steps, teacher_lr=WARM_LR, start=start, **options)


def _longer(flat: int) -> dict:
    """A student's updates: `flat` at the full rates, 500 more while these fall."""
    return {"student_steps": flat + 500, "student_cool": 500}


# A translation's student has farther to go from its teacher's single step, grey, than a restoration's; what its source
# leaves open is decided near T.
_FARTHER = {"student_lr": 6e-5, "student_drawn": "near_T"} | _longer(500)
# Anchored at xT, each of four passes is held to the whole law, its colours and light too; held on, it loses variety.
_SHORTER = {"student_steps": 650, "student_cool": 150}


# Where a source leaves open how much texture there is: noise that is more here and less there to begin with
# (`networks.Denoiser.as_student`), and losses that hear a grain of one or two grey levels, which only a bridge's least
# noise, near t = 0, can tell from an even sky.
_FINE = {"student_weight": "noise", "full": replace(FULL, student_drawn="early")}
_FINER = {"student_lr": 4e-5, "student_drawn": "early"} | _longer(1000)


def _restoration(name: str, **options) -> Recipe:
    """An unconditional I2SB bridge from corrupted photographs, as in the paper."""
    return Recipe(name, name, **{"sigma0": 0.5063, "head_start": (0.85, 0.155)} | options)


def _translation(name: str, source: str, **options) -> Recipe:
    """A conditional VP bridge (DDBM) from what a solid's picture was drawn from."""
    full = replace(FULL, teacher_drawn="near_T", student_drawn="near_T", student_cool=2000)
    options = {"small": Budget(teacher_steps=6000, **_FARTHER), "small_several": {4: _SHORTER}, "full": full} | options
    options |= {"size": 64, "patch": 4, "gated": True, "sigma0": 0.514, "students": (1, 2, 4), "from_xT": (4,)}
    options |= {"head_start": (0.98, 0.2, 0.96, 0.03)}  # drawings leave colours open: noise that varies slowly
    return Recipe(name, source, VP, True, "solids", **options)


def _inpainting(name: str, **options) -> Recipe:
    """A conditional VP bridge whose network fills the hole and copies the rest."""
    options = {"students": (1, 4), "from_xT": (4,), "head_start": (0.97, 0.36, 0.992)} | options
    return Recipe(name, name, VP, True, pasted=True, gated=True, sigma0=0.5063, sigmaT=0.44, **options)


# Moments measured on 4,000 crops of BSDS500's training photographs, 4,096 solids. A head start is one whose spread
# comes near the teacher's error at NFE 1, to half of it or more: the two have to be equal in the end.
RECIPES: dict[str, Recipe] = {
    one.name: one
    for one in (
        # Pooling is a projection, so Cov(x0, xT) = sigmaT².
        _restoration(
            "sr4x-pool",
            sigma0=0.5065,
            sigmaT=0.4816,
            covariance=0.2319,
            multiple=4,
            enlarge=4,
            small=Budget(student_steps=520),
        ),
        _restoration(
            "sr4x-bicubic",
            sigmaT=0.4824,
            covariance=0.2320,
            head_start=(0.85, 0.155, 1.0, 0.0, 0.5),
            multiple=4,
            enlarge=4,
            small=Budget(**_FINER, student_share=1 / 3),
            **_FINE,
        ),
        _translation(
            "sketch-to-image",
            "lines",
            sigmaT=0.968,
            covariance=0.074,
            small_several={4: _SHORTER | {"student_share": 1 / 3}},
        ),
        _restoration(
            "jpeg-10",
            sigmaT=0.5040,
            covariance=0.2474,
            head_start=(0.8, 0.24, 1.0, 0.0, 0.5),
            multiple=16,
            small=_warm("sr4x-pool", **_FINER),
            **_FINE,
        ),
        _restoration(
            "jpeg-5",
            sigmaT=0.5052,
            covariance=0.2426,
            head_start=(0.8, 0.25, 1.0, 0.0, 0.5),
            multiple=16,
            small=_warm("jpeg-10", **_FINER),
            **_FINE,
        ),
        _inpainting("inpaint-center", small=Budget(teacher_steps=3000, student_steps=400)),
        _translation(
            "normals-to-image",
            "normals",
            sigmaT=0.292,
            covariance=-0.004,
            small=_warm("sketch-to-image", 2400, teacher_drawn="near_T", **_FARTHER),
        ),
        _inpainting(
            "inpaint-freeform",
            small=_warm("inpaint-center", student_steps=400),
            small_several={4: {"student_steps": 500, "student_cool": 250}},
        ),
        # Student and fake begin as the first teacher: the one that is the nearest to all three.
        Recipe(
            "multi",
            sigma0=0.5063,
            teachers=("jpeg-5", "jpeg-10", "sr4x-bicubic"),
            head_start=(0.8, 0.2, 1.0, 0.0, 0.5),
            small=Budget(**_FINER | {"student_lr": 6e-5}),
            **_FINE,
        ),
    )
}


def recipe(name: str) -> Recipe:
    """A recipe by name; a typo is answered with the nearest one."""
    return RECIPES[check.choice(name, "recipe", RECIPES)]
