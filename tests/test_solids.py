"""Rendered solids: what an index promises, ranges, normals against depth, lines against breaks, classes, splits."""

from __future__ import annotations

import math

import pytest
import torch

from ibmd_minimal.data import rendering, scenes, shading, shapes
from ibmd_minimal.data import solids as module
from ibmd_minimal.data.layouts import reach
from ibmd_minimal.data.solids import CARD, CLASSES, OVERSAMPLE, labels, solids

SIZE = 32


@pytest.fixture(scope="module")
def batch():
    return solids(range(96), SIZE)


@pytest.fixture(scope="module")
def seen():
    """Scenes, their columns and the samples that see a solid, of the same batch."""
    scene = scenes.on(scenes.scenes(range(96), 0), "cpu")
    columns = rendering.Columns.of(scene)
    return scene, columns, rendering.visible(columns, SIZE, OVERSAMPLE)


def codes(seen) -> torch.Tensor:
    """What each sample sees, 0 where it is no solid."""
    scene, columns, samples = seen
    return rendering._codes(columns, samples, (96, SIZE), OVERSAMPLE)[0]


def local_rays(name: str, n: int = 4000, seed: int = 0):
    """Random solids of a kind, each with a ray that starts outside of it, in its own frame, float64."""
    generator = torch.Generator().manual_seed(seed)
    size = (0.3 + torch.rand(3, n, generator=generator, dtype=torch.float64)) * 0.5
    size[1] = torch.where(torch.tensor(name == "torus"), 0.45 * size[0], size[1])
    start, towards = torch.randn(2, 3, n, generator=generator, dtype=torch.float64)
    start = 3 * start / shapes.dot(start, start).sqrt()
    d = 0.3 * towards - start
    return start, d / shapes.dot(d, d).sqrt(), size


# -- an element is a function of seed, split and index ---------------------------------------------------------------


@pytest.mark.parametrize("shading_", [True, False])
def test_elements_have_the_same_bits_in_any_batch(shading_):
    whole = solids(range(40), 24, shading=shading_)
    for indices in ([7], [39, 3, 3, 12], range(5, 22)):
        part = solids(indices, 24, shading=shading_)
        for of_whole, of_part in zip(whole, part):
            assert torch.equal(of_whole[list(indices)], of_part)


def test_the_renderer_s_passes_leave_no_trace(monkeypatch, batch):
    monkeypatch.setattr(module, "SAMPLES_AT_ONCE", 5 * (SIZE * OVERSAMPLE) ** 2)
    assert all(torch.equal(a, b) for a, b in zip(batch, solids(range(96), SIZE)))


def test_what_the_renderer_leaves_out_changes_nothing(monkeypatch, batch):
    """Rays beside a solid's box, ground that solids hide, what a torus's outer half cannot do to itself."""

    def all_ground(scene, columns, samples, hidden, size):
        return shading.colours(scene, columns, samples, torch.zeros_like(hidden), size)

    for name, shape in shapes.SHAPES.items():
        monkeypatch.setitem(shapes.SHAPES, name, shape._replace(loose=False))
    monkeypatch.setattr(module, "colours", all_ground)
    monkeypatch.setattr(shading, "CLOSE", math.inf)
    for a, b in zip(batch, solids(96, SIZE)):
        assert (a - b).abs().max() < 1e-6


def test_number_of_threads_leaves_the_bits(batch):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert all(torch.equal(a[:24], b) for a, b in zip(batch, solids(24, SIZE)))
    finally:
        torch.set_num_threads(threads)


def test_default_dtype_and_global_random_numbers_play_no_part(batch):
    before = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        again = solids(torch.arange(96), SIZE)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(batch, again))
    assert torch.equal(before, torch.get_rng_state())


def test_a_scene_s_numbers_are_these(batch):
    """The first scenes, loosely: another generator or another order of draws would be other pictures by now."""
    assert batch.label[:8].tolist() == [5, 5, 2, 0, 2, 1, 4, 2]
    assert batch.image.mean((1, 2, 3))[:4].tolist() == pytest.approx([-0.3804, 0.2674, 0.4131, 0.0516], abs=2e-3)


def test_splits_seeds_and_indices_differ():
    streams = [solids(range(12), 16), solids(range(12), 16, split="test"), solids(range(12), 16, seed=1)]
    images = torch.cat([stream.image for stream in streams]).flatten(1)
    distance = torch.cdist(images, images) + 1e3 * torch.eye(len(images))
    assert distance.min() > 1


def test_train_and_test_share_no_number():
    train, test = (scenes.numbers(range(2000), 0, stream) for stream in (0, 1))
    assert not set(train.flatten().tolist()) & set(test.flatten().tolist())


# -- shapes, ranges, classes -----------------------------------------------------------------------------------------


def test_shapes_dtypes_and_ranges(batch):
    assert batch.image.shape == batch.normals.shape == (96, 3, SIZE, SIZE)
    assert batch.lines.shape == (96, 1, SIZE, SIZE) and batch.label.shape == (96,)
    assert batch.label.dtype == torch.int64
    for images in batch[:3]:
        assert images.dtype == torch.float32 and images.is_contiguous()
        assert images.min() >= -1 and images.max() <= 1 and images.isfinite().all()


@pytest.mark.parametrize("size", [8, 33, 96])
def test_any_size(size):
    assert solids([0, 5], size).image.shape == (2, 3, size, size)


def test_another_size_is_the_same_scene():
    large, small = solids(8, 96), solids(8, 32)
    assert torch.equal(large.label, small.label)
    pooled = torch.nn.functional.avg_pool2d(large.image, 3)
    assert (pooled - small.image).abs().mean() < 0.02


def test_all_classes_occur_one_time_in_six():
    n = 6000
    share = labels(range(n), seed=3).bincount(minlength=6) / n
    assert len(CLASSES) == len(share) == 6
    assert (share - 1 / 6).abs().max() < 4.5 * math.sqrt(5 / 36 / n)


def test_labels_without_rendering_are_those_of_the_pictures(batch):
    assert torch.equal(labels(96), batch.label)
    assert torch.equal(labels([9], split="test"), solids([9], 8, split="test").label)


def test_a_label_says_what_stands_there():
    scene = scenes.scenes(range(400), 0)
    number = (scene.kind >= 0).sum(1)
    single = scene.label < module.CLASSES.index("combination")
    assert torch.equal(scene.kind[single, 0], scene.label[single]) and (number[single] == 1).all()
    assert set(number[~single].tolist()) == {2, 3}


def test_every_solid_is_in_the_picture(batch):
    """Nothing is cut off at the frame, which few touch; and solids fill a fair part of it."""
    mask = batch.normals.square().sum(1).sqrt()
    border = torch.cat([mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1]], 1)
    assert (border.amax(1) > 0).float().mean() < 0.03 and border.max() < 1
    filled = mask.mean((1, 2))
    assert filled.min() > 0.02 and 0.1 < filled.mean() < 0.5


# -- geometry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_hits_lie_on_the_surface_with_the_distance_s_gradient_as_normal(name):
    o, d, size = local_rays(name)
    shape = shapes.SHAPES[name]
    t, normal, _ = shape.hit(o, d, size)
    hit = t.isfinite()
    assert 0.15 < hit.double().mean() < 0.98
    o, d, size, t, normal = o[:, hit], d[:, hit], size[:, hit], t[hit], normal[:, hit]
    assert shape.distance(o + t * d, size).abs().max() < (3 * shapes.CLOSE if name == "torus" else 1e-9)
    assert (shapes.dot(normal, normal) - 1).abs().max() < 1e-9
    beside = (o + t * d + 1e-2 * normal).requires_grad_()
    (gradient,) = torch.autograd.grad(shape.distance(beside, size).sum(), beside)
    assert (shapes.dot(gradient, normal) > 0.99).double().mean() > 0.97  # beside an edge, the other face may be nearer


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_no_ray_passes_through_a_solid_unseen(name):
    o, d, size = local_rays(name, 1500)
    shape = shapes.SHAPES[name]
    t = shape.hit(o, d, size)[0]
    steps = torch.linspace(0, 6, 1500, dtype=torch.float64)[:, None]
    p = (o[:, None] + steps * d[:, None]).flatten(1)
    distance = shape.distance(p, size[:, None].expand(3, 1500, 1500).flatten(1)).reshape(1500, 1500)
    inside = distance < -1e-3
    assert t[inside.any(0)].isfinite().all()
    assert not (inside & (steps < t - 5e-3)).any()


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_reach_is_the_support_function(name):
    o, d, size = local_rays(name, 300)
    shape = shapes.SHAPES[name]
    reach, bound = shape.reach(d, size), shape.bound(size)
    assert (reach <= bound + 1e-12).all()
    t, _, _ = shape.hit(o, -o / 3, size)  # some points of the surface
    p = (o - t * o / 3)[:, t.isfinite()]
    for column in range(0, 300, 7):
        size_ = size[:, column : column + 1].expand_as(p)
        inside = shape.distance(p, size_) <= 0
        assert (shapes.dot(p, d[:, column : column + 1].expand_as(p))[inside] <= reach[column] + 1e-9).all()


def test_solids_stand_on_the_ground_or_on_one_another(seen):
    scene = scenes.scenes(range(500), 0)
    down = -scene.up[:, :, None].expand(3, 500, 3)
    lowest = shapes.dot(scene.up[:, :, None], scene.centre) + scene.height[:, None]
    lowest = lowest - reach(scene.kind, scene.size, scene.axes, down)
    there = scene.kind >= 0
    assert lowest[there].min() > -1e-9
    assert (lowest[:, 0].abs() < 1e-9).all() and (lowest[there].abs() < 1e-9).double().mean() > 0.9


def test_combinations_show_more_than_one_solid(seen):
    """Where a solid hides all others a label is wrong: in some 0.4 % of the combinations."""
    indices = (labels(2500) == CLASSES.index("combination")).nonzero()[:, 0].tolist()
    scene = scenes.on(scenes.scenes(indices, 0), "cpu")
    samples = rendering.visible(rendering.Columns.of(scene), 16, 1)
    seen_of = samples.solid.bincount(minlength=3 * len(indices)).reshape(-1, 3)
    assert ((seen_of > 0).sum(1) < 2).float().mean() < 0.015


# -- normals ---------------------------------------------------------------------------------------------------------


def test_normals_are_unit_vectors_towards_the_viewer_where_a_pixel_is_covered(batch, seen):
    covered = torch.nn.functional.avg_pool2d((codes(seen) > 0).float(), OVERSAMPLE)
    length = batch.normals.square().sum(1).sqrt()
    assert (length - covered).abs().max() < 1e-5
    assert (batch.normals[:, 2][covered == 1] > -0.05).all()


def test_normals_agree_with_depth(seen):
    """In the middle of a sphere the normal is the way from its centre; everywhere it is at most grazing."""
    scene, columns, samples = seen
    assert (shapes.dot(samples.normal, samples.ray) < 0.05).all()
    one = columns.at(samples.solid, rows=23)
    way = samples.depth * samples.ray - one.centre
    sphere = one.kind == CLASSES.index("sphere")
    assert ((way / one.size[0] - samples.normal)[:, sphere].abs()).max() < 1e-4


# -- lines -----------------------------------------------------------------------------------------------------------


def test_lines_are_drawn_at_breaks_and_nowhere_else(batch, seen):
    code = codes(seen)
    ink = batch.lines[:, 0] < 0.5
    windows = torch.nn.functional.pad(code[:, None].float(), (3,) * 4, mode="replicate")
    most = torch.nn.functional.max_pool2d(windows, 2 * OVERSAMPLE + 4, OVERSAMPLE)[:, 0, :SIZE, :SIZE]
    least = -torch.nn.functional.max_pool2d(-windows, 2 * OVERSAMPLE + 4, OVERSAMPLE)[:, 0, :SIZE, :SIZE]
    torus = torch.tensor([2 in kinds for kinds in seen[0].kind.tolist()])
    assert not (ink & (most == least))[~torus].any()  # a torus passes before itself as well
    own = code.reshape(96, SIZE, OVERSAMPLE, SIZE, OVERSAMPLE).transpose(2, 3).flatten(3)
    broken = own.amax(-1) != own.amin(-1)
    assert (batch.lines[:, 0][broken] < 0).float().mean() > 0.98


def test_interiors_and_backgrounds_are_paper(batch):
    sphere = batch.label == CLASSES.index("sphere")
    mask = batch.normals[sphere].square().sum(1, keepdim=True).sqrt()
    inner = 1 - torch.nn.functional.max_pool2d(1 - mask, 5, 1, 2)
    outer = torch.nn.functional.max_pool2d(mask, 5, 1, 2)
    assert (batch.lines[sphere][inner == 1] == 1).all() and (batch.lines[sphere][outer == 0] == 1).all()
    assert 0.03 < (batch.lines < 0).float().mean() < 0.2


# -- light -----------------------------------------------------------------------------------------------------------


def test_shading_removed_leaves_paint_and_all_the_rest(batch):
    flat = solids(96, SIZE, shading=False)
    assert torch.equal(flat.normals, batch.normals) and torch.equal(flat.lines, batch.lines)
    for k in range(0, 96, 5):
        single = (batch.label[k] < 5) and not (flat.normals[k].square().sum(0) % 1 > 0).all()
        inner = flat.normals[k].square().sum(0) > 0.999
        if single:
            assert flat.image[k][:, inner].std(1).max() < 1e-5
    assert (flat.image - batch.image).abs().mean() > 0.05


def test_solids_stand_out_from_the_ground_without_colour():
    scene = scenes.scenes(range(300), 0)
    luma = torch.tensor(scenes.LUMA, dtype=torch.float64)[:, None]
    ground = (luma * scene.backdrop).sum(0)[:, None]
    contrast = ((luma[:, :, None] * scene.colour).sum(0) - ground).abs()[scene.kind >= 0]
    assert contrast.min() > scenes.CONTRAST - 0.1 and contrast.median() > 0.25


def test_a_shadow_lies_away_from_the_light():
    """The ground is darker on the side of a sphere that looks away from the light."""
    scene = scenes.on(scenes.scenes(range(200), 0), "cpu")
    columns = rendering.Columns.of(scene)
    sphere = (scene.label == 0).nonzero()[:, 0]
    flat = scene.light - shapes.dot(scene.light, scene.up) * scene.up
    flat = flat / shapes.dot(flat, flat).sqrt()
    for side, wanted in ((-1, 0.35), (1, 0.98)):
        p = (scene.centre[:, :, 0] + side * 1.15 * scene.size[0, :, 0] * flat)[:, sphere]
        fall = shapes.dot(p, scene.up[:, sphere]) + scene.height[sphere]
        p = (p - fall * scene.up[:, sphere])[:, :, None]
        found = shading.sunlight(
            columns,
            p.flatten(1),
            [(torch.arange(len(sphere)), 3 * sphere)],
        )
        assert found.min() >= 0 and found.max() <= 1
        assert (found.mean() < wanted) if side < 0 else (found.mean() > wanted)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"indices": 0}, ValueError, "indices is 0; wanted a whole number, 1 or more"),
        ({"indices": []}, ValueError, "indices is empty; wanted at least one whole number from 0 on"),
        ({"indices": [3, -1]}, ValueError, "an index is -1; wanted a whole number, 0 or more"),
        ({"indices": [0.5]}, TypeError, "an index is 0.5; wanted a whole number, 0 or more"),
        ({"indices": "all"}, TypeError, "indices is a str; wanted a whole number, a range or a list of them"),
        ({"indices": None}, TypeError, "indices is a NoneType; wanted a whole number"),
        ({"size": 7}, ValueError, "size is 7; wanted 8 to 1024 pixels"),
        ({"size": 64.0}, TypeError, "size is 64.0; wanted a whole number"),
        ({"seed": -1}, ValueError, "seed is -1; wanted a whole number, 0 or more"),
        ({"split": "tets"}, ValueError, "split is 'tets'; wanted one of train, test; did you mean 'test'?"),
    ],
)
def test_bad_input_is_answered_with_a_sentence(arguments, error, sentence):
    with pytest.raises(error) as caught:
        solids(**{"indices": 4, "size": 16, **arguments})
    assert sentence in str(caught.value)


def test_the_card_says_what_they_are():
    for word in (*CLASSES[:5], "MIT", "CITATION.cff", "normal map", "line drawing"):
        assert word.replace("torus", "tori").replace("box", "boxes") in CARD or word in CARD


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_draws_the_same_pictures(batch):
    there = solids(96, SIZE, device="cuda")
    assert all(part.device.type == "cuda" for part in there)
    assert (there.image.cpu() - batch.image).abs().mean() < 1e-4
