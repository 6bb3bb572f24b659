"""The lift of a linear map, m⁻¹ Wᵀ (W m⁻¹ Wᵀ)⁻¹, and its rank, block by block.

Beads that share atoms, directly or through others, form a block; an atom's row touches its block only. Most beads
share none and need no matrix at all, small blocks are factored dense and batched, long chains by `Elimination`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from scipy.sparse import coo_array, csr_array, diags_array

from ._blocks import dense_blocks, shape_of
from ._elimination import CORE, Elimination
from ._sparse import SparseMatrix

#: Directions whose squared length is below this fraction of a block's are combinations of the others.
DEPENDENT = 1e-10
#: The same for the single precision of traced masses.
_DEPENDENT_SINGLE = 1e-6


class Lift(NamedTuple):
    """``direct`` (atoms × beads) is the lift of beads alone and in small blocks; ``spread`` (atoms × beads) after
    ``chains`` that of beads in long ones."""

    direct: SparseMatrix
    spread: SparseMatrix | None
    chains: Elimination | None


def lift_of(weights: coo_array, masses) -> Lift:
    """The lift of W for ``masses`` (atoms,), which may be traced.

    Arguments:
        weights: W without repeated entries.
        masses: (atoms,) positive.

    Raises:
        ValueError: traced masses and a block of more than `CORE` beads.
    """
    traced = isinstance(masses, Tracer)
    xp = jnp if traced else np
    inverse_masses = 1.0 / xp.asarray(masses)
    alone, shared = split_by_overlap(weights)
    n_beads, n_atoms = shape_of(weights)

    bead, atom = alone.coords
    scaled = alone.data * inverse_masses[atom]
    if traced:
        squares = jax.ops.segment_sum(scaled * alone.data, bead, n_beads)
    else:
        squares = np.bincount(bead, scaled * alone.data, minlength=n_beads)
    rows, columns, values = [atom], [bead], [scaled / squares[bead]]

    covered = np.zeros(n_beads, dtype=bool)
    for block in dense_blocks(shared, largest=CORE):
        covered[block.beads] = True
        scaled = block.weights * inverse_masses[block.atoms][:, None, :]
        gram = _einsum("kba,kca->kbc", scaled, block.weights)
        # Relative scaling first: light and heavy beads differ by orders of magnitude, duplicates must not.
        scale = 1.0 / xp.sqrt(xp.einsum("kbb->kb", gram))
        tolerance = DEPENDENT if gram.dtype == np.float64 else _DEPENDENT_SINGLE
        inverse = xp.linalg.pinv(gram * scale[:, :, None] * scale[:, None, :], rtol=tolerance, hermitian=True)
        lift = _einsum("kba,kbc->kac", scaled, inverse * scale[:, :, None] * scale[:, None, :])
        rows.append(np.broadcast_to(block.atoms[:, :, None], lift.shape).ravel())
        columns.append(np.broadcast_to(block.beads[:, None, :], lift.shape).ravel())
        values.append(lift.ravel())
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    direct = SparseMatrix.of(rows, columns, xp.concatenate(values), n_atoms, n_beads)

    chained = _restricted(shared, ~covered[shared.coords[0]])
    if chained.nnz == 0:
        return Lift(direct, None, None)
    if traced:
        raise ValueError(
            f"LinearMap: more than {CORE} beads overlap in a chain; its fibre needs masses that are known, not traced."
        )
    bead, atom = chained.coords
    spread = SparseMatrix.of(atom, bead, chained.data * inverse_masses[atom], n_atoms, n_beads)
    return Lift(direct, spread, Elimination.of(_gram(chained, inverse_masses)))


def row_rank(weights: coo_array) -> int:
    """Rank of W."""
    n_beads, n_atoms = shape_of(weights)
    _, shared = split_by_overlap(weights)
    bead, atom = shared.coords
    # Beads that each have an atom of their own, of a weight that counts, cannot depend on each other.
    heaviest = np.zeros(n_beads)
    np.maximum.at(heaviest, bead, np.abs(shared.data))
    own = (np.bincount(atom, minlength=n_atoms)[atom] == 1) & (np.abs(shared.data) > 1e-3 * heaviest[bead])
    in_doubt = np.ones(n_beads, dtype=bool)
    in_doubt[np.setdiff1d(np.arange(n_beads), bead)] = False
    in_doubt[bead[own]] = False
    if not in_doubt.any():
        return n_beads
    rank, covered = n_beads - len(np.unique(bead)), np.zeros(n_beads, dtype=bool)
    for block in dense_blocks(shared, largest=CORE):
        covered[block.beads] = True
        gram = block.weights @ block.weights.transpose(0, 2, 1)
        scale = 1.0 / np.sqrt(np.einsum("kbb->kb", gram))
        rank += _rank(gram * scale[:, :, None] * scale[:, None, :])
    chained = _restricted(shared, ~covered[bead])
    return rank + (Elimination.of(_gram(chained, np.ones(n_atoms))).rank if chained.nnz else 0)


def split_by_overlap(weights: coo_array) -> tuple[coo_array, coo_array]:
    """Entries of beads that share no atom, and of those that do."""
    n_beads, n_atoms = shape_of(weights)
    bead, atom = weights.coords
    overlaps = np.zeros(n_beads, dtype=bool)
    overlaps[bead[np.bincount(atom, minlength=n_atoms)[atom] > 1]] = True
    return _restricted(weights, ~overlaps[bead]), _restricted(weights, overlaps[bead])


def _restricted(matrix: coo_array, chosen: np.ndarray) -> coo_array:
    coords = (matrix.coords[0][chosen], matrix.coords[1][chosen])
    return coo_array((matrix.data[chosen], coords), shape=matrix.shape)


def _gram(weights: coo_array, inverse_masses) -> csr_array:
    rows = csr_array(weights)
    return csr_array(rows @ diags_array(np.asarray(inverse_masses, dtype=np.float64)) @ rows.T)


def _rank(gram: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(gram, rtol=DEPENDENT, hermitian=True).sum())


def _einsum(subscripts: str, a, b):
    """Product of two arrays, without the low precision that accelerators default to when traced."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.einsum(subscripts, a, b)
    return jnp.einsum(subscripts, a, b, precision="highest")
