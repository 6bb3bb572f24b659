"""Small views of a molecule that back-mapping needs: its heavy atoms' map, which bead an atom is near, neighbours."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..mapping.base import AbstractLinearMap
from ..mapping.linear import LinearMap
from ..system import System


def restricted_map(mapping: AbstractLinearMap, atoms: np.ndarray) -> LinearMap:
    """The map on ``atoms`` only, renumbered, each bead's weights scaled to sum to one."""
    bead, atom, weight = mapping.entries()
    number = np.full(mapping.n_atoms, -1)
    number[atoms] = np.arange(len(atoms))
    keep = number[atom] >= 0
    bead, atom, weight = bead[keep], number[atom[keep]], weight[keep]
    totals = np.bincount(bead, weights=weight, minlength=mapping.n_beads)
    return LinearMap.from_weights(bead, atom, weight / totals[bead], mapping.n_beads, len(atoms))


def anchors(bonds: np.ndarray, mapping: AbstractLinearMap) -> np.ndarray:
    """(atoms,) bead each atom is near: its heaviest-weighted bead, or that of the nearest mapped atom along bonds."""
    bead, atom, weight = mapping.entries()
    anchor = np.full(mapping.n_atoms, -1)
    order = np.argsort(weight)
    anchor[atom[order]] = bead[order]
    while (anchor < 0).any():
        i, j = np.concatenate([bonds, bonds[:, ::-1]]).T
        reached = (anchor[i] < 0) & (anchor[j] >= 0)
        if not reached.any():
            anchor[anchor < 0] = 0
            break
        anchor[i[reached]] = anchor[j[reached]]
    return anchor


def widened(system: System, residues: Sequence[int], shells: int) -> tuple[int, ...]:
    """``residues`` and those within ``shells`` bonds between residues of them."""
    links = system.atom_residue[system.bonds]
    links = links[links[:, 0] != links[:, 1]]
    grown = set(residues)
    for _ in range(shells):
        grown |= {int(b) for a, b in [*links, *links[:, ::-1]] if a in grown}
    return tuple(sorted(grown))


def cast(tree: Any, dtype=np.float32) -> Any:
    """``tree`` with its floating-point arrays in ``dtype``."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype) if eqx.is_inexact_array_like(leaf) else leaf, tree)
