"""Bad input: one sentence on one line that says what was given and what is wanted, and nothing is changed."""

from __future__ import annotations

import builtins
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save as save_safetensors

from ibmd_minimal import checkpoints, metrics
from ibmd_minimal._files import write_whole
from ibmd_minimal.adapters import from_i2sb, from_noise, from_score, from_velocity
from ibmd_minimal.bridges import Bridge, bridge_from, brownian, i2sb, ve, vp
from ibmd_minimal.checkpoints import add_to_card, card_of, load_model, save_model
from ibmd_minimal.data.corruptions import corrupt
from ibmd_minimal.data.couplings import Mixture, Photographs, Renderings, rendered
from ibmd_minimal.data.images import load, random_crops, read_image, to_float, to_uint8, write_image
from ibmd_minimal.data.toy import toy
from ibmd_minimal.evaluation import Exam
from ibmd_minimal.exact import FiniteCoupling, GaussianCoupling, kl_mixtures, kl_paths, path_divergence
from ibmd_minimal.inverse import distill, fake_loss, student_loss
from ibmd_minimal.matching import bridge_matching_loss, train
from ibmd_minimal.measuring import measure
from ibmd_minimal.networks import MLP, UNet, network_from
from ibmd_minimal.recipes import recipe
from ibmd_minimal.restoring import Tiled, restore_files, restorer, source_of
from ibmd_minimal.results import result, with_results
from ibmd_minimal.runs import distill_student, scaled, teacher_of, train_teacher
from ibmd_minimal.samplers import dbim_step, sample, time_grid
from ibmd_minimal.students import Student, student_from
from ibmd_minimal.training import Batches, Learner, NonFiniteLoss

B = brownian(0.1)
X = torch.zeros(4, 2)
HALF = torch.full((4,), 0.5)
IMAGE = torch.zeros(2, 3, 32, 32)
NAN = torch.tensor([[0.0, float("nan")]] * 4)
GAUSS = GaussianCoupling.of(0.0, 0.0, 1.0, 1.0, 0.3)
SMALL, MASK = torch.zeros(3, 32, 32, dtype=torch.uint8), torch.ones(32, 32)
SOLIDS = Renderings(SMALL[None].repeat(2, 1, 1, 1), SMALL[None].repeat(2, 1, 1, 1), torch.zeros(2, dtype=torch.int64))
HOLE, SKETCH = recipe("inpaint-center"), recipe("sketch-to-image")
PLANE = GaussianCoupling.of(torch.zeros(2), torch.zeros(2), torch.eye(2), torch.eye(2), torch.zeros(2, 2))


def model(x_t, t, xT, label=None):
    return x_t


def wide(x_t, t, xT):
    return torch.zeros(len(x_t), 1)


def net(**options) -> MLP:
    return MLP(B, 2, 8, 2, **options)


def pairs(n=10):
    return [(X, X)] * n


def options(**others) -> dict:
    return {"steps": 1, "progress": False} | others


def distilled(sources, teacher=None, student=None, bridge=B, **others):
    teacher = teacher or net()
    student = student or student_from(teacher, B)
    return distill(teacher, bridge, student, sources, **options(**others))


def files(name: str, **others) -> list:
    return list(restore_files(recipe(name), "a.png", "out", **others))


TABLE = [
    # -- bridges
    ("brownian", lambda: brownian(0), ValueError, "epsilon is 0", "positive"),
    ("brownian", lambda: brownian(-1.0), ValueError, "epsilon is -1.0", "positive"),
    ("brownian", lambda: brownian("0.1"), TypeError, "epsilon is '0.1'", "positive number"),
    ("brownian", lambda: brownian(float("nan")), ValueError, "epsilon is nan", "finite"),
    ("ve", lambda: ve(0.0), ValueError, "sigma_max is 0.0", "positive"),
    ("ve", lambda: ve(float("inf")), ValueError, "sigma_max is inf", "finite"),
    ("ve", lambda: ve(None), TypeError, "sigma_max is None", "positive number"),
    ("vp", lambda: vp(0.0, 0.0), ValueError, "both 0", "at least one positive"),
    ("vp", lambda: vp(-2.0), ValueError, "beta_d is -2.0", "non-negative"),
    ("vp", lambda: vp(2.0, True), TypeError, "beta_min is True", "non-negative number"),
    ("i2sb", lambda: i2sb(0.3, 999), ValueError, "steps is 999", "even"),
    ("i2sb", lambda: i2sb(0), ValueError, "beta_max is 0", "positive"),
    ("i2sb", lambda: i2sb(0.3, 10.5), TypeError, "steps is 10.5", "whole number"),
    ("bridge_from", lambda: bridge_from("browniann"), ValueError, "family is 'browniann'", "did you mean 'brownian'"),
    ("bridge_from", lambda: bridge_from("ve", sigma_max=-1.0), ValueError, "sigma_max is -1.0", "positive"),
    ("bridge_from", lambda: bridge_from(None), ValueError, "family is None", "wanted one of brownian"),
    ("Bridge", lambda: Bridge(lambda t: 2 + t, lambda t: t), ValueError, "alpha(0) is 2", "wanted alpha(0) = 1"),
    ("Bridge", lambda: Bridge(torch.ones_like, lambda t: 1 - t), ValueError, "rho2 runs from 1", "increasing"),
    ("Bridge", lambda: Bridge(lambda t: t.sum(), lambda t: t), ValueError, "changes the shape", "one value per time"),
    ("coefficients", lambda: B.coefficients(1.5), ValueError, "1.5", "wanted times in [0, 1]"),
    ("coefficients", lambda: B.coefficients("0.5"), TypeError, "t is a str", "number or a tensor"),
    ("coefficients", lambda: B.coefficients(torch.zeros(2, 2)), ValueError, "(2, 2)", "(batch,)"),
    ("coefficients", lambda: B.coefficients(float("nan")), ValueError, "nan", "wanted times in [0, 1]"),
    ("bridge.sample", lambda: B.sample(X, X[:3], 0.5), ValueError, "(4, 2)", "(3, 2)", "wanted the same shape"),
    ("bridge.sample", lambda: B.sample(X, X[:1], 0.5), ValueError, "(1, 2)", "wanted the same shape"),
    ("bridge.sample", lambda: B.sample(X, X, HALF[:3]), ValueError, "(3,)", "(4,)"),
    ("bridge.sample", lambda: B.sample(X, X.double(), 0.5), TypeError, "float64", "wanted the same"),
    ("bridge.sample", lambda: B.sample(X.long(), X.long(), 0.5), TypeError, "int64", "floating-point"),
    ("bridge.sample", lambda: B.sample(X, X, 0.5, z=X[:, :1]), ValueError, "(4, 1)", "wanted the same shape"),
    ("bridge.sample", lambda: B.sample(X, X, 0.5, generator=3), TypeError, "generator is a int", "torch.Generator"),
    ("posterior", lambda: B.posterior(X, X, 0.9, 0.5), ValueError, "s reaches 0.9", "wanted s <= t"),
    ("posterior", lambda: B.posterior(X, X[:, :1], 0.2, 0.5), ValueError, "(4, 1)", "wanted the same shape"),
    ("posterior", lambda: B.posterior(X, X, -0.1, 0.5), ValueError, "s runs from -0.1", "[0, 1]"),
    ("reverse_drift", lambda: B.reverse_drift(X, X, 0.0), ValueError, "t is 0", "defined"),
    ("reverse_drift", lambda: B.reverse_drift(X[:2], X, 0.5), ValueError, "(2, 2)", "wanted the same shape"),
    ("reverse_drift", lambda: B.reverse_drift(X, X, HALF[:2]), ValueError, "(2,)", "(4,)"),
    ("forward_drift", lambda: B.forward_drift(X, 1.0, X), ValueError, "t is 1", "defined"),
    ("forward_drift", lambda: B.forward_drift(X, 0.5, X[:1]), ValueError, "(1, 2)", "wanted the same shape"),
    ("forward_drift", lambda: B.forward_drift(X, 2.0, X), ValueError, "2", "[0, 1]"),
    ("ode_drift", lambda: B.ode_drift(X, X, 1.0, X), ValueError, "t is 1", "defined"),
    ("ode_drift", lambda: B.ode_drift(X, X, 0.0, X), ValueError, "t is 0", "defined"),
    ("ode_drift", lambda: B.ode_drift(X, X, 0.5, X[:, :1]), ValueError, "(4, 1)", "wanted the same shape"),
    ("score", lambda: B.score(X, X, 1.0, X), ValueError, "t is 1", "score"),
    ("score", lambda: B.score(X, X, torch.tensor([0.5, 0.5, 0.0, 0.5]), X), ValueError, "t is 0", "score"),
    ("score", lambda: B.score(X, X, 0.5, None), TypeError, "xT is a NoneType", "tensor"),
    ("clock", lambda: B.clock(-0.5), ValueError, "-0.5", "[0, 1]"),
    ("clock", lambda: B.clock(None), TypeError, "NoneType", "number"),
    ("clock", lambda: B.clock(torch.ones(2, 2)), ValueError, "(2, 2)", "(batch,)"),
    ("time_at", lambda: B.time_at(1.01), ValueError, "u runs", "[0, 1]"),
    ("time_at", lambda: B.time_at([0.5]), TypeError, "u is a list", "number"),
    ("time_at", lambda: B.time_at(torch.tensor(float("nan"))), ValueError, "u runs", "[0, 1]"),
    # -- exact cases
    ("Gaussian", lambda: GaussianCoupling(X[0], torch.eye(4)), ValueError, "(2,)", "(2D,)"),
    ("Gaussian", lambda: GaussianCoupling.of(0.0, 0.0, 1.0, 1.0, 2.0), ValueError, "wanted"),
    ("Gaussian", lambda: GaussianCoupling.of(float("nan"), 0.0, 1.0, 1.0, 0.0), ValueError, "non-finite", "finite"),
    ("Gaussian.sample", lambda: GAUSS.sample(0), ValueError, "n is 0", "1 or more"),
    ("Gaussian.sample", lambda: GAUSS.sample(2.5), TypeError, "n is 2.5", "whole number"),
    ("Gaussian.sample", lambda: GAUSS.sample(2, generator="0"), TypeError, "generator is a str", "torch.Generator"),
    ("Gaussian.denoiser", lambda: GAUSS.denoiser(B)(X, 0.5), ValueError, "(4, 2)", "wanted"),
    ("Gaussian.denoiser", lambda: GAUSS.denoiser(B, True)(X[:, :1], 0.5), (ValueError, TypeError), "xT", "wanted"),
    ("Gaussian.denoiser", lambda: GAUSS.denoiser(B)(X[:, :1], 1.5), ValueError, "1.5", "[0, 1]"),
    ("Finite", lambda: FiniteCoupling(X, X[:3]), ValueError, "(3, 2)", "wanted the same shape"),
    ("Finite", lambda: FiniteCoupling(X, X, torch.ones(3)), ValueError, "(3,)", "one weight per pair"),
    ("Finite", lambda: FiniteCoupling(X, X, torch.zeros(4)), ValueError, "weights", "positive"),
    ("kl_mixtures", lambda: kl_mixtures(GAUSS, PLANE), ValueError, "dimension 1", "wanted the same"),
    ("kl_mixtures", lambda: kl_mixtures(GAUSS, 3), TypeError, "q is a int", "GaussianCoupling"),
    ("kl_mixtures", lambda: kl_mixtures(None, GAUSS), TypeError, "p is a NoneType", "GaussianCoupling"),
    ("kl_paths", lambda: kl_paths(GAUSS, PLANE, B), ValueError, "dimension", "wanted the same"),
    ("path_divergence", lambda: path_divergence(GAUSS, GAUSS, B, weight="kl"), ValueError, "weight is 'kl'", "path_kl"),
    (
        "path_divergence",
        lambda: path_divergence(GAUSS, GAUSS, B, interval=(0.9, 0.1)),
        ValueError,
        "(0.9, 0.1)",
        "low, high",
    ),
    # -- matching
    ("matching loss", lambda: bridge_matching_loss(3, B, X, X), TypeError, "model is a int", "callable"),
    ("matching loss", lambda: bridge_matching_loss(model, B, X, X[:1]), ValueError, "(1, 2)", "wanted the same shape"),
    ("matching loss", lambda: bridge_matching_loss(wide, B, X, X), ValueError, "(4, 1)", "shape of x_t"),
    ("matching loss", lambda: bridge_matching_loss(model, B, X, X, 1.2), ValueError, "1.2", "[0, 1]"),
    ("matching loss", lambda: bridge_matching_loss(model, B, X, X, weight="plane"), ValueError, "did you mean 'plain'"),
    (
        "matching loss",
        lambda: bridge_matching_loss(model, B, X, X, times="earlier"),
        ValueError,
        "did you mean 'early'",
    ),
    ("matching loss", lambda: bridge_matching_loss(model, "brownian", X, X), TypeError, "bridge is a str", "Bridge"),
    ("train", lambda: train(net(), B, [X], **options()), TypeError, "pairs yields", "(x0, xT)"),
    ("train", lambda: train(net(), B, [(X, NAN)], **options()), ValueError, "xT holds 4 non-finite", "finite"),
    ("train", lambda: train(net(), B, pairs(), steps=0, progress=False), ValueError, "steps is 0", "1 or more"),
    ("train", lambda: train(net(), B, pairs(), **options(lr=0)), ValueError, "lr is 0", "positive"),
    ("train", lambda: train(net(), B, pairs(1), **options(steps=3)), ValueError, "ended after 1", "wanted at least"),
    ("train", lambda: train(net(), B, pairs(), **options(emma=0.9)), TypeError, "'emma'", "did you mean 'ema'"),
    ("train", lambda: train(net(), B, pairs(), **options(accumulate=3)), ValueError, "4 rows", "multiple"),
    ("Learner", lambda: Learner(torch.nn.ReLU(), 1e-3), ValueError, "ReLU has no parameters", "wanted"),
    ("Learner", lambda: Learner(net(), -1e-3), ValueError, "lr is -0.001", "positive"),
    ("Learner", lambda: Learner(net(), 1e-3, ema=1.5), ValueError, "ema is 1.5", "[0, 1]"),
    ("Learner", lambda: Learner(net(), 1e-3, betas=(0.9, 1.0)), ValueError, "betas is (0.9, 1.0)", "below 1"),
    ("Learner", lambda: Learner(net(), 1e-3, weight_decay=-1.0), ValueError, "weight_decay is -1.0", "non-negative"),
    ("Batches", lambda: Batches(3), TypeError, "make is a int", "callable"),
    ("Batches", lambda: Batches(model, -1), ValueError, "seed is -1", "0 or more"),
    ("Batches", lambda: Batches(model, "0"), TypeError, "seed is '0'", "whole number"),
    # -- samplers
    ("sample", lambda: sample(model, B, NAN, 2), ValueError, "xT holds 4 non-finite values of 8", "finite"),
    ("sample", lambda: sample(model, B, X, 0), ValueError, "nfe is 0", "1 or more"),
    ("sample", lambda: sample(model, B, X, 2.0), TypeError, "nfe is 2.0", "whole number"),
    ("sample", lambda: sample(model, B, X[0], 2), ValueError, "(2,)", "(batch, ...)"),
    ("sample", lambda: sample(model, B, X, 2, "posteriour"), ValueError, "posteriour", "did you mean 'posterior'"),
    ("sample", lambda: sample(model, B, X, 2, "ode-heun"), ValueError, "ode-heun", "conditional=True"),
    ("sample", lambda: sample(model, B, X, 2, eta=0.5), ValueError, "eta is 0.5", "'dbim' only"),
    ("sample", lambda: sample(model, B, X, 2, "dbim", eta=2.0, conditional=True), ValueError, "eta is 2.0", "[0, 1]"),
    ("sample", lambda: sample(wide, B, X, 2), ValueError, "(4, 1)", "shaped like xT"),
    ("sample", lambda: sample(model, B, X, 2, label=torch.zeros(3)), ValueError, "(3,)", "one label per sample"),
    ("sample", lambda: sample(model, 0.1, X, 2), TypeError, "bridge is a float", "Bridge"),
    ("dbim_step", lambda: dbim_step(B, X, X, X, 0.5, 1.0, 0.0), ValueError, "t is 1", "wanted t < 1"),
    ("dbim_step", lambda: dbim_step(B, X, X, X[:1], 0.2, 0.5), ValueError, "(1, 2)", "wanted the same shape"),
    ("dbim_step", lambda: dbim_step(B, X, X, X, 0.6, 0.5), ValueError, "s reaches 0.6", "s <= t"),
    ("dbim_step", lambda: dbim_step(B, X, X, X, 0.2, 0.5, -0.1), ValueError, "eta is -0.1", "[0, 1]"),
    ("time_grid", lambda: time_grid("geometrical", 4, B), ValueError, "did you mean 'geometric'"),
    ("time_grid", lambda: time_grid(torch.linspace(1, 0, 4), 4, B), ValueError, "(4,)", "wanted 5 floats"),
    ("time_grid", lambda: time_grid(torch.linspace(0, 1, 5), 4, B), ValueError, "from 0 to 1", "1 down to 0"),
    ("time_grid", lambda: time_grid("uniform", 4, B, delta=0.1), ValueError, "delta is 0.1", "geometric"),
    # -- the inverse objective
    ("fake_loss", lambda: fake_loss(model, B, X, X[:2]), ValueError, "(2, 2)", "wanted the same shape"),
    ("fake_loss", lambda: fake_loss(None, B, X, X), TypeError, "NoneType", "callable"),
    ("fake_loss", lambda: fake_loss(wide, B, X, X), ValueError, "(4, 1)", "shape of x_t"),
    ("student_loss", lambda: student_loss(wide, model, B, X, X), ValueError, "the teacher returned (4, 1)", "x_t"),
    ("student_loss", lambda: student_loss(model, wide, B, X, X), ValueError, "the fake returned (4, 1)", "x_t"),
    ("student_loss", lambda: student_loss(model, model, B, X, X, gradient="detach"), ValueError, "mean 'detached'"),
    ("student_loss", lambda: student_loss(model, model, B, X, X, alpha=-1.0), ValueError, "alpha is -1.0", "number"),
    ("student_loss", lambda: student_loss(model, model, B, X, X, HALF[:1]), ValueError, "(1,)", "(4,)"),
    ("distill", lambda: distilled([NAN] * 9), ValueError, "xT holds 4 non-finite", "finite"),
    ("distill", lambda: distilled(X), TypeError, "sources is a Tensor", "iterable"),
    ("distill", lambda: distilled([(X, X, X)] * 9), ValueError, "3 things", "xT alone"),
    ("distill", lambda: distilled([(X, X)] * 9), ValueError, "second is torch.float32", "label int64"),
    ("distill", lambda: distilled([X.long()] * 9), TypeError, "int64", "floating-point"),
    ("distill", lambda: distilled([X] * 2), ValueError, "sources ended after 2", "wanted at least"),
    ("distill", lambda: distilled([X] * 9, fake_step=2), TypeError, "'fake_step'", "did you mean 'fake_steps'"),
    ("distill", lambda: distilled([X] * 9, teacher=model, student=net()), ValueError, "fake is missing", "fake="),
    ("distill", lambda: distilled([X] * 9, bridge=[B, B]), ValueError, "1 teachers, 2 bridges", "one bridge"),
    ("distill", lambda: distilled([X] * 9, steps=0), ValueError, "steps is 0", "1 or more"),
    ("distill", lambda: distilled([X] * 9, fake_steps=0), ValueError, "fake_steps is 0", "1 or more"),
    ("Student", lambda: Student(3), TypeError, "network is a int", "network(x_t, t, xT)"),
    ("Student", lambda: Student(net(), B, (0.5, 1.0)), ValueError, "[0.5, 1.0]", "descending"),
    ("Student", lambda: Student(net(), None, (1.0, 0.5)), ValueError, "2 steps has no bridge", "wanted"),
    ("Student", lambda: Student(net(), B, anchor="x_T"), ValueError, "anchor is 'x_T'", "did you mean"),
    ("Student", lambda: Student(net(), B)(X[0]), ValueError, "(2,)", "(batch, ...)"),
    ("Student", lambda: student_from(net(), B)(X, z=X[:, :1]), ValueError, "z has shape (4, 1)", "(4, 2)"),
    ("student_from", lambda: student_from(model), TypeError, "teacher is a function", "MLP or a UNet"),
    (
        "student_from",
        lambda: student_from(net(), B, noise_channels=-1),
        ValueError,
        "noise_channels is -1",
        "0 or more",
    ),
    ("student_from", lambda: student_from(net(noise_channels=1), B), ValueError, "1 noise channels", "wanted"),
    # -- networks
    ("MLP", lambda: net()(X[:, :1], HALF), ValueError, "(4, 1)", "(batch, 2)"),
    ("MLP", lambda: net()(X, 0.5), ValueError, "t is a float", "one time per sample"),
    ("MLP", lambda: net()(X, HALF[:1]), ValueError, "(1,)", "(4,)"),
    ("MLP", lambda: net()(X, 2 * HALF + 0.5), ValueError, "1.5", "[0, 1]"),
    ("MLP", lambda: net(conditional=True)(X, HALF), ValueError, "xT is missing", "wants"),
    ("MLP", lambda: net(noise_channels=2)(X, HALF), ValueError, "z is missing", "2 noise channels"),
    ("MLP", lambda: net(labels=2)(X, HALF, label=torch.full((4,), 2)), ValueError, "from 2 to 2", "wanted 0 to 1"),
    ("MLP", lambda: MLP(B, sigma0=0.0), ValueError, "sigma0 is 0.0", "positive"),
    ("MLP", lambda: MLP("brownian"), TypeError, "bridge is a str", "Bridge"),
    ("UNet", lambda: UNet(B, 3, (8, 8))(IMAGE[..., :30], HALF[:2]), ValueError, "(2, 3, 32, 30)", "multiples of 4"),
    ("UNet", lambda: UNet(B, 3, ()), ValueError, "widths is empty", "one width per level"),
    ("UNet", lambda: UNet(B, 3, (8,))(IMAGE[:, :1], HALF[:2]), ValueError, "(2, 1, 32, 32)", "(batch, 3"),
    ("UNet", lambda: UNet(B, 3, (8,), covariance=0.5), ValueError, "covariance is 0.5", "below"),
    ("UNet", lambda: UNet(B, 3, (8,), pasted=True), ValueError, "pasted is True and conditional False", "wanted both"),
    ("with_labels", lambda: net(labels=2).with_labels(2), ValueError, "knows 2 labels", "wanted one without"),
    ("network_from", lambda: network_from({"kind": "unet"}), ValueError, "keys kind", "kind, bridge, arguments"),
    ("network_from", lambda: network_from(None), ValueError, "NoneType", "kind, bridge, arguments"),
    ("network_from", lambda: network_from(net().spec() | {"kind": "mpl"}), ValueError, "kind is 'mpl'", "mlp"),
    (
        "network_from",
        lambda: network_from(net().spec() | {"arguments": {"a": 1}}),
        ValueError,
        "does not fit",
        "wanted",
    ),
    # -- adapters
    ("from_velocity", lambda: from_velocity(model, B, "drifts"), ValueError, "did you mean 'drift'"),
    ("from_velocity", lambda: from_velocity(model, B, "ode"), ValueError, "conditional False", "conditional=True"),
    ("from_velocity", lambda: from_velocity(3, B), TypeError, "network is a int", "callable"),
    ("from_noise", lambda: from_noise(model, B)(X, HALF), ValueError, "xT is missing", "wants"),
    ("from_noise", lambda: from_noise(model, B)(X, HALF * 2, X), ValueError, "t is 1", "until=0.999"),
    ("from_noise", lambda: from_noise(model, B, until=1.0), ValueError, "until is 1.0", "between 0 and 1"),
    ("from_score", lambda: from_score(model, "vp"), TypeError, "bridge is a str", "Bridge"),
    ("from_score", lambda: from_score(model, B)(X, HALF, X[:1]), ValueError, "(1, 2)", "wanted the same shape"),
    ("from_score", lambda: from_score(wide, B)(X, HALF, X), ValueError, "(4, 1)", "shape of x_t"),
    ("from_i2sb", lambda: from_i2sb(model, B)(X, HALF[:3]), ValueError, "(3,)", "(4,)"),
    ("from_i2sb", lambda: from_i2sb(model, B, time=0.5), TypeError, "time is a float", "callable"),
    ("from_i2sb", lambda: from_i2sb(model, B)(X.int(), HALF), TypeError, "int32", "floating-point"),
    # -- metrics
    ("psnr", lambda: metrics.psnr(IMAGE, IMAGE[:1]), ValueError, "(1, 3, 32, 32)", "wanted the same shape"),
    ("psnr", lambda: metrics.psnr(X, X), ValueError, "(4, 2)", "(batch, channel, height, width)"),
    ("psnr", lambda: metrics.psnr(IMAGE.byte(), IMAGE.byte()), TypeError, "uint8", "floating-point"),
    ("ssim", lambda: metrics.ssim(IMAGE[..., :10], IMAGE[..., :10]), ValueError, "(2, 3, 32, 10)", ">= 11"),
    ("consistency", lambda: metrics.consistency(IMAGE, IMAGE, "sr4x-pol"), ValueError, "did you mean 'sr4x-pool'"),
    ("consistency", lambda: metrics.consistency(IMAGE, IMAGE[:1], "sr4x-pool"), ValueError, "(1, 3, 32, 32)", "same"),
    ("wasserstein2", lambda: metrics.wasserstein2(X, X[:3]), ValueError, "4 points and y 3", "as many"),
    ("wasserstein2", lambda: metrics.wasserstein2(X, NAN), ValueError, "non-finite", "finite"),
    ("wasserstein2", lambda: metrics.wasserstein2(X, X[:, :1]), ValueError, "2 columns", "the same number"),
    ("frechet", lambda: metrics.frechet(X, X[:1]), ValueError, "(1, 2)", "2 samples or more"),
    ("frechet", lambda: metrics.frechet(X[0], X), ValueError, "(2,)", "wanted"),
    ("frechet", lambda: metrics.frechet(X, NAN), ValueError, "non-finite", "finite"),
    ("bootstrap", lambda: metrics.bootstrap("frechett", X, X), ValueError, "did you mean 'frechet'"),
    ("bootstrap", lambda: metrics.bootstrap("frechet", X, X, 1), ValueError, "resamples is 1", "2 or more"),
    ("bootstrap", lambda: metrics.bootstrap("kernel", X, X[:, :1]), ValueError, "2 columns", "the same number"),
    ("Ruler.fit", lambda: metrics.Ruler.fit(IMAGE), ValueError, "2 images", "94 features"),
    ("Ruler.fit", lambda: metrics.Ruler.fit(IMAGE[:, :1]), ValueError, "(2, 1, 32, 32)", "three channels"),
    ("Ruler.fit", lambda: metrics.Ruler.fit(IMAGE[..., :8]), ValueError, "(2, 3, 32, 8)", ">= 16"),
    ("Exam.set", lambda: Exam.set(Photographs([], "sr4x-pool")), ValueError, "images is empty", "uint8"),
    ("Exam.set", lambda: Exam.set(Photographs([], "sr4x-pool"), n=10), ValueError, "n is 10", "200 or more"),
    ("Exam.set", lambda: Exam.set(Photographs([SMALL], "sr4x-pool")), ValueError, "images is empty", "wanted"),
    ("Exam.set", lambda: Exam.set(SOLIDS), ValueError, "n is 2000 and there are 1 renderings", "wanted at most"),
    # -- couplings
    ("Photographs", lambda: Photographs([SMALL], "sr4x-pol").sample(2), ValueError, "did you mean 'sr4x-pool'"),
    ("Photographs", lambda: Photographs([SMALL], "jpeg-10", 40).sample(2), ValueError, "32x32", "wanted 40 or more"),
    ("Photographs", lambda: Photographs([SMALL], "jpeg-10").sample(0), ValueError, "n is 0", "1 or more"),
    ("Renderings", lambda: SOLIDS.sample(3), ValueError, "n is 3 and there are 2 renderings", "wanted at most"),
    ("Renderings", lambda: SOLIDS.sample(2.0), TypeError, "n is 2.0", "whole number"),
    ("Mixture", lambda: Mixture([Photographs([SMALL], "jpeg-5")]).sample(0), ValueError, "n is 0", "1 or more"),
    ("rendered", lambda: rendered("line", "train", 2), ValueError, "source is 'line'", "did you mean 'lines'"),
    ("rendered", lambda: rendered("lines", "training", 2), ValueError, "split is", "did you mean 'train'"),
    ("rendered", lambda: rendered("lines", "train", 2.5), TypeError, "n is 2.5", "whole number"),
    # -- data
    ("load", lambda: load("bsd500"), ValueError, "'bsd500'", "bsds500"),
    ("load", lambda: load("photos", "val"), ValueError, "split is 'val'", "train, test"),
    ("load", lambda: load("no/such/folder"), ValueError, "no/such/folder", "folder of images"),
    ("random_crops", lambda: random_crops([], 2, 8), ValueError, "images is empty", "uint8"),
    ("random_crops", lambda: random_crops([to_uint8(IMAGE[0])], 2, 64), ValueError, "32x32", "64 or more"),
    ("random_crops", lambda: random_crops([to_uint8(IMAGE[0])], 0, 8), ValueError, "n is 0", "1 or more"),
    ("corrupt", lambda: corrupt("inpaint-freeform", IMAGE, 3), TypeError, "generator is a int", "torch.Generator"),
    ("corrupt", lambda: corrupt("inpaint-center", IMAGE[..., :7]), ValueError, "width is 7", "8 or more"),
    ("corrupt", lambda: corrupt("sr4x", IMAGE), ValueError, "name is 'sr4x'", "did you mean 'sr4x-pool'"),
    ("corrupt", lambda: corrupt("sr4x-pool", IMAGE[..., :31]), ValueError, "32x31", "multiples of 4"),
    ("corrupt", lambda: corrupt("sr4x-pool", IMAGE[0]), ValueError, "(3, 32, 32)", "(batch, channel, height, width)"),
    ("corrupt", lambda: corrupt("sr4x-pool", IMAGE.byte()), TypeError, "uint8", "floating-point"),
    ("to_float", lambda: to_float(IMAGE), TypeError, "float32", "uint8"),
    ("to_float", lambda: to_float("x"), TypeError, "str", "uint8"),
    ("to_float", lambda: to_float(IMAGE.long()), TypeError, "int64", "uint8"),
    ("to_uint8", lambda: to_uint8(NAN), ValueError, "non-finite", "finite"),
    ("to_uint8", lambda: to_uint8(IMAGE.byte()), TypeError, "uint8", "floating-point"),
    ("to_uint8", lambda: to_uint8(None), TypeError, "NoneType", "floating-point"),
    ("write_image", lambda: write_image("x.tga", IMAGE[0]), ValueError, "'.tga'", ".png"),
    ("write_image", lambda: write_image("x.png", IMAGE), ValueError, "(2, 3, 32, 32)", "(3, height, width)"),
    ("write_image", lambda: write_image("x.png", IMAGE[0, :1]), ValueError, "(1, 32, 32)", "(3, height, width)"),
    ("toy", lambda: toy("eight-gaussian"), ValueError, "did you mean 'eight-gaussians'"),
    ("toy", lambda: toy("moons", radios=1.0), ValueError, "'radios'", "did you mean 'radius'"),
    ("toy", lambda: toy("moons", radius=0.0), ValueError, "radius is 0.0", "positive"),
    ("toy", lambda: toy("moons").sample(0), ValueError, "n is 0", "1 or more"),
    # -- recipes, checkpoints, restoring
    ("recipe", lambda: recipe("sr4x-pol"), ValueError, "recipe is 'sr4x-pol'", "did you mean 'sr4x-pool'"),
    ("recipe", lambda: recipe(""), ValueError, "recipe is ''", "wanted one of"),
    ("recipe", lambda: recipe(None), ValueError, "recipe is None", "wanted one of"),
    ("times", lambda: recipe("inpaint-center").times(2), ValueError, "nfe is 2", "wanted one of", "1, 4"),
    ("train_teacher", lambda: train_teacher(recipe("multi")), ValueError, "multi has no teacher of its own", "wanted"),
    ("teacher_of", lambda: teacher_of("sr4x-pol"), ValueError, "recipe is 'sr4x-pol'", "did you mean 'sr4x-pool'"),
    ("scaled", lambda: scaled(recipe("multi").small, 0, "student"), ValueError, "steps is 0", "1 or more"),
    (
        "distill_student",
        lambda: distill_student(recipe("sr4x-pool"), UNet(B, 3, (8,)), nfe=4),
        ValueError,
        "nfe is 4",
        "wanted one of sr4x-pool's students, 1",
    ),
    ("budget", lambda: recipe("sr4x-pool").budget("smalls"), ValueError, "'smalls'", "did you mean 'small'"),
    ("load_model", lambda: load_model("no-such-thing"), FileNotFoundError, "no-such-thing", "wanted"),
    ("load_model", lambda: load_model(""), ValueError, "checkpoint is ''", "name"),
    ("load_model", lambda: load_model(3), ValueError, "checkpoint is 3", "name"),
    ("save_model", lambda: save_model("x", model, {}), TypeError, "model is a function", "MLP or a UNet"),
    ("add_to_card", lambda: add_to_card("nothing"), FileNotFoundError, "nothing", "wanted"),
    ("Tiled", lambda: Tiled(net()), TypeError, "network is a MLP", "UNet"),
    ("Tiled", lambda: Tiled(UNet(B, 3, (8, 8)), 3), ValueError, "tile is 3", "4 or more"),
    ("source_of", lambda: source_of(SMALL, HOLE, mask=torch.ones(8, 32)), ValueError, "(8, 32)", "wanted the picture"),
    ("source_of", lambda: source_of(SMALL, HOLE, mask=torch.zeros(32, 32)), ValueError, "0 pixels", "pixels to fill"),
    ("source_of", lambda: source_of(SMALL, recipe("jpeg-5"), mask=MASK), ValueError, "jpeg-5 fills no holes", "wanted"),
    ("source_of", lambda: source_of(SMALL, SKETCH, clean=True), ValueError, "starts from lines", "without clean"),
    ("source_of", lambda: source_of(IMAGE[0], SKETCH), TypeError, "float32", "uint8"),
    ("restore_files", lambda: files("multi"), ValueError, "multi does 3 tasks", "--instead with one of jpeg-5"),
    (
        "restore_files",
        lambda: files("inpaint-center", nfe=3),
        ValueError,
        "nfe is 3",
        "no such student",
        "wanted 1 or 4",
    ),
    ("restore_files", lambda: files("sr4x-pool", nfe=4), ValueError, "nfe is 4", "wanted 1, or --teacher with it"),
    ("restore_files", lambda: files("multi", instead="jpeg"), ValueError, "instead is 'jpeg'", "did you mean 'jpeg-"),
    (
        "restore_files",
        lambda: files("jpeg-5", instead="jpeg-10"),
        ValueError,
        "jpeg-5 does one task",
        "wanted no other",
    ),
    ("result", lambda: result("nothing", "no-such-file"), ValueError, "result is 'nothing'", "wanted one of"),
    ("with_results", lambda: with_results("text", {}), ValueError, "has not both marks", "wanted <!--"),
    ("measure", lambda: measure(recipe("multi"), "jpeg-5", teacher="a"), ValueError, "which has 3", "none named"),
    (
        "measure again",
        lambda: measure(recipe("sr4x-pool"), "sr4x-pool", n=201, again=True),
        ValueError,
        "no rows of sr4x-pool-teacher on 201 pictures",
        "whole measure",
    ),
    ("restorer", lambda: restorer(recipe("sr4x-pool"), UNet(B, 3, (8,)), 0), ValueError, "nfe is 0", "1 or more"),
]


@pytest.mark.parametrize(("call", "error", "words"), [pytest.param(*row[1:3], row[3:], id=row[0]) for row in TABLE])
def test_refused_in_one_sentence(call, error, words):
    with pytest.raises(error) as caught:
        call()
    is_a_sentence(str(caught.value), *words)


def is_a_sentence(text: str, *words: str) -> None:
    """One line of less than 300 characters that holds the words: what was given, what is wanted."""
    assert "\n" not in text and 15 < len(text) < 300, text
    assert not [word for word in words if word not in text], text


def test_the_table_is_long_enough():
    names = [row[0] for row in TABLE]
    assert len(names) >= 60


# -- what happens during a run -------------------------------------------------------------------


class Broken(torch.nn.Module):
    """A denoiser whose output is NaN from its third call on."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = torch.nn.Linear(2, 2), 0

    def forward(self, x_t, t, xT):
        self.calls += 1
        return self.layer(x_t) * (float("nan") if self.calls > 2 else 1.0)


def test_a_nan_loss_names_its_step_and_leaves_the_parameters_finite():
    network = Broken()
    with pytest.raises(NonFiniteLoss) as caught:
        train(network, B, pairs(), steps=5, progress=False)
    is_a_sentence(str(caught.value), "loss of Broken is nan at step 2", "wanted a finite number")
    assert all(bool(p.isfinite().all()) for p in network.parameters())


def test_a_nan_teacher_stops_a_distillation():
    teacher = net()
    with torch.no_grad():
        teacher.last.bias.fill_(float("nan"))
    student, fake = student_from(net(), B), net()
    with pytest.raises(NonFiniteLoss) as caught:
        distill(teacher, B, student, [X] * 9, fake=fake, **options())
    is_a_sentence(str(caught.value), "loss of Student is nan at step 0", "wanted a finite number")


# -- images --------------------------------------------------------------------------------------


def picture(folder: Path, name: str, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(folder / name)
    return folder / name


PIXELS = np.random.default_rng(0).integers(0, 256, (21, 37, 4), dtype=np.uint8)


@pytest.mark.parametrize(
    "pixels",
    [PIXELS[..., 0], PIXELS, PIXELS[..., :3], PIXELS[..., 0].astype(np.uint16) * 257],
    ids=["greyscale", "alpha", "colour", "16-bit"],
)
def test_images_of_every_kind_are_read(tmp_path, pixels):
    image = read_image(picture(tmp_path, "a.png", pixels))
    assert image.dtype == torch.uint8 and image.shape == (3, 21, 37)


def test_sixteen_bits_keep_their_brightness(tmp_path):
    image = read_image(picture(tmp_path, "a.png", PIXELS[..., 0].astype(np.uint16) * 257))
    assert torch.equal(image[0], torch.from_numpy(PIXELS[..., 0].copy()))


def unreadable(folder: Path, kind: str) -> Path:
    whole = picture(folder, "whole.png", PIXELS[..., :3]).read_bytes()
    content = {"truncated": whole[: len(whole) // 2], "text": b"no picture\n" * 9, "empty": b"", "header": whole[:20]}
    (folder / "bad.png").write_bytes(content[kind])
    return folder / "bad.png"


@pytest.mark.parametrize("kind", ["truncated", "text", "empty", "header"])
def test_what_is_no_image_is_refused(tmp_path, kind):
    with pytest.raises(ValueError) as caught:
        read_image(unreadable(tmp_path, kind))
    is_a_sentence(str(caught.value).replace(str(tmp_path), ""), "bad.png", "image file")


@pytest.mark.parametrize("most", [500, 300], ids=["a warning of Pillow's", "an error of Pillow's"])
def test_pictures_of_too_many_pixels_are_refused(tmp_path, monkeypatch, most):
    path = picture(tmp_path, "large.png", PIXELS[..., :3])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 777)
    assert read_image(path).shape == (3, 21, 37)  # as many as that, and no warning
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(ValueError) as caught:
        read_image(path)
    said = str(caught.value).replace(str(tmp_path), "")
    is_a_sentence(said, "large.png has more than 0 million pixels", "wanted a smaller photograph")


def test_folders_missing_files_and_tiny_images_are_refused(tmp_path):
    tiny = picture(tmp_path, "tiny.png", PIXELS[:3, :4, :3])
    for path, error, word in ((tmp_path, OSError, "a folder"), (tmp_path / "no.png", OSError, "not there")):
        with pytest.raises(error) as caught:
            read_image(path)
        is_a_sentence(str(caught.value).replace(str(tmp_path), ""), word, "wanted an image file")
    with pytest.raises(ValueError, match=r"4x3 pixels; wanted 8 or more"):
        read_image(tiny)


# -- checkpoints ---------------------------------------------------------------------------------


def saved(folder: Path, **card) -> Path:
    return save_model(folder / "tiny-teacher", net(), {"recipe": "none"} | card).with_suffix("")


def damaged(folder: Path, kind: str) -> Path:
    stem = saved(folder)
    weights, card = stem.with_suffix(".safetensors"), stem.with_suffix(".json")
    content, about = weights.read_bytes(), json.loads(card.read_text())
    if kind == "flipped":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif kind == "truncated":
        weights.write_bytes(content[:-100])
    elif kind == "weights-missing":
        weights.unlink()
    elif kind == "card-missing":
        card.unlink()
    elif kind == "card-cut":
        card.write_text(card.read_text()[:-20])
    elif kind == "card-of-something-else":
        card.write_text('["a", "list"]')
    elif kind == "card-binary":
        card.write_bytes(b"\xff\xfe\x00")
    elif kind in ("foreign", "other-width"):
        foreign = {"a": X} if kind == "foreign" else {k: v.half() for k, v in MLP(B, 2, 9, 2).state_dict().items()}
        weights.write_bytes(save_safetensors(foreign))
        card.write_text(json.dumps(about | {"sha256": checkpoints.checksum(weights.read_bytes())}))
    elif kind == "no-safetensors":
        weights.write_bytes(b"pickle")
        card.write_text(json.dumps(about | {"sha256": checkpoints.checksum(b"pickle")}))
    elif kind == "unknown-network":
        card.write_text(json.dumps(about | {"network": about["network"] | {"kind": "transformer"}}))
    elif kind == "half-a-student":
        card.write_text(json.dumps(about | {"times": [1.0]}))
    return stem


DAMAGES = {
    "flipped": (ValueError, "checksum"),
    "truncated": (ValueError, "checksum"),
    "weights-missing": (FileNotFoundError, "missing beside its card"),
    "card-missing": (FileNotFoundError, "has no card"),
    "card-cut": (ValueError, "is no card"),
    "card-of-something-else": (ValueError, "is no card"),
    "card-binary": (ValueError, "is no card"),
    "foreign": (ValueError, "does not fit the network"),
    "other-width": (ValueError, "does not fit the network"),
    "no-safetensors": (ValueError, "does not fit the network"),
    "unknown-network": (ValueError, "does not fit the network"),
    "half-a-student": (ValueError, "does not fit the network"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_and_foreign_checkpoints_are_refused(tmp_path, kind):
    error, word = DAMAGES[kind]
    with pytest.raises(error) as caught:
        load_model(damaged(tmp_path, kind))
    is_a_sentence(str(caught.value).replace(str(tmp_path), ""), "tiny-teacher", word, "wanted")


def test_a_checkpoint_of_the_other_role_is_refused(tmp_path):
    with pytest.raises(ValueError, match="tiny-teacher is a teacher; wanted a student"):
        load_model(saved(tmp_path), role="student")


def test_a_typo_in_a_checkpoint_is_answered_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SHIPPED", saved(tmp_path).parent)
    assert isinstance(load_model("tiny-teacher"), MLP)
    with pytest.raises(FileNotFoundError, match="did you mean 'tiny-teacher'"):
        load_model("tinny-teacher")


def test_weights_beyond_half_precision_are_refused(tmp_path):
    network = net()
    with torch.no_grad():
        network.last.bias.fill_(1e6)
    with pytest.raises(ValueError, match=r"last\.bias in half precision holds 2 non-finite"):
        save_model(tmp_path / "x", network, {})
    assert not list(tmp_path.iterdir())


# -- a full disk, an interrupt -------------------------------------------------------------------


class Full:
    """`open`, on a disk with room for `rooms` files: the next one that is written to fails half-way with `error`."""

    def __init__(self, rooms: int, error: BaseException):
        self.rooms, self.error, self.open = rooms, error, builtins.open

    def __call__(self, path, mode="r", *args, **kwargs):
        file = self.open(path, mode, *args, **kwargs)
        if "w" in mode:
            self.rooms -= 1
            if self.rooms < 0:
                file.write(b"half a")
                file.close()
                raise self.error
        return file


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["full-disk", "interrupt"])
@pytest.mark.parametrize("rooms", [0, 1])
def test_an_older_checkpoint_survives_a_failure_to_write(tmp_path, monkeypatch, rooms, error):
    stem = saved(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patched, pytest.raises(type(error)) as caught:
        patched.setattr(builtins, "open", Full(rooms, error))
        saved(tmp_path, note="another one")
    if error is FULL:
        is_a_sentence(str(caught.value).replace(str(tmp_path), ""), "tiny-teacher", "No space left", "wanted room")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert isinstance(load_model(stem), MLP)


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["full-disk", "interrupt"])
def test_an_older_file_survives_a_failure_to_write(tmp_path, monkeypatch, error):
    write_whole(tmp_path / "a", b"older")
    with monkeypatch.context() as patched, pytest.raises(type(error)):
        patched.setattr(builtins, "open", Full(0, error))
        write_whole(tmp_path / "a", b"newer")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"older"


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["full-disk", "interrupt"])
def test_a_run_interrupted_while_saving_goes_on_from_the_older_state(tmp_path, monkeypatch, error):
    run = {"lr": 1e-3, "progress": False, "folder": tmp_path, "every": 1}
    torch.manual_seed(0)
    first = net()
    start = {name: value.clone() for name, value in first.state_dict().items()}
    whole, _ = train(first, B, pairs(), **(run | {"folder": None}), steps=3)
    again = net()
    again.load_state_dict(start)
    train(again, B, pairs(), **run, steps=2)
    with monkeypatch.context() as patched, pytest.raises(type(error)):
        patched.setattr(builtins, "open", Full(1, error))  # the state is written, the file that names it is not
        train(net(), B, pairs(), **run, steps=3)
    resumed, history = train(net(), B, pairs(), **run, steps=3)
    assert len(history) == 3
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))


def test_a_card_says_what_its_weights_are(tmp_path):
    card = card_of(saved(tmp_path, seed=3))
    assert card["seed"] == 3 and card["network"]["kind"] == "mlp" and len(card["sha256"]) == 64
    assert card_of(add_to_card(tmp_path / "tiny-teacher", metrics={"psnr": 20.0}))["metrics"] == {"psnr": 20.0}
    assert isinstance(load_model(tmp_path / "tiny-teacher.json"), MLP)
