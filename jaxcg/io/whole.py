"""Periodic boxes: reading them and putting molecules together that a box has cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..mapping.formats.names import PEPTIDE_RESIDUES, standard_residue
from .residues import BeadResidue

if TYPE_CHECKING:
    from .beads import Beads


def box_vectors(dimensions) -> np.ndarray | None:
    """Box vectors (3, 3) in nm from MDAnalysis dimensions (Å and degrees); None without a real box."""
    if dimensions is None or np.any(np.asarray(dimensions[:3]) <= 1.0):
        return None
    from MDAnalysis.lib.mdamath import triclinic_vectors

    vectors = np.asarray(triclinic_vectors(dimensions), dtype=np.float64) * 0.1
    return vectors if np.abs(np.linalg.det(vectors)) > 0 else None


def make_whole(positions, beads: Beads, box: np.ndarray | None) -> np.ndarray:
    """Puts every molecule together again that a periodic box has cut.

    Walks along each chain of amino acids: the first bead of a residue is brought to the image nearest the first bead
    of the residue before. Within every residue a bead is brought to the image nearest its predecessor. Whole molecules
    are returned unchanged.

    Arguments:
        positions: (beads, 3) nm.
        beads: which residue and chain each bead belongs to.
        box: (3, 3) box vectors as rows, nm, or None (nothing to do).
    """
    positions = np.array(positions, dtype=np.float64)
    if box is None:
        return positions
    previous: BeadResidue | None = None
    for residue in beads.residues:
        first = residue.beads[0]
        if previous is not None and is_joined(previous, residue):
            anchor = positions[previous.beads[0]]
            positions[first] = anchor + nearest_image(positions[first] - anchor, box)
        near = positions[first]
        for bead in residue.beads[1:]:
            positions[bead] = near + nearest_image(positions[bead] - near, box)
            near = positions[bead]
        previous = residue
    return positions


def is_joined(left: BeadResidue, right: BeadResidue) -> bool:
    """Whether a peptide bond joins two successive residues: amino acids (or caps) of one segment."""
    names = {standard_residue(left.name)[0], standard_residue(right.name)[0]}
    return left.segment == right.segment and names <= PEPTIDE_RESIDUES


def nearest_image(displacement, box: np.ndarray) -> np.ndarray:
    """Shortest periodic image of ``displacement`` (…, 3) for box vectors ``box`` (3, 3, lower triangular rows)."""
    displacement = np.array(displacement, dtype=np.float64)
    for axis in (2, 1, 0):
        displacement -= np.round(displacement[..., axis : axis + 1] / box[axis, axis]) * box[axis]
    return displacement
