"""A short stretch of ubiquitin as a coarse-grained molecule: small enough to relax in every test run."""

from functools import cache
from pathlib import Path

import numpy as np

from jaxcg.backmap.pipeline import IN_VACUO
from jaxcg.io import Molecule, build_molecule, read_beads
from jaxcg.io.beads import Beads

FRAMES = Path(__file__).parent / "data" / "frames"


def cut(beads: Beads, first: int, last: int) -> Beads:
    """Residues ``first``..``last`` (Python slice) of ``beads``."""
    from dataclasses import replace

    residues = beads.residues[first:last]
    kept = [b for residue in residues for b in residue.beads]
    number = {b: k for k, b in enumerate(kept)}
    return replace(
        beads,
        names=tuple(beads.names[b] for b in kept),
        residues=tuple(replace(r, beads=tuple(number[b] for b in r.beads)) for r in residues),
        positions=beads.positions[kept],
        kept=np.arange(len(kept)),
        n_file_atoms=len(kept),
    )


@cache
def fragment(first: int = 14, last: int = 26) -> Molecule:
    """Residues 15 to 26 of ubiquitin (Leu to Val; one proline), beads mapped from the crystal."""
    return build_molecule(cut(read_beads(FRAMES / "ubiquitin" / "cg_crystal.pdb"), first, last), **IN_VACUO)
