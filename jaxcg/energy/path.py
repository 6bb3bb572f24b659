"""Paths of energies λ → U_λ from a softened one (λ → 0) to the true one (λ = 1), for tempering.

A path is a function of an energy and of λ. λ is an array and so are all parameters it changes: the energies along a
path share one compiled program, and at λ = 1 they equal the true energy to the last bit.
"""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp

from ..typing import Array, AtomScalars, AtomVectors, Bool, Coordinates, Float, Scalar
from ._arrays import leaf
from .base import AbstractEnergy, SumEnergy
from .bonded import HarmonicAngle
from .born import GeneralizedBorn
from .cmap import CMAPTorsion
from .lennard_jones import TypedLennardJones
from .nonbonded import Nonbonded, safe_sqrt
from .torsion import PeriodicTorsion


class AbstractEnergyPath(eqx.Module):
    """λ → U_λ with U_1 the energy itself."""

    @abstractmethod
    def __call__(self, energy: AbstractEnergy, coupling: Scalar | float) -> AbstractEnergy:
        """U_λ of ``energy`` at λ = ``coupling``, between 0 and 1."""


class ScaledEnergy(AbstractEnergy):
    """A factor times an energy.

    Arguments:
        energy: any energy.
        factor: scalar.
    """

    energy: AbstractEnergy
    factor: Float[Array, ""]

    def __call__(self, x: Coordinates) -> Scalar:
        """Factor times energy at ``x``, kJ/mol."""
        value = self.energy(x)
        return self.factor.astype(value.dtype) * value

    def rebuild(self, x: AtomVectors) -> "ScaledEnergy":
        """The same with pair lists made anew around ``x``."""
        return ScaledEnergy(self.energy.rebuild(x), self.factor)

    def stale(self, x: AtomVectors) -> Bool[Array, ""]:
        """Whether the pair list is due for a `rebuild`."""
        return self.energy.stale(x)

    def with_box(self, box: Array) -> "ScaledEnergy":
        """The same in another periodic box."""
        return ScaledEnergy(self.energy.with_box(box), self.factor)


class ScaledTerms(AbstractEnergyPath):
    """U_λ = Σ_scaled λ U_term + Σ_others U_term.

    With torsions and all that is non-bonded scaled, this is replica exchange with solute tempering of a molecule that
    is all solute: barriers shrink as at temperature T/λ, while bonds and angles stay at T, so that fewer rungs do.

    Arguments:
        kinds: classes of the terms to scale.

    Source: Wang, Friesner & Berne, J. Phys. Chem. B 115, 9431 (2011).
    """

    kinds: tuple[type, ...] = eqx.field(
        static=True, default=(PeriodicTorsion, CMAPTorsion, Nonbonded, TypedLennardJones, GeneralizedBorn)
    )

    def __call__(self, energy: AbstractEnergy, coupling: Scalar | float) -> SumEnergy:
        """U_λ of ``energy`` at λ = ``coupling``."""
        factor = jnp.asarray(coupling)
        return SumEnergy(
            tuple(ScaledEnergy(term, factor) if isinstance(term, self.kinds) else term for term in energy.terms())
        )


class SoluteTempering(AbstractEnergyPath):
    """Weakens and softens what the atoms of a region feel; the rest of the molecule keeps its energy.

    In the region charges scale by √λ (of `GeneralizedBorn` too) and well depths by λ, so its own non-bonded energy
    scales by λ and that with the rest by √λ. Periodic torsions belong to the bond they turn about: those with both
    atoms of it in the region scale by λ, with one by √λ. Pairs are evaluated at √(r² + s (1 − λ)(n/2)), n the number
    of their atoms that are in the region, so that atoms may pass through each other. Angles with their vertex in the
    region scale by λ: on a fibre the barriers between rotamers are mostly strain of angles, because the centres of the
    beads stay where they are. (Put a `StereoFence` around it.) Bonds, harmonic torsions, correction maps and
    `TypedLennardJones` stay.

    Arguments:
        region: (atoms,) 1 for the atoms of the region, 0 for the rest. An array: another region of the same molecule
            does not recompile.
        separation: s, nm²; zero for none. At 0.1 and small λ atoms of the region pass through all others.
        angles: whether angles are weakened.

    Source: scaling as in Wang, Friesner & Berne, J. Phys. Chem. B 115, 9431 (2011); shifted separations as in
    Zacharias, Straatsma & McCammon, J. Chem. Phys. 100, 9025 (1994).
    """

    region: Float[Array, " atoms"]
    separation: Float[Array, ""]
    angles: bool = eqx.field(static=True)

    def __init__(self, region: AtomScalars, *, separation: Scalar | float = 0.0, angles: bool = True):
        self.region = jnp.asarray(region)
        self.separation = leaf(separation, self.region.dtype)
        self.angles = angles

    def __call__(self, energy: AbstractEnergy, coupling: Scalar | float) -> SumEnergy:
        """U_λ of ``energy`` at λ = ``coupling``."""
        coupling = jnp.asarray(coupling, self.region.dtype)
        weight = jnp.where(self.region > 0, safe_sqrt(coupling), 1.0)
        softening = 0.5 * self.separation * (1 - coupling) * self.region
        return SumEnergy(
            tuple(
                term if isinstance(term, HarmonicAngle) and not self.angles else _weakened(term, weight, softening)
                for term in energy.terms()
            )
        )


def _weakened(term: AbstractEnergy, weight: Array, softening: Array) -> AbstractEnergy:
    if isinstance(term, Nonbonded):
        weight = weight.astype(term.charges.dtype)
        first, second = term.exception_atoms.T
        pair = weight[first] * weight[second]
        new = (
            term.charges * weight,
            term.epsilons * weight**2,
            term.exception_charge_products * pair,
            term.exception_epsilons * pair,
            softening.astype(term.charges.dtype) + (0.0 if term.softening is None else term.softening),
        )
        return eqx.tree_at(_nonbonded_parameters, term, new, is_leaf=lambda leaf: leaf is None)
    if isinstance(term, PeriodicTorsion):
        weight = weight.astype(term.stiffness.dtype)
        turned = weight[term.atoms[:, 1]] * weight[term.atoms[:, 2]]
        return eqx.tree_at(lambda t: t.stiffness, term, term.stiffness * turned)
    if isinstance(term, HarmonicAngle):
        vertex = weight.astype(term.stiffness.dtype)[term.atoms[:, 1]]
        return eqx.tree_at(lambda t: t.stiffness, term, term.stiffness * vertex**2)
    if isinstance(term, GeneralizedBorn):
        return eqx.tree_at(lambda t: t.charges, term, term.charges * weight.astype(term.charges.dtype))
    return term


def _nonbonded_parameters(term: Nonbonded):
    products, depths = term.exception_charge_products, term.exception_epsilons
    return term.charges, term.epsilons, products, depths, term.softening
