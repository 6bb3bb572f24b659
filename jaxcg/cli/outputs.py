"""The structures and trajectories of a back-mapping run, as files."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..io import write_pdb, write_system, write_xtc

if TYPE_CHECKING:
    from ..backmap import BackmapResult


def write_structures(folder: Path, result: "BackmapResult") -> None:
    """Writes everything but the report into ``folder``: see ``docs/outputs.md``.

    A run that ended with numbers that are not finite has no structure to write.

    Arguments:
        folder: must exist.
        result: of the run.
    """
    if not result.frames or not all(np.isfinite(frame.positions).all() for frame in result.frames):
        return
    molecule, first = result.molecule, result.frames[0]
    write_pdb(folder / "map.pdb", molecule, first.positions)
    write_pdb(folder / "topology.pdb", molecule, first.positions)
    write_system(folder / "system.xml", molecule)
    if len(result.frames) > 1:
        write_xtc(folder / "map.xtc", molecule, [frame.positions for frame in result.frames])
    if result.samples is not None:
        write_pdb(folder / "ensemble.pdb", molecule, result.samples.positions[0])
        write_xtc(folder / "ensemble.xtc", molecule, result.samples.positions)
