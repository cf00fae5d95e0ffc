"""What a stroke on the sketch pad costs at the kernel, over the student's bare pass. Printed, not asserted.

`python -m tests.benchmarks.pad`. Timed from the browser's message, strokes as numbers, to the picture's bytes; stroke
and bare pass take turns. What the browser adds is written in the pad itself, and by the test marked `browser`.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import torch

from ibmd_minimal import recipe, student_from
from ibmd_minimal.widgets import SketchPad

GOAL = 2.0  # times the bare pass
IN_ALL = 300  # ms from stroke to picture in the browser, on two cores


def drawing(strokes: int, places: int = 60) -> list[list[float]]:
    """Circles of several sizes, as a hand draws them: some sixty places each."""
    angles = [2 * math.pi * k / (places - 1) for k in range(places)]
    radii = [0.1 + 0.3 * k / strokes for k in range(strokes)]
    return [[0.5 + radius * part(a) for a in angles for part in (math.cos, math.sin)] for radius in radii]


def seconds(step: Callable[[], object]) -> float:
    """What one call takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def stroke_to_picture(strokes: int = 8, rounds: int = 30) -> tuple[float, float, float]:
    """Median of the ratios, medians of ours and of the bare pass in milliseconds; two turns warm up.

    The network is that of the shipped student, with fresh weights: they cost the same.
    """
    task = recipe("sketch-to-image")
    student = student_from(task.network(task.small, 0), task.make_bridge()).eval()
    pad, xT, lines, sent = SketchPad(student, example=""), torch.ones(1, 3, task.size, task.size), drawing(strokes), 0

    def ours() -> None:
        nonlocal sent
        sent += 1
        pad.set_state({"strokes": [*lines[:-1], lines[-1][: 2 * sent]], "sent": sent})

    @torch.no_grad()
    def bare() -> None:
        student(xT, generator=torch.Generator().manual_seed(0))

    pairs = [(seconds(ours), seconds(bare)) for _ in range(rounds + 2)][2:]
    a, b = zip(*pairs)
    return statistics.median(x / y for x, y in pairs), 1e3 * statistics.median(a), 1e3 * statistics.median(b)


def row() -> str:
    """One line for the table of benchmarks."""
    found, ours, bare = stroke_to_picture()
    times = f"{found:.2f} times the student's pass (goal {GOAL:.1f}), {ours:.0f} ms against {bare:.0f} ms"
    return f"a stroke on the sketch pad, at the kernel: {times}; in the browser at most {IN_ALL} ms are wanted"


def main() -> None:
    """Print the row."""
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(row())


if __name__ == "__main__":
    main()
