"""The mean force on the beads, −∂W/∂y with exp(−W(y)/kT) = ∫ exp(−U(x)/kT) δ(y − M(x)) dx, from samples of p(x|y)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...mapping.force_maps import ForceMap
from ...mapping.optimal_force_maps import optimal_force_map
from ...posterior import Posterior
from .lifts import AbstractLift, bead_force, lift_of
from .monte_carlo import Draws, check_draws, over_draws, series_mean


class MeanForce(NamedTuple):
    """Result of `mean_force`; NumPy float64.

    Fields:
        value: (beads, 3) −∂W/∂y, kJ/mol/nm.
        error: (beads, 3) standard error.
        covariance: (beads, 3, beads, 3) covariance of the errors, (kJ/mol/nm)², for least squares: the correlations
            of the samples, scaled by the errors.
        effective_samples: (beads, 3) effective sample size of each component.
    """

    value: np.ndarray
    error: np.ndarray
    covariance: np.ndarray
    effective_samples: np.ndarray


def mean_force(
    draws: Draws,
    posterior: Posterior,
    lift: AbstractLift | ForceMap | None = None,
    *,
    optimal: bool = False,
    l2: float = 0.0,
) -> MeanForce:
    """−∂W/∂y, the force of the potential of mean force on the beads, from samples of the posterior.

    With exact beads of a linear map it is the average of B (−∇U) over the fibre for any force map B (B Wᵀ = 1), with
    no term in kT. All have the same average; by default beads receive the sum of the forces on their atoms, in which
    bonds within a bead cancel. With soft beads it is the average of kT (M(x) − y)/σ², the force of
    W(y) = −kT ln ∫ exp(−U/kT) N(y; M(x), σ²) dx. For curved coordinates give a `CurvedLift`.

    Arguments:
        draws: (chains, draws, atoms, 3) samples of p(x|y), nm.
        posterior: what was sampled.
        lift: a `ForceMap`, or an `AbstractLift`; None for the default.
        optimal: use the linear force map whose forces scatter least over these draws; each half of the draws is mapped
            by the map that was fitted to the other half, so that the fit does not bias the average.
        l2: regularisation of that fit, (kJ/mol/nm)², see `jaxcg.mapping.optimal_force_map`; needed for few draws.

    Returns:
        The `MeanForce`; of a `CurvedLift`, arrays have the shape of its coordinates in place of (beads, 3).

    Raises:
        ValueError: draws of another shape; a lift for soft beads; too few draws for an optimal map; not finite.

    Source: Ciccotti, Kapral & Vanden-Eijnden, ChemPhysChem 6, 1809 (2005); Krämer et al., J. Phys. Chem. Lett. 14,
    3970 (2023), for the optimal map.
    """
    check_draws(draws, "mean_force", posterior.mapping.n_atoms)
    if not posterior.exact and (lift is not None or optimal):
        raise ValueError("mean_force: the beads of this posterior are soft, and their force needs no lift.")
    if optimal and lift is not None:
        raise ValueError("mean_force: give a lift or ask for the optimal one, not both.")
    posterior = posterior.rebuild(jnp.asarray(draws[0, 0]))
    if optimal:
        series = _cross_fitted(draws, posterior, l2)
    else:
        chosen = lift_of(posterior, lift) if posterior.exact else None
        series = over_draws(_force, (posterior, chosen), draws, "mean_force")
    return _with_covariance(series)


def _force(shared, x):
    posterior, lift = shared
    return bead_force(posterior, lift, x)


def _cross_fitted(draws, posterior: Posterior, l2: float) -> np.ndarray:
    """Forces (chains, draws, beads, 3), each half of the draws by the optimal map of the other."""
    mapping = posterior.linear_map("mean_force: an optimal force map")
    forces = over_draws(_atomic_forces, posterior, draws, "mean_force")
    # Halves of chains where there are several: those of one chain are correlated where they meet.
    axis = 0 if len(forces) > 1 else 1
    halves = np.array_split(forces, 2, axis=axis)
    if min(half.size for half in halves) == 0:
        raise ValueError("mean_force: one draw cannot determine an optimal force map; give more.")
    mapped = []
    for own, other in (halves, halves[::-1]):
        fit = optimal_force_map(mapping, other.reshape(-1, *other.shape[2:]), l2=l2)
        matrix = fit.force_map.matrix().tocsr()
        flat = matrix @ own.reshape(-1, *own.shape[2:]).transpose(1, 0, 2).reshape(own.shape[2], -1)
        mapped.append(flat.reshape(mapping.n_beads, -1, 3).transpose(1, 0, 2).reshape(*own.shape[:2], -1, 3))
    return np.concatenate(mapped, axis=axis)


def _atomic_forces(posterior, x):
    return -jax.grad(posterior.energy.rebuild(x))(x)


def _with_covariance(series: np.ndarray) -> MeanForce:
    value, error, effective = series_mean(series)
    flat = (series - value).reshape(series.shape[0] * series.shape[1], -1)
    spread = np.sqrt(np.mean(flat**2, axis=0))
    flat = flat / np.where(spread > 0, spread, 1.0)
    scaled = error.ravel()[:, None] * (flat.T @ flat / len(flat)) * error.ravel()
    return MeanForce(value, error, scaled.reshape(value.shape * 2), effective)
