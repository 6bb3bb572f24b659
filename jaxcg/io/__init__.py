"""Files ↔ objects: the only room that touches file formats.

Reads coarse-grained structures and trajectories (`read_beads`, `read_frames`), builds the all-atom molecule they stand
for (`build_molecule`), and writes structures, trajectories and prepared problems. OpenMM, MDAnalysis, vermouth and
biotite are used here and nowhere below, and are imported only when needed.
"""

from .beads import Beads, read_beads
from .frames import Frames, read_frames
from .molecule import Molecule, build_molecule
from .problem import load_problem, save_problem
from .residues import BeadResidue
from .whole import make_whole
from .writers import atomic_path, write_pdb, write_system, write_text, write_xtc

__all__ = [
    "BeadResidue",
    "Beads",
    "Frames",
    "Molecule",
    "atomic_path",
    "build_molecule",
    "load_problem",
    "make_whole",
    "read_beads",
    "read_frames",
    "save_problem",
    "write_pdb",
    "write_system",
    "write_text",
    "write_xtc",
]
