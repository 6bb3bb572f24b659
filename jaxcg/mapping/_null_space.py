"""Sparse orthonormal bases of the null space of a linear map."""

import numpy as np
from scipy.sparse import coo_array, diags_array

from ._blocks import dense_blocks, shape_of
from ._lift import DEPENDENT, split_by_overlap


def null_space_of(weights: coo_array, masses: np.ndarray) -> coo_array:
    """Basis Z of the null space of W, orthonormal in the metric of the masses: W Z = 0, Zᵀ m Z = 1.

    Beads that share no atom get contrasts between halves, quarters, ... of their atoms (Haar's wavelets, weighted),
    a·log₂ a entries for a atoms. Blocks of overlapping beads get singular vectors, dense within the block.

    Arguments:
        weights: W without repeated entries.
        masses: (atoms,) positive.

    Returns:
        (atoms, atoms − rank) sparse array: atoms in no bead, then the contrasts, then the blocks.

    Raises:
        ValueError: a block too large to be dense.
    """
    n_atoms = shape_of(weights)[1]
    root = np.sqrt(masses)
    scaled = coo_array((weights.data / root[weights.coords[1]], weights.coords), shape=weights.shape)
    alone, shared = split_by_overlap(scaled)
    unmapped = np.setdiff1d(np.arange(n_atoms), scaled.coords[1])
    rows, columns, values = [unmapped], [np.arange(len(unmapped))], [np.ones(len(unmapped))]
    found = len(unmapped)

    for atom, contrast, value in _contrasts(alone):
        rows.append(atom)
        columns.append(found + contrast)
        values.append(value)
        found += int(contrast.max()) + 1
    for block in dense_blocks(shared):
        _, singular, right = np.linalg.svd(block.weights, full_matrices=True)
        rank = (singular**2 > DEPENDENT * singular.max(axis=1, keepdims=True) ** 2).sum(axis=1)
        kept = np.arange(right.shape[1]) >= rank[:, None]
        basis = right[kept]
        rows.append(np.broadcast_to(block.atoms[:, None, :], right.shape)[kept].ravel())
        columns.append(np.repeat(found + np.arange(len(basis)), right.shape[2]))
        values.append(basis.ravel())
        found += len(basis)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return coo_array(diags_array(1.0 / root) @ coo_array(entries, shape=(n_atoms, found)))


def _contrasts(weights: coo_array):
    """Orthonormal vectors orthogonal to the rows of W, whose beads share no atom: (atom, number, value) of each level.

    On every level the atoms of a bead fall into groups of 1, 2, 4, ... consecutive ones, and neighbouring groups with
    weights u and v are set against each other: (u |v|/|u|, −v |u|/|v|)/√(|u|² + |v|²), which is orthogonal to (u, v)
    and constant times the weights within each group, so orthogonal to the contrasts of the levels before.
    """
    order = np.argsort(weights.coords[0], kind="stable")
    bead, atom, weight = weights.coords[0][order], weights.coords[1][order], weights.data[order]
    counts = np.bincount(bead, minlength=shape_of(weights)[0])
    slot = np.arange(len(bead)) - np.repeat(np.cumsum(counts) - counts, counts)
    size = 1
    while size < counts.max(initial=0):
        # Beads with two groups at least; a pair of groups whose second is not there waits for the next level.
        paired = slot // (2 * size) * 2 * size + size < counts[bead]
        bead_of, atom_of, weight_of = bead[paired], atom[paired], weight[paired]
        second = slot[paired] // size % 2
        number = slot[paired] // (2 * size)
        starts = np.diff(bead_of, prepend=-1).astype(bool) | np.diff(number, prepend=-1).astype(bool)
        pair = np.cumsum(starts) - 1
        squares = np.bincount(2 * pair + second, weight_of**2, minlength=2 * int(pair[-1]) + 2).reshape(-1, 2)
        own, other = squares[pair, second], squares[pair, 1 - second]
        yield atom_of, pair, np.where(second, -1.0, 1.0) * weight_of * np.sqrt(other / own / (own + other))
        size *= 2
