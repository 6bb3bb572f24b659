"""The MAP structure: the mode of the posterior, by gradient descent on the fibre."""

from functools import cache
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..errors import ResultError
from ..lockstep import Batched, Program, alone, call
from ..mapping.base import AbstractFibre
from ..posterior import Posterior
from ..typing import Array, AtomVectors

#: Steps between two rebuilds of the pair lists and two looks at the clock.
CHUNK = 50

Status = Literal["converged", "steps exhausted", "not finite"]


class MapEstimate(eqx.Module):
    """Result of `map_estimate`.

    Arguments:
        x: (atoms, 3) positions, nm, on the fibre to round-off when the beads are exact.
        potential: −kT log p(x|y) up to its constant, kJ/mol.
        gradient_norm: root mean square of the projected gradient, kJ/mol/nm.
        steps: optimiser steps taken.
        status: ``"converged"``, ``"steps exhausted"`` or ``"not finite"``: the energy was not, at the start or on the
            way; ``x`` is then the best structure before.
        history: (chunks, 3) rows of step, potential and gradient norm.
    """

    x: Array
    potential: float
    gradient_norm: float
    steps: int
    status: Status = eqx.field(static=True)
    history: list[tuple[int, float, float]] = eqx.field(static=True)


class _State(eqx.Module):
    x: Array
    optimizer: optax.OptState
    value: Array
    gradient_norm: Array
    step: Array
    best: Array
    best_value: Array


def map_estimate(
    posterior: Posterior,
    x0: AtomVectors,
    optimizer: optax.GradientTransformationExtraArgs | optax.GradientTransformation | None = None,
    *,
    steps: int = 500,
    tolerance: float = 10.0,
    throw: bool = True,
) -> MapEstimate:
    """Mode of ``posterior`` nearest to ``x0``.

    With exact beads the gradient is projected into the null space of the map and every step ends with a retraction: the
    iterates never leave the fibre M(x) = y. With noisy beads the descent is free.

    Arguments:
        posterior: what to maximise.
        x0: (atoms, 3) start, nm; retracted to the fibre first.
        optimizer: any optax transformation; `default_optimizer` (L-BFGS) if None.
        steps: most steps to take.
        tolerance: stop when the root mean square of the projected gradient falls below this, kJ/mol/nm.
        throw: raise when the result is not finite; otherwise say so in ``status``.

    Returns:
        A `MapEstimate`.

    Raises:
        ResultError: the energy is not finite, if ``throw``.

    Source: theory of back-mapping as constrained minimisation, x_MAP = argmin U(x) subject to M(x) = y.
    """
    posterior = posterior.rebuild(jnp.asarray(x0))
    own = jax.tree.map(lambda leaf: False, posterior)
    found = alone(map_search(posterior, own, x0, optimizer, steps=steps, tolerance=tolerance))
    if found.status == "not finite" and throw:
        raise ResultError(
            "map_estimate: the energy is not finite; start from a relaxed structure (see jaxcg.backmap.relax)."
        )
    return found


def map_search(
    posterior: Posterior,
    own: Posterior,
    x0: AtomVectors,
    optimizer: optax.GradientTransformationExtraArgs | optax.GradientTransformation | None = None,
    *,
    steps: int = 500,
    tolerance: float = 10.0,
    fibre: AbstractFibre | None = None,
) -> Program[MapEstimate]:
    """The program of `map_estimate`, which never raises.

    Arguments:
        posterior: what to maximise; the pair lists of its energy are made anew within the search, and get more room
            where theirs is too small.
        own: the same tree with True for the leaves, such as the beads, that other structures of a batch do not share.
        x0, optimizer, steps, tolerance: as for `map_estimate`.
        fibre: that of the posterior's map with unit masses; searches that are to share a batch must share it.
    """
    mapping = posterior.linear_map("map_estimate")
    fibre = mapping.fibre() if fibre is None else fibre
    optimizer = optax.with_extra_args_support(default_optimizer() if optimizer is None else optimizer)
    x0 = np.asarray(x0)
    limits = np.asarray(CHUNK, np.int32), np.asarray(steps, np.int32), np.asarray(tolerance, x0.dtype)
    mine, common = eqx.partition(posterior, own)
    state: _State = yield from call(_START, (common, fibre, optimizer), mine, x0)
    history: list[tuple[int, float, float]] = []
    status: Status | None = None
    while status is None:
        new: _State = yield from call(_ADVANCE, (common, fibre, optimizer, limits), mine, state)
        value, norm, step = (np.asarray(v).item() for v in (new.value, new.gradient_norm, new.step))
        if not np.isfinite(value):
            # Either the structure is beyond hope or a pair list had no room for it.
            larger = eqx.combine(mine, common).rebuild(jnp.asarray(state.x))
            if _sizes(larger) != _sizes(eqx.combine(mine, common)):
                mine, common = eqx.partition(larger, own)
                continue
        state = new
        history.append((step, value, norm))
        if not np.isfinite(value):
            status = "not finite"
        elif norm <= tolerance:
            status = "converged"
        elif step >= steps:
            status = "steps exhausted"
    return MapEstimate(jnp.asarray(state.best), float(state.best_value), norm, step, status, history)


def _sizes(tree) -> list[int]:
    return [np.size(leaf) for leaf in jax.tree.leaves(tree)]


@cache
def default_optimizer() -> optax.GradientTransformationExtraArgs:
    """L-BFGS without a line search, its longest step held to 0.005 nm: one gradient for each step."""
    return optax.chain(
        optax.scale_by_lbfgs(memory_size=10, scale_init_precond=True), optax.scale(-1.0), limit_displacement(0.005)
    )


def limit_displacement(longest: float) -> optax.GradientTransformation:
    """Optax transformation that scales an update down when any atom would move further than ``longest`` (nm)."""

    def update(updates, state, params=None):
        del params
        squared = jnp.max(jnp.sum(updates**2, axis=-1))
        return updates * jnp.minimum(1.0, longest * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _start(shared, mine: Posterior, x0: Array) -> _State:
    common, fibre, optimizer = shared
    posterior = eqx.combine(mine, common)
    if posterior.exact:
        x0 = jnp.asarray(fibre.retract(x0, posterior.y))
    infinite = jnp.asarray(jnp.inf, x0.dtype)
    return _State(x0, optimizer.init(x0), infinite, infinite, jnp.zeros((), jnp.int32), x0, infinite)


def _advance(shared, mine: Posterior, state: _State) -> _State:
    common, fibre, optimizer, (n_steps, limit, tolerance) = shared
    posterior = eqx.combine(mine, common).rebuild(state.x)

    def going(carry):
        i, s = carry
        fresh = (i == 0) | ~posterior.energy.stale(s.x)
        return (i < n_steps) & (s.step < limit) & (s.gradient_norm > tolerance) & fresh

    def step(carry):
        i, s = carry
        value, gradient = jax.value_and_grad(posterior.potential)(s.x)
        if posterior.exact:
            gradient = fibre.tangent(gradient)
        norm = jnp.sqrt(jnp.mean(gradient**2))
        better = value < s.best_value
        update, moments = optimizer.update(gradient, s.optimizer, s.x, value=value, grad=gradient)
        x = s.x + update
        if posterior.exact:
            x = fibre.retract(x, posterior.y)
        x = jnp.where(norm <= tolerance, s.x, x)
        best, best_value = jnp.where(better, s.x, s.best), jnp.where(better, value, s.best_value)
        return i + 1, _State(x, moments, value, norm, s.step + 1, best, best_value)

    return jax.lax.while_loop(going, step, (jnp.int32(0), state))[1]


_START, _ADVANCE = Batched(_start), Batched(_advance)
