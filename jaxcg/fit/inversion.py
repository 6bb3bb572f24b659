"""Pair potentials from g(r), by simulation and correction in turns: what every such method shares."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import ResultError
from ..typing import Array, Float, PRNGKeyArray, Scalar
from ..units import GAS_CONSTANT

#: A ramp for the pressure changes the potential by at most this many kT in one step (Wang, Junghans & Kremer).
_MOST_RAMP = 0.1
#: Length over which the extrapolated core grows by a factor e, in units of the shortest distance in the data.
_CORE = 0.1


class InversionStep(NamedTuple):
    """What one correction of the potential did.

    Fields:
        misfit: ∫|g − g*| dr / ∫ g* dr of the g(r) that was given, up to the cutoff.
        change: largest change of the potential where the target has data, kJ/mol.
        pressure_change: largest part of it that is there for the pressure, kJ/mol; the height at r = 0 of a ramp.
    """

    misfit: Scalar
    change: Scalar
    pressure_change: Scalar


class AbstractInversion(eqx.Module):
    """A correction of a pair potential whose simulation gave g(r) instead of g*(r).

    Potentials are tables on the distances of the target, zero from the cutoff on. Below the first distance at which the
    target has data the potential goes on upwards exponentially, so no pair is lost in the core. With a target pressure
    every step also closes its gap: `InverseMonteCarlo` by what the frames say, the others by the ramp A (1 − r/r_c)
    that would do so at unchanged g(r), bounded by 0.1 kT.

    Without a pressure the fixed point has the target's g(r), and by Henderson's theorem no other potential has; but
    potentials that differ by a weak slow ramp have almost the same g(r), so u and with it the pressure converge last.

    Arguments of every inversion:
        r: (points,) distances, nm: middles of the bins of g(r), equally spaced, ascending.
        target: (points,) g*(r).
        temperature: K.
        cutoff: nm, where potentials end; the last distance if None, else the last one that is not beyond it.
        rate: share of the correction that is applied, between 0 and 1; smaller for dense or noisy systems.
        least: what g* and g are not trusted below: unsampled.
        smoothing: how many times the correction is averaged over three neighbouring points (weights 1/4, 1/2, 1/4).
        density: number density, nm⁻³.
        pressure: target, kJ/mol/nm³; None for none. It needs the density.
    """

    r: eqx.AbstractVar[Float[Array, " points"]]
    target: eqx.AbstractVar[Float[Array, " points"]]
    settings: eqx.AbstractVar["InversionSettings"]

    @abstractmethod
    def correction(self, measured: "Measured") -> tuple[Float[Array, " points"], Scalar]:
        """What g(r) and the pressure ask to be added to the potential that gave them, kJ/mol.

        Returns:
            (points,) the change, and the largest part of it that is there for the pressure.

        Raises:
            ValueError: something is missing in ``measured``.
        """

    @property
    def cutoff(self) -> Array:
        """Where potentials end, nm."""
        return self.r[self.settings.last]

    def init(self) -> Float[Array, " points"]:
        """The potential of mean force −kT ln g*, kJ/mol: where to start."""
        return self._complete(-self.settings.thermal_energy * jnp.log(jnp.maximum(self.target, self.settings.least)))

    def step(
        self, potential: Float[Array | np.ndarray, " points"], measured: "Measured"
    ) -> tuple[Float[Array, " points"], InversionStep]:
        """The next potential.

        Arguments:
            potential: (points,) that was simulated, kJ/mol.
            measured: what it gave; with a pressure where there is a target for it.

        Returns:
            The corrected potential, kJ/mol, and the `InversionStep`.

        Raises:
            ValueError: something is missing in ``measured``.
        """
        change, pressure_change = self.correction(measured)
        new = self._complete(jnp.asarray(potential, self.r.dtype) + change)
        moved = jnp.max(jnp.abs(new - potential)[self.settings.first :])
        return new, InversionStep(self.misfit(measured.rdf), moved, pressure_change)

    def _with_ramp(self, change: Array, measured: "Measured") -> tuple[Array, Array]:
        """The applied share of a change in kT, smoothed, and a ramp for the pressure, both in kJ/mol."""
        s = self.settings
        change = s.rate * s.thermal_energy * self._smooth(change)
        if s.pressure is None:
            return change, jnp.zeros((), self.r.dtype)
        ramp = self._ramp(jnp.asarray(measured.rdf, self.r.dtype), self._pressure_of(measured))
        return change + ramp * (1 - self.r / self.cutoff), ramp

    def _pressure_of(self, measured: "Measured") -> Array:
        if measured.pressure is None:
            raise ValueError("inversion: give the pressure that was measured; there is a target for it.")
        return jnp.asarray(measured.pressure, self.r.dtype)

    def misfit(self, rdf: Float[Array | np.ndarray, " points"]) -> Scalar:
        """∫|g − g*| dr / ∫ g* dr up to the cutoff."""
        inside = slice(self.settings.last + 1)
        return jnp.sum(jnp.abs(rdf - self.target)[inside]) / jnp.sum(self.target[inside])

    def _ramp(self, rdf, pressure):
        """Height of the ramp whose virial, with this g(r), closes the gap: P = ρkT − (2π/3) ρ² ∫ r³ u′ g dr."""
        s, inside = self.settings, slice(self.settings.last + 1)
        assert s.pressure is not None
        assert s.density is not None
        integral = jnp.sum((self.r**3 * rdf)[inside]) * (self.r[1] - self.r[0])
        height = 1.5 * (s.pressure - pressure) * self.cutoff / (math.pi * s.density**2 * integral)
        most = _MOST_RAMP * s.thermal_energy
        return jnp.clip(s.rate * height, -most, most)

    def _smooth(self, values):
        for _ in range(self.settings.smoothing):
            wide = jnp.concatenate([values[:1], values, values[-1:]])
            values = 0.25 * wide[:-2] + 0.5 * wide[1:-1] + 0.25 * wide[2:]
        return values

    def _complete(self, potential):
        """Zero from the cutoff on, and a core where there are no data."""
        at, last = self.settings.first, self.settings.last
        potential = potential - potential[last]
        spacing, length = self.r[1] - self.r[0], _CORE * self.r[at]
        slope = (potential[at + 2] - potential[at]) / (2 * spacing)
        slope = jnp.minimum(slope, -self.settings.thermal_energy / length)  # a core repels, whatever the noise
        core = potential[at] - slope * length * jnp.expm1(jnp.maximum(self.r[at] - self.r, 0.0) / length)
        place = jnp.arange(self.r.shape[0])
        return jnp.where(place < at, core, jnp.where(place < last, potential, 0.0))


class InversionSettings(eqx.Module):
    """Checked numbers of an inversion; see `AbstractInversion`."""

    temperature: Float[Array, ""]
    rate: Float[Array, ""]
    density: Float[Array, ""] | None
    pressure: Float[Array, ""] | None
    least: float = eqx.field(static=True)
    smoothing: int = eqx.field(static=True)
    #: Places of the first distance with data and of the cutoff.
    first: int = eqx.field(static=True)
    last: int = eqx.field(static=True)

    def __init__(self, r, target, *, temperature, cutoff, rate, least, smoothing, density, pressure):
        x, g = np.asarray(r, np.float64), np.asarray(target, np.float64)
        if x.ndim != 1 or x.shape != g.shape or len(x) < 8:
            raise ValueError("inversion: give eight or more distances, and g* at each of them.")
        steps = np.diff(x)
        if not (x[0] >= 0 and steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-3)):
            raise ValueError("inversion: distances must ascend from 0 or more in equal steps.")
        if not (np.isfinite(g).all() and (g >= 0).all()):
            raise ValueError("inversion: g* has values that are negative or not finite.")
        last = len(x) - 1 if cutoff is None else int(np.searchsorted(x, cutoff * (1 + 1e-6), side="right")) - 1
        first = int(np.argmax(g >= least)) if (g >= least).any() else len(g)
        if first > last - 4:
            raise ValueError(f"inversion: g* does not reach {least:g} well before the cutoff; take a longer table.")
        if not (0 < rate <= 1 and temperature > 0 and least > 0):
            raise ValueError("inversion: the rate must be in (0, 1], temperature and least positive.")
        if pressure is not None and density is None:
            raise ValueError("inversion: a target pressure needs the density.")
        dtype = float_type(r)
        self.temperature, self.rate = jnp.asarray(temperature, dtype), jnp.asarray(rate, dtype)
        self.density = None if density is None else jnp.asarray(density, dtype)
        self.pressure = None if pressure is None else jnp.asarray(pressure, dtype)
        self.least, self.smoothing, self.first, self.last = least, smoothing, first, last

    @property
    def thermal_energy(self) -> Array:
        """kT, kJ/mol."""
        return GAS_CONSTANT * self.temperature


class Measured(NamedTuple):
    """What a simulation of a potential gave.

    Fields:
        rdf: (points,) g(r) on the distances of the target.
        pressure: kJ/mol/nm³, or None if it was not measured.
        rdf_series: (frames, points) g(r) of every frame, whose mean it is, for methods that ask for fluctuations;
            blocks of frames fluctuate less and will not do.
        pressure_series: (frames,) pressure of every frame.
    """

    rdf: Array | np.ndarray
    pressure: Array | float | None = None
    rdf_series: Array | np.ndarray | None = None
    pressure_series: Array | np.ndarray | None = None


class Inversion(NamedTuple):
    """Result of `invert`; NumPy.

    Fields:
        potential: (points,) the simulated potential with the least misfit, kJ/mol.
        best: its number.
        potentials: (iterations, points) all that were simulated, kJ/mol.
        rdf: (iterations, points) what they gave.
        misfit: (iterations,) ∫|g − g*| dr / ∫ g* dr up to the cutoff.
        pressure: (iterations,) kJ/mol/nm³; NaN where it was not measured.
    """

    potential: np.ndarray
    best: int
    potentials: np.ndarray
    rdf: np.ndarray
    misfit: np.ndarray
    pressure: np.ndarray


def invert(
    inversion: AbstractInversion,
    measure: Callable[[Array, PRNGKeyArray], Measured],
    key: PRNGKeyArray,
    iterations: int,
    *,
    potential: Array | np.ndarray | None = None,
    progress: Callable[[int, InversionStep, Measured], None] | None = None,
) -> Inversion:
    """Simulates and corrects in turns.

    Arguments:
        inversion: the correction.
        measure: ``measure(potential, key)`` simulates the table (points,) in kJ/mol, zero from the cutoff on, and
            returns what it `Measured`. It may keep positions from one call to the next.
        key: random key; simulation i gets ``fold_in(key, i)``.
        iterations: number of simulations, at least one.
        potential: (points,) to start from, kJ/mol; −kT ln g* if None.
        progress: called as ``progress(i, step, measured)`` after each.

    Returns:
        The `Inversion`. With a target pressure too, ``best`` looks at g(r) alone.

    Raises:
        ValueError: no iterations.
        ResultError: a simulation gave a g(r) or pressure that is not finite; the message names it.
    """
    if iterations < 1:
        raise ValueError(f"invert: {iterations} iterations; ask for one or more.")
    current = inversion.init() if potential is None else jnp.asarray(potential, inversion.r.dtype)
    potentials, rdfs, misfits, pressures = [], [], [], []
    for i in range(iterations):
        measured = measure(current, jax.random.fold_in(key, i))
        rdf = jnp.asarray(measured.rdf, inversion.r.dtype)
        pressure = math.nan if measured.pressure is None else float(measured.pressure)
        if not bool(jnp.all(jnp.isfinite(rdf))) or (measured.pressure is not None and not math.isfinite(pressure)):
            good = f"the last good misfit was {misfits[-1]:.3g}" if misfits else "already the first one"
            raise ResultError(
                f"invert: simulation {i} gave a g(r) or a pressure that is not finite ({good}); take a lower rate or a "
                "shorter time step."
            )
        potentials.append(np.asarray(current))
        current, step = inversion.step(current, measured)
        rdfs.append(np.asarray(rdf))
        misfits.append(float(step.misfit))
        pressures.append(pressure)
        if progress is not None:
            progress(i, step, measured)
    best = int(np.argmin(misfits))
    return Inversion(
        potentials[best], best, np.stack(potentials), np.stack(rdfs), np.asarray(misfits), np.asarray(pressures)
    )


def log_ratio(rdf: Array | np.ndarray, target: Array, least: float) -> Array:
    """ln(g/g*): none where both are unsampled, a bounded one where one of them is."""
    return jnp.log(jnp.maximum(rdf, least) / jnp.maximum(target, least))


def float_type(values):
    """Type of the table: that of the distances, if they are floating-point JAX numbers, else JAX's default."""
    return jnp.result_type(jnp.asarray(values), float)
