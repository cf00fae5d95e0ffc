"""One training of a contest: which method, how many steps its budget of passes allows, what came of it.

A training is one file of results beside its weights, in the contest's folder of runs, named by a digest of all that it
depends on; one that is there is not made again.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from . import _checks as check
from .checkpoints import checksum, machine, save_model, weights_of
from .compute import Cost, Meter, consistency_cost, distillation_cost, regression_cost
from .contests import Contest
from .inverse import distillation
from .rivals import consistency, consistency_sample, dataset, regression
from .students import Student, student_from
from .training import NonFiniteLoss, write_whole

MARKS = (1 / 8, 1 / 4, 1 / 2)
FAR = 100.0
Restore = Callable[[Tensor, torch.Generator], Tensor]


class Diverged(ValueError):
    """What a model restores lies FAR times beyond its input, or is no number: there is nothing to measure."""


@dataclass(frozen=True)
class Method:
    """A way to a student: which training, of which teacher, and the options in which it differs from the contest's.

    `clean`: whether it sees clean pictures. `nfe`: the student's passes, the fewest of them.
    """

    training: str
    teacher: str = "own"
    clean: bool = False
    nfe: int = 1
    options: dict = field(default_factory=dict)


METHODS: dict[str, Method] = {
    "ibmd": Method("ibmd"),
    "ibmd-2": Method("ibmd", nfe=2),
    "ibmd-detached": Method("ibmd", options={"gradient": "detached"}),
    "sid-1.0": Method("ibmd", options={"alpha": 1.0}),
    "sid-1.2": Method("ibmd", options={"alpha": 1.2}),
    "ibmd-conditional": Method("ibmd", "conditional"),
    "regression": Method("regression", "conditional"),
    "regression-mean": Method("regression", "conditional", options={"noise": False}),
    "consistency": Method("consistency", "conditional", clean=True, nfe=2),
}


@dataclass
class Fit:
    """A training about to run: `training` yields the learner after each of `steps` steps.

    `restorers`: at each NFE one or several ways to use the model, by the times of its passes.
    """

    model: nn.Module
    steps: int
    cost: Cost
    training: Iterator
    restorers: dict[int, dict[tuple[float, ...], Restore]]


# -- the three trainings ---------------------------------------------------------------------------


def one_step_student(contest: Contest, kind: str, options: dict, seed: int, nfe: int = 1) -> Student:
    """A student of one of the teachers, and what `options` say of its start, taken out of them.

    `noise` False: without noise inputs. `head_start`: None for noise layers that start from zero. `fresh`: "student" or
    "both" for one whose weights do not come from the teacher ("both": neither do the fake model's).
    """
    teacher = contest.teacher(kind)
    noise, fresh = options.pop("noise", True), options.pop("fresh", None)
    start = options.pop("head_start", contest.head_start[kind]) if noise else options.pop("head_start", None)
    times = tuple(1 - k / nfe for k in range(nfe))
    student = student_from(teacher, teacher.bridge, times, noise_channels=None if noise else 0, head_start=start)
    if fresh:
        student.network.load_state_dict(renewed(student.network, seed).state_dict())
        options |= {"fake": renewed(teacher, seed + 1)} if fresh == "both" else {}
    return student.to(contest.device).requires_grad_(True).train()


def renewed(network: nn.Module, seed: int) -> nn.Module:
    """A network of the same kind with fresh weights, a function of the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return type(network)(network.bridge, **network.arguments).to(next(network.parameters()).device).train()


def fit_ibmd(contest: Contest, kind: str, options: dict, budget: int, seed: int, nfe: int) -> Fit:
    """`inverse.distillation`; `available`: from how many `xT`."""
    sources = contest.sources(seed + 1, options.pop("available", None))
    student, teacher = one_step_student(contest, kind, options, seed, nfe), contest.teacher(kind)
    shape = {key: options[key] for key in ("fake_steps", "fake_warmup", "gradient") if key in options}
    cost = distillation_cost(contest.batch, **shape, nfe=nfe)
    steps = cost.steps(budget)
    options |= {"steps": steps, "cosine": steps, "seed": seed, "progress": False}
    run = distillation(teacher, teacher.bridge, student, sources, **options)
    restore = {student.times: lambda xT, generator: student(xT, generator=generator)}
    return Fit(student, steps, cost, run, {nfe: restore})


def fit_regression(contest: Contest, kind: str, options: dict, budget: int, seed: int, nfe: int) -> Fit:
    """`rivals.regression`: a `share` of the budget goes into a sampler's results, at `nfe` passes."""
    share, passes = options.pop("share"), options.pop("nfe")
    sampler = {key: options.pop(key) for key in ("method", "grid") if key in options}
    batches = max(1, round(share * budget / (contest.batch * passes)))
    cost = regression_cost(contest.batch, batches, passes)
    steps, teacher = cost.steps(budget), contest.teacher(kind)
    student, sources = one_step_student(contest, kind, options, seed), contest.sources(seed + 1)

    def run() -> Iterator:
        data = dataset(teacher, teacher.bridge, sources, batches, nfe=passes, seed=seed, device=contest.device,
                       **sampler)  # fmt: skip
        yield from regression(student, data, steps=steps, cosine=steps, progress=False, **options)

    restore = {student.times: lambda xT, generator: student(xT, generator=generator)}
    return Fit(student, steps, cost, run(), {1: restore})


def fit_consistency(contest: Contest, kind: str, options: dict, budget: int, seed: int, nfe: int) -> Fit:
    """`rivals.consistency`; `starts`: the times of its first pass among which the exam "choice" decides."""
    starts, teacher, cost = options.pop("starts"), contest.teacher(kind), consistency_cost(contest.batch)
    model, steps = copy.deepcopy(teacher).requires_grad_(True).train(), cost.steps(budget)
    options |= {"steps": steps, "cosine": steps, "seed": seed, "progress": False}
    run = consistency(model, teacher, teacher.bridge, contest.pairs(seed + 1), **options)

    def restorer(times: tuple[float, ...]) -> Restore:
        return lambda xT, generator: consistency_sample(model, teacher, teacher.bridge, xT, times, generator=generator)

    chains = {2: [(t,) for t in starts], 3: [(t, t / 2) for t in starts]}
    return Fit(model, steps, cost, run, {nfe: {times: restorer(times) for times in chains[nfe]} for nfe in chains})


TRAININGS = {"ibmd": fit_ibmd, "regression": fit_regression, "consistency": fit_consistency}


def restorers_of(contest: Contest, method: Method) -> dict[int, dict[tuple[float, ...], Restore]]:
    """How a model of this method restores, before it is trained: what that takes does not depend on the weights."""
    options = getattr(contest, method.training) | method.options
    return TRAININGS[method.training](contest, method.teacher, options, contest.budget, 0, method.nfe).restorers


# -- one training --------------------------------------------------------------------------------


def on(contest: Contest, restore: Restore, seed: int = 0) -> Callable[[Tensor], Tensor]:
    """A function of `xT` alone, from CPU to CPU, without gradients, its noise from `seed`; it may raise Diverged."""
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def restored(xT: Tensor) -> Tensor:
        found = restore(xT.to(contest.device), generator).cpu()
        size, least = (float(one.abs().max()) for one in (found, xT))
        if not size < FAR * least:  # also where it is NaN
            raise Diverged(f"what is restored reaches {size:.3g}, its input {least:.3g}")
        return found

    return restored


def settings_of(contest: Contest, method: Method, factor: float, seed: int, budget: int, changes: dict) -> dict:
    """All that a training depends on, ready for JSON. The rate is the contest's times `factor`, the fake's too."""
    options = getattr(contest, method.training) | method.options | changes
    options |= {key: options[key] * factor for key in ("lr", "fake_lr") if key in options}
    found = {"contest": contest.name, "training": method.training, "teacher": teacher_digest(contest, method.teacher)}
    found |= {"nfe": method.nfe, "batch": contest.batch, "budget": budget, "seed": seed, "options": options}
    return json.loads(json.dumps(found | {"head_start": contest.head_start[method.teacher]}))


def teacher_digest(contest: Contest, kind: str) -> str:
    """The checksum of a teacher's weights."""
    return checksum(weights_of(contest.teacher(kind)))


def kept_or(path: Path, make: Callable[[], dict]) -> dict:
    """What a file of results says; made and written whole first, where it is missing."""
    if not path.exists():
        write_whole(path, (json.dumps(make(), indent=1) + "\n").encode())
    return json.loads(path.read_text(encoding="utf-8"))


def kept(contest: Contest, settings: dict) -> Path | None:
    """The results of a training of these very settings, where there are some."""
    found = sorted(contest.folder.glob(f"*-{digest(settings)}.json"))
    return found[0] if found else None


def digest(settings: dict) -> str:
    """Ten digits that stand for the settings in the name of a file."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]


def attempt(
    contest: Contest, label: str, method: Method, factor: float = 1.0, seed: int = 0, budget: int | None = None,
    **changes,
) -> dict:  # fmt: skip
    """Train once and measure, or read what was measured before; the card.

    `changes`: options of the training that replace those of method and contest. Written whole at the end, under
    `label` and a digest of the settings, weights beside it: a training that was interrupted begins anew.
    """
    budget = contest.budget if budget is None else check.count(budget, "budget")
    settings = settings_of(contest, method, factor, seed, budget, changes)
    before = kept(contest, settings)
    if before is not None:
        return json.loads(before.read_text(encoding="utf-8"))
    options = {key: tuple(v) if isinstance(v, list) else v for key, v in settings["options"].items()}
    fit = TRAININGS[method.training](contest, method.teacher, options, budget, seed, method.nfe)
    card = {"label": label, "factor": factor, "settings": settings, "role": "student"}
    card |= trained(contest, fit, seed) | {"machine": machine(contest.device)}
    return written(contest.folder / f"{label}-{digest(settings)}", fit.model, card)


def written(stem: Path, model: nn.Module, card: dict) -> dict:
    """The card as it stands in its file, weights beside it; without them where half precision cannot hold them."""
    try:
        save_model(stem, model, card)
    except ValueError as problem:  # weights of a training that blew up; what it was worth is known all the same
        write_whole(stem.with_name(f"{stem.name}.json"), json.dumps(card | {"weights": str(problem)}).encode())
    return json.loads(stem.with_name(f"{stem.name}.json").read_text(encoding="utf-8"))


def trained(contest: Contest, fit: Fit, seed: int) -> dict:
    """Run a training; what it took, what its average model was worth along the way and at the end, by a quick look,
    and then by all of the exam.

    One that diverges (a loss that is no number, or outputs FAR away at a mark) ends there and says so. `steps`: made;
    `formula`: what the `planned` ones take. `choice` is None where nothing could be measured.
    """
    marks, along, end, step = {max(1, round(mark * fit.steps)) for mark in MARKS}, [], {}, 0
    with Meter() as meter:
        try:
            for step, (learner, _) in enumerate(fit.training, 1):
                if step in marks and step < fit.steps:
                    with meter.paused(), learner.averaged():
                        along.append({"passes": meter.passes, "seconds": meter.seconds} | glimpse(contest, fit, seed))
        except (NonFiniteLoss, Diverged) as problem:
            end = {"diverged": f"step {step}: {problem}"}
        learner.finish().eval()
    spent = {"steps": step, "planned": fit.steps, "passes": meter.passes, "formula": fit.cost.total(fit.steps)}
    found = outcome(contest, fit, seed)
    if found["rows"]:
        along.append({"passes": meter.passes, "seconds": meter.seconds} | glimpse(contest, fit, seed))
    return spent | {"train_seconds": meter.seconds, "along": along} | found | end


def outcome(contest: Contest, fit: Fit, seed: int) -> dict:
    """The rows of a model at each of its NFE, and by what its rate is chosen."""
    try:
        rows = [measured(contest, nfe, ways, seed) for nfe, ways in fit.restorers.items()]
    except Diverged as problem:
        return {"diverged": f"at the end: {problem}", "rows": [], "choice": None}
    return {"rows": rows, "choice": rows[0]["choice"]}


def glimpse(contest: Contest, fit: Fit, seed: int) -> dict:
    """The distance of a model along its training, at the fewest of its passes; as quick at the end as before it."""
    ways = fit.restorers[min(fit.restorers)]
    return contest.exam("test").measure(on(contest, next(iter(ways.values())), seed), quick=True)


def measured(contest: Contest, nfe: int, ways: dict[tuple[float, ...], Restore], seed: int) -> dict:
    """The row of one NFE: the way that is best on the exam "choice", measured on "test"."""
    choice = {
        times: contest.exam("choice").measure(on(contest, way, seed), quick=True)["distance"]
        for times, way in ways.items()
    }
    best = min(choice, key=choice.get)
    row = {"nfe": nfe, "times": list(best), "choice": choice[best]}
    return row | contest.exam("test").measure(on(contest, ways[best], seed))
