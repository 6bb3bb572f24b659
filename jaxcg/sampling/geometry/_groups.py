"""Jacobians of constraints that each touch a few atoms, in groups of constraints that share atoms.

Two constraints in different groups have no atom in common, so J M⁻¹ Jᵀ is block diagonal, one block per group. The
k-th constraints of all groups are differentiated together: as many reverse passes as the largest group has
constraints give every row. Where all constraints hang together (all bonds of a chain) there is one group, and its
block is dense.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ...typing import Array, AtomVectors, Scalar

#: Constraints that may hang together: their block is dense, and its factor costs the cube.
LARGEST_GROUP = 2048


class Factor(NamedTuple):
    """Jacobians (groups, constraints, atoms, 3) and Cholesky factors of J m⁻¹ Jᵀ, one pair for each bucket."""

    jacobians: tuple[Array, ...]
    choleskys: tuple[Array, ...]


class Bucket(eqx.Module):
    """Groups of about the same size, padded to one shape."""

    atoms: np.ndarray  # (groups, atoms) indices
    filled: np.ndarray  # (groups, atoms) 1, or 0 in padding
    constraints: np.ndarray  # (groups, constraints) indices; the number of constraints in padding


class ConstraintGroups(eqx.Module):
    """Which constraints share atoms, as padded tables.

    Arguments:
        constraint, atom: (entries,) which constraint depends on which atom.
        n_constraints, n_atoms: how many there are.

    Raises:
        ValueError: more than `LARGEST_GROUP` constraints hang together.
    """

    buckets: tuple[Bucket, ...]
    colour: np.ndarray  # (constraints,) place of each constraint in its group
    slot: np.ndarray  # (atoms,) place of each atom among the buckets' tables, one after the other
    row: np.ndarray  # (constraints,) place of each constraint among the buckets' tables
    colours: int = eqx.field(static=True)

    def __init__(self, constraint: np.ndarray, atom: np.ndarray, n_constraints: int, n_atoms: int):
        links = coo_array(
            (np.ones(len(constraint)), (constraint, n_constraints + atom)), shape=(n_constraints + n_atoms,) * 2
        )
        label = connected_components(links, directed=False)[1]
        # Groups in the order of their size; atoms that no constraint touches are in none.
        sizes = np.bincount(label[:n_constraints])
        if sizes.max() > LARGEST_GROUP:
            raise ValueError(
                f"{sizes.max()} constraints hang together through shared atoms, more than {LARGEST_GROUP}; "
                "hold fewer bonds rigid (those to hydrogens, say)."
            )
        groups = [
            (np.flatnonzero(label[:n_constraints] == g), np.flatnonzero(label[n_constraints:] == g))
            for g in np.flatnonzero(sizes)
        ]
        # Classes of sizes a factor four apart: little padding, few shapes to compile.
        classes: dict[tuple[int, int], list] = {}
        for group in groups:
            size = int(np.ceil(0.5 * np.log2(len(group[0])))), int(np.ceil(0.5 * np.log2(len(group[1]))))
            classes.setdefault(size, []).append(group)
        colour, slot, row = np.zeros(n_constraints, np.int32), np.full(n_atoms, -1), np.zeros(n_constraints, np.int32)
        buckets, n_slots, n_rows = [], 0, 0
        for members in classes.values():
            height, width = (max(len(group[i]) for group in members) for i in (0, 1))
            atoms, filled = np.zeros((2, len(members), width), np.int32)
            constraints = np.full((len(members), height), n_constraints, np.int32)
            for g, (own, touched) in enumerate(members):
                atoms[g, : len(touched)], filled[g, : len(touched)] = touched, 1
                constraints[g, : len(own)] = own
                colour[own] = np.arange(len(own))
                slot[touched] = n_slots + g * width + np.arange(len(touched))
                row[own] = n_rows + g * height + np.arange(len(own))
            buckets.append(Bucket(atoms, filled, constraints))
            n_slots, n_rows = n_slots + atoms.size, n_rows + constraints.size
        self.buckets = tuple(buckets)
        self.colour = colour
        self.slot = np.where(slot < 0, n_slots, slot).astype(np.int32)
        self.row = row
        self.colours = int(sizes.max())

    def jacobians(self, pull: Callable[[Array], Array], like: AtomVectors) -> tuple[Array, ...]:
        """The Jacobian whose transpose is ``pull``, (constraints,) → (atoms, 3), in the dtype of ``like``.

        For each bucket (groups, constraints, atoms, 3).
        """
        seeds = (self.colour == np.arange(self.colours, dtype=np.int32)[:, None]).astype(np.int32)
        rows = jax.vmap(pull)(jnp.asarray(seeds).astype(like.dtype))
        jacobians = []
        for bucket in self.buckets:
            local = jnp.moveaxis(rows[: bucket.constraints.shape[1], bucket.atoms], 0, 1)
            jacobians.append(local * jnp.asarray(bucket.filled).astype(like.dtype)[:, None, :, None])
        return tuple(jacobians)

    def grams(self, left: tuple[Array, ...], right: tuple[Array, ...], masses: Array) -> tuple[Array, ...]:
        """J m⁻¹ Kᵀ of two Jacobians, for each bucket (groups, constraints, constraints), one on the padded diagonal."""
        grams = []
        for bucket, j, k in zip(self.buckets, left, right, strict=True):
            inverse = (1 / masses.astype(j.dtype))[bucket.atoms]
            padding = (bucket.constraints == len(self.colour)).astype(np.int32)
            ones = jnp.asarray(padding).astype(j.dtype)[:, :, None] * jnp.eye(j.shape[1], dtype=j.dtype)
            grams.append(_einsum("gkai,glai->gkl", j * inverse[:, None, :, None], k) + ones)
        return tuple(grams)

    def factor(self, jacobians: tuple[Array, ...], masses: Array) -> Factor:
        """Cholesky factors of the Gram matrix of a Jacobian in the metric of ``masses``."""
        grams = self.grams(jacobians, jacobians, masses)
        return Factor(jacobians, tuple(jnp.linalg.cholesky(gram) for gram in grams))

    def correction(self, factor: Factor, values: Array, masses: Array) -> Array:
        """m⁻¹ Jᵀ (J m⁻¹ Jᵀ)⁻¹ ``values``: the smallest (atoms, 3) change that changes the constraints by ``values``."""
        multipliers = [_solve(c, v) for c, v in zip(factor.choleskys, self.gathered(values), strict=True)]
        return self.spread(factor.jacobians, multipliers, masses)

    def gathered(self, values: Array) -> tuple[Array, ...]:
        """(constraints,) values as (groups, constraints) for each bucket, zero in padding."""
        padded = jnp.concatenate([values, jnp.zeros(1, values.dtype)])
        return tuple(padded[bucket.constraints] for bucket in self.buckets)

    def spread(self, jacobians: tuple[Array, ...], multipliers: Sequence[Array], masses: Array) -> Array:
        """m⁻¹ Jᵀ λ, (atoms, 3), of multipliers λ (groups, constraints) of each bucket."""
        pieces = [
            _einsum("gkai,gk->gai", jacobian, of_group).reshape(-1, 3)
            for jacobian, of_group in zip(jacobians, multipliers, strict=True)
        ]
        spread = jnp.concatenate([*pieces, jnp.zeros((1, 3), pieces[0].dtype)])[self.slot]
        return spread / masses.astype(spread.dtype)[:, None]

    def velocities(self, factor: Factor, velocity: AtomVectors) -> Array:
        """(constraints,) J v."""
        pieces = [
            _einsum("gkai,gai->gk", jacobian, jnp.asarray(velocity)[bucket.atoms]).ravel()
            for bucket, jacobian in zip(self.buckets, factor.jacobians, strict=True)
        ]
        return jnp.concatenate(pieces)[self.row]

    def independence(self, factor: Factor) -> Array:
        """(constraints,) 1 / (G_cc (G⁻¹)_cc) of the Gram matrix G: zero for those that follow from others."""
        pieces = []
        for cholesky in factor.choleskys:
            identity = jnp.broadcast_to(jnp.eye(cholesky.shape[1], dtype=cholesky.dtype), cholesky.shape)
            inverse = jnp.diagonal(cho_solve((cholesky, True), identity), axis1=1, axis2=2)
            found = 1 / (inverse * jnp.sum(cholesky**2, axis=2))
            pieces.append(jnp.where(jnp.isfinite(found), found, 0.0).ravel())
        return jnp.concatenate(pieces)[self.row]

    def half_log_determinant(self, factor: Factor) -> Scalar:
        """½ log det(J m⁻¹ Jᵀ)."""
        return sum(
            (jnp.sum(jnp.log(jnp.diagonal(c, axis1=1, axis2=2))) for c in factor.choleskys),
            start=jnp.zeros((), factor.choleskys[0].dtype),
        )


def _solve(cholesky, values):
    return cho_solve((cholesky, True), values[..., None])[..., 0]


def _einsum(formula: str, *operands) -> Array:
    return jnp.einsum(formula, *operands, precision="highest")
