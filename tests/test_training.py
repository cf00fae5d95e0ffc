"""The machinery of training: what an update does, what is saved and when, and that a run can be cut anywhere."""

from __future__ import annotations

import copy
import errno
import itertools
import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from ibmd_minimal import _files, training
from ibmd_minimal._random import normal
from ibmd_minimal.bridges import brownian
from ibmd_minimal.inverse import distill
from ibmd_minimal.matching import train
from ibmd_minimal.networks import MLP, UNet
from ibmd_minimal.students import student_from
from ibmd_minimal.training import Batches, Feed, Learner, NonFiniteLoss, load_run, loop, parts, rate, save_run

ROOT = Path(__file__).parents[1]
BRIDGE = brownian(0.3)
LIKE = torch.zeros(1)


def pairs(draws):
    return normal((8, 2), LIKE, draws), normal((8, 2), LIKE, draws)


def sources(draws):
    return normal((8, 2), LIKE, draws)


def fresh(seed: int = 0, dtype: torch.dtype = torch.float32) -> MLP:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MLP(BRIDGE, 2, 8, 2).to(dtype)


def run(kind: str, make=None, steps: int = 12, dtype: torch.dtype = torch.float32, seed: int = 0, **options) -> MLP:
    """A tiny training of either kind with everything in it that a resumed run has to find again."""
    common = dict(steps=steps, lr=1e-2, ema=0.9, clip=1.0, warmup=3, cosine=40, seed=seed, progress=False) | options
    if kind == "train":
        return train(fresh(0, dtype), BRIDGE, Batches(make or pairs), **common)[0]
    return distill(
        fresh(1, dtype), BRIDGE, student_from(fresh(0, dtype)), Batches(make or sources), fake_steps=2, **common
    )


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def learner(module: nn.Module | None = None, **options) -> Learner:
    return Learner(module if module is not None else fresh(), 1e-2, **options)


def quadratic(module: nn.Module, scale: float = 1.0):
    return lambda: scale * sum(p.square().sum() for p in module.parameters())


# -- one update ------------------------------------------------------------------------------------


def test_an_update_is_adam_s_by_its_textbook_formula():
    module = nn.Linear(3, 2).double()
    start = [p.detach().clone() for p in module.parameters()]
    one = Learner(module, 0.1, betas=(0.5, 0.9))
    for step in range(3):
        one.update([quadratic(module)], step)
    for p, x in zip(module.parameters(), start):
        m = v = torch.zeros_like(x)
        for k in range(1, 4):
            m, v = 0.5 * m + 0.5 * 2 * x, 0.9 * v + 0.1 * (2 * x) ** 2
            x = x - 0.1 * (m / (1 - 0.5**k)) / ((v / (1 - 0.9**k)).sqrt() + 1e-8)
        torch.testing.assert_close(p.detach(), x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("share", [None, 0.5])
def test_the_average_follows_its_formula_and_takes_over_at_the_end(share):
    module = fresh()
    one = learner(module, ema=0.5 if share is None else 0.75, ema_share=share)
    average = [p.detach().clone() for p in module.parameters()]
    for k in range(1, 8):
        one.update([quadratic(module)], k)
        decay = min(0.5, (1 + k) / (10 + k)) if share is None else min(0.75, k / (k + 2))
        average = [decay * a + (1 - decay) * p.detach() for a, p in zip(average, module.parameters())]
    raw = [p.detach().clone() for p in module.parameters()]
    with one.averaged() as held:
        for p, a in zip(held.parameters(), average):
            torch.testing.assert_close(p.detach(), a, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(p, r) for p, r in zip(module.parameters(), raw))
    for p, a in zip(one.finish().parameters(), average):
        torch.testing.assert_close(p.detach(), a, rtol=1e-5, atol=1e-6)


def test_the_average_over_a_share_is_that_of_the_last_updates():
    """Of parameters that grow by one an update, with share 1/3: 3/4 of the way, whatever the number of updates."""
    for updates in (40, 400):
        one = learner(nn.Linear(1, 1), ema=1.0, ema_share=1 / 3)
        for k in range(1, updates + 1):
            with torch.no_grad():
                one.parameters[0].fill_(k)
            one.updates = k
            one._follow()
        assert float(one.average[0]) == pytest.approx(0.75 * updates, abs=1)


def test_averaged_parameters_go_back_after_an_error():
    one = learner(ema=0.5)
    one.update([quadratic(one.module)], 0)
    raw = copy.deepcopy(one.module)
    with pytest.raises(KeyError), one.averaged():
        raise KeyError
    assert equal(raw, one.module)


def test_rates():
    assert [rate(k, 2.0, warmup=4) for k in (0, 1, 3, 4, 100)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    assert rate(10, 1.0, warmup=10, steps=110) == 1.0
    assert rate(60, 1.0, warmup=10, steps=110) == pytest.approx(0.1 + 0.9 / 2)
    assert rate(110, 1.0, warmup=10, steps=110) == pytest.approx(0.1) == rate(999, 1.0, warmup=10, steps=110)
    assert rate(60, 2.0, warmup=10, steps=110, flat=60) == 2.0 and rate(85, 1.0, 10, 110, flat=60) == rate(
        60, 1.0, 10, 110
    )
    assert rate(35, 1.0, warmup=10, steps=110, floor=0.0) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_the_rate_reaches_the_optimiser():
    """Adam's first step has the length lr in every coordinate, whatever the gradient."""
    module = nn.Linear(3, 2).double()
    start = copy.deepcopy(module)
    Learner(module, 1.0, warmup=4).update([quadratic(module)], 0)
    for p, q in zip(module.parameters(), start.parameters()):
        torch.testing.assert_close((p - q).abs(), torch.full_like(p, 0.25), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("clip", "expected"), [(0.5, 0.5), (1e6, None), (None, None)])
def test_clip_bounds_the_gradient_s_norm(clip, expected):
    module = fresh()
    wanted = math.sqrt(sum(float((2 * p.detach()).square().sum()) for p in module.parameters()))
    one = learner(module, clip=clip)
    one.update([quadratic(module)], 0)
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in module.parameters()))
    assert norm == pytest.approx(expected or wanted, rel=1e-4)


def test_frozen_parameters_stay():
    module = fresh()
    module.first.requires_grad_(False)
    before = copy.deepcopy(module)
    learner(module, ema=0.5).update([lambda: sum(p.square().sum() for p in module.parameters())], 0)
    assert torch.equal(module.first.weight, before.first.weight) and not torch.equal(
        module.last.weight, before.last.weight
    )


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Learner(nn.SiLU(), 1e-3), ValueError, "SiLU has no parameters"),
        (lambda: Learner("net", 1e-3), ValueError, "str has no parameters"),
        (lambda: Learner(fresh(), 0.0), ValueError, "lr is 0.0"),
        (lambda: Learner(fresh(), 1e-3, ema=0.9, ema_share=0.0), ValueError, "ema_share is 0"),
        (lambda: Learner(fresh(), 1e-3, ema=1.5), ValueError, "ema is 1.5"),
        (lambda: Learner(fresh(), 1e-3, clip=-1), ValueError, "clip is -1"),
        (lambda: Learner(fresh(), 1e-3, warmup=-1), ValueError, "warmup is -1"),
        (lambda: Learner(fresh(), 1e-3, cosine=0), ValueError, "cosine is 0"),
        (lambda: Learner(fresh(), 1e-3, precision="bfloat"), ValueError, "did you mean 'bfloat16'"),
        (lambda: Batches(3), TypeError, "make is a int"),
        (lambda: Batches(pairs, seed=-1), ValueError, "seed is -1"),
        (lambda: Feed(torch.zeros(3, 2), "sources"), TypeError, "sources is a Tensor"),
        (lambda: Feed(3, "pairs"), TypeError, "pairs is a int"),
        (lambda: parts(9, 2), ValueError, "the batch has 9 rows; wanted a multiple of 1 processes x 2"),
        (lambda: next(loop({}, dict, 0)), ValueError, "steps is 0"),
    ],
)
def test_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()


# -- precision -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bfloat16", "expected"), [(0.5, True), (0.95, False), (15.0, False)])
def test_auto_asks_the_processor(monkeypatch, bfloat16, expected):
    monkeypatch.setattr(training, "_seconds", lambda layer, x, dtype: bfloat16 if dtype == torch.bfloat16 else 1.0)
    assert training.bfloat16_is_faster("cpu") is expected
    with training.autocast("cpu", "auto"):
        assert torch.is_autocast_enabled("cpu") is expected


def test_this_processor_answers():
    assert training.bfloat16_is_faster() in (True, False)
    assert training.bfloat16_is_faster("meta") is False


def test_bfloat16_trains_and_keeps_parameters_in_float32():
    seen = []

    class Watched(MLP):
        def core(self, *given):
            out = super().core(*given)
            seen.append(out.dtype)
            return out

    model, history = train(
        Watched(BRIDGE, 2, 8, 2), BRIDGE, Batches(pairs), steps=3, precision="bfloat16", progress=False
    )
    assert set(seen) == {torch.bfloat16} and {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(math.isfinite(record["loss"]) for record in history)


# -- the whole batch, however it is cut ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["train", "distill"])
# Adam divides by the gradient's size, which magnifies rounding in a small one: hence the room above 1e-16 and 1e-7.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-3)])
def test_accumulated_gradients_are_the_whole_batch_s(kind, dtype, tolerance):
    def make(draws):
        drawn = pairs(draws)
        return tuple(v.to(dtype) for v in drawn) if kind == "train" else drawn[0].to(dtype)

    whole, cut = (run(kind, make, steps=4, dtype=dtype, accumulate=n) for n in (1, 4))
    for p, q in zip(whole.parameters(), cut.parameters()):
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance)
    assert not equal(whole, run(kind, make, steps=4, dtype=dtype, seed=1))


WORKER = """
    import sys, torch
    sys.path[:0] = [{tests!r}, {root!r}]
    from test_training import in_parallel
    from ibmd_minimal.training import world
    torch.set_num_threads(1)
    rank, size = world()
    assert size == 2
    torch.save([list(m.state_dict().values()) for m in in_parallel(rank)], {folder!r} + f"/{{rank}}.pt")
"""


def in_parallel(rank: int) -> list[nn.Module]:
    """A training and a distillation in float64; every process but the first starts from other weights."""

    def make(draws):
        return tuple(v.double() for v in pairs(draws))

    options = dict(steps=3, lr=1e-2, progress=False, clip=1.0)
    student = student_from(fresh(rank, torch.float64))
    distil = distill(fresh(1, torch.float64), BRIDGE, student, Batches(lambda d: make(d)[0]), fake_steps=2, **options)
    return [train(fresh(rank, torch.float64), BRIDGE, Batches(make), **options)[0], distil]


def test_two_processes_make_the_update_of_one(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(WORKER.format(tests=str(ROOT / "tests"), root=str(ROOT), folder=str(tmp_path))))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 0, ended.stderr
    alone = [list(m.state_dict().values()) for m in in_parallel(0)]
    for rank in (0, 1):
        for ours, theirs in zip(alone, torch.load(tmp_path / f"{rank}.pt")):
            for p, q in zip(ours, theirs, strict=True):
                torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-11)


# -- interrupted and resumed -----------------------------------------------------------------------

KILLED = """
    import itertools, os, signal, sys, torch
    sys.path[:0] = [{tests!r}, {root!r}]
    import test_training as here
    torch.set_num_threads(1)

    def deadly(make):
        numbers = itertools.count()

        def batch(draws):
            next(numbers) < 20 or os.kill(os.getpid(), signal.SIGKILL)
            return make(draws)

        return batch

    for kind, make in (("train", here.pairs), ("distill", here.sources)):
        child = os.fork()  # two runs to kill for one import of torch
        child or here.run(kind, deadly(make), steps=10_000, folder={folder!r} + "/" + kind, every=3)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
"""


def saved(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A folder with a training and a distillation, each killed at its batch 20: in step 20, and within step 6."""
    folder = tmp_path_factory.mktemp("killed")
    code = textwrap.dedent(KILLED.format(tests=str(ROOT / "tests"), root=str(ROOT), folder=str(folder)))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.mark.parametrize(("kind", "reached"), [("train", 18), ("distill", 6)])
def test_a_killed_run_continues_to_the_same_bits(tmp_path, killed, kind, reached):
    assert saved(killed / kind)["step"] == reached
    steps = reached + 5
    resumed, whole = run(kind, steps=steps, folder=killed / kind), run(kind, steps=steps, folder=tmp_path)
    assert equal(resumed, whole)
    assert saved(killed / kind)["history"] == saved(tmp_path)["history"]
    assert [record["step"] for record in saved(tmp_path)["history"]] == list(range(steps))


def images(draws):
    x = normal((2, 1, 8, 8), LIKE, draws)
    return x, x.flip(-1)


def unet() -> UNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(BRIDGE, 1, (8, 12))


def test_a_resumed_u_net_finds_its_moments_where_its_channels_last_weights_are(tmp_path):
    options = dict(lr=1e-2, ema=0.9, progress=False)
    whole, _ = train(unet(), BRIDGE, Batches(images), steps=8, **options)
    train(unet(), BRIDGE, Batches(images), steps=5, folder=tmp_path, **options)
    resumed, _ = train(unet(), BRIDGE, Batches(images), steps=8, folder=tmp_path, **options)
    assert equal(resumed, whole)


@pytest.mark.parametrize("other", [{"seed": 1}, {"lr": 1e-2}, {"weight": "soft"}, {"ema": 0.5}], ids=str)
def test_a_saved_training_is_not_gone_on_with_by_another(tmp_path, other):
    options = {"steps": 2, "lr": 1e-3, "folder": tmp_path, "progress": False}
    train(fresh(0), BRIDGE, Batches(pairs), **options)
    with pytest.raises(ValueError, match=f"cannot be resumed .its {next(iter(other))} is "):
        train(fresh(0), BRIDGE, Batches(pairs), **options | {"steps": 3} | other)


@pytest.mark.parametrize("other", [{"seed": 1}, {"fake_steps": 3}, {"gradient": "detached"}], ids=str)
def test_a_saved_distillation_is_not_gone_on_with_by_another(tmp_path, other):
    options = {"steps": 2, "fake_steps": 1, "folder": tmp_path, "progress": False}
    teacher = fresh(1)
    distill(teacher, BRIDGE, student_from(fresh(0)), Batches(sources), **options)
    with pytest.raises(ValueError, match=f"cannot be resumed .its {next(iter(other))} is "):
        distill(teacher, BRIDGE, student_from(fresh(0)), Batches(sources), **options | {"steps": 3} | other)


def test_a_finished_run_returns_at_once(tmp_path):
    done = run("train", folder=tmp_path, every=5)

    def never(draws):
        raise AssertionError("a finished run wants no batch")

    assert equal(run("train", never, folder=tmp_path, every=5), done)


@pytest.mark.parametrize("kind", ["train", "distill"])
def test_a_plain_iterable_resumes_too(tmp_path, kind):
    def listed(n):
        return list(itertools.islice(Batches(pairs if kind == "train" else sources), n))

    def go(batches, steps, **options):
        common = dict(steps=steps, progress=False, **options)
        if kind == "train":
            return train(fresh(), BRIDGE, batches, **common)[0]
        return distill(fresh(1), BRIDGE, student_from(fresh()), batches, fake_steps=1, **common)

    go(listed(8), 4, folder=tmp_path)
    assert equal(go(listed(16), 8, folder=tmp_path), go(listed(16), 8))


def test_the_state_on_disk_keeps_its_format(tmp_path):
    """Long runs are resumed by later versions: names of files, keys and tensors stay."""
    one = learner(nn.Linear(2, 1), ema=0.5)
    one.update([quadratic(one.module)], 0)
    save_run(tmp_path, {"model": one}, 1, [{"step": 0, "loss": 1.0}])
    assert saved(tmp_path) == {"step": 1, "tensors": "state-1.safetensors", "history": [{"step": 0, "loss": 1.0}]}
    moments = [f"optimiser.{k}.{name}" for k in (0, 1) for name in ("exp_avg", "exp_avg_sq", "step")]
    names = ["module.weight", "module.bias", "average.0", "average.1", "updates", *moments]
    assert sorted(_files._read(tmp_path / "state-1.safetensors")) == sorted(f"model/{name}" for name in names)


def other(kind: str, **options):
    return lambda folder: run(kind, folder=folder, steps=20, **options)


@pytest.mark.parametrize(
    ("resume", "says"),
    [
        (other("distill"), "it holds model and this one fake, student"),
        (lambda f: train(MLP(BRIDGE, 2, 9, 2), BRIDGE, Batches(pairs), folder=f, ema=0.9), r"has .* \(9"),
        (
            lambda f: train(fresh().double(), BRIDGE, Batches(pairs), folder=f, ema=0.9),
            "float32 and this one .*float64",
        ),
        (lambda f: run("train", folder=f, steps=20, ema=0.0), "average.0 .* this one not"),
        (
            lambda f: next(loop({"model": learner(ema=0.9)}, dict, 20, folder=f, recipe={"seed": 2})),
            "its seed is 1, this",
        ),
    ],
)
def test_another_recipe_is_refused_in_one_sentence_and_changes_nothing(tmp_path, resume, says):
    one = learner(ema=0.9)
    for _ in loop({"model": one}, lambda k: {"loss": one.update([quadratic(one.module)], k)}, 3, folder=tmp_path,
                  progress=False, recipe={"seed": 1}):  # fmt: skip
        pass
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=says) as refused:
        resume(tmp_path)
    assert "wanted one of this very recipe, or an empty folder" in str(refused.value) and "\n" not in str(refused.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"step": 1, "tensors": "gone", "history": []}', "{"])
def test_a_damaged_or_foreign_run_is_refused_in_one_sentence(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match="cannot be resumed") as refused:
        load_run(tmp_path, {"model": learner()})
    assert "\n" not in str(refused.value)


def test_a_truncated_state_is_refused(tmp_path):
    run("train", folder=tmp_path)
    state = next(tmp_path.glob("state-*.safetensors"))
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be resumed"):
        run("train", folder=tmp_path, steps=20)


# -- what goes wrong while saving ------------------------------------------------------------------


def no_space(*given, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt(*given, **options):
    raise KeyboardInterrupt


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize(("fail", "error"), [(no_space, OSError), (interrupt, KeyboardInterrupt)])
def test_a_failed_save_leaves_the_older_state_and_no_stray_file(tmp_path, monkeypatch, call, which, fail, error):
    """`which` of the two files fails: the tensors, or `run.json` after them."""
    one = learner(ema=0.5)
    one.update([quadratic(one.module)], 0)
    save_run(tmp_path, {"model": one}, 1, [{"step": 0, "loss": 1.0}])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    one.update([quadratic(one.module)], 1)
    real, calls = getattr(os, call), []

    def failing(*given):
        calls.append(given)
        return fail() if len(calls) == which else real(*given)

    monkeypatch.setattr(_files.os, call, failing)
    with pytest.raises(error) as refused:
        save_run(tmp_path, {"model": one}, 2, [])
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    if error is OSError:
        assert refused.value.errno == errno.ENOSPC
        assert "cannot be written (No space left on device); wanted room for" in str(refused.value)
    assert load_run(tmp_path, {"model": learner(ema=0.5)}) == (1, [{"step": 0, "loss": 1.0}])
    save_run(tmp_path, {"model": one}, 2, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "state-2.safetensors"]


def test_a_full_disk_at_the_first_byte(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.open", no_space)
    with pytest.raises(OSError, match="cannot be written"):
        _files.write_whole(tmp_path / "card.json", b"{}")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        run("train", steps=1, folder=tmp_path / "runs")


def test_what_a_killed_process_left_is_swept_up(tmp_path):
    for name in (".state-7.safetensors.123.part", ".run.json.123.part", "state-7.safetensors", "notes.txt"):
        (tmp_path / name).write_text("")
    save_run(tmp_path, {"model": learner()}, 8, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "run.json", "state-8.safetensors"]


# -- losses that are not numbers -------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_non_finite_loss_makes_no_update(bad):
    one = learner(ema=0.5)
    one.update([quadratic(one.module)], 0)
    before = {key: value.clone() for key, value in one.tensors().items()}
    with pytest.raises(NonFiniteLoss, match=f"the loss of MLP is {bad} at step 17"):
        one.update([quadratic(one.module), quadratic(one.module, bad)], 17)
    assert all(torch.equal(value, before[key]) for key, value in one.tensors().items())
    assert all(p.grad is None for p in one.parameters)


def test_a_finite_loss_with_a_non_finite_gradient_makes_no_update():
    """The derivative of sqrt at 0 is infinite, and 0 times it NaN, while the loss is 0."""
    one = learner()
    before = copy.deepcopy(one.module)
    with pytest.raises(NonFiniteLoss, match="at step 3 and its gradient nan"):
        one.update([lambda: sum((0 * p).sum().sqrt() for p in one.parameters)], 3)
    assert equal(one.module, before)


@pytest.mark.parametrize(("kind", "at"), [("train", 7), ("distill", 7 * 3)])
def test_a_run_stops_at_nan_and_keeps_the_last_good_state(tmp_path, kind, at):
    """Batch `at` is not finite: that of step 7 in a training, of step 7's first fake update in a distillation."""
    numbers = itertools.count()

    def make(draws):
        drawn = pairs(draws) if kind == "train" else sources(draws)
        bad = math.nan if next(numbers) == at else 1.0
        return tuple(bad * v for v in drawn) if kind == "train" else bad * drawn

    with pytest.raises(NonFiniteLoss, match="is nan at step 7"):
        run(kind, make, folder=tmp_path, every=5)
    assert saved(tmp_path)["step"] == 5
    assert equal(run(kind, folder=tmp_path), run(kind))


# -- batches ---------------------------------------------------------------------------------------


def test_batches_are_functions_of_seed_and_number():
    ours, other_seed = Batches(sources, 3), Batches(sources, 4)
    assert torch.equal(ours.at(5), ours.at(5)) and not torch.equal(ours.at(5), ours.at(6))
    assert not torch.equal(ours.at(5), other_seed.at(5))
    assert all(torch.equal(x, ours.at(k)) for k, x in enumerate(itertools.islice(ours, 3)))
    assert torch.equal(Feed(ours, "x").take(9), ours.at(9))


def test_a_feed_passes_over_what_came_before_and_says_where_it_ends():
    feed = Feed(range(5), "numbers")
    assert [feed.take(0), feed.take(1), feed.take(4)] == [0, 1, 4]
    with pytest.raises(ValueError, match="batch 2 of numbers has been passed over"):
        feed.take(2)
    with pytest.raises(ValueError, match="numbers ended after 5 batches; wanted at least 6"):
        feed.take(5)


def test_parts_cover_the_batch_in_order():
    assert parts(6) == [(0, 6, 6)]
    assert parts(6, 3) == [(0, 2, 6), (2, 4, 6), (4, 6, 6)]


def test_the_loop_yields_the_history_as_it_grows_and_shows_a_bar(capsys):
    lengths = [len(history) for history in loop({}, lambda k: {"loss": 1.0 / (k + 1)}, 3, title="teacher")]
    assert lengths == [1, 2, 3]
    shown = capsys.readouterr().err
    assert "teacher" in shown and "3/3" in shown and "loss 0.3333" in shown
