"""A finite bath of harmonic oscillators, and the Caldeira-Leggett dynamics of a system coupled to it.

The ground truth of the generalised Langevin equation: for every realisation the system obeys it exactly with the kernel
Σ c_j²/(m_j ω_j²) cos ω_j t, whatever U is, if the bath starts thermal about its shifted minima.
"""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import cumulative_trapezoid

from ...energy.base import AbstractEnergy
from ...typing import Array, PRNGKeyArray
from ...units import GAS_CONSTANT
from ..kernels.forms import require_positive
from ..kernels.spectral_densities import AbstractSpectralDensity
from ._forces import potential_and_force
from .base import AbstractDynamics
from .stability import highest_squared_frequency, largest_bath_step

Rule = Literal["midpoint", "logarithmic", "equal"]


class HarmonicBath(eqx.Module):
    """Oscillators of unit mass (amu) with frequencies ω_j, coupled by c_j to a coordinate.

    Arguments:
        frequencies: (oscillators,) ω_j, 1/ps.
        couplings: (oscillators,) c_j, amu/ps².
    """

    frequencies: Array
    couplings: Array

    def memory_kernel(self, t: Array) -> Array:
        """Γ(t) = Σ c_j²/ω_j² cos ω_j t, amu/ps², at ``t`` (...), ps."""
        shares = (self.couplings / self.frequencies) ** 2
        return jnp.sum(shares * jnp.cos(self.frequencies * jnp.asarray(t)[..., None]), axis=-1)

    @property
    def recurrence_time(self) -> float:
        """2π over the smallest distance of two frequencies, ps: later the bath gives back what it took."""
        gaps = np.diff(np.sort(np.asarray(self.frequencies)))
        return float(2 * np.pi / gaps.min()) if len(gaps) else float(2 * np.pi / np.asarray(self.frequencies)[0])

    def error(self, density: AbstractSpectralDensity, times) -> float:
        """Largest |Γ_bath − Γ| at ``times`` (ps) as a share of Γ(0)."""
        exact = np.asarray(density.memory_kernel(jnp.asarray(times)))
        at_zero = abs(float(density.memory_kernel(jnp.zeros(()))))
        return float(np.max(np.abs(np.asarray(self.memory_kernel(jnp.asarray(times))) - exact)) / at_zero)


def discretize(
    density: AbstractSpectralDensity,
    oscillators: int,
    highest: float,
    *,
    rule: Rule = "midpoint",
    lowest: float | None = None,
) -> HarmonicBath:
    """A finite bath for a spectral density: c_j²/ω_j² = (2/π) J(ω_j)/ω_j Δω_j.

    Arguments:
        density: what to represent.
        oscillators: how many.
        highest: largest frequency, 1/ps; for Drude-Lorentz 4 Ω √oscillators balances the errors of spacing and cut.
        rule: where the frequencies are. ``"midpoint"``: evenly spaced, the most accurate at times well below the
            recurrence time; ``"logarithmic"``: evenly in log ω, for kernels over many decades; ``"equal"``: each
            oscillator has the same share of Γ(0), with few oscillators in the tails.
        lowest: smallest frequency of ``"logarithmic"``, 1/ps; a 10⁴th of ``highest`` when None.

    Raises:
        ValueError: an argument is out of range.
    """
    require_positive("discretize", "highest frequency", highest)
    if oscillators < 1:
        raise ValueError(f"discretize: oscillators is {oscillators}, ask for at least one.")
    if rule == "midpoint":
        edges = np.linspace(0.0, highest, oscillators + 1)
    elif rule == "logarithmic":
        lowest = 1e-4 * highest if lowest is None else lowest
        require_positive("discretize", "lowest frequency", lowest)
        edges = np.concatenate([[0.0], np.geomspace(lowest, highest, oscillators)])
    elif rule == "equal":
        grid = np.linspace(0.0, highest, max(200 * oscillators, 20000))[1:]
        total = cumulative_trapezoid(np.asarray(density.reduced(jnp.asarray(grid))), grid, initial=0.0)
        shares = (np.arange(oscillators) + 0.5) / oscillators * total[-1]
        frequencies = np.interp(shares, total, grid)
        strength = 2 / np.pi * total[-1] / oscillators
        return HarmonicBath(jnp.asarray(frequencies), jnp.asarray(frequencies * np.sqrt(strength)))
    else:
        raise ValueError(f"discretize: rule {rule!r} is not known; choose midpoint, logarithmic or equal.")
    frequencies = 0.5 * (edges[1:] + edges[:-1])
    reduced = np.asarray(density.reduced(jnp.asarray(frequencies)))
    strengths = 2 / np.pi * reduced * np.diff(edges)
    return HarmonicBath(jnp.asarray(frequencies), jnp.asarray(frequencies * np.sqrt(strengths)))


class BathState(NamedTuple):
    """Position and velocity of the system (any shape), displacement and velocity of its oscillators."""

    position: Array
    velocity: Array
    displacement: Array
    bath_velocity: Array


class BathInfo(NamedTuple):
    """One step: U(x) and the total energy of system and bath, kJ/mol, kinetic temperature of the system, K, at its end.

    The total is conserved, up to an oscillation of second order in the time step.
    """

    potential: Array
    total: Array
    temperature: Array


class CaldeiraLeggett(AbstractDynamics):
    """Newtonian dynamics of a system, each coordinate of which is coupled to a harmonic bath of its own.

    H = p²/2M + U(x) + Σ ½ [v_j² + ω_j² (q_j − c_j x/ω_j²)²]. A step is: half a free flight of the system, the exact
    motion of the bath and the exact impulse it gives while the system stands still, half a free flight. Symplectic,
    and stable as long as no oscillator does half a turn in a step, for weakly coupled ones beyond that too.

    Arguments:
        energy: U(x), kJ/mol; None for a free particle.
        bath: the oscillators.
        mass: of the system, amu.
        time_step: ps.
        temperature: K, of the initial state.

    Source: Caldeira & Leggett, Ann. Phys. 149, 374 (1983); Zwanzig, J. Stat. Phys. 9, 215 (1973).
    """

    energy: AbstractEnergy | None
    bath: HarmonicBath
    mass: Array
    time_step: Array
    temperature: Array

    def __init__(self, energy, bath: HarmonicBath, mass, *, time_step: float, temperature: float):
        for name, value in (("mass", mass), ("time step", time_step), ("temperature", temperature)):
            require_positive("CaldeiraLeggett", name, value)
        self.energy, self.bath = energy, bath
        self.mass, self.time_step, self.temperature = map(jnp.asarray, (mass, time_step, temperature))

    def init(self, key: PRNGKeyArray, position: Array, velocity: Array | None = None) -> BathState:
        """State at ``position`` with thermal velocities, unless given, and a bath thermal about its shifted minima."""
        x = jnp.asarray(position)
        root = jnp.sqrt(GAS_CONSTANT * self.temperature).astype(x.dtype)
        keys = jax.random.split(key, 3)
        omega, shift = self._columns(x)
        shape = (omega.shape[0], *x.shape)
        if velocity is None:
            velocity = root / jnp.sqrt(self.mass).astype(x.dtype) * jax.random.normal(keys[0], x.shape, x.dtype)
        displacement = shift * x + root / omega * jax.random.normal(keys[1], shape, x.dtype)
        return BathState(
            x, jnp.asarray(velocity, x.dtype), displacement, root * jax.random.normal(keys[2], shape, x.dtype)
        )

    def step(self, key: PRNGKeyArray, state: BathState) -> tuple[BathState, BathInfo]:
        """One time step; deterministic."""
        del key
        x, v, q, w = state
        dt, mass = self.time_step.astype(x.dtype), self.mass.astype(x.dtype)
        omega, shift = self._columns(x)
        x = x + 0.5 * dt * v
        potential, force = potential_and_force(self.energy, x)
        sine, cosine = jnp.sin(omega * dt), jnp.cos(omega * dt)
        z = q - shift * x
        # ∫ z dt over the step, with the force ω² shift z = c z of each oscillator on the system.
        passed = z * sine / omega + w * (1 - cosine) / omega**2
        v = v + (jnp.sum(omega**2 * shift * passed, axis=0) + dt * force) / mass
        z, w = z * cosine + w * sine / omega, w * cosine - z * omega * sine
        q = z + shift * x
        x = x + 0.5 * dt * v
        potential, _ = potential_and_force(self.energy, x)
        bath = 0.5 * jnp.sum(w**2 + (omega * (q - shift * x)) ** 2)
        twice = mass * v**2
        info = BathInfo(potential, potential + 0.5 * jnp.sum(twice) + bath, jnp.mean(twice) / GAS_CONSTANT)
        return BathState(x, v, q, w), info

    def largest_time_step(self, position: Array) -> float:
        """The limit of stability about ``position``, ps: the bath is part of the stiffness of the system."""
        square, bath = highest_squared_frequency(self.energy, self.mass, position), self.bath
        frequencies, couplings = (np.asarray(each, np.float64) for each in (bath.frequencies, bath.couplings))
        return largest_bath_step(
            square, float(self.mass), frequencies, (couplings / frequencies) ** 2, float(self.time_step)
        )

    def _columns(self, x: Array) -> tuple[Array, Array]:
        """ω_j and c_j/ω_j², shaped to go with (oscillators, *x.shape)."""
        shape = (-1, *(1,) * x.ndim)
        omega = self.bath.frequencies.astype(x.dtype)
        return omega.reshape(shape), (self.bath.couplings.astype(x.dtype) / omega**2).reshape(shape)
