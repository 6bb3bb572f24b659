"""From beads to atoms: structures that map onto given beads, their most probable one, and how good they are.

`backmap` is the whole way from a file to a result. Its pieces are usable alone: `Relaxer` builds a sound structure
from random positions in four dimensions, `map_estimate` finds the mode of a `Posterior` on the fibre, `quality` judges
a structure, `Engine` joins them for many frames of one molecule.
"""

from ..posterior import Posterior
from .differentiable_map import differentiable_map_estimate
from .engine import BeadMode, Engine
from .map_estimate import MapEstimate, map_estimate
from .pipeline import backmap
from .quality import Quality, quality
from .relaxer import Relaxed, Relaxer, relax
from .result import BackmapResult, FrameResult

__all__ = [
    "BackmapResult",
    "BeadMode",
    "Engine",
    "FrameResult",
    "MapEstimate",
    "Posterior",
    "Quality",
    "Relaxed",
    "Relaxer",
    "backmap",
    "differentiable_map_estimate",
    "map_estimate",
    "quality",
    "relax",
]
