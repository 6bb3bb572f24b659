"""What a linear map keeps and what it loses: null space, row space, and the fluctuations of a trajectory."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import coo_array

from ..typing import Array, AtomArray, AtomScalars, AtomVectors, Float, Int
from ._blocks import matrix_of
from ._null_space import null_space_of
from .base import AbstractFibre, AbstractLinearMap
from .pseudoinverse import metric_masses
from .rotations import superposition

#: Which global motion is taken out of a trajectory before its fluctuations are counted.
Removed = Literal["nothing", "translation", "translation and rotation"]


class Split(NamedTuple):
    """A displacement or velocity as ``kept`` + ``lost``, each (atoms, ...), orthogonal in the metric of the masses."""

    kept: AtomArray
    lost: AtomArray


def split(mapping: AbstractLinearMap, displacement: AtomArray, masses: AtomScalars | None = None) -> Split:
    """Row-space and null-space parts of a displacement or velocity.

    ``lost`` does not move the beads; ``kept`` is the smallest displacement that moves them as ``displacement`` does.
    Σ m |v|² (twice a kinetic energy for velocities) is the sum of those of the parts.

    Arguments:
        mapping: any linear map, of any rank.
        displacement: (atoms, ...) displacement (nm) or velocity (nm/ps).
        masses: (atoms,) masses of the metric, amu; unit masses when None.
    """
    kept = _fibre(mapping, metric_masses(masses, mapping, "split")).lift(mapping(displacement))
    return Split(kept, displacement - kept)


def null_space(mapping: AbstractLinearMap, masses: AtomScalars | None = None) -> coo_array:
    """Basis Z of the null space of W, orthonormal in the metric of the masses: W Z = 0, Zᵀ m Z = 1.

    A column touches one atom in no bead, or atoms of one bead, or those of one group of overlapping beads. Beads that
    share no atom get contrasts of halves of their atoms, of quarters, and so on, a·log₂ a entries for a atoms. The
    null space of the three-dimensional map is this basis in x, in y and in z.

    Arguments:
        mapping: any linear map.
        masses: (atoms,) positive masses, amu; unit masses when None.

    Returns:
        Sparse (atoms, atoms − rank/3): atoms in no bead, then contrasts within beads, then groups of beads.
    """
    metric = metric_masses(masses, mapping, "null_space", everywhere=True)
    return null_space_of(matrix_of(mapping), metric)


# -- fluctuations -----------------------------------------------------------------------------------------------------


class FluctuationState(eqx.Module):
    """Running sums over the frames seen so far; the memory is a few numbers per atom."""

    frames: Int[Array, ""]
    reference: Float[Array, "atoms 3"]
    mean: Float[Array, "atoms 3"]
    spread: Float[Array, " atoms"]
    mean_lost: Float[Array, "atoms 3"]
    spread_lost: Float[Array, " atoms"]


@dataclass(frozen=True)
class FluctuationLoss:
    """Mass-weighted fluctuations of a trajectory, and what of them the map loses, in amu nm².

    With δx the deviation of a frame from the mean and P its null-space projector (mass metric), an atom's fluctuation
    is m⟨|δx|²⟩ and its loss m⟨|Pδx|²⟩, the mean square error of the best linear reconstruction from the beads.
    Summed over all atoms loss ≤ fluctuation; for one atom the loss may be larger, when it moves less than
    the atoms it shares a bead with. A bead has the sum over its atoms, atoms of several beads in equal parts.

    Attributes:
        frames: number of frames.
        atom_fluctuation, atom_loss: (atoms,).
        bead_fluctuation, bead_loss: (beads,).
        removed: which global motion was taken out.
    """

    frames: int
    atom_fluctuation: np.ndarray
    atom_loss: np.ndarray
    bead_fluctuation: np.ndarray
    bead_loss: np.ndarray
    removed: str

    @property
    def fluctuation(self) -> float:
        """Σ m⟨|δx|²⟩ over all atoms, amu nm²."""
        return float(self.atom_fluctuation.sum())

    @property
    def loss(self) -> float:
        """Σ m⟨|Pδx|²⟩ over all atoms, amu nm²."""
        return float(self.atom_loss.sum())

    @property
    def fraction(self) -> float:
        """Fraction of the mass-weighted fluctuation that the map loses, in [0, 1]."""
        return float(_ratio(self.loss, self.fluctuation))

    @property
    def atom_fraction(self) -> np.ndarray:
        """(atoms,) loss over fluctuation of each atom; zero for an atom that does not move."""
        return _ratio(self.atom_loss, self.atom_fluctuation)

    @property
    def bead_fraction(self) -> np.ndarray:
        """(beads,) loss over fluctuation of each bead's atoms."""
        return _ratio(self.bead_loss, self.bead_fluctuation)


class FluctuationAnalysis(eqx.Module):
    """Streams over the frames of a trajectory of any length and says which fluctuations the map loses.

    ``state = analysis.init(reference)``, then ``state = analysis.update(state, frames)`` for every chunk of frames,
    then ``analysis.result(state)``. The result does not depend on how frames are cut into chunks, but for rounding.
    Chunks of equal length share one compilation.

    Source: pairwise update of means and sums of squares, Chan, Golub & LeVeque, Am. Stat. 37, 242 (1983).
    """

    _fibre: AbstractFibre
    masses: Array | np.ndarray
    removed: Removed = eqx.field(static=True)

    @staticmethod
    def of(mapping: AbstractLinearMap, masses: AtomScalars, removed: Removed = "nothing") -> "FluctuationAnalysis":
        """Analysis for a map.

        Arguments:
            mapping: any linear map.
            masses: (atoms,) masses, amu.
            removed: "nothing", "translation" (the centre of mass is held) or "translation and rotation" (every frame
                is superposed on the reference, mass-weighted) before fluctuations are counted.

        Raises:
            ValueError: ``removed`` is none of the three, or masses are not positive.
        """
        if removed not in ("nothing", "translation", "translation and rotation"):
            raise ValueError(
                f'FluctuationAnalysis: removed is "{removed}"; give "nothing", "translation" or '
                '"translation and rotation".'
            )
        metric = metric_masses(masses, mapping, "FluctuationAnalysis")
        return FluctuationAnalysis(_fibre=_fibre(mapping, metric), masses=metric, removed=removed)

    def init(self, reference: AtomVectors) -> FluctuationState:
        """Empty sums, with the configuration (atoms, 3), nm, that frames are superposed on, e.g. the first frame."""
        reference = jnp.asarray(reference)
        atoms = jnp.zeros(reference.shape[0], reference.dtype)
        zero = jnp.zeros_like(reference)
        return FluctuationState(jnp.asarray(0), reference, zero, atoms, zero, atoms)

    @eqx.filter_jit
    def update(self, state: FluctuationState, frames: Float[Array | np.ndarray, "frames atoms 3"]) -> FluctuationState:
        """The sums with the ``frames`` (frames, atoms, 3), nm, added."""
        frames = jnp.asarray(frames).astype(state.reference.dtype)
        # Deviations from the reference keep the digits that positions far from the origin would cost.
        moved = jax.vmap(self._aligned, in_axes=(0, None))(frames, state.reference) - state.reference
        lost = jax.vmap(self._fibre.tangent)(moved)
        mean, spread = _merge(state.frames, state.mean, state.spread, moved)
        mean_lost, spread_lost = _merge(state.frames, state.mean_lost, state.spread_lost, lost)
        count = state.frames + frames.shape[0]
        return FluctuationState(count, state.reference, mean, spread, mean_lost, spread_lost)

    def result(self, state: FluctuationState) -> FluctuationLoss:
        """Fluctuations and losses of the frames seen.

        Raises:
            ValueError: fewer than two frames, which have no fluctuation.
        """
        frames = int(state.frames)
        if frames < 2:
            raise ValueError(f"FluctuationAnalysis: {frames} frames have no fluctuation; give at least two.")
        masses = np.asarray(self.masses, dtype=np.float64)
        total = masses * np.asarray(state.spread, dtype=np.float64) / (frames - 1)
        lost = masses * np.asarray(state.spread_lost, dtype=np.float64) / (frames - 1)
        matrix = matrix_of(self._fibre.mapping)
        owners = coo_array((np.ones(matrix.nnz), matrix.coords), shape=matrix.shape).tocsr()
        parts = 1.0 / np.maximum(owners.sum(axis=0), 1.0)
        return FluctuationLoss(frames, total, lost, owners @ (parts * total), owners @ (parts * lost), self.removed)

    def _aligned(self, x, reference):
        masses = jnp.asarray(self.masses).astype(x.dtype)
        if self.removed == "nothing":
            return x
        if self.removed == "translation":
            share = (masses / jnp.sum(masses))[:, None]
            return x - jnp.sum(share * (x - reference), axis=0)
        return superposition(x, reference, masses)


def fluctuation_loss(
    mapping: AbstractLinearMap,
    masses: AtomScalars,
    trajectory: Iterable[Float[Array | np.ndarray, "frames atoms 3"]],
    removed: Removed = "nothing",
) -> FluctuationLoss:
    """Fraction of the mass-weighted fluctuation of a trajectory that the map loses.

    Arguments:
        mapping: any linear map.
        masses: (atoms,) masses, amu.
        trajectory: chunks of frames, each (frames, atoms, 3) in nm; read once, one at a time. A whole trajectory in
            memory is ``[x]``. The first frame is the reference of superposition.
        removed: global motion taken out first, see `FluctuationAnalysis.of`.

    Raises:
        ValueError: fewer than two frames.
    """
    analysis = FluctuationAnalysis.of(mapping, masses, removed)
    state = None
    for chunk in trajectory:
        if len(chunk) == 0:
            continue
        state = analysis.update(analysis.init(chunk[0]) if state is None else state, chunk)
    if state is None:
        raise ValueError("fluctuation_loss: the trajectory has no frames.")
    return analysis.result(state)


def _fibre(mapping: AbstractLinearMap, masses: np.ndarray) -> AbstractFibre:
    """The fibre; massless sites in no bead, which it leaves alone, get a mass that can be divided by."""
    return mapping.fibre(np.where(masses > 0, masses, 1.0))


def _merge(count, mean, spread, new):
    """Mean (atoms, 3) and sum of squares (atoms,) of ``count`` old samples and the ``new`` (samples, atoms, 3)."""
    here = jnp.mean(new, axis=0)
    within = jnp.sum((new - here) ** 2, axis=(0, 2))
    size = new.shape[0]
    old, fresh = count.astype(new.dtype), jnp.asarray(size, new.dtype)
    share = fresh / (old + fresh)
    step = here - mean
    return mean + share * step, spread + within + old * share * jnp.sum(step * step, axis=1)


def _ratio(part, whole):
    whole = np.asarray(whole, dtype=np.float64)
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 0.0)
