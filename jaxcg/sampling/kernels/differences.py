"""Energy differences that stay right when the energies are large and the arithmetic is float32.

A protein in solvent has |U| ~ 10⁵-10⁶ kJ/mol; one float32 digit of that is 0.01-0.06 kJ/mol, and the kinetic energy
adds as much. The Metropolis test needs only the difference over a trajectory, a few kJ/mol. So differences are taken
first, term by term and atom by atom, and then added with compensation; where double precision is enabled
(``jax_enable_x64``) the two end points of a trajectory are evaluated in it, whatever the dtype of the trajectory.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ...posterior import Posterior
from ...typing import Array, AtomVectors, Scalar
from ..geometry import AbstractGeometry


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Sum and its exact rounding error: a + b = s + e. Source: Knuth, TAOCP vol. 2, 4.2.2, theorem B."""
    s = a + b
    rest = s - a
    return s, (a - (s - rest)) + (b - rest)


def compensated_sum(values: Array) -> Scalar:
    """Sum of all entries as if in twice the working precision: a tree of `two_sum`, log₂ n levels deep."""
    total = values.ravel()
    error = jnp.zeros_like(total)
    while total.size > 1:
        half = (total.size + 1) // 2
        total = jnp.pad(total, (0, 2 * half - total.size))
        error = jnp.pad(error, (0, 2 * half - error.size))
        total, lost = two_sum(total[:half], total[half:])
        error = error[:half] + error[half:] + lost
    return total[0] + error[0]


def potential_terms(posterior: Posterior, geometry: AbstractGeometry, x: AtomVectors) -> Array:
    """Terms of −kT log p(x|y), kJ/mol: one per energy term, the bead restraint, the volume term of the constraints.

    Evaluated in JAX's widest enabled floating type: float64 under ``jax_enable_x64``, else the dtype of ``x``.
    """
    dtype = jax.dtypes.canonicalize_dtype(np.promote_types(np.float64, x.dtype))

    def widen(leaf):
        wide = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, dtype) if wide else leaf

    posterior, geometry = jax.tree.map(widen, (posterior, geometry))
    x = jnp.asarray(x, dtype)
    volume = posterior.thermal_energy * geometry.log_volume(x)
    return jnp.stack([term(x) for term in posterior.energy.terms()] + [posterior.restraint(x), volume])


def energy_difference(
    geometry: AbstractGeometry, terms: Array, new_terms: Array, velocity: AtomVectors, new_velocity: AtomVectors
) -> Scalar:
    """Change of the total energy H = U + K between two states, kJ/mol.

    Arguments:
        geometry: has the masses.
        terms, new_terms: potential energy terms from `potential_terms`.
        velocity, new_velocity: (atoms, 3), nm/ps.
    """
    dtype = terms.dtype
    kinetic = geometry.kinetic_differences(velocity.astype(dtype), new_velocity.astype(dtype))
    return compensated_sum(jnp.concatenate([new_terms - terms, kinetic]))
