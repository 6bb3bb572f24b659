"""Relaxation from nothing: heavy atoms started at random in four dimensions, squeezed into three.

In four dimensions a mirror image can turn round and chains can pass through each other, so restoring ideal distances,
chiral volumes and soft repulsion *on the fibre* reaches a sound structure from noise, without fragments or templates.
The fourth coordinate of every bead is zero.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.spatial import cKDTree

from ..mapping._sparse import padded_rows
from ..mapping.linear import Fibre
from ..typing import Array, PRNGKeyArray
from ._rows import gather_forces, harmonic_rows, repulsive_rows, volume_forces
from .geometry import Geometry

#: Force constants of bonds, 1-3 and planar 1-4 distances, kJ/mol/nm².
DISTANCE_STIFFNESS = {1: 2e4, 2: 1e4, 3: 2e4}
#: Soft repulsion: force constant (kJ/mol/nm²) and its reach as a fraction of σ.
REPULSION_STIFFNESS = 2e3
REPULSION_REACH = 0.8
#: Weight of the chiral volumes, kJ/mol per 1e-3 nm³.
VOLUME_WEIGHT = 30.0
#: Final force constant on the fourth coordinate, kJ/mol/nm².
SQUEEZE_STIFFNESS = 1e4
#: Spread of the random start around each bead, nm.
START_SPREAD = 0.1


class Restraints(eqx.Module):
    """Row tables of a `Geometry`: what one gradient of the embedding energy needs."""

    index: np.ndarray
    length: np.ndarray
    stiffness: np.ndarray
    radii: np.ndarray
    centers: np.ndarray
    volumes: np.ndarray
    incidence: np.ndarray
    incidence_valid: np.ndarray

    @staticmethod
    def of(geometry: Geometry, dtype=np.float32) -> "Restraints":
        """Tables of ``geometry`` in ``dtype``."""
        n = len(geometry.radii)
        i, j = geometry.pairs.T
        rows, partners = np.concatenate([i, j]), np.concatenate([j, i])
        stiffness = np.vectorize(DISTANCE_STIFFNESS.get, otypes=[float])(geometry.separation)
        index, length = padded_rows(rows, partners, np.tile(geometry.lengths, 2), n)
        _, strength = padded_rows(rows, partners, np.tile(stiffness, 2), n)
        entries = geometry.centers.ravel()
        incidence, valid = padded_rows(entries, np.arange(len(entries)), np.ones(len(entries)), n)
        return Restraints(
            index=index,
            length=length.astype(dtype),
            stiffness=strength.astype(dtype),
            radii=(REPULSION_REACH * geometry.radii).astype(dtype),
            centers=geometry.centers.astype(np.int32),
            volumes=geometry.volumes.astype(dtype),
            incidence=incidence,
            incidence_valid=valid.astype(dtype),
        )

    def forces(self, x: Array, contacts: Array) -> Array:
        """Forces (kJ/mol/nm) at ``x`` (atoms, 3 or 4)."""
        c = tuple(x[:, k] for k in range(x.shape[1]))
        total = [a + b for a, b in zip(harmonic_rows(c, self.index, self.length, self.stiffness), repulsive_rows(c, contacts, self.radii, REPULSION_STIFFNESS), strict=True)]
        if self.centers.shape[0]:
            chiral = volume_forces(c[:3], self.centers, self.volumes, VOLUME_WEIGHT)
            for k, f in enumerate(gather_forces(chiral.reshape(-1, 3), self.incidence, self.incidence_valid)):
                total[k] = total[k] + f
        return jnp.stack(total, axis=1)


def contact_table(positions: np.ndarray, reach: float, excluded: np.ndarray, capacity: int | None = None) -> np.ndarray:
    """Static candidates for contact: for each atom, the atoms whose *anchor* is within ``reach`` of its own.

    On the fibre atoms stay near their beads, so the list made from bead positions serves the whole relaxation.

    Arguments:
        positions: (atoms, 3) anchor of each atom (its bead), nm.
        reach: anchor distance up to which atoms may touch, nm.
        excluded: (pairs, 2) pairs that never repel.
        capacity: width of the table; None takes the widest row, rounded up to a multiple of 16. A narrower table
            keeps the nearest partners.

    Returns:
        (capacity, atoms) partner indices, padded with the atom itself.
    """
    n = len(positions)
    pairs = cKDTree(positions).query_pairs(reach, output_type="ndarray")
    if len(excluded):
        code = np.sort(pairs, axis=1) @ np.array([n, 1])
        pairs = pairs[~np.isin(code, np.sort(excluded, axis=1) @ np.array([n, 1]))]
    rows, partners = np.concatenate([pairs, pairs[:, ::-1]]).T
    distance = np.linalg.norm(positions[rows] - positions[partners], axis=1)
    order = np.lexsort((distance, rows))
    rows, partners = rows[order], partners[order]
    index, filled = padded_rows(rows, partners, np.ones(len(rows)), n)
    index = np.where(filled > 0, index, np.arange(n, dtype=np.int32)[None, :])
    width = capacity if capacity is not None else -(-index.shape[0] // 16) * 16
    if index.shape[0] < width:
        index = np.concatenate([index, np.broadcast_to(np.arange(n, dtype=np.int32), (width - index.shape[0], n))])
    return np.ascontiguousarray(index[:width])


def random_start(key: PRNGKeyArray, anchors: Array) -> Array:
    """Random four-dimensional positions (atoms, 4) around ``anchors`` (atoms, 3), nm."""
    anchors = jnp.pad(anchors, ((0, 0), (0, 1)))
    return anchors + START_SPREAD * jax.random.normal(key, anchors.shape, anchors.dtype)


def embed(restraints: Restraints, fibre: Fibre, contacts: Array, y: Array, start: Array, *, steps: int = 800, rate: float = 0.03, bead_stiffness=None) -> Array:
    """Minimises the embedding energy from ``start`` with projected Adam while the fourth dimension is squeezed out.

    Arguments:
        restraints, contacts: tables of the atoms.
        fibre: fibre of the map (unit masses).
        y: (beads, 3) nm.
        start: (atoms, 4) nm.
        steps: Adam steps; the rate falls from ``rate`` to ``rate``/30 along a cosine.
        bead_stiffness: None holds the beads exactly; else harmonic force constant of the beads, kJ/mol/nm².

    Returns:
        (atoms, 3) positions, nm.
    """
    y4 = jnp.pad(y, ((0, 0), (0, 1)))
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps, alpha=1 / 30))

    def step(carry, i):
        x, state = carry
        squeeze = SQUEEZE_STIFFNESS * jnp.clip((i / steps - 0.5) / 0.4, 0.0, 1.0) ** 2
        gradient = -restraints.forces(x, contacts)
        gradient = gradient.at[:, 3].add(squeeze * x[:, 3])
        if bead_stiffness is None:
            gradient = fibre.tangent(gradient)
        else:
            gradient = gradient + bead_stiffness * fibre.mapping.transpose(fibre.mapping(x) - y4)
        update, state = optimizer.update(gradient, state)
        x = x + update
        if bead_stiffness is None:
            x = fibre.retract(x, y4)
        return (x, state), None

    x = start if bead_stiffness is not None else fibre.retract(start, y4)
    (x, _), _ = jax.lax.scan(step, (x, optimizer.init(x)), jnp.arange(steps, dtype=x.dtype))
    x = x[:, :3]
    return x if bead_stiffness is not None else fibre.retract(x, y)
