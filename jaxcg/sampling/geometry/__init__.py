"""Where samplers move: fibres with their constraints, and the mass metric on them."""

from ...posterior import Posterior
from ...typing import AtomScalars
from .base import AbstractGeometry
from .constrained import ConstrainedGeometry
from .linear import LinearGeometry
from .start import check_start

__all__ = ["AbstractGeometry", "ConstrainedGeometry", "LinearGeometry", "as_geometry", "check_start"]


def as_geometry(posterior: Posterior, masses: AtomScalars | AbstractGeometry) -> AbstractGeometry:
    """The geometry that holds what ``posterior`` holds exactly, with ``masses`` (atoms,) in amu.

    Straight lines on a flat fibre for a linear map without rigid bonds and for the soft likelihood, RATTLE where
    constraints are curved; a geometry stays itself.
    """
    if isinstance(masses, AbstractGeometry):
        return masses
    return LinearGeometry(posterior, masses) if posterior.linear else ConstrainedGeometry(posterior, masses)
