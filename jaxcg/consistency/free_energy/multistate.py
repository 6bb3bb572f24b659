"""Free energies of many states from equilibrium samples of some of them, with errors that allow for correlated samples.

The multistate Bennett acceptance ratio (MBAR). With u_k = U_k/kT_k, N_l samples of state l and

    D(x) = Σ_l N_l exp(f_l − u_l(x)),   W_k(x) = exp(f_k − u_k(x))/D(x),

the reduced free energies f_k = −ln Z_k solve Σ_n W_k(x_n) = 1 for every state. They are found by pymbar. The error is
not pymbar's, which holds for independent samples only: to first order f_k is a sum over the samples,

    f̂_k − f_k = Σ_n ψ_k(x_n),   ψ = −J⁻¹ (W − mean of W over the state that n was drawn from),

with J the derivative of the equations, and the error of such a sum is known from the correlations of its series. For
independent samples it is the asymptotic covariance of Shirts and Chodera.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.special import logsumexp

from ...errors import ResultError
from ...units import GAS_CONSTANT
from ..statistics import Estimate, block_average

#: Overlap of neighbouring states below which free energies between them are not to be trusted: three samples in a
#: hundred would be taken for those of the other state (Klimovich, Shirts & Mobley, J. Comput. Aided Mol. Des. 29, 397
#: (2015)).
LEAST_OVERLAP = 0.03

#: How far Σ_n W_k may be from one.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Multistate:
    """Result of `multistate_free_energies`; NumPy float64.

    Fields:
        reduced: (states,) f_k − f_0 = −ln(Z_k/Z_0).
        error: (states,) standard error of that; zero for state 0.
        temperatures: (states,) K.
        counts: (sampled,) samples of each of the first states, those that were sampled.
        overlap: (sampled, sampled) share of the samples of state k that would be taken for those of l, were there no
            other state; one half for equal states, zero without overlap.
        weights: (states, samples) W_k(x_n), in the order the samples were given: the average of a quantity over state
            k is the sum of its values with these.
        log_mixture: (samples,) ln D(x_n).
        influences: for every sampled state (states, chains, draws) ψ, each sample's share in the error.
    """

    reduced: np.ndarray
    error: np.ndarray
    temperatures: np.ndarray
    counts: np.ndarray
    overlap: np.ndarray
    weights: np.ndarray
    log_mixture: np.ndarray
    influences: tuple[np.ndarray, ...]

    def reduced_difference(self, first: int, second: int) -> Estimate:
        """f_second − f_first = −ln(Z_second/Z_first), without unit."""
        value = float(self.reduced[second] - self.reduced[first])
        series = [part[[second]] - part[[first]] for part in self.influences]
        error, effective = error_of_sum(series)
        return Estimate(value, float(error[0]), float(effective[0]))

    def difference(self, first: int, second: int) -> Estimate:
        """F_second − F_first, kJ/mol.

        Raises:
            ValueError: the temperatures of the two states differ: then only −ln(Z/Z) is meant by a difference.
        """
        if self.temperatures[first] != self.temperatures[second]:
            raise ValueError(
                f"difference: state {first} is at {self.temperatures[first]:g} K and state {second} at "
                f"{self.temperatures[second]:g} K; use reduced_difference."
            )
        thermal = GAS_CONSTANT * self.temperatures[first]
        value, error, effective = self.reduced_difference(first, second)
        return Estimate(thermal * value, thermal * error, effective)

    def more_states(self, reduced_energies: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Free energies of further states that were not sampled, relative to state 0, and their influences.

        Arguments:
            reduced_energies: (more, samples) U/kT of these states at all samples; infinite where a state cannot be.

        Returns:
            (more,) −ln(Z/Z_0), and for every sampled state (more, chains, draws) ψ; see `error_of_sum`.

        Raises:
            ValueError: a state has no sample.
        """
        f = -logsumexp(-reduced_energies - self.log_mixture, axis=1)
        if not np.isfinite(f).all():
            raise ValueError(f"more_states: no sample lies where state {np.argmin(np.isfinite(f))} can be.")
        weights = np.exp(f[:, None] - reduced_energies - self.log_mixture)
        coupling = (weights @ self.weights[: len(self.counts)].T) * self.counts
        parts = np.split(weights, np.cumsum(self.counts)[:-1], axis=1)
        return f, tuple(
            np.tensordot(coupling, own[: len(self.counts)], 1)
            - (part - part.mean(axis=1, keepdims=True)).reshape(len(f), *own.shape[1:])
            for part, own in zip(parts, self.influences, strict=True)
        )

    def bottleneck(self) -> tuple[float, int, int]:
        """The smallest overlap that has to be crossed between sampled states, and the two states it is between."""
        return _bottleneck(self.overlap)


def multistate_free_energies(energies: Sequence[np.ndarray], temperatures: float | np.ndarray) -> Multistate:
    """Free energies of all states from samples of the first ``len(energies)`` of them, by MBAR through pymbar.

    Samples may be correlated; none need be thrown away. Needs the package pymbar. Memory on the host is several times
    that of ``energies``.

    Arguments:
        energies: for every sampled state the energies of *all* states at its samples, (states, draws) or
            (states, chains, draws) in the order the chains made them, kJ/mol; states that were not sampled come last.
            Infinite where a state cannot be.
        temperatures: of the states, K: a number or (states,).

    Returns:
        The `Multistate`. A warning is given where states hardly overlap.

    Raises:
        ValueError: arrays that do not fit, numbers that are not finite, a state without any sample that it shares.
        ResultError: the equations have not been solved.
        InputError: pymbar is not installed.

    Source: Shirts & Chodera, J. Chem. Phys. 129, 124105 (2008); for correlated samples, Li, Van Koten, Dinner &
    Thiede, J. Chem. Phys. 158, 214107 (2023).
    """
    from ...io.multistate_solver import solve_multistate

    parts = _checked(energies)
    states = len(parts[0])
    kelvin = np.broadcast_to(np.asarray(temperatures, np.float64), (states,))
    if not (np.isfinite(kelvin) & (kelvin > 0)).all():
        raise ValueError(f"multistate_free_energies: temperatures {kelvin} must be positive and finite.")
    thermal = GAS_CONSTANT * kelvin[:, None, None]
    reduced = [part / thermal for part in parts]
    counts = np.array([part[0].size for part in parts])
    flat = np.concatenate([part.reshape(states, -1) for part in reduced], axis=1)
    sampled = len(parts)
    found = solve_multistate(flat[:sampled], counts)
    return solved(reduced, kelvin, found)


def solved(reduced: Sequence[np.ndarray], temperatures: np.ndarray, sampled_free_energies: np.ndarray) -> Multistate:
    """Everything else, once the free energies of the sampled states are known.

    Arguments:
        reduced: for every sampled state (states, chains, draws), without unit.
        temperatures: (states,) K.
        sampled_free_energies: (sampled,) reduced, up to a constant.

    Raises:
        ResultError: these free energies do not solve the equations.
    """
    counts = np.array([part[0].size for part in reduced])
    sampled, states = len(counts), len(reduced[0])
    u = np.concatenate([part.reshape(states, -1) for part in reduced], axis=1)
    known = np.asarray(sampled_free_energies, np.float64) - sampled_free_energies[0]
    log_mixture = logsumexp(np.log(counts)[:, None] + known[:, None] - u[:sampled], axis=0)
    f = -logsumexp(-u - log_mixture, axis=1)
    missing = np.flatnonzero(~np.isfinite(f))
    if missing.size:
        raise ValueError(f"multistate_free_energies: no sample lies where state {missing[0]} can be; leave it out.")
    off = np.abs(np.expm1(f[:sampled] - known)).max()
    if not off < _TOLERANCE:
        raise ResultError(
            f"multistate_free_energies: the equations are not solved (off by {off:.1e}); states hardly overlap: "
            "sample states in between."
        )
    f = f - f[0]
    weights = np.exp(f[:, None] - u - log_mixture)
    influences = _influences(weights, counts, [part.shape[1:] for part in reduced])
    error, _ = error_of_sum(influences)
    overlap = _overlaps(f[:sampled], u[:sampled], counts)
    _warn(overlap)
    return Multistate(f, error, temperatures, counts, overlap, weights, log_mixture, influences)


def error_of_sum(series: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of Σ_n ψ(x_n) over independent simulations, and the number of independent samples it is worth.

    Arguments:
        series: for every simulation (quantities, chains, draws) ψ.

    Returns:
        Two arrays (quantities,); the second is nan where nothing varies.
    """
    variance, independent, samples = 0.0, 0.0, 0
    for part in series:
        runs = list(np.moveaxis(part, 0, -1))
        count = part[0].size
        variance = variance + (count * block_average(runs).error) ** 2
        independent = independent + count * part.var(axis=(1, 2))
        samples += count
    variance, independent = np.asarray(variance), np.asarray(independent)
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.where(independent > 0, samples * independent / variance, np.nan)
    return np.sqrt(variance), effective


def covariance_of_sum(series: Sequence[np.ndarray]) -> np.ndarray:
    """(quantities, quantities) covariance of Σ_n ψ(x_n): correlations of the samples, scaled by the errors."""
    total = np.zeros((len(series[0]), len(series[0])))
    for part in series:
        flat = part.reshape(len(part), -1)
        centred = flat - flat.mean(axis=1, keepdims=True)
        spread = np.sqrt(np.mean(centred**2, axis=1))
        centred /= np.where(spread > 0, spread, 1.0)[:, None]
        error = flat.shape[1] * block_average(list(np.moveaxis(part, 0, -1))).error
        total += error[:, None] * (centred @ centred.T / flat.shape[1]) * error
    return total


def _checked(energies: Sequence[np.ndarray]) -> list[np.ndarray]:
    if len(energies) == 0:
        raise ValueError("multistate_free_energies: give the energies at the samples of one state at least.")
    parts = [np.asarray(part, np.float64) for part in energies]
    parts = [part[:, None] if part.ndim == 2 else part for part in parts]
    for number, part in enumerate(parts):
        if part.ndim != 3 or len(part) != len(parts[0]) or len(part) < len(parts) or part.size == 0:
            raise ValueError(
                f"multistate_free_energies: energies[{number}] has shape {np.shape(energies[number])}; expected "
                "(states, draws) or (states, chains, draws), the same states for all, sampled ones first."
            )
        bad = np.isnan(part) | np.isneginf(part)
        if bad.any() or not np.isfinite(part[number]).all():
            raise ValueError(
                f"multistate_free_energies: energies at samples of state {number} are not finite; leave such out."
            )
    return parts


def _influences(weights: np.ndarray, counts: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, ...]:
    sampled = len(counts)
    jacobian = np.diag(weights.sum(axis=1))
    jacobian[:, :sampled] -= (weights @ weights[:sampled].T) * counts
    parts = []
    for part, shape in zip(np.split(weights, np.cumsum(counts)[:-1], axis=1), shapes, strict=True):
        centred = part - part.mean(axis=1, keepdims=True)
        share = np.zeros_like(part)
        # f_0 is zero by convention, and the first equation follows from the others.
        share[1:] = -np.linalg.solve(jacobian[1:, 1:], centred[1:])
        parts.append(share.reshape(len(share), *shape))
    return tuple(parts)


def _overlaps(f: np.ndarray, u: np.ndarray, counts: np.ndarray) -> np.ndarray:
    overlap = np.zeros((len(counts), len(counts)))
    for own, part in enumerate(np.split(u, np.cumsum(counts)[:-1], axis=1)):
        # Logarithms of normalised densities: both states weigh the same here, however many samples each has.
        density = f[:, None] - part
        overlap[own] = np.mean(np.exp(density - np.logaddexp(density, density[own])), axis=1)
    return overlap


def _bottleneck(overlap: np.ndarray) -> tuple[float, int, int]:
    if len(overlap) == 1:
        return 0.5, 0, 0
    mutual = np.minimum(overlap, overlap.T)
    # Distances must be positive: equal states have the shortest one.
    tree = minimum_spanning_tree(1.0 - np.log(np.maximum(mutual, 1e-300))).tocoo()
    worst = int(np.argmax(tree.data))
    first, second = sorted((int(tree.coords[0][worst]), int(tree.coords[1][worst])))
    return float(mutual[first, second]), first, second


def _warn(overlap: np.ndarray) -> None:
    least, first, second = _bottleneck(overlap)
    if least < LEAST_OVERLAP:
        warnings.warn(
            f"free energies: states {first} and {second} overlap by {least:.1e} only (below {LEAST_OVERLAP}); what is "
            "between them is not to be trusted, nor its error. Sample states in between.",
            stacklevel=4,
        )
