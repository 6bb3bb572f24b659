"""Forces as row reductions: each atom sums over a padded table of partners, so nothing is ever scattered.

Tables are (width, atoms). Positions are rows of four numbers, also in three dimensions (the fourth is then zero): a
partner's row is one aligned load, and the sum over the leading axis vectorises across atoms and components. On a CPU
this is two to three times faster than separate x, y, z arrays.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ..mapping._sparse import padded_rows
from ..typing import Array

#: A table that is constant in the compiled program, or an argument of it.
Table: TypeAlias = Array | np.ndarray


def take_rows(values: Table, index: Table) -> Array:
    """Rows of ``values`` at ``index``, which is known to be in bounds."""
    return jnp.asarray(values).at[index].get(mode="promise_in_bounds")


def separations(x: Array, index: Table) -> tuple[Array, Array]:
    """x_i − x_j (width, atoms, 4) and its squared length (width, atoms) for the table ``index`` of partners j."""
    d = x[None] - take_rows(x, index)
    return d, jnp.sum(d * d, axis=-1)


def pulled(pull: Table, d: Array) -> Array:
    """Forces (atoms, 4): Σ_k pull[k] d[k] with ``pull`` = −U′(r)/r."""
    return jnp.sum(pull[..., None] * d, axis=0)


def harmonic_rows(x: Array, index: Table, length: Table, stiffness: Table) -> Array:
    """Forces (atoms, 4) of harmonic distances ½k(r − r₀)²; padding has stiffness zero.

    Arguments:
        x: (atoms, 4) nm.
        index, length, stiffness: (width, atoms) partners, r₀ in nm and k in kJ/mol/nm².
    """
    d, r2 = separations(x, index)
    return pulled(stiffness * (length * jax.lax.rsqrt(jnp.maximum(r2, 1e-8)) - 1.0), d)


def repulsive_rows(x: Array, index: Array, reach: Array, stiffness) -> Array:
    """Forces (atoms, 4) of the soft repulsion ½k(r₀ − r)² for r < r₀; padding has r₀ = 0.

    Arguments:
        x: (atoms, 4) nm.
        index, reach: (width, atoms) partners and r₀ in nm.
        stiffness: k in kJ/mol/nm².
    """
    d, r2 = separations(x, index)
    return pulled(stiffness * jnp.maximum(reach * jax.lax.rsqrt(jnp.maximum(r2, 1e-8)) - 1.0, 0.0), d)


def volume_forces(x: Array, centers: Table, volumes: Table, weight, width: float = 1e-3) -> Array:
    """Forces of a Huber penalty on the chiral volumes, on each of the four atoms of every centre.

    Arguments:
        x: (atoms, 4) nm; the first three components count.
        centers: (centers, 4) atoms (centre, a, b, c).
        volumes: (centers,) signed ideal volumes, nm³.
        weight: slope of the penalty for errors beyond ``width``, kJ/mol for each ``width``.
        width: volume error where the penalty turns from quadratic to linear, nm³.

    Returns:
        (centers × 4, 4) forces, centre by centre.
    """
    positions = take_rows(x, centers)[..., :3]
    a, b, c = (positions[:, k] - positions[:, 0] for k in (1, 2, 3))
    bc, ca, ab = jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)
    error = (jnp.sum(a * bc, axis=-1) - volumes) / width
    slope = (weight / width) * jnp.clip(error, -1.0, 1.0)
    forces = -slope[:, None, None] * jnp.stack([bc, ca, ab], axis=1)
    forces = jnp.concatenate([-forces.sum(axis=1, keepdims=True), forces], axis=1)
    return jnp.pad(forces, ((0, 0), (0, 0), (0, 1))).reshape(-1, 4)


def incidence_table(entries: np.ndarray, n_atoms: int) -> np.ndarray:
    """Where each atom occurs in ``entries`` (any shape of atom indices): (width, atoms) positions in the flattened
    array, padded with its length (one past the end)."""
    flat = np.asarray(entries).ravel()
    index, filled = padded_rows(flat, np.arange(len(flat)), np.ones(len(flat)), n_atoms)
    return np.where(filled > 0, index, len(flat)).astype(np.int32)


def gather_forces(forces: Array, incidence: Table) -> Array:
    """Sums per-entry forces (entries, 4) into atoms (atoms, 4) through an `incidence_table`."""
    forces = jnp.concatenate([forces, jnp.zeros((1, forces.shape[1]), forces.dtype)])
    return jnp.sum(take_rows(forces, incidence), axis=0)
