"""Inverse Bridge Matching Distillation, small enough to be read in an evening.

The names below are loaded when first used, so that `import ibmd_minimal` costs little more than `import torch`.
"""

from importlib import import_module

_HOMES = {
    "bridges": ("Bridge", "bridge_from", "brownian", "i2sb", "ve", "vp"),
    "exact": ("kl_mixtures", "kl_paths", "noised_kl", "path_divergence"),
    "gaussian": ("GaussianCoupling",),
    "finite": ("FiniteCoupling",),
    "matching": ("bridge_matching_loss", "train"),
    "samplers": ("sample", "steps", "time_grid"),
    "inverse": ("distill", "distillation", "fake_loss", "student_loss"),
    "students": ("Student", "student_from"),
    "networks": ("MLP", "UNet", "network_from"),
    "training": ("Batches", "Learner"),
    "checkpoints": ("load_model", "save_model", "shipped"),
    "recipes": ("RECIPES", "recipe"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = {*_HOMES, "adapters", "data", "demo", "distances", "evaluation", "exercises", "metrics", "plane", "plotting"}
_MODULES |= {"restoring", "widgets"}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'ibmd_minimal' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
