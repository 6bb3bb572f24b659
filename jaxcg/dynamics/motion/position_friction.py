"""Friction that depends on where the coordinate is: a bath coupled through a nonlinear function of the position."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ...energy.base import AbstractEnergy
from ...typing import Array, PRNGKeyArray
from ...units import GAS_CONSTANT
from ..kernels.embedding import Embedding
from ..kernels.forms import AbstractMemoryKernel, DeltaKernel, require_positive
from ._forces import potential_and_force
from ._frozen_step import FrozenStep
from .base import AbstractDynamics
from .gle import GLEInfo, GLEState
from .stability import largest_stable_step


class SplineProfile(eqx.Module):
    """A function of the position, from a table: a cubic spline through it, constant beyond its ends.

    Once continuously differentiable; the slopes at the points are central differences, zero at the ends. The values are
    parameters: `jax.grad` reaches them.

    Arguments:
        positions: (points,) equally spaced, ascending, nm.
        values: (points,).

    Raises:
        ValueError: fewer than two points, not equally spaced, or values that are not finite.
    """

    start: Array
    spacing: Array
    values: Array

    def __init__(self, positions, values):
        x = np.asarray(positions, np.float64)
        self.values = jnp.asarray(values)
        if x.ndim != 1 or x.shape != self.values.shape or len(x) < 2:
            raise ValueError("SplineProfile: give two or more positions and a value for each.")
        steps = np.diff(x)
        if not (steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-4)):
            raise ValueError("SplineProfile: positions must ascend in equal steps; interpolate the table first.")
        if not isinstance(values, Tracer) and not np.isfinite(np.asarray(values)).all():
            raise ValueError("SplineProfile: values must be finite; leave out what was never visited.")
        self.start, self.spacing = jnp.asarray(x[0], self.values.dtype), jnp.asarray(steps[0], self.values.dtype)

    def __call__(self, x: Array) -> Array:
        """The value at every position of ``x`` (any shape), nm."""
        x = jnp.asarray(x)
        values, slopes = self.values.astype(x.dtype), self._slopes.astype(x.dtype)
        last = values.shape[0] - 1
        place = jnp.clip((x - self.start.astype(x.dtype)) / self.spacing.astype(x.dtype), 0.0, last)
        left = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, last - 1)
        t = place - left
        v, w, dv, dw = values[left], values[left + 1], slopes[left], slopes[left + 1]
        rise = w - v
        return v + t * (dv + t * (3 * rise - 2 * dv - dw + t * (dv + dw - 2 * rise)))

    @property
    def largest(self) -> Array:
        """A bound on the absolute value anywhere: the largest of the control points of the cubics."""
        third = self._slopes / 3
        return jnp.max(jnp.abs(jnp.stack([self.values, self.values + third, self.values - third])))

    @property
    def _slopes(self) -> Array:
        """Per segment."""
        return jnp.pad((self.values[2:] - self.values[:-2]) / 2, 1)


class FrictionTerm(eqx.Module):
    """One bath: the friction force −g(x(t)) ∫ K(t−s) g(x(s)) v(s) ds and the noise g(x(t)) η(t), ⟨η η⟩ = kT K.

    Arguments:
        kernel: K, amu/ps², scalar, with an exact `Embedding`; acts on every coordinate alone.
        profile: g, dimensionless, from positions in nm; differentiable. It is called with all positions and returns one
            value for each coordinate, or what broadcasts against them (e.g. (particles, 1) for (particles, 3)).
        largest: a bound on |g|. With auxiliaries the exact step is tabulated up to it; where |g| is larger it is cut
            to it, which limits the friction and leaves equilibrium as it is. None: that of a `SplineProfile`.

    Raises:
        ValueError: a matrix-valued kernel, one without an embedding, or no bound for a profile that is no
            `SplineProfile`.
    """

    embedding: Embedding
    profile: Callable[[Array], Array]
    largest: Array

    def __init__(self, kernel: AbstractMemoryKernel | Embedding, profile: Callable[[Array], Array], *, largest=None):
        self.embedding = kernel if isinstance(kernel, Embedding) else Embedding.of(kernel)
        self.profile = profile
        if not self.embedding.scalar:
            raise ValueError("FrictionTerm: the kernel is matrix-valued; give scalar ones.")
        if largest is None:
            if isinstance(profile, SplineProfile):
                largest = profile.largest
            elif self.embedding.auxiliaries:
                raise ValueError("FrictionTerm: give `largest`, a bound on |g(x)|, with a profile of this kind.")
            else:
                largest = 1.0
        require_positive("FrictionTerm", "largest |g|", largest)
        self.largest = jnp.asarray(largest, self.embedding.couplings.dtype)


class PositionDependentGLE(AbstractDynamics):
    """Trajectories of M x″ = −∂U/∂x − Σ_k g_k(x(t)) [∫ K_k(t−s) g_k(x(s)) x′(s) ds − η_k(t)], ⟨η_k η_k⟩ = kT K_k.

    The memory of a harmonic bath coupled through any function G of the coordinate, g = G′: exact for that bath. In
    auxiliary variables ds = (a g(x) v − S s) dt + noise, force −g(x) aᵀ s. The stationary law is that of equilibrium,
    exp(−U/kT) exp(−M v²/2kT) N(s; 0, kT), whatever g is: with position and velocity as variables the friction depends
    on a coordinate it does not act on, so there is no noise-induced drift, neither in the equations nor to be added;
    it appears in the overdamped limit alone. A `DeltaKernel` of γ gives Langevin dynamics of friction γ g(x)².

    A step is B A O A B as in `GLE`, O the exact joint Ornstein-Uhlenbeck step of (√m v, s) with g frozen at the
    position amid the step. O keeps the law of velocity and auxiliaries for every g and step, so for harmonic forces
    ⟨x²⟩ is exact for every stable time step and every profile, as is the temperature just after O; else the error is
    of second order. Several terms are composed as a palindrome of half steps. With g = 1 it is the law of `GLE`.

    Arguments:
        energy: U(x), kJ/mol, of positions in nm; None for free motion.
        terms: the baths, one `FrictionTerm` or several.
        masses: amu: a number, or (particles,) for the leading axis of the position.
        time_step: ps.
        temperature: K.

    Raises:
        ValueError: no terms, a mass, the time step or the temperature is not positive, or a coupling far too fast for
            the time step.

    Source: Zwanzig, J. Stat. Phys. 9, 215 (1973), for nonlinear coupling to harmonic oscillators; Leimkuhler &
    Matthews, Appl. Math. Res. Express 2013, 34 (BAOAB).
    """

    energy: AbstractEnergy | None
    terms: tuple[FrictionTerm, ...]
    masses: Array
    frozen: tuple[FrozenStep, ...]
    time_step: Array
    temperature: Array

    def __init__(
        self,
        energy: AbstractEnergy | None,
        terms: FrictionTerm | Sequence[FrictionTerm],
        masses,
        *,
        time_step: float,
        temperature: float,
    ):
        self.terms = (terms,) if isinstance(terms, FrictionTerm) else tuple(terms)
        if not self.terms:
            raise ValueError("PositionDependentGLE: give at least one FrictionTerm.")
        for name, value in (("mass", masses), ("time step", time_step), ("temperature", temperature)):
            require_positive("PositionDependentGLE", name, value)
        dtype = self.terms[0].embedding.couplings.dtype
        self.energy = energy
        self.masses, self.time_step, self.temperature = (
            jnp.asarray(value, dtype) for value in (masses, time_step, temperature)
        )
        if self.masses.ndim > 1:
            raise ValueError(
                f"PositionDependentGLE: masses {self.masses.shape}; give a number or one for each particle."
            )
        lightest = jnp.sqrt(jnp.min(self.masses))
        parts = [1.0] if len(self.terms) == 1 else [0.5] * (len(self.terms) - 1) + [1.0]
        self.frozen = tuple(
            FrozenStep(term.embedding, term.largest / lightest, part * self.time_step)
            for term, part in zip(self.terms, parts, strict=True)
        )

    @property
    def thermal_energy(self) -> Array:
        """kT, kJ/mol."""
        return GAS_CONSTANT * self.temperature

    def friction(self, position: Array) -> Array:
        """γ(x) = Σ_k g_k(x)² ∫₀^∞ K_k dt at every coordinate of ``position``, amu/ps: what acts on slow motion."""
        x = jnp.asarray(position)
        total = jnp.zeros_like(x)
        for term in self.terms:
            a, drift = term.embedding.couplings[:, 0], term.embedding.drift
            static = term.embedding.friction[0, 0] + jnp.dot(a, jnp.linalg.solve(drift, a), precision="highest")
            total = total + static.astype(x.dtype) * term.profile(x) ** 2
        return total

    def init(self, key: PRNGKeyArray, position: Array, velocity: Array | None = None) -> GLEState:
        """State at ``position`` with thermal velocities, unless given, and auxiliaries of equilibrium.

        The equilibrium of the auxiliaries, N(0, kT), depends neither on the position nor on g.
        """
        position = jnp.asarray(position)
        first, second = jax.random.split(key)
        root = jnp.sqrt(self.thermal_energy).astype(position.dtype)
        if velocity is None:
            velocity = root * jax.random.normal(first, position.shape, position.dtype) / self._root_mass(position)
        count = sum(frozen.auxiliaries for frozen in self.frozen)
        auxiliaries = root * jax.random.normal(second, (count, *position.shape), position.dtype)
        return GLEState(
            position, jnp.asarray(velocity, position.dtype), potential_and_force(self.energy, position)[1], auxiliaries
        )

    def step(self, key: PRNGKeyArray, state: GLEState) -> tuple[GLEState, GLEInfo]:
        """One time step."""
        x, v, force, s = state
        dt, root = self.time_step.astype(x.dtype), self._root_mass(x)
        v = v + 0.5 * dt * force / root**2
        x = x + 0.5 * dt * v
        u, s = self._joint(key, x, root * v, s)
        v = u / root
        x = x + 0.5 * dt * v
        potential, force = potential_and_force(self.energy, x)
        v = v + 0.5 * dt * force / root**2
        kinetic = jnp.mean((root * v) ** 2) / GAS_CONSTANT
        return GLEState(x, v, force, s), GLEInfo(potential, kinetic)

    def largest_time_step(self, position: Array) -> float:
        """2/ω_max at ``position`` (nm), ps: memory and friction, propagated exactly, set no limit."""
        return largest_stable_step(self.energy, self.masses, position)

    def _root_mass(self, x: Array) -> Array:
        root = jnp.sqrt(self.masses).astype(x.dtype)
        return root if root.ndim == 0 else root.reshape((-1, *(1,) * (x.ndim - 1)))

    def _joint(self, key: PRNGKeyArray, x: Array, u: Array, s: Array) -> tuple[Array, Array]:
        """(u, s) after a time step at the frozen position ``x``."""
        root = jnp.sqrt(self.thermal_energy).astype(u.dtype)
        scale = [
            jnp.broadcast_to(jnp.asarray(term.profile(x), u.dtype), u.shape) / self._root_mass(x) for term in self.terms
        ]
        ends = np.cumsum([frozen.auxiliaries for frozen in self.frozen])
        parts = jnp.split(s, ends[:-1])
        last = len(self.terms) - 1
        order = [*range(last), *range(last, -1, -1)]
        keys = [key] if last == 0 else jax.random.split(key, len(order))
        for i, own in zip(order, keys, strict=True):
            u, parts[i] = self.frozen[i](own, scale[i], u, parts[i], root)
        return u, parts[0] if last == 0 else jnp.concatenate(parts)


class _Root(eqx.Module):
    """√ of a profile, with a finite derivative at zero."""

    profile: Callable[[Array], Array]

    def __call__(self, x: Array) -> Array:
        value = self.profile(x)
        return jnp.where(value > 0, jnp.sqrt(jnp.where(value > 0, value, 1.0)), 0.0)


def position_dependent_langevin(
    energy: AbstractEnergy | None,
    friction: Callable[[Array], Array],
    masses,
    *,
    time_step: float,
    temperature: float,
) -> PositionDependentGLE:
    """Langevin dynamics M dv = [−∂U/∂x − γ(x) v] dt + √(2kT γ(x)) dW with a friction that depends on the position.

    Underdamped: needs no noise-induced drift (see `PositionDependentGLE`). γ/M times the time step may be large.

    Arguments:
        energy: U(x), kJ/mol; None for free motion.
        friction: γ(x) ≥ 0, amu/ps, e.g. a `SplineProfile`; negative values count as zero.
        masses: amu, a number or (particles,).
        time_step: ps.
        temperature: K.
    """
    kernel = DeltaKernel(jnp.ones((), jnp.result_type(float)))
    return PositionDependentGLE(
        energy, FrictionTerm(kernel, _Root(friction)), masses, time_step=time_step, temperature=temperature
    )
