"""Spectral densities J(ω) of a bath, and the memory kernels Γ(t) = (2/π) ∫₀^∞ J(ω)/ω cos ωt dω they make."""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import gamma as gamma_function

from ...typing import Array
from .forms import AbstractMemoryKernel, PassiveKernel, PronyKernel, require_positive


class AbstractSpectralDensity(eqx.Module):
    """A spectral density J(ω), amu/ps², of the harmonic bath that a coordinate is coupled to.

    Source: Caldeira & Leggett, Ann. Phys. 149, 374 (1983); conventions of Weiss, Quantum Dissipative Systems: a bath
    of oscillators (m_j, ω_j) coupled by c_j has J(ω) = (π/2) Σ c_j²/(m_j ω_j) δ(ω − ω_j).
    """

    @abstractmethod
    def reduced(self, omega: Array) -> Array:
        """J(ω)/ω, amu/ps, for ``omega`` (...) ≥ 0, 1/ps; finite at zero unless the bath is sub-Ohmic."""

    @abstractmethod
    def memory_kernel(self, t: Array) -> Array:
        """Γ(t), amu/ps², for times ``t`` (...), ps, in closed form."""

    def __call__(self, omega: Array) -> Array:
        """J(ω), amu/ps², for ``omega`` (...) ≥ 0, 1/ps."""
        omega = jnp.asarray(omega)
        return omega * self.reduced(omega)

    def reorganization_energy(self) -> Array:
        """(1/π) ∫₀^∞ J(ω)/ω dω = Γ(0)/2, kJ/mol/nm²: that of a displacement of 1 nm; it grows with its square."""
        return 0.5 * self.memory_kernel(jnp.zeros(()))


class DrudeLorentz(AbstractSpectralDensity):
    """J = γ ω Ω²/(ω² + Ω²), an Ohmic bath with a Lorentzian cutoff: Γ(t) = γ Ω e^{−Ωt}.

    Arguments:
        friction: γ, amu/ps.
        cutoff: Ω, 1/ps.
    """

    friction: Array
    cutoff: Array

    def __init__(self, friction, cutoff):
        require_positive("DrudeLorentz", "friction", friction)
        require_positive("DrudeLorentz", "cutoff", cutoff)
        self.friction, self.cutoff = jnp.asarray(friction), jnp.asarray(cutoff)

    def reduced(self, omega: Array) -> Array:
        """γ Ω²/(ω² + Ω²), amu/ps."""
        return self.friction * self.cutoff**2 / (jnp.asarray(omega) ** 2 + self.cutoff**2)

    def memory_kernel(self, t: Array) -> Array:
        """γ Ω e^{−Ωt}, amu/ps²."""
        return self.kernel()(t)

    def kernel(self) -> PronyKernel:
        """The same kernel as an object with an exact embedding."""
        return PronyKernel(self.friction * self.cutoff, self.cutoff)


class PowerLaw(AbstractSpectralDensity):
    """J = γ ω (ω/ω_c)^{s−1} e^{−ω/ω_c}: Ohmic for s = 1, sub-Ohmic below, super-Ohmic above.

    Γ(t) = (2/π) γ ω_c Γ(s) cos(s arctan ω_c t) / (1 + ω_c² t²)^{s/2}, with the gamma function Γ(s).

    Arguments:
        friction: γ, amu/ps.
        cutoff: ω_c, 1/ps.
        exponent: s > 0.
    """

    friction: Array
    cutoff: Array
    exponent: Array

    def __init__(self, friction, cutoff, exponent=1.0):
        for name, value in (("friction", friction), ("cutoff", cutoff), ("exponent", exponent)):
            require_positive("PowerLaw", name, value)
        self.friction, self.cutoff, self.exponent = map(jnp.asarray, (friction, cutoff, exponent))

    def reduced(self, omega: Array) -> Array:
        """γ (ω/ω_c)^{s−1} e^{−ω/ω_c}, amu/ps."""
        ratio = jnp.asarray(omega) / self.cutoff
        return self.friction * ratio ** (self.exponent - 1) * jnp.exp(-ratio)

    def memory_kernel(self, t: Array) -> Array:
        """Γ(t), amu/ps²."""
        x, s = self.cutoff * jnp.asarray(t), self.exponent
        shape = jnp.cos(s * jnp.arctan(x)) / (1 + x**2) ** (s / 2)
        return 2 / jnp.pi * self.friction * self.cutoff * gamma_function(s) * shape


class BrownianOscillator(AbstractSpectralDensity):
    """J = Γ₀ ω ω₀² γ / ((ω₀² − ω²)² + γ² ω²): a damped harmonic mode that the coordinate is coupled to.

    Γ(t) = Γ₀ e^{−γt/2} (cos ω₁t + γ/(2ω₁) sin ω₁t) with ω₁² = ω₀² − γ²/4; over-damped modes (γ > 2ω₀) are allowed.

    Arguments:
        strength: Γ₀ = Γ(0), amu/ps².
        frequency: ω₀, 1/ps.
        damping: γ, 1/ps.
    """

    strength: Array
    frequency: Array
    damping: Array

    def __init__(self, strength, frequency, damping):
        for name, value in (("strength", strength), ("frequency", frequency), ("damping", damping)):
            require_positive("BrownianOscillator", name, value)
        self.strength, self.frequency, self.damping = map(jnp.asarray, (strength, frequency, damping))

    def reduced(self, omega: Array) -> Array:
        """J(ω)/ω, amu/ps."""
        square = jnp.asarray(omega) ** 2
        top = self.strength * self.frequency**2 * self.damping
        return top / ((self.frequency**2 - square) ** 2 + self.damping**2 * square)

    def memory_kernel(self, t: Array) -> Array:
        """Γ(t), amu/ps²."""
        t, half = jnp.asarray(t), 0.5 * self.damping
        square = (self.frequency**2 - half**2) * t**2
        # cos √z and sin √z/√z for z of either sign; the series where they meet.
        root = jnp.sqrt(jnp.maximum(jnp.abs(square), 1e-6))
        near = jnp.abs(square) < 1e-6
        cosine = jnp.where(near, 1 - square / 2, jnp.where(square > 0, jnp.cos(root), jnp.cosh(root)))
        sine = jnp.where(near, 1 - square / 6, jnp.where(square > 0, jnp.sin(root), jnp.sinh(root)) / root)
        return self.strength * jnp.exp(-half * t) * (cosine + half * t * sine)

    def kernel(self) -> PassiveKernel:
        """The same kernel as an object with an exact embedding: the mode's position and velocity."""
        zero = jnp.zeros_like(self.frequency)
        couplings = jnp.stack([jnp.sqrt(self.strength), zero])
        skew = jnp.stack([jnp.stack([zero, -self.frequency]), jnp.stack([zero, zero])])
        return PassiveKernel(couplings, skew, jnp.stack([zero, jnp.sqrt(self.damping)])[:, None])


class TabulatedSpectralDensity(AbstractSpectralDensity):
    """A spectral density known at some frequencies; J(ω)/ω is linear between them and zero beyond the last.

    The kernel is the cosine transform of that piecewise linear function, exactly.

    Arguments:
        frequencies: (points,) 1/ps, increasing from zero.
        reduced_values: (points,) J(ω)/ω, amu/ps.

    Raises:
        ValueError: shapes differ, or frequencies do not increase from zero.
    """

    frequencies: Array
    reduced_values: Array

    def __init__(self, frequencies, reduced_values):
        self.frequencies, self.reduced_values = jnp.asarray(frequencies), jnp.asarray(reduced_values)
        if self.frequencies.ndim != 1 or self.frequencies.shape != self.reduced_values.shape or len(frequencies) < 2:
            raise ValueError("TabulatedSpectralDensity: give two or more frequencies and a value of J/ω for each.")
        if self.frequencies[0] != 0 or not bool(jnp.all(jnp.diff(self.frequencies) > 0)):
            raise ValueError("TabulatedSpectralDensity: frequencies must increase, from zero.")

    def reduced(self, omega: Array) -> Array:
        """J(ω)/ω, amu/ps."""
        return jnp.interp(jnp.asarray(omega), self.frequencies, self.reduced_values, right=0.0)

    def memory_kernel(self, t: Array) -> Array:
        """Γ(t), amu/ps²."""
        t = jnp.asarray(t)[..., None]
        left, right = self.frequencies[:-1], self.frequencies[1:]
        low, high = self.reduced_values[:-1], self.reduced_values[1:]
        half, middle = 0.5 * (right - left), 0.5 * (right + left)
        # On a segment: mean value times the integral of the cosine, plus the slope's part, both about its middle.
        x = half * t
        even = jnp.sinc(x / jnp.pi)
        small = jnp.abs(x) < 1e-2
        safe = jnp.where(small, 1.0, x)
        odd = jnp.where(small, x / 3 - x**3 / 30, (jnp.sin(safe) - safe * jnp.cos(safe)) / safe**2)
        mean, slope = 0.5 * (low + high), 0.5 * (high - low)
        total = 2 * half * (mean * even * jnp.cos(middle * t) - slope * odd * jnp.sin(middle * t))
        return 2 / jnp.pi * jnp.sum(total, axis=-1)


def spectral_density(kernel: AbstractMemoryKernel, omega: Array) -> Array:
    """The way back from a scalar kernel: J(ω) = ω ∫₀^∞ Γ(t) cos ωt dt, amu/ps², for ``omega`` (...), 1/ps."""
    omega = jnp.asarray(omega)
    return 0.5 * omega * kernel.spectrum(omega)
