"""The interfaces of forward maps and of the fibres of linear ones."""

from abc import abstractmethod

import equinox as eqx
import numpy as np
from jax.core import Tracer
from scipy.sparse import coo_array

from ..typing import AtomArray, AtomScalars, BeadArray


class AbstractMap(eqx.Module):
    """A forward map y = M(x) from atoms to beads: a pure, differentiable function of the positions.

    Concrete maps are final modules with the two numbers below.
    """

    #: Number of beads n.
    n_beads: eqx.AbstractVar[int]
    #: Number of atoms N, those in no bead included.
    n_atoms: eqx.AbstractVar[int]

    @abstractmethod
    def __call__(self, x: AtomArray) -> BeadArray:
        """Bead positions (beads, 3) of the configuration ``x`` (atoms, 3), in the units and dtype of ``x``."""


class AbstractLinearMap(AbstractMap):
    """A linear forward map, the same in x, y and z: ``y = W x`` with W (beads × atoms), rows summing to one.

    Linear maps act on arrays (atoms, ...) of any trailing shape.
    """

    #: Rank of the map on all coordinates, 3 × rank of W.
    rank: eqx.AbstractVar[int]

    @abstractmethod
    def transpose(self, v: BeadArray) -> AtomArray:
        """Wᵀ v: spreads bead vectors (e.g. forces on beads) over the atoms: (beads, ...) → (atoms, ...)."""

    @abstractmethod
    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Nonzero entries of W as ``(bead_index, atom_index, weight)``."""

    @abstractmethod
    def fibre(self, masses: AtomScalars | None = None) -> "AbstractFibre":
        """The fibre {x : M(x) = y} in the metric of ``masses`` (unit masses when None), factored once.

        Arguments:
            masses: (atoms,) positive masses, amu; may be traced.
        """

    @property
    def nullity(self) -> int:
        """Dimension of the null space, ``3 atoms − rank``: the number of coordinates the map loses."""
        return 3 * self.n_atoms - self.rank

    def pseudoinverse(self, y: BeadArray, masses: AtomScalars | None = None) -> AtomArray:
        """Minimum-norm reconstruction x* = A⁺ y (theory: Moore-Penrose), in the metric of ``masses`` if given.

        Atoms in no bead are placed at the origin: they lie in the null space.
        """
        return self.fibre(masses).lift(y)

    def tangent(self, v: AtomArray, masses: AtomScalars | None = None) -> AtomArray:
        """Component of the velocity ``v`` in the null space of the map, orthogonal in the metric of ``masses``."""
        return self.fibre(masses).tangent(v)

    def retract(self, x: AtomArray, y: BeadArray, masses: AtomScalars | None = None) -> AtomArray:
        """Nearest point to ``x`` (in the metric of ``masses``) on the fibre M(x) = y."""
        return self.fibre(masses).retract(x, y)

    def matrix(self) -> coo_array:
        """W (beads × atoms) as a SciPy sparse array."""
        bead, atom, weight = self.entries()
        return coo_array((weight, (bead, atom)), shape=(self.n_beads, self.n_atoms))


class AbstractFibre(eqx.Module):
    """The affine subspace {x : M(x) = y} of a linear map, with the metric of a set of masses.

    Made by `AbstractLinearMap.fibre`. Every operation is two sparse products and works on (atoms, ...) arrays of any
    trailing shape (four-dimensional coordinates too).
    """

    mapping: eqx.AbstractVar[AbstractLinearMap]

    @abstractmethod
    def lift(self, r: BeadArray) -> AtomArray:
        """m⁻¹ Wᵀ (W m⁻¹ Wᵀ)⁻¹ r: the smallest atomic displacement that moves the beads by ``r``."""

    @abstractmethod
    def lift_transpose(self, f: AtomArray) -> BeadArray:
        """(W m⁻¹ Wᵀ)⁻¹ W m⁻¹ f, the transpose of `lift`: the bead forces whose spread comes nearest to ``f``."""

    def tangent(self, v: AtomArray) -> AtomArray:
        """Projects the velocity ``v`` onto the null space, orthogonally in the mass metric."""
        return v - self.lift(self.mapping(v))

    def cotangent(self, f: AtomArray) -> AtomArray:
        """Projects the force or momentum ``f`` so that m⁻¹ f lies in the null space (transpose of `tangent`)."""
        return f - self.mapping.transpose(self.lift_transpose(f))

    def retract(self, x: AtomArray, y: BeadArray) -> AtomArray:
        """Nearest point of the fibre M(x) = y to ``x``."""
        return x + self.lift(y - self.mapping(x))


def checked_masses(masses: AtomScalars | None, n_atoms: int) -> AtomScalars:
    """Masses of a metric, ones for None; traced ones are checked for their shape alone.

    Raises:
        ValueError: not one per atom, or not positive and finite.
    """
    if masses is None:
        return np.ones(n_atoms)
    if masses.shape != (n_atoms,):
        raise ValueError(f"masses have shape {tuple(masses.shape)}; give one mass for each of the {n_atoms} atoms.")
    if isinstance(masses, Tracer):
        return masses
    masses = np.asarray(masses, dtype=np.float64)
    wrong = np.flatnonzero(~(np.isfinite(masses) & (masses > 0)))
    if wrong.size:
        raise ValueError(f"the mass of atom {wrong[0]} is {masses[wrong[0]]:g}; the mass metric needs positive masses.")
    return masses
