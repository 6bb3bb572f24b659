"""Solving with the Gram matrix of long chains of overlapping beads, without a dense matrix.

Beads that share atoms with the next one, all along a polymer, make one block whose inverse is dense. Its factors need
not be: beads that share no atom with each other are eliminated together, which leaves a shorter chain, and so on.
A chain of n beads takes a logarithmic number of such rounds, each a sparse product, with O(n) entries in all.
"""

import equinox as eqx
import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array

from ..typing import BeadArray
from ._blocks import shape_of
from ._sparse import SparseMatrix

#: What is left at this number of beads is inverted as a dense matrix.
CORE = 256
#: Entries of the factors per bead; more means that the beads overlap in a dense mesh and not in chains.
_FILL = 200
#: Pivots below this fraction of the diagonal belong to beads that depend on others.
_PIVOT = 1e-10


class Elimination(eqx.Module):
    """Factors of the inverse of a sparse symmetric positive semidefinite matrix G.

    G⁻¹ = (1 − C₁) … (1 − C_k) D⁻¹ (1 − C_kᵀ) … (1 − C₁ᵀ), D block diagonal. For a singular G the solution is one of
    those there are (beads that depend on others get none of it), right when the right-hand side is in the range.
    """

    _couplings: tuple[SparseMatrix, ...]
    _pivots: SparseMatrix
    #: Number of independent rows of G.
    rank: int = eqx.field(static=True)

    @staticmethod
    def of(gram: csr_array) -> "Elimination":
        """Factors of ``gram`` (n × n); rows that are all zero stay out.

        Raises:
            ValueError: the factors would not be sparse.
        """
        n = shape_of(gram)[0]
        diagonal = gram.diagonal()
        left = np.flatnonzero(diagonal > 0)
        scale = np.ones(n)
        scale[left] = 1 / np.sqrt(diagonal[left])
        matrix = csr_array(diags_array(scale[left]) @ gram[left][:, left] @ diags_array(scale[left]))
        couplings, rows, columns, values, rank, fill = [], [], [], [], 0, 0
        priority = np.random.default_rng(0).permutation(n).astype(np.float64)
        while len(left) > CORE:
            chosen = _independent(matrix, np.diff(matrix.indptr) * float(n) + priority[left])
            rest = ~chosen
            pivot = matrix.diagonal()[chosen]
            inverse = np.where(pivot > _PIVOT, 1 / np.maximum(pivot, _PIVOT), 0.0)
            across = matrix[chosen][:, rest]
            coupling = coo_array(diags_array(inverse) @ across)
            rank += int((inverse > 0).sum())
            matrix = csr_array(matrix[rest][:, rest] - across.T @ coupling)
            bead, other = left[chosen], left[rest]
            rows.append(bead)
            columns.append(bead)
            values.append(inverse * scale[bead] ** 2)
            i, j = bead[coupling.coords[0]], other[coupling.coords[1]]
            couplings.append(SparseMatrix.of(i, j, coupling.data * scale[i] / scale[j], n, n))
            left = other
            fill += coupling.nnz
            if max(fill, matrix.nnz) > _FILL * n:
                raise ValueError(
                    f"LinearMap: {n} beads overlap in one dense mesh, whose fibre cannot be factored sparsely; "
                    "share atoms between fewer beads, or split the map into independent parts."
                )
        core = matrix.toarray()
        inverse = np.linalg.pinv(core, rtol=_PIVOT, hermitian=True) * scale[left, None] * scale[left]
        rank += int(np.linalg.matrix_rank(core, tol=_PIVOT, hermitian=True)) if len(left) else 0
        rows.append(np.repeat(left, len(left)))
        columns.append(np.tile(left, len(left)))
        values.append(inverse.ravel())
        pivots = SparseMatrix.of(np.concatenate(rows), np.concatenate(columns), np.concatenate(values), n, n)
        return Elimination(tuple(couplings), pivots, rank)

    def solve(self, r: BeadArray) -> BeadArray:
        """G⁻¹ r: (n, ...) → (n, ...); its own transpose."""
        for coupling in self._couplings:
            r = r - coupling.apply_transpose(r)
        r = self._pivots.apply(r)
        for coupling in reversed(self._couplings):
            r = r - coupling.apply(r)
        return r

    def inverse(self) -> csr_array:
        """G⁻¹ multiplied out, dense within every chain."""
        n = self._pivots.n_rows
        lower = csr_array(diags_array(np.ones(n)))
        for coupling in self._couplings:
            lower = csr_array(lower @ (diags_array(np.ones(n)) - coupling.matrix()))
        return csr_array(lower @ self._pivots.matrix() @ lower.T)


def _independent(matrix: csr_array, priority: np.ndarray) -> np.ndarray:
    """A maximal set of rows without entries between them, those of low ``priority`` first."""
    pairs = coo_array(matrix)
    apart = (pairs.coords[0] != pairs.coords[1]) & (pairs.data != 0)
    i, j = pairs.coords[0][apart], pairs.coords[1][apart]
    chosen = np.zeros(len(priority), dtype=bool)
    open_rows = np.ones(len(priority), dtype=bool)
    while open_rows.any():
        current = np.where(open_rows, priority, np.inf)
        lowest = np.full(len(priority), np.inf)
        np.minimum.at(lowest, i, current[j])
        taken = open_rows & (current < lowest)
        chosen |= taken
        open_rows &= ~taken
        open_rows[j[taken[i]]] = False
    return chosen
