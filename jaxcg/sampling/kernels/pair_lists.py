"""Pair lists that are made anew along a trajectory, so that forces never depend on where the list was made.

A list made at the start of a trajectory misses pairs as soon as atoms have moved by half its skin. Forces would then
depend on the start: the way back, whose list is made at the other end, would be another way, and the Metropolis test
would not lead to the right distribution.
"""

from typing import NamedTuple

import jax
from jax import lax

from ...posterior import Posterior
from ...typing import Array, AtomVectors


class PairLists(NamedTuple):
    """The arrays of a posterior that `Posterior.rebuild` replaces, taken out so that a loop can carry them.

    Fields:
        arrays: the pair lists; empty where the energy has none.
        posterior: all the rest.
        places: where the arrays stand among the leaves of the posterior.
    """

    arrays: tuple[Array, ...]
    posterior: Posterior
    places: tuple[int, ...]

    @staticmethod
    def of(posterior: Posterior, x: AtomVectors) -> "PairLists":
        """The lists of ``posterior`` as they are; ``x`` is any configuration."""
        old, new = jax.tree.leaves(posterior), jax.tree.leaves(posterior.rebuild(x))
        if len(old) != len(new):  # no list yet: all pairs are visited
            return PairLists((), posterior, ())
        places = tuple(i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a is not b)
        return PairLists(tuple(old[i] for i in places), posterior, places)

    def at(self, arrays: tuple[Array, ...]) -> Posterior:
        """The posterior with these lists."""
        leaves, structure = jax.tree.flatten(self.posterior)
        for place, array in zip(self.places, arrays, strict=True):
            leaves[place] = array
        return jax.tree.unflatten(structure, leaves)

    def fresh(self, arrays: tuple[Array, ...], x: AtomVectors) -> tuple[Array, ...]:
        """The lists, made anew around ``x`` if an atom has moved too far for them."""
        if not self.places:
            return arrays
        posterior = self.at(arrays)

        def rebuilt():
            leaves = jax.tree.leaves(posterior.rebuild(x))
            return tuple(leaves[i] for i in self.places)

        return lax.cond(posterior.energy.stale(x), rebuilt, lambda: arrays)
