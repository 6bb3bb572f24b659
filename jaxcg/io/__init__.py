"""Files ↔ objects: the only room that touches file formats.

Reads coarse-grained structures and trajectories (`read_beads`, `read_frames`), builds the all-atom molecule they stand
for (`build_molecule`), and writes structures, trajectories and prepared problems. Reads all-atom topologies and
trajectories (`read_atoms`, `open_trajectory`), maps them to beads (`map_trajectory`) and follows coordinates along them
(`read_coordinates`, `read_series`). OpenMM, MDAnalysis, vermouth and biotite are used here and nowhere below, and are
imported only when needed.
"""

from .atoms import read_atoms, selector
from .beads import Beads, read_beads
from .dynamics.coordinates import Series, read_coordinates
from .dynamics.series_tables import read_series
from .frames import Frames, read_frames
from .map_trajectory import MappedTrajectory, map_trajectory
from .molecule import Molecule, build_molecule
from .problem import load_problem, save_problem
from .residues import BeadResidue
from .trajectories import FrameBlock, Trajectory, open_trajectory
from .trajectory_writers import BeadLabels, TrajectoryWriter, open_writer
from .whole import make_whole
from .writers import atomic_path, write_pdb, write_system, write_text, write_xtc

__all__ = [
    "BeadLabels",
    "BeadResidue",
    "Beads",
    "FrameBlock",
    "Frames",
    "MappedTrajectory",
    "Molecule",
    "Series",
    "Trajectory",
    "TrajectoryWriter",
    "atomic_path",
    "build_molecule",
    "load_problem",
    "make_whole",
    "map_trajectory",
    "open_trajectory",
    "open_writer",
    "read_atoms",
    "read_beads",
    "read_coordinates",
    "read_frames",
    "read_series",
    "save_problem",
    "selector",
    "write_pdb",
    "write_system",
    "write_text",
    "write_xtc",
]
