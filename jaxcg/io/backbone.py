"""Atoms of the protein backbone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def peptide_bonds(residue_atoms: Sequence[dict[str, int]], bonds) -> tuple[np.ndarray, np.ndarray]:
    """Atoms (peptides, 4) CA, C, N, CA of every peptide bond, and the residues (peptides, 2) it joins.

    Arguments:
        residue_atoms: for each residue the number of each of its atoms by name.
        bonds: (bonds, 2) atom numbers.
    """
    bonded = {tuple(sorted(pair)) for pair in np.asarray(bonds).tolist()}
    quartets, pairs = [], []
    for number, (left, right) in enumerate(pairwise(residue_atoms)):
        named = {"CA", "C"} <= left.keys() and {"N", "CA"} <= right.keys()
        if named and tuple(sorted((left["C"], right["N"]))) in bonded:
            quartets.append((left["CA"], left["C"], right["N"], right["CA"]))
            pairs.append((number, number + 1))
    return np.array(quartets, dtype=int).reshape(-1, 4), np.array(pairs, dtype=int).reshape(-1, 2)


def phi_psi_atoms(residue_atoms: Sequence[dict[str, int]], pairs) -> np.ndarray:
    """Atoms (residues, 2, 4) of φ and ψ of every residue, −1 where there is none; ``pairs`` from `peptide_bonds`."""
    table = np.full((len(residue_atoms), 2, 4), -1, dtype=int)
    for before, after in pairs:
        left, right = residue_atoms[before], residue_atoms[after]
        if "C" in right:
            table[after, 0] = left["C"], right["N"], right["CA"], right["C"]
        if "N" in left:
            table[before, 1] = left["N"], left["CA"], left["C"], right["N"]
    return table
