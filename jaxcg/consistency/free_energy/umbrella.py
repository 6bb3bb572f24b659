"""The potential of mean force of a coordinate from biased simulations."""

from collections.abc import Sequence

import numpy as np

from ...units import GAS_CONSTANT
from .bias import harmonic_biases
from .multistate import Multistate, covariance_of_sum, multistate_free_energies
from .profile import FreeEnergyProfile


def umbrella_profile(
    samples: Sequence[np.ndarray],
    edges: np.ndarray,
    temperature: float,
    *,
    centers: np.ndarray | None = None,
    stiffness: float | np.ndarray | None = None,
    period: float | None = None,
    biases: Sequence[np.ndarray] | None = None,
) -> FreeEnergyProfile:
    """W(ξ) = −kT ln p(ξ) of the unbiased system from umbrella sampling, by MBAR.

    Every sample counts with the weight it has in the unbiased system, which MBAR finds from all windows together:
    what WHAM does with histograms, without bins for the biases. Samples may be correlated; the error allows for it, and
    for the error of the offsets between the windows. W of a bin is −kT ln of the mean density in it. One window of
    stiffness zero is an unbiased simulation (and needs no pymbar).

    Arguments:
        samples: for every window the values of ξ, (draws,) or (chains, draws) in the order the chains made them.
        edges: (bins + 1,) edges of the bins, ascending; samples outside count for the offsets between the windows.
        temperature: of all windows, K.
        centers, stiffness: of `HarmonicUmbrella`, (windows,), and a number or (windows,), kJ/mol per unit squared.
        period: of ξ, in the unit of ξ; None for coordinates without one.
        biases: in place of these, for windows of any kind: for every window the biases of *all* windows at its
            samples, (windows, draws) or (windows, chains, draws), kJ/mol.

    Returns:
        The `FreeEnergyProfile` at the centres of the bins, zero at its lowest. Infinite in empty bins.

    Raises:
        ValueError: arrays that do not fit, edges that do not ascend, no sample between them.
        InputError: pymbar is not installed.

    Source: Torrie & Valleau, J. Comput. Phys. 23, 187 (1977); Shirts & Chodera, J. Chem. Phys. 129, 124105 (2008).
    """
    values = [np.asarray(s, np.float64) for s in samples]
    values = [s[None] if s.ndim == 1 else s for s in values]
    edges = np.asarray(edges, np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError("umbrella_profile: edges must be two numbers or more that ascend.")
    for number, window in enumerate(values):
        if window.ndim != 2 or window.size == 0 or not np.isfinite(window).all():
            raise ValueError(
                f"umbrella_profile: samples[{number}] must be finite numbers (draws,) or (chains, draws), got shape "
                f"{np.shape(samples[number])}."
            )
    if biases is None:
        if centers is None or stiffness is None or np.shape(centers) != (len(values),):
            raise ValueError(
                f"umbrella_profile: {len(values)} windows need as many centers, and a stiffness; or give biases."
            )
        biases = [harmonic_biases(window, centers, stiffness, period) for window in values]
    elif centers is not None or stiffness is not None or period is not None:
        raise ValueError("umbrella_profile: give biases, or centers with stiffness and period, not both.")
    windows = multistate_free_energies(biases, temperature)
    return _profile(windows, _places(values, edges, period), edges)


def _places(values: list[np.ndarray], edges: np.ndarray, period: float | None) -> np.ndarray:
    """(samples,) bin of every sample, −1 outside."""
    flat = np.concatenate([v.ravel() for v in values])
    if period is not None:
        flat = edges[0] + np.mod(flat - edges[0], period)
    places = np.searchsorted(edges, flat, side="right") - 1
    places[flat == edges[-1]] = len(edges) - 2
    places[(flat > edges[-1]) | (flat < edges[0])] = -1
    return places


def _profile(windows: Multistate, places: np.ndarray, edges: np.ndarray) -> FreeEnergyProfile:
    thermal = GAS_CONSTANT * windows.temperatures[0]
    filled = np.unique(places[places >= 0])
    if filled.size == 0:
        raise ValueError(f"umbrella_profile: no sample between {edges[0]:g} and {edges[-1]:g}.")
    reduced, influences = windows.more_states(np.where(places == filled[:, None], 0.0, np.inf))
    covariance = thermal**2 * covariance_of_sum(influences)
    value = np.full(len(edges) - 1, np.inf)
    errors = np.full((len(value), len(value)), np.nan)
    value[filled] = thermal * (reduced + np.log(np.diff(edges)[filled]))
    errors[np.ix_(filled, filled)] = covariance
    centres = 0.5 * (edges[1:] + edges[:-1])
    return FreeEnergyProfile(centres, value, errors, float(windows.temperatures[0])).relative_to()
