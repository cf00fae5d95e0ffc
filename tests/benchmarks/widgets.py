"""What a change of a control costs at the kernel: the explorers of `widgets.py`, every control moved.

A change is timed from the assignment of the value to the new picture's bytes. Goal: a median of at most 100 ms.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import ipywidgets as ipw
import torch
from torch import Tensor

from ibmd_minimal import widgets
from ibmd_minimal.bridges import brownian
from ibmd_minimal.data.toy import EightGaussians
from ibmd_minimal.finite import FiniteCoupling
from ibmd_minimal.gaussian import GaussianCoupling
from ibmd_minimal.samplers import sample

GOAL = 100.0  # ms
BRIDGE = brownian(0.1)


def eight_atoms() -> widgets.Explorer:
    """The exact teacher and student of eight points, independent of the source."""
    generator = torch.Generator().manual_seed(1)
    centres, xT = EightGaussians().centres.double(), EightGaussians().source(64, generator).double()
    coupling = FiniteCoupling(centres.repeat(64, 1), xT.repeat_interleave(8, 0))

    def student(xT: Tensor, generator: torch.Generator) -> Tensor:
        return centres[torch.randint(8, (len(xT),), generator=generator)]

    data = EightGaussians().data(400, generator)
    return widgets.teacher_and_student(coupling.denoiser(BRIDGE), student, BRIDGE, xT[:40], data)


def opposite_gaussians(dim: int = 2) -> widgets.Explorer:
    """The exact student of a Gaussian coupling of correlation -0.8 beside its teacher's process."""
    coupling = GaussianCoupling.of([0.0] * dim, [0.0] * dim, 1.0, 1.0, -0.8)
    denoiser, xT = coupling.denoiser(BRIDGE), coupling.sample(300, torch.Generator().manual_seed(1))[1]

    def student(xT: Tensor, generator: torch.Generator) -> Tensor:
        return -0.8 * xT + 0.6 * torch.randn(xT.shape, generator=generator, dtype=xT.dtype)

    def teacher(xT: Tensor, generator: torch.Generator) -> Tensor:
        return sample(denoiser, BRIDGE, xT, 50, generator=generator)

    return widgets.couplings(student, teacher, xT)


EXPLORERS = {
    "pinned_paths": widgets.pinned_paths,
    "mixture_and_projection": widgets.mixture_and_projection,
    "teacher_and_student": eight_atoms,
    "couplings": opposite_gaussians,
}


def values_of(control: ipw.Widget, most: int = 12) -> list:
    """Up to `most` values of a control, from end to end, the present one left out."""
    if hasattr(control, "options"):
        values = list(control.options)
    else:
        n = round((control.max - control.min) / control.step)
        values = [control.min + k * control.step for k in range(0, n + 1, max(1, n // most))]
    return [value for value in values if value != control.value][:most]


def changes(explorer: widgets.Explorer, name: str) -> Iterator[float]:
    """Milliseconds of each change of a control; its first value is put back at the end."""
    control, first = explorer.controls[name], explorer.controls[name].value
    for value in values_of(control):
        start = time.perf_counter()
        control.value = value
        yield 1e3 * (time.perf_counter() - start)
    control.value = first


def rows() -> list[tuple[str, float]]:
    """For every ready explorer: its name, and the median milliseconds of a change, over all of its controls."""
    found = []
    for name, make in EXPLORERS.items():
        explorer = make()
        found.append(
            (name, statistics.median(ms for control in explorer.controls for ms in changes(explorer, control)))
        )
    return found


def main() -> None:
    """Print the medians beside the goal."""
    for name, found in rows():
        print(f"  {name:24} {found:6.1f} ms a change (goal {GOAL:.0f})")


if __name__ == "__main__":
    main()
