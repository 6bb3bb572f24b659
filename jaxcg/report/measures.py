"""Arrays behind the pictures: distances, deviations and fluctuations of a structure or an ensemble."""

import numpy as np
from scipy.spatial import KDTree

from ..backmap.quality.tables import tables_of
from ..system import System


def bond_deviations(positions: np.ndarray, pairs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(bonds,) relative deviation of bonds ``pairs`` (bonds, 2) from their ideal ``lengths`` (bonds,), percent."""
    distance = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    return 100 * (distance / lengths - 1)


def residue_strain(system: System, positions: np.ndarray, pairs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(residues,) largest deviation of a bond that touches the residue, percent."""
    deviation = np.abs(bond_deviations(positions, pairs, lengths))
    strain = np.zeros(system.n_residues)
    for end in (0, 1):
        np.maximum.at(strain, system.atom_residue[pairs[:, end]], deviation)
    return strain


def contact_distances(system: System, positions: np.ndarray, cutoff: float = 0.45) -> np.ndarray:
    """Distances (nm) below ``cutoff`` between heavy atoms more than three bonds apart."""
    tables = tables_of(system)
    pairs = tables.heavy[KDTree(positions[tables.heavy]).query_pairs(cutoff, output_type="ndarray")].reshape(-1, 2)
    pairs = np.sort(pairs, axis=1)
    pairs = pairs[~np.isin(pairs[:, 0] * system.n_atoms + pairs[:, 1], tables.near_keys)]
    return np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)


def residue_rms(system: System, squared: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """(residues,) root of the mean of ``squared`` (one value for each of ``atoms``) over each residue; 0 where none."""
    residue = system.atom_residue[atoms]
    known = np.isfinite(squared)
    total = np.bincount(residue[known], weights=squared[known], minlength=system.n_residues)
    count = np.bincount(residue[known], minlength=system.n_residues)
    return np.sqrt(total / np.maximum(count, 1))


def residue_bead_deviation(system: System, mapping, distance: np.ndarray) -> np.ndarray:
    """(residues,) largest ``distance`` (beads,) among the beads of each residue; 0 where a residue has none.

    A bead belongs to the residue of its heaviest-weighted atom.
    """
    bead, atom, weight = mapping.entries()
    order = np.argsort(-weight, kind="stable")
    first = np.unique(bead[order], return_index=True)[1]
    owner = system.atom_residue[atom[order][first]]
    deviation = np.zeros(system.n_residues)
    np.maximum.at(deviation, owner, distance)
    return deviation


def fluctuations(system: System, samples: np.ndarray) -> np.ndarray:
    """(residues,) root-mean-square fluctuation of heavy atoms over ``samples`` (samples, atoms, 3), nm.

    Not superposed: the beads hold the molecule where it is.
    """
    heavy = np.flatnonzero(system.heavy)
    chosen = samples[:, heavy]
    squared = ((chosen - chosen.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)
    return residue_rms(system, squared, heavy)


def chain_breaks(system: System) -> list[int]:
    """Indices of residues that begin another chain than the residue before."""
    chains = system.chain_ids
    return [r for r in range(1, len(chains)) if chains[r] != chains[r - 1]]
