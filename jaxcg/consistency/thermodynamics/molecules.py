"""Molecules that a change of the box moves as wholes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...space import BondWalk, Box, make_whole
from ...typing import Array, AtomVectors


class Molecules(eqx.Module):
    """Which atoms make a molecule, for the molecular virial: strains move centres of mass, not atoms in a molecule.

    The molecular virial needs no forces inside molecules, so it is the one to take for rigid molecules, whose
    constraint forces are not part of the energy. On average over an ensemble of flexible molecules it gives the
    same pressure as the atomic one.

    Arguments:
        bonds: (bonds, 2) integer pairs of atoms.
        masses: (atoms,) amu.

    Raises:
        ValueError: a bond to an atom that is not there, or a mass that is not positive.
    """

    walk: BondWalk
    first: np.ndarray
    shares: Array
    masses: Array

    def __init__(self, bonds, masses):
        masses = np.asarray(masses, np.float64)
        if masses.ndim != 1 or not (masses > 0).all():
            raise ValueError("Molecules: give one positive mass for each atom.")
        self.walk = BondWalk.of(bonds, len(masses))
        self.first = np.unique(self.walk.molecule, return_index=True)[1].astype(np.int32)
        totals = np.bincount(self.walk.molecule, masses, self.walk.n_molecules)
        self.shares = jnp.asarray(masses / totals[self.walk.molecule])
        self.masses = jnp.asarray(totals)

    @property
    def count(self) -> int:
        """Number of molecules; an atom without bonds is one."""
        return self.walk.n_molecules

    def total(self, values: Array) -> Array:
        """Sums over the atoms of each molecule: (atoms, ...) → (molecules, ...)."""
        return jax.ops.segment_sum(values, self.walk.molecule, self.count)

    def centers(self, x: AtomVectors, box: Box) -> Array:
        """Centre of mass of the molecule of each atom, (atoms, 3) nm, on the side of the box where the atom is."""
        return jnp.asarray(x) - self.offsets(x, box)

    def offsets(self, x: AtomVectors, box: Box) -> Array:
        """Place of each atom relative to the centre of mass of its molecule made whole, (atoms, 3) nm."""
        whole = jnp.asarray(make_whole(jnp.asarray(x), jnp.asarray(box), self.walk))
        # From the first atom of each molecule, so that large coordinates keep their digits.
        local = whole - whole[self.first][self.walk.molecule]
        return local - self.total(self.shares.astype(local.dtype)[:, None] * local)[self.walk.molecule]

    def velocities(self, velocities: AtomVectors) -> Array:
        """Velocities of the centres of mass, (molecules, 3) nm/ps."""
        velocities = jnp.asarray(velocities)
        return self.total(self.shares.astype(velocities.dtype)[:, None] * velocities)
