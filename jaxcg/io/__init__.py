"""Files ↔ objects: the only room that touches file formats.

Reads coarse-grained structures and trajectories (`read_beads`, `read_frames`), builds the all-atom molecule they stand
for (`build_molecule`), and writes structures, trajectories and prepared problems. OpenMM, MDAnalysis, vermouth and
biotite are used here and nowhere below, and are imported only when needed.
"""

from .beads import BeadResidue, Beads, make_whole, read_beads, read_frames
from .molecule import Molecule, build_molecule

__all__ = [
    "BeadResidue",
    "Beads",
    "Molecule",
    "build_molecule",
    "make_whole",
    "read_beads",
    "read_frames",
]
