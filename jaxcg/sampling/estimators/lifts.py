"""Lifts: how atoms follow when beads move, and the force on the beads that one configuration shows.

A lift b(x) has b·∇M = 1: along b_I atoms move so that bead coordinate I moves by one and no other does. The force
−b·∇U + kT ∇·b of one configuration then averages over the fibre to −∂W/∂y, whichever lift it is.

Source: den Otter & Briels, J. Chem. Phys. 109, 4139 (1998); Ciccotti, Kapral & Vanden-Eijnden, ChemPhysChem 6, 1809
(2005).
"""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...mapping.base import checked_masses
from ...mapping.force_maps import ForceMap, aggregating_force_map
from ...mapping.residuals import AnyMap, residual
from ...posterior import Posterior
from ...typing import Array, AtomScalars, AtomVectors, Float

#: Values or shifts of the mapped coordinates: (beads, 3), or any shape for `CurvedLift`.
Mapped = Float[Array | np.ndarray, "..."]


class AbstractLift(eqx.Module):
    """A field b(x) of atomic displacements with b·∇M = 1."""

    @abstractmethod
    def spread(self, x: AtomVectors, shift: Mapped) -> Array:
        """b(x)·shift: the displacement (atoms, 3) that moves the mapped coordinates by ``shift``, to first order."""

    @abstractmethod
    def gather(self, x: AtomVectors, force: AtomVectors) -> Array:
        """The transpose of `spread`: forces on the mapped coordinates from forces on the atoms."""

    @abstractmethod
    def divergence(self, x: AtomVectors) -> Array:
        """∇·b for every mapped coordinate, 1/nm for lengths."""


class LinearLift(AbstractLift):
    """The lift of a linear map, the same everywhere: the transpose of a `ForceMap`.

    Arguments:
        force_map: a force map of the posterior's map.
    """

    force_map: ForceMap

    def spread(self, x: AtomVectors, shift: Mapped) -> Array:
        """Bᵀ shift."""
        del x
        return jnp.asarray(self.force_map.transpose(jnp.asarray(shift)))

    def gather(self, x: AtomVectors, force: AtomVectors) -> Array:
        """B f."""
        del x
        return jnp.asarray(self.force_map(jnp.asarray(force)))

    def divergence(self, x: AtomVectors) -> Array:
        """Zero."""
        return jnp.zeros((self.force_map.n_beads, 3), x.dtype)


class CurvedLift(AbstractLift):
    """The lift b = m⁻¹ Jᵀ (J m⁻¹ Jᵀ)⁻¹ of any differentiable coordinates, by automatic differentiation.

    J is the Jacobian of the mapped coordinates and, below them, of the constraints that are held besides; b moves the
    former and leaves the latter as they are. The mean force is then that of
    exp(−W(y)/kT) = ∫ exp(−U(x)/kT) δ(y − M(x)) δ(c(x)) dx, with the delta functions of M and c themselves: no factor
    from their Gram determinant.

    Everything is dense: for tens of coordinates. The divergence costs as many second derivatives as there are atomic
    coordinates.

    Arguments:
        coordinates: M, a function of x (atoms, 3) that returns an array of any shape.
        masses: (atoms,) the metric, amu; ones for None. It changes the scatter only, unless a coordinate is linear.
        held: c, a function of x that returns an array of constraints, e.g. rigid bond lengths; None for none.
    """

    coordinates: Callable[[Array], Array]
    inverse_masses: Array
    held: Callable[[Array], Array] | None

    def __init__(
        self,
        coordinates: Callable[[Array], Array],
        masses: AtomScalars,
        held: Callable[[Array], Array] | None = None,
    ):
        self.coordinates = coordinates
        self.inverse_masses = jnp.asarray(1.0 / np.asarray(checked_masses(masses, len(masses))))
        self.held = held

    def spread(self, x: AtomVectors, shift: Mapped) -> Array:
        """m⁻¹ Jᵀ (J m⁻¹ Jᵀ)⁻¹ (shift, 0)."""
        jacobian, scaled, gram = self._gram(x)
        padded = jnp.zeros(len(jacobian), jacobian.dtype).at[: shift.size].set(jnp.ravel(shift).astype(jacobian.dtype))
        return _dot(jnp.linalg.solve(gram, padded), scaled).reshape(x.shape)

    def gather(self, x: AtomVectors, force: AtomVectors) -> Array:
        """The first rows of (J m⁻¹ Jᵀ)⁻¹ J m⁻¹ f."""
        _, scaled, gram = self._gram(x)
        return self._own(x, jnp.linalg.solve(gram, _dot(scaled, jnp.ravel(force))))

    def divergence(self, x: AtomVectors) -> Array:
        """∇·b_α = Σ_β Δ_m C_β G⁻¹_βα − Σ_γδ (b_γ·∇G_γδ) G⁻¹_δα, with C = (M, c), Δ_m = Σ ∂²/m and G = J m⁻¹ Jᵀ."""
        x = jnp.asarray(x)
        _, scaled, gram = self._gram(x)
        directions = jnp.linalg.solve(gram, scaled)
        size = x.size
        inverse = self._weights(x)

        def second(i):
            unit = jnp.zeros(size, x.dtype).at[i].set(1).reshape(x.shape)
            slope = lambda at: jax.jvp(self._all, (at,), (unit,))[1]  # noqa: E731
            return inverse[i] * jax.jvp(slope, (x,), (unit,))[1]

        def along(row):
            number, direction = row
            moved = jax.jvp(lambda at: self._gram(at)[2], (x,), (direction.reshape(x.shape),))[1]
            return moved[number]

        laplacian = jnp.sum(lax.map(second, jnp.arange(size)), axis=0)
        turned = jnp.sum(lax.map(along, (jnp.arange(len(gram)), directions)), axis=0)
        return self._own(x, jnp.linalg.solve(gram, laplacian - turned))

    def _all(self, x) -> Array:
        mapped = jnp.ravel(self.coordinates(x))
        return mapped if self.held is None else jnp.concatenate([mapped, jnp.ravel(self.held(x))])

    def _gram(self, x) -> tuple[Array, Array, Array]:
        jacobian = jax.jacrev(self._all)(jnp.asarray(x)).reshape(-1, x.size)
        scaled = jacobian * self._weights(x)
        return jacobian, scaled, _dot(scaled, jacobian.T)

    def _weights(self, x) -> Array:
        return jnp.repeat(self.inverse_masses.astype(x.dtype), 3)

    def _own(self, x, values) -> Array:
        shape = jax.eval_shape(self.coordinates, jnp.asarray(x)).shape
        return values[: int(np.prod(shape))].reshape(shape)


class Deviation(eqx.Module):
    """The function x → M(x) − y of a posterior, (beads, 3), or (beads, 6) with orientations as rotation vectors."""

    mapping: AnyMap
    y: Array

    def __call__(self, x: AtomVectors) -> Array:
        """By how much the beads of ``x`` (atoms, 3) are off."""
        return residual(self.mapping, x, self.y.astype(x.dtype))


def lift_of(posterior: Posterior, lift: AbstractLift | ForceMap | None) -> AbstractLift:
    """``lift`` itself, that of a force map, or for None one that suits what an exact posterior holds.

    With a linear map the atoms of a bead move as one; with curved constraints it is the `CurvedLift` of unit masses
    that leaves rigid bonds as they are.
    """
    if lift is None and not posterior.linear:
        rigid = None if posterior.rigid_bonds is None else posterior.rigid_bonds.residual
        return CurvedLift(Deviation(posterior.mapping, posterior.y), np.ones(posterior.mapping.n_atoms), rigid)
    if lift is None:
        lift = aggregating_force_map(posterior.linear_map("lift_of"))
    return LinearLift(lift) if isinstance(lift, ForceMap) else lift


def bead_force(posterior: Posterior, lift: AbstractLift | None, x: AtomVectors) -> Array:
    """What the configuration ``x`` contributes to −∂W/∂y, kJ/mol/nm: its average over p(x|y) is the mean force.

    With a lift that is −b·∇U + kT ∇·b, for exact beads; with None it is kT (M(x) − y)/σ², for soft ones. The force on
    an orientation is a torque about the axes of the bead, kJ/mol/rad.
    """
    x = jnp.asarray(x)
    thermal = posterior.thermal_energy.astype(x.dtype)
    if lift is None:
        noise = jnp.asarray(posterior.noise).astype(x.dtype)
        noise = jnp.repeat(noise, 3) if noise.ndim else noise
        return thermal * residual(posterior.mapping, x, posterior.y.astype(x.dtype)) / noise**2
    force = -jax.grad(posterior.energy.rebuild(x))(x)
    return lift.gather(x, force) + thermal * lift.divergence(x)


def _dot(a, b) -> Array:
    return jnp.matmul(a, b, precision="highest")
