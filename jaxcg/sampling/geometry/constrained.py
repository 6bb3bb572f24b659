"""Curved constraints: nonlinear maps held exactly, and rigid bonds, with one mass per atom."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...mapping.base import AbstractLinearMap
from ...mapping.residuals import AnyMap, pullback, residual, residual_width, support
from ...mapping.rigid_bonds import RigidBonds
from ...mapping.virtual_sites import VirtualSites
from ...posterior import Posterior
from ...typing import Array, AtomScalars, AtomVectors, BeadArray, Scalar
from ._diagonal import AbstractDiagonalGeometry, sampler_masses
from ._groups import ConstraintGroups, Factor

#: Corrections with one Jacobian: an iteration takes an error e to the order of e³.
CORRECTIONS = 2


class ConstrainedGeometry(AbstractDiagonalGeometry):
    """The surface {c(x) = 0} of a posterior: c = (M(x) − y if it is exact, |r_ij| − l_ij for rigid bonds).

    Free motion is a step of RATTLE: x₁ = x₀ + t v + m⁻¹ J(x₀)ᵀ λ with λ such that c(x₁) = 0, found by a fixed number of
    Newton iterations. It is reversible and keeps the volume of the tangent bundle where
    the way back, from x₁ with the velocity turned round, leads to x₀; where it does not, or an iteration has not
    converged, the move is marked as irreversible and a sampler refuses it. Without that check large steps give wrong
    averages.

    Constraints are solved in groups that share atoms (`ConstraintGroups`): small batched blocks for maps and bonds
    to hydrogens, a dense matrix only where everything hangs together.

    Arguments:
        posterior: the target; see its density convention.
        masses: (atoms,) positive masses, amu; any will do for sampling, they change efficiency only.
        iterations: Newton iterations of a step, each of one Jacobian and two corrections with it.

    Raises:
        ValueError: masses that do not fit, nothing to hold, beads of a linear map that depend on each other, virtual
            sites beside the beads they are made of, or more constraints than coordinates. Constraints that depend on
            each other at some configuration show in `check_start`.

    Source: Andersen, J. Comput. Phys. 52, 24 (1983); the reverse check, Zappa, Holmes-Cerfon & Goodman, Comm. Pure
    Appl. Math. 71, 2609 (2018), Lelièvre, Rousset & Stoltz, Numer. Math. 143, 379 (2019).
    """

    masses: Array
    mapping: AnyMap | None
    rigid_bonds: RigidBonds | None
    groups: ConstraintGroups
    dimension: int = eqx.field(static=True)
    iterations: int = eqx.field(static=True)

    def __init__(self, posterior: Posterior, masses: AtomScalars, *, iterations: int = 3):
        n_atoms, mapping = posterior.mapping.n_atoms, posterior.mapping
        masses = sampler_masses(masses, n_atoms)
        self.mapping = mapping if posterior.exact else None
        self.rigid_bonds = posterior.rigid_bonds
        if self.mapping is None and self.rigid_bonds is None:
            raise ValueError("ConstrainedGeometry: the posterior holds nothing exactly; use LinearGeometry.")
        if isinstance(self.mapping, AbstractLinearMap) and self.mapping.rank < 3 * self.mapping.n_beads:
            raise ValueError(
                "ConstrainedGeometry: beads of the map depend on each other, so their constraints are redundant; "
                "leave out the beads that jaxcg.mapping.independent_beads names."
            )
        if isinstance(self.mapping, VirtualSites):
            raise ValueError(
                "ConstrainedGeometry: virtual sites follow from the beads they are made of, so holding both is "
                "redundant; sample the posterior of the map without them (mapping.base), or give a noise."
            )
        if iterations < 1:
            raise ValueError(f"ConstrainedGeometry: iterations is {iterations}, at least one is needed.")
        constraint, atom, found = [], [], 0
        if self.mapping is not None:
            width = residual_width(self.mapping)
            bead, own = support(self.mapping)
            constraint.append((bead[:, None] * width + np.arange(width)).ravel())
            atom.append(np.repeat(own, width))
            found = width * self.mapping.n_beads
        if self.rigid_bonds is not None:
            pairs = self.rigid_bonds.pairs
            constraint.append(found + np.repeat(np.arange(len(pairs)), 2))
            atom.append(pairs.ravel())
            found += len(pairs)
        if found > 3 * n_atoms:
            raise ValueError(f"ConstrainedGeometry: {found} constraints on {3 * n_atoms} coordinates; hold fewer.")
        self.groups = ConstraintGroups(np.concatenate(constraint), np.concatenate(atom), found, n_atoms)
        self.masses = jnp.asarray(masses, dtype=posterior.y.dtype)
        self.dimension = 3 * n_atoms - found
        self.iterations = iterations

    def residual(self, x: AtomVectors, y: BeadArray) -> Array:
        """(constraints,) c(x): beads in order (nm; radians for orientations), then bonds (nm)."""
        return self._residual(x, y)

    def retract(self, x: AtomVectors, y: BeadArray) -> Array:
        """The surface's point at ``x`` by Newton's method along the normals in the mass metric, from near it."""

        def iteration(_, x):
            return x - self.groups.correction(self._factor(x), self._residual(x, y), self.masses)

        return lax.fori_loop(0, self.iterations, iteration, jnp.asarray(x))

    def project(self, x: AtomVectors, velocity: AtomVectors) -> Array:
        """v − m⁻¹ Jᵀ (J m⁻¹ Jᵀ)⁻¹ J v with the Jacobian J at ``x``."""
        return self._project(self._factor(x), velocity)

    def drift(
        self, x: AtomVectors, velocity: AtomVectors, time: Scalar | float, y: BeadArray
    ) -> tuple[Array, Array, Array]:
        """The position step of RATTLE, and whether the way back leads to ``x``."""
        x = jnp.asarray(x)
        still = jnp.asarray(time) == 0

        def there_and_back(state, _):
            at, v = state
            moved, arrival, converged = self._shake(at, v, time, y)
            return (moved, -arrival), (moved, arrival, converged)

        # One program for both ways: it takes half as long to compile.
        _, (ends, arrivals, converged) = lax.scan(there_and_back, (x, jnp.asarray(velocity)), None, length=2)
        apart = jnp.max(jnp.abs(ends[1] - x))
        reversible = jnp.all(converged) & (apart <= _root_precision(x.dtype))
        return jnp.where(still, x, ends[0]), jnp.where(still, velocity, arrivals[0]), reversible | still

    def log_volume(self, x: AtomVectors) -> Scalar:
        """½ log det(J m⁻¹ Jᵀ) at ``x``."""
        return self.groups.half_log_determinant(self._factor(x))

    def independence(self, x: AtomVectors) -> Array:
        """(constraints,) share of each constraint's gradient, squared, that no other constraint has at ``x``: 1 … 0."""
        return self.groups.independence(self._factor(x))

    def _factor(self, x) -> Factor:
        return self.groups.factor(self._jacobians(x), self.masses)

    def _jacobians(self, x) -> tuple[Array, ...]:
        parts, widths = [], []
        if self.mapping is not None:
            shape = self.mapping.n_beads, residual_width(self.mapping)
            beads = pullback(self.mapping, x)
            parts.append(lambda cotangent: beads(cotangent.reshape(shape)))
            widths.append(shape[0] * shape[1])
        if self.rigid_bonds is not None:
            bonds = jax.vjp(self.rigid_bonds.distances, x)[1]
            parts.append(lambda cotangent: bonds(cotangent)[0])
            widths.append(len(self.rigid_bonds.pairs))

        def pull(cotangent):
            pieces = jnp.split(cotangent, np.cumsum(widths)[:-1])
            return sum((part(p) for part, p in zip(parts, pieces, strict=True)), start=jnp.zeros_like(x))

        return self.groups.jacobians(pull, x)

    def _residual(self, x, y) -> Array:
        parts = [] if self.mapping is None else [residual(self.mapping, x, y).ravel()]
        parts += [] if self.rigid_bonds is None else [self.rigid_bonds.residual(x)]
        return jnp.concatenate(parts)

    def _project(self, factor: Factor, velocity) -> Array:
        return velocity - self.groups.correction(factor, self.groups.velocities(factor, velocity), self.masses)

    def _shake(self, x, velocity, time, y) -> tuple[Array, Array, Array]:
        """Point of the surface on x + t v + (normals at x), velocity on arrival there, whether it was found.

        Only the tangent part of ``velocity`` counts.
        """
        factor = self._factor(x)
        velocity = self._project(factor, velocity)
        free = x + time * velocity

        def iteration(_, carry):
            moved, along = carry
            grams = self.groups.grams(self._jacobians(moved), factor.jacobians, self.masses)
            inverses = [jnp.linalg.inv(gram) for gram in grams]
            for _ in range(CORRECTIONS):
                values = self.groups.gathered(self._residual(moved, y))
                multipliers = [
                    jnp.einsum("gkl,gl->gk", i, v, precision="highest") for i, v in zip(inverses, values, strict=True)
                ]
                change = self.groups.spread(factor.jacobians, multipliers, self.masses)
                moved, along = moved - change, along - change
            return moved, along

        moved, along = lax.fori_loop(0, self.iterations, iteration, (free, jnp.zeros_like(free)))
        scale = jnp.maximum(1.0, jnp.max(jnp.abs(x)))
        error = jnp.max(jnp.abs(self._residual(moved, y)))
        arrival = velocity + along / jnp.where(time == 0, 1.0, time)
        return moved, arrival, error <= scale * _root_precision(x.dtype) ** 1.5


def _root_precision(dtype) -> float:
    return float(np.sqrt(float(jnp.finfo(dtype).eps)))
