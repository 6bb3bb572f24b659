"""Pressure as a function of density and temperature, and how far two models are apart in it."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...energy.base import AbstractEnergy
from ...space import Box
from ...typing import Array, AtomScalars, AtomVectors, Float, PRNGKeyArray
from ...units import GAS_CONSTANT
from ..statistics import Estimate, block_average
from .fluid import simulate_fluid
from .pressure import frame_pressures, tail_pressures
from .stress import box_volume

#: Points at which a fitted equation of state is compared.
_POINTS = 65
Numbers = Sequence[float] | Float[Array | np.ndarray, " states"]


class AbstractEquationOfState(eqx.Module):
    """P(ρ, T) with errors."""

    @abstractmethod
    def at(self, densities: Numbers, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Pressures (states,) in kJ/mol/nm³ and their covariance (states, states).

        Arguments:
            densities: (states,) particles per nm³.
            temperature: K.
        """

    @abstractmethod
    def nodes(self, low: float, high: float, temperature: float) -> np.ndarray:
        """Densities from ``low`` to ``high`` between which the pressure is well taken as straight."""

    def pressure(self, densities: Numbers, temperature: float) -> Estimate:
        """Pressures at some densities with their errors, kJ/mol/nm³."""
        values, covariance = self.at(densities, temperature)
        return Estimate(values, np.sqrt(np.clip(np.diag(covariance), 0.0, None)))


class TabulatedEquationOfState(AbstractEquationOfState):
    """Pressures measured at some states; straight lines between the densities of one temperature.

    Arguments:
        densities: (states,) particles per nm³, positive.
        temperatures: (states,) K, or one for all.
        pressures: (states,) kJ/mol/nm³.
        errors: (states,) standard errors, independent of each other.

    Raises:
        ValueError: shapes do not fit, numbers that are not finite, or a state twice.
    """

    densities: np.ndarray
    temperatures: np.ndarray
    pressures: np.ndarray
    errors: np.ndarray

    def __init__(self, densities, temperatures, pressures, errors):
        densities = np.asarray(densities, np.float64)
        temperatures = np.broadcast_to(np.asarray(temperatures, np.float64), densities.shape)
        pressures, errors = np.asarray(pressures, np.float64), np.asarray(errors, np.float64)
        if densities.ndim != 1 or not densities.shape == pressures.shape == errors.shape:
            raise ValueError("TabulatedEquationOfState: give one density, pressure and error for each state.")
        if not np.isfinite([densities, temperatures, pressures, errors]).all() or (errors < 0).any():
            raise ValueError("TabulatedEquationOfState: numbers must be finite, and errors not negative.")
        if not ((densities > 0).all() and (temperatures > 0).all()):
            raise ValueError("TabulatedEquationOfState: densities and temperatures must be positive.")
        if len(np.unique(np.stack([temperatures, densities], axis=1), axis=0)) < len(densities):
            raise ValueError("TabulatedEquationOfState: a state is there twice; average its pressures first.")
        order = np.lexsort((densities, temperatures))
        self.densities, self.temperatures = densities[order], temperatures[order]
        self.pressures, self.errors = pressures[order], errors[order]

    def at(self, densities: Numbers, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Pressures and covariance by straight lines between the states of this temperature.

        Raises:
            ValueError: the temperature or a density is outside of the table.
        """
        known, pressures, errors = self._isotherm(temperature)
        asked = np.asarray(densities, np.float64)
        # Limits that differ in the last digit are meant to be the same.
        slack = 1e-9 * known[-1]
        if len(known) < 2 or asked.min() < known[0] - slack or asked.max() > known[-1] + slack:
            raise ValueError(
                f"TabulatedEquationOfState: densities from {asked.min():g} to {asked.max():g}/nm³ asked, known are "
                f"{known[0]:g} to {known[-1]:g}/nm³ ({len(known)} states) at {temperature:g} K."
            )
        left = np.clip(np.searchsorted(known, asked, side="right") - 1, 0, len(known) - 2)
        share = np.clip((asked - known[left]) / (known[left + 1] - known[left]), 0.0, 1.0)
        weights = np.zeros((len(asked), len(known)))
        weights[np.arange(len(asked)), left] = 1 - share
        weights[np.arange(len(asked)), left + 1] += share
        return weights @ pressures, (weights * errors**2) @ weights.T

    def nodes(self, low: float, high: float, temperature: float) -> np.ndarray:
        """The densities of the table within the range, and its ends."""
        known = self._isotherm(temperature)[0]
        return np.concatenate([[low], known[(known > low) & (known < high)], [high]])

    def _isotherm(self, temperature: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        here = np.isclose(self.temperatures, temperature, rtol=1e-6)
        if not here.any():
            known = ", ".join(f"{t:g}" for t in np.unique(self.temperatures))
            raise ValueError(f"TabulatedEquationOfState: no states at {temperature:g} K; there are {known} K.")
        return self.densities[here], self.pressures[here], self.errors[here]


class VirialEquationOfState(AbstractEquationOfState):
    """P = ρkT (1 + Σ_k Σ_m c_km ρᵏ T⁻ᵐ), fitted to a table by least squares with its errors as weights.

    Exact for an ideal gas, and c_1 of one temperature is close to the second virial coefficient if low densities are
    in the table. Isotherms need ``powers_of_temperature = 0``.

    Arguments:
        table: at least as many states as coefficients; all errors positive.
        order: largest k.
        powers_of_temperature: largest m.

    Raises:
        ValueError: too few states, or an error that is not positive.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    reduced_chi_squared: float
    density_scale: float
    temperature_scale: float
    order: int = eqx.field(static=True)
    powers_of_temperature: int = eqx.field(static=True)

    def __init__(self, table: TabulatedEquationOfState, order: int, *, powers_of_temperature: int = 0):
        self.order, self.powers_of_temperature = order, powers_of_temperature
        self.density_scale = float(table.densities.max())
        self.temperature_scale = float(table.temperatures.max())
        count = order * (powers_of_temperature + 1)
        temperatures = len(np.unique(table.temperatures))
        if len(table.densities) < count or order < 1 or temperatures <= powers_of_temperature:
            raise ValueError(
                f"VirialEquationOfState: {count} coefficients and {powers_of_temperature + 1} powers of the "
                f"temperature for {len(table.densities)} states at {temperatures} temperatures; lower the order."
            )
        if not (table.errors > 0).all():
            raise ValueError("VirialEquationOfState: every state needs a positive error, which is its weight.")
        ideal = table.densities * GAS_CONSTANT * table.temperatures
        design = self._design(table.densities, table.temperatures) / table.errors[:, None]
        wanted = (table.pressures - ideal) / table.errors
        self.coefficients, *_ = np.linalg.lstsq(design, wanted, rcond=None)
        self.covariance = np.linalg.pinv(design.T @ design, rcond=1e-14, hermitian=True)
        freedom = len(wanted) - count
        left = float(np.sum((design @ self.coefficients - wanted) ** 2))
        self.reduced_chi_squared = left / freedom if freedom > 0 else float("nan")

    def at(self, densities: Numbers, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Pressures and covariance of the fit; those of densities beyond the table are extrapolated."""
        densities = np.asarray(densities, np.float64)
        design = self._design(densities, np.full(densities.shape, temperature))
        values = densities * GAS_CONSTANT * temperature + design @ self.coefficients
        return values, design @ self.covariance @ design.T

    def nodes(self, low: float, high: float, temperature: float) -> np.ndarray:
        """Equally spaced densities."""
        del temperature
        return np.linspace(low, high, _POINTS)

    def compressibility(self, density: float, temperature: float) -> Estimate:
        """κ = 1/(ρ ∂P/∂ρ) of the fit, nm³ mol/kJ, with its error."""
        step = 1e-4 * density
        around = np.array([density - step, density + step])
        design = self._design(around, np.full(2, temperature))
        slopes = (design[1] - design[0]) / (2 * step)
        slope = GAS_CONSTANT * temperature + slopes @ self.coefficients
        error = np.sqrt(slopes @ self.covariance @ slopes)
        return Estimate(float(1 / (density * slope)), float(error / (density * slope**2)))

    def _design(self, densities: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
        ideal = densities * GAS_CONSTANT * temperatures
        rho, tau = densities / self.density_scale, self.temperature_scale / temperatures
        columns = [
            ideal * rho**k * tau**m for k in range(1, self.order + 1) for m in range(self.powers_of_temperature + 1)
        ]
        return np.stack(columns, axis=1)


def integrated_squared_difference(
    first: AbstractEquationOfState,
    second: AbstractEquationOfState,
    low: float,
    high: float,
    temperature: float,
) -> Estimate:
    """∫ [P₁(ρ) − P₂(ρ)]² dρ over a range of densities, with its error.

    Both pressures are taken as straight between the nodes of either, and the square of that is integrated exactly.
    What the errors of the pressures add on average is taken off, so of two equal models the value is zero within its
    error, and may be negative.

    Arguments:
        first, second: with independent errors. The order does not matter.
        low, high: range of densities, particles per nm³.
        temperature: K.

    Returns:
        (kJ/mol)² nm⁻⁹. Divide by ``high − low`` and take the root for the root mean square difference of the pressure.

    Raises:
        ValueError: an empty range, or one that a table does not cover.
    """
    if not low < high:
        raise ValueError(f"integrated_squared_difference: the range from {low:g} to {high:g} is empty.")
    nodes = np.unique(np.concatenate([eos.nodes(low, high, temperature) for eos in (first, second)]))
    (p, p_covariance), (q, q_covariance) = (eos.at(nodes, temperature) for eos in (first, second))
    difference, covariance = p - q, p_covariance + q_covariance
    widths = np.diff(nodes)
    # ∫ of products of the hat functions of the nodes.
    gram = np.diag(np.append(widths, 0.0) + np.insert(widths, 0, 0.0)) / 3
    gram += np.diag(widths, 1) / 6 + np.diag(widths, -1) / 6
    scattered = gram @ covariance
    bias = np.trace(scattered)
    variance = 4 * difference @ scattered @ gram @ difference + 2 * np.trace(scattered @ scattered)
    return Estimate(float(difference @ gram @ difference - bias), float(np.sqrt(max(variance, 0.0))))


class Isotherm(NamedTuple):
    """What `simulate_isotherm` found.

    Fields:
        equation_of_state: pressures with errors.
        potential: (states,) mean potential energy, kJ/mol.
    """

    equation_of_state: TabulatedEquationOfState
    potential: Estimate


def simulate_isotherm(
    energy: AbstractEnergy,
    positions: AtomVectors,
    box: Box,
    masses: float | AtomScalars,
    densities: Numbers,
    *,
    temperature: float,
    time_step: float,
    steps: int,
    equilibration: int,
    key: PRNGKeyArray,
    every: int = 20,
    tail: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Isotherm:
    """Pressures of a fluid of atoms at some densities: short runs at constant volume, each from the end of the last.

    Arguments:
        energy: of the fluid.
        positions, box, masses: of the start, see `simulate_fluid`; scaled to each density.
        densities: (states,) atoms per nm³; neighbours in the list should be close.
        temperature: K.
        time_step: ps.
        steps, equilibration: for each density.
        key: random key.
        every: steps between two frames.
        tail: whether to add the pressure of what the cutoffs of pair potentials remove.
        progress: called as ``progress(done, states)``.

    Returns:
        The `Isotherm`.
    """
    x, box = jnp.asarray(positions), jnp.asarray(box)
    found, potential = [], []
    for number, density in enumerate(np.asarray(densities, np.float64)):
        volume = len(x) / float(density)
        factor = (volume / float(box_volume(box))) ** (1 / 3)
        x, box = x * factor, box * factor
        run = simulate_fluid(
            energy,
            x,
            box,
            masses,
            temperature=temperature,
            time_step=time_step,
            steps=steps,
            every=every,
            equilibration=equilibration,
            key=jax.random.fold_in(key, number),
        )
        correction = tail_pressures(energy, run.boxes) if tail else 0.0
        frames = frame_pressures(energy, run.positions, run.boxes, temperature=temperature, correction=correction)
        found.append(block_average(np.asarray(frames.pressure)))
        potential.append(block_average(run.potential))
        x, energy = jnp.asarray(run.positions[-1]), run.energy
        if progress is not None:
            progress(number + 1, len(densities))
    table = TabulatedEquationOfState(densities, temperature, [p.value for p in found], [p.error for p in found])
    return Isotherm(table, Estimate(*(np.array(field) for field in zip(*potential, strict=True))))
