"""Energies that are sums of pair potentials."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..neighbors import NeighborTable, partner_table
from ..typing import Array, AtomVectors, Bool, Float, Int, Scalar
from ._analytic import AbstractAnalyticEnergy
from ._arrays import leaf
from ._geometry import as_indices
from ._lists import DENSE_ATOMS, UNLISTED_ATOMS, box_leaf, complete_or_nan, first_table, renewed, stale
from ._pairs import AllPairs, pair_gradient
from .nonbonded import NEAREST
from .pair_potentials import AbstractPairPotential


class TailCorrection(NamedTuple):
    """What the truncation of pair potentials removes in a homogeneous fluid.

    Fields:
        energy: of all atoms, to be added to the mean energy, kJ/mol.
        pressure: to be added to the virial pressure, kJ/mol/nm³.
    """

    energy: Scalar
    pressure: Scalar


class PairEnergy(AbstractAnalyticEnergy):
    """U = Σ u(r_ij) over all pairs of atoms but the excluded ones, with a potential for every pair of types.

    For few atoms all pairs are visited, otherwise those of a neighbour table of radius ``cutoff + skin``; the energy is
    exact while no atom has moved by more than ``skin / 2`` since the table was made (see `stale`), and is NaN when the
    table has overflowed. `rebuild` makes it anew, with more room if need be. Distances below 0.002 nm count as that.

    Arguments:
        potentials: one potential for all pairs, or a mapping from pairs of types (a, b), in either order, to
            potentials. Pairs of types that are not in the mapping do not interact.
        types: (atoms,) types, from 0; or the number of atoms, when all are of type 0.
        box: (3, 3) reduced box vectors, nm, or None. Nearest images interact.
        excluded: (pairs, 2) atoms that do not interact.
        skin: nm.
        positions: (atoms, 3) nm, from which the first neighbour table is made. Without them all pairs are visited until
            `rebuild`, or, for more than 3000 atoms, the energy is NaN.
        room: rows of the neighbour table, in all and of one tile; chosen from the positions when None.

    Raises:
        ValueError: no potentials, types or indices out of range, or a cutoff beyond half the box.
    """

    potentials: tuple[AbstractPairPotential, ...]
    types: Int[Array, " atoms"]
    #: (types, types) which potential acts between two types; −1 for none.
    which: Int[Array, "types types"]
    box: Float[Array, "3 3"] | None
    pairs: AllPairs | NeighborTable
    excluded: Int[Array, "width atoms"] | None
    #: Whether one potential acts between all.
    uniform: bool = eqx.field(static=True)
    skin: float = eqx.field(static=True)

    def __init__(
        self,
        potentials: AbstractPairPotential | Mapping[tuple[int, int], AbstractPairPotential],
        types,
        *,
        box=None,
        excluded=(),
        skin: float = 0.1,
        positions=None,
        room: tuple[int, int] | None = None,
    ):
        types = np.zeros(int(types), np.int32) if np.ndim(types) == 0 else np.asarray(types, np.int32)
        n_atoms, n_types = len(types), int(types.max(initial=0)) + 1
        if types.min(initial=0) < 0:
            raise ValueError("PairEnergy: types are numbered from 0.")
        if n_types > 32:
            raise ValueError(f"PairEnergy: {n_types} types are too many; it takes 32.")
        self.uniform = isinstance(potentials, AbstractPairPotential)
        self.potentials, which = _by_types(potentials, n_types)
        self.types, self.which = leaf(types), leaf(which)
        self.box = None if box is None else box_leaf(box, self.cutoff, "PairEnergy")
        self.skin = float(skin)
        pairs = as_indices(excluded, 2, n_atoms, "PairEnergy")
        self.excluded = leaf(partner_table(pairs, n_atoms)) if n_atoms > DENSE_ATOMS else None
        if self.excluded is None or (positions is None and room is None and n_atoms <= UNLISTED_ATOMS):
            self.pairs = AllPairs(n_atoms, pairs)
        else:
            self.pairs = first_table(n_atoms, self._radius, positions, room, self.excluded, box, self._dtype)

    @property
    def cutoff(self) -> float:
        """The longest cutoff of the potentials, nm."""
        return max(potential.cutoff for potential in self.potentials)

    @property
    def _radius(self) -> float:
        return self.cutoff + self.skin

    @property
    def _dtype(self):
        return jnp.result_type(float) if self.box is None else self.box.dtype

    def rebuild(self, x: AtomVectors) -> "PairEnergy":
        """The same energy with its neighbour table made anew around ``x``.

        Shapes stay, unless ``x`` is concrete and there is no table yet, or it is too small for ``x``: then it gets more
        room.
        """
        if self.excluded is None:
            return self
        pairs = renewed(self.pairs, x, self._radius, self.excluded, self.box, self._dtype)
        return self if pairs is self.pairs else eqx.tree_at(lambda e: e.pairs, self, pairs)

    def stale(self, x: AtomVectors) -> Bool[Array, ""]:
        """Whether an atom has moved by more than half the skin, so that `rebuild` is due."""
        return stale(self.pairs, x, self.skin)

    def with_box(self, box: Array) -> "PairEnergy":
        """The same energy in another periodic box; one without a box returns itself.

        Raises:
            ValueError: the cutoff is more than half the box.
        """
        if self.box is None:
            return self
        return eqx.tree_at(lambda e: e.box, self, box_leaf(box, self.cutoff, "PairEnergy"))

    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and gradient (kJ/mol/nm) at ``x``."""
        x = jnp.asarray(x)
        box = None if self.box is None else self.box.astype(x.dtype)
        # Bit b of an atom's k-th word: whether potential k acts between it and atoms of type b.
        bits = jnp.uint32(1) << jnp.arange(self.which.shape[0], dtype=jnp.uint32)
        words = [
            jnp.sum((self.which == k) * bits, axis=1, dtype=jnp.uint32)[self.types]
            for k in range(0 if self.uniform else len(self.potentials))
        ]

        def kernel(r2, source, target, present):
            within = present & ~(r2 >= self.cutoff**2)  # NaN stays in sight
            r = jnp.sqrt(jnp.where(within, jnp.maximum(r2, NEAREST), self.cutoff**2))
            energy, slope = jnp.zeros_like(r), jnp.zeros_like(r)
            for index, potential in enumerate(self.potentials):
                here = within if self.uniform else within & ((source[0] & target[index + 1]) != 0)
                u, by_r = potential(r)
                energy, slope = jnp.where(here, u, energy), jnp.where(here, by_r, slope)
            return energy, slope / r

        features = (bits[self.types], *words) if words else ()
        energy, gradient = pair_gradient(kernel, x, features, self.pairs, box)
        energy, gradient = complete_or_nan(self.pairs, 0.5 * jnp.sum(energy), gradient)
        return energy, gradient

    def tail_correction(self, box: Array | None = None) -> TailCorrection:
        """What the cutoffs remove, with g(r) = 1 beyond them; excluded pairs are counted, being few.

        U = 2π/V Σ_ab N_a N_b ∫ r² (u_whole − u) dr, P = −(2π/3)/V² Σ_ab N_a N_b ∫ r³ d(u_whole − u)/dr dr: the
        pressure belongs to the virial of the truncated sum, which misses the step of u at a sharp cutoff. It is not
        −dU/dV unless the potential is switched.

        Arguments:
            box: (3, 3) box vectors, nm; its own when None.

        Raises:
            ValueError: there is no box, or a potential is shifted.

        Source: Allen & Tildesley, Computer Simulation of Liquids, section 2.8.
        """
        box = self.box if box is None else box
        if box is None:
            raise ValueError("PairEnergy: a tail correction needs a periodic box.")
        dtype = box.dtype
        counts = jnp.sum(self.types[:, None] == jnp.arange(self.which.shape[0]), axis=0).astype(dtype)
        energy = virial = jnp.zeros((), dtype)
        for index, potential in enumerate(self.potentials):
            pairs = jnp.sum((self.which == index) * counts[:, None] * counts)
            by_energy, by_virial = potential.tail()
            energy, virial = energy + pairs * by_energy.astype(dtype), virial + pairs * by_virial.astype(dtype)
        volume = box[0, 0] * box[1, 1] * box[2, 2]
        return TailCorrection(2.0 * math.pi / volume * energy, -2.0 * math.pi / (3.0 * volume**2) * virial)


def _by_types(potentials, n_types: int) -> tuple[tuple[AbstractPairPotential, ...], np.ndarray]:
    if isinstance(potentials, AbstractPairPotential):
        return (potentials,), np.zeros((n_types, n_types), np.int32)
    if not potentials:
        raise ValueError("PairEnergy: give at least one potential.")
    which = np.full((n_types, n_types), -1, np.int32)
    for index, (a, b) in enumerate(potentials):
        if not (0 <= a < n_types and 0 <= b < n_types):
            raise ValueError(f"PairEnergy: there are no atoms of types {a} and {b}; types run from 0 to {n_types - 1}.")
        if which[a, b] >= 0:
            raise ValueError(f"PairEnergy: two potentials for types {a} and {b}; give the pair once.")
        which[a, b] = which[b, a] = index
    return tuple(potentials.values()), which
