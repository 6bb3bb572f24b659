"""Markovian embedding: a memory kernel as auxiliary variables, propagated exactly together with the velocity."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.linalg import expm

from ...typing import Array
from .forms import AbstractMemoryKernel, DeltaKernel, PassiveKernel, PronyKernel, SumKernel


class Embedding(eqx.Module):
    """Auxiliary variables s whose force −aᵀ s has the memory kernel Γ(t) = aᵀ e^{−St} a + 2 γ δ(t).

    ds = (a v − S s) dt + noise, with ⟨s sᵀ⟩ = kT at rest: the noise of s then has covariance kT (S + Sᵀ) dt.

    Arguments:
        couplings: a, (auxiliaries, coordinates), √amu/ps.
        drift: S, (auxiliaries, auxiliaries), 1/ps; S + Sᵀ is positive semidefinite.
        friction: γ, (coordinates, coordinates), amu/ps.
        scalar: whether the kernel acts on each coordinate alone (then ``coordinates`` is one).
    """

    couplings: Array
    drift: Array
    friction: Array
    scalar: bool = eqx.field(static=True)

    @staticmethod
    def of(kernel: AbstractMemoryKernel) -> "Embedding":
        """The embedding of a kernel that has an exact one: Prony with positive strengths, passive, delta, sums of them.

        Raises:
            ValueError: the kernel has none; fit a passive kernel to it first.
        """
        a, s = _auxiliaries(kernel)
        friction = jnp.asarray(kernel.friction, a.dtype)
        scalar = kernel.coordinates is None
        return Embedding(a, s, friction.reshape(1, 1) if scalar else friction, scalar)

    @property
    def auxiliaries(self) -> int:
        """Number of auxiliary variables (of each coordinate if the kernel is scalar)."""
        return self.couplings.shape[0]

    def generator(self, mass: Array) -> Array:
        """A in d(u, s) = −A (u, s) dt + noise, with u = √m v: (coordinates + auxiliaries) squared, 1/ps.

        Arguments:
            mass: amu, a scalar or (coordinates,).
        """
        root = jnp.sqrt(jnp.broadcast_to(jnp.asarray(mass, self.couplings.dtype), self.couplings.shape[1:]))
        a = self.couplings / root
        return jnp.block([[self.friction / root / root[:, None], a.T], [-a, self.drift]])

    def propagator(self, mass: Array, time_step: Array) -> tuple[Array, Array]:
        """E = e^{−A dt} and L with L Lᵀ = 1 − E Eᵀ: (u, s)ₙ₊₁ = E (u, s)ₙ + √kT L ξ is exact for free motion.

        Source: exact Ornstein-Uhlenbeck transition; kT times the identity is the stationary covariance.
        """
        step = expm(-jnp.asarray(time_step, self.couplings.dtype) * self.generator(mass))
        return step, noise_factor(step)


@jax.custom_jvp
def noise_factor(step: Array) -> Array:
    """The symmetric L with L² = 1 − E Eᵀ, also where that is singular or its smallest eigenvalues are round-off.

    Its derivative solves L dL + dL L = d(1 − E Eᵀ), which is finite for equal eigenvalues too.
    """
    values, vectors = _eigen(step)
    return _sandwich(vectors, jnp.eye(len(values)) * jnp.sqrt(values))


@noise_factor.defjvp
def _noise_factor_jvp(primals, tangents):
    (step,), (change,) = primals, tangents
    values, vectors = _eigen(step)
    root = jnp.sqrt(values)
    product = jnp.matmul(change, step.T, precision="highest")
    inner = jnp.matmul(jnp.matmul(vectors.T, -(product + product.T), precision="highest"), vectors, precision="highest")
    sums = root[:, None] + root[None, :]
    least = jnp.finfo(step.dtype).eps ** 0.5
    derivative = jnp.where(sums > least, inner / jnp.maximum(sums, least), 0.0)
    return _sandwich(vectors, jnp.eye(len(values)) * root), _sandwich(vectors, derivative)


def _eigen(step: Array) -> tuple[Array, Array]:
    gap = jnp.eye(step.shape[-1], dtype=step.dtype) - jnp.matmul(step, step.T, precision="highest")
    values, vectors = jnp.linalg.eigh(gap)
    return jnp.maximum(values, 0.0), vectors


def _sandwich(vectors: Array, inner: Array) -> Array:
    return jnp.matmul(jnp.matmul(vectors, inner, precision="highest"), vectors.T, precision="highest")


def _auxiliaries(kernel: AbstractMemoryKernel) -> tuple[Array, Array]:
    """a (auxiliaries, coordinates) and S of a kernel."""
    if isinstance(kernel, PronyKernel):
        if not isinstance(kernel.strengths, Tracer) and np.any(np.asarray(kernel.strengths) < 0):
            raise ValueError(
                "Embedding: a Prony term has a negative strength; fit a PassiveKernel to the kernel instead."
            )
        return jnp.sqrt(kernel.strengths)[:, None], jnp.diag(kernel.rates)
    if isinstance(kernel, PassiveKernel):
        a = kernel.couplings
        return a if a.ndim == 2 else a[:, None], kernel.drift
    if isinstance(kernel, DeltaKernel):
        count, dtype = kernel.coordinates or 1, kernel.friction.dtype
        return jnp.zeros((0, count), dtype), jnp.zeros((0, 0), dtype)
    if isinstance(kernel, SumKernel):
        pairs = [_auxiliaries(part) for part in kernel.parts]
        drift = jax.scipy.linalg.block_diag(*(s for _, s in pairs))
        return jnp.concatenate([a for a, _ in pairs]), drift
    raise ValueError(f"Embedding: a {type(kernel).__name__} has no exact embedding; fit a PassiveKernel to it first.")
