"""How many solids a second: images of 64x64 with normals, lines and labels. Printed, not asserted.

`python -m tests.benchmarks.solids`; the goal is 300 a second on two cores with nothing else to do.
"""

from __future__ import annotations

import statistics
import time

import torch

from ibmd_minimal.data.solids import solids

GOAL = 300


def images_per_second(size: int = 64, n: int = 256, rounds: int = 5) -> tuple[float, float]:
    """Medians over `rounds` batches of `n`: per second by the clock, and per second of processor time."""
    solids(n, size)
    clock, processor = [], []
    for k in range(rounds):
        start, started = time.perf_counter(), time.process_time()
        solids(range(k * n, (k + 1) * n), size)
        clock.append(n / (time.perf_counter() - start))
        processor.append(n / (time.process_time() - started))
    return statistics.median(clock), statistics.median(processor)


def row(size: int = 64) -> str:
    """One line for the table of benchmarks."""
    clock, processor = images_per_second(size)
    goal = f" (goal {GOAL} on 2 cores)" if size == 64 else ""
    return f"solids of {size}x{size}: {clock:5.0f} a second{goal}, {processor:5.0f} in a second of one core's time"


def main() -> None:
    """Print the rows of three sizes."""
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for size in (32, 64, 128):
        print(row(size))


if __name__ == "__main__":
    main()
