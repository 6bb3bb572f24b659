"""Memory kernels Γ(t): the friction force on a coarse coordinate is −∫₀ᵗ Γ(t − s) v(s) ds."""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.linalg import expm

from ...typing import Array


class AbstractMemoryKernel(eqx.Module):
    """A memory kernel Γ(t) of one coordinate or, matrix-valued, of several coupled ones.

    Units: Γ is a force per displacement, amu/ps² (= kJ/mol/nm²); times are ps, frequencies 1/ps. The Markovian part
    2 γ δ(t) of a kernel is kept apart as its `friction` γ (amu/ps); the integral from 0 takes half of the delta
    function, so its force is −γ v.

    Source: the generalised Langevin equation M x″ = −∂U/∂x − ∫₀ᵗ Γ(t−s) x′(s) ds + η(t), ⟨η(t) η(0)⟩ = kT Γ(t).
    """

    @abstractmethod
    def __call__(self, t: Array) -> Array:
        """Γ(t), amu/ps², without its delta function, for times ``t`` (...) ≥ 0, ps.

        The shape is (...) for a scalar kernel, else (..., coordinates, coordinates).
        """

    @abstractmethod
    def laplace(self, s: Array) -> Array:
        """Laplace transform ∫₀^∞ Γ(t) e^{−st} dt, amu/ps, for complex ``s`` (...), 1/ps; includes the friction."""

    @property
    @abstractmethod
    def coordinates(self) -> int | None:
        """Number of coupled coordinates of a matrix-valued kernel; None for a scalar one."""

    @property
    @abstractmethod
    def friction(self) -> Array:
        """Markovian part γ, amu/ps: a scalar or (coordinates, coordinates)."""

    def spectrum(self, omega: Array) -> Array:
        """Power spectrum of the noise over kT, Γ̂(iω) + Γ̂(iω)ᴴ, amu/ps: twice the real part for a scalar kernel.

        Arguments:
            omega: (...) angular frequencies, 1/ps.
        """
        transform = self.laplace(1j * jnp.asarray(omega))
        if self.coordinates is None:
            return 2 * transform.real
        return transform + jnp.conj(jnp.swapaxes(transform, -1, -2))

    def total_friction(self) -> Array:
        """Friction of slow motion, Γ̂(0) = ∫₀^∞ Γ dt, amu/ps."""
        return self.laplace(jnp.zeros(())).real


class PronyKernel(AbstractMemoryKernel):
    """Sum of real exponentials, Γ(t) = Σ c_k e^{−λ_k t}.

    Arguments:
        strengths: (terms,) c_k, amu/ps²; may be negative as long as the sum stays positive-real.
        rates: (terms,) λ_k > 0, 1/ps.

    Raises:
        ValueError: shapes differ, or a rate is not positive.
    """

    strengths: Array
    rates: Array

    def __init__(self, strengths, rates):
        self.strengths, self.rates = jnp.atleast_1d(jnp.asarray(strengths)), jnp.atleast_1d(jnp.asarray(rates))
        if self.strengths.shape != self.rates.shape or self.rates.ndim != 1:
            raise ValueError("PronyKernel: strengths and rates must be one-dimensional and of equal length.")
        require_positive("PronyKernel", "rate", rates)

    def __call__(self, t: Array) -> Array:
        """Γ(t), amu/ps², at ``t`` (...), ps."""
        t = jnp.asarray(t, self.rates.dtype)[..., None]
        return jnp.sum(self.strengths * jnp.exp(-self.rates * t), axis=-1)

    def laplace(self, s: Array) -> Array:
        """Γ̂(s) = Σ c_k / (s + λ_k), amu/ps, at complex ``s`` (...), 1/ps."""
        return jnp.sum(self.strengths / (jnp.asarray(s)[..., None] + self.rates), axis=-1)

    @property
    def coordinates(self) -> int | None:
        """None: a scalar kernel."""
        return None

    @property
    def friction(self) -> Array:
        """Zero."""
        return jnp.zeros((), self.strengths.dtype)


class DeltaKernel(AbstractMemoryKernel):
    """Markovian friction, Γ(t) = 2 γ δ(t): the force is −γ v and the noise white.

    Arguments:
        friction: γ, amu/ps: a scalar, or a positive semidefinite (coordinates, coordinates) matrix.
    """

    _friction: Array

    def __init__(self, friction):
        self._friction = jnp.asarray(friction)
        if self._friction.ndim not in (0, 2):
            raise ValueError("DeltaKernel: the friction is a number or a square matrix.")

    def __call__(self, t: Array) -> Array:
        """Zero: the delta function is not part of the regular kernel."""
        return jnp.zeros(jnp.shape(t) + self._friction.shape, self._friction.dtype)

    def laplace(self, s: Array) -> Array:
        """γ, amu/ps, for every ``s`` (...)."""
        return jnp.broadcast_to(self._friction, jnp.shape(s) + self._friction.shape) + 0j

    @property
    def coordinates(self) -> int | None:
        """Number of coupled coordinates; None if scalar."""
        return None if self._friction.ndim == 0 else self._friction.shape[0]

    @property
    def friction(self) -> Array:
        """γ, amu/ps."""
        return self._friction


class PassiveKernel(AbstractMemoryKernel):
    """Γ(t) = aᵀ e^{−St} a with S = (W − Wᵀ) + R Rᵀ: positive-real for every value of its parameters.

    The skew part of S makes it oscillate, the other makes it decay. It is what the auxiliary variables s of a Markovian
    embedding exert: ds = (a v − S s) dt + √(2kT) R dW, force −aᵀ s.

    Arguments:
        couplings: a, (auxiliaries,) for a scalar kernel or (auxiliaries, coordinates), √amu/ps.
        skew: W, (auxiliaries, auxiliaries), 1/ps; only its antisymmetric part counts.
        damping: R, (auxiliaries, any), 1/√ps.

    Raises:
        ValueError: shapes do not fit.

    Source: the positive-real (Kalman-Yakubovich-Popov) lemma; Ceriotti, Bussi & Parrinello, J. Chem. Theory Comput. 6,
    1170 (2010), for the embedding.
    """

    couplings: Array
    skew: Array
    damping: Array

    def __init__(self, couplings, skew, damping):
        self.couplings, self.skew, self.damping = (jnp.asarray(p) for p in (couplings, skew, damping))
        count = self.couplings.shape[0] if self.couplings.ndim else 0
        if self.couplings.ndim not in (1, 2) or self.skew.shape != (count, count) or self.damping.shape[:1] != (count,):
            raise ValueError(
                f"PassiveKernel: couplings {self.couplings.shape}, skew {self.skew.shape} and damping "
                f"{self.damping.shape} do not fit; give (auxiliaries[, coordinates]), (auxiliaries, auxiliaries) and "
                "(auxiliaries, any)."
            )

    @property
    def drift(self) -> Array:
        """S, (auxiliaries, auxiliaries), 1/ps."""
        return self.skew - self.skew.T + jnp.matmul(self.damping, self.damping.T, precision="highest")

    def __call__(self, t: Array) -> Array:
        """Γ(t), amu/ps², at ``t`` (...), ps."""
        decay = expm(-jnp.asarray(t, self.couplings.dtype)[..., None, None] * self.drift)
        return self._between(jnp.matmul(decay, self._columns, precision="highest"))

    def laplace(self, s: Array) -> Array:
        """Γ̂(s) = aᵀ (s + S)⁻¹ a, amu/ps, at complex ``s`` (...), 1/ps."""
        s = jnp.asarray(s)
        resolvent = s[..., None, None] * jnp.eye(self.drift.shape[0]) + self.drift
        columns = jnp.broadcast_to(self._columns.astype(resolvent.dtype), (*s.shape, *self._columns.shape))
        return self._between(jnp.linalg.solve(resolvent, columns))

    @property
    def coordinates(self) -> int | None:
        """Number of coupled coordinates; None if scalar."""
        return None if self.couplings.ndim == 1 else self.couplings.shape[1]

    @property
    def friction(self) -> Array:
        """Zero."""
        return jnp.zeros(self.couplings.shape[1:] * 2, self.couplings.dtype)

    @property
    def _columns(self) -> Array:
        return self.couplings if self.couplings.ndim == 2 else self.couplings[:, None]

    def _between(self, columns: Array) -> Array:
        """aᵀ times ``columns`` (..., auxiliaries, coordinates)."""
        matrix = jnp.matmul(self._columns.T, columns, precision="highest")
        return matrix if self.couplings.ndim == 2 else matrix[..., 0, 0]


class TabulatedKernel(AbstractMemoryKernel):
    """A kernel known at equally spaced times, e.g. extracted from a trajectory; linear between them, zero beyond.

    Its transforms are those of that piecewise linear function, exactly.

    Arguments:
        values: (times,) or (times, coordinates, coordinates), amu/ps², at 0, spacing, 2 spacing, …
        spacing: ps.

    Raises:
        ValueError: fewer than two values, or a spacing that is not positive.
    """

    values: Array
    spacing: Array

    def __init__(self, values, spacing):
        self.values = jnp.asarray(values)
        self.spacing = jnp.asarray(spacing, self.values.dtype)
        if self.values.ndim not in (1, 3) or self.values.shape[0] < 2:
            raise ValueError("TabulatedKernel: give two or more values, (times,) or (times, coordinates, coordinates).")
        require_positive("TabulatedKernel", "spacing", spacing)

    def __call__(self, t: Array) -> Array:
        """Γ(t), amu/ps², at ``t`` (...), ps."""
        position = jnp.asarray(t, self.values.dtype) / self.spacing
        last = self.values.shape[0] - 1
        left = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, last - 1)
        weight = (position - left).reshape(position.shape + (1,) * (self.values.ndim - 1))
        value = (1 - weight) * self.values[left] + weight * self.values[left + 1]
        inside = (position <= last).reshape(weight.shape)
        return jnp.where(inside, value, 0.0)

    def laplace(self, s: Array) -> Array:
        """Laplace transform of the piecewise linear function, amu/ps, at ``s`` (...), 1/ps."""
        z = jnp.asarray(s)[..., None] * self.spacing
        first, second = _hat_moments(z)
        grid = jnp.exp(-z * jnp.arange(self.values.shape[0] - 1))
        values = self.values.reshape(self.values.shape[0], -1).astype(grid.dtype)
        total = jnp.matmul(grid * (first - second), values[:-1], precision="highest") + jnp.matmul(
            grid * second, values[1:], precision="highest"
        )
        return (self.spacing * total).reshape(jnp.shape(s) + self.values.shape[1:])

    @property
    def coordinates(self) -> int | None:
        """Number of coupled coordinates; None if scalar."""
        return None if self.values.ndim == 1 else self.values.shape[1]

    @property
    def friction(self) -> Array:
        """Zero: a table has no delta function."""
        return jnp.zeros(self.values.shape[1:], self.values.dtype)


class SumKernel(AbstractMemoryKernel):
    """Sum of kernels of equally many coordinates."""

    parts: tuple[AbstractMemoryKernel, ...]

    def __init__(self, *parts: AbstractMemoryKernel):
        if not parts or len({part.coordinates for part in parts}) > 1:
            raise ValueError("SumKernel: give at least one kernel, all with the same number of coordinates.")
        self.parts = parts

    def __call__(self, t: Array) -> Array:
        """Γ(t), amu/ps², at ``t`` (...), ps."""
        return sum((part(t) for part in self.parts[1:]), self.parts[0](t))

    def laplace(self, s: Array) -> Array:
        """Sum of the transforms, amu/ps."""
        return sum((part.laplace(s) for part in self.parts[1:]), self.parts[0].laplace(s))

    @property
    def coordinates(self) -> int | None:
        """Number of coupled coordinates; None if scalar."""
        return self.parts[0].coordinates

    @property
    def friction(self) -> Array:
        """Sum of the Markovian parts, amu/ps."""
        return sum((part.friction for part in self.parts[1:]), self.parts[0].friction)


def require_positive(owner: str, name: str, value) -> None:
    """Raises ValueError unless every number of ``value`` is positive; traced values pass."""
    if isinstance(value, Tracer):
        return
    numbers = np.asarray(value, np.float64).ravel()
    wrong = numbers[~(numbers > 0)]
    if wrong.size:
        raise ValueError(f"{owner}: {name} {wrong[0]:g} is not positive.")


def _hat_moments(z: Array) -> tuple[Array, Array]:
    """∫₀¹ e^{−zu} du and ∫₀¹ u e^{−zu} du, by series near zero where the closed forms cancel."""
    small = jnp.abs(z) < 0.3
    safe = jnp.where(small, 1.0, z)
    decay = jnp.exp(-safe)
    first = jnp.where(small, _series(z, 1), (1 - decay) / safe)
    second = jnp.where(small, _series(z, 2), (1 - (1 + safe) * decay) / safe**2)
    return first, second


def _series(z: Array, power: int) -> Array:
    """Σ (−z)^k / (k! (k + power)): the moment of u^(power−1)."""
    total, term = jnp.zeros_like(z), jnp.ones_like(z)
    for k in range(12):
        total = total + term / (k + power)
        term = -term * z / (k + 1)
    return total
