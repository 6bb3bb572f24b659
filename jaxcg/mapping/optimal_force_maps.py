"""The statistically optimal force map: of all valid linear maps the one whose mapped forces scatter least.

Minimises ⟨|B f|²⟩ over a trajectory subject to B Wᵀ = 1 and to equal coefficients on atoms joined by constraints. With
one coefficient for each group of joined atoms this is a quadratic programme with linear equalities only, so each row of
B is solved in closed form: a valid row, less its projection onto the directions that change no bead.

Source: Krämer, Durumeric, Charron, Chen, Clementi and Noé, J. Phys. Chem. Lett. 14, 3970 (2023).
"""

from collections.abc import Sequence
from typing import cast

import equinox as eqx
import numpy as np
import scipy.linalg
from scipy.sparse import coo_array, csr_array

from ..typing import Array, Float, Int
from .base import AbstractLinearMap
from .constraints import rigid_groups
from .force_maps import ForceMap, aggregating_force_map, expanded, folded_pairs, reduced_weights
from .replicated import ReplicatedMap

_CHUNK = 4_000_000
_RANK = 1e-10


class ForceMapFit(eqx.Module):
    """An optimal force map and what it gains on the forces that it was fitted to.

    Arguments:
        force_map: the map.
        variance: (beads,) mean square of one component of the mapped force, (kJ/mol/nm)², over the fitted frames; of
            the beads of one copy for a `ReplicatedMap`.
        aggregating_variance: (beads,) the same for the aggregating map.
        frames: number of frames (times copies) fitted to.
    """

    force_map: ForceMap
    variance: np.ndarray
    aggregating_variance: np.ndarray
    frames: int

    @property
    def reduction(self) -> np.ndarray:
        """(beads,) variance relative to that of the aggregating map, ≤ 1 up to regularisation."""
        before = np.where(self.aggregating_variance > 0, self.aggregating_variance, 1.0)
        return np.where(self.aggregating_variance > 0, self.variance / before, 1.0)


class ForceMoments(eqx.Module):
    """Second moments ⟨f_i f_j⟩ of the forces, gathered frame by frame, from which the optimal map follows.

    Gathers forces of a trajectory of any length in constant memory: `ForceMoments.start`, any number of `update`,
    `result`. Memory is the square of the number of groups of atoms, or, with ``neighbours``, the sum of the squares
    of their numbers.
    """

    mapping: AbstractLinearMap
    copies: int
    _aggregating: ForceMap
    _constraints: np.ndarray | None
    _groups: np.ndarray
    _blocks: tuple[np.ndarray, ...]
    _block_of_bead: np.ndarray
    _sums: tuple[np.ndarray, ...]
    frames: int

    @staticmethod
    def start(
        mapping: AbstractLinearMap,
        constraints: Int[Array | np.ndarray, "pairs 2"] | None = None,
        neighbours: Sequence[np.ndarray] | None = None,
    ) -> "ForceMoments":
        """Moments of no frame yet.

        Arguments:
            mapping: the map of the positions. The copies of a `ReplicatedMap` share one set of coefficients, fitted to
                the forces of all, on atoms of the same copy.
            constraints: (pairs, 2) atoms joined by bonds of fixed length.
            neighbours: for each bead (of one copy) the atoms that may have coefficients in its row
                (`bonded_neighbours`); atoms of the aggregating map and atoms that constraints join to them are always
                added. None: all atoms.

        Raises:
            ValueError: no linear force map exists, or a wrong number of neighbour lists.
        """
        copies = 1
        if isinstance(mapping, ReplicatedMap):
            mapping, copies = mapping.one, mapping.copies
            constraints = folded_pairs(constraints, mapping.n_atoms, copies)
        groups = rigid_groups(constraints, mapping.n_atoms)
        n_groups = int(groups.max()) + 1
        aggregating = aggregating_force_map(mapping, constraints)
        blocks: dict[bytes, int] = {}
        arrays, block_of_bead = [], np.zeros(mapping.n_beads, dtype=np.int64)
        if neighbours is None:
            arrays.append(np.arange(n_groups))
        else:
            if len(neighbours) != mapping.n_beads:
                raise ValueError(f"neighbours: {len(neighbours)} lists for {mapping.n_beads} beads; give one for each.")
            support = aggregating.matrix().tocsr()
            for bead, near in enumerate(neighbours):
                own = support.indices[support.indptr[bead] : support.indptr[bead + 1]]
                block = np.unique(groups[np.concatenate([own, np.asarray(near, dtype=np.int64)])])
                block_of_bead[bead] = blocks.setdefault(block.tobytes(), len(blocks))
                if block_of_bead[bead] == len(arrays):
                    arrays.append(block)
        return ForceMoments(
            mapping=mapping,
            copies=copies,
            _aggregating=aggregating,
            _constraints=None if constraints is None else np.asarray(constraints),
            _groups=groups,
            _blocks=tuple(arrays),
            _block_of_bead=block_of_bead,
            _sums=tuple(np.zeros((len(block), len(block))) for block in arrays),
            frames=0,
        )

    def update(self, forces: Float[Array | np.ndarray, "frames atoms 3"]) -> "ForceMoments":
        """Adds frames.

        Arguments:
            forces: (frames, atoms, 3) forces on the atoms, kJ/mol/nm; those of the constraints may be in them or not.

        Raises:
            ValueError: a wrong number of atoms, or a force that is not finite.
        """
        forces = np.asarray(forces)
        n_atoms = self.mapping.n_atoms
        if forces.shape[1] != n_atoms * self.copies:
            raise ValueError(f"ForceMoments: forces on {forces.shape[1]} atoms, the map has {n_atoms * self.copies}.")
        forces = forces.reshape(-1, n_atoms, 3)
        joined = len(self._groups) != self._groups.max() + 1
        gather = coo_array((np.ones(len(self._groups)), (self._groups, np.arange(len(self._groups))))).tocsr()
        step = max(1, _CHUNK // (3 * n_atoms))
        sums = [total.copy() for total in self._sums]
        for start in range(0, len(forces), step):
            chunk = forces[start : start + step].astype(np.float64).transpose(1, 0, 2)
            chunk = chunk.reshape(n_atoms, -1)
            if not np.all(np.isfinite(chunk)):
                raise ValueError("ForceMoments: forces are not all finite; leave the broken frames out.")
            if joined:
                chunk = gather @ chunk
            for total, block in zip(sums, self._blocks, strict=True):
                part = chunk if len(block) == len(chunk) else chunk[block]
                total += part @ part.T
        return eqx.tree_at(lambda m: (m._sums, m.frames), self, (tuple(sums), self.frames + len(forces)))

    def result(self, l2: float = 0.0) -> ForceMapFit:
        """The optimal map for the frames gathered so far.

        Arguments:
            l2: weight λ of λ Σ_i b_Ii², added to the variance of each bead, (kJ/mol/nm)². It is needed where frames are
                few, and then best chosen by the variance of frames that were not fitted (`force_variance`).

        Raises:
            ValueError: too few frames to determine the coefficients without ``l2``, or a negative ``l2``.
        """
        if not l2 >= 0:
            raise ValueError(f"optimal force map: l2 must not be negative, got {l2}.")
        weights = reduced_weights(self.mapping, self._groups)
        sizes = np.bincount(self._groups).astype(np.float64)
        bead, atom, coefficient = self._aggregating.entries()
        firsts = np.unique(self._groups, return_index=True)[1]
        chosen = firsts[self._groups[atom]] == atom
        shape = (self.mapping.n_beads, len(sizes))
        basic = coo_array((coefficient[chosen], (bead[chosen], self._groups[atom[chosen]])), shape=shape).tocsr()
        rows, columns, values = [], [], []
        before, after = np.zeros(shape[0]), np.zeros(shape[0])
        for number, (block, total) in enumerate(zip(self._blocks, self._sums, strict=True)):
            beads = np.flatnonzero(self._block_of_bead == number)
            moment = total / (3 * max(self.frames, 1))
            start = basic[beads][:, block].toarray()
            row = _optimum(start, moment, _touching(weights, block), sizes[block], l2, 3 * self.frames)
            before[beads] = np.einsum("ig,gh,ih->i", start, moment, start, optimize=True)
            after[beads] = np.einsum("ig,gh,ih->i", row, moment, row, optimize=True)
            rows.append(np.repeat(beads, len(block)))
            columns.append(np.tile(block, len(beads)))
            values.append(row.ravel())
        index = (np.concatenate(rows), np.concatenate(columns))
        reduced = coo_array((np.concatenate(values), index), shape=shape)
        force_map = ForceMap.from_coefficients(*expanded(reduced, self._groups), self.mapping, self._constraints)
        force_map = force_map.replicated(self.copies)
        return ForceMapFit(force_map=force_map, variance=after, aggregating_variance=before, frames=self.frames)


def optimal_force_map(
    mapping: AbstractLinearMap,
    forces: Float[Array | np.ndarray, "frames atoms 3"],
    constraints: Int[Array | np.ndarray, "pairs 2"] | None = None,
    *,
    neighbours: Sequence[np.ndarray] | None = None,
    l2: float = 0.0,
) -> ForceMapFit:
    """The valid linear force map whose mapped forces have the least variance over a trajectory.

    For a long trajectory gather chunks with `ForceMoments`. For many equal molecules give a `ReplicatedMap`: one set of
    coefficients is fitted to the forces of all copies.

    Arguments:
        mapping: the map of the positions.
        forces: (frames, atoms, 3) forces on the atoms, kJ/mol/nm.
        constraints: (pairs, 2) atoms joined by bonds of fixed length (`constrained_pairs`). Leaving out a constraint
            that the simulation had gives biased forces.
        neighbours: for each bead the atoms that may have coefficients (`bonded_neighbours`); None: all.
        l2: ridge regularisation, (kJ/mol/nm)²; see `ForceMoments.result`.

    Returns:
        The map, and its variance and that of the aggregating map for each bead.

    Raises:
        ValueError: no linear force map exists, forces are broken, or frames are too few without ``l2``.

    Source: Krämer et al., J. Phys. Chem. Lett. 14, 3970 (2023).
    """
    return ForceMoments.start(mapping, constraints, neighbours).update(forces).result(l2)


def force_variance(force_map: ForceMap, forces: Float[Array | np.ndarray, "frames atoms 3"]) -> np.ndarray:
    """(beads,) mean square of one component of the mapped forces, (kJ/mol/nm)²; for frames that were not fitted."""
    matrix = force_map.matrix().tocsr()
    forces = np.asarray(forces, dtype=np.float64)
    mapped = matrix @ forces.transpose(1, 0, 2).reshape(forces.shape[1], -1)
    return np.mean(mapped**2, axis=1)


def bonded_neighbours(
    mapping: AbstractLinearMap, bonds: Int[Array | np.ndarray, "bonds 2"], reach: int
) -> tuple[np.ndarray, ...]:
    """For each bead its atoms and those at most ``reach`` bonds away, as arrays of indices.

    Bonds between consecutive atoms, ``[(0, 1), (1, 2), ...]``, make this a distance in the atoms' numbers.
    """
    bonds = np.asarray(bonds, dtype=np.int64).reshape(-1, 2)
    shape = (mapping.n_atoms, mapping.n_atoms)
    i, j = np.concatenate([bonds, bonds[:, ::-1]]).T
    step = coo_array((np.ones(len(i), dtype=np.int32), (i, j)), shape=shape).tocsr()
    bead, atom, _ = mapping.entries()
    near = coo_array((np.ones(len(bead), dtype=np.int32), (bead, atom)), shape=(mapping.n_beads, len(step.indptr) - 1))
    near = near.tocsr()
    for _ in range(reach):
        near = near + near @ step
        near.data[:] = 1
    near.sort_indices()
    return tuple(np.split(near.indices.astype(np.int64), near.indptr[1:-1]))


def _touching(weights: csr_array, block: np.ndarray) -> np.ndarray:
    """Dense rows of ``weights``, on the columns ``block``, of the beads that have a weight there."""
    part = weights[:, block]
    return part[np.flatnonzero(np.diff(part.indptr))].toarray()


def _optimum(start, moment, weights, sizes, l2: float, samples: int) -> np.ndarray:
    """Rows g nearest to ``start`` among those with the least g·moment·g + l2 g·sizes·g at unchanged ``weights`` g.

    Measured in the norm of the atoms' coefficients, Σ_groups size g², which also decides between equally good rows.
    """
    root = np.sqrt(sizes)
    q, r = cast(tuple, scipy.linalg.qr((weights / root).T, pivoting=True))[:2]
    diagonal = np.abs(np.diag(r))
    free = q[:, int(np.sum(diagonal > _RANK * diagonal.max())) :]
    if l2 == 0 and samples < free.shape[1]:
        raise ValueError(
            f"optimal force map: {samples // 3} frames cannot determine {free.shape[1]} free coefficients; "
            "give more frames, neighbours (fewer atoms for each bead), or l2 > 0."
        )
    metric = moment / root[:, None] / root + l2 * np.eye(len(root))
    scaled = start * root
    gradient = scaled @ metric @ free
    scaled = scaled - _solve_positive(free.T @ metric @ free, gradient.T).T @ free.T
    return scaled / root


def _solve_positive(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Minimum-norm solution for a symmetric matrix that may be singular (atoms that feel no force)."""
    if matrix.size == 0:
        return np.zeros_like(right)
    try:
        factor = scipy.linalg.cholesky(matrix, lower=True)
        diagonal = np.diag(factor)
        if diagonal.min() > 1e-6 * diagonal.max():
            return scipy.linalg.cho_solve((factor, True), right)
    except scipy.linalg.LinAlgError:
        pass
    values, vectors = scipy.linalg.eigh(matrix)
    kept = values > _RANK * values.max(initial=0.0)
    inverse = np.where(kept, 1 / np.where(kept, values, 1.0), 0.0)
    return vectors @ (inverse[:, None] * (vectors.T @ right))
