"""Where samplers move: fibres with their constraints, and the mass metric on them."""

from ...posterior import Posterior
from ...typing import AtomScalars
from .base import AbstractGeometry
from .linear import LinearGeometry

__all__ = ["AbstractGeometry", "LinearGeometry", "as_geometry"]


def as_geometry(posterior: Posterior, masses: AtomScalars | AbstractGeometry) -> AbstractGeometry:
    """The geometry that holds the beads of ``posterior``, with ``masses`` (atoms,) in amu; a geometry stays itself."""
    return masses if isinstance(masses, AbstractGeometry) else LinearGeometry(posterior, masses)
