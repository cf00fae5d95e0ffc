"""The two networks: preconditioning in closed form, locality, students that begin as their teachers."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from ibmd_minimal.bridges import Bridge, brownian, i2sb, ve, vp
from ibmd_minimal.data.masks import hole_of
from ibmd_minimal.exact import GaussianCoupling
from ibmd_minimal.networks import MLP, Denoiser, Precondition, UNet, network_from, to_depth, to_space

BRIDGES = [brownian(0.3), i2sb(0.3), ve(2.0), vp(2.0, 0.1)]
SIZES = {"sigma0": 0.6, "sigmaT": 0.9, "covariance": 0.25}


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights of a size that keeps activations of order one, none of them zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            fan_in = max(1, p[0].numel()) if p.ndim > 1 else 1
            p.copy_(torch.randn(p.shape, generator=generator) * (1 / fan_in**0.5 if p.ndim > 1 else 0.1))
    return module


def inputs(
    network: Denoiser, n: int = 3, size: int = 16, dtype=torch.float32, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Whatever a network takes, drawn from a seed."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n, network.channels, *([size, size] if isinstance(network, UNet) else []))
    found = {"x_t": torch.randn(shape, generator=generator), "t": torch.rand(n, generator=generator)}
    found["xT"] = torch.randn(shape, generator=generator)
    found = {key: value.to(dtype) for key, value in found.items()}
    if network.noise_channels:
        found["z"] = torch.randn(network.noise_shape(found["x_t"]), generator=generator).to(dtype)
    if network.labels:
        found["label"] = torch.arange(n) % network.labels
    return found


def small(kind: str, **options) -> Denoiser:
    return MLP(brownian(0.3), 2, 16, 2, **options) if kind == "mlp" else UNet(brownian(0.3), 2, (8, 12), **options)


# -- preconditioning -------------------------------------------------------------------------------


@pytest.mark.parametrize("bridge", BRIDGES, ids=str)
def test_preconditioning_is_the_linear_regression_of_gaussian_data(bridge):
    """c_skip x_t is E[x0 | x_t], c_out the std of its error, c_in one over the std of x_t, the ends included."""
    v0, vT, v0T = SIZES["sigma0"] ** 2, SIZES["sigmaT"] ** 2, SIZES["covariance"]
    cov = torch.tensor([[v0, v0T], [v0T, vT]], dtype=torch.float64)
    coupling = GaussianCoupling(torch.zeros(2, dtype=torch.float64), cov)
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    skip, out, scale = Precondition(bridge, **SIZES)(t)
    one = torch.ones(21, 1, dtype=torch.float64)
    torch.testing.assert_close(skip[:, None], coupling.denoiser(bridge)(one, t), rtol=1e-12, atol=1e-12)
    a, b, c = bridge.coefficients(t)
    variance = a**2 * vT + b**2 * v0 + 2 * a * b * v0T + c**2
    torch.testing.assert_close(scale**2 * variance, torch.ones_like(t))
    error = v0 - (b * v0 + a * v0T) ** 2 / variance
    torch.testing.assert_close(out**2, error, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bridge", BRIDGES, ids=str)
def test_the_network_sees_unit_variance_and_aims_at_it(bridge, monkeypatch):
    n, t = 100_000, 0.4
    generator = torch.Generator().manual_seed(0)
    root = torch.linalg.cholesky(torch.tensor([[0.36, 0.25], [0.25, 0.81]], dtype=torch.float64))
    x0, xT = (torch.randn(n, 2, generator=generator, dtype=torch.float64) @ root.T).T[:, :, None].unbind()
    network, seen = MLP(bridge, 1, 4, 1, **SIZES).double(), []
    monkeypatch.setattr(network, "core", lambda x, *rest: seen.append(x) or torch.zeros_like(x))
    x_t = bridge.sample(x0, xT, t, generator=generator)
    times = torch.full((n,), t, dtype=torch.float64)
    skip, out, _ = Precondition(bridge, **SIZES)(times)
    target = (x0 - network(x_t, times, xT)) / out[:, None]
    # A sample variance of n unit normals has the standard error sqrt(2/n).
    for value in (seen[0], target):
        assert abs(float(value.var()) - 1) < 5 * (2 / n) ** 0.5


def test_an_unet_begins_as_its_preconditioning():
    network = UNet(i2sb(0.3), 3, (8, 16), **SIZES, conditional=True, noise_channels=2)
    given = inputs(network)
    skip = network.precondition(given["t"])[0].float()[:, None, None, None]
    assert torch.equal(network(**given), skip * given["x_t"])


# -- inputs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "unet"])
@pytest.mark.parametrize("options", [{}, {"conditional": True}, {"labels": 3}, {"noise_channels": 2}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_input_is_taken_and_matters(kind, options, dtype):
    network = randomise(small(kind, **options)).to(dtype)
    given = inputs(network, dtype=dtype)
    out = network(**given)
    assert out.shape == given["x_t"].shape and out.dtype == dtype and bool(torch.isfinite(out).all())
    for name in given:
        other = given | {name: (given[name] + 1) % 3 if name == "label" else given[name] * 0.5}
        ignored = name == "xT" and not network.conditional
        assert torch.equal(network(**other), out) == ignored, name


def refusals():
    plain, image = small("mlp"), small("unet")
    everything = {"conditional": True, "labels": 3, "noise_channels": 2}
    for kind in ("mlp", "unet"):
        full = small(kind, **everything)
        given = inputs(full)
        for name in ("xT", "z", "label"):
            yield full, given | {name: None}, ValueError, f"{name} is missing"
        yield full, given | {"xT": given["xT"][:2]}, ValueError, "wanted the same shape"
        yield full, given | {"z": given["z"][:, :1]}, ValueError, "z has shape"
        yield full, given | {"label": given["label"] + 3}, ValueError, "labels run from 3 to 5; wanted 0 to 2"
        yield full, given | {"label": given["label"].float()}, ValueError, "wanted an int64 tensor"
    for network in (plain, image):
        given = inputs(network)
        for name, value in (("z", given["x_t"]), ("label", torch.zeros(3, dtype=torch.int64))):
            yield network, given | {name: value}, ValueError, f"{name} is given"
        yield network, given | {"t": given["t"][:2]}, ValueError, "one time per sample"
        yield network, given | {"t": torch.tensor(0.5)}, ValueError, "one time per sample"
        yield network, given | {"t": 0.5}, ValueError, "t is a float"
        yield network, given | {"t": given["t"] + 2}, ValueError, r"wanted times in \[0, 1\]"
        yield network, given | {"x_t": given["x_t"][:, :1]}, ValueError, "x_t has shape"
        yield network, {key: value.double() for key, value in given.items()}, TypeError, "x_t is torch.float64"
        yield network, given | {"x_t": [1.0]}, TypeError, "x_t is a list"
    yield image, {"x_t": torch.zeros(1, 2, 16, 18), "t": torch.ones(1)}, ValueError, "multiples of 4"


@pytest.mark.parametrize(("network", "given", "error", "says"), list(refusals()))
def test_wrong_inputs_are_refused(network, given, error, says):
    with pytest.raises(error, match=says):
        network(**given)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: MLP("brownian"), TypeError, "bridge is a str"),
        (lambda: MLP(brownian(), 0), ValueError, "channels is 0"),
        (lambda: MLP(brownian(), hidden=2.5), TypeError, "hidden is 2.5"),
        (lambda: MLP(brownian(), sigma0=0), ValueError, "sigma0 is 0"),
        (lambda: MLP(brownian(), covariance=1.0), ValueError, "wanted its size below"),
        (lambda: MLP(brownian(), covariance=float("nan")), ValueError, "wanted its size below"),
        (lambda: UNet(brownian(), 3, ()), ValueError, "widths is empty"),
        (lambda: UNet(brownian(), 3, (8,), labels=-1), ValueError, "labels is -1"),
        (lambda: small("mlp", noise_channels=2).as_student(3), ValueError, "has 2 noise channels"),
        (lambda: small("unet", pasted=True), ValueError, "pasted is True and conditional False; wanted both"),
        (lambda: small("unet", labels=2).with_labels(3), ValueError, "knows 2 labels; wanted one without"),
        (lambda: small("mlp").with_labels(2).with_labels(2), ValueError, "knows 2 labels; wanted one without"),
        (lambda: small("mlp").with_labels(-1), ValueError, "labels is -1"),
        (lambda: small("mlp", conditional=True).widen(small("mlp")), ValueError, "does not see xT; wanted one"),
    ],
)
def test_wrong_arguments_are_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()


# -- students --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "unet"])
@pytest.mark.parametrize("options", [{}, {"conditional": True, "labels": 2}])
@pytest.mark.parametrize("noise_channels", [None, 5])
def test_a_student_begins_as_its_teacher_whatever_the_noise(kind, options, noise_channels):
    teacher = randomise(small(kind, **options)).requires_grad_(False)
    student = teacher.as_student(noise_channels)
    given = inputs(student)
    expected = teacher(**{key: value for key, value in given.items() if key != "z"})
    assert torch.equal(student(**given), expected)
    assert torch.equal(student(**given | {"z": 100 * given["z"]}), expected)
    student(**given).square().mean().backward()
    noise = {name: p for name, p in student.named_parameters() if "noise" in name}
    assert noise and all(bool((p == 0).all()) and bool((p.grad != 0).any()) for p in noise.values())
    assert not any(p.data_ptr() == q.data_ptr() for p, q in zip(student.parameters(), teacher.parameters()))


def test_a_student_without_noise_and_one_of_a_teacher_with_noise():
    teacher = randomise(small("mlp", noise_channels=2)).double()
    student = teacher.as_student()
    given = inputs(teacher, dtype=torch.float64)
    assert student.noise_channels == 2 and torch.equal(student(**given), teacher(**given))
    assert small("mlp").as_student(0).noise is None


# -- labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "unet"])
@pytest.mark.parametrize("options", [{}, {"conditional": True, "noise_channels": 2}])
def test_a_network_that_is_told_labels_pays_no_attention_at_first(kind, options):
    network = randomise(small(kind, **options)).requires_grad_(False)
    told = network.with_labels(3)
    given = inputs(told)
    for label in (given["label"], given["label"].flip(0), torch.full((3,), 2)):
        # Three columns of zeros more in one product: the sum may be taken in another order.
        torch.testing.assert_close(told(**given | {"label": label}), network(**inputs(network)), rtol=1e-5, atol=1e-5)
    told(**given).square().mean().backward()
    first = told.first if kind == "mlp" else told.embed[0]
    assert first.weight.shape[1] == (network.first if kind == "mlp" else network.embed[0]).weight.shape[1] + 3
    assert bool((first.weight[:, -3:] == 0).all()) and bool((first.weight.grad[:, -3:] != 0).any(0).all())
    assert all(p.requires_grad for p in told.parameters()) and told.labels == 3 and network.labels == 0
    assert not any(p.data_ptr() == q.data_ptr() for p, q in zip(told.parameters(), network.parameters()))


def test_an_image_network_that_is_shown_xT_pays_no_attention_at_first():
    network, wider = randomise(small("unet")), randomise(small("unet", conditional=True))
    assert wider.widen(network) is wider
    given = inputs(wider)
    x, time, xT = given["x_t"], given["t"], given["xT"]
    torch.testing.assert_close(wider.core(x, time, xT, None, None), network.core(x, time, None, None, None))
    assert bool((wider.first.weight[:, network.first.in_channels :] == 0).all())


@pytest.mark.parametrize("kind", ["mlp", "unet"])
def test_a_student_of_a_network_with_labels_and_its_spec(kind):
    student = small(kind).with_labels(2).as_student()
    assert student.labels == 2 and student.noise_channels == 2
    twin = network_from(json.loads(json.dumps(student.spec())))
    twin.load_state_dict(randomise(student).state_dict())
    given = inputs(student)
    assert torch.equal(twin(**given), student(**given))
    assert not torch.equal(student(**given | {"label": 1 - given["label"]}), student(**given))


# -- pasted ----------------------------------------------------------------------------------------


def with_holes(network: Denoiser, dtype=torch.float32) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Inputs whose xT has a hole, another in each image, and where it is."""
    given = inputs(network, dtype=dtype)
    inside = torch.zeros_like(given["x_t"], dtype=torch.bool)
    for row in range(len(inside)):
        inside[row, :, 2 + row : 9, 4 : 12 - row] = True
    given["xT"] = torch.where(inside, 0, given["xT"])
    return given, inside


def pasted() -> Denoiser:
    return randomise(small("unet", conditional=True, noise_channels=2, pasted=True))


def test_a_pasted_network_fills_the_hole_and_copies_the_rest_exactly():
    network = pasted()
    given, inside = with_holes(network)
    bare = small("unet", conditional=True, noise_channels=2)
    bare.load_state_dict(network.state_dict())
    out, expected = network(**given), bare(**given)
    assert torch.equal(out[~inside], given["xT"][~inside]) and torch.equal(out[inside], expected[inside])
    assert float((out - given["xT"])[inside].detach().abs().min()) > 0
    whole = given | {"xT": given["xT"] + inside.float()}
    assert torch.equal(network(**whole), whole["xT"])  # nothing to fill


def test_a_pasted_network_learns_from_the_hole_only():
    """A target's error outside changes no gradient; inside it does."""
    network = pasted()
    given, inside = with_holes(network)

    def gradient(target: torch.Tensor) -> torch.Tensor:
        network.zero_grad()
        (network(**given) - target).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in network.parameters()])

    target = torch.zeros_like(given["x_t"])
    plain, off_outside, off_inside = (gradient(target + error) for error in (0, ~inside * 5.0, inside * 5.0))
    assert torch.equal(plain, off_outside) and not torch.equal(plain, off_inside) and float(plain.abs().max()) > 0
    given["x_t"].requires_grad_(True)
    network(**given)[~inside].sum().backward()
    assert bool((given["x_t"].grad == 0).all())


def test_a_pasted_network_s_spec_and_student_paste_too_and_others_do_not_mention_it():
    network = pasted()
    twin = network_from(json.loads(json.dumps(network.spec())))
    twin.load_state_dict(network.state_dict())
    given, inside = with_holes(network)
    assert twin.pasted and network.as_student().pasted and torch.equal(twin(**given), network(**given))
    assert torch.equal(hole_of(network(**given)).bool().expand_as(inside), torch.zeros_like(inside))
    assert "pasted" not in small("unet", conditional=True).spec()["arguments"]


# -- the U-Net -------------------------------------------------------------------------------------


def test_a_gate_is_shut_at_first_and_lets_f_take_its_input_away():
    torch.manual_seed(0)
    plain = randomise(UNet(brownian(0.3), 3, (4, 4)))
    gated = UNet(brownian(0.3), 3, (4, 4), gated=True)
    gated.load_state_dict(plain.state_dict(), strict=False)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([0.3, 1.0])
    assert torch.equal(gated(x, t), plain(x, t))
    with torch.no_grad():
        gated.gate.bias.fill_(-0.25)
    skip, out, scale = (c.float().view(-1, 1, 1, 1) for c in plain.precondition(t))
    assert torch.allclose(gated(x, t), plain(x, t) - 0.25 * out * scale * x, atol=1e-6)
    with torch.no_grad():
        gated.gate.bias.zero_()
        gated.gate_here.bias[1].fill_(-0.1)  # of every patch's four pixels the second
    here = torch.zeros(8, 8)
    here[::2, 1::2] = gated.gate_gain * -0.1
    assert torch.allclose(gated(x, t), plain(x, t) + here * out * scale * x, atol=1e-6)


def test_what_is_carried_of_a_gated_network_s_input_is_all_that_its_output_has_beside_the_last_layer():
    gated = randomise(UNet(brownian(0.3), 3, (4, 4), gated=True, conditional=True, covariance=0.1))
    x, xT, t = torch.randn(3, 3, 8, 8), torch.randn(3, 3, 8, 8), torch.tensor([0.2, 0.7, 1.0])
    with torch.no_grad():
        gated.last.weight.zero_(), gated.last.bias.zero_()
        assert gated.carried(x, t, xT).shape == (3, 1, 8, 8)
        assert torch.allclose(gated.carried(x, t, xT) * x, gated(x, t, xT), atol=1e-5)
    with pytest.raises(ValueError, match="not gated; wanted one whose input"):
        UNet(brownian(0.3), 3, (4,)).carried(x, t)
    with pytest.raises(ValueError, match="xT is missing"):
        gated.carried(x, t)


def test_a_gated_network_s_spec_and_student_are_gated_and_others_do_not_mention_it():
    network = randomise(UNet(brownian(0.3), 3, (4,), gated=True))
    twin = network_from(json.loads(json.dumps(network.spec())))
    twin.load_state_dict(network.state_dict())
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([0.3, 1.0])
    assert torch.equal(twin(x, t), network(x, t)) and network.as_student().gate is not None
    assert "gated" not in UNet(brownian(0.3), 3, (4,)).spec()["arguments"]


@pytest.mark.parametrize("p", [1, 2, 4])
def test_depth_and_space_are_each_other_s_inverse_as_torch_has_them(p):
    x = torch.randn(2, 3, 8, 12)
    assert torch.equal(to_depth(x, p), nn.functional.pixel_unshuffle(x, p))
    assert torch.equal(to_space(to_depth(x, p), p), x)


def crop_gap(widths: tuple[int, ...], blocks: int, dtype: torch.dtype, far: bool) -> tuple[torch.Tensor, int]:
    """Largest difference between crop and whole, by row from the cut; `far`: convolutions that look one row up only."""
    network = UNet(brownian(0.3), 1, widths, blocks, conditional=True, noise_channels=1)
    network = randomise(network).to(dtype)
    for p in network.parameters():
        if far and p.shape[2:] == (3, 3):
            p.detach().mul_(torch.tensor([10.0, 0, 0])[:, None])
    cut = 3 * network.stride
    size = cut + -(-(network.reach + 2 * network.stride) // network.stride) * network.stride
    given = inputs(network, n=1, size=size, dtype=dtype)
    crop = {key: value[..., cut:, :] if value.ndim == 4 else value for key, value in given.items()}
    with torch.no_grad():
        return (network(**crop) - network(**given)[..., cut:, :]).abs().amax((0, 1, 3)), network.reach


LEVELS = [(6,), (6, 8), (4, 6, 8)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("widths", LEVELS)
@pytest.mark.parametrize("blocks", [1, 2])
def test_a_crop_behaves_as_the_whole_image_beyond_its_reach(dtype, widths, blocks):
    gap, reach = crop_gap(widths, blocks, dtype, far=False)
    # Outputs of order one, some 20 layers: 100 times the unit roundoff of either precision.
    assert gap[reach:].max() < {torch.float32: 1e-5, torch.float64: 2e-14}[dtype]


@pytest.mark.parametrize("widths", LEVELS)
@pytest.mark.parametrize("blocks", [1, 2])
def test_the_reach_is_tight(widths, blocks):
    """One pixel nearer to the cut the output differs, seen best by convolutions that pass all on."""
    gap, reach = crop_gap(widths, blocks, torch.float64, far=True)
    assert gap[reach - 1] > 1e-8 > 100 * gap[reach:].max()


@pytest.mark.parametrize("patch", [1, 4])
def test_reach_and_stride_follow_the_patch(patch):
    network = UNet(brownian(0.3), 1, (4, 6), patch=patch)
    assert network.stride == 2 * patch
    # First convolution 1, a block 2, rounded up to 4; at level 1 two blocks of 4; on the way up a block 2, the last 1.
    assert network.reach == patch * (4 + 4 + 4 + 2 + 1)


def test_channels_stay_last_in_memory():
    network, formats = UNet(brownian(0.3), 3, (8, 12, 16), noise_channels=3), []

    def look(module, given, out):
        formats.extend(x.is_contiguous(memory_format=torch.channels_last) for x in (given[0], out, module.weight))

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(look)
    network(**inputs(network))
    assert len(formats) > 60 and all(formats)
    kept = [p for p in copy.deepcopy(network).as_student().parameters() if p.ndim == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kept)


def test_bfloat16_autocast_stays_close_and_returns_the_input_s_dtype():
    network = randomise(UNet(brownian(0.3), 3, (8, 12)))
    given = inputs(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(**given)
    assert rough.dtype == torch.float32
    # bfloat16 keeps 8 bits: 4e-3 relative, through some 10 layers.
    assert (rough - network(**given)).abs().max() < 0.2 * given["x_t"].std()


SHIPPED = {
    "embed.0.weight": (128, 32), "embed.0.bias": (128,), "embed.2.weight": (128, 128), "embed.2.bias": (128,),
    "first.weight": (64, 12, 3, 3), "first.bias": (64,), "last.weight": (12, 64, 3, 3), "last.bias": (12,),
    "shrink.0.weight": (128, 256, 1, 1), "shrink.0.bias": (128,), "shrink.1.weight": (128, 512, 1, 1),
    "shrink.1.bias": (128,), "grow.0.weight": (256, 128, 1, 1), "grow.0.bias": (256,),
    "grow.1.weight": (512, 128, 1, 1), "grow.1.bias": (512,),
} | {
    f"{way}.{k}.0.{name}": shape
    for way in ("down", "up")
    for k, w in enumerate((64, 128, 128))
    for name, shape in {"modulate.weight": (2 * w, 128), "modulate.bias": (2 * w,), "first.weight": (w, w, 3, 3),
                        "first.bias": (w,), "second.weight": (w, w, 3, 3), "second.bias": (w,)}.items()
}  # fmt: skip


def test_names_and_shapes_are_those_of_the_shipped_checkpoints():
    network = UNet(i2sb(0.3), 3, (64, 128, 128), sigma0=0.5065, sigmaT=0.4816, covariance=0.2319)
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == SHIPPED
    student = {name: tuple(value.shape) for name, value in network.as_student().state_dict().items()}
    noise = {f"{way}.{k}.0.noise.weight": (w, 12 * 4**k, 1, 1)
             for way in ("down", "up") for k, w in enumerate((64, 128, 128))}  # fmt: skip
    assert student == SHIPPED | noise


# -- specs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "unet"])
@pytest.mark.parametrize("options", [SIZES, {"conditional": True, "labels": 2, "noise_channels": 3}])
def test_a_spec_rebuilds_the_network_through_json(kind, options):
    network = randomise(small(kind, **options))
    spec = json.loads(json.dumps(network.spec()))
    twin = network_from(spec)
    assert twin.spec() == network.spec() and repr(twin.bridge) == repr(network.bridge)
    twin.load_state_dict(network.state_dict())
    assert torch.equal(twin(**inputs(network)), network(**inputs(network)))


def test_a_spec_carries_the_bridge_of_every_family():
    for bridge in BRIDGES:
        t = torch.linspace(0, 1, 9, dtype=torch.float64)
        twin = network_from(json.loads(json.dumps(MLP(bridge).spec()))).bridge
        assert torch.equal(twin.rho2(t), bridge.rho2(t)) and torch.equal(twin.alpha(t), bridge.alpha(t))


GOOD = MLP(brownian()).spec()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (GOOD | {"kind": "unnet"}, "did you mean 'unet'"),
        (GOOD | {"bridge": {"family": "brownain", "epsilon": 0.1}}, "did you mean 'brownian'"),
        (GOOD | {"bridge": {"family": "vp", "epsilon": 0.1}}, "does not fit a mlp"),
        (GOOD | {"arguments": {"widths": [8]}}, "does not fit a mlp"),
        (GOOD | {"bridge": None}, "does not fit a mlp"),
        ({"kind": "mlp"}, "has the keys kind; wanted"),
        ("mlp", "has a str; wanted"),
        (GOOD | {"arguments": {"sigma0": -1}}, "sigma0 is -1"),
    ],
)
def test_a_foreign_spec_is_refused(spec, says):
    with pytest.raises(ValueError, match=says):
        network_from(spec)


def test_a_custom_bridge_has_no_spec():
    with pytest.raises(ValueError, match="custom"):
        MLP(Bridge(torch.ones_like, lambda t: t)).spec()
