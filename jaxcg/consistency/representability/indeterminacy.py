"""How well g(r) determines a pressure: Henderson's theorem in the presence of sampling errors."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ...typing import Array, Float
from ...units import GAS_CONSTANT
from ._pair_basis import check_pairs, potential_sums


class Indeterminacy(NamedTuple):
    """Result of `pressure_indeterminacy`; NumPy float64.

    Fields:
        pressure: standard deviation of the pressure among pair potentials that fit g(r) equally well, kJ/mol/nm³.
        knots: nm.
        potential: (knots,) the change of the potential, one standard deviation of the pressure long, that g(r)
            resists least for what it does to the pressure, kJ/mol; linear between the knots.
        rdf_change: (knots,) what it does to g(r), as a share of g(r) at each knot; NaN where no pairs were seen.
    """

    pressure: float
    knots: np.ndarray
    potential: np.ndarray
    rdf_change: np.ndarray


def pressure_indeterminacy(
    positions: Float[Array | np.ndarray, "frames atoms 3"],
    virials: Float[Array | np.ndarray, " frames"],
    box: Float[Array | np.ndarray, "3 3"],
    knots: Float[Array | np.ndarray, " knots"],
    *,
    temperature: float,
    independent_frames: float,
    scale: float | None = None,
) -> Indeterminacy:
    """How far the pressures are apart of pair potentials that a finite sample of g(r) cannot tell apart.

    A pair potential Σ a_k φ_k(r) makes the Boltzmann distribution an exponential family whose sufficient statistics are
    the Φ_k = Σ_pairs φ_k, that is, g(r). From n independent frames a is known to no better than the covariance
    (n cov(Φ)/(kT)² + 1/s²)⁻¹, with a width s for what is known of the potential beforehand, and the pressure, whose
    derivative by a_k is p_k = (⟨W_k⟩ − cov(W, Φ_k)/kT)/3V, to no better than the p-direction of it. Henderson's
    theorem says that this goes to zero with growing n; the number says how fast.

    Arguments:
        positions: (frames, atoms, 3) of a simulation of the pair model, nm; many more frames than knots.
        virials: (frames,) Σ r·f of its potential, kJ/mol (positive for repulsion).
        box: (3, 3) reduced box vectors, nm.
        knots: (knots,) nm, equally spaced, from the closest pairs to the cutoff; the change at the last is zero.
        temperature: K.
        independent_frames: n, how many independent frames of this size the target's g(r) comes from.
        scale: s, kJ/mol, of the change of the potential at each knot; kT if None.

    Returns:
        The `Indeterminacy`.

    Raises:
        ValueError: shapes do not fit, the cutoff is beyond half the box, or there are not more frames than knots.

    Source: the Cramér-Rao bound of an exponential family; Henderson, Phys. Lett. A 49, 197 (1974) for its limit.
    """
    box, knots = check_pairs("pressure_indeterminacy", positions, box, knots)
    virials = np.asarray(virials, np.float64)
    if virials.shape != (len(positions),):
        raise ValueError(f"pressure_indeterminacy: {virials.shape} virials for {len(positions)} frames; give one each.")
    if len(positions) <= len(knots):
        raise ValueError(
            f"pressure_indeterminacy: {len(positions)} frames do not determine the covariance of {len(knots)} knots; "
            "give more frames, several times as many as knots."
        )
    if not (independent_frames > 0 and temperature > 0):
        raise ValueError("pressure_indeterminacy: independent_frames and temperature must be positive.")
    thermal = GAS_CONSTANT * temperature
    scale = thermal if scale is None else scale
    dtype = jnp.result_type(jnp.asarray(positions[:1]), float)
    shared = jnp.asarray(box, dtype), jnp.asarray(knots, dtype)
    sums = [potential_sums(jnp.asarray(x, dtype), *shared) for x in positions]
    counts = np.stack([np.asarray(count, np.float64) for count, _ in sums])
    own = np.mean([np.asarray(virial, np.float64) for _, virial in sums], axis=0)

    off = counts - counts.mean(axis=0)
    covariance = off.T @ off / (len(counts) - 1)
    by_virial = off.T @ (virials - virials.mean()) / (len(counts) - 1)
    gradient = (own - by_virial / thermal) / (3 * np.linalg.det(box))
    information = independent_frames * covariance / thermal**2 + np.eye(len(covariance)) / scale**2
    direction = np.linalg.solve(information, gradient)
    spread = float(np.sqrt(gradient @ direction))
    potential = direction / max(spread, np.finfo(np.float64).tiny)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = counts.mean(axis=0)
        change = np.where(mean > 0, -(covariance @ potential) / thermal / mean, np.nan)
    return Indeterminacy(spread, knots, np.append(potential, 0.0), np.append(change, np.nan))
