"""Blurs: the kernels, the convolution against torch's, and what a true blur keeps."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ibmd_minimal.data.blurs import blur_gaussian, blur_uniform, convolved, gaussian_kernel, uniform_kernel

BLURS = [blur_uniform, blur_gaussian]
KERNELS = [uniform_kernel(), gaussian_kernel()]
both = pytest.mark.parametrize("blur, taps", list(zip(BLURS, KERNELS)), ids=["uniform", "gaussian"])


def image(height: int = 24, width: int = 31, batch: int = 2, dtype=torch.float64) -> torch.Tensor:
    return 2 * torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype) - 1


def by_torch(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """The same convolution without padding: the interior only."""
    return F.conv2d(x, torch.outer(taps, taps).to(x).expand(3, 1, -1, -1), groups=3)


def test_kernels_have_their_taps():
    assert torch.equal(uniform_kernel(), torch.full((9,), 1 / 9, dtype=torch.float64))
    taps = gaussian_kernel(7, 1.5)
    for k in range(-3, 4):  # the ratio to the middle tap is the density's
        assert math.isclose(taps[3 + k] / taps[3], math.exp(-(k**2) / (2 * 1.5**2)), rel_tol=1e-12)
    published = gaussian_kernel()
    assert len(published) == 5 and math.isclose(published[0] / published[2], math.exp(-0.02), rel_tol=1e-12)
    for kernel in (*KERNELS, taps, gaussian_kernel(1, 0.3), gaussian_kernel(9, 1e-200)):
        assert math.isclose(kernel.sum(), 1, abs_tol=1e-15) and torch.equal(kernel, kernel.flip(0))


@both
def test_the_interior_is_torch_s_convolution(blur, taps):
    x, r = image(), len(taps) // 2
    assert torch.allclose(blur(x)[..., r:-r, r:-r], by_torch(x, taps), atol=1e-14)
    assert torch.allclose(blur(x.float())[..., r:-r, r:-r], by_torch(x, taps).float(), atol=1e-6)


@both
def test_the_border_is_a_half_sample_mirror(blur, taps):
    x, r = image(), len(taps) // 2
    unfolded = torch.cat([x.flip(-1), x, x.flip(-1)], -1)
    unfolded = torch.cat([unfolded.flip(-2), unfolded, unfolded.flip(-2)], -2)
    whole = by_torch(unfolded, taps)[..., 24 - r : 48 - r, 31 - r : 62 - r]
    assert torch.allclose(blur(x), whole, atol=1e-14)


@both
def test_an_impulse_becomes_the_kernel(blur, taps):
    x = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
    x[..., 7, 7] = 1
    around = slice(7 - len(taps) // 2, 8 + len(taps) // 2)
    assert torch.allclose(blur(x)[0, 0, around, around], torch.outer(taps, taps), atol=1e-15)
    assert math.isclose(blur(x).sum(), 1, rel_tol=1e-12)


@both
def test_constants_are_kept_to_the_bit_and_the_mean_to_rounding(blur, taps):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for level in (1.0, -1.0, 0.3, -0.7):
            x = torch.full((1, 3, 16, 20), level, dtype=dtype)
            assert torch.equal(blur(x), x)
    # rows and columns of the operator sum to 1, at the border too: the total of the image is kept
    assert math.isclose(blur(image()).mean(), image().mean(), abs_tol=1e-14)


@both
def test_values_stay_in_range(blur, taps):
    for x in (image(dtype=torch.float32), image(dtype=torch.float32).sign()):
        assert blur(x).abs().max() <= 1 and blur(x).std() < 0.5 * x.std()


@both
def test_flips_and_turns_go_through(blur, taps):
    x = image()
    for axes in ([-1], [-2], [-1, -2]):
        assert torch.equal(blur(x.flip(axes)), blur(x).flip(axes))
    assert torch.allclose(blur(x.mT), blur(x).mT, atol=1e-14)


@both
def test_the_operator_is_symmetric_and_its_gradient_passes(blur, taps):
    x, y = image(batch=1), image(batch=3)[2:]
    assert math.isclose((blur(x) * y).sum(), (x * blur(y)).sum(), rel_tol=1e-10)  # <Ax, y> = <x, Ay>
    x.requires_grad_()
    (gradient,) = torch.autograd.grad((blur(x) * y).sum(), x)
    assert torch.allclose(gradient, blur(y), atol=1e-14)


@both
def test_images_and_channels_do_not_touch(blur, taps):
    x = image()
    assert torch.equal(blur(x[1:]), blur(x)[1:]) and torch.equal(blur(x[:, 2:]), blur(x)[:, 2:])


def test_sigma_says_how_much():
    x = image(dtype=torch.float32)
    assert torch.equal(blur_gaussian(x, 5, 1e-3), x)
    spreads = [float(blur_gaussian(x, 13, sigma).std()) for sigma in (0.5, 1.0, 2.0, 10.0)]
    assert spreads == sorted(spreads, reverse=True) and len(set(spreads)) == 4
    assert torch.allclose(blur_gaussian(x, 9, 1e6), blur_uniform(x), atol=1e-6)


def test_it_is_not_the_inherited_operator_which_darkens():
    white = torch.ones(1, 1, 32, 32, dtype=torch.float64)
    for taps, kept in ((uniform_kernel(), 0.79), (gaussian_kernel(), 0.64)):
        theirs = by_torch(white.expand(1, 3, 32, 32), taps[:-1])  # the last tap is lost
        assert abs(float(theirs.mean()) - kept) < 0.005 and torch.equal(convolved(white, taps), white)


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: uniform_kernel(8), ValueError, "size is 8; wanted an odd"),
        (lambda: gaussian_kernel(4), ValueError, "size is 4"),
        (lambda: gaussian_kernel(5, 0.0), ValueError, "sigma is 0"),
        (lambda: gaussian_kernel(5, "1"), TypeError, "sigma is '1'"),
        (lambda: blur_uniform(image()[0]), ValueError, "wanted images"),
        (lambda: blur_uniform(image().to(torch.uint8)), TypeError, "dtype"),
        (lambda: blur_uniform(image(3, 9)), ValueError, "a side of 3 pixels; wanted at least 4"),
        (lambda: convolved(image(), torch.tensor([0.5, 0.25, 0.25])), ValueError, "the same from both ends"),
        (lambda: convolved(image(), torch.tensor([0.5, 0.5])), ValueError, "odd number"),
        (lambda: convolved(image(), torch.ones(3)), ValueError, "sum to 3"),
    ],
)
def test_what_a_blur_cannot_take_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()
