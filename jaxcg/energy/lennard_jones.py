"""Lennard-Jones interactions tabulated by pair of atom types."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..space import minimum_image
from ..typing import Array, AtomVectors, Float, Int, Scalar
from ._analytic import AbstractAnalyticEnergy
from ._arrays import leaf
from ._geometry import as_indices, dot
from ._pairs import AllPairs, lookup, row_sums
from .nonbonded import NEAREST, switching


class TypedLennardJones(AbstractAnalyticEnergy):
    """U = Σ A(t_i, t_j) / r¹² − B(t_i, t_j) / r⁶ over all pairs but the excluded ones.

    Used for what pair-specific parameters (CHARMM's NBFIX) add to the combination rules of `Nonbonded`. All pairs are
    visited, with a cutoff too.

    Arguments:
        types: (atoms,) atom types.
        repulsion: (types, types) symmetric A, kJ/mol nm¹².
        attraction: (types, types) symmetric B, kJ/mol nm⁶.
        excluded: (pairs, 2) atom indices.
        cutoff, switch: nm or None, as in `Nonbonded`.
        box: (3, 3) reduced box vectors, nm, or None.

    Raises:
        ValueError: an index is out of range.
    """

    types: Int[Array, " atoms"]
    repulsion: Float[Array, "types types"]
    attraction: Float[Array, "types types"]
    box: Float[Array, "3 3"] | None
    pairs: AllPairs
    cutoff: float | None = eqx.field(static=True)
    switch: float | None = eqx.field(static=True)

    def __init__(self, types, repulsion, attraction, excluded=(), *, cutoff=None, switch=None, box=None):
        types = np.asarray(types, dtype=np.int32)
        if types.size and types.max() >= len(repulsion):
            raise ValueError(f"TypedLennardJones: types must be between 0 and {len(repulsion) - 1}.")
        self.types = leaf(types)
        self.repulsion, self.attraction = leaf(repulsion), leaf(attraction)
        self.box = None if box is None else leaf(box)
        self.pairs = AllPairs(len(types), as_indices(excluded, 2, len(types), "TypedLennardJones"))
        self.cutoff, self.switch = cutoff, switch

    def with_box(self, box: Array) -> "TypedLennardJones":
        """The same energy in another periodic box; one without a box returns itself."""
        return self if self.box is None else eqx.tree_at(lambda e: e.box, self, jnp.asarray(box))

    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and gradient (kJ/mol/nm) at ``x``."""
        x = jnp.asarray(x)
        box = None if self.box is None else self.box.astype(x.dtype)
        repulsion, attraction = self.repulsion.astype(x.dtype), self.attraction.astype(x.dtype)

        def kernel(source, target, present):
            d = (target[0] - source[0], target[1] - source[1], target[2] - source[2])
            if box is not None:
                d = minimum_image(d, box)
            r2 = dot(d, d)
            if self.cutoff is not None:
                present = present & ~(r2 >= self.cutoff**2)  # NaN stays in sight
            r2 = jnp.where(present, jnp.maximum(r2, NEAREST), 1.0)
            inverse = jax.lax.rsqrt(r2)
            inverse2 = inverse * inverse
            inverse6 = inverse2 * inverse2 * inverse2
            a = lookup(repulsion, target[3], source[3]) * inverse6 * inverse6
            b = lookup(attraction, target[3], source[3]) * inverse6
            energy, slope = a - b, 6.0 * b - 12.0 * a
            if self.switch is not None and self.cutoff is not None:
                factor, by_r = switching(r2 * inverse, self.switch, self.cutoff)
                energy, slope = energy * factor, slope * factor + by_r * r2 * inverse * energy
            slope = jnp.where(present, slope * inverse2, 0.0)
            return jnp.where(present, energy, 0.0), slope * d[0], slope * d[1], slope * d[2]

        energy, gx, gy, gz = row_sums(kernel, (x[:, 0], x[:, 1], x[:, 2], self.types), self.pairs)
        return 0.5 * jnp.sum(energy), jnp.stack([gx, gy, gz], axis=-1)
