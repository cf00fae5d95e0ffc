"""What is measured and how it is kept: the exam, its rows, the agreement, the results file and the README's tables."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from tiny import randomised
from torch import nn

from ibmd_minimal import evaluation, measuring
from ibmd_minimal._random import Draws
from ibmd_minimal.bridges import brownian, i2sb, vp
from ibmd_minimal.data.couplings import Photographs, Renderings
from ibmd_minimal.data.images import to_uint8
from ibmd_minimal.distances import EACH
from ibmd_minimal.evaluation import (
    COLUMNS,
    Exam,
    Row,
    agreement,
    best_grid,
    formatted,
    student_of,
    student_row,
    teacher_at,
    teacher_rows,
)
from ibmd_minimal.networks import UNet
from ibmd_minimal.results import (
    BEGIN,
    END,
    markdown,
    means,
    note,
    rendered,
    result,
    results,
    summary,
    trainings,
    whole_photographs,
    with_results,
)
from ibmd_minimal.students import Student, student_from

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.fixture(scope="module", autouse=True)
def made_up():
    with tiny.made_up() as patched:
        yield patched


@pytest.fixture(scope="module")
def exam() -> Exam:
    return Exam.set(Photographs(tiny.photographs(), "sr4x-pool", 16), 200)


@pytest.fixture(scope="module")
def holes() -> Exam:
    return Exam.set(Photographs(tiny.photographs(), "inpaint-center", 16), 200)


# -- the exam ------------------------------------------------------------------------------------


def test_an_exam_is_a_function_of_the_seed_and_of_one_half_of_the_pictures():
    """Photographs of one grey each: greys 0, 2, 4, 6 are the rulers', 1, 3, 5, 7 those of the exam."""
    flat = [torch.full((3, 20, 20), 30 * k, dtype=torch.uint8) for k in range(8)]
    one, same, other = (Exam.set(Photographs(flat, "sr4x-pool", 16), 200, seed) for seed in (0, 0, 1))
    assert torch.equal(one.x0, same.x0) and not torch.equal(one.x0, other.x0)
    assert set((to_uint8(one.x0)[:, 0, 0, 0].int() // 30).tolist()) == {1, 3, 5, 7}
    greys, reference = to_uint8(one.x0)[:, 0, 0, 0].int() // 60, one.groups[1]
    assert torch.equal(one.groups[0], greys.long()) and torch.equal(one.first(9).groups[0], greys[:9].long())
    assert reference.shape == (200,) and set(reference.tolist()) == {0, 1, 2, 3}
    assert one.corruption == "sr4x-pool" and one.label is None and torch.allclose(one.again(one.x0), one.xT)


def test_the_classes_of_an_exam_are_those_of_its_pictures():
    """Pictures of one grey each, which says their class."""
    label = torch.arange(400) // 2 % 6
    grey = (40 * label).to(torch.uint8)[:, None, None, None]
    found = Exam.set(Renderings(grey.expand(400, 3, 16, 16), grey.expand(400, 1, 16, 16), label), 200)
    assert torch.equal((to_uint8(found.x0)[:, 0, 0, 0] // 40).long(), found.label)
    assert found.corruption == "" and found.first(7).label.tolist() == found.label[:7].tolist()
    row = found.row("floor", 0, found.x0)
    assert row.fine is None and row.smooth is None and found.fine_ruler is None
    assert row.consistency is None and 0 <= row.accuracy <= 1 and row.accuracy_error >= 0


def test_what_fills_the_hole_and_copies_the_rest_is_consistent_and_nothing_else_is(holes):
    teacher = randomised(tiny.HOLE.network(tiny.SMALL, 0))
    filled = holes.restored(teacher_at(teacher, teacher.bridge, 2, 0))[0]
    assert not torch.equal(filled, holes.xT) and holes.row("teacher", 2, filled).consistency == 0
    assert holes.row("xT", 0, holes.xT).consistency == 0
    changed = filled.clone()
    changed[:, :, 0, 0] += 0.3
    # one pixel of 256 off by 0.3, in all three channels
    assert holes.row("teacher", 2, changed).consistency == pytest.approx(0.3 / 16, rel=1e-5)


def test_how_much_farther_one_set_of_outputs_is_than_another(exam):
    worse, better = 0.9 * exam.x0, exam.x0
    excess, error = exam.excess(worse, better)
    assert excess == pytest.approx(exam.distance(worse) - exam.distance(better), rel=1e-6) and excess > 0 < error
    assert exam.excess(better, worse) == (pytest.approx(-excess), pytest.approx(error))
    assert exam.excess(worse, worse) == (0, 0)
    fine = exam.row("worse", 1, worse).fine - exam.row("better", 1, better).fine
    assert exam.excess(worse, better, fine=True)[0] == pytest.approx(fine, rel=1e-6) != excess
    alone = replace(exam, groups=EACH).excess(worse, better)
    assert alone[0] == pytest.approx(excess) and alone[1] != error


def test_a_student_is_set_against_its_teacher_s_best(exam, capsys):
    teacher = randomised(tiny.SR.network(tiny.SMALL, 0))
    students = [Student(teacher), student_from(tiny.SR.network(tiny.SMALL, 1))]
    (best,) = teacher_rows(exam, teacher, teacher.bridge, (1,))
    own = [student_row(exam, one) for one in students]
    outputs, rows, kept = [row.outputs for row in own], [row.noted() for row in own], best.noted()
    measuring._compare(exam, teacher, [*rows, kept], outputs, best.outputs, 0)
    assert rows[0]["farther"] == 0 == rows[0]["farther_error"]  # the teacher's own single pass
    assert rows[1]["farther"] == pytest.approx(rows[1]["frechet"] - kept["frechet"]) and rows[1]["farther_error"] > 0
    assert rows[1]["fine_farther"] == pytest.approx(rows[1]["fine"] - kept["fine"])
    assert "student of NFE 1: +0.00 (0.00) farther than the teacher's best, of NFE 1" in capsys.readouterr().out
    again = [row.noted() for row in own]
    measuring._compare(exam, teacher, [*again, kept], outputs, None, 0)  # the teacher's best made once more
    assert again == rows
    without = [{"who": "student", "nfe": 1}]
    measuring._compare(exam, teacher, [*without, kept | {"nfe": 1000}], outputs[:1], None, 0)
    assert "farther" not in without[0]


def test_rows_are_kept_as_json_without_what_is_not_there(exam):
    floor, corrupted = exam.reference_rows()
    for row in (floor, corrupted):
        noted = row.noted()
        assert json.loads(json.dumps(noted, allow_nan=False)) == noted
        assert not [key for key, value in noted.items() if value is None or value == ""]
        assert noted["fine"] > 0 <= noted["smooth"] <= 1 and noted["fine_error"] > 0
    assert not {"accuracy", "seconds", "method", "outputs"} & noted.keys() and corrupted.outputs is exam.xT
    assert "psnr" not in floor.noted() and math.isinf(floor.psnr) and corrupted.noted()["psnr"] > 0
    assert floor.noted()["nfe"] == 0 and corrupted.noted()["consistency"] < 1e-6
    assert floor.frechet < corrupted.frechet and floor.pairs < corrupted.pairs


def test_a_row_as_text():
    row = Row("teacher", 5, 1.234, 0.1, 0.0123, 0.001, 2.5, 0.2, 20.0, 0.3, 0.5, 0.01, seconds=3.21, method="dbim")
    text = dict(zip(COLUMNS, formatted(row.noted())))
    assert text["who"] == "teacher DBIM" and text["NFE"] == "5" and text["Fréchet"] == "1.23 (0.10)"
    assert text["kernel x1000"] == "12.3 (1.0)" and text["pairs"] == "2.50 (0.20)" and text["s/1,000"] == "3.2"
    assert {text[name] for name in ("consistency", "accuracy", "with grain", "smooth")} == {"-"}
    assert formatted(Row("floor", 0, *[1.0] * 10).noted())[1] == "-"


# -- teachers and students -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bridge", "best"),
    [(i2sb(0.3), "uniform"), (i2sb(0.3), "quadratic"), (vp(2.0, 0.1), "clock"), (vp(2.0, 0.1), "geometric")],
    ids=lambda x: str(x)[:9],
)
def test_the_best_grid_is_the_one_with_the_smaller_distance(exam, monkeypatch, bridge, best):
    asked, grids = [], evaluation.grids_of(bridge)

    def sampler(teacher, bridge, nfe, seed, method, grid):
        asked.append((nfe, grid))
        x0 = iter(exam.x0.split(250))
        return lambda xT: next(x0) if grid == best else xT

    monkeypatch.setattr(evaluation, "teacher_at", sampler)
    assert best_grid(exam, None, bridge, 100, "posterior") == best
    assert asked == [(20, grid) for grid in grids]  # 20 passes tell them apart
    assert best_grid(exam, None, bridge, 1, "posterior") == "uniform" and len(asked) == len(grids)


def test_a_conditional_teacher_is_measured_by_two_methods_an_unconditional_one_by_one(holes, exam):
    teacher = randomised(tiny.HOLE.network(tiny.SMALL, 0))
    rows = list(teacher_rows(holes, teacher, teacher.bridge, (1, 3)))
    assert [(row.who, row.nfe, row.method) for row in rows] == [
        ("teacher", 1, "posterior"), ("teacher", 3, "posterior"), ("teacher", 3, "dbim"),
    ]  # fmt: skip
    assert all(row.grid in evaluation.grids_of(teacher.bridge) and row.seconds > 0 for row in rows)
    other = randomised(tiny.SR.network(tiny.SMALL, 0))
    assert [(row.nfe, row.method) for row in teacher_rows(exam, other, other.bridge, (2,))] == [(2, "posterior")]


def test_measured_again_the_teacher_s_rows_are_kept_and_those_it_lacks_are_added(exam):
    teacher = randomised(tiny.SR.network(tiny.SMALL, 0))
    before = [row.noted() for row in teacher_rows(exam, teacher, teacher.bridge, (1, 2))]
    kept = [row | {"frechet": 123.0} for row in before]
    rows, outputs = zip(*measuring._rows(exam, teacher, [], (1, 2, 3), 0, None, kept))
    floor, xT, *others = rows
    assert [y is None for y in outputs] == [False, False, True, True, False]
    assert (floor["who"], xT["who"]) == ("floor", "xT") and [row["nfe"] for row in others] == [1, 2, 3]
    assert [row["frechet"] == 123.0 for row in others] == [True, True, False]
    assert all(row["seconds"] > 0 for row in others)


def test_evaluation_is_a_function_of_the_seed(exam):
    student = student_from(randomised(UNet(brownian(0.1), 3, (4,))))
    randomised(student.network)
    one, same, other = (exam.restored(student_of(student, seed))[0] for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_student_of_several_passes_and_of_several_tasks_has_its_row(holes, exam):
    student = student_from(randomised(tiny.HOLE.network(tiny.SMALL, 0)), tiny.HOLE.make_bridge(), (1.0, 0.5))
    row = student_row(holes, student)
    assert (row.who, row.nfe, row.consistency) == ("student", 2, 0)
    several = student_from(randomised(randomised(tiny.SR.network(tiny.SMALL, 0)).with_labels(2)))
    one, other = (student_row(exam, several, 0, label).frechet for label in (0, 1))
    assert one != other
    with pytest.raises(ValueError, match="label is missing; this network knows 2 labels"):
        student_row(exam, several)


class Constant(nn.Module):
    """A student of known law: the teacher's single step and `std z`, `std` as the label says if there is one."""

    noise_channels, conditional = 3, False

    def __init__(self, teacher: nn.Module, *std: float):
        super().__init__()
        self.teacher, self.std = teacher, torch.tensor(std)
        self.noise_shape = lambda x: tuple(x.shape)

    def forward(self, x_t, t, xT, z, label=None):
        std = self.std[torch.zeros(len(x_t), dtype=torch.int64) if label is None else label]
        return self.teacher(x_t, t, xT) + std[:, None, None, None] * z


def test_agreement_measures_the_mean_and_the_variance_of_a_known_student(exam):
    teacher = UNet(brownian(0.1), 3, (4,))
    seen = agreement(exam, teacher, Student(Constant(teacher, 0.1)), teacher.bridge, draws=8)
    # 200 x 768 values: the variance of 8 draws has a relative standard error of sqrt(2/7/153600), 0.14%
    assert seen.variance == pytest.approx(0.01, rel=0.007) and seen.gap_noise == pytest.approx(0.01 / 8, rel=0.007)
    assert seen.gap == pytest.approx(seen.gap_noise, rel=0.02)
    # each picture's gap is a mean of 768 squares of standard normals, and the mean's error that over sqrt(200)
    assert seen.gap_error == pytest.approx(seen.gap * (2 / 768 / 200) ** 0.5, rel=0.25)
    assert 0 < seen.mean_psnr_error < 1
    single = exam.restored(teacher_at(teacher, teacher.bridge, 1, 0))[0]
    assert seen.teacher_error == pytest.approx(float((single - exam.x0).square().mean()))
    assert seen.diversity == pytest.approx(seen.variance / seen.teacher_error, rel=1e-5)


def test_the_diversity_of_a_student_as_diverse_as_the_data_is_one_and_its_error_that_of_the_pictures(exam):
    teacher = UNet(brownian(0.1), 3, (4,))
    single = exam.restored(teacher_at(teacher, teacher.bridge, 1, 0))[0]
    each = (single - exam.x0).square().flatten(1).mean(1)
    student = Student(Constant(teacher, float(each.mean()) ** 0.5, 0.0))
    seen, none = (agreement(exam, teacher, student, teacher.bridge, draws=4, label=label) for label in (0, 1))
    # 4 draws: sqrt(2/3/153600) = 0.2%
    assert seen.diversity == pytest.approx(1, rel=0.01) and none.diversity == 0 and none.variance == 0
    # the spread hardly varies, so the ratio's relative error is that of the mean error; a bootstrap's own is 5% or less
    assert seen.diversity_error == pytest.approx(float(each.std() / each.mean()) / 200**0.5, rel=0.25)


# -- the results file ------------------------------------------------------------------------------


def row(who: str, nfe: int, frechet: float, **more) -> dict:
    fixed = {"kernel": 0.01, "kernel_error": 0.001, "pairs": 2.0, "pairs_error": 0.1, "ssim": 0.5, "ssim_error": 0.01}
    return {"who": who, "nfe": nfe, "frechet": frechet, "frechet_error": 0.1} | fixed | more


def costs(steps: int, passes: int) -> dict:
    return {"steps": steps, "passes": passes, "hours": 0.5, "machine": {"device": "1 CPU thread"}}


def entry(scale: float = 1.0, students: tuple[int, ...] = (1,)) -> dict:
    rows = [row("floor", 0, 1.0 * scale), row("xT", 0, 13.0 * scale)]
    found = {"accuracy": 0.9, "farther": 0.3, "farther_error": 0.1, "fine_farther": -0.1, "fine_farther_error": 0.2}
    rows += [row("student", nfe, (3.0 - nfe / 4) * scale, seconds=2.0 * nfe, **found) for nfe in students]
    training = {"t": costs(4000, 768_000), "s": costs(500, 323_200) | {"memory_mb": 694}}
    for nfe, frechet, method in ((1, 12.0, "posterior"), (20, 2.5, "dbim"), (100, 2.7, "posterior")):
        rows.append(row("teacher", nfe, frechet * scale, seconds=3.0 * nfe, method=method, psnr=22.5, psnr_error=0.1))
    about_z = {"diversity_error": 0.01, "draws": 16, "gap": 0.002, "gap_error": 0.0003, "gap_noise": 0.0005}
    about_z |= {"mean_psnr": 25.0, "mean_psnr_error": 0.2}
    seen = {str(nfe): {"diversity": 0.5 + nfe / 10} | about_z for nfe in students}
    about = {"data": "4 photographs", "n": 200, "seed": 0, "machine": {"device": "1 CPU thread", "cpu": "abacus"}}
    about["memory_mb"] = 900
    return about | {"rows": rows, "agreement": seen, "training": training}


def test_what_is_noted_is_found_again_and_replaced_alone(tmp_path):
    path = tmp_path / "deeper" / "results.json"
    assert results(path) == {}
    for name, scale in (("sr4x-pool", 1.0), ("jpeg-10", 2.0), ("multi/jpeg-10", 3.0), ("sr4x-pool", 4.0)):
        note(name, entry(scale), path)
    found = results(path)
    assert set(found) == {"sr4x-pool", "jpeg-10", "multi/jpeg-10"} and found["sr4x-pool"] == entry(4.0)
    assert result("jpeg-10", path) == entry(2.0)
    with pytest.raises(ValueError, match="result is 'jpeg-1'; wanted one of .*did you mean 'jpeg-10'"):
        result("jpeg-1", path)
    with pytest.raises(ValueError):
        note("jpeg-10", entry(float("nan")), path)
    assert results(path) == found  # what no JSON holds leaves the file as it was


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_a_table_has_a_line_for_each_row_and_no_column_without_a_number():
    header, rule, *lines = markdown(entry()).splitlines()
    assert cells(header) == [name for name in COLUMNS if name not in ("consistency", "with grain", "smooth")]
    assert set(cells(rule)) == {"---"} and len(lines) == 6
    assert all(len(cells(line)) == len(cells(header)) for line in (rule, *lines))
    assert cells(lines[0])[:3] == ["floor", "-", "1.00 (0.10)"] and cells(lines[4])[:2] == ["teacher DBIM", "20"]


def test_the_summary_sets_the_teacher_s_best_beside_every_student():
    header, rule, first, second = summary({"a": entry(), "b": entry(2.0, (1, 4))}).splitlines()
    assert len(cells(header)) == len(cells(rule)) == len(cells(first)) == 9
    assert cells(first) == [
        "a",
        "1.00",
        "13.00",
        "2.50 (20, DBIM)",
        "2.75 (1)",
        "+0.30 (0.10)",
        "-0.10 (0.20)",
        "0.60",
        "30 (20)",
    ]
    assert cells(second) == [
        "b",
        "2.00",
        "26.00",
        "5.00 (20, DBIM)",
        "5.50 (1), 4.00 (4)",
        "+0.30 (0.10), +0.30 (0.10)",
        "-0.10 (0.20), -0.10 (0.20)",
        "0.60, 0.90",
        "30 (20), 8 (5)",
    ]


def test_the_text_between_the_marks_is_the_results_and_the_rest_stays():
    found = {"a": entry(), "multi/b": entry(2.0)}
    before, after = f"Above.\n\n{BEGIN}\nstale\n", f"{END}\n\nBelow {BEGIN} once more.\n"
    text = with_results(before + after, found)
    assert text.startswith(f"Above.\n\n{BEGIN}\n\n| task") and text.endswith(after) and "stale" not in text
    assert with_results(text, found) == text and rendered(found) in text
    assert (
        "a: 200 pictures, 4 photographs; seed 0; 1 CPU thread, abacus, 900 MB" in text and markdown(found["a"]) in text
    )
    assert text.count("<details>") == text.count("</details>") == 3


def test_the_mean_over_z_is_told_beside_the_teacher_s_single_step():
    first, second = means(entry(students=(1, 4))).splitlines()
    assert first.startswith("Student of NFE 1: its variance over z is 0.600 (0.010) of the teacher's squared error")
    assert "The mean of 16 draws has a PSNR of 25.00 (0.20) dB, the teacher's single step 22.50;" in second
    assert second.startswith("Student of NFE 4") and "0.00200 (0.00030), of which 0.00050 is the noise" in second


def test_whole_photographs_have_a_table_where_there_are_some():
    assert whole_photographs(entry()) == ""
    one = {"who": "student", "nfe": 1, "n": 5}
    one |= {name + end: 0.5 for name in ("psnr", "ssim", "consistency") for end in ("", "_error")}
    header, _, line = whole_photographs({"whole": [one]}).splitlines()
    assert cells(header)[0] == "5 whole photographs" and cells(header)[-1] == "consistency"  # nobody took the time
    assert cells(line) == ["student", "1", "0.50 (0.50)", "0.500 (0.500)", "0.5000 (0.5000)"]
    assert cells(whole_photographs({"whole": [one | {"seconds": 1.5}]}).splitlines()[2])[-1] == "1.50"


def test_what_a_training_took_is_told_once_for_each_checkpoint():
    header, _, student, teacher = trainings({"a": entry(), "multi/b": entry()}).splitlines()
    assert cells(header) == ["trained", "steps", "M passes", "hours", "MB", "on"]
    assert cells(student) == ["s", "500", "0.32", "0.50", "694", "1 CPU thread"]
    assert cells(teacher) == ["t", "4,000", "0.77", "0.50", "-", "1 CPU thread"]


@pytest.mark.parametrize("text", ["", f"{BEGIN} and no end", f"no begin {END}", f"{END} the wrong way {BEGIN}"])
def test_a_text_without_both_marks_is_refused(text):
    with pytest.raises(ValueError, match="has not both marks; wanted <!-- results: begin -->"):
        with_results(text, {})


def test_the_readme_shows_the_stored_results_and_nothing_else():
    text = README.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert with_results(text, results()) == text, "the README is stale; run python -m ibmd_minimal results"


def test_the_stored_results_are_of_shipped_recipes_and_hold_what_the_tables_want():
    for name, found in results().items():
        assert {"data", "n", "seed", "machine", "rows", "agreement"} <= set(found), name
        assert {row["who"] for row in found["rows"]} == {"floor", "xT", "teacher", "student"}, name
        assert found["n"] >= 2000, name
        students = [str(row["nfe"]) for row in found["rows"] if row["who"] == "student"]
        assert students == list(found["agreement"]), name


@pytest.mark.parametrize("name", sorted(results()))
def test_a_teacher_s_walk_is_worth_its_passes(name):
    """Over the floor, a single step is at least twice as far as a hundred passes."""
    rows = results()[name]["rows"]
    floor = next(row["frechet"] for row in rows if row["who"] == "floor")
    over = {nfe: [r["frechet"] - floor for r in rows if (r["who"], r["nfe"]) == ("teacher", nfe)] for nfe in (1, 100)}
    assert over[1][0] > 2 * min(over[100]) > 0


def test_draws_of_an_exam_do_not_depend_on_what_was_drawn_before():
    coupling = Photographs(tiny.photographs(), "inpaint-freeform", 16)
    torch.rand(5)
    one, same = Exam.set(coupling, 200), Exam.set(coupling, 200)
    assert torch.equal(one.xT, same.xT) and torch.equal(one.ruler.reference, same.ruler.reference)
    assert torch.equal(one.x0, coupling.halves()[1].sample(200, Draws.at(0, 1))[0])
