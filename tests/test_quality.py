"""The 2D example, trained in the test: what the book claims of a one-step student, over seeds."""

from __future__ import annotations

import math

import pytest

from ibmd_minimal.plane import PlaneReport, distill_plane_student, plane_report, train_plane_teacher


@pytest.fixture(scope="module", params=[0, *(pytest.param(seed, marks=pytest.mark.quality) for seed in range(1, 5))])
def report(request) -> PlaneReport:
    teacher = train_plane_teacher(seed=request.param, progress=False)
    student = distill_plane_student(teacher, seed=request.param, progress=False)
    found = plane_report(teacher, student, seed=request.param)
    print(f"seed {request.param}\n{found.text()}")
    return found


def test_the_teacher_samples_the_data_in_a_hundred_steps_and_not_in_one(report):
    assert report.distance("teacher", 100) <= 1.5 * report.floor
    assert report.distance("teacher", 1) > 10 * report.floor


def test_the_student_samples_the_data_in_one_step(report):
    assert report.distance("student", 1) <= 1.5 * max(report.distance("teacher", 100), report.floor)


def test_the_samples_are_eight_clusters_and_not_a_ring(report):
    # Two standard deviations hold 0.865 of the data, and of points evenly on the circle eight arcs of 0.6 each way.
    ring = 8 * 2 * 2 * math.asin(0.6 / (2 * 2.8)) / (2 * math.pi)
    assert report.row("teacher", 100).inside > (0.865 + ring) / 2
    assert report.row("student", 1).inside > (0.865 + ring) / 2


def test_the_students_variance_is_the_teachers_squared_error_at_nfe_1(report):
    assert abs(report.variance / report.teacher_error - 1) <= 0.1


def test_the_mean_of_the_students_samples_is_the_teachers_single_step(report):
    # The gap is already free of the noise of 64 draws; what is left is the student's bias, squared. A sampler that
    # keeps the teacher's own pairing has a gap as large as the variance; one twentieth of it is a bias of a fifth of
    # the spread.
    assert report.mean_gap <= 0.05 * report.teacher_error
