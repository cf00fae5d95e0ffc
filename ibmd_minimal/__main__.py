"""`python -m ibmd_minimal COMMAND`: from demo, train, distill, evaluate, compare and restore to class and grade."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def seed(text: str) -> int:
    """A seed from the command line."""
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"{text!r} is no seed; wanted a whole number from 0 to {2**32 - 1}")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The commands and what they take."""
    top = argparse.ArgumentParser(prog="python -m ibmd_minimal", description="Inverse Bridge Matching Distillation.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    demo = command("demo", "A 2D teacher distilled into one step, a photograph restored; figures to build/demo/.")
    demo.add_argument("--out", default="build/demo")
    demo.add_argument("--seed", type=seed, default=0)
    _training(command("train", "Train a task's teacher; resumes a run that was interrupted."))
    sub = command("distill", "Distil it into a student; resumes a run that was interrupted.")
    _training(sub)
    sub.add_argument("--teacher", help="a checkpoint; the teacher of the same run, else the shipped one")
    sub.add_argument("--nfe", type=int, default=1, help="the student's network passes (1)")
    sub = command("ship", "Copy finished runs into assets/checkpoints.")
    _task(sub)
    sub.add_argument("--budget", default="small", help="small or full")
    _runs(sub)
    sub.add_argument("--roles", nargs="+", default=["teacher", "student"], help="teacher, student, student-2, ...")
    _evaluating(command("evaluate", "Measure teacher and students on pictures that they were not trained on."))
    _comparing(command("compare", "IBMD beside other ways to few steps, at equal compute; resumes where it stopped."))
    _ablating(command("ablate", "Change one thing of IBMD, from several seeds; resumes where it stopped."))
    sub = command("results", "Write the README's tables from assets/results.json.")
    sub.add_argument("--readme", default="README.md", help="the file with the marks")
    _restoring(command("restore", "Restore image files or folders of them."))
    sub = command("download", "Fetch a data set.")
    sub.add_argument("name", help="bsds500")
    sub.add_argument("--root", help="where to, else IBMD_DATA, else the cache folder")
    sub = command("chapters", "Write the readers' chapters anew from their masters, where they differ.")
    sub.add_argument("--masters", default="notebooks/solutions", help="folder of the masters")
    sub.add_argument("--out", default="notebooks", help="folder of the readers' chapters")
    sub = command("class", "Pack the book for students: a zip without solutions.")
    sub.add_argument("--out", default="build/class/ibmd-class.zip")
    _grading(command("grade", "Grade returned notebooks, to a table. This runs the students' code."))
    return top


def _device(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")


def _runs(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--runs", default="runs", help="folder of saved runs")


def _task(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("recipe", help="the task, for example sr4x-pool")
    _device(sub)
    sub.add_argument("--seed", type=seed, default=0)


def _training(sub: argparse.ArgumentParser) -> None:
    _task(sub)
    sub.add_argument("--budget", default="small", help="small (two CPU cores) or full (a GPU)")
    sub.add_argument("--steps", type=int, help="other than the budget's")
    _runs(sub)


def _evaluating(sub: argparse.ArgumentParser) -> None:
    _task(sub)
    sub.add_argument("--n", type=int, default=2000, help="pictures")
    sub.add_argument("--nfe", type=int, nargs="+", default=[1, 5, 20, 100], help="the teacher's network passes")
    sub.add_argument("--teacher", help="a checkpoint other than the shipped one")
    sub.add_argument("--student", help="a checkpoint other than the shipped one")
    sub.add_argument("--note", action="store_true", help="write what was measured to assets/results.json")
    sub.add_argument("--again", action="store_true", help="keep the teacher's rows noted before; add the NFE they lack")
    sub.add_argument("--whole", type=int, nargs="+", default=[1, 20], help="its passes on whole photographs")


def _contest(sub: argparse.ArgumentParser, budget: str) -> None:
    sub.add_argument("--budget", type=int, help=f"network passes of one training, other than {budget}")
    _runs(sub)
    _device(sub)


def _comparing(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("task", nargs="?", default="plane", help="plane, sr4x-pool or sketch-to-image")
    sub.add_argument("--only", nargs="+", default=[], help="methods or samplers; the results are left alone then")
    sub.add_argument("--teacher", action="store_true", help="image tasks: train the second teacher, and no more")
    _contest(sub, "the task's")


def _ablating(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", nargs="?", help="for example gradient; left out with --all")
    sub.add_argument("task", nargs="?", help="plane (the default), sr4x-pool or sketch-to-image")
    sub.add_argument("--all", action="store_true", help="every one; of image tasks the three that matter most")
    sub.add_argument("--seeds", type=seed, nargs="+", help="other than 0, 1, 2")
    _contest(sub, "the task's, halved in the plane")


def _restoring(sub: argparse.ArgumentParser) -> None:
    _task(sub)
    sub.add_argument("paths", nargs="+", help="image files or folders")
    sub.add_argument("--out", default="restored", help="folder of the results")
    sub.add_argument("--teacher", action="store_true", help="by the teacher instead of the student")
    sub.add_argument(
        "--nfe", type=int, help="network passes: the teacher's (100), or which of several students (that of the most)"
    )
    sub.add_argument("--clean", action="store_true", help="the files are whole: corrupt them first")
    sub.add_argument("--checkpoint", help="other weights than the shipped ones")
    sub.add_argument(
        "--mask",
        help="inpainting: a picture of one size with the files, white where to fill, which inpaint-freeform does best; "
        "without one, holes of the size trained on are hidden, one every 64 pixels. Deep inside holes wider than the "
        "16 pixels or so that training had, the fill is flat and grey, and a sentence says so",
    )
    sub.add_argument("--instead", help="multi: the task that it does here, for example jpeg-10")


def _grading(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("notebooks", nargs="+", help="returned chapters, or folders of them")
    sub.add_argument("--chapters", default="notebooks", help="folder of the readers' chapters")
    sub.add_argument("--out", help="a CSV file of one row a notebook")
    sub.add_argument("--seconds", type=int, default=60, help="how long one cell may run (60)")


def device_of(name: str) -> str:
    """The device's name, if it is there and holds numbers; under torchrun each process has its own GPU then."""
    import torch

    from .training import world

    try:
        torch.device(name)
        world()
        float(torch.zeros(1, device=name))
    except (RuntimeError, AssertionError) as problem:
        why = str(problem).splitlines()[0].rstrip(".")[:120]
        raise ValueError(f"device {name!r} is not there ({why}); wanted cpu, or a GPU of this machine") from None
    return name


def train(args: argparse.Namespace) -> None:
    """Train the teacher."""
    from .recipes import recipe
    from .runs import train_teacher

    task, device = recipe(args.recipe), device_of(args.device)
    done = train_teacher(task, args.budget, runs=args.runs, seed=args.seed, steps=args.steps, device=device)
    first, last = done.history[0]["loss"], done.history[-1]["loss"]
    print(f"{done.card}: {len(done.history)} steps, loss {first:.4f} at first, {last:.4f} at last")


def distill(args: argparse.Namespace) -> None:
    """Distil the student."""
    from .checkpoints import load_model
    from .recipes import recipe
    from .runs import distill_student, teacher_of

    task, device = recipe(args.recipe), device_of(args.device)
    if args.teacher and task.teachers:
        raise ValueError(f"--teacher {args.teacher} for {task.name}, which has {len(task.teachers)}; wanted none named")
    names = task.teachers or (task.name,)
    found = [load_model(args.teacher, role="teacher")] if args.teacher else None
    found = found or [teacher_of(name, args.budget, args.runs, args.seed) for name in names]
    options = {"nfe": args.nfe, "runs": args.runs, "seed": args.seed, "steps": args.steps, "device": device}
    done = distill_student(task, found if task.teachers else found[0], args.budget, **options)
    print(f"{done.card}: {len(done.history)} updates")


def ship(args: argparse.Namespace) -> None:
    """Copy checkpoints of runs into the repository."""
    from .recipes import recipe
    from .shipping import ship

    for role in args.roles:
        print(ship(recipe(args.recipe), role, args.budget, args.runs, args.seed))


def evaluate(args: argparse.Namespace) -> None:
    """Print a table and the agreement of mean and teacher, for each of the task's teachers."""
    from .measuring import measure
    from .recipes import recipe

    task, device = recipe(args.recipe), device_of(args.device)
    for name in task.teachers or (task.name,):
        given = {"seed": args.seed, "device": device, "keep": args.note, "again": args.again, "whole_nfes": args.whole}
        measure(task, name, args.n, args.nfe, args.teacher, args.student, **given)


def compare(args: argparse.Namespace) -> None:
    """IBMD beside its rivals."""
    from .comparison import run

    args.device = device_of(args.device)
    run(args)


def ablate(args: argparse.Namespace) -> None:
    """One thing of IBMD changed at a time."""
    from .ablations import run

    args.device = device_of(args.device)
    run(args)


def results(args: argparse.Namespace) -> None:
    """Write the README's tables from the stored results."""
    from .results import results, with_results
    from .training import write_whole

    path = Path(args.readme)
    write_whole(path, with_results(path.read_text(encoding="utf-8"), results()).encode())
    print(f"{path}: {len(results())} tasks")


def restore(args: argparse.Namespace) -> None:
    """Restore files, a line for each; those that could not be are named, and make it fail at the end."""
    from .recipes import recipe
    from .restoring import restore_files

    task, device = recipe(args.recipe), device_of(args.device)
    options = {"teacher": args.teacher, "nfe": args.nfe, "clean": args.clean, "checkpoint": args.checkpoint}
    options |= {"mask": args.mask, "instead": args.instead}
    done, failed, noted = 0, 0, set()
    for result in restore_files(task, args.paths, args.out, seed=args.seed, device=device, **options):
        if isinstance(result, str):
            failed += 1
            print(result, file=sys.stderr)
        else:
            done += 1
            width, height = result.size
            size = f"{width}x{height}, NFE {result.nfe}, {result.seconds:.2f} s"
            print(f"{result.source} ({result.taken}) -> {result.written}: {size}", flush=True)
            if result.note and result.note not in noted:  # one mask serves all files
                noted.add(result.note)
                print(result.note, file=sys.stderr)
    if failed:
        raise ValueError(f"{failed} of {done + failed} were not restored; wanted images or folders of images")


def download(args: argparse.Namespace) -> None:
    """Fetch a data set by name."""
    from .data.download import download as fetch

    fetch(args.name, args.root)


def chapters(args: argparse.Namespace) -> None:
    """Write the readers' chapters that are not what their masters give."""
    from .exercises.masters import masters_in, write_readers_chapters

    if not masters_in(args.masters):
        print(f"{args.masters} holds no masters")
        return
    written = write_readers_chapters(args.masters, args.out)
    for path in written:
        print(f"{path}: written anew, to be run")
    if not written:
        print("every reader's chapter is what its master gives")


def pack(args: argparse.Namespace) -> None:
    """The zip for students."""
    from .exercises.classroom import write_class_zip

    names = write_class_zip(Path(), args.out)
    print(f"{args.out}: {len(names)} files, {Path(args.out).stat().st_size / 1e6:.1f} MB")


def grade(args: argparse.Namespace) -> None:
    """A table for each returned notebook."""
    from .exercises.grading import grade_files

    grade_files(args.notebooks, args.chapters, args.out, args.seconds)


def demo(args: argparse.Namespace) -> None:
    """The whole story in three minutes."""
    from .demo import run

    run(Path(args.out), seed=args.seed)


WORDS = {"class": "pack"}  # Python keeps some words for itself
STEP, TRAINING = "the last saved step", "the last finished training"
RESUMED = {"train": STEP, "distill": STEP, "compare": TRAINING, "ablate": TRAINING}  # from where


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends with one sentence and exit status 2, an interrupt with 130."""
    args = parser().parse_args(arguments)
    try:
        globals()[WORDS.get(args.command, args.command)](args)
    except (ValueError, TypeError, OSError) as problem:
        print(f"ibmd_minimal {args.command}: {' '.join(str(problem).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        rest = f"; the same command goes on from {RESUMED[args.command]}" if args.command in RESUMED else ""
        print(f"ibmd_minimal {args.command}: interrupted{rest}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
