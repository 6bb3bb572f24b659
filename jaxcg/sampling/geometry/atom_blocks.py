"""Atoms in groups of equal size, within which a mass matrix or a covariance is dense."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ...mapping.base import AbstractLinearMap
from ...typing import Array, AtomVectors

#: Atoms of the largest block: its matrix has (3 × 128)² entries, a product with it costs less than a small force.
LARGEST_BLOCK = 128


class AtomBlocks(eqx.Module):
    """A partition of the atoms into blocks, padded to one size; every bead lies within one block.

    Arguments:
        mapping: its beads keep atoms together: blocks that share a bead become one.
        group: (atoms,) any number for each atom, such as its residue; atoms of one number share a block. One block for
            the whole molecule when None.
        largest: atoms a block may have.

    Raises:
        ValueError: a block is larger than that.
    """

    atoms: np.ndarray
    place: np.ndarray
    n_atoms: int = eqx.field(static=True)

    def __init__(self, mapping: AbstractLinearMap, group: np.ndarray | None = None, *, largest: int = LARGEST_BLOCK):
        n_atoms = mapping.n_atoms
        group = np.zeros(n_atoms, np.int64) if group is None else np.asarray(group)
        if group.shape != (n_atoms,):
            raise ValueError(f"AtomBlocks: group has shape {group.shape}, expected ({n_atoms},).")
        group = np.unique(group, return_inverse=True)[1]
        bead, atom, _ = mapping.entries()
        n_groups = int(group.max()) + 1
        nodes = n_groups + mapping.n_beads
        links = coo_array((np.ones(len(atom)), (group[atom], n_groups + np.asarray(bead))), shape=(nodes, nodes))
        label = np.unique(connected_components(links, directed=False)[1][group], return_inverse=True)[1]
        sizes = np.bincount(label)
        if sizes.max() > largest:
            raise ValueError(
                f"AtomBlocks: {sizes.max()} atoms hang together through groups and beads, {largest} is the most for "
                "one dense block; give smaller groups (such as residues), or use one mass per atom."
            )
        order = np.argsort(label, kind="stable")
        slot = np.arange(n_atoms) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.atoms = np.full((len(sizes), sizes.max()), n_atoms, np.int32)
        self.atoms[label[order], slot] = order
        self.place = np.empty(n_atoms, np.int32)
        self.place[order] = label[order] * sizes.max() + slot
        self.n_atoms = n_atoms

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a matrix per block: (blocks, 3 × atoms, 3 × atoms), padding included."""
        count, width = self.atoms.shape
        return (count, 3 * width, 3 * width)

    def split(self, v: AtomVectors) -> Array:
        """(atoms, 3) → (blocks, 3 × atoms of a block), zero where padded."""
        parts = jnp.asarray(v).at[self.atoms].get(mode="fill", fill_value=0)
        return parts.reshape(self.shape[:2])

    def join(self, parts: Array) -> Array:
        """(blocks, 3 × atoms of a block) → (atoms, 3)."""
        return parts.reshape(-1, 3).at[self.place].get(mode="promise_in_bounds")

    def diagonal(self, values: np.ndarray) -> np.ndarray:
        """Diagonal matrices of one value per atom, (blocks, 3 × atoms, 3 × atoms); zero where padded."""
        padded = np.append(np.asarray(values, np.float64), 0.0)[self.atoms]
        return np.repeat(padded, 3, axis=1)[:, :, None] * np.eye(self.shape[1])

    def basis(self, null_space: coo_array | None) -> np.ndarray:
        """Orthonormal basis of the tangent space, block by block: (blocks, 3 × atoms, dimensions), zero where padded.

        Arguments:
            null_space: (atoms, k) sparse orthonormal basis for one coordinate, each column within one block; all
                directions are tangent when None.
        """
        width = self.atoms.shape[1]
        if null_space is None:
            null_space = coo_array((np.ones(self.n_atoms), (np.arange(self.n_atoms),) * 2))
        atom, column = null_space.coords
        block, slot = np.divmod(self.place[atom], width)
        owner = np.zeros(int(column.max(initial=-1)) + 1, np.int64)
        owner[column] = block
        counts = np.bincount(owner, minlength=len(self.atoms))
        order = np.argsort(owner, kind="stable")
        number = np.empty(len(owner), np.int64)
        number[order] = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        one = np.zeros((len(self.atoms), width, max(counts.max(initial=0), 1)))
        one[block, slot, number[column]] = null_space.data
        return np.einsum("bak,ij->baikj", one, np.eye(3)).reshape(len(one), 3 * width, -1)
