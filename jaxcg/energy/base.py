"""The interface of every potential energy."""

from abc import abstractmethod
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp

from ..typing import Array, AtomVectors, Bool, Coordinates, Scalar


class AbstractEnergy(eqx.Module):
    """A differentiable potential energy U(x).

    Concrete terms are final modules whose array fields are the force-field parameters, so `jax.grad` reaches them.
    A sum of energies is an energy.
    """

    @abstractmethod
    def __call__(self, x: Coordinates) -> Scalar:
        """Potential energy of the configuration ``x`` in nm, as a scalar in kJ/mol.

        Force-field terms take the positions of atoms, (atoms, 3); potentials of mean force may take other coordinates.
        """

    def rebuild(self, x: Coordinates) -> Self:
        """The same energy with its pair lists made anew around ``x``.

        Terms without a list return themselves. Drivers call it between chunks. Shapes stay, unless ``x`` is concrete
        and a list has no room for it.
        """
        del x
        return self

    def stale(self, x: Coordinates) -> Bool[Array, ""]:
        """Whether atoms have moved so far since the pair lists were made that `rebuild` is due."""
        del x
        return jnp.asarray(False)

    def with_box(self, box: Array) -> Self:
        """The same energy in another periodic box.

        Energies without a box return themselves. Pair lists stay as they are: they hold for small changes, as of a
        strain derivative; `rebuild` makes them anew for larger ones. The box may be traced and differentiated. Only its
        lower triangle is read, so strain by lower triangular matrices: box (1 + ε) with positions x (1 + ε).

        Arguments:
            box: (3, 3) reduced box vectors in rows (a along x, b in the xy plane), nm.
        """
        del box
        return self

    def terms(self) -> tuple["AbstractEnergy", ...]:
        """The terms of this energy; a single term is its own."""
        return (self,)

    def __add__(self, other: "AbstractEnergy") -> "SumEnergy":
        return SumEnergy(self.terms() + other.terms())


class SumEnergy(AbstractEnergy):
    """Sum of energies."""

    parts: tuple[AbstractEnergy, ...]

    def __call__(self, x: Coordinates) -> Scalar:
        """Sum of the parts at ``x``, kJ/mol."""
        total = self.parts[0](x)
        for part in self.parts[1:]:
            total = total + part(x)
        return total

    def rebuild(self, x: Coordinates) -> "SumEnergy":
        """The same sum with every part's pair list made anew around ``x``."""
        return SumEnergy(tuple(part.rebuild(x) for part in self.parts))

    def stale(self, x: Coordinates) -> Bool[Array, ""]:
        """Whether the pair list of any part is due for a `rebuild`."""
        stale = jnp.asarray(False)
        for part in self.parts:
            stale = stale | part.stale(x)
        return stale

    def with_box(self, box: Array) -> "SumEnergy":
        """The same sum in another periodic box."""
        return SumEnergy(tuple(part.with_box(box) for part in self.parts))

    def terms(self) -> tuple[AbstractEnergy, ...]:
        """The parts."""
        return self.parts


def energy_and_forces(energy: AbstractEnergy, x: AtomVectors) -> tuple[Scalar, AtomVectors]:
    """Energy (kJ/mol) and forces −∂U/∂x (kJ/mol/nm) at ``x`` (atoms, 3)."""
    value, gradient = jax.value_and_grad(energy)(x)
    return value, -gradient
