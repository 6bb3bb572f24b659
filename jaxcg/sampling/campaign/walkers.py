"""Chains of many frames of one molecule as one batch that is shared out over the devices."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...batching import batch_map
from ...neighbors import NeighborTable
from ...posterior import Posterior
from ...run import AbstractKernel
from ...typing import Array, PRNGKeyArray


def differing_leaves(trees: Sequence[Any]) -> tuple[int, ...]:
    """Numbers of the array leaves in which pytrees of one structure differ.

    Raises:
        ValueError: the structures or shapes differ.
    """
    first, structure = jax.tree.flatten(trees[0])
    found = set()
    for number, tree in enumerate(trees[1:], 1):
        leaves, other = jax.tree.flatten(tree)
        if other != structure or any(np.shape(a) != np.shape(b) for a, b in zip(first, leaves, strict=True)):
            raise ValueError(
                f"campaign: frame {number} is not of the same shape as frame 0; sample frames of one molecule, one "
                "map and one kind of beads (exact or soft) together."
            )
        found |= {
            i
            for i, (a, b) in enumerate(zip(first, leaves, strict=True))
            if a is not b and i not in found and not np.array_equal(np.asarray(a), np.asarray(b))
        }
    return tuple(sorted(found))


def with_leaves(tree: Any, numbers: Sequence[int], values: Sequence[Any]) -> Any:
    """``tree`` with its leaves ``numbers`` replaced."""
    leaves, structure = jax.tree.flatten(tree)
    for number, value in zip(numbers, values, strict=True):
        leaves[number] = value
    return jax.tree.unflatten(structure, leaves)


class Walkers(AbstractKernel):
    """Chains of several frames as a single kernel; a walker is one chain of one frame.

    What frames do not share (their beads, ...) has a leading axis (walkers), everything else is there once. A walker
    draws from ``fold_in(fold_in(key, frame), chain)``, so what it does depends neither on the others nor on the
    devices. Walkers do not communicate: the compiled step holds no collective operation.

    Arguments:
        kernel: of one walker; the leaves that are a walker's own are replaced in it.
        labels: (walkers, 2) number of the frame and of the chain.
        own: leaves with a leading axis (walkers).
        own_leaves: their numbers among the leaves of ``kernel``.
        vectorized: see `jaxcg.batching.batch_map`.
    """

    kernel: AbstractKernel
    labels: Array
    own: tuple[Array, ...]
    own_leaves: tuple[int, ...] = eqx.field(static=True)
    vectorized: bool = eqx.field(static=True, default=False)

    @staticmethod
    def of(
        kernels: Sequence[AbstractKernel],
        frames: Sequence[int],
        labels: Any,
        own_leaves: Sequence[int] | None = None,
        *,
        vectorized: bool = False,
    ) -> "Walkers":
        """Walkers whose kernels are ``kernels[frames[i]]``.

        Arguments:
            kernels: one for each frame, of one structure.
            frames: (walkers,) which kernel each walker has.
            labels: (walkers, 2) number of the frame in the campaign, and of the chain: they choose random numbers.
            own_leaves: numbers of the leaves that frames do not share; found by comparing when None.
            vectorized: see `jaxcg.batching.batch_map`.
        """
        chosen = differing_leaves(kernels) if own_leaves is None else tuple(own_leaves)
        leaves = [jax.tree.leaves(kernel) for kernel in kernels]
        own = tuple(jnp.stack([leaves[frame][i] for frame in frames]) for i in chosen)
        return Walkers(kernels[0], jnp.asarray(np.asarray(labels), jnp.int32), own, chosen, vectorized)

    def init(self, key: PRNGKeyArray, position: Array) -> Any:
        """States at ``position`` (walkers, atoms, 3)."""
        return _init(self, key, position)

    def step(self, key: PRNGKeyArray, state: Any) -> tuple[Any, Any]:
        """One step of every walker."""
        return self._map(_step_of_one, key, state)

    def rebuild(self, state: Any) -> Self:
        """The same with pair lists large enough for every walker; each makes its own anew while it moves."""
        kernel, position = self.kernel, _position(state)
        lacking = np.asarray(_lacking_room(self, position))
        for walker in np.flatnonzero(lacking > 0):
            kernel = _with_posterior(kernel, lambda p, x=position[walker]: p.rebuild(x))
        return self if kernel is self.kernel else eqx.tree_at(lambda w: w.kernel, self, kernel)

    def healthy(self, state: Any) -> Array:
        """(walkers,) True where the state is finite."""
        return jax.vmap(self.kernel.healthy)(state)

    def _map(self, function, key, batch):
        one = partial(_of_walker, function, self.own_leaves)
        mapped = batch_map(one, vectorized=self.vectorized)
        return mapped((self.kernel, key), self.own, self.labels, batch)


def _of_walker(function, own_leaves, shared, own, label, value):
    # The key is drawn on the device that has the walker.
    kernel, key = shared
    key = jax.random.fold_in(jax.random.fold_in(key, label[0]), label[1])
    return function(with_leaves(kernel, own_leaves, own), key, value)


def _step_of_one(kernel, key, state):
    return kernel.step(key, state)


def _init_of_one(kernel, key, position):
    return kernel.init(key, position)


def _potential_of_one(kernel, key, position):
    del key
    posterior = next(p for p in jax.tree.leaves(kernel, is_leaf=_is_posterior) if _is_posterior(p))
    return posterior.rebuild(position).potential(position)


def _room_of_one(kernel, key, position):
    del key
    lists = _with_posterior(kernel, lambda p: p.rebuild(position))
    tables = [t for t in jax.tree.leaves(lists, is_leaf=_is_table) if _is_table(t)]
    return sum((t.overflow for t in tables), jnp.zeros((), jnp.int32))


@eqx.filter_jit
def _init(walkers, key, position):
    return walkers._map(_init_of_one, key, position)


@eqx.filter_jit
def potentials(walkers: Walkers, key: PRNGKeyArray, position: Array) -> Array:
    """(walkers,) −kT log p(x|y) at ``position`` (walkers, atoms, 3), kJ/mol; ``key`` is not used."""
    return walkers._map(_potential_of_one, key, position)


@eqx.filter_jit
def _lacking(walkers, key, position):
    return walkers._map(_room_of_one, key, position)


def _lacking_room(walkers: Walkers, position) -> Any:
    """(walkers,) how many rows the pair lists lack; zero everywhere where there are none."""
    if not any(map(_is_table, jax.tree.leaves(walkers.kernel, is_leaf=_is_table))):
        return np.zeros(len(position), int)
    return _lacking(walkers, jax.random.key(0), position)


def _with_posterior(kernel, change):
    """``kernel`` with ``change`` applied to the posterior it holds, wherever in it."""
    return jax.tree.map(lambda node: change(node) if _is_posterior(node) else node, kernel, is_leaf=_is_posterior)


def _position(state) -> Any:
    """Positions in a state of any kernel: the field of that name, or that of the chain within."""
    return state.chain.position if hasattr(state, "chain") else state.position


def _is_posterior(node) -> bool:
    return isinstance(node, Posterior)


def _is_table(node) -> bool:
    return isinstance(node, NeighborTable)
