"""Images in and out, crops, corruptions, toy couplings and the download."""

from __future__ import annotations

import io
import math
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ibmd_minimal._random import Draws
from ibmd_minimal.data import download as archive
from ibmd_minimal.data import images as im
from ibmd_minimal.data.corruptions import (
    CHROMA,
    CORRUPTIONS,
    LUMA,
    RANDOM,
    corrupt,
    inpaint,
    jpeg,
    jpeg_table,
    keys_cubic,
)
from ibmd_minimal.data.masks import MASKS, hole_of, masks
from ibmd_minimal.data.toy import TOYS, toy

DATA = Path(os.environ.get("IBMD_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
needs_bsds = pytest.mark.skipif(not (DATA / archive.IMAGES).is_dir(), reason="no BSDS500: IBMD_DATA names no folder")


def picture(height: int = 21, width: int = 13, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)


def array(*shape: int, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


# -- files --------------------------------------------------------------------------------------


def test_png_is_written_and_read_without_loss_and_odd_sizes_are_kept(tmp_path):
    path = im.write_image(tmp_path / "odd", picture())
    assert path == tmp_path / "odd.png" and torch.equal(im.read_image(path), picture())
    im.write_image(path, im.to_float(picture(seed=1)))
    assert torch.equal(im.read_image(path), picture(seed=1))
    assert [file.name for file in tmp_path.iterdir()] == ["odd.png"]  # no partial file is left


def test_jpeg_where_the_suffix_says_so(tmp_path):
    smooth = torch.linspace(0, 255, 32).to(torch.uint8).expand(3, 16, 32)
    path = im.write_image(tmp_path / "a.JPG", smooth)
    with Image.open(path) as image:
        assert image.format == "JPEG"
    assert (im.read_image(path).int() - smooth.int()).abs().max() <= 3  # quality 95 on a ramp


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = im.write_image(tmp_path / "a.png", picture())

    def full_disk(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        im.write_image(path, picture(seed=1))
    assert torch.equal(im.read_image(path), picture()) and len(list(tmp_path.iterdir())) == 1


def test_greyscale_becomes_three_equal_channels(tmp_path):
    Image.fromarray(array(9, 11)).save(tmp_path / "a.png")
    assert torch.equal(im.read_image(tmp_path / "a.png"), torch.from_numpy(array(9, 11)).expand(3, 9, 11))


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    grey = array(9, 11, dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    wanted = torch.from_numpy(np.round(grey / 257).astype(np.uint8))  # 65535 = 257 * 255
    assert torch.equal(im.read_image(tmp_path / "a.png"), wanted.expand(3, 9, 11))


def test_transparency_is_composited_on_white(tmp_path):
    rgba = array(9, 11, 4)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    alpha = rgba[..., 3:].astype(float) / 255
    wanted = torch.from_numpy(alpha * rgba[..., :3] + (1 - alpha) * 255).permute(2, 0, 1)
    assert (im.read_image(tmp_path / "a.png").double() - wanted).abs().max() <= 1  # Pillow rounds in integers


def test_palettes_with_and_without_transparency_and_cmyk(tmp_path):
    flat = Image.new("RGB", (10, 9), (200, 30, 60))
    flat.quantize(4).save(tmp_path / "palette.png")
    flat.quantize(4).save(tmp_path / "hole.png", transparency=0)
    flat.convert("CMYK").save(tmp_path / "cmyk.tif")
    wanted = torch.tensor([200, 30, 60], dtype=torch.uint8).view(3, 1, 1).expand(3, 9, 10)
    assert torch.equal(im.read_image(tmp_path / "palette.png"), wanted)
    assert torch.equal(im.read_image(tmp_path / "cmyk.tif"), wanted)
    assert bool((im.read_image(tmp_path / "hole.png") == 255).all())


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # stored lying on its left side: a quarter turn clockwise puts it upright
    Image.fromarray(array(9, 11, 3)).save(tmp_path / "a.png", exif=exif)
    wanted = torch.from_numpy(np.rot90(array(9, 11, 3), -1).copy()).permute(2, 0, 1)
    assert torch.equal(im.read_image(tmp_path / "a.png"), wanted)


def make_bad(path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(array(64, 64, 3)).save(buffer, "JPEG" if kind.startswith("jpeg") else "PNG")
    whole = buffer.getvalue()
    contents = {
        "empty": b"", "text": b"not an image, whatever its name says", "jpeg cut": whole[: len(whole) // 2],
        "png cut": whole[: len(whole) // 2], "png header only": whole[:12], "jpeg header only": whole[:4],
    }  # fmt: skip
    if kind == "tiny":
        Image.fromarray(array(7, 64, 3)).save(path)
    elif kind == "float":
        Image.fromarray(np.zeros((16, 16), np.float32)).save(path, "TIFF")
    else:
        path.write_bytes(contents[kind])


BAD = ("empty", "text", "jpeg cut", "png cut", "png header only", "jpeg header only", "tiny", "float")


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_by_name_in_one_sentence(tmp_path, kind):
    path = tmp_path / "photograph.png"
    make_bad(path, kind)
    with pytest.raises(ValueError, match=r"photograph\.png .*; wanted") as caught:
        im.read_image(path)
    assert "\n" not in str(caught.value)


def test_what_is_not_a_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothing.png"):
        with pytest.raises(FileNotFoundError, match="wanted an image file"):
            im.read_image(path)


@pytest.mark.parametrize(
    "path, image, error",
    [
        ("a.xyz", picture(), ValueError),
        ("a.png", picture()[0], ValueError),
        ("a.png", picture()[:1], ValueError),
        ("a.png", torch.full((3, 8, 8), math.nan), ValueError),
        ("a.png", picture().int(), TypeError),
        ("a.png", [[0]], ValueError),
    ],
)
def test_bad_images_are_not_written(tmp_path, path, image, error):
    with pytest.raises(error):
        im.write_image(tmp_path / path, image)
    assert not list(tmp_path.iterdir())


def test_image_files_lists_folders_sorted_and_files_as_given(tmp_path):
    for name in ("b.png", "a.JPG", "note.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    assert [file.name for file in im.image_files(tmp_path)] == ["a.JPG", "b.png"]
    assert [file.name for file in im.image_files([tmp_path / "b.png", str(tmp_path)])] == ["b.png", "a.JPG", "b.png"]
    for bad, error in (([], ValueError), (tmp_path / "empty", FileNotFoundError), ("/not/there", FileNotFoundError)):
        with pytest.raises(error):
            im.image_files(bad)


def test_floats_and_bytes_round_trip_and_clamp():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(im.to_uint8(im.to_float(every)), every)
    assert im.to_float(every)[[0, -1]].tolist() == [-1.0, 1.0]
    assert im.to_uint8(torch.tensor([-1.5, 1.5, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1])).tolist() == [0, 255, 0, 1]
    for wrong, function in ((torch.zeros(3), im.to_float), (every, im.to_uint8)):
        with pytest.raises(TypeError):
            function(wrong)


def test_halving_averages_and_crops_odd_edges():
    image, half = picture(21, 13), im.halve(picture(21, 13))
    assert half.shape == (3, 10, 6)
    assert abs(float(half[1, 9, 5]) - image[1, 18:20, 10:12].float().mean()) <= 0.5


# -- data sets ----------------------------------------------------------------------------------


def test_scikit_images_photographs_are_there_and_split_by_photograph():
    train, test = im.load("photos", "train"), im.load("photos", "test", half=True)
    assert len(train) >= 6 and len(test) >= 3 and all(image.dtype == torch.uint8 for image in train + test)
    assert not set(im.PHOTOS["train"]) & set(im.PHOTOS["test"])


def test_a_folder_is_loaded_and_its_own_split_preferred(tmp_path):
    im.write_image(tmp_path / "a.png", picture())
    assert torch.equal(im.load(tmp_path)[0], picture())
    (tmp_path / "test").mkdir()
    im.write_image(tmp_path / "test" / "b.png", picture(seed=1))
    assert torch.equal(im.load(str(tmp_path), "test")[0], picture(seed=1))


def test_missing_data_say_what_to_type_and_training_falls_back(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python -m ibmd_minimal download bsds500` \(71 MB") as caught:
        im.load("bsds500", root=tmp_path)
    assert "IBMD_DATA" in str(caught.value) and "\n" not in str(caught.value)
    images, note = im.training_photographs(root=tmp_path)
    assert len(images) == len(im.PHOTOS["train"]) and "scikit-image" in note and "download bsds500" in note


def test_unknown_names_and_splits_are_refused():
    with pytest.raises(ValueError, match="bsds500, photos"):
        im.load("bsds50")
    with pytest.raises(ValueError, match="did you mean 'train'"):
        im.load("photos", "trian")  # codespell:ignore


@needs_bsds
def test_bsds500_is_complete_and_the_checksum_is_its():
    assert archive.digest(DATA / archive.IMAGES) == archive.DIGEST
    test = im.load("bsds500", "test", root=DATA, half=True)
    assert len(test) == 200 and {tuple(sorted(image.shape[1:])) for image in test} == {(160, 240)}


# -- crops --------------------------------------------------------------------------------------


def coordinates(height: int = 40, width: int = 50) -> torch.Tensor:
    """An image whose pixels say where they are."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.zeros_like(rows)]).to(torch.uint8)


def test_crops_are_cut_whole_and_half_of_them_mirrored():
    images = [coordinates(), coordinates() + torch.tensor([0, 0, 1], dtype=torch.uint8).view(3, 1, 1)]
    crops = im.to_uint8(im.random_crops(images, 4000, 8, Draws.at(0, 0))).int()
    steps = crops[:, 1, 0, 1] - crops[:, 1, 0, 0]
    mirrored = (steps == -1).float()
    assert bool((crops[:, 0].diff(dim=1) == 1).all()) and bool((crops[:, 1].diff(dim=2) == steps.view(-1, 1, 1)).all())
    # each is a fair coin 4,000 times: four standard errors are 4 * 0.5 / sqrt(4000) = 0.032
    assert abs(mirrored.mean() - 0.5) < 0.032 and abs(crops[:, 2, 0, 0].float().mean() - 0.5) < 0.032
    # every place is reached, first and last: 33 rows and 43 columns, 4,000 draws (a miss: under 1e-39)
    top, left = crops[:, 0].amin((1, 2)), crops[:, 1].amin((1, 2))
    assert sorted(set(top.tolist())) == list(range(33)) and sorted(set(left.tolist())) == list(range(43))
    # and row, column and mirroring are independent of each other: correlations within four standard errors
    correlation = torch.corrcoef(torch.stack([top.float(), left.float(), mirrored]))
    assert correlation[0, 1:].abs().max() < 4 / 4000**0.5 and abs(correlation[1, 2]) < 4 / 4000**0.5


def test_crops_are_a_function_of_seed_and_step_and_rows_those_of_the_whole():
    images = [picture(20, 30), picture(25, 20)]
    whole = im.random_crops(images, 16, 12, Draws.at(3, 7))
    assert whole.shape == (16, 3, 12, 12) and whole.dtype == torch.float32 and whole.abs().max() <= 1
    assert torch.equal(whole, im.random_crops(images, 16, 12, Draws.at(3, 7)))
    for other in (Draws.at(3, 8), Draws.at(4, 7)):
        assert not torch.equal(whole, im.random_crops(images, 16, 12, other))
    parts = [im.random_crops(images, 4, 12, Draws.at(3, 7, rows=(i, i + 4, 16))) for i in range(0, 16, 4)]
    assert torch.equal(torch.cat(parts), whole)
    generator = torch.Generator().manual_seed(0)
    assert not torch.equal(im.random_crops(images, 4, 12, generator), im.random_crops(images, 4, 12, generator))


@pytest.mark.parametrize(
    "images, n, size, match",
    [
        ([picture(20, 11)], 2, 12, "20x11 pixels; wanted 12"),
        ([], 2, 12, "images is empty"),
        ([picture()], 0, 8, "n is 0"),
        ([picture()], 2, 0, "size is 0"),
    ],
)
def test_crops_that_cannot_be_cut_are_refused(images, n, size, match):
    with pytest.raises(ValueError, match=match):
        im.random_crops(images, n, size)


# -- corruptions --------------------------------------------------------------------------------


def test_sr4x_pool_is_the_mean_of_every_block():
    x = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = torch.empty_like(x)
    for i in range(0, 8, 4):
        for j in range(0, 12, 4):
            wanted[:, :, i : i + 4, j : j + 4] = x[:, :, i : i + 4, j : j + 4].mean((2, 3), keepdim=True)
    xT = corrupt("sr4x-pool", x)
    assert torch.allclose(xT, wanted, rtol=0, atol=1e-14) and torch.allclose(corrupt("sr4x-pool", xT), xT, atol=1e-14)


def test_the_cubic_kernel_interpolates_and_its_taps_sum_to_one():
    whole = torch.arange(-3, 4, dtype=torch.float64)
    assert torch.equal(keys_cubic(whole), (whole == 0).double())
    shifted = keys_cubic(whole + 0.3)
    assert torch.allclose(shifted.sum(), torch.ones((), dtype=torch.float64), atol=1e-15) and (shifted < 0).any()


def test_sr4x_bicubic_is_torchs_antialiased_reduction_in_the_interior_and_mirrors_at_the_border():
    x = 2 * torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    small = corrupt("sr4x-bicubic", x)[..., ::4, ::4]
    theirs = torch.nn.functional.interpolate(x, scale_factor=0.25, mode="bicubic", antialias=True)
    assert torch.allclose(small[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2], atol=1e-14)
    around = torch.cat([x.flip(-1), x, x.flip(-1)], -1)
    around = torch.cat([around.flip(-2), around, around.flip(-2)], -2)
    mirrored = corrupt("sr4x-bicubic", around)[..., 64:128:4, 48:96:4]
    assert torch.allclose(small, mirrored, atol=1e-14)


def test_sr4x_corruptions_are_constant_on_blocks():
    x = torch.rand(1, 3, 16, 20)
    for name in ("sr4x-pool", "sr4x-bicubic"):
        xT = corrupt(name, x)
        assert torch.equal(xT, xT[..., ::4, ::4].repeat_interleave(4, -2).repeat_interleave(4, -1))


def test_jpeg_tables_are_the_jpeg_groups():
    # The first rows of the divisors that libjpeg writes into a file of quality 10 and 75.
    assert jpeg_table(LUMA, 10)[0].tolist() == [80, 55, 50, 80, 120, 200, 255, 255]
    assert jpeg_table(LUMA, 75)[0].tolist() == [8, 6, 5, 8, 12, 20, 26, 31]
    stored = io.BytesIO()
    Image.fromarray(array(16, 16, 3)).save(stored, "JPEG", quality=10, subsampling="4:2:0")
    tables = Image.open(stored).quantization
    assert (
        jpeg_table(LUMA, 10).flatten().tolist() == tables[0] and jpeg_table(CHROMA, 10).flatten().tolist() == tables[1]
    )


@pytest.mark.parametrize("quality", [5, 10, 50])
def test_jpeg_is_what_a_codec_does_to_a_grey_photograph(quality):
    # Without colour nothing is left but the transform and its rounding; a codec rounds pixels to whole numbers as well,
    # by at most one half before and after, the latter here.
    grey = im.load("photos", "test", half=False)[0].float().mean(0).round()[:128, :128]
    stored = io.BytesIO()
    Image.fromarray(grey.byte().numpy()).save(stored, "JPEG", quality=quality)
    theirs = torch.from_numpy(np.array(Image.open(stored))).float()
    ours = (corrupt(f"jpeg-{quality}", grey.expand(1, 3, 128, 128) / 127.5 - 1) if quality < 50 else
            jpeg(grey.expand(1, 3, 128, 128) / 127.5 - 1, 50))[0, 1]  # fmt: skip
    assert ((ours + 1) * 127.5 - theirs).abs().clamp(max=3).mean() < 0.5


def test_jpeg_keeps_a_constant_colour_to_half_a_step_of_the_first_coefficients():
    x = torch.tensor([0.3, -0.2, 0.6]).reshape(1, 3, 1, 1).expand(1, 3, 16, 16)
    off = (corrupt("jpeg-10", x) - x).abs().amax((0, 2, 3)) * 127.5
    luma, chroma = 80 / 8 / 2, 85 / 8 / 2  # the step of the block's mean is an eighth of its coefficient's
    assert (off <= luma + chroma * torch.tensor([1.402, 0.345 + 0.715, 1.772]) + 0.1).all() and (off > 0).any()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_keep_shape_and_dtype(name):
    for dtype in (torch.float32, torch.float64):
        x = 2 * torch.rand(2, 3, 16, 32, dtype=dtype) - 1
        xT = corrupt(name, x, Draws.at(0, 0, rows=(0, 2, 2)))
        assert xT.shape == x.shape and xT.dtype == x.dtype and not torch.equal(xT, x)
        alone = corrupt(name, x[1:], Draws.at(0, 0, rows=(1, 2, 2)))
        assert torch.allclose(alone, xT[1:], atol=1e-5)  # images of a batch do not touch


@pytest.mark.parametrize("name", ["sr4x-pool", "sr4x-bicubic", "blur-uniform", "blur-gaussian"])
def test_linear_corruptions_let_gradients_through(name):
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    corrupt(name, x).sum().backward()
    assert bool((x.grad != 0).any())


EVERY_LEVEL = torch.arange(16 * 16).reshape(1, 16, 16).expand(3, 16, 16).to(torch.uint8)  # black, white, all between


@pytest.mark.parametrize("mask", MASKS)
def test_the_hole_is_found_again_in_images_of_eight_bits(mask):
    x = im.to_float(torch.stack([EVERY_LEVEL, EVERY_LEVEL.flip(-1), EVERY_LEVEL.mT]))
    xT, hidden = inpaint(x, mask, Draws.at(0, 0)), masks(mask, 3, 16, 16, Draws.at(0, 0))
    assert torch.equal(hole_of(xT), hidden) and 0 < float(hidden.mean()) < 1
    assert torch.equal(xT, x * (1 - hidden))


def test_the_named_holes_are_the_centre_and_a_brush_of_20_to_30_per_cent():
    x = im.to_float(EVERY_LEVEL)[None].repeat(20, 1, 1, 1)
    centre, brush = hole_of(corrupt("inpaint-center", x)), hole_of(corrupt("inpaint-freeform", x, Draws.at(0, 0)))
    assert bool((centre[:, :, 4:12, 4:12] == 1).all()) and bool((centre.sum((1, 2, 3)) == 64).all())
    share = brush.mean((1, 2, 3))
    assert 0.2 <= float(share.min()) < float(share.max()) <= 0.3
    assert len({mask.numpy().tobytes() for mask in brush}) == 20


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_run_where_the_images_are(name):
    x = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    there = corrupt(name, x.to("meta"), Draws.at(0, 0))
    assert there.device.type == "meta" and there.shape == x.shape and there.dtype == x.dtype
    if torch.cuda.is_available():
        found = corrupt(name, x.cuda(), Draws.at(0, 0))
        assert found.is_cuda and (found.cpu() - corrupt(name, x, Draws.at(0, 0))).abs().mean() < 1e-4


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_draws_numbers_is_a_function_of_them_and_nothing_else_draws(name):
    x = im.to_float(EVERY_LEVEL)[None].repeat(4, 1, 1, 1)
    one, same, other = (corrupt(name, x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same) and torch.equal(one, other) == (name not in RANDOM)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    corrupt(name, x, generator)
    assert torch.equal(generator.get_state(), before) == (name not in RANDOM)


@pytest.mark.parametrize("name", ["inpaint-center", "inpaint-freeform"])
def test_a_hole_lets_no_gradient_through_and_the_rest_all_of_it(name):
    x = im.to_float(EVERY_LEVEL)[None].requires_grad_(True)
    xT = corrupt(name, x, torch.Generator().manual_seed(0))
    xT.sum().backward()
    assert torch.equal(x.grad, (1 - hole_of(xT)).expand_as(x))


@pytest.mark.parametrize(
    "name, x, error, match",
    [
        ("sr4x-pol", torch.zeros(1, 3, 8, 8), ValueError, "did you mean 'sr4x-pool'"),
        ("inpaint-centre", torch.zeros(1, 3, 8, 8), ValueError, "did you mean 'inpaint-center'"),
        ("inpaint-center", torch.zeros(1, 3, 7, 9), ValueError, "height is 7"),
        ("inpaint-freeform", torch.zeros(3, 8, 8), ValueError, "batch, channel, height, width"),
        ("sr4x-pool", torch.zeros(1, 3, 8, 10), ValueError, "8x10 pixels"),
        ("sr4x-pool", torch.zeros(3, 8, 8), ValueError, "batch, channel, height, width"),
        ("sr4x-pool", picture()[None], TypeError, "dtype"),
        ("sr4x-bicubic", torch.zeros(1, 3, 6, 8), ValueError, "6x8 pixels"),
        ("jpeg-10", torch.zeros(1, 3, 24, 16), ValueError, "multiples of 16"),
    ],
)
def test_what_a_corruption_cannot_take_is_refused(name, x, error, match):
    with pytest.raises(error, match=match):
        corrupt(name, x)


# -- toy couplings ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOYS)
def test_toy_couplings_are_centred_independent_and_reproducible(name):
    n = 20_000
    x0, xT = toy(name).sample(n, Draws.at(0, 0))
    assert x0.shape == xT.shape == (n, 2) and x0.dtype == xT.dtype == torch.float32
    tolerance = 4 * x0.std(0) / n**0.5
    # centred by symmetry, all three; the variance of xT ~ N(0, I) has the standard error sqrt(2/n)
    assert bool((x0.mean(0).abs() < tolerance).all()) and bool(((xT.var(0) - 1).abs() < 4 * (2 / n) ** 0.5).all())
    correlation = torch.corrcoef(torch.cat([x0, xT], 1).T)
    assert correlation[:2, 2:].abs().max() < 4 / n**0.5
    assert torch.equal(x0, toy(name).sample(n, Draws.at(0, 0))[0])


def test_eight_gaussians_have_their_moments():
    x0 = toy("eight-gaussians", radius=3.0, std=0.5).data(20_000, Draws.at(1, 0)).double()
    # E‖x0‖² = radius² + 2 std² = 9.5; Var = 4 radius² std² + 4 std⁴ = 9.25
    assert abs(x0.square().sum(1).mean() - 9.5) < 4 * (9.25 / 20_000) ** 0.5
    octant = ((torch.atan2(x0[:, 1], x0[:, 0]) / (math.pi / 4)).round().long() % 8).bincount(minlength=8)
    assert bool(((octant - 2500).abs() < 4 * (20_000 * 7 / 64) ** 0.5).all())


def test_moons_and_checkerboard_lie_where_they_should():
    x0 = toy("moons", radius=1.0, std=0.0).data(4000, Draws.at(0, 0)).double()
    upper, lower = torch.tensor([-0.5, -0.25]), torch.tensor([0.5, 0.25])
    on = torch.stack([(x0 - c).norm(dim=1) for c in (upper, lower)]).sub(1).abs().amin(0)
    assert on.max() < 1e-6  # float32
    cell = ((toy("checkerboard").data(4000, Draws.at(0, 0)) / 6 + 0.5) * 4).floor().clamp(0, 3)
    assert bool((cell.sum(1) % 2 == 0).all()) and len({tuple(c) for c in cell.tolist()}) == 8


@pytest.mark.parametrize(
    "name, parameters, match",
    [
        ("eight-gausians", {}, "did you mean 'eight-gaussians'"),
        ("moons", {"raduis": 2.0}, "did you mean 'radius'"),
        ("moons", {"radius": 0.0}, "radius is 0"),
        ("eight-gaussians", {"std": -1.0}, "std is -1"),
        ("checkerboard", {"side": math.inf}, "side is inf"),
    ],
)
def test_unknown_toys_and_parameters_are_refused(name, parameters, match):
    with pytest.raises(ValueError, match=match):
        toy(name, **parameters)


# -- download -----------------------------------------------------------------------------------


def pack(path: Path, names: list[str]) -> str:
    """An archive with one small file under each name; its address."""
    with tarfile.open(path, "w:gz") as members:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            members.addfile(info, io.BytesIO(name.encode()))
    return path.as_uri()


NAMES = [f"BSR/BSDS500/data/images/{part}/{i}.jpg" for part in ("train", "val", "test") for i in (1, 2)]
EVIL = ["../../evil.jpg", "BSDS500/data/images/train/../../evil.jpg", "/BSDS500/data/images/test/../9.jpg", "BSR/x.m"]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A BSDS500 of six photographs and its checksum."""
    for name in NAMES:
        file = tmp_path / "original" / Path(name).relative_to("BSR/BSDS500/data/images")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    monkeypatch.setattr(archive, "DIGEST", archive.digest(tmp_path / "original"))
    return tmp_path


def test_download_shows_the_size_verifies_and_follows_no_path(small):
    said = []
    url = pack(small / "a.tgz", NAMES + EVIL)
    images = archive.download("bsds500", small / "root", url, said.append)
    assert images == small / "root" / archive.IMAGES and "MB" in said[0] and url in said[0]
    assert sorted(file.name for file in small.rglob("*.jpg")) == sorted(["1.jpg", "2.jpg"] * 6)  # original and copy
    assert [path.name for path in (small / "root").iterdir()] == ["BSDS500"]  # nothing else is left
    archive.download("bsds500", small / "root", "file:///not/there", said.append)
    assert "already" in said[-1]


@pytest.mark.parametrize("harm", ["missing member", "cut", "not an archive", "unreachable"])
def test_a_damaged_download_leaves_nothing(small, harm):
    url = pack(small / "a.tgz", NAMES[1:] if harm == "missing member" else NAMES)
    if harm == "cut":
        (small / "a.tgz").write_bytes((small / "a.tgz").read_bytes()[:150])
    if harm == "not an archive":
        (small / "a.tgz").write_bytes(b"<html>moved</html>")
    if harm == "unreachable":
        (small / "a.tgz").unlink()
    with pytest.raises(ConnectionError if harm == "unreachable" else ValueError):
        archive.download("bsds500", small / "root", url, print)
    assert not list((small / "root").iterdir())


def test_a_folder_with_other_contents_is_left_alone(small):
    mine = small / "root" / archive.IMAGES / "train" / "1.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(ValueError, match="other photographs"):
        archive.download("bsds500", small / "root", pack(small / "a.tgz", NAMES), print)
    assert mine.read_bytes() == b"mine"
    with pytest.raises(ValueError, match="did you mean 'bsds500'"):
        archive.download("bsds50")
