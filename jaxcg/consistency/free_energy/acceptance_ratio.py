"""The free-energy difference of two states from samples of both."""

import numpy as np

from ...posterior import Posterior
from ...sampling.estimators.monte_carlo import Draws, check_draws, over_draws
from ...units import GAS_CONSTANT
from ..statistics import Estimate
from .multistate import solved


def bennett_acceptance_ratio(forward: np.ndarray, reverse: np.ndarray, temperature: float) -> Estimate:
    """F₁ − F₀ from energy differences at samples of both states, by Bennett's acceptance ratio through pymbar.

    The optimal estimator from samples of two states, and the only one that an overlap of a few per cent suffices for.
    The error allows for the correlations within the chains. Needs the package pymbar.

    Arguments:
        forward: U₁ − U₀ at samples of state 0, kJ/mol, (draws,) or (chains, draws); or the work of switching 0 → 1.
        reverse: U₀ − U₁ at samples of state 1, likewise; or the work of switching 1 → 0.
        temperature: K.

    Returns:
        F₁ − F₀, kJ/mol, positive where state 1 is the less likely. A warning is given where the states hardly overlap.

    Raises:
        ValueError: arrays of another shape, numbers that are not finite, a temperature that is not positive.
        ResultError: pymbar has found no solution.
        InputError: pymbar is not installed.

    Source: Bennett, J. Comput. Phys. 22, 245 (1976); Shirts, Bair, Hooker & Pande, Phys. Rev. Lett. 91, 140601 (2003).
    """
    from ...io.multistate_solver import solve_two_states

    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"bennett_acceptance_ratio: temperature is {temperature} K; it must be positive and finite.")
    thermal = GAS_CONSTANT * temperature
    there, back = (_checked(name, each) / thermal for name, each in (("forward", forward), ("reverse", reverse)))
    found = solve_two_states(there.ravel(), back.ravel())
    reduced = [np.stack([np.zeros_like(there), there]), np.stack([back, np.zeros_like(back)])]
    result = solved(reduced, np.full(2, float(temperature)), np.array([0.0, found]))
    return result.difference(0, 1)


def posterior_free_energy_difference(
    first_draws: Draws, second_draws: Draws, first: Posterior, second: Posterior
) -> Estimate:
    """W₁ − W₀, with exp(−W/kT) = ∫ exp(−U(x)/kT) L(y; x) dx, from samples of two posteriors over the same atoms.

    L is δ(y − M(x)) for exact beads, so that two posteriors that differ in their beads y give the difference of the
    potential of mean force between two coarse-grained configurations: draws are moved along by the least displacement
    that takes one set of beads to the other, which changes no volume. For soft beads L is the Gaussian of the noise.
    The posteriors may also differ in their energies. By Bennett's acceptance ratio.

    Arguments:
        first_draws, second_draws: (chains, draws, atoms, 3) samples of the two, nm.
        first, second: what was sampled, at one temperature; exact beads of one linear map without rigid bonds, or soft
            ones.

    Returns:
        W₁ − W₀, kJ/mol. For soft beads of different noise the Gaussians' normalisers are in it.

    Raises:
        ValueError: the posteriors are of different kinds, maps or temperatures; draws of another shape; not finite.

    Source: Bennett, J. Comput. Phys. 22, 245 (1976).
    """
    what = "posterior_free_energy_difference"
    check_draws(first_draws, what, first.mapping.n_atoms)
    check_draws(second_draws, what, second.mapping.n_atoms)
    if first.exact != second.exact or float(first.temperature) != float(second.temperature):
        raise ValueError(f"{what}: both posteriors must hold their beads in the same way, at one temperature.")
    shift: np.ndarray | float = 0.0
    if first.exact:
        mapping, other = first.linear_map(what), second.linear_map(what)
        if mapping.n_beads != other.n_beads or not _same_entries(mapping, other):
            raise ValueError(f"{what}: the two posteriors have different maps; their fibres cannot be compared.")
        apart = np.asarray(second.y, np.float64) - np.asarray(first.y, np.float64)
        shift = np.asarray(mapping.fibre().lift(apart.astype(np.asarray(first.y).dtype)))
    thermal = float(first.thermal_energy)
    noise = 0.0 if first.exact else _log_normaliser(second) - _log_normaliser(first)
    start = np.asarray(first_draws[0, 0])
    here, there = first.rebuild(start), second.rebuild(start)
    step = np.broadcast_to(np.asarray(shift, start.dtype), start.shape)
    forward = over_draws(_log_densities, (here, there, step), first_draws, what)
    reverse = over_draws(_log_densities, (there, here, -step), second_draws, what)
    there, back = forward[0] - forward[1] + noise, reverse[0] - reverse[1] - noise
    return bennett_acceptance_ratio(thermal * there, thermal * back, float(first.temperature))


def _log_densities(shared, x):
    own, other, step = shared
    moved = x + step.astype(x.dtype)
    return own.rebuild(x).log_density(x), other.rebuild(moved).log_density(moved)


def _log_normaliser(posterior: Posterior) -> float:
    """ln of ∫ exp(−½ r²/σ²) over what the likelihood compares: its density has this in the denominator."""
    sigma = np.asarray(posterior.noise, np.float64)
    # One width for positions, or with orientations two: three numbers of each for every bead.
    return 3 * posterior.mapping.n_beads * float(np.log(sigma).sum())


def _same_entries(one, other) -> bool:
    ours, theirs = (m.entries() for m in (one, other))
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(ours, theirs, strict=True))


def _checked(name: str, work: np.ndarray) -> np.ndarray:
    work = np.asarray(work, np.float64)
    work = work[None] if work.ndim == 1 else work
    if work.ndim != 2 or work.size == 0 or not np.isfinite(work).all():
        raise ValueError(
            f"bennett_acceptance_ratio: {name} must be finite numbers (draws,) or (chains, draws), got shape "
            f"{work.shape}."
        )
    return work
