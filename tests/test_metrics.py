"""Distances against closed forms, image metrics against definitions, and the ruler against known damage."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ibmd_minimal import distances, metrics
from ibmd_minimal.data.corruptions import corrupt
from ibmd_minimal.data.download import IMAGES
from ibmd_minimal.data.images import load, random_crops

DATA = Path(os.environ.get("IBMD_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def gaussian(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whiten(x: torch.Tensor) -> torch.Tensor:
    """Rows with mean exactly 0 and covariance exactly I, so that their moments are known."""
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov())).T


# -- point clouds -------------------------------------------------------------------------------


def test_wasserstein_of_a_shifted_and_shuffled_cloud_is_the_shift_squared():
    x = gaussian(200, 2)
    shift = torch.tensor([3.0, -4.0], dtype=torch.float64)
    y = (x + shift)[torch.randperm(200, generator=torch.Generator().manual_seed(1))]
    assert metrics.wasserstein2(x, y) == pytest.approx(25, rel=1e-12)  # the cheapest pairing of translates is the shift
    assert metrics.wasserstein2(x, x.flip(0)) == pytest.approx(0, abs=1e-12)


def test_wasserstein_on_the_line_sorts():
    x, y = gaussian(150, 1), 2 * gaussian(150, 1, seed=1) + 1
    assert metrics.wasserstein2(x, y) == pytest.approx(float((x.sort(0)[0] - y.sort(0)[0]).square().mean()), rel=1e-12)


def test_wasserstein_agrees_in_many_dimensions():
    x, y = gaussian(60, 2), gaussian(60, 2, seed=1) + 1
    padded = [torch.cat([z, torch.zeros(60, 8, dtype=z.dtype)], 1) for z in (x, y)]
    assert metrics.wasserstein2(*padded) == pytest.approx(metrics.wasserstein2(x, y), rel=1e-9)


def test_mean_wasserstein_is_the_mean_over_draws_with_its_standard_error():
    x, y = gaussian(170, 2), gaussian(170, 2, seed=1)
    each = torch.tensor([metrics.wasserstein2(x[i : i + 50], y[i : i + 50]) for i in (0, 50, 100)])
    mean, error = metrics.mean_wasserstein2(x, y, size=50)
    assert mean == pytest.approx(float(each.mean())) and error == pytest.approx(float(each.std() / 3**0.5))


# -- features -----------------------------------------------------------------------------------


def test_frechet_of_known_moments():
    scale = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    shift = torch.tensor([1.0, 0.0, -2.0], dtype=torch.float64)
    f, g = whiten(gaussian(50)), whiten(gaussian(70, seed=1)) * scale + shift
    # commuting covariances I and diag(scale²): ‖shift‖² + sum (1 - scale)² = 5 + 1.25
    assert metrics.frechet(f, g) == pytest.approx(6.25, rel=1e-10)
    assert metrics.frechet(g, f) == pytest.approx(6.25, rel=1e-10)
    assert metrics.frechet(g, g) == pytest.approx(0, abs=1e-10)


def test_frechet_of_covariances_that_do_not_commute():
    a, b = (torch.tensor(m, dtype=torch.float64) for m in ([[2.0, 0.0], [0.0, 0.5]], [[1.0, 0.6], [0.6, 1.0]]))
    f, g = whiten(gaussian(40, 2)) @ torch.linalg.cholesky(a).T, whiten(gaussian(40, 2, 1)) @ torch.linalg.cholesky(b).T
    # in two dimensions tr (AB)^½ = sqrt(tr AB + 2 sqrt(det AB))
    cross = math.sqrt(float((a @ b).trace()) + 2 * math.sqrt(float((a @ b).det())))
    assert metrics.frechet(f, g) == pytest.approx(2.5 + 2 - 2 * cross, rel=1e-10)


def test_frechet_bears_features_that_do_not_vary():
    f, g = gaussian(50), gaussian(60, seed=1)
    flat = metrics.frechet(torch.cat([f, f[:, :1] * 0], 1), torch.cat([g, g[:, :1] * 0], 1))
    assert flat == pytest.approx(metrics.frechet(f, g), rel=1e-6)


def test_kernel_distance_against_explicit_loops():
    f, g = gaussian(5), gaussian(7, seed=1) + 1
    k = lambda a, b: float((a @ b / 3 + 1) ** 3)  # noqa: E731
    within = [sum(k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j) / (len(s) * (len(s) - 1))
              for s in (f, g)]  # fmt: skip
    across = sum(k(a, b) for a in f for b in g) / 35
    assert metrics.kernel_distance(f, g) == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def test_kernel_distance_is_unbiased():
    pairs = [(gaussian(20, 3, 2 * seed), gaussian(20, 3, 2 * seed + 1)) for seed in range(400)]
    each = torch.tensor([metrics.kernel_distance(f, g) for f, g in pairs])
    # mean zero for one law, within four standard errors; with the diagonals left in it would stand at forty of them
    assert abs(each.mean()) < 4 * each.std() / 20
    assert metrics.kernel_distance(gaussian(200), gaussian(200, seed=1) + 1) > 0.5


@pytest.mark.parametrize("distance", ["frechet", "kernel"])
def test_counts_mean_rows_repeated(distance):
    f, g = gaussian(6), gaussian(8, seed=1) + 1
    of_f, of_g = torch.tensor([0.0, 2, 1, 1, 0, 2]).double(), torch.tensor([1.0, 1, 0, 3, 0, 1, 1, 1]).double()
    repeated = f.repeat_interleave(of_f.long(), 0), g.repeat_interleave(of_g.long(), 0)
    plain = {"frechet": metrics.frechet, "kernel": metrics.kernel_distance}[distance]
    assert distances.DISTANCES[distance](f, g)(of_f, of_g) == pytest.approx(plain(*repeated), rel=1e-9)


def test_bootstrap_error_is_that_of_repeated_samples():
    shift = torch.tensor([2.0, 0.0])
    several = [metrics.frechet(gaussian(300, 2, 2 * s), gaussian(300, 2, 2 * s + 1) + shift) for s in range(60)]
    _, error = metrics.bootstrap("frechet", gaussian(300, 2), gaussian(300, 2, seed=1) + shift, resamples=200)
    # delta method: 2 * shift * sqrt(2/300) = 0.33; a spread from 60 and one from 200 samples are good to 9% and 5%
    assert error == pytest.approx(2 * 2 * math.sqrt(2 / 300), rel=0.25)
    assert error == pytest.approx(float(torch.tensor(several).std()), rel=0.4)


@pytest.mark.parametrize("distance", ["frechet", "kernel"])
def test_pairing_takes_the_chance_of_the_crops_away(distance):
    clean, reference = gaussian(300, 4), gaussian(300, 4, seed=1)
    damaged = clean + 0.3
    excess, error = metrics.paired_excess(distance, damaged, clean, reference, resamples=60)
    (far, far_error), (floor, floor_error) = (
        metrics.bootstrap(distance, x, reference, resamples=60) for x in (damaged, clean)
    )
    assert excess == pytest.approx(far - floor, rel=1e-9)
    assert error < 1.1 * math.hypot(far_error, floor_error)  # spreads from 60 resamples: 9% each
    assert metrics.paired_excess(distance, clean, clean, reference, resamples=5) == (0, 0)
    # with the same seed the same resamples, with another others
    assert metrics.paired_excess(distance, damaged, clean, reference, resamples=60) == (excess, error)
    assert metrics.paired_excess(distance, damaged, clean, reference, resamples=60, seed=1)[1] != error


def test_rows_of_a_group_are_drawn_together_and_the_error_is_that_of_the_groups():
    groups = torch.arange(40).repeat_interleave(10) + 3  # any numbers name groups
    counts = distances.resampled(400, 50, torch.Generator().manual_seed(0), groups)
    assert counts.shape == (50, 400) and torch.equal(counts.sum(1), torch.full((50,), 400.0).double())
    assert torch.equal(counts, counts[:, ::10].repeat_interleave(10, 1)) and len(counts.unique()) > 3
    # ten copies of each of forty rows: as groups they tell what forty tell, taken for 400 they look surer
    few, reference = gaussian(40, 2), gaussian(400, 2, seed=1)
    moved = few + 0.5 * gaussian(40, 2, seed=2)
    copies, more = few.repeat_interleave(10, 0), moved.repeat_interleave(10, 0)
    error = {}
    for name, own in (("groups", (groups, None)), ("each", distances.EACH)):
        _, error[name] = metrics.paired_excess("frechet", more, copies, reference, 300, groups=own)
    _, alone = metrics.paired_excess("frechet", moved, few, reference, 300)
    assert error["groups"] == pytest.approx(alone, rel=0.15)  # two spreads of 300 resamples, 4% each
    assert error["groups"] > 1.5 * error["each"]


@pytest.mark.parametrize("groups", [torch.zeros(3).long(), torch.zeros(4), torch.tensor([0, -1, 0, 0])])
def test_groups_that_are_not_one_whole_number_a_row_are_refused(groups):
    with pytest.raises(ValueError, match=r"groups has shape .*; wanted int64 \(4,\), 0 or more"):
        distances.resampled(4, 2, torch.Generator(), groups)


# -- a ratio of means ---------------------------------------------------------------------------


def test_ratio_and_its_error_against_the_delta_method():
    a, b = 2 + gaussian(2000, 1)[:, 0].abs(), 1 + gaussian(2000, 1, seed=1)[:, 0].abs()
    value, error = metrics.ratio(a, b)
    assert value == pytest.approx(float(a.mean() / b.mean()), rel=1e-12)
    # Var = E (a - value b)² / (n E[b]²); a spread from 1,000 resamples is good to 2.2%
    wanted = float((a - value * b).square().mean().sqrt() / b.mean()) / 2000**0.5
    assert error == pytest.approx(wanted, rel=0.1)
    # both numbers of an image go together: proportional ones have no error at all
    assert metrics.ratio(3 * b, b) == (pytest.approx(3), pytest.approx(0, abs=1e-12))
    assert metrics.ratio(a, b) == (value, error) != metrics.ratio(a, b, seed=1)


# -- image against image ------------------------------------------------------------------------


def pair(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x, z = torch.rand(2, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return x, (x + 0.2 * z).clamp(-1, 1)


def test_psnr_of_a_known_error_and_against_scikit_image():
    x, y = pair(2, 3, 16, 20)
    assert metrics.psnr(x, x + 0.2).tolist() == pytest.approx([20, 20], abs=1e-5)  # 20 log10(2/0.2), float32 sums
    assert metrics.psnr(x, x).tolist() == [math.inf, math.inf]
    wanted = [peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=2) for a, b in zip(x, y)]
    assert metrics.psnr(x, y).tolist() == pytest.approx(wanted, abs=1e-5)


def test_ssim_against_scikit_image():
    x, y = pair(2, 3, 16, 20)
    options = {"channel_axis": 2, "data_range": 2, "gaussian_weights": True, "use_sample_covariance": False}
    last = (tuple(z.double().permute(1, 2, 0).numpy() for z in both) for both in zip(x, y))
    wanted = [structural_similarity(a, b, sigma=1.5, **options) for a, b in last]
    assert metrics.ssim(x, y).tolist() == pytest.approx(wanted, rel=1e-12)
    assert metrics.ssim(x, x).tolist() == pytest.approx([1, 1]) and max(wanted) < 0.99


def test_consistency_is_the_error_of_the_image_corrupted_again():
    x, _ = pair(2, 3, 16, 20)
    xT = corrupt("sr4x-pool", x)
    assert metrics.consistency(x, xT, "sr4x-pool").tolist() == pytest.approx([0, 0], abs=1e-7)
    assert metrics.consistency(x + 0.1, xT, "sr4x-pool").tolist() == pytest.approx([0.1, 0.1], rel=1e-5)
    assert metrics.consistency(x + 0.1, x, lambda image: image).tolist() == pytest.approx([0.1, 0.1], rel=1e-5)


# -- the ruler ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs() -> tuple[list[torch.Tensor], int, int]:
    """Photographs, how many crops of them make a set, and how many standard errors are asked for.

    BSDS500's test photographs where they are; else scikit-image's eleven, of which 800 crops are already many: there
    the same damages have to be seen, at the same five errors.
    """
    if (DATA / IMAGES).is_dir():
        return load("bsds500", "test", root=DATA, half=True), 2000, 5
    return load("photos", "train", half=True) + load("photos", "test", half=True), 800, 5


@pytest.fixture(scope="module")
def sight(photographs) -> tuple[metrics.Ruler, torch.Tensor]:
    """A ruler and clean crops other than those it was fitted to."""
    images, n, _ = photographs
    reference, crops = (random_crops(images, n, 32, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    return metrics.Ruler.fit(reference), crops


@pytest.fixture(scope="module")
def clean(sight) -> torch.Tensor:
    ruler, crops = sight
    return ruler.features(crops)


DAMAGES = {
    "blur 0.5 px": lambda x: metrics.blur(x, 0.5),
    "noise 5/255": lambda x: metrics.noise(x, 5),
    "corrupted input": lambda x: corrupt("sr4x-pool", x),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_ruler_sees_damage(photographs, sight, clean, damage):
    ruler, crops = sight
    damaged = ruler.features(DAMAGES[damage](crops))
    for distance in ("frechet", "kernel"):
        excess, error = metrics.paired_excess(distance, damaged, clean, ruler.reference, resamples=25)
        # a spread from 25 resamples is good to 14%, and the ruler sees more than twice what is asked for
        print(f"{damage}, {distance}: {excess:.4f} above the floor, {excess / error:.1f} standard errors")
        assert excess >= photographs[2] * error > 0


def test_the_smallest_blur_and_noise_that_the_ruler_sees(sight):
    rows = metrics.calibrate(*sight, {"blur": (0.25, 0.5), "noise": (0.25, 5.0)}, resamples=15)
    blur, noise = metrics.smallest(rows, "blur"), metrics.smallest(rows, "noise")
    print(f"smallest seen: blur of {blur} px, noise of {noise}/255")
    # next to nothing is left of the smaller two once rounded to 8 bits: a ruler that saw them would see chance
    assert (blur, noise) == (0.5, 5.0)
    assert metrics.smallest(rows[:1], "blur") == math.inf


def test_excess_is_the_paired_one(sight, clean):
    ruler, crops = sight
    damaged = metrics.noise(crops, 10)
    excess = ruler.excess(damaged, crops, resamples=3)
    assert excess == metrics.paired_excess("frechet", ruler.features(damaged), clean, ruler.reference, resamples=3)


def test_the_ruler_s_reference_is_white_and_its_floor_is_chance(sight):
    ruler, crops = sight
    assert ruler.reference.mean(0).abs().max() < 1e-9 and ruler.frechet(crops) < 5
    eigenvalues = torch.linalg.eigvalsh(ruler.reference.T.cov())
    # variance v becomes v/(v + 0.1), below one
    assert eigenvalues.min() > 0 and eigenvalues.max() < 1 and eigenvalues.max() > 0.9
    assert ruler.measure(crops, "kernel", resamples=5)[0] == ruler.kernel(crops)


def test_features_are_ninety_four_finite_numbers_for_any_batch_size():
    x = pair(7, 3, 32, 32)[0]
    rows = metrics.photo_features(x)
    assert rows.shape == (7, 94) and rows.dtype == torch.float64 and bool(rows.isfinite().all())
    # float32 convolutions may be summed in another order in another batch
    assert torch.allclose(rows, metrics.photo_features(x, batch=2), rtol=0, atol=1e-4)
    assert bool(metrics.photo_features(torch.zeros(1, 3, 16, 16)).isfinite().all())


def test_features_are_the_same_on_every_machine():
    ramp = torch.linspace(-1, 1, 32).view(1, 1, 1, 32).expand(1, 3, 32, 32)
    shade = (ramp * ramp.transpose(2, 3)).contiguous()
    row = metrics.photo_features(shade)[0]
    assert row[[0, 3, 6, 46, 74, 93]].tolist() == pytest.approx(FROZEN, abs=1e-4)  # float32 sums


FROZEN = [0.0, -1.01392, -2.84986, -3.29973, -1.84399, -1.87177]


# -- damage and refusals ------------------------------------------------------------------------


def test_blur_and_noise_are_what_they_say():
    point = torch.zeros(1, 3, 21, 21, dtype=torch.float64)
    point[..., 10, 10] = 1
    blurred = metrics.blur(point, 1.0)
    line = torch.arange(21, dtype=torch.float64) - 10
    assert blurred.sum((2, 3)).tolist() == [pytest.approx([1, 1, 1])]
    # the sampled Gaussian's variance is 1 to 1e-7; cut at four sigma it loses 1e-3
    assert float((blurred[0, 0].sum(0) * line.square()).sum()) == pytest.approx(1, abs=2e-3)
    z = metrics.noise(torch.zeros(1, 3, 100, 100), 5) * 127.5
    assert abs(float(z.std()) - 5) < 4 * 5 / math.sqrt(2 * z.numel())
    assert torch.equal(z, metrics.noise(z * 0, 5) * 127.5)


X, IMAGE = gaussian(10), torch.zeros(2, 3, 32, 32)
REFUSED = [
    (lambda: metrics.wasserstein2(X, gaussian(9)), ValueError, "x has 10 points and y 9"),
    (lambda: metrics.wasserstein2(X, gaussian(10, 2)), ValueError, "3 columns and y 2"),
    (lambda: metrics.wasserstein2(X, X * math.nan), ValueError, "30 non-finite"),
    (lambda: metrics.mean_wasserstein2(X, X, size=6), ValueError, "two draws of 6"),
    (lambda: metrics.mean_wasserstein2(X, X, size=1), ValueError, "size is 1"),
    (lambda: metrics.mean_wasserstein2(X, X[:, :2], size=2), ValueError, "columns"),
    (lambda: metrics.frechet(X[:1], X), ValueError, "2 samples or more"),
    (lambda: metrics.frechet(X.int(), X), TypeError, "f has dtype"),
    (lambda: metrics.frechet(X, IMAGE), ValueError, "wanted .samples, dimensions"),
    (lambda: metrics.kernel_distance(X, [1.0]), TypeError, "g is a list"),
    (lambda: metrics.kernel_distance(X, X[:, :1]), ValueError, "columns"),
    (lambda: metrics.kernel_distance(X / 0, X), ValueError, "non-finite"),
    (lambda: metrics.bootstrap("frechett", X, X), ValueError, "did you mean 'frechet'"),
    (lambda: metrics.bootstrap("kernel", X, X, resamples=1), ValueError, "resamples is 1"),
    (lambda: metrics.bootstrap("kernel", X, X[:, 1:]), ValueError, "columns"),
    (lambda: metrics.paired_excess("kernel", X, X[1:], X), ValueError, "same crops"),
    (lambda: metrics.paired_excess("kernl", X, X, X), ValueError, "did you mean 'kernel'"),
    (lambda: metrics.paired_excess("kernel", X, X, X[:, 1:]), ValueError, "columns"),
    (lambda: metrics.ratio(X[:, 0], X[1:, 0]), ValueError, "as many in both"),
    (lambda: metrics.ratio(X, X), ValueError, "numerators has shape"),
    (lambda: metrics.ratio(X[:, 0], X[:, 0].abs() * 0), ValueError, "denominators run from 0 to 0"),
    (lambda: metrics.ratio(X[:, 0], -X[:, 0].abs()), ValueError, "wanted 0 or more"),
    (lambda: metrics.ratio(X[:, 0].abs(), X[:, 0].abs() / 0), ValueError, "non-finite"),
    (lambda: metrics.ratio(X[:, 0], X[:, 0].abs(), 1), ValueError, "resamples is 1"),
    (lambda: metrics.psnr(IMAGE, IMAGE[:1]), ValueError, "wanted the same shape"),
    (lambda: metrics.psnr(IMAGE[0], IMAGE[0]), ValueError, "batch, channel, height, width"),
    (lambda: metrics.psnr(IMAGE.byte(), IMAGE), TypeError, "dtype"),
    (lambda: metrics.ssim(IMAGE[..., :10], IMAGE[..., :10]), ValueError, "sides >= 11"),
    (lambda: metrics.ssim(IMAGE, IMAGE.double()), TypeError, "wanted the same"),
    (lambda: metrics.ssim(IMAGE, IMAGE[:, :1]), ValueError, "same shape"),
    (lambda: metrics.consistency(IMAGE, IMAGE[:1], "sr4x-pool"), ValueError, "the corrupted output"),
    (lambda: metrics.consistency(IMAGE, IMAGE, "sr4x"), ValueError, "did you mean 'sr4x-pool'"),
    (lambda: metrics.consistency(IMAGE[..., :30], IMAGE[..., :30], "sr4x-pool"), ValueError, "32x30"),
    (lambda: metrics.photo_features(IMAGE[:, :1]), ValueError, "three channels"),
    (lambda: metrics.photo_features(IMAGE[..., :15]), ValueError, "sides >= 16"),
    (lambda: metrics.photo_features(IMAGE * math.inf), ValueError, "non-finite"),
    (lambda: metrics.Ruler.fit(IMAGE), ValueError, "more than the 94 features"),
    (lambda: metrics.Ruler.fit(IMAGE, ridge=0), ValueError, "ridge is 0"),
    (lambda: metrics.Ruler.fit(X), ValueError, "batch, channel"),
    (lambda: metrics.blur(IMAGE, 0), ValueError, "sigma is 0"),
    (lambda: metrics.blur(IMAGE, 9.0), ValueError, "reaches 36 pixels"),
    (lambda: metrics.noise(IMAGE, -1), ValueError, "level is -1"),
]


@pytest.mark.parametrize("call, error, match", REFUSED)
def test_bad_input_is_refused_in_one_sentence(call, error, match):
    with pytest.raises(error, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_calibrate_refuses_unknown_damage(sight):
    with pytest.raises(ValueError, match="did you mean 'blur'"):
        metrics.calibrate(*sight, {"blurr": (1.0,)})  # codespell:ignore


def test_inception_never_downloads_and_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"inception\.pth is not there; wanted"):
        metrics.inception_features(tmp_path / "inception.pth")


def test_inception_without_a_working_torchvision_is_refused_in_a_sentence(tmp_path, monkeypatch):
    import sys

    (tmp_path / "w.pth").touch()
    monkeypatch.setitem(sys.modules, "torchvision.models", None)  # makes the import fail, whatever is installed
    with pytest.raises(RuntimeError, match="torchvision cannot be imported"):
        metrics.inception_features(tmp_path / "w.pth")
