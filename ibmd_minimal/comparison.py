"""IBMD beside the other ways to one or a few steps: the same teachers, the same networks, the same compute.

A method gets a budget of network passes for one training and derives its steps from it (`trials.py`); three learning
rates are tried, so that the search costs every method the same; the best by the exam "choice" is trained from two more
seeds. What comes out is one entry for each contest in `assets/comparison.json`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from . import _checks as check
from .checkpoints import machine
from .contests import TEACHERS, Contest, Pictures, conditional_recipe, contest
from .evaluation import Restorer, table
from .results import note
from .runs import train_teacher
from .samplers import GRIDS, sample
from .trials import METHODS, Method, attempt, digest, kept_or, on, restorers_of, teacher_digest

FILE = Path(__file__).resolve().parents[1] / "assets" / "comparison.json"
FACTORS = (1 / 3, 1.0, 3.0)
CHOSEN = 10  # at more passes than these the grid is the one that is best here
SAMPLERS: dict[str, tuple[str, dict]] = {
    "posterior": ("own", {"method": "posterior"}),
    "euler-maruyama": ("own", {"method": "euler-maruyama"}),
    "dbim-1": ("conditional", {"method": "dbim", "eta": 1.0}),
    "dbim-0": ("conditional", {"method": "dbim", "eta": 0.0}),
    "ode-heun": ("conditional", {"method": "ode-heun"}),
}


# -- the teachers' own few steps -------------------------------------------------------------------


def sampler_row(contest: Contest, name: str, nfe: int) -> dict:
    """The row of one sampler at one NFE, on the grid that is best by the exam "choice"; kept as a training is."""
    kind, options = SAMPLERS[check.choice(name, "sampler", SAMPLERS)]
    at = sampler_of(contest, name)

    def make() -> dict:
        grid = sampler_grid(contest, name, min(nfe, CHOSEN))
        return {"method": name, "nfe": nfe, "grid": grid, "teacher": kind} | contest.exam().measure(at(nfe, grid))

    settings = {"contest": contest.name, "sampler": name, "nfe": nfe, "teacher": teacher_digest(contest, kind)}
    settings |= {"options": options, "grids": GRIDS, "chosen": CHOSEN}
    return kept_or(contest.folder / f"sampler-{name}-{nfe}-{digest(settings)}.json", make)


def sampler_of(contest: Contest, name: str) -> Callable[[int, str], Restorer]:
    """A sampler as a function of its NFE and its grid."""
    kind, options = SAMPLERS[name]
    teacher = contest.teacher(kind)

    def at(nfe: int, grid: str) -> Restorer:
        return on(contest, lambda xT, g: sample(teacher, teacher.bridge, xT, nfe, grid=grid, generator=g, **options))

    return at


def sampler_grid(contest: Contest, name: str, nfe: int) -> str:
    """The grid with the smallest distance on the exam "choice", measured once; at one pass there is none to choose."""
    if nfe == 1:
        return GRIDS[0]

    def best() -> str:
        at, exam = sampler_of(contest, name), contest.exam("choice")
        return min(GRIDS, key=lambda grid: exam.measure(at(nfe, grid), quick=True)["distance"])

    return contest.once(f"grid-{name}-{nfe}-{teacher_digest(contest, SAMPLERS[name][0])}", best)


def samplers_of(contest: Contest) -> dict[str, str]:
    """The samplers that differ, and the teacher of each: where the own one is conditional it serves them all, and
    DBIM at eta 1 takes its posterior steps."""
    if contest.teacher("own").conditional:
        return {name: "own" for name in SAMPLERS if name != "dbim-1"}
    return {name: kind for name, (kind, _) in SAMPLERS.items()}


def sampler_rows(contest: Contest, only: Sequence[str] = ()) -> Iterator[dict]:
    """Every sampler at the contest's NFE. At NFE 1 all those of one teacher are the same pass: one row each."""
    seen = set()
    for name, kind in samplers_of(contest).items():
        for nfe in contest.nfes:
            if (only and name not in only) or (nfe == 1 and kind in seen):
                continue
            seen.add(kind)
            yield sampler_row(contest, name, nfe)


# -- the trained ones --------------------------------------------------------------------------


def methods_of(contest: Contest) -> dict[str, Method]:
    """The methods that make sense: where the own teacher is conditional, IBMD of the conditional one is IBMD."""
    own = contest.teacher("own").conditional
    return {label: one for label, one in METHODS.items() if not (own and label == "ibmd-conditional")}


def rounds(contest: Contest, methods: dict[str, Method], budget: int | None = None) -> Iterator[tuple[str, dict]]:
    """Labels and cards: every method at one rate from the first seed, then at the others, then more seeds of the best.

    Whatever stops it, what is there compares all methods.
    """
    first, *more = contest.seeds
    cards: dict[str, list[dict]] = {label: [] for label in methods}
    for factor in sorted(FACTORS, key=lambda factor: factor != 1):
        for label, method in methods.items():
            cards[label].append(attempt(contest, label, method, factor, first, budget))
            yield label, cards[label][-1]
    best = {label: best_factor(found) for label, found in cards.items()}
    for seed in more:
        for label, method in methods.items():
            yield label, attempt(contest, label, method, best[label], seed, budget)


def best_factor(cards: Sequence[dict]) -> float:
    """The rate, as a factor, of the training that is best by the exam "choice"; those that diverged come last."""
    return min(cards, key=lambda card: math.inf if card["choice"] is None else card["choice"])["factor"]


COSTS = ("label", "factor", "steps", "planned", "passes", "formula", "train_seconds", "along", "rows", "choice",
         "machine", "diverged")  # fmt: skip


def trimmed(card: dict) -> dict:
    """What the results keep of a training's card."""
    settings = card["settings"]
    return {key: card[key] for key in COSTS if key in card} | {"seed": settings["seed"], "options": settings["options"]}


def method_entry(contest: Contest, method: Method, cards: Sequence[dict]) -> dict:
    """One method in the results: all trainings, by seed and rate, which rate is best, what the search cost."""
    search = [card for card in cards if card["settings"]["seed"] == contest.seeds[0]]
    ordered = sorted(cards, key=lambda card: (contest.seeds.index(card["settings"]["seed"]), card["factor"]))
    return {
        "teacher": method.teacher,
        "clean": method.clean,
        "best": best_factor(search),
        "searched": len(search),
        "search_passes": sum(card["passes"] for card in search),
        "runs": [trimmed(card) for card in ordered],
    }


def unequal(entry: dict, tolerance: float = 0.05) -> list[str]:
    """The methods whose search took other than a budget of passes for each rate, by more than 5%.

    There should be none but those of which a training diverged: it ends there, and has used less.
    """
    found = entry["methods"].items()
    ratios = {label: one["search_passes"] / (one["searched"] * entry["budget"]) for label, one in found}
    return [label for label, ratio in ratios.items() if abs(ratio - 1) > tolerance]


def compare(
    contest: Contest, only: Sequence[str] = (), budget: int | None = None, path: Path | str | None = None
) -> dict:
    """Train and measure all that is not there yet, print it line by line, and put the entry into the results.

    `only`: names of METHODS or SAMPLERS; then nothing is put into the results. `budget`: passes of one training.
    """
    for name in only:
        check.choice(name, "method", (*METHODS, *SAMPLERS))
    methods = {label: one for label, one in methods_of(contest).items() if not only or label in only}
    floor = kept_or(contest.folder / "floor.json", contest.exam().floor)
    entry = {"data": contest.words, "budget": budget or contest.budget, "machine": machine(contest.device)}
    entry |= {"floor": floor, "teachers": {kind: teacher_digest(contest, kind) for kind in TEACHERS}}
    entry |= {"samplers": [], "methods": {}}
    for row in sampler_rows(contest, only):
        entry["samplers"].append(row)
        print(said(row["method"], row), flush=True)
    cards: dict[str, list[dict]] = {}
    for label, card in rounds(contest, methods, budget):
        cards.setdefault(label, []).append(card)
        print("\n".join(said_of(card)), flush=True)
        entry["methods"][label] = method_entry(contest, methods[label], cards[label])
        if not only:  # after each training: what is there is there
            note(contest.name, entry, path or FILE)
    if not only:
        note(contest.name, clocked(contest, entry), path or FILE)
    return entry


def clocked(contest: Contest, entry: dict) -> dict:
    """The entry, the seconds of all its rows measured anew, one after the other: those of its trainings come from
    different hours, and from beside other work."""
    exam = contest.exam()
    for row in entry["samplers"]:
        row["seconds"] = exam.clock(sampler_of(contest, row["method"])(row["nfe"], row["grid"]))
    for label, one in entry["methods"].items():
        ways = restorers_of(contest, METHODS[label])
        seconds = {nfe: exam.clock(on(contest, next(iter(of_nfe.values())))) for nfe, of_nfe in ways.items()}
        for row in (row for run in one["runs"] for row in run["rows"]):
            row["seconds"] = seconds[row["nfe"]]
    return entry


def said_of(card: dict) -> list[str]:
    """A training as lines, one for each NFE and one if it diverged."""
    who = f"{card['label']} x{card['factor']:.2g} seed {card['settings']['seed']}"
    lost = [f"{who}: diverged, {card['diverged']}"] if "diverged" in card else []
    return lost + [said(who, row) for row in card["rows"]]


def said(who: str, row: dict) -> str:
    """One row as a line."""
    where = f", {row['grid']}" if "grid" in row else ""
    distance = f"{row['distance']:.3f} ± {row['distance_error']:.3f}"
    return f"{who}, NFE {row['nfe']}{where}: distance {distance}, spread {row['spread']:.4f}, {row['seconds']:.3f} s"


MORE = {"spread": 4, "inside": 3, "pairs": 2, "psnr": 2, "seconds": 3}
"""Columns of the table besides the distance, where they were measured, and their digits."""


def summary(entry: dict) -> str:
    """The table of an entry: one line a sampler and NFE, and for each method's best rate the mean over seeds."""
    more = [key for key in MORE if any(key in row for row in (entry["floor"], *entry["samplers"]))] or ["spread"]
    header = ("method", "teacher", "clean", "NFE", "distance", *more, "M passes")
    rows = [("floor", "", "", *_numbers([entry["floor"] | {"nfe": "", "seconds": None}], more), "")]
    rows += [(row["method"], row["teacher"], "", *_numbers([row], more), "") for row in entry["samplers"]]
    for label, one in entry["methods"].items():
        runs = [run for run in one["runs"] if run["factor"] == one["best"]]
        kind = label, one["teacher"], "yes" if one["clean"] else "no"
        passes = f"{max(run['passes'] for run in one['runs']) / 1e6:.2f}"
        rows += [(*kind, *_numbers(per_nfe, more), passes) for per_nfe in zip(*(r["rows"] for r in runs if r["rows"]))]
        lost = sum("diverged" in run for run in one["runs"])
        if lost:
            rows.append((*kind, "", f"{lost} of {len(one['runs'])} diverged", *[""] * len(more), passes))
    return table(rows, tuple("s/1,000" if name == "seconds" else name for name in header))


def _numbers(rows: Sequence[dict], more: Sequence[str]) -> tuple[str, ...]:
    """NFE, distance and what else was measured, means over rows; nothing where one has not got it."""
    found = [str(rows[0]["nfe"])]
    for key in ("distance", *more):
        values = [row.get(key) for row in rows]
        found.append("" if None in values else f"{sum(values) / len(values):.{MORE.get(key, 3)}f}")
    return tuple(found)


# -- the command -------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> None:
    """The command, its arguments as `__main__` reads them."""
    task = contest(args.task, runs=Path(args.runs), device=args.device)
    if args.teacher and isinstance(task, Pictures):
        print(train_teacher(conditional_recipe(task.task), runs=args.runs, device=args.device).card)
        return
    entry = compare(task, args.only, args.budget)
    print("\n" + summary(entry))
    if unequal(entry):
        print(f"not of equal compute to 5%: {', '.join(unequal(entry))}; wanted a larger budget")
