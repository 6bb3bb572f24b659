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
from scipy.spatial import KDTree

from ..mapping._sparse import padded_rows
from ..mapping.base import AbstractFibre
from ..typing import Array, PRNGKeyArray
from ._rows import gather_forces, harmonic_rows, incidence_table, repulsive_rows, volume_forces
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
#: The fourth dimension closes from this fraction of the steps on, and is closed after a further one.
SQUEEZE_START, SQUEEZE_LENGTH = 0.2, 0.7
#: Decay of Adam's second moment. A short memory keeps steps long until late, and side chains find better rotamers: over
#: 16 seeds of ubiquitin 0.80 leaves 0.062 nm to the crystal, over 8 of them 0.999 leaves 0.067.
SECOND_MOMENT_DECAY = 0.8
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

    @staticmethod
    def of(geometry: Geometry, dtype=np.float32) -> "Restraints":
        """Tables of ``geometry`` in ``dtype``."""
        n = len(geometry.radii)
        i, j = geometry.pairs.T
        rows, partners = np.concatenate([i, j]), np.concatenate([j, i])
        stiffness = np.vectorize(DISTANCE_STIFFNESS.get, otypes=[float])(geometry.separation)
        index, length = padded_rows(rows, partners, np.tile(geometry.lengths, 2), n)
        _, strength = padded_rows(rows, partners, np.tile(stiffness, 2), n)
        return Restraints(
            index=index,
            length=length.astype(dtype),
            stiffness=strength.astype(dtype),
            radii=(REPULSION_REACH * geometry.radii).astype(dtype),
            centers=geometry.centers.astype(np.int32),
            volumes=geometry.volumes.astype(dtype),
            incidence=incidence_table(geometry.centers, n),
        )

    def reach(self, contacts: Array) -> Array:
        """Distance (width, atoms) below which each pair of the ``contacts`` table repels, nm; zero for padding."""
        itself = jnp.arange(contacts.shape[1])[None, :]
        return jnp.where(contacts == itself, 0.0, self.radii[None, :] + self.radii[contacts])

    def forces(self, x: Array, contacts: Array, reach: Array) -> Array:
        """Forces (atoms, 4), kJ/mol/nm, at ``x`` (atoms, 4); chirality acts in the first three dimensions."""
        total = harmonic_rows(x, self.index, self.length, self.stiffness)
        total = total + repulsive_rows(x, contacts, reach, REPULSION_STIFFNESS)
        if self.centers.shape[0]:
            total = total + gather_forces(volume_forces(x, self.centers, self.volumes, VOLUME_WEIGHT), self.incidence)
        return total


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
    pairs = KDTree(positions).query_pairs(reach, output_type="ndarray")
    if len(excluded) and len(pairs):
        code = pairs[:, 0] * n + pairs[:, 1]  # query_pairs gives i < j
        known = np.unique(excluded.min(axis=1) * n + excluded.max(axis=1))
        pairs = pairs[known[np.minimum(np.searchsorted(known, code), len(known) - 1)] != code]
    rows, partners = np.concatenate([pairs, pairs[:, ::-1]]).T
    widest = int(np.bincount(rows, minlength=n).max(initial=0))
    width = capacity if capacity is not None else -(-max(widest, 1) // 16) * 16
    if widest > width:
        order = np.argsort(np.sum((positions[rows] - positions[partners]) ** 2, axis=1))
        rows, partners = rows[order], partners[order]
    index, filled = padded_rows(rows, partners, np.ones(len(rows)), n)
    itself = np.arange(n, dtype=np.int32)
    table = np.broadcast_to(itself, (width, n)).copy()
    used = min(width, index.shape[0])
    table[:used] = np.where(filled[:used] > 0, index[:used], itself)
    return table


def random_start(key: PRNGKeyArray, anchors: Array) -> Array:
    """Random four-dimensional positions (atoms, 4) around ``anchors`` (atoms, 3), nm."""
    anchors = jnp.pad(anchors, ((0, 0), (0, 1)))
    return anchors + START_SPREAD * jax.random.normal(key, anchors.shape, anchors.dtype)


def embed(
    restraints: Restraints,
    fibre: AbstractFibre,
    contacts: Array,
    y: Array,
    start: Array,
    steps: Array,
    rate: Array,
    bead_stiffness: Array | None,
) -> Array:
    """Minimises the embedding energy from ``start`` with projected Adam while the fourth dimension is squeezed out.

    Arguments:
        restraints, contacts: tables of the atoms.
        fibre: fibre of the map (unit masses).
        y: (beads, 3) nm.
        start: (atoms, 4) nm.
        steps: number of Adam steps; may be traced, so every length shares one compilation.
        rate: initial step size, nm; falls to a thirtieth along a cosine.
        bead_stiffness: None holds the beads exactly; else (beads, 1) force constants, kJ/mol/nm².

    Returns:
        (atoms, 3) positions, nm.
    """
    y4 = jnp.pad(y, ((0, 0), (0, 1)))
    reach = restraints.reach(contacts)
    adam = optax.scale_by_adam(b2=SECOND_MOMENT_DECAY)

    def step(i, carry):
        x, moments = carry
        done = i / steps
        squeeze = SQUEEZE_STIFFNESS * jnp.clip((done - SQUEEZE_START) / SQUEEZE_LENGTH, 0.0, 1.0) ** 2
        gradient = -restraints.forces(x, contacts, reach)
        gradient = gradient.at[:, 3].add(squeeze.astype(x.dtype) * x[:, 3])
        if bead_stiffness is None:
            gradient = fibre.tangent(gradient)
        else:
            gradient = gradient + fibre.mapping.transpose(bead_stiffness * (fibre.mapping(x) - y4))
        update, moments = adam.update(gradient, moments)
        speed = rate * (1 / 30 + (1 - 1 / 30) * 0.5 * (1 + jnp.cos(jnp.pi * done)))
        x = x - speed.astype(x.dtype) * jnp.asarray(update)
        if bead_stiffness is None:
            x = jnp.asarray(fibre.retract(x, y4))
        return x, moments

    x = start if bead_stiffness is not None else fibre.retract(start, y4)
    x, _ = jax.lax.fori_loop(0, steps, step, (x, adam.init(x)))
    x = x[:, :3]
    return x if bead_stiffness is not None else jnp.asarray(fibre.retract(x, y))
