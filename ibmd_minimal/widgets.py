"""Pictures to be dragged: an `Explorer` of your own, and ready ones of bridges, samplers, couplings and photographs;
and a pad to be drawn on.

The name to import; the parts stand in `explorer.py`, the files `explorers_*.py` and `pad.py`.
"""

from __future__ import annotations

from .explorer import Explorer, choice, count, playing, slider, stops
from .explorers_image import path_explorer
from .explorers_line import mixture_and_projection, pinned_paths
from .explorers_plane import couplings, teacher_and_student
from .explorers_restoring import restore_explorer
from .pad import SketchPad

__all__ = [
    "Explorer",
    "SketchPad",
    "choice",
    "count",
    "couplings",
    "mixture_and_projection",
    "path_explorer",
    "pinned_paths",
    "playing",
    "restore_explorer",
    "slider",
    "stops",
    "teacher_and_student",
]
