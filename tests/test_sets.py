"""Data sets by name and by path, on small folders made here; torchvision, where it is wanted, is a stand-in."""

from __future__ import annotations

import pickle
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ibmd_minimal.data import images as im
from ibmd_minimal.data import sets
from ibmd_minimal.data.cards import cards
from ibmd_minimal.data.sets import data_set, scaled
from ibmd_minimal.data.solids import CLASSES, labels, solids

NAMES = ["solids", "photos", "bsds500", "fashion-mnist", "cifar-10", "celeba", "edges2handbags", "diode", "imagenet"]


def picture(seed: int = 0, height: int = 12, width: int = 10) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)


def put(folder: Path, *names: str, first: int = 0, height: int = 12, width: int = 10) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names, first):
        im.write_image(folder / name, picture(seed, height, width))


# -- cards ----------------------------------------------------------------------------------------


def test_every_set_has_a_card_with_size_licence_and_citation():
    assert list(cards()) == NAMES
    for name, card in cards().items():
        assert card.startswith(f"{name}: ") and "\n" not in card and card.endswith(".")
        assert re.search(r"Licence: \w.{2,}?\. Cite: \w.{5,}", card), name
        assert re.search(r"Size: .*\d [MG]B", card) or (name == "solids" and "nothing is downloaded or stored" in card)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("bsds500", ["Arbelaez", "2011", "71 MB", "300 to train", "non-commercial research"]),
        ("fashion-mnist", ["Xiao", "2017", "about 30 MB", "Licence: MIT"]),
        ("cifar-10", ["Krizhevsky", "2009", "170 MB", "Licence: none is stated"]),
        ("celeba", ["Liu", "2015", "about 1.4 GB", "non-commercial research"]),
        ("edges2handbags", ["Isola", "2017", "Zhu", "2016", "about 8 GB", "edges (xT)", "photograph (x0)"]),
        ("diode", ["Vasiljevic", "2019", "about 81 GB", "2.6 GB", "Licence: MIT"]),
        ("imagenet", ["Deng", "2009", "Russakovsky", "2015", "about 150 GB", "research terms"]),
    ],
)
def test_cards_state_the_known_facts(name, facts):
    assert all(fact in cards()[name] for fact in facts)


# -- sets that need no data -----------------------------------------------------------------------


def test_solids_are_the_renderer_s_pairs_by_index():
    data = data_set("solids", size=16)
    drawn = solids([3], 16)
    x0, xT = data[3]
    assert torch.equal(x0, im.to_uint8(drawn.image[0])) and torch.equal(
        xT, im.to_uint8(drawn.lines[0]).expand(3, -1, -1)
    )
    assert len(data) == 50_000 and data.card == cards()["solids"] and data.classes == CLASSES
    assert data.label(3) == int(drawn.label) and data.label(-1) == int(labels([49_999]))


def test_solids_of_the_other_split_and_with_normals():
    data = data_set("solids", "test", source="normals")
    drawn = solids([len(data) - 1], 64, split="test")
    x0, xT = data[-1]
    assert torch.equal(x0, im.to_uint8(drawn.image[0])) and torch.equal(xT, im.to_uint8(drawn.normals[0]))
    assert data.label(7) == int(labels([7], split="test")) and len(data) == 10_000


def test_photos_are_those_of_load():
    data, loaded = data_set("photos", "test"), im.load("photos", "test")
    assert len(data) == 4 and all(torch.equal(a, b) for a, b in zip(data, loaded))
    data[0].zero_()  # an item is the reader's own
    assert torch.equal(data[0], loaded[0])


def test_bsds500_goes_through_load(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="python -m ibmd_minimal download bsds500.*71 MB"):
        data_set("bsds500", root=tmp_path)
    asked = []
    monkeypatch.setattr(sets, "load", lambda *a: asked.append(a) or [picture()])
    assert torch.equal(data_set("bsds500", "test", tmp_path)[0], picture())
    assert asked == [("bsds500", "test", tmp_path)]


# -- folders --------------------------------------------------------------------------------------


def test_a_folder_of_images(tmp_path):
    put(tmp_path, "b.png", "a.png")
    data = data_set(tmp_path)
    assert len(data) == 2 and torch.equal(data[0], picture(1)) and torch.equal(data[-1], picture(0))
    assert [x.shape for x in data[:]] == [(3, 12, 10)] * 2 and data.classes == ()
    assert "2 images" in data.card and "Licence" in data.card and repr(data).count(".png") == 0
    with pytest.raises(IndexError):
        data[2]
    with pytest.raises(ValueError, match="has no labels"):
        data.label(0)


def test_a_folder_s_own_splits(tmp_path):
    put(tmp_path / "train", "a.png")
    put(tmp_path / "val", "a.png", first=1)
    assert torch.equal(data_set(str(tmp_path))[0], picture(0))
    assert torch.equal(data_set(str(tmp_path), "test")[0], picture(1))
    put(tmp_path / "test", "a.png", first=2)
    assert torch.equal(data_set(str(tmp_path), "test")[0], picture(2))


@pytest.mark.parametrize("names", sets.PAIRS)
def test_two_subfolders_are_pairs_by_name(tmp_path, names):
    put(tmp_path / "test" / names[0], "a.png", "b.png")
    put(tmp_path / "test" / names[1], "b.png", "a.png", first=10)
    data = data_set(tmp_path, "test")
    assert len(data) == 2 and "2 pairs" in data.card
    for (x0, xT), (clean, source) in zip(data, [(0, 11), (1, 10)]):
        assert torch.equal(x0, picture(clean)) and torch.equal(xT, picture(source))


def test_pairs_that_do_not_match_are_refused(tmp_path):
    put(tmp_path / "x0", "a.png", "b.png", "c.png")
    put(tmp_path / "xT", "a.png")
    with pytest.raises(ValueError, match=r"b\.png has no partner \(2 such files\)"):
        data_set(tmp_path)
    put(tmp_path / "xT", "a.jpg", "b.png")
    with pytest.raises(ValueError, match="3 files in .* have 2 names"):
        data_set(tmp_path)
    (tmp_path / "xT" / "a.jpg").unlink()
    put(tmp_path / "xT", "c.png", height=14)
    with pytest.raises(ValueError, match="wanted one shape"):
        data_set(tmp_path)[2]


def test_side_by_side_images_have_xT_on_the_left(tmp_path):
    put(tmp_path, "a.png", width=20)
    x0, xT = data_set(tmp_path, side_by_side=True)[0]
    assert torch.equal(xT, picture(width=20)[..., :10]) and torch.equal(x0, picture(width=20)[..., 10:])
    put(tmp_path, "a.png", width=21)
    with pytest.raises(ValueError, match="21 pixels wide"):
        data_set(tmp_path, side_by_side=True)[0]


def test_edges2handbags(tmp_path):
    put(tmp_path / "edges2handbags" / "train", "1_AB.jpg", "2_AB.jpg", width=24)
    put(tmp_path / "edges2handbags" / "val", "1_AB.png", width=24)
    assert len(data_set("edges2handbags", root=tmp_path)) == 2
    x0, xT = data_set("edges2handbags", "test", tmp_path)[0]
    assert torch.equal(xT, picture(width=24)[..., :12]) and torch.equal(x0, picture(width=24)[..., 12:])


def test_diode_s_own_layout_with_normals_as_arrays(tmp_path):
    scan = tmp_path / "diode" / "val" / "outdoor" / "scene_00022" / "scan_00193"
    put(scan, "00022_00193_outdoor_000_000.png", "00022_00193_outdoor_000_010.png")
    normals = np.zeros((12, 10, 3), np.float32)
    normals[0, 0], normals[0, 1], normals[1, 0] = (1, 0, 0), (0, -1, 0), (0, 0, 1)
    for name in ("000", "010"):
        np.save(scan / f"00022_00193_outdoor_000_{name}_normal.npy", normals)
        np.save(scan / f"00022_00193_outdoor_000_{name}_depth.npy", normals)
    data = data_set("diode", "test", tmp_path)
    x0, xT = data[1]
    assert len(data) == 2 and torch.equal(x0, picture(1)) and xT.shape == x0.shape
    assert xT[:, 0, 0].tolist() == [255, 128, 128] and xT[:, 0, 1].tolist() == [128, 0, 128]
    assert xT[:, 1, 0].tolist() == [128, 128, 255] and bool((xT[:, 2:] == 128).all())


def test_diode_with_normals_as_images_in_either_layout(tmp_path):
    put(tmp_path / "diode" / "train" / "scan", "a.png", "a_normal.png", "a_depth.png", "._a.png")
    x0, xT = data_set("diode", root=tmp_path)[0]
    assert torch.equal(x0, picture(0)) and torch.equal(xT, picture(1))
    put(tmp_path / "diode" / "train" / "rgb", "b.png", first=5)
    put(tmp_path / "diode" / "train" / "normals", "b.png", first=6)
    ((x0, xT),) = data_set("diode", root=tmp_path)
    assert torch.equal(x0, picture(5)) and torch.equal(xT, picture(6))


@pytest.mark.parametrize("wrong", [np.full((12, 10, 3), np.nan), np.full((12, 10, 3), 2.0), np.zeros((12, 10)), None])
def test_arrays_that_are_no_normals_are_refused(tmp_path, wrong):
    put(tmp_path / "diode" / "train", "a.png")
    np.save(tmp_path / "diode" / "train" / "a_normal.npy", wrong, allow_pickle=True)
    with pytest.raises(ValueError, match=r"a_normal\.npy .*wanted .*unit vectors"):
        data_set("diode", root=tmp_path)[0]


def test_imagenet_s_folders_are_its_classes(tmp_path):
    put(tmp_path / "imagenet" / "val" / "n02", "x.JPEG", "y.JPEG")
    put(tmp_path / "imagenet" / "val" / "n01", "z.png", first=2)
    data = data_set("imagenet", "test", tmp_path)
    assert len(data) == 3 and data.classes == ("n01", "n02") and [data.label(i) for i in range(3)] == [0, 1, 1]
    assert torch.equal(data[0], picture(2)) and data.label(-1) == 1


# -- torchvision's --------------------------------------------------------------------------------


@pytest.fixture
def torchvision(monkeypatch) -> list:
    """A stand-in for torchvision; returns what its data sets were asked for."""
    asked = []

    def maker(name: str):
        def make(root, download, **which):
            asked.append((name, root, download, which))
            if not (Path(root) / name).exists():
                raise RuntimeError("Dataset not found. You can use download=True to download it")
            pixels = picture()[0] if name == "FashionMNIST" else picture().permute(1, 2, 0).contiguous()
            item = Image.fromarray(pixels.numpy())
            found = type("Found", (list,), {})([(item, 4), (item, 2)])
            if name != "CelebA":
                found.classes, found.targets = ["shirt", "shoe"], torch.tensor([4, 2])
            return found

        return make

    fake = types.ModuleType("torchvision")
    fake.datasets = types.SimpleNamespace(**{name: maker(name) for name in sets.TORCHVISION.values()})
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    return asked


@pytest.mark.parametrize("name", sets.TORCHVISION)
@pytest.mark.parametrize("split", ["train", "test"])
def test_sets_of_torchvision(tmp_path, torchvision, name, split):
    made = sets.TORCHVISION[name]
    (tmp_path / made).mkdir()
    data = data_set(name, split, tmp_path)
    which = {"split": split} if name == "celeba" else {"train": split == "train"}
    assert torchvision == [(made, str(tmp_path), False, which)]
    wanted = picture()[:1].expand(3, -1, -1) if name == "fashion-mnist" else picture()
    assert len(data) == 2 and data[0].dtype == torch.uint8 and torch.equal(data[0], wanted)
    if name != "celeba":
        assert data.classes == ("shirt", "shoe") and data.label(1) == 2 and isinstance(data.label(0), int)


def test_torchvision_that_cannot_be_imported_is_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(RuntimeError, match="which reads cifar-10, cannot be imported.*CIFAR10.*170 MB"):
        data_set("cifar-10", root=tmp_path)


# -- what is missing, and what is wrong -----------------------------------------------------------


@pytest.mark.parametrize("name", NAMES[3:])
def test_a_missing_set_says_where_how_big_and_what_to_type(tmp_path, torchvision, name):
    with pytest.raises(FileNotFoundError) as told:
        data_set(name, "test", tmp_path)
    text = str(told.value)
    assert str(tmp_path) in text and re.search(r"about [\d.]+ [MG]B", text) and "IBMD_DATA" in text
    typed = re.search("type `(.*?)`", text)[1]
    assert "ROOT" not in text and text.count("`") % 2 == 0 and "\n" not in text
    if name in sets.TORCHVISION:
        made = sets.TORCHVISION[name]
        call = re.search(r'python -c "(.*?)"', text)[1]
        assert call == f"from torchvision.datasets import {made}; {made}('{tmp_path}', download=True)"
        compile(call, "typed", "exec")
    else:
        assert f"{tmp_path}" in typed and (name == "imagenet" or "curl -L http" in typed)


@pytest.mark.parametrize("name", ["edges2handbags", "diode", "imagenet"])
def test_an_empty_set_says_what_to_type_too(tmp_path, name):
    (tmp_path / name / "train").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="holds .*type `.*GB"):
        data_set(name, root=tmp_path)


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    put(tmp_path / "edges2handbags" / "train", "1.png", width=24)
    monkeypatch.setenv("IBMD_DATA", str(tmp_path))
    assert len(data_set("edges2handbags")) == 1


def test_wrong_names_and_options(tmp_path):
    for wrong, near in {"CelebA": "celeba", "CIFAR10": "cifar-10", "edges2handbag": "edges2handbags"}.items():
        with pytest.raises(ValueError, match=f"wanted one of solids, .*did you mean '{near}'"):
            data_set(wrong)
    with pytest.raises(FileNotFoundError, match="none.*a folder that is there"):
        data_set(tmp_path / "none")
    with pytest.raises(TypeError, match="name is a int"):
        data_set(3)
    with pytest.raises(ValueError, match="split is 'val'"):
        data_set("photos", "val")
    with pytest.raises(ValueError, match="only solids"):
        data_set("photos", source="lines")
    with pytest.raises(ValueError, match="source is 'normal'; .*did you mean 'normals'"):
        data_set("solids", source="normal")
    with pytest.raises(ValueError, match="side_by_side is for folders"):
        data_set("photos", side_by_side=True)
    with pytest.raises(ValueError, match="size is 7"):
        data_set("photos", size=7)
    with pytest.raises(FileNotFoundError, match="holds no images"):
        data_set(tmp_path)


# -- size -----------------------------------------------------------------------------------------


def test_size_takes_the_middle_square_of_the_shorter_side():
    image = picture(height=16, width=21)
    assert torch.equal(scaled(image, 16), image[:, :, 2:18])
    ramp = torch.arange(0, 256, 4, dtype=torch.uint8).repeat(3, 32, 1)  # 32x64
    assert (scaled(ramp, 16)[0, 8].float() - (2 + 8 * torch.arange(8, 24))).abs().max() <= 1
    comb = torch.tensor([255, 0, 0, 0], dtype=torch.uint8).repeat(
        3, 32, 8
    )  # a fine comb averages, without antialiasing 0
    assert (scaled(comb, 8)[:, :, 2:6].float() - 255 / 4).abs().max() < 30
    assert scaled(picture(height=31, width=17), 9).shape == (3, 9, 9)
    assert scaled(picture(height=10, width=33), 64).shape == (3, 64, 64)


def test_both_images_of_a_pair_are_scaled(tmp_path):
    put(tmp_path, "a.png", height=20, width=36)
    x0, xT = data_set(tmp_path, size=8, side_by_side=True)[0]
    whole = picture(height=20, width=36)
    assert torch.equal(x0, scaled(whole[..., 18:], 8)) and torch.equal(xT, scaled(whole[..., :18], 8))


def test_a_set_goes_to_worker_processes_and_into_crops(tmp_path):
    put(tmp_path, "a.png", "b.png", height=16, width=16)
    data = pickle.loads(pickle.dumps(data_set(tmp_path)))
    assert torch.equal(data[1], picture(1, 16, 16))
    assert pickle.loads(pickle.dumps(data_set("solids", size=8)))[0][0].shape == (3, 8, 8)
    assert im.random_crops(data, 3, 8).shape == (3, 3, 8, 8)
