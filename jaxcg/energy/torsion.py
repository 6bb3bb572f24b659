"""Periodic torsions, proper and improper."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..typing import Array, AtomVectors, Float, Int, Scalar
from ._analytic import AbstractAnalyticEnergy
from ._arrays import leaf
from ._geometry import as_indices, corners, dihedral, dihedral_angle, scale
from ._incidence import Incidence


class PeriodicTorsion(AbstractAnalyticEnergy):
    """Periodic torsions, U = Σ k (1 + cos(n φ − δ)); φ is the dihedral angle, zero for cis.

    Terms that share their four atoms are evaluated together from one cos φ and sin φ, by the recurrence of
    multiple angles; no arc function is evaluated. Impropers are the same term on other atoms.

    Arguments:
        atoms: (torsions, 4) atom indices.
        periodicity: (torsions,) n, non-negative integers.
        phase: (torsions,) δ, rad.
        stiffness: (torsions,) k, kJ/mol.
        n_atoms: number of atoms of the molecule.

    Raises:
        ValueError: an index is out of range or a periodicity is negative.
    """

    atoms: Int[Array, "torsions 4"]
    periodicity: Int[Array, " torsions"]
    phase: Float[Array, " torsions"]
    stiffness: Float[Array, " torsions"]
    quartets: Int[Array, "quartets 4"]
    members: Int[Array, "periodicities quartets"]
    incidence: Incidence

    def __init__(self, atoms, periodicity, phase, stiffness, *, n_atoms: int):
        table = as_indices(atoms, 4, n_atoms, "PeriodicTorsion")
        multiples = np.asarray(periodicity, dtype=np.int32)
        if multiples.min(initial=0) < 0:
            raise ValueError("PeriodicTorsion: periodicities must not be negative.")
        quartets, members = _merge(table, multiples)
        self.atoms = leaf(table)
        self.periodicity = leaf(multiples)
        self.phase = leaf(phase)
        self.stiffness = leaf(stiffness)
        self.quartets = leaf(quartets)
        self.members = leaf(members)
        self.incidence = Incidence(quartets, n_atoms)

    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and gradient (kJ/mol/nm) at ``x``."""
        phase, stiffness = self.phase.astype(x.dtype), self.stiffness.astype(x.dtype)
        zero = jnp.zeros((1,), x.dtype)
        even = jnp.concatenate([stiffness * jnp.cos(phase), zero])[self.members]
        odd = jnp.concatenate([stiffness * jnp.sin(phase), zero])[self.members]
        cosine, sine, gradients = dihedral(*corners(x, self.quartets))
        cosine_n, sine_n = jnp.ones_like(cosine), jnp.zeros_like(sine)
        energy, slope = even[0], jnp.zeros_like(cosine)
        for n in range(1, self.members.shape[0]):
            cosine_n, sine_n = cosine_n * cosine - sine_n * sine, sine_n * cosine + cosine_n * sine
            energy = energy + (even[n] * cosine_n + odd[n] * sine_n)
            slope = slope + n * (odd[n] * cosine_n - even[n] * sine_n)
        total = jnp.sum(stiffness) + jnp.sum(energy)
        return total, self.incidence.total([scale(slope, g) for g in gradients])


class HarmonicTorsion(AbstractAnalyticEnergy):
    """Harmonic torsions, U = Σ ½ k (φ − φ₀)², such as CHARMM's impropers.

    Arguments:
        atoms: (torsions, 4) atom indices.
        angle: (torsions,) φ₀, rad.
        stiffness: (torsions,) k, kJ/mol/rad².
        wrapped: whether φ − φ₀ is taken the short way round; if not, φ lies in (−π, π] and the difference is taken
            as it is.
        n_atoms: number of atoms of the molecule.

    Raises:
        ValueError: an index is out of range.
    """

    atoms: Int[Array, "torsions 4"]
    angle: Float[Array, " torsions"]
    stiffness: Float[Array, " torsions"]
    incidence: Incidence
    wrapped: bool = eqx.field(static=True)

    def __init__(self, atoms, angle, stiffness, *, wrapped: bool = True, n_atoms: int):
        table = as_indices(atoms, 4, n_atoms, "HarmonicTorsion")
        self.atoms = leaf(table)
        self.angle = leaf(angle)
        self.stiffness = leaf(stiffness)
        self.incidence = Incidence(table, n_atoms)
        self.wrapped = wrapped

    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and gradient (kJ/mol/nm) at ``x``."""
        reference, stiffness = self.angle.astype(x.dtype), self.stiffness.astype(x.dtype)
        phi, gradients = dihedral_angle(*corners(x, self.atoms))
        turn = phi - reference
        if self.wrapped:
            turn = turn - 2 * math.pi * jnp.round(turn / (2 * math.pi))
        energy = 0.5 * jnp.sum(stiffness * turn**2)
        return energy, self.incidence.total([scale(stiffness * turn, g) for g in gradients])


def _merge(atoms: np.ndarray, periodicity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct atom quartets and, per periodicity (rows 0..max), the term of each (padding: one past the last).

    A quartet that has one periodicity twice appears twice.
    """
    # A dihedral read backwards is the same angle.
    forward = (atoms[:, 0] < atoms[:, 3]) | ((atoms[:, 0] == atoms[:, 3]) & (atoms[:, 1] <= atoms[:, 2]))
    canonical = np.where(forward[:, None], atoms, atoms[:, ::-1])
    copies: dict[tuple, int] = {}
    keys: dict[tuple, int] = {}
    column = np.zeros(len(atoms), dtype=np.int32)
    for t, (row, n) in enumerate(zip(map(tuple, canonical.tolist()), periodicity.tolist())):
        copy = copies.get((row, n), 0)
        copies[row, n] = copy + 1
        column[t] = keys.setdefault((row, copy), len(keys))
    quartets = np.array([row for row, _ in keys], dtype=np.int32).reshape(-1, 4)
    members = np.full((int(periodicity.max(initial=0)) + 1, len(quartets)), len(atoms), dtype=np.int32)
    members[periodicity, column] = np.arange(len(atoms))
    return quartets, members
