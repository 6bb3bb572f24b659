"""Trajectories that gradients go through, in memory that grows like the square root of their length."""

from collections.abc import Callable
from math import isqrt
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...run import AbstractKernel
from ...typing import Array, PRNGKeyArray


class Rollout(NamedTuple):
    """Result of `rollout`.

    Fields:
        state: the last state.
        observations: of every ``every``-th state, leading axis (steps // every).
    """

    state: Any
    observations: Any


def rollout(
    dynamics: AbstractKernel,
    state: Any,
    key: PRNGKeyArray,
    steps: int,
    *,
    every: int = 1,
    observe: Callable[[Any], Any] | None = None,
    segment: int | None = None,
) -> Rollout:
    """The trajectory that `jaxcg.run.run` makes with the same key, as a pure function to compile and differentiate.

    The reverse pass keeps one state for each segment and makes the steps of a segment anew, with the same random
    numbers: a gradient takes memory for steps/segment + segment states, and one more forward pass. It reaches the
    potential, kernel, masses and temperature of the dynamics, and the starting state. Trajectories that are chaotic
    have gradients that grow with their length; keep them to a few correlation times.

    Arguments:
        dynamics: any; built inside the differentiated function, if its kernel or masses are what is differentiated.
        state: from ``dynamics.init``; of one system (use `jax.vmap` for several).
        key: random key.
        steps: number of steps, a multiple of ``every``.
        every: states are observed after every this many steps.
        observe: what to keep of an observed state; by default its position.
        segment: steps of a segment; √steps if None, the least memory.

    Raises:
        ValueError: steps is not a multiple of every, or a number is below one.

    Source: Griewank, Optim. Methods Softw. 1, 35 (1992), the one-level scheme; Chen et al., arXiv:1604.06174.
    """
    segment = max(isqrt(steps), 1) if segment is None else segment
    if min(steps, every, segment) < 1 or steps % every:
        raise ValueError(
            f"rollout: steps ({steps}) must be a multiple of every ({every}), and these and segment ({segment}) "
            "at least 1."
        )
    observe = _position if observe is None else observe

    def step(state, index):
        return dynamics.step(jax.random.fold_in(key, index), state)[0], None

    def save(state, first):
        indices = first + jnp.arange(every, dtype=jnp.int32)
        if every <= segment:
            state, _ = jax.lax.scan(step, state, indices)
        else:  # several segments between two observations
            state, _ = _segmented(step, state, indices, segment)
        return state, observe(state)

    firsts = every * jnp.arange(steps // every, dtype=jnp.int32)
    if every <= segment:
        return Rollout(*_segmented(save, state, firsts, segment // every))
    return Rollout(*jax.lax.scan(save, state, firsts))


def _segmented(body: Callable, carry: Any, xs: Array, size: int) -> tuple[Any, Any]:
    """`jax.lax.scan` whose reverse pass keeps the carry at the start of every ``size``-th iteration only."""

    def several(carry, xs):
        return jax.lax.scan(body, carry, xs)

    # Inside a scan nothing can be merged with the forward pass, so the barriers against it are not needed.
    segment = jax.checkpoint(several, prevent_cse=False)
    whole = len(xs) // size
    carry, outputs = jax.lax.scan(segment, carry, xs[: whole * size].reshape(whole, size))
    outputs = jax.tree.map(lambda leaf: leaf.reshape(whole * size, *leaf.shape[2:]), outputs)
    if whole * size == len(xs):
        return carry, outputs
    carry, rest = jax.checkpoint(several)(carry, xs[whole * size :])
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), outputs, rest)


def _position(state: Any) -> Array:
    return state.position
