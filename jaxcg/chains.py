"""Many chains of one kernel as a single kernel."""

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp

from .batching import batch_map
from .run import AbstractKernel
from .typing import Array, PRNGKeyArray


class Chains(AbstractKernel):
    """Independent chains of ``kernel``, batched by `batch_map`.

    States and infos have a leading axis (chains). Chain i draws from ``fold_in(key, i)``, so what a chain does
    does not depend on how many others there are. Pair lists are kept per chain: the leaves a rebuild replaces get a
    chain axis, everything else is shared.

    Arguments:
        kernel: of one chain.
        vectorized: see `batch_map`.
    """

    kernel: AbstractKernel
    vectorized: bool = eqx.field(static=True, default=False)
    own: tuple[Array, ...] = ()
    own_leaves: tuple[int, ...] = eqx.field(static=True, default=())

    def init(self, key: PRNGKeyArray, position: Array) -> Any:
        """States at ``position`` (chains, atoms, 3)."""
        return _init(self, key, position)

    def step(self, key: PRNGKeyArray, state: Any) -> tuple[Any, Any]:
        """One step of every chain."""
        mapped = batch_map(_step_of_one, vectorized=self.vectorized)
        return mapped((self, key), self.own, _numbers(state), state)

    def rebuild(self, state: Any) -> Self:
        """Pair lists made anew around every chain's own state; a list that one chain needs larger, all get larger."""
        first = self.kernel.rebuild(jax.tree.map(lambda leaf: leaf[0], state))
        if _same_leaves(first, self.kernel):
            return self  # no lists: nothing to do for the other chains, which may be many
        count = jax.tree.leaves(state)[0].shape[0]
        states = [jax.tree.map(lambda leaf, chain=chain: leaf[chain], state) for chain in range(count)]
        kernel, known = self.kernel, [first]
        while True:
            rebuilt = [jax.tree.leaves(one) for one in (*known, *(kernel.rebuild(one) for one in states[len(known) :]))]
            known = []
            if len(rebuilt[0]) != len(jax.tree.leaves(kernel)):
                kernel = kernel.rebuild(states[0])  # its first list
                continue
            changed = tuple(i for i, leaf in enumerate(jax.tree.leaves(kernel)) if rebuilt[0][i] is not leaf)
            if not changed:
                return self
            largest = max(range(count), key=lambda chain: sum(leaf.size for leaf in rebuilt[chain]))
            if all(
                leaf.shape == other.shape for one in rebuilt for leaf, other in zip(one, rebuilt[largest], strict=True)
            ):
                break
            kernel = kernel.rebuild(states[largest])
        own = tuple(jnp.stack([leaves[i] for leaves in rebuilt]) for i in changed)
        return type(self)(kernel, self.vectorized, own, changed)

    def healthy(self, state: Any) -> Array:
        """(chains,) True where a chain's state is finite."""
        return jax.vmap(self.kernel.healthy)(state)

    def _of_chain(self, own) -> AbstractKernel:
        leaves, structure = jax.tree.flatten(self.kernel)
        for i, leaf in zip(self.own_leaves, own, strict=True):
            leaves[i] = leaf
        return jax.tree.unflatten(structure, leaves)


@eqx.filter_jit
def _init(chains, key, position):
    mapped = batch_map(_init_of_one, vectorized=chains.vectorized)
    return mapped((chains, key), chains.own, _numbers(position), position)


# The key of a chain is drawn on the device that has the chain: drawn before, every device would draw them all.
def _step_of_one(shared, own, number, state):
    chains, key = shared
    return chains._of_chain(own).step(jax.random.fold_in(key, number), state)


def _init_of_one(shared, own, number, position):
    chains, key = shared
    return chains._of_chain(own).init(jax.random.fold_in(key, number), position)


def _same_leaves(one, other) -> bool:
    ours, theirs = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(ours) == len(theirs) and all(a is b for a, b in zip(ours, theirs, strict=True))


def _numbers(batch) -> Array:
    return jnp.arange(jax.tree.leaves(batch)[0].shape[0])
