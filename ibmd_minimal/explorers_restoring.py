"""An explorer that corrupts and restores photographs, the reader's own among them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import anywidget
import ipywidgets as ipw
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from . import _checks as check
from . import _photographs as photos
from .checkpoints import load_model, shipped
from .explorer import Explorer, choice, count, stops
from .explorers_image import strip
from .explorers_plane import NFES
from .metrics import psnr
from .plotting import COLOURS
from .recipes import RECIPES, recipe
from .restoring import restorer
from .runs import student_role

PASSES = 200  # at most for one picture
NUMBERS = (1, 2, 4, 8, 16)


class Upload(anywidget.AnyWidget):
    """A button that chooses a file; when `sent` counts on, `name` and `content`, its bytes, are there, or a `problem`.

    What ipywidgets' FileUpload does for small files: of one over 10 MB, a large photograph, nothing is ever heard. Here
    the browser reduces it; `from_size`, "5000x4000", is what it was.
    """

    _esm = Path(__file__).parent / "static" / "upload.js"
    description = traitlets.Unicode("a photograph of yours").tag(sync=True)
    name, problem, from_size = (traitlets.Unicode().tag(sync=True) for _ in range(3))
    content = traitlets.CBytes().tag(sync=True, echo_update=False)
    sent = traitlets.Int().tag(sync=True)


def _shipped_tasks() -> dict[str, tuple[int, ...]]:
    """Tasks on photographs of which a teacher and students are shipped, and the students' NFE."""
    there, found = set(shipped()), {}
    for one in RECIPES.values():
        students = tuple(nfe for nfe in one.students if f"{one.name}-{student_role(nfe)}" in there)
        if one.data == "photographs" and not one.teachers and students and f"{one.name}-teacher" in there:
            found[one.name] = students
    return found


def _passes(n: int) -> str:
    return "1 pass" if n == 1 else f"{n} passes"


def _decibels(x: Tensor, y: Tensor) -> str:
    return f"{float(psnr(x, y)):.1f} dB"


class Restoring(Explorer):
    """See :func:`restore_explorer`, which makes it. `pictures`: by name, those uploaded among them."""

    def __init__(self, tasks: Mapping[str, tuple[int, ...]], pictures: Mapping[str, photos.Picture], side: int):
        self.tasks, self.pictures, self.side = dict(tasks), dict(pictures), side
        self._quiet, self._timed = False, True
        self._models = lru_cache(8)(load_model)
        self._sample = lru_cache(128)(self._restored)
        first = self._task = next(iter(tasks))
        controls = {
            "picture": choice(next(iter(pictures)), list(pictures), "picture"),
            "task": choice(first, list(tasks), "corruption"),
            "strength": choice(photos.trained_strength(first), photos.strengths_of(first), "strength"),
            "model": choice("student", ["student", "teacher"], "restored by"),
            "nfe": choice(tasks[first][0], tasks[first], "NFE"),
            "z": count(0, 0, 31, "z: seed"),
            "n": stops(1, NUMBERS, "mean over z"),
            "zoom": stops(1, (1, 2, 4), "zoom"),
        }
        for name in ("z", "n"):
            controls[name].continuous_update = False  # not for every place passed: each costs its passes
        super().__init__(self._draw, controls)
        self.upload = Upload()
        self.upload.observe(self._take, "sent")
        rows = list(controls.values())
        self.children = [self.image, self.message, ipw.HBox([ipw.VBox(rows[:5]), ipw.VBox([*rows[5:], self.upload])])]

    def _fitting(self, task: str, model: str) -> dict[str, tuple]:
        """The values that strength and nfe can have, and the one to begin with."""
        teacher = model == "teacher"
        nfes = NFES if teacher else self.tasks[check.choice(task, "task", self.tasks)]
        return {
            "strength": (photos.strengths_of(task), photos.trained_strength(task)),
            "nfe": (nfes, 10 if teacher else nfes[0]),
        }

    def _redraw(self, change: object = None) -> None:
        if self._quiet:
            return
        now = self.settings
        for name, (values, first) in self._fitting(now["task"], now["model"]).items():
            anew = name == "strength" and now["task"] != self._task
            if anew or tuple(self.controls[name].options) != tuple(values):
                self._offer(name, values, first)
        self._task = now["task"]
        self.message.value = f"at work: {_passes(now['n'] * self.controls['nfe'].value)} of the network"
        super()._redraw(change)

    def _offer(self, name: str, values: Sequence, value: object) -> None:
        """Give a choice other values, without a picture for each step of it."""
        self._quiet = True
        self.controls[name].options, self.controls[name].value = list(values), value
        self._quiet = False

    def _take(self, change: object) -> None:
        """A file that was uploaded becomes a picture, or a sentence."""
        file, content = self.upload, self.upload.content
        file.content = b""  # it would be sent to every page that opens the notebook
        try:
            if file.problem:
                raise ValueError(file.problem)
            picture = photos.uploaded(file.name, content, self.side, file.from_size)
        except (ValueError, OSError) as problem:
            self.message.value = str(problem)
        else:
            self.add(photos.plain_name(file.name), picture)

    def add(self, name: str, picture: photos.Picture) -> None:
        """Offer another picture, and show it."""
        names = [name, *(f"{name} ({k})" for k in range(2, len(self.pictures) + 3))]
        name = next(one for one in names if one not in self.pictures)
        self.pictures[name] = picture
        self._offer("picture", list(self.pictures), self.settings["picture"])
        self.controls["picture"].value = name

    def _restored(self, picture: str, task: str, strength: str, model: str, nfe: int, seed: int) -> tuple:
        """One sample `(1, 3, height, width)` and its seconds."""
        xT = photos.weakened(task, self.pictures[picture].x0, strength)
        role = student_role(nfe) if model == "student" else "teacher"
        restore = restorer(recipe(task), self._models(f"{task}-{role}"), nfe, seed)
        start = time.perf_counter()
        x0 = restore(xT)
        return x0, time.perf_counter() - start

    def still(self, **settings) -> Figure:
        """As :meth:`Explorer.still`, without the seconds, which no two runs share; with another task or model, strength
        and nfe are those to begin with."""
        now = self.settings | settings
        fitting = self._fitting(now["task"], now["model"])
        if now["task"] != self.settings["task"]:
            settings = {"strength": fitting["strength"][1]} | settings
        if now["task"] != self.settings["task"] or now["model"] != self.settings["model"]:
            settings = {"nfe": fitting["nfe"][1]} | settings
        self._timed = False
        try:
            return super().still(**settings)
        finally:
            self._timed = True

    def _draw(self, figure: Figure, picture, task, strength, model, nfe, z, n, zoom) -> None:
        check.choice(picture, "picture", self.pictures), check.choice(model, "model", ("student", "teacher"))
        values, _ = self._fitting(task, model)["nfe"]
        if nfe not in values:
            raise ValueError(f"nfe is {nfe}; wanted one of the {model}'s, {', '.join(map(str, values))}")
        if nfe * n > PASSES:
            raise ValueError(f"{n} samples of {_passes(nfe)} are {n * nfe} passes; wanted at most {PASSES}")
        x0, words = self.pictures[picture]
        xT = photos.weakened(task, x0, strength)
        found = [self._sample(picture, task, strength, model, nfe, seed) for seed in range(z, z + n)]
        output, seconds = torch.stack([one for one, _ in found]).mean(0), sum(spent for _, spent in found)
        drawn = f"z = {z}" if n == 1 else f"mean of {n}"
        took = f", {seconds:.2f} s" if self._timed else ""
        height, width = x0.shape[-2:]
        figure.set_size_inches(9.6, 0.9 + 2.3 * min(height / width, 1.4))
        panels = [
            (xT, f"input xT\n{_decibels(xT, x0)}"),
            (output, f"{model}, NFE {nfe}, {drawn}\n{_decibels(output, x0)}{took}"),
            (x0, "truth x0\n"),
            (2 * (output - x0), "output - truth, doubled\ngrey: no difference"),
        ]
        strip(figure.subplots(), panels, zoom)
        what, known = photos.described(task, strength)
        colour = "black" if known else COLOURS["student"]
        name = "".join(letter if ord(letter) < 0x250 else "?" for letter in picture)  # letters that the font has
        title = f"{name}, {words}; {what}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=colour, parse_math=False)


def restore_explorer(
    tasks: Sequence[str] | None = None, pictures: Mapping[str, Tensor] | None = None, side: int = photos.SIDE
) -> Restoring:
    """A photograph corrupted and restored: input, output, truth, their difference, PSNR and the seconds taken.

    `tasks`: names of recipes with shipped teacher and student, all those on photographs if None. `pictures`: uint8
    `(3, height, width)` by their names, scikit-image's test photographs if None; the reader uploads others, and what is
    no photograph is refused in a sentence. `side`: what larger pictures are reduced to, in pixels. The student's
    sample, or the teacher's at a chosen NFE, for a seed of z; or the mean over several seeds from this one on.
    """
    there = _shipped_tasks()
    names = [check.choice(name, "tasks", there) for name in (there if tasks is None else tasks)]
    if not names:
        raise ValueError("tasks is empty; wanted names of recipes on photographs with shipped teacher and student")
    check.count(side, "side", least=photos.LEAST)
    return Restoring({name: there[name] for name in names}, photos.photographs(pictures, side), side)
