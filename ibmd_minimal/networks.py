"""Two denoisers that a reader can train: an MLP for points in the plane, a small U-Net for images.

Both are called as every denoiser is, `xhat0 = model(x_t, t, xT)`, and both return `x0`, not noise: around the bare
network F stands DDBM's preconditioning, `xhat0 = c_skip x_t + c_out F(c_in x_t, t)`. As students they take noise `z`
besides, through layers that start from zero, so that a copied teacher begins as exactly its teacher.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import _checks as check
from .bridges import Bridge, bridge_checked, bridge_from, expand
from .data.masks import hole_of, paste


class Precondition:
    """DDBM's scalings for a bridge between data of variance `sigma0²` and sources of variance `sigmaT²`.

    `covariance` is the mean of `Cov(x0, xT)` over elements, below `sigma0 sigmaT` in size. For Gaussian data of mean 0,
    `c_skip x_t` is `E[x0 | x_t]` and `c_out` its error's standard deviation, so that F's input and its target have
    variance one at every t (DDBM eq. 14).
    """

    def __init__(self, bridge: Bridge, sigma0: float, sigmaT: float, covariance: float = 0.0):
        bridge_checked(bridge)
        self.bridge = bridge
        self.sigma0, self.sigmaT = check.positive(sigma0, "sigma0"), check.positive(sigmaT, "sigmaT")
        self.covariance = float(covariance)
        if not abs(self.covariance) < self.sigma0 * self.sigmaT:
            raise ValueError(f"covariance is {covariance}; wanted its size below sigma0 sigmaT = {sigma0 * sigmaT:g}")

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(c_skip, c_out, c_in)` at the times `t` `(batch,)`, float64."""
        a, b, c = self.bridge._coefficients(t, torch.ones_like(t))
        v0, vT, v0T = self.sigma0**2, self.sigmaT**2, self.covariance
        total = a**2 * vT + b**2 * v0 + 2 * a * b * v0T + c**2
        error = (a**2 * (vT * v0 - v0T**2) + v0 * c**2) / total
        return (b * v0 + a * v0T) / total, error.sqrt(), total.rsqrt()


FREQUENCIES = 8
FEATURES = 4 * FREQUENCIES


def time_features(bridge: Bridge, t: Tensor, dtype: torch.dtype) -> Tensor:
    """`(batch, FEATURES)` sines and cosines of the noise level seen from either end, `sqrt(u)` and `sqrt(1 - u)`.

    `u` is the bridge's clock: both square roots move fast where `c` does, near t = 0 and near t = T.
    """
    u = bridge.rho2(t.double()) / bridge.rho2(torch.ones((), dtype=torch.float64, device=t.device))
    levels = torch.stack([u.sqrt(), (1 - u).clamp_min(0).sqrt()], dim=1).to(torch.promote_types(dtype, torch.float32))
    angles = levels[:, :, None] * torch.pi * torch.arange(1, FREQUENCIES + 1, device=t.device)
    return torch.cat([angles.sin(), angles.cos()], dim=1).flatten(1).to(dtype)


def smooth(z: Tensor) -> Tensor:
    """Noise that varies slowly, made of `z` `(batch, channels, height, width)`: what colours large parts of a picture.

    Of every block of 16x16 pixels the middle one's noise, spread bilinearly; the same of 32x32, and so on up to the
    picture's shorter side; their sum over the root of their number.
    """
    side = min(z.shape[-2:])
    blocks = [16 * 2**k for k in range(max(1, (side // 16).bit_length()))]
    middles = [
        F.pad(z, (0, -z.shape[-1] % b, 0, -z.shape[-2] % b), mode="replicate")[..., b // 2 :: b, b // 2 :: b]
        for b in blocks
    ]
    spread = [F.interpolate(m, scale_factor=b, mode="bilinear") for b, m in zip(blocks, middles)]
    return sum(part[..., : z.shape[-2], : z.shape[-1]] for part in spread) / len(blocks) ** 0.5


def zero(layer: nn.Module) -> nn.Module:
    """The layer with its parameters set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Denoiser(nn.Module):
    """What the two networks share: preconditioning, which inputs they take, and refusing the wrong ones.

    `arguments` holds what the constructor was given besides the bridge, ready for JSON; :meth:`spec` adds the bridge.
    """

    kind = ""
    channels: int
    last: nn.Module

    def __init__(
        self, bridge, sigma0, sigmaT, covariance, conditional, noise_channels, labels, head_start, pasted, **arguments
    ):
        super().__init__()
        self.bridge, self.conditional, self.pasted = bridge, bool(conditional), bool(pasted)
        if self.pasted and not self.conditional:
            raise ValueError("pasted is True and conditional False; wanted both: the hole is read off xT")
        self.precondition = Precondition(bridge, sigma0, sigmaT, covariance)
        self.channels = check.count(arguments["channels"], "channels")
        self.noise_channels = check.count(noise_channels, "noise_channels", least=0)
        self.labels = check.count(labels, "labels", least=0)
        self.arguments = (
            arguments
            | {
                "sigma0": self.precondition.sigma0,
                "sigmaT": self.precondition.sigmaT,
                "covariance": self.precondition.covariance,
                "conditional": self.conditional,
                "noise_channels": self.noise_channels,
                "labels": self.labels,
                "head_start": None if head_start is None else list(head_start),
            }
            | ({"pasted": True} if self.pasted else {})
        )
        self.head_start = self._checked(head_start)

    def _checked(self, head_start: Sequence[float] | None) -> tuple[float, ...] | None:
        if head_start is None:
            return None
        if self.noise_channels != self.channels:
            raise ValueError(
                f"head_start with {self.noise_channels} noise channels; wanted {self.channels}, as the data has"
            )
        if len(head_start) not in (2, 3, 4, 5):
            wanted = "wanted (time, sigma), then scale, then coarse, then swell"
            raise ValueError(f"head_start has {len(head_start)} numbers; {wanted}")
        if len(head_start) > 3 and not isinstance(self, UNet):
            raise ValueError("head_start has coarse noise, which is of images; wanted (time, sigma, scale) for points")
        time, sigma, *more = head_start
        found = check.fraction(time, "head_start's time"), check.positive(sigma, "head_start's sigma")
        if time == 1:
            raise ValueError("head_start's time is 1; wanted one before T, below 1")
        names = {"scale": False, "coarse": True, "swell": True}
        return found + tuple(
            check.positive(one, f"head_start's {name}", zero=zero) for one, (name, zero) in zip(more, names.items())
        )

    def core(self, x: Tensor, t: Tensor, xT: Tensor | None, z: Tensor | None, label: Tensor | None) -> Tensor:
        """The bare network F on inputs of unit variance; `xT` None if unconditional."""
        raise NotImplementedError

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        xT: Tensor | None = None,
        z: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        """`xhat0`, of the shape of `x_t` `(batch, channels, ...)`; ValueError or TypeError for what does not fit.

        `t`: `(batch,)` in [0, 1]. `xT`: needed if conditional, else ignored; a pasted network fills its hole
        (`masks.hole_of`) and copies the rest of it. `z`: needed if there are `noise_channels`,
        of shape `noise_shape(x_t)`. `label`: needed if there are `labels`, int64 `(batch,)` from 0 to `labels - 1`.
        """
        x_t, t = self.ahead(x_t, t, xT, z, label)
        skip, out, scale, seen = self._scaled(x_t, t, xT)
        xhat0 = skip * x_t + out * self.core(scale * x_t, t, seen, z, label).to(x_t.dtype)
        return paste(xhat0, xT, hole_of(xT)) if self.pasted else xhat0

    def _scaled(self, x_t: Tensor, t: Tensor, xT: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The preconditioning's `c_skip`, `c_out`, `c_in`, shaped to multiply `x_t`, and what F sees of `xT`."""
        skip, out, scale = (expand(c, x_t) for c in self.precondition(t))
        return skip, out, scale, xT / self.precondition.sigmaT if self.conditional else None

    def ahead(
        self, x_t: Tensor, t: Tensor, xT: Tensor | None, z: Tensor | None, label: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What looks at all of the picture, before the network does: inputs checked, `x_t` and t after the head start,
        if there is one. Once is enough: its time is before T, where nothing is ahead.

        Where `t = T`: `scale xT + sigma z + coarse smooth(z)`, said to stand at the time of the head start; with a
        swell `sigma z` is multiplied by `exp(swell s - swell²)`, `s` the mean of smooth(z) over the channels at unit
        variance.
        """
        self._refuse(x_t, t, xT, z, label)
        if self.head_start is None:
            return x_t, t
        time, sigma, scale, coarse, swell = (*self.head_start, *(1.0, 0.0, 0.0)[len(self.head_start) - 2 :])
        first = t == 1
        slow = smooth(z) if coarse or swell else torch.zeros_like(z)
        if swell:
            s = slow.mean(1, keepdim=True) * self.channels**0.5
            sigma = sigma * torch.exp(swell * s - swell**2)
        ahead = scale * x_t + sigma * z + coarse * slow
        return torch.where(expand(first.double(), x_t) > 0, ahead, x_t), torch.where(first, torch.full_like(t, time), t)

    def _refuse(self, x_t: Tensor, t: Tensor, xT: Tensor | None, z: Tensor | None, label: Tensor | None) -> None:
        self._refuse_shape(check.tensor(x_t, "x_t"))
        if x_t.dtype != self.last.weight.dtype:
            raise TypeError(f"x_t is {x_t.dtype} and the network {self.last.weight.dtype}; wanted the same")
        if not isinstance(t, Tensor) or t.ndim != 1:
            got = f"has shape {tuple(t.shape)}" if isinstance(t, Tensor) else f"is a {type(t).__name__}"
            raise ValueError(f"t {got}; wanted a tensor of shape ({len(x_t)},), one time per sample")
        if len(t) != len(x_t) or t.device.type == "cpu":  # elsewhere looking at values would wait for the device
            check.times(t, batch=len(x_t))
        if self.conditional:
            if xT is None:
                raise ValueError("xT is missing; this network is conditional and wants model(x_t, t, xT)")
            check.same(x_t, xT, "x_t", "xT")
        if (z is None) != (self.noise_channels == 0):
            raise ValueError(f"z is {_given(z)}; this network has {self.noise_channels} noise channels")
        if z is not None and tuple(z.shape) != self.noise_shape(x_t):
            raise ValueError(f"z has shape {tuple(z.shape)}; wanted {self.noise_shape(x_t)}")
        self._refuse_label(label, len(x_t))

    def _refuse_shape(self, x_t: Tensor) -> None:
        raise NotImplementedError

    def _refuse_label(self, label: Tensor | None, batch: int) -> None:
        if (label is None) != (self.labels == 0):
            raise ValueError(f"label is {_given(label)}; this network knows {self.labels} labels")
        if label is None:
            return
        if not isinstance(label, Tensor) or label.dtype != torch.int64 or label.shape != (batch,):
            got = f"{label.dtype} {tuple(label.shape)}" if isinstance(label, Tensor) else type(label).__name__
            raise ValueError(f"label is {got}; wanted an int64 tensor of shape ({batch},)")
        if not bool(((label >= 0) & (label < self.labels)).all()):
            raise ValueError(f"labels run from {label.min()} to {label.max()}; wanted 0 to {self.labels - 1}")

    def noise_shape(self, x: Tensor) -> tuple[int, ...]:
        """The shape of `z` for inputs of the shape of `x`: `noise_channels` in place of the channels."""
        return (x.shape[0], self.noise_channels, *x.shape[2:])

    def as_student(self, noise_channels: int | None = None, head_start: Sequence[float] | None = None) -> Denoiser:
        """A copy with noise inputs whose layers start from zero: at first it does what the teacher does, for any `z`.

        `noise_channels`: as many as the data has channels if None. A teacher with noise inputs of its own keeps them
        if their number is the same; ValueError if it is not.

        Noise that starts from zero starts at a saddle: `z` and `-z` weigh the same, so no gradient calls for it, and on
        images its growth costs a thousand updates. `head_start = (time, sigma)` begins beyond it: at t = T the student
        sees `xT + sigma z` and takes it for an `x_t` at the earlier `time`, where a denoiser knows what noise is for.
        The noise layers still start from zero, see the same `z`, and learn what of it to take back. Where the bridge
        shrinks what it carries, as VP does, a third number scales `xT`: `a + b Cov(x0, xT)/sigmaT²` at that time.
        Where it is large parts of the picture that xT leaves open, such as a drawing's colours, a fourth adds `coarse`
        times noise that varies slowly (:func:`smooth`): of colours white noise says nothing. Where xT leaves open how
        much texture there is, a fifth lets the white noise `swell`, here to more and there to less of it: the same
        amount everywhere is what no network can take back to an even sky.
        """
        noise_channels = (
            self.channels if noise_channels is None else check.count(noise_channels, "noise_channels", least=0)
        )
        if self.noise_channels not in (0, noise_channels):
            raise ValueError(
                f"this network has {self.noise_channels} noise channels; wanted as many, got {noise_channels}"
            )
        changed = {"noise_channels": noise_channels, "head_start": head_start}
        student = type(self)(self.bridge, **(self.arguments | changed)).to(self.last.weight)
        student.load_state_dict(self.state_dict(), strict=noise_channels == self.noise_channels)
        return student

    def with_labels(self, labels: int) -> Denoiser:
        """A copy that is told one of `labels` labels, and at first pays no attention: their weights are zero.

        What a student of several teachers, and its fake model, start from. ValueError if it knows labels already.
        """
        if self.labels:
            raise ValueError(f"this network knows {self.labels} labels; wanted one without")
        copy = type(self)(self.bridge, **(self.arguments | {"labels": labels})).to(self.last.weight)
        return copy.widen(self)

    def widen(self, other: Denoiser) -> Denoiser:
        """Take over the weights of a network that sees the same or less; those of what is new (labels, of images also
        xT) are zero. ValueError for points and an xT that is new: their first layer has it among the others."""
        if self.kind == "mlp" and self.conditional and not other.conditional:
            raise ValueError("the other network does not see xT; wanted one that does, or an image network")
        kept, wider = other.state_dict(), self.state_dict()
        for name, value in wider.items():
            value.zero_()[tuple(slice(size) for size in kept[name].shape)] = kept[name]
        self.load_state_dict(wider)
        return self

    def spec(self) -> dict:
        """What :func:`network_from` rebuilds this network from, its weights apart, ready for JSON."""
        if self.bridge.family == "custom":
            raise ValueError(
                "the network's bridge is a custom one; wanted one of a named family, which a file can name"
            )
        bridge = {"family": self.bridge.family, **dict(self.bridge.parameters)}
        return {"kind": self.kind, "bridge": bridge, "arguments": dict(self.arguments)}


def _given(value: object) -> str:
    return "missing" if value is None else "given"


class MLP(Denoiser):
    """A denoiser of points `(batch, channels)`: `depth` hidden layers of width `hidden`, SiLU between.

    `sharpness` multiplies the first layer's weights for the points before training: above 1 the network sees clusters
    that are small beside their distances sooner.
    """

    kind = "mlp"

    def __init__(
        self,
        bridge: Bridge,
        channels: int = 2,
        hidden: int = 128,
        depth: int = 3,
        sharpness: float = 1.0,
        *,
        sigma0: float = 1.0,
        sigmaT: float = 1.0,
        covariance: float = 0.0,
        conditional: bool = False,
        noise_channels: int = 0,
        labels: int = 0,
        head_start: Sequence[float] | None = None,
        pasted: bool = False,
    ):
        hidden, depth = check.count(hidden, "hidden"), check.count(depth, "depth")
        sizes = {
            "channels": channels,
            "hidden": hidden,
            "depth": depth,
            "sharpness": check.positive(sharpness, "sharpness"),
        }
        super().__init__(
            bridge, sigma0, sigmaT, covariance, conditional, noise_channels, labels, head_start, pasted, **sizes
        )
        self.first = nn.Linear(channels * (1 + self.conditional) + FEATURES + labels, hidden)
        with torch.no_grad():
            self.first.weight[:, : channels * (1 + self.conditional)] *= sharpness
        self.hidden = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth - 1))
        self.last = nn.Linear(hidden, channels)
        self.noise = zero(nn.Linear(noise_channels, hidden, bias=False)) if noise_channels else None

    def _refuse_shape(self, x_t: Tensor) -> None:
        if x_t.ndim != 2 or x_t.shape[1] != self.channels:
            raise ValueError(f"x_t has shape {tuple(x_t.shape)}; wanted (batch, {self.channels})")

    def core(self, x: Tensor, t: Tensor, xT: Tensor | None, z: Tensor | None, label: Tensor | None) -> Tensor:
        inputs = [x] + ([xT] if xT is not None else []) + [time_features(self.bridge, t, x.dtype)]
        if label is not None:
            inputs.append(F.one_hot(label, self.labels).to(x.dtype))
        h = self.first(torch.cat(inputs, dim=1))
        h = F.silu(h if z is None else h + self.noise(z))
        for layer in self.hidden:
            h = F.silu(layer(h))
        return self.last(h)


# -- images ----------------------------------------------------------------------------------------


def to_depth(x: Tensor, p: int) -> Tensor:
    """Blocks of p x p pixels become channels: `(b, c, h p, w p) -> (b, c p p, h, w)`, channels last in memory."""
    return F.pixel_unshuffle(x, p).contiguous(memory_format=torch.channels_last)


def to_space(x: Tensor, p: int) -> Tensor:
    """The inverse of :func:`to_depth`, channels last in memory too."""
    return F.pixel_shuffle(x, p).contiguous(memory_format=torch.channels_last)


class Block(nn.Module):
    """A residual block: normalise over channels, scale and shift by time, two 3x3 convolutions, noise between.

    The norm looks at one position at a time, never over positions, so that a crop behaves as the whole image.
    """

    def __init__(self, width: int, embedding: int, noise_channels: int):
        super().__init__()
        self.modulate = zero(nn.Linear(embedding, 2 * width))
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = zero(nn.Conv2d(width, width, 3, padding=1))
        self.noise = zero(nn.Conv2d(noise_channels, width, 1, bias=False)) if noise_channels else None

    def forward(self, x: Tensor, embedding: Tensor, z: Tensor | None) -> Tensor:
        """`x`, and the result, `(batch, width, height, width)`; `z` of the same size in its own channels."""
        scale, shift = self.modulate(embedding)[:, None, None].chunk(2, dim=-1)
        h = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2])
        h = self.first(F.silu(h * (1 + scale) + shift).permute(0, 3, 1, 2))
        return x + self.second(F.silu(h if z is None else h + self.noise(z)))


class UNet(Denoiser):
    """A denoiser of images `(batch, channels, height, width)`: fully convolutional and local.

    Blocks of `patch` x `patch` pixels become channels first, then `widths[k]` channels at level k, each level half the
    size of the one before, `blocks` residual blocks on the way down and as many on the way up. Height and width
    must be multiples of `stride = patch 2^(levels-1)`. Local: no statistics over positions, so the interior of a crop
    taken at a multiple of the stride equals the whole image's output `reach` pixels away from the cut.

    `gated`: F gets its input back, times a learned function of t and of the place, so that it can leave out what the
    preconditioning carries through. Where a patch has more values than the network has channels, F could not do that
    otherwise: it would have to hand every pixel's noise through. By place, because noise that hides an edge's detail is
    worth keeping there, and is grain on an even surface.
    """

    kind = "unet"
    noise_gain = 4.0  # the noise layers start from zero and learn at the common rate: with this they catch up sooner
    gate_gain = 4.0  # the gate of place likewise

    def __init__(
        self,
        bridge: Bridge,
        channels: int = 3,
        widths: Sequence[int] = (64, 128),
        blocks: int = 1,
        patch: int = 2,
        *,
        sigma0: float = 0.5,
        sigmaT: float = 0.5,
        covariance: float = 0.0,
        conditional: bool = False,
        noise_channels: int = 0,
        labels: int = 0,
        head_start: Sequence[float] | None = None,
        pasted: bool = False,
        gated: bool = False,
    ):
        widths = [check.count(width, "widths") for width in widths]
        if not widths:
            raise ValueError("widths is empty; wanted one width per level, for example (64, 128)")
        patch, blocks = check.count(patch, "patch"), check.count(blocks, "blocks")
        sizes = {"channels": channels, "widths": widths, "blocks": blocks, "patch": patch}
        sizes |= {"gated": True} if gated else {}
        super().__init__(
            bridge, sigma0, sigmaT, covariance, conditional, noise_channels, labels, head_start, pasted, **sizes
        )
        self.widths, self.patch, self.blocks = widths, patch, blocks
        levels, size, embedding = range(len(widths)), patch**2, 2 * widths[0]
        self.stride = patch * 2 ** levels[-1]

        def level(k: int) -> nn.ModuleList:
            noise = noise_channels * size * 4**k
            return nn.ModuleList(Block(widths[k], embedding, noise) for _ in range(blocks))

        self.embed = nn.Sequential(
            nn.Linear(FEATURES + labels, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.first = nn.Conv2d(size * channels * (1 + self.conditional), widths[0], 3, padding=1)
        self.down = nn.ModuleList(level(k) for k in levels)
        self.up = nn.ModuleList(level(k) for k in levels)
        self.shrink = nn.ModuleList(nn.Conv2d(4 * widths[k], widths[k + 1], 1) for k in levels[:-1])
        self.grow = nn.ModuleList(nn.Conv2d(widths[k + 1], 4 * widths[k], 1) for k in levels[:-1])
        self.last = zero(nn.Conv2d(widths[0], size * channels, 3, padding=1))
        self.gate = zero(nn.Linear(embedding, 1)) if gated else None
        self.gate_here = zero(nn.Conv2d(widths[0], size, 3, padding=1)) if gated else None
        self.to(memory_format=torch.channels_last)

    @property
    def reach(self) -> int:
        """How many pixels from a cut the output begins to be that of the whole image.

        A cut spoils one more position with every 3x3 convolution, `patch 2^k` pixels at level k; a block has two. On
        the way down a position of the next level is spoilt if any of the four that it joins is.
        """
        pixels = [self.patch * 2**k for k in range(len(self.widths))]
        spoilt = self.patch
        for pixel in pixels:
            spoilt = -(-spoilt // pixel) * pixel + 2 * self.blocks * pixel
        return spoilt + sum(2 * self.blocks * pixel for pixel in pixels) + self.patch

    def _refuse_shape(self, x_t: Tensor) -> None:
        if x_t.ndim != 4 or x_t.shape[1] != self.channels or x_t.shape[2] % self.stride or x_t.shape[3] % self.stride:
            wanted = f"(batch, {self.channels}, height, width) with sides that are multiples of {self.stride}"
            raise ValueError(f"x_t has shape {tuple(x_t.shape)}; wanted {wanted}")

    def core(self, x: Tensor, t: Tensor, xT: Tensor | None, z: Tensor | None, label: Tensor | None) -> Tensor:
        h, embedding = self._features(x, t, xT, z, label)
        out = to_space(self.last(h), self.patch)
        return out if self.gate is None else out + self._gates(h, embedding) * x

    def carried(self, x_t: Tensor, t: Tensor, xT: Tensor | None = None) -> Tensor:
        """The share of `x_t` that goes straight to the output, `c_skip + c_out g c_in` with the gate g, at each place.

        Arguments as those of the network, without noise or label; `(batch, 1, height, width)`. ValueError for a network
        that is not gated.
        """
        if self.gate is None:
            raise ValueError("the network is not gated; wanted one whose input is given back to F")
        self._refuse(x_t, t, xT, None, None)
        skip, out, scale, seen = self._scaled(x_t, t, xT)
        return skip + out * scale * self._gates(*self._features(scale * x_t, t, seen, None, None))

    def _features(self, x, t, xT, z, label) -> tuple[Tensor, Tensor]:
        """What the last layer sees, `(batch, width, height/patch, width/patch)`, and the embedding of the time."""
        embedding = self._embedding(t, label, x.dtype)
        noise = [
            None if z is None else self.noise_gain * to_depth(z, self.patch * 2**k) for k in range(len(self.widths))
        ]
        h = self.first(to_depth(x if xT is None else torch.cat([x, xT], dim=1), self.patch))
        skips = []
        for k, blocks in enumerate(self.down):
            h = h if k == 0 else self.shrink[k - 1](to_depth(h, 2))
            for block in blocks:
                h = block(h, embedding, noise[k])
            skips.append(h)
        for k, blocks in reversed(list(enumerate(self.up))):
            h = h if k == len(self.grow) else skips[k] + to_space(self.grow[k](h), 2)
            for block in blocks:
                h = block(h, embedding, noise[k])
        return F.silu(h), embedding

    def _gates(self, h: Tensor, embedding: Tensor) -> Tensor:
        """What of F's input it gets back, `(batch, 1, height, width)`."""
        return self.gate(embedding)[:, :, None, None] + self.gate_gain * to_space(self.gate_here(h), self.patch)

    def _embedding(self, t: Tensor, label: Tensor | None, dtype: torch.dtype) -> Tensor:
        features = time_features(self.bridge, t, dtype)
        if label is not None:
            features = torch.cat([features, F.one_hot(label, self.labels).to(dtype)], dim=1)
        return self.embed(features)


NETWORKS: dict[str, type[Denoiser]] = {"mlp": MLP, "unet": UNet}


def network_from(spec: dict) -> Denoiser:
    """The network that :meth:`Denoiser.spec` described, with fresh weights; ValueError for a spec of something else."""
    if not isinstance(spec, dict) or set(spec) != {"kind", "bridge", "arguments"}:
        got = f"the keys {', '.join(map(str, spec))}" if isinstance(spec, dict) else f"a {type(spec).__name__}"
        raise ValueError(
            f"the network's spec has {got}; wanted a dict of kind, bridge, arguments, as spec() returns it"
        )
    network = NETWORKS[check.choice(spec["kind"], "kind", NETWORKS)]
    try:
        return network(bridge_from(**spec["bridge"]), **spec["arguments"])
    except TypeError as problem:
        raise ValueError(
            f"the network's spec does not fit a {spec['kind']} ({problem}); wanted one of spec()"
        ) from problem
