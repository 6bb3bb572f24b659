"""Forces as row reductions: each atom sums over a padded table of partners, so nothing is ever scattered.

Tables are (width, atoms): the reduction runs over the leading axis, which compilers vectorise across atoms, and
the components are reduced together in one pass (on a CPU half the time of three separate sums).
"""

import jax
import jax.numpy as jnp
import numpy as np

from ..typing import Array


def row_sum(*summands: Array) -> tuple[Array, ...]:
    """Sums several (width, rows) arrays over their leading axis in one pass."""
    zeros = tuple(np.zeros((), s.dtype) for s in summands)
    return tuple(jax.lax.reduce(summands, zeros, lambda a, b: tuple(u + v for u, v in zip(a, b, strict=True)), (0,)))


def separations(x: tuple[Array, ...], index: Array) -> tuple[tuple[Array, ...], Array]:
    """Components and squared length of x_i − x_j for the table ``index`` (width, atoms) of partners j."""
    d = tuple(c[None, :] - c[index] for c in x)
    return d, sum((c * c for c in d[1:]), d[0] * d[0])


def harmonic_rows(x: tuple[Array, ...], index: Array, length: Array, stiffness: Array) -> tuple[Array, ...]:
    """Forces of harmonic distances ½k(r − r₀)²; padding has stiffness zero.

    Arguments:
        x: coordinates, one (atoms,) array for each dimension.
        index, length, stiffness: (width, atoms) partners, r₀ in nm and k in kJ/mol/nm².
    """
    d, r2 = separations(x, index)
    inverse = jax.lax.rsqrt(jnp.maximum(r2, 1e-8))
    pull = stiffness * (length * inverse - 1.0)
    return row_sum(*(pull * c for c in d))


def repulsive_rows(x: tuple[Array, ...], index: Array, radii: Array, stiffness: Array) -> tuple[Array, ...]:
    """Forces of the soft repulsion ½k(r₀ − r)² for r < r₀ = radii_i + radii_j; padding names the atom itself."""
    d, r2 = separations(x, index)
    reach = radii[None, :] + radii[index]
    inverse = jax.lax.rsqrt(jnp.maximum(r2, 1e-8))
    push = jnp.where(r2 < reach * reach, stiffness * (reach * inverse - 1.0), 0.0)
    return row_sum(*(push * c for c in d))


def volume_forces(x: tuple[Array, Array, Array], centers: Array, volumes: Array, weight: Array, width: float = 1e-3) -> Array:
    """Forces of a Huber penalty on the chiral volumes, on each of the four atoms of every centre.

    Arguments:
        x: three (atoms,) coordinate arrays, nm.
        centers: (centers, 4) atoms (centre, a, b, c).
        volumes: (centers,) signed ideal volumes, nm³.
        weight: penalty per unit of ``width``, kJ/mol.
        width: volume error where the penalty turns from quadratic to linear, nm³.

    Returns:
        (centers, 4, 3) forces.
    """
    positions = jnp.stack([c[centers] for c in x], axis=-1)
    a, b, c = (positions[:, k] - positions[:, 0] for k in (1, 2, 3))
    bc, ca, ab = jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)
    error = (jnp.sum(a * bc, axis=-1) - volumes) / width
    slope = (weight / width) * jnp.clip(error, -1.0, 1.0)
    forces = -slope[:, None, None] * jnp.stack([bc, ca, ab], axis=1)
    return jnp.concatenate([-forces.sum(axis=1, keepdims=True), forces], axis=1)


def gather_forces(forces: Array, index: Array, valid: Array) -> tuple[Array, ...]:
    """Sums per-term forces into atoms through an incidence table.

    Arguments:
        forces: (entries, 3) forces, entry = term × arity + slot.
        index, valid: (width, atoms) entry numbers and 1 or 0 for padding.
    """
    return row_sum(*(valid * forces[:, k][index] for k in range(forces.shape[-1])))
