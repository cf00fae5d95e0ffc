"""The library's loops against the bare passes of the same networks, at the same shapes, in one run.

Bare work is what cannot be avoided: forward and backward passes and optimiser steps on ready-made inputs. Ours and
bare take turns, step by step, so that a machine whose speed drifts slows both; printed is the median of the ratios of
neighbours.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ibmd_minimal.bridges import brownian, expand
from ibmd_minimal.inverse import distillation, frozen
from ibmd_minimal.matching import bridge_matching_loss, noised, weight_at
from ibmd_minimal.networks import MLP, Denoiser, UNet
from ibmd_minimal.samplers import steps
from ibmd_minimal.students import student_from
from ibmd_minimal.training import Batches, Learner, loop
from tests.benchmarks import pad
from tests.benchmarks.solids import row
from tests.benchmarks.widgets import GOAL, rows

BRIDGE = brownian(0.1)
FAKE_STEPS = 5
CASES: dict[str, tuple[Callable[[], Denoiser], tuple[int, ...], int]] = {
    "2D MLP 3x128, batch 1024": (lambda: MLP(BRIDGE), (1024, 2), 60),
    "U-Net (64, 128, 128), 32 images of 32x32": (lambda: UNet(BRIDGE, 3, (64, 128, 128)), (32, 3, 32, 32), 8),
}


def seconds(step: Callable[[], object]) -> float:
    """What one call takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def ratio(ours: Callable[[], object], bare: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Median of ours/bare over `rounds` turns, and the medians of both in milliseconds; two turns warm up."""
    pairs = [(seconds(ours), seconds(bare)) for _ in range(rounds + 2)][2:]
    a, b = zip(*pairs)
    return statistics.median(x / y for x, y in pairs), 1e3 * statistics.median(a), 1e3 * statistics.median(b)


def adam(module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that a Learner uses."""
    return torch.optim.AdamW(module.parameters(), 1e-4, weight_decay=0.0, fused=True)


def update(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """Backward pass and optimiser step."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def matching_step(make: Callable[[], Denoiser], shape: tuple[int, ...]) -> tuple[Callable, Callable]:
    """One step of bridge matching: ours, bare."""
    x0, xT, t = torch.randn(shape), torch.randn(shape), torch.rand(shape[0])
    model, other = make(), make()
    learner, optimiser = Learner(model, 1e-4, ema=0.999), adam(other)

    def body(step: int) -> dict[str, float]:
        return {"loss": learner.update([lambda: bridge_matching_loss(model, BRIDGE, x0, xT)], step)}

    running = loop({"model": learner}, body, 10**6, progress=False)
    return lambda: next(running), lambda: update((other(xT, t) - x0).square().mean(), optimiser)


def ibmd_step(make: Callable[[], Denoiser], shape: tuple[int, ...]) -> tuple[Callable, Callable]:
    """One iteration of IBMD, five steps of the fake model and one of the student: ours, bare."""
    xT, x_t, t, z = torch.randn(shape), torch.randn(shape), torch.rand(shape[0]), torch.randn(shape)
    teacher = make().requires_grad_(False)
    running: Iterator = distillation(
        teacher,
        BRIDGE,
        student_from(make()),
        Batches(lambda draws: xT),
        steps=10**6,
        fake_steps=FAKE_STEPS,
        progress=False,
    )
    student, fake, one = make().as_student(), make(), torch.ones(shape[0])
    of_student, of_fake = adam(student), adam(fake)

    def bare() -> None:
        for _ in range(FAKE_STEPS):
            with torch.no_grad():
                x0 = student(xT, one, xT, z=z)
            update((fake(x_t, t) - x0).square().mean(), of_fake)
        x0 = student(xT, one, xT, z=z)
        with frozen(teacher, fake):
            loss = ((teacher(x0, t) - x0).square() - (fake(x0, t) - x0).square()).mean()
        update(loss, of_student)

    return lambda: next(running), bare


def sampler_step(make: Callable[[], Denoiser], shape: tuple[int, ...]) -> tuple[Callable, Callable]:
    """One step of posterior sampling against one forward pass."""
    xT, t, model = torch.randn(shape), torch.rand(shape[0]), make().requires_grad_(False)
    running = steps(model, BRIDGE, xT, 1000)

    @torch.no_grad()
    def bare() -> None:
        model(xT, t, xT)

    return lambda: next(running), bare


def parts_of_a_step(make: Callable[[], Denoiser], shape: tuple[int, ...], rounds: int) -> dict[str, float]:
    """Median milliseconds of what a bridge-matching step does beside the bare work, part by part."""
    x0, xT, model = torch.randn(shape), torch.randn(shape), make()
    learner = Learner(model, 1e-4, ema=0.999)
    learner.update([lambda: bridge_matching_loss(model, BRIDGE, x0, xT)], 0)
    t, over = torch.rand(shape[0], dtype=torch.float64), torch.ones(shape[0], dtype=torch.float64)
    parts = {
        "x_t: times, noise, coefficients, the sum": lambda: noised(BRIDGE, x0, xT, None),
        "weights of the squared error": lambda: expand(weight_at("plain", BRIDGE, t) * over, x0) * x0**2,
        "looking for a gradient that is not finite": learner._clipped,
        "moving average of the parameters": learner._follow,
    }
    return {name: 1e3 * statistics.median(seconds(part) for _ in range(rounds)) for name, part in parts.items()}


def imports(statement: str, rounds: int = 5) -> float:
    """Median seconds of a fresh interpreter that runs `statement`."""
    return statistics.median(
        seconds(lambda: subprocess.run([sys.executable, "-c", statement], check=True)) for _ in range(rounds)
    )


def main() -> None:
    """Print every ratio beside its goal."""
    torch.manual_seed(0)
    goals = {
        "bridge-matching step": (matching_step, (1.10, 1.05)),
        "IBMD iteration": (ibmd_step, (1.10, 1.05)),
        "sampler step": (sampler_step, (1.05, 1.02)),
    }
    print(f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}\n")
    for k, (name, (make, shape, rounds)) in enumerate(CASES.items()):
        print(name)
        for what, (build, goal) in goals.items():
            found, ours, bare = ratio(*build(make, shape), rounds if what == "IBMD iteration" else 4 * rounds)
            print(f"  {what:22} {found:5.3f} (goal {goal[k]:.2f})   {ours:8.2f} ms against {bare:8.2f} ms")
        print("  of a bridge-matching step")
        for part, took in parts_of_a_step(make, shape, 4 * rounds).items():
            print(f"    {part:42} {took:8.2f} ms")
    print(f"\nexplorers, median of a change of a control (goal {GOAL:.0f} ms)")
    for name, took in rows():
        print(f"  {name:32} {took:6.0f} ms")
    print(f"\n{pad.row()}")
    print(f"\n{row()}")
    print("\nimport ibmd_minimal against import torch")
    print(f"  {imports('import ibmd_minimal') / imports('import torch'):5.3f} (goal 1.30)")


if __name__ == "__main__":
    main()
