"""Averages at other parameters than the draws were made with, and averages as differentiable functions of them."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from ...batching import batch_width
from ...mapping.base import AbstractFibre, AbstractLinearMap
from ...posterior import Posterior
from ...typing import Array, Scalar
from .monte_carlo import Draws, check_draws, over_draws, series_mean

#: Share of the draws, in effective number, below which reweighting is called collapsed, and fewest of them.
COLLAPSED, FEWEST = 0.1, 20


class Reweighted(NamedTuple):
    """Result of `reweight`.

    Fields:
        value, error: E[g] under the other posterior and its standard error, as in `Estimate`.
        effective_draws: Kish's effective number of draws (Σw)²/Σw², correlations in the chains not counted.
        share: ``effective_draws`` by the number of draws; 1 where nothing changed.
        free_energy: −kT ln of the ratio of the normalisers, other to own, at the temperature of the other, kJ/mol;
            for soft posteriors it is W_other(y) − W(y) up to the constant of the noise. nan if their temperatures
            differ.
        status: "trusted", or "collapsed" where a few draws carry the weight: draw anew.
    """

    value: Any
    error: Any
    effective_draws: float
    share: float
    free_energy: float
    status: Literal["trusted", "collapsed"]


def reweight(observable: Callable[[Array], Any], draws: Draws, posterior: Posterior, other: Posterior) -> Reweighted:
    """E[g] under a nearby posterior from draws of ``posterior``, by the weights p_other(x)/p(x).

    The error follows from the weighted deviations w (g − E[g]) as a series; it is itself not to be trusted once the
    weights have collapsed.

    Arguments:
        observable: g(x), an array or a pytree of arrays.
        draws: (chains, draws, atoms, 3) samples of ``posterior``, nm.
        posterior: what was sampled.
        other: another energy, temperature, or for soft posteriors beads or noise.

    Returns:
        The `Reweighted`.

    Raises:
        ValueError: the two live on different fibres; draws of another shape, or values that are not finite.

    Source: Kish, Survey Sampling (1965), for the effective number of draws.
    """
    if posterior.exact != other.exact:
        raise ValueError("reweight: one posterior holds its beads exactly and the other does not; no draw serves both.")
    if posterior.exact and not np.array_equal(np.asarray(posterior.y), np.asarray(other.y)):
        raise ValueError("reweight: the exact posteriors have other beads y; draws lie on the fibre of one only.")
    check_draws(draws, "reweight", posterior.mapping.n_atoms)
    first = jnp.asarray(draws[0, 0])
    shared = (observable, posterior.rebuild(first), other.rebuild(first))
    g, own, new = over_draws(_densities, shared, draws, "reweight")
    log_weights = new - own
    highest = log_weights.max()
    weights = np.exp(log_weights - highest)
    weights /= weights.mean()
    effective = float(weights.sum() ** 2 / (weights**2).sum())

    def ratio(series):
        weighted = weights.reshape(weights.shape + (1,) * (series.ndim - 2))
        value = (weighted * series).mean(axis=(0, 1))
        return value, series_mean(weighted * (series - value))[1]

    structure = jax.tree.structure(g)
    pairs = [ratio(leaf) for leaf in jax.tree.leaves(g)]
    value, error = (structure.unflatten([pair[i] for pair in pairs]) for i in range(2))
    thermal = float(other.thermal_energy)
    comparable = float(posterior.temperature) == float(other.temperature)
    free_energy = -thermal * float(highest + np.log(np.mean(np.exp(log_weights - highest)))) if comparable else np.nan
    share = effective / weights.size
    collapsed = share < COLLAPSED or effective < min(FEWEST, 0.5 * weights.size)
    return Reweighted(value, error, effective, share, free_energy, "collapsed" if collapsed else "trusted")


def differentiable_expectation(
    observable: Callable[[Array], Any],
    draws: Draws,
    posterior: Posterior,
    *,
    drawn_from: Posterior | None = None,
    fibre: AbstractFibre | None = None,
    batch: int | None = None,
) -> Any:
    """E[g(X) | y] over fixed draws, as a function that JAX differentiates by the covariance formula.

    The draws are taken as samples of ``posterior``, whose parameters may be traced: derivatives with respect to those
    of the energy, the temperature, the noise and the beads y are dE[g] = E[dg] + Cov(g, d log p), not the zero that
    fixed draws would give. On the exact fibre the draws follow the beads, and the observable moves with them. It is
    the derivative of the reweighted average at weights of one, so that higher derivatives are right too; forward and
    reverse mode both work, in the memory of one draw.

    Arguments:
        observable: g(x), an array or a pytree of arrays; it may depend on parameters too, by closing over them.
        draws: (chains, draws, atoms, 3) samples, nm; constants.
        posterior: the function's argument.
        drawn_from: the posterior that the draws were made with, where ``posterior`` has moved away from it: the average
            is then reweighted to ``posterior`` (see `reweight` for how far that may go). None: they are the same.
        fibre: that of the posterior's map, needed only where the whole posterior is an argument of `jax.jit`.
        batch: draws vectorised at once; by default one on a CPU.

    Returns:
        The average, of the structure and shapes of g.

    Raises:
        ValueError: draws of another shape.
    """
    check_draws(draws, "differentiable_expectation", posterior.mapping.n_atoms)
    x = lax.stop_gradient(jnp.asarray(draws)).reshape(-1, *draws.shape[2:])
    frozen = lax.stop_gradient if drawn_from is None else _same
    reference = jax.tree.map(_constant, posterior if drawn_from is None else drawn_from)
    shift = jnp.zeros_like(x[0])
    if posterior.exact:
        if fibre is None:
            mapping: AbstractLinearMap = reference.linear_map("differentiable_expectation")
            fibre = mapping.fibre()
        y = posterior.y.astype(x.dtype)
        shift = jnp.asarray(fibre.lift(y - lax.stop_gradient(reference.y).astype(x.dtype)))

    @jax.checkpoint
    def one(x):
        moved = x + shift
        log_weight = posterior.rebuild(lax.stop_gradient(moved)).log_density(moved)
        return observable(moved), log_weight - frozen(reference.rebuild(x).log_density(x))

    batch = (1 if jax.default_backend() == "cpu" else batch_width()) if batch is None else batch
    values, log_weights = lax.map(one, x, batch_size=None if batch == 1 else batch)
    # A constant in all logarithms changes nothing; this one keeps the exponentials finite.
    weights = jnp.exp(log_weights - lax.stop_gradient(jnp.max(log_weights)))
    weights = weights / jnp.sum(weights)
    return jax.tree.map(lambda leaf: _weighted(weights, leaf), values)


def _densities(shared, x):
    observable, own, new = shared
    return observable(x), own.rebuild(x).log_density(x), new.rebuild(x).log_density(x)


def _weighted(weights: Array, values: Array) -> Array:
    """Mean of ``values`` with ``weights``; centred first, for the derivative is a covariance of what may be large."""
    centre = lax.stop_gradient(jnp.mean(values, axis=0))
    return centre + jnp.tensordot(weights, values - centre, axes=1, precision="highest")


def _constant(leaf):
    # What is no tracer has no derivative, and must not become one under jit: maps need their weights in NumPy.
    return lax.stop_gradient(leaf) if isinstance(leaf, Tracer) else leaf


def _same(value: Scalar) -> Scalar:
    return value
