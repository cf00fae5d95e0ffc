"""Students: a network that jumps from the source to the data, in one step or a few.

A one-step student is `x0 = G(xT, z)`, the network's pass at `t = T`. A student of N steps goes down the times
`T = t_N > ... > t_1 > 0`: at each it jumps to a guess of `x0` and, but for the last, is put back to the next time by
the bridge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from . import _checks as check
from ._random import normal, uniform
from .bridges import Bridge, bridge_checked

ANCHORS = ("x_t", "xT")


class ByLabel(Bridge):
    """Several bridges as one: row `i` of a batch is on `bridges[label[i]]`. Only for times of shape `(batch,)`."""

    def __init__(self, bridges: Sequence[Bridge], label: Tensor):
        def pick(values: Callable[[Bridge, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            return lambda t: torch.stack([values(one, t) for one in bridges]).gather(0, label[None])[0]

        schedules = {
            "alpha": pick(lambda one, t: one.alpha(t)),
            "rho2": pick(lambda one, t: one.rho2(t)),
            "clock_inverse": pick(lambda one, u: one.time_at(u)),
        }
        for name, value in schedules.items():
            object.__setattr__(self, name, value)


def put_back(bridge: Bridge, x0: Tensor, x_n: Tensor, s: Tensor, t_n: Tensor, generator) -> Tensor:
    """`x_s ~ q(x_s | x0, x_n)`, the bridge pinned at `x_n` at the times `t_n`; `s`, `t_n`: `(batch,)`."""
    return bridge._sample(x0, x_n, s, t_n, normal(x0.shape, like=x0, generator=generator))


def _descending(times: Sequence[float]) -> tuple[float, ...]:
    times = [check.fraction(t, "times") for t in times]
    if not times or times[0] != 1 or times[-1] <= 0 or any(t <= s for t, s in pairwise(times)):
        raise ValueError(f"times are {times}; wanted 1.0 first, then descending, all above 0")
    return tuple(times)


class Student(nn.Module):
    """A generator `x0 = student(xT)` of `len(times)` network passes.

    `network`: called `network(x_t, t, xT)`, with `z=` if its attribute `noise_channels` is not 0 and `label=` if a
    label is given; `network.noise_shape(x)` is the shape of `z`. `times`: descending from 1, within (0, 1]: `(1.0,)`
    is the one-step student. More steps need the `bridge` that puts a sample back between them, or a list of bridges,
    one for each label.

    `anchor` says where an intermediate point is pinned, in training and in use (IBMD appendix B):
    "x_t": `x_s ~ q(x_s | x0, x_{t_n})`, each step distils the bridge below `t_n`; right for every teacher.
    "xT": `x_s ~ q(x_s | x0, xT)`, each step distils the whole bridge; right for conditional teachers alone, because an
    unconditional one's `x_{t_n}` says less about `x0` than the pair `(x_{t_n}, xT)` does. `distill` refuses it there.

    What an ideal student reaches: the law of `(x0, xT)` of the *data*, except that of an unconditional teacher with
    several steps. There each step has the data's law of `(x0, x_{t_n})`, each draws `x0 ~ p(x0 | x_{t_n})`, and the
    chain forgets a part of the pairing: end to end it is `exact.GaussianCoupling.few_step_coupling`, the data's
    coupling for one step, the teacher's own process for infinitely many; the law of `x0` is the data's for any number.
    (A network that also looks at `xT`, under an unconditional teacher, leaves the pairing open: nothing in the loss
    asks for it.)
    """

    def __init__(
        self,
        network: nn.Module,
        bridge: Bridge | Sequence[Bridge] | None = None,
        times: Sequence[float] = (1.0,),
        anchor: str = "x_t",
    ):
        super().__init__()
        check.callable_(network, "network", "a module called as network(x_t, t, xT)")
        self.bridges = tuple(bridge) if isinstance(bridge, Sequence) else () if bridge is None else (bridge,)
        for one in self.bridges:
            bridge_checked(one)
        self.network, self.bridge, self.times = network, bridge, _descending(times)
        if len(self.times) > 1 and not self.bridges:
            raise ValueError(
                f"a student of {self.nfe} steps has no bridge; wanted the one that puts it back in between"
            )
        self.anchor = check.choice(anchor, "anchor", ANCHORS)

    @property
    def nfe(self) -> int:
        """Network passes for one sample."""
        return len(self.times)

    def jump(
        self, x_t: Tensor, t: Tensor, xT: Tensor, label: Tensor | None = None, generator=None, z: Tensor | None = None
    ):
        """The guess of `x0` from `x_t` at the times `t` `(batch,)`: one network pass; `z` drawn if None."""
        extra = {} if label is None else {"label": label}
        shape = self.network.noise_shape(x_t) if getattr(self.network, "noise_channels", 0) else None
        if z is not None and (shape is None or tuple(z.shape) != tuple(shape)):
            wanted = tuple(shape) if shape else "none, the network takes no z"
            raise ValueError(f"z has shape {tuple(z.shape)}; wanted {wanted}")
        if shape is not None:
            extra["z"] = normal(shape, like=x_t, generator=generator) if z is None else z
        return self.network(x_t, t.to(torch.promote_types(x_t.dtype, torch.float32)), xT, **extra)

    def move(
        self, x0: Tensor, x_t: Tensor, xT: Tensor, s: Tensor, t: Tensor, generator=None, label: Tensor | None = None
    ):
        """The next point at the times `s`, put back from `x_t` at `t` or from `xT`, as the anchor says."""
        if len(self.bridges) > 1 and label is None:
            raise ValueError(
                f"label is None; wanted (batch,) whole numbers: the student has {len(self.bridges)} bridges"
            )
        bridge = self.bridges[0] if len(self.bridges) == 1 else ByLabel(self.bridges, label)
        pinned, end = (x_t, t) if self.anchor == "x_t" else (xT, torch.ones_like(t))
        return put_back(bridge, x0, pinned, s, end, generator)

    def _at(self, n: int, xT: Tensor) -> Tensor:
        return torch.full((len(xT),), self.times[n], dtype=torch.float64, device=xT.device)

    def steps(self, xT: Tensor, label: Tensor | None = None, generator=None, z: Tensor | None = None):
        """Yield `(t, x_t, x0)` at each of the student's times: where it stands, and its guess from there."""
        x_t = xT
        for n in range(self.nfe):
            x0 = self.jump(x_t, self._at(n, xT), xT, label, generator, z if n == 0 else None)
            yield self._at(n, xT), x_t, x0
            if n + 1 < self.nfe:
                x_t = self.move(x0, x_t, xT, self._at(n + 1, xT), self._at(n, xT), generator, label)

    def forward(self, xT: Tensor, label: Tensor | None = None, generator=None, z: Tensor | None = None) -> Tensor:
        """`x0 = G(xT, z)`, of the shape of `xT` `(batch, ...)`, by `nfe` passes of the network.

        `label`: `(batch,)` whole numbers, for a student of several teachers. `z`: noise of the first step, drawn if
        None.
        """
        check.tensor(xT, "xT")
        if label is not None and tuple(getattr(label, "shape", ())) != (len(xT),):
            raise ValueError(f"label has shape {tuple(getattr(label, 'shape', ()))}; wanted ({len(xT)},), one per xT")
        return list(self.steps(xT, label, generator, z))[-1][-1]

    @torch.no_grad()
    def start(self, xT: Tensor, label: Tensor | None = None, generator=None) -> tuple[Tensor, Tensor]:
        """`(x_n, t_n)`: for each sample one of the student's times, drawn evenly, and the point it reaches there.

        What a training step begins from: the student's own points, so that training sees what use will bring. One pass
        less than a sample takes: nothing jumps from the last time.
        """
        x_t = x_n = xT
        t_n = self._at(0, xT)
        if self.nfe == 1:
            return x_n, t_n
        chosen = ((1 - uniform(len(xT), xT, generator)) * self.nfe).long()
        for n in range(1, self.nfe):
            x0 = self.jump(x_t, self._at(n - 1, xT), xT, label, generator)
            x_t = self.move(x0, x_t, xT, self._at(n, xT), self._at(n - 1, xT), generator, label)
            here = chosen == n
            x_n = torch.where(here.reshape(-1, *[1] * (xT.ndim - 1)), x_t, x_n)
            t_n = torch.where(here, self._at(n, xT), t_n)
        return x_n, t_n


class ToldFake(nn.Module):
    """A fake model that is told which of a student's `times` each sample jumped from; it starts as the teacher.

    Anchored at xT, all steps of a student aim at the same law: a fake model that cannot tell them apart sees their
    mixture (:func:`inverse.distill`). `teacher`: a network of this library without labels, which it is given here.
    """

    def __init__(self, teacher: nn.Module, times: Sequence[float]):
        super().__init__()
        self.network = teacher.with_labels(len(_descending(times))).requires_grad_(True).train()
        self.times, self.conditional = tuple(times), teacher.conditional

    def forward(self, x_t: Tensor, t: Tensor, xT: Tensor | None = None, t_n: Tensor | None = None) -> Tensor:
        """`xhat0`, of the shape of `x_t`; `t_n`: `(batch,)`, each the nearest of the times. ValueError without it."""
        if t_n is None:
            raise ValueError(f"t_n is missing; wanted (batch,) of the student's times, {self.times}")
        times = torch.tensor(self.times, dtype=torch.float64, device=t_n.device)
        return self.network(x_t, t, xT, label=(t_n[:, None] - times).abs().argmin(1))


def student_from(
    teacher: nn.Module,
    bridge: Bridge | None = None,
    times: Sequence[float] = (1.0,),
    anchor: str = "x_t",
    noise_channels: int | None = None,
    head_start: Sequence[float] | None = None,
) -> Student:
    """A student that starts as its teacher: same weights, and noise inputs whose layers are zero.

    `teacher`: a network of this library (`MLP`, `UNet`). `noise_channels`: as many as the data has if None, 0 for none.
    `head_start`: `(time, sigma)`, see :meth:`networks.Denoiser.as_student`.
    """
    if not hasattr(teacher, "as_student"):
        raise TypeError(f"the teacher is a {type(teacher).__name__}; wanted an MLP or a UNet, or a Student by hand")
    return Student(teacher.as_student(noise_channels, head_start), bridge, times, anchor)
