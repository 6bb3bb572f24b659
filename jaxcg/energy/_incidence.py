"""Sums of per-term vectors into atoms, by gathers."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..typing import Array, Int
from ._arrays import leaf
from ._geometry import Triple


class Incidence(eqx.Module):
    """Which terms act on which atom.

    Row k of atom i names the flat position (slot × terms + term) of its k-th contribution; padding points one past
    the end, where a zero is appended. The table is (width, atoms): the sum runs over the major axis and vectorises
    across atoms.
    """

    index: Int[Array, "width atoms"]

    def __init__(self, atoms: np.ndarray, n_atoms: int):
        n_terms, n_slots = atoms.shape
        owners = np.asarray(atoms).T.reshape(-1)
        order = np.argsort(owners, kind="stable")
        counts = np.bincount(owners, minlength=n_atoms)
        rank = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        table = np.full((max(int(counts.max(initial=0)), 1), n_atoms), n_slots * n_terms, dtype=np.int32)
        table[rank, owners[order]] = order
        self.index = leaf(table)

    def total(self, vectors: list[Triple] | tuple[Triple, ...]) -> Array:
        """Sum of per-term vectors, one triple of (terms,) arrays per slot, as an (atoms, 3) array."""
        padding = jnp.zeros((1, 3), vectors[0][0].dtype)
        rows = jnp.concatenate([*(jnp.stack(v, axis=-1) for v in vectors), padding])
        return rows.at[self.index].get(mode="promise_in_bounds").sum(axis=0)
