"""Harmonic bonds and angles."""

import jax.numpy as jnp

from ..typing import Array, AtomVectors, Float, Int, Scalar
from ._analytic import AbstractAnalyticEnergy
from ._arrays import leaf
from ._geometry import add, angle, as_indices, corners, dot, scale, subtract
from ._incidence import Incidence


class HarmonicBond(AbstractAnalyticEnergy):
    """Harmonic bonds, U = Σ ½ k (r − r₀)².

    Arguments:
        atoms: (bonds, 2) atom indices.
        length: (bonds,) r₀, nm.
        stiffness: (bonds,) k, kJ/mol/nm².
        n_atoms: number of atoms of the molecule.

    Raises:
        ValueError: an index is out of range.
    """

    atoms: Int[Array, "bonds 2"]
    length: Float[Array, " bonds"]
    stiffness: Float[Array, " bonds"]
    incidence: Incidence

    def __init__(self, atoms, length, stiffness, *, n_atoms: int):
        table = as_indices(atoms, 2, n_atoms, "HarmonicBond")
        self.atoms = leaf(table)
        self.length = leaf(length)
        self.stiffness = leaf(stiffness)
        self.incidence = Incidence(table, n_atoms)

    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and gradient (kJ/mol/nm) at ``x``."""
        length, stiffness = self.length.astype(x.dtype), self.stiffness.astype(x.dtype)
        start, end = corners(x, self.atoms)
        d = subtract(start, end)
        # The floor keeps two atoms on one spot finite; their force, which has no direction, is zero.
        r = jnp.sqrt(jnp.maximum(dot(d, d), 1e-14))
        stretch = r - length
        force = scale(stiffness * stretch / r, d)
        energy = 0.5 * jnp.sum(stiffness * stretch**2)
        return energy, self.incidence.total((force, (-force[0], -force[1], -force[2])))


class HarmonicAngle(AbstractAnalyticEnergy):
    """Harmonic angles, U = Σ ½ k (θ − θ₀)².

    Arguments:
        atoms: (angles, 3) atom indices, the vertex in the middle.
        angle: (angles,) θ₀, rad.
        stiffness: (angles,) k, kJ/mol/rad².
        n_atoms: number of atoms of the molecule.

    Raises:
        ValueError: an index is out of range.
    """

    atoms: Int[Array, "angles 3"]
    angle: Float[Array, " angles"]
    stiffness: Float[Array, " angles"]
    incidence: Incidence

    def __init__(self, atoms, angle, stiffness, *, n_atoms: int):
        table = as_indices(atoms, 3, n_atoms, "HarmonicAngle")
        self.atoms = leaf(table)
        self.angle = leaf(angle)
        self.stiffness = leaf(stiffness)
        self.incidence = Incidence(table, n_atoms)

    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and gradient (kJ/mol/nm) at ``x``."""
        reference, stiffness = self.angle.astype(x.dtype), self.stiffness.astype(x.dtype)
        start, vertex, end = corners(x, self.atoms)
        theta, first, last = angle(subtract(start, vertex), subtract(end, vertex))
        bend = theta - reference
        first, last = scale(stiffness * bend, first), scale(stiffness * bend, last)
        middle = add(first, last)
        energy = 0.5 * jnp.sum(stiffness * bend**2)
        return energy, self.incidence.total((first, (-middle[0], -middle[1], -middle[2]), last))
