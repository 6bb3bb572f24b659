"""The blocks of a sparse linear map: groups of beads that share atoms, directly or through others."""

from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from .base import AbstractLinearMap

#: Entries of the largest dense block: 400 MB.
_LARGEST_BLOCK = 50_000_000


class Blocks(NamedTuple):
    """Blocks of equal shape: indices of their beads and atoms, and their dense weights."""

    beads: np.ndarray  # (blocks, beads per block)
    atoms: np.ndarray  # (blocks, atoms per block)
    weights: np.ndarray  # (blocks, beads per block, atoms per block)


def matrix_of(mapping: AbstractLinearMap) -> coo_array:
    """W (beads × atoms), repeated entries added and zeros left out."""
    bead, atom, weight = mapping.entries()
    matrix = coo_array((np.asarray(weight, dtype=np.float64), (bead, atom)), shape=(mapping.n_beads, mapping.n_atoms))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def blocks_of(mapping: AbstractLinearMap) -> Iterator[Blocks]:
    """The blocks of W, grouped by shape so that each group is one batched dense factorisation.

    Beads without any atom are blocks of no atoms and are left out; atoms in no bead belong to no block.

    Raises:
        ValueError: a block too large to be dense.
    """
    return dense_blocks(matrix_of(mapping))


def shape_of(matrix: coo_array | csr_array) -> tuple[int, int]:
    """Numbers of rows and columns."""
    return cast(tuple[int, int], matrix.shape)


def dense_blocks(matrix: coo_array, largest: int | None = None) -> Iterator[Blocks]:
    """The blocks of a matrix without repeated entries; those of more than ``largest`` beads are left out."""
    n_beads, n_atoms = shape_of(matrix)
    bead, atom, weight = matrix.coords[0], matrix.coords[1], matrix.data
    nodes = n_beads + n_atoms
    graph = coo_array((np.ones(len(bead), dtype=np.int8), (bead, n_beads + atom)), shape=(nodes, nodes))
    n_blocks, label = connected_components(graph, directed=False)
    bead_slot, beads_in = _slots(label[:n_beads], n_blocks)
    atom_slot, atoms_in = _slots(label[n_beads:], n_blocks)
    shapes = np.stack([beads_in, atoms_in], axis=1)
    wanted = (beads_in > 0) & (atoms_in > 0) & (beads_in <= (largest or n_beads))
    for shape in np.unique(shapes[wanted], axis=0):
        if shape[0] * shape[1] > _LARGEST_BLOCK:
            raise ValueError(
                f"{shape[0]} beads over {shape[1]} atoms overlap in one block, too large for a dense analysis; "
                "analyse a part of the map, or one that shares fewer atoms between beads."
            )
        chosen = np.flatnonzero((shapes == shape).all(axis=1))
        number = np.full(n_blocks, -1)
        number[chosen] = np.arange(len(chosen))
        beads = np.zeros((len(chosen), shape[0]), dtype=np.int64)
        atoms = np.zeros((len(chosen), shape[1]), dtype=np.int64)
        weights = np.zeros((len(chosen), *shape))
        mine = np.flatnonzero(number[label[:n_beads]] >= 0)
        beads[number[label[mine]], bead_slot[mine]] = mine
        mine = np.flatnonzero(number[label[n_beads:]] >= 0)
        atoms[number[label[n_beads + mine]], atom_slot[mine]] = mine
        here = number[label[bead]] >= 0
        weights[number[label[bead[here]]], bead_slot[bead[here]], atom_slot[atom[here]]] = weight[here]
        yield Blocks(beads, atoms, weights)


def _slots(label: np.ndarray, n_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Position of each item among those of its label, and how many items each label has."""
    order = np.argsort(label, kind="stable")
    counts = np.bincount(label, minlength=n_labels)
    slot = np.empty(len(label), dtype=np.int64)
    slot[order] = np.arange(len(label)) - np.repeat(np.cumsum(counts) - counts, counts)
    return slot, counts
