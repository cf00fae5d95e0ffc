"""The head start: a student that begins with the noise where its teacher expects noise."""

from __future__ import annotations

import pytest
import torch

from ibmd_minimal.bridges import i2sb, vp
from ibmd_minimal.networks import MLP, UNet, network_from, smooth
from ibmd_minimal.students import student_from

HEAD = (0.85, 0.155)


@pytest.fixture
def teacher() -> UNet:
    torch.manual_seed(0)
    network = UNet(i2sb(0.3), 3, (8, 8)).double()
    with torch.no_grad():  # the last layer starts from zero, which would make every output the same
        network.last.weight.normal_(std=0.1)
    return network


def test_at_T_the_student_is_its_teacher_at_the_earlier_time_on_noised_sources(teacher):
    student = student_from(teacher, head_start=HEAD)
    xT, z = torch.randn(2, 2, 3, 8, 8, dtype=torch.float64)
    wanted = teacher(xT + HEAD[1] * z, torch.full((2,), HEAD[0], dtype=torch.float64), xT)
    torch.testing.assert_close(student(xT, z=z), wanted, rtol=0, atol=1e-12)


def test_a_third_number_scales_the_source():
    """Where the bridge shrinks what it carries, x_t at the earlier time is a smaller xT and noise."""
    torch.manual_seed(0)
    teacher = UNet(vp(2.0, 0.1), 3, (8, 8), conditional=True).double()
    with torch.no_grad():
        teacher.last.weight.normal_(std=0.1)
    student = student_from(teacher, head_start=(*HEAD, 0.6))
    xT, z = torch.randn(2, 2, 3, 8, 8, dtype=torch.float64)
    wanted = teacher(0.6 * xT + HEAD[1] * z, torch.full((2,), HEAD[0], dtype=torch.float64), xT)
    torch.testing.assert_close(student(xT, z=z), wanted, rtol=0, atol=1e-12)
    t = torch.tensor([1.0, 0.7], dtype=torch.float64)  # one row at T, one below, where nothing is scaled
    mixed = student.network(xT, t, xT, z=z)
    torch.testing.assert_close(mixed[:1], wanted[:1], rtol=0, atol=1e-12)
    torch.testing.assert_close(mixed[1:], teacher(xT[1:], t[1:], xT[1:]), rtol=0, atol=1e-12)
    assert network_from(student.network.spec()).head_start == (*HEAD, 0.6)


def test_a_fourth_number_adds_noise_that_varies_slowly(teacher):
    student = student_from(teacher, head_start=(*HEAD, 0.6, 0.3))
    xT, z = torch.randn(2, 2, 3, 32, 32, dtype=torch.float64)
    there = 0.6 * xT + HEAD[1] * z + 0.3 * smooth(z)
    wanted = teacher(there, torch.full((2,), HEAD[0], dtype=torch.float64), xT)
    torch.testing.assert_close(student(xT, z=z), wanted, rtol=0, atol=1e-12)


def test_a_fifth_number_lets_the_noise_swell(teacher):
    """Times a factor that varies slowly, one for all channels, whose mean square is 1 at most."""
    student = student_from(teacher, head_start=(*HEAD, 0.6, 0.0, 0.5))
    xT, z = torch.randn(2, 2, 3, 32, 32, dtype=torch.float64)
    slow = smooth(z).sum(1, keepdim=True) / 3**0.5
    there = 0.6 * xT + HEAD[1] * (slow / 2 - 1 / 4).exp() * z
    wanted = teacher(there, torch.full((2,), HEAD[0], dtype=torch.float64), xT)
    torch.testing.assert_close(student(xT, z=z), wanted, rtol=0, atol=1e-12)
    plain = teacher.as_student(head_start=(*HEAD, 0.6, 0.3))
    also = teacher.as_student(head_start=(*HEAD, 0.6, 0.3, 0.0))
    t = torch.ones(2, dtype=torch.float64)
    assert torch.equal(plain(xT, t, z=z), also(xT, t, z=z))
    slow = smooth(torch.randn(20_000, 3, 16, 16, generator=torch.Generator().manual_seed(0)))[:, :, 0, 0].sum(1)
    square = (slow / 3**0.5 - 1 / 2).exp()  # of the factor exp(s/2 - 1/4): log-normal, of mean 1, variance e - 1
    assert abs(float(square.mean()) - 1) < 5 * (1.72 / 20_000) ** 0.5


def test_slow_noise_by_hand():
    """One block of 16x16: its middle everywhere. Twice as wide: linear between the two middles, flat beyond them."""
    z = torch.randn(1, 1, 16, 32, dtype=torch.float64)
    left, right = z[0, 0, 8, 8], z[0, 0, 8, 24]
    torch.testing.assert_close(smooth(z[..., :16]), left.expand(1, 1, 16, 16))
    place = ((torch.arange(32) - 7.5) / 16).clamp(0, 1).double()
    torch.testing.assert_close(smooth(z)[0, 0, 3], left + (right - left) * place)


@pytest.mark.parametrize("side", [32, 64])
def test_slow_noise_has_variance_one_at_most_and_long_reach(side):
    z = torch.randn(4000, 1, side, side, generator=torch.Generator().manual_seed(0))
    slow = smooth(z)
    corner, beside, far = slow[:, 0, 0, 0], slow[:, 0, 0, 4], slow[:, 0, -1, -1]
    assert abs(float(corner.var()) - 1) < 5 * (2 / 4000) ** 0.5  # the variance of a variance
    assert float((corner * beside).mean()) > 0.9
    shared = 1 / (side // 16).bit_length()  # the coarsest of the blocks is the whole picture
    assert abs(float((corner * far).mean()) - shared) < 5 * ((1 + shared**2) / 4000) ** 0.5
    assert smooth(torch.randn(1, 3, 40, 24)).shape == (1, 3, 40, 24)


@pytest.mark.parametrize("head", [HEAD, (*HEAD, 0.6), (*HEAD, 1, 0.2), (*HEAD, 1, 0, 0.5)])
def test_below_T_the_student_is_its_teacher(teacher, head):
    network = teacher.as_student(head_start=head)
    x_t, z = torch.randn(2, 2, 3, 8, 8, dtype=torch.float64)
    t = torch.tensor([0.3, 0.999], dtype=torch.float64)
    torch.testing.assert_close(network(x_t, t, x_t, z=z), teacher(x_t, t, x_t), rtol=0, atol=1e-12)


def test_its_samples_differ_from_the_first_pass_on(teacher):
    student = student_from(teacher, head_start=HEAD)
    xT = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        assert float((student(xT) - student(xT)).abs().max()) > 1e-3


def test_the_spec_keeps_it(teacher):
    spec = teacher.as_student(head_start=HEAD).spec()
    assert network_from(spec).head_start == HEAD
    assert network_from(teacher.spec()).head_start is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"noise_channels": 1, "head_start": HEAD}, "noise channels"),
        ({"head_start": (1.5, 0.1)}, "time"),
        ({"head_start": (1.0, 0.1)}, "time is 1; wanted one before T"),
        ({"head_start": (0.5, -0.1)}, "sigma"),
        ({"head_start": (0.5, 0.1, 0.0)}, "scale is 0.0; wanted a positive"),
        ({"head_start": (0.5, 0.1, 1.0, -2.0)}, "coarse is -2.0; wanted a non-negative"),
        ({"head_start": (0.5, 0.1, 1.0, 0.0, -1.0)}, "swell is -1.0; wanted a non-negative"),
        ({"head_start": (0.5, 0.1, 1.0, 2.0, 3.0, 4.0)}, "has 6 numbers; wanted"),
    ],
)
def test_refuses(teacher, arguments, words):
    with pytest.raises(ValueError, match=words):
        teacher.as_student(**arguments)


def test_points_have_no_coarse_noise():
    with pytest.raises(ValueError, match="coarse noise, which is of images"):
        MLP(i2sb(0.3)).as_student(head_start=(0.5, 0.1, 1.0, 0.2))
