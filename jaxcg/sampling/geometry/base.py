"""What samplers ask of the space they move in."""

from abc import abstractmethod

import equinox as eqx

from ...typing import Array, AtomVectors, BeadArray, PRNGKeyArray, Scalar


class AbstractGeometry(eqx.Module):
    """Where a sampler moves and with which kinetic energy: constraints and mass metric of one posterior.

    Kernels are written against this interface alone. Velocities handed to `drift` and the kinetic terms are tangent;
    `project` makes them so. A geometry is a pytree: another one of the same structure does not recompile a kernel.
    """

    #: Dimension d of the space that is sampled.
    dimension: eqx.AbstractVar[int]

    @abstractmethod
    def retract(self, x: AtomVectors, y: BeadArray) -> Array:
        """An allowed position near ``x``."""

    @abstractmethod
    def project(self, x: AtomVectors, velocity: AtomVectors) -> Array:
        """Component of ``velocity`` tangent at ``x``, orthogonally in the mass metric."""

    @abstractmethod
    def acceleration(self, gradient: AtomVectors) -> Array:
        """−M⁻¹ ∇U (nm/ps²); it need not be tangent."""

    @abstractmethod
    def thermal_velocities(self, key: PRNGKeyArray, thermal_energy: Scalar | float, x: AtomVectors) -> Array:
        """Tangent Maxwell-Boltzmann velocities (nm/ps) at ``x`` for ``thermal_energy`` kT (kJ/mol)."""

    @abstractmethod
    def drift(
        self, x: AtomVectors, velocity: AtomVectors, time: Scalar | float, y: BeadArray
    ) -> tuple[Array, Array, Array]:
        """Free motion for ``time`` ps: ``(x, velocity, reversible)``.

        The velocity is that of arrival, before it is projected there; without constraint forces it is unchanged.
        ``reversible`` is False where going back does not lead to the start, and the move must then be refused.
        A time of zero leaves both as they are.
        """

    @abstractmethod
    def kinetic_energy(self, velocity: AtomVectors) -> Scalar:
        """½ vᵀ M v, kJ/mol."""

    @abstractmethod
    def kinetic_differences(self, velocity: AtomVectors, new_velocity: AtomVectors) -> Array:
        """(terms,) contributions whose sum is the change of the kinetic energy, each small, kJ/mol."""

    @abstractmethod
    def log_volume(self, x: AtomVectors) -> Scalar:
        """What −log p(x|y) has besides U/kT with respect to the measure that free motion keeps.

        ½ log det(J M⁻¹ Jᵀ) with J the Jacobian of all constraints, up to a constant: zero for linear maps.
        """
