"""How averages over the posterior change with the force field, the temperature and the beads: covariance formulas.

For a density p_θ ∝ exp(−U_θ/kT) the derivative of an average needs no derivative of the sampler:

    dE[g]/dθ = E[dg/dθ] + Cov(g, s),   s = d log p_θ(x)/dθ, up to a constant,

    s = −(dU/dθ)/kT     for a parameter of the energy,
    s = U/(R T²)        for the temperature,
    s = (M(x) − y)/σ²   for the beads of a soft posterior.

On the exact fibre the beads are in the constraint. Let b(x) be any lift, b·∇M = 1: moving along b moves one bead
coordinate by one and no other. Then ∂δ(y − M)/∂y = −b·∇δ(y − M), and integration by parts gives

    dE[g]/dy = E[b·∇g] + Cov(g, f)/kT,   f = −b·∇U + kT ∇·b,

where f is the mean force of one sample: its average is −∂W/∂y. For a linear map b is constant and ∇·b = 0.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...energy.base import AbstractEnergy
from ...posterior import Posterior
from ...typing import Array
from ...units import GAS_CONSTANT
from .lifts import AbstractLift, bead_force, lift_of
from .monte_carlo import Draws, Estimate, check_draws, estimate_of, over_draws, series_mean

#: Components of an influence series formed at once, times the draws: 64 MB in double precision.
_NUMBERS = 2**23


def parameter_gradient(
    observable: Callable,
    draws: Draws,
    posterior: Posterior,
    parameters: Any = None,
    energy_of: Callable[[Any], Callable[[Array], Array]] | None = None,
    *,
    explicit: bool = False,
) -> Estimate:
    """dE[g]/dθ with respect to parameters of the energy, E[dg/dθ] − Cov(g, dU/dθ)/kT, with its Monte Carlo error.

    Memory on the host is one number for every draw and parameter: name the parameters wanted if there are many.

    Arguments:
        observable: g(x), or g(x, parameters) if ``explicit``; returns an array or a pytree of arrays.
        draws: (chains, draws, atoms, 3) samples of the posterior, nm.
        posterior: what was sampled.
        parameters: θ, a pytree of floating-point arrays; by default all those of ``posterior.energy``.
        energy_of: the energy that belongs to parameters, an `AbstractEnergy` or any function of x in kJ/mol; by
            default they are put in place of those of ``posterior.energy``.
        explicit: the observable depends on the parameters itself.

    Returns:
        The `Estimate`. Its fields have the structure of g with, in place of every leaf, a tree like ``parameters`` of
        arrays (shape of the leaf of g) + (shape of the parameter); units those of g by those of θ.

    Raises:
        ValueError: parameters without ``energy_of`` that do not fit the energy; draws of another shape; not finite.
    """
    posterior = _listed(posterior, draws, "parameter_gradient")
    own, rest = eqx.partition(posterior.energy, eqx.is_inexact_array)
    if energy_of is None:
        if parameters is not None and jax.tree.structure(parameters) != jax.tree.structure(own):
            raise ValueError(
                "parameter_gradient: parameters are not those of posterior.energy; give energy_of, the function from "
                "parameters to an energy, along with them."
            )
        energy_of = eqx.Partial(eqx.combine, rest)
    elif parameters is None:
        raise ValueError("parameter_gradient: energy_of needs parameters; give the values the draws were made with.")
    parameters = own if parameters is None else jax.tree.map(jnp.asarray, parameters)
    shared = (observable, energy_of, parameters, explicit)
    g, slope, score = over_draws(_parameter_series, shared, draws, "parameter_gradient")
    thermal = float(posterior.thermal_energy)
    score = jax.tree.map(lambda s: s / -thermal, score)
    return _covariance_formula(g, score, slope if explicit else None)


def temperature_gradient(observable: Callable[[Array], Any], draws: Draws, posterior: Posterior) -> Estimate:
    """dE[g]/dT = Cov(g, U)/(R T²) with its Monte Carlo error; U is the prior energy, the likelihood has no T.

    Arguments:
        observable: g(x), an array or a pytree of arrays.
        draws: (chains, draws, atoms, 3) samples of the posterior, nm.
        posterior: what was sampled.

    Returns:
        The `Estimate`, of the structure and shapes of g, in units of g by K.

    Raises:
        ValueError: draws of another shape, or values that are not finite.
    """
    posterior = _listed(posterior, draws, "temperature_gradient")
    g, energy = over_draws(_energy_series, (observable, posterior), draws, "temperature_gradient")
    return _covariance_formula(g, energy / (GAS_CONSTANT * float(posterior.temperature) ** 2), None)


def bead_gradient(
    observable: Callable[[Array], Any], draws: Draws, posterior: Posterior, lift: AbstractLift | Any = None
) -> Estimate:
    """dE[g]/dy: how an average changes as the beads move, with its Monte Carlo error (formulas: see the module).

    Arguments:
        observable: g(x), an array or a pytree of arrays, differentiable on the exact fibre.
        draws: (chains, draws, atoms, 3) samples of the posterior, nm.
        posterior: what was sampled, exact or soft.
        lift: how atoms follow the beads of an exact posterior, a `ForceMap` or an `AbstractLift`; any gives the same
            average, they scatter differently. By default the atoms of a bead move as one. Not used by a soft
            posterior.

    Returns:
        The `Estimate`; leaves have shape (shape of the leaf of g) + (beads, 3), units of g by nm.

    Raises:
        ValueError: draws of another shape, or values that are not finite.
    """
    posterior = _listed(posterior, draws, "bead_gradient")
    lift = lift_of(posterior, lift) if posterior.exact else None
    g, slope, force = over_draws(_bead_series, (observable, posterior, lift), draws, "bead_gradient")
    return _covariance_formula(g, force / float(posterior.thermal_energy), slope if posterior.exact else None)


def _listed(posterior: Posterior, draws, what: str) -> Posterior:
    """The posterior with pair lists that have room for draws like the first."""
    check_draws(draws, what, posterior.mapping.n_atoms)
    return posterior.rebuild(jnp.asarray(draws[0, 0]))


def _parameter_series(shared, x):
    observable, energy_of, parameters, explicit = shared

    def potential(parameters):
        energy = energy_of(parameters)
        return (energy.rebuild(x) if isinstance(energy, AbstractEnergy) else energy)(x)

    score = jax.grad(potential)(parameters)
    if not explicit:
        return observable(x), (), score
    return observable(x, parameters), jax.jacrev(observable, argnums=1)(x, parameters), score


def _energy_series(shared, x):
    observable, posterior = shared
    return observable(x), posterior.energy.rebuild(x)(x)


def _bead_series(shared, x):
    observable, posterior, lift = shared
    force = bead_force(posterior, lift, x)
    if lift is None:
        return observable(x), (), force
    slope = jax.jacrev(lambda shift: observable(x + lift.spread(x, shift)))(jnp.zeros_like(force))
    return observable(x), slope, force


def _covariance_formula(g, score, slope) -> Estimate:
    """E[slope] + Cov(g, score) for every pair of leaves; ``slope`` has the structure of g, then that of score."""
    structure, names = jax.tree.structure(g), jax.tree.structure(score)
    slopes = [None] * structure.num_leaves if slope is None else structure.flatten_up_to(slope)
    triples = []
    for leaf, own in zip(jax.tree.leaves(g), slopes, strict=True):
        own = [None] * names.num_leaves if own is None else names.flatten_up_to(own)
        triples += [_pair(leaf, s, d) for s, d in zip(jax.tree.leaves(score), own, strict=True)]
    both = structure.compose(names)
    return estimate_of(both.unflatten(triples), both.unflatten([0] * len(triples)))


def _pair(g: np.ndarray, score: np.ndarray, slope: np.ndarray | None):
    """Estimate of one leaf of g by one leaf of the score, a block of the score's components at a time."""
    chains, count = g.shape[:2]
    shape = g.shape[2:] + score.shape[2:]
    g, score = g.reshape(chains, count, -1), score.reshape(chains, count, -1)
    slope = None if slope is None else slope.reshape(chains, count, g.shape[2], score.shape[2])
    total = chains * count
    g = g - g.mean(axis=(0, 1))
    width = max(_NUMBERS // max(total * g.shape[2], 1), 1)
    parts = []
    for start in range(0, score.shape[2], width):
        s = score[:, :, start : start + width]
        series = g[..., None] * (s - s.mean(axis=(0, 1)))[:, :, None, :] * (total / max(total - 1, 1))
        if slope is not None:
            series = series + slope[..., start : start + width]
        parts.append(series_mean(series))
    return tuple(np.concatenate(pieces, axis=1).reshape(shape) for pieces in zip(*parts, strict=True))
