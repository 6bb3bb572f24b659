"""Minimum-norm reconstruction A⁺ y for noisy beads and for maps whose beads depend on each other."""

from dataclasses import dataclass

import equinox as eqx
import numpy as np
from jax.core import Tracer
from scipy.sparse import coo_array

from ..typing import Array, AtomArray, AtomScalars, BeadArray
from ._blocks import blocks_of
from ._sparse import padded_rows, sparse_product
from .base import AbstractLinearMap

#: Singular values under this fraction of the largest belong to beads that depend on others, as in the rank of maps.
DEPENDENT = 1e-5


@dataclass(frozen=True)
class Reconstruction:
    """A least-squares reconstruction.

    Attributes:
        x: (atoms, ...) the reconstruction.
        residual: (beads, ...) y − W x: zero when y is in the range of the map and nothing was regularised.
        rank: number of coordinates the reconstruction was made from, 3 × the number of singular values kept.
        effective_rank: the same count with each singular value s weighted by s²/(s² + λ); equals ``rank`` for λ = 0.
    """

    x: AtomArray
    residual: BeadArray
    rank: int
    effective_rank: float


class MinimumNorm(eqx.Module):
    """Least-squares reconstruction of smallest norm from beads, x* = A⁺ y, in the metric of a set of masses.

    Among all x that minimise |W x − y|² (every bead counting the same) it is the one with least Σ mᵢ|xᵢ|². It serves
    maps of any rank, duplicate or dependent beads, and inconsistent (noisy) y. Atoms in no bead go to the origin.

    Singular values of W m^(−1/2) under ``truncation`` times the largest of their block (a group of beads that share
    atoms) count as zero, and the rank left is reported. With ``tikhonov`` = λ > 0 the solution minimises
    |W x − y|² + λ Σ mᵢ|xᵢ|²: the posterior mean for bead noise of variance σ² and atoms with prior variance τ²/mᵢ
    about the origin, λ = σ²/τ². It draws x towards the origin; `correct` draws towards a given x instead.

    ``singular_values`` (beads,) are those of W m^(−1/2), descending: they show whether the truncation falls in a gap.

    Factored once, on the host, block by block, with work linear in the number of blocks. The operations are sparse
    products: jit-able, and differentiable in their argument. Build it with `MinimumNorm.of`.

    Source: A⁺ = m⁻¹ Wᵀ (W m⁻¹ Wᵀ)⁺, Moore-Penrose; Hansen, Rank-Deficient and Discrete Ill-Posed Problems
    (SIAM, 1998), for truncation and Tikhonov's regularisation.
    """

    mapping: AbstractLinearMap
    _index: Array | np.ndarray
    _weight: Array | np.ndarray
    _index_t: Array | np.ndarray
    _weight_t: Array | np.ndarray
    singular_values: Array | np.ndarray
    rank: int = eqx.field(static=True)
    effective_rank: float = eqx.field(static=True)

    @staticmethod
    def of(
        mapping: AbstractLinearMap,
        masses: AtomScalars | None = None,
        *,
        truncation: float = DEPENDENT,
        tikhonov: float = 0.0,
    ) -> "MinimumNorm":
        """The reconstruction for a map.

        Arguments:
            mapping: any linear map.
            masses: (atoms,) positive masses, amu; unit masses when None. Not traced: the rank depends on them.
            truncation: singular values under this fraction of their block's largest count as zero.
            tikhonov: λ ≥ 0, in 1/amu (no unit when ``masses`` is None).

        Raises:
            ValueError: masses not positive or not one per atom, or a parameter out of range.
        """
        metric = metric_masses(masses, mapping, "MinimumNorm")
        if not 0 < truncation < 1:
            raise ValueError(f"MinimumNorm: truncation is {truncation}; give a fraction between 0 and 1.")
        if not (np.isfinite(tikhonov) and tikhonov >= 0):
            raise ValueError(f"MinimumNorm: tikhonov is {tikhonov}; give a number of at least 0.")
        atoms, beads, values, spectrum = [], [], [], []
        rank, effective = 0, 0.0
        for block in blocks_of(mapping):
            root = 1.0 / np.sqrt(metric[block.atoms])
            left, singular, right = np.linalg.svd(block.weights * root[:, None, :], full_matrices=False)
            kept = singular > truncation * singular.max(axis=1, keepdims=True)
            square = np.where(kept, singular**2, 1.0)
            shrink = np.where(kept, square / (square + tikhonov), 0.0)
            inverse = np.where(kept, shrink / np.sqrt(square), 0.0)
            lift = root[:, :, None] * np.einsum("kra,kr,kbr->kab", right, inverse, left)
            atoms.append(np.broadcast_to(block.atoms[:, :, None], lift.shape).ravel())
            beads.append(np.broadcast_to(block.beads[:, None, :], lift.shape).ravel())
            values.append(lift.ravel())
            spectrum.append(singular.ravel())
            rank += int(kept.sum())
            effective += float(shrink.sum())
        found = np.concatenate(spectrum)
        atom, bead, value = np.concatenate(atoms), np.concatenate(beads), np.concatenate(values)
        index, weight = padded_rows(atom, bead, value, mapping.n_atoms)
        index_t, weight_t = padded_rows(bead, atom, value, mapping.n_beads)
        return MinimumNorm(
            mapping=mapping,
            _index=index,
            _weight=weight,
            _index_t=index_t,
            _weight_t=weight_t,
            singular_values=np.sort(np.pad(found, (0, mapping.n_beads - len(found))))[::-1],
            rank=3 * rank,
            effective_rank=3 * effective,
        )

    def __call__(self, y: BeadArray) -> AtomArray:
        """A⁺ y: (beads, ...) → (atoms, ...), in the dtype of ``y``."""
        return sparse_product(self._index, self._weight, self._index_t, self._weight_t, y)

    def solve(self, y: BeadArray) -> Reconstruction:
        """A⁺ y with the residual in the beads and the rank it rests on."""
        x = self(y)
        return Reconstruction(x, y - self.mapping(x), self.rank, self.effective_rank)

    def correct(self, x: AtomArray, y: BeadArray) -> AtomArray:
        """The point nearest to ``x`` (mass metric) whose beads come closest to ``y``: x + A⁺(y − W x)."""
        return x + self(y - self.mapping(x))

    def project(self, x: AtomArray) -> AtomArray:
        """B∘M: map, then reconstruct, A⁺ W x: what the beads determine of ``x``, the row-space part.

        Without regularisation a projector, (B∘M)² = B∘M, self-adjoint in the metric of the masses, of rank ``rank``;
        it is not the identity: the null-space part of ``x`` is lost.
        """
        return self(self.mapping(x))

    def matrix(self) -> coo_array:
        """A⁺ (atoms × beads) as a SciPy sparse array."""
        weight = np.asarray(self._weight)
        slot, atom = np.nonzero(weight)
        bead = np.asarray(self._index)[slot, atom]
        return coo_array((weight[slot, atom], (atom, bead)), shape=(self.mapping.n_atoms, self.mapping.n_beads))


def minimum_norm(
    mapping: AbstractLinearMap,
    y: BeadArray,
    masses: AtomScalars | None = None,
    *,
    truncation: float = DEPENDENT,
    tikhonov: float = 0.0,
) -> Reconstruction:
    """Reconstruction of smallest norm from the beads ``y``, with residual and rank; see `MinimumNorm`.

    Arguments:
        mapping: any linear map.
        y: (beads, ...) bead positions, nm.
        masses: (atoms,) masses of the norm, amu; the plain norm when None.
        truncation, tikhonov: see `MinimumNorm.of`.
    """
    return MinimumNorm.of(mapping, masses, truncation=truncation, tikhonov=tikhonov).solve(y)


def metric_masses(
    masses: AtomScalars | None, mapping: AbstractLinearMap, who: str, *, everywhere: bool = False
) -> np.ndarray:
    """(atoms,) float64 masses of a metric, ones for None.

    They must be positive for atoms that the map uses (``everywhere``: for all); massless sites outside beads are fine.

    Raises:
        ValueError: traced, not one per atom, negative, or zero where they may not be.
    """
    if masses is None:
        return np.ones(mapping.n_atoms)
    if isinstance(masses, Tracer):
        raise ValueError(f"{who}: the masses must be known when it is built; build it outside jit and grad.")
    masses = np.asarray(masses, dtype=np.float64)
    if masses.shape != (mapping.n_atoms,):
        raise ValueError(
            f"{who}: masses have shape {masses.shape}; give one mass for each of the {mapping.n_atoms} atoms."
        )
    needed = np.full(mapping.n_atoms, everywhere)
    needed[mapping.entries()[1]] = True
    wrong = np.flatnonzero(~(np.isfinite(masses) & (masses >= 0)) | (needed & (masses == 0)))
    if wrong.size:
        raise ValueError(
            f"{who}: mass of atom {wrong[0]} is {masses[wrong[0]]}; the mass metric needs positive masses "
            "(leave massless sites out of the map)."
        )
    return masses
