"""Pictures to be dragged: an `Explorer` of your own, and ready ones of bridges, samplers and couplings.

The name to import; the parts stand in `explorer.py`, `explorers_line.py` and `explorers_plane.py`.
"""

from __future__ import annotations

from .explorer import Explorer, choice, count, playing, slider, stops
from .explorers_line import mixture_and_projection, pinned_paths
from .explorers_plane import couplings, teacher_and_student

__all__ = [
    "Explorer",
    "choice",
    "count",
    "couplings",
    "mixture_and_projection",
    "pinned_paths",
    "playing",
    "slider",
    "stops",
    "teacher_and_student",
]
