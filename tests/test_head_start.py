"""The head start: a student that begins with the noise where its teacher expects noise."""

from __future__ import annotations

import pytest
import torch

from ibmd_minimal.bridges import i2sb
from ibmd_minimal.networks import UNet, network_from
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


def test_below_T_the_student_is_its_teacher(teacher):
    network = teacher.as_student(head_start=HEAD)
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
        ({"head_start": (0.5, -0.1)}, "sigma"),
    ],
)
def test_refuses(teacher, arguments, words):
    with pytest.raises(ValueError, match=words):
        teacher.as_student(**arguments)
