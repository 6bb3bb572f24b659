"""Exact correlation functions of free and harmonic motion under a memory kernel, from its Markovian embedding."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import expm

from ...typing import Array
from ...units import GAS_CONSTANT
from ..kernels.embedding import Embedding
from ..kernels.forms import AbstractMemoryKernel

#: Most squarings of a matrix exponential: rates times durations up to 2^40 or so.
_SQUARINGS = 40


class LinearCorrelations(NamedTuple):
    """Result of `linear_correlations`; (times,) for a scalar kernel, else (times, coordinates, coordinates).

    Fields:
        velocity: ⟨v(t) v(0)ᵀ⟩, nm²/ps².
        displacement: ⟨[x(t) − x(0)] [x(t) − x(0)]ᵀ⟩, nm²: the mean square displacement of one coordinate.
        position: ⟨x(t) x(0)ᵀ⟩ about the minimum, nm²; None for free motion, which has none.
    """

    velocity: Array
    displacement: Array
    position: Array | None


def linear_correlations(
    kernel: AbstractMemoryKernel | Embedding, mass, times: Array, temperature: float, stiffness=None
) -> LinearCorrelations:
    """C_vv, MSD and C_xx of M x″ = −K x − ∫ Γ(t−s) x′(s) ds + η(t) in equilibrium, by matrix exponentials.

    With u = √M v and auxiliaries s the motion is linear, z′ = −A z + noise, and ⟨z(t) z(0)ᵀ⟩ = e^{−At} ⟨z zᵀ⟩. The
    displacement is the double integral of C_vv, which a larger matrix exponential gives as well, so small
    displacements are not differences of large numbers.

    Arguments:
        kernel: one with an exact embedding, or the embedding.
        mass: amu: a number, or (coordinates,) with a matrix-valued kernel.
        times: (times,) ps.
        temperature: K.
        stiffness: K, kJ/mol/nm²: a number or, with a matrix-valued kernel, also (coordinates, coordinates); None for
            free motion.

    Raises:
        ValueError: the kernel has no exact embedding.

    Source: Gardiner, Handbook of Stochastic Methods (Springer), multivariate Ornstein-Uhlenbeck process; Van Loan, IEEE
    Trans. Autom. Control 23, 395 (1978), for integrals of matrix exponentials.
    """
    embedding = kernel if isinstance(kernel, Embedding) else Embedding.of(kernel)
    dtype, count = embedding.couplings.dtype, embedding.couplings.shape[1]
    times = jnp.asarray(times, dtype)
    root = jnp.sqrt(jnp.broadcast_to(jnp.asarray(mass, dtype), (count,)))
    springs = None
    if stiffness is not None:
        springs = jnp.asarray(stiffness, dtype)
        springs = springs if springs.ndim == 2 else springs * jnp.eye(count, dtype=dtype)
    inner = embedding.generator(root**2)
    size = 2 * count + inner.shape[0]
    # z = (∫x dt, x, u, s): the integral of x makes the double integral of C_vv a block of the exponential.
    rate = jnp.zeros((size, size), dtype)
    rate = rate.at[:count, count : 2 * count].set(jnp.eye(count, dtype=dtype))
    rate = rate.at[count : 2 * count, 2 * count : 3 * count].set(jnp.diag(1 / root))
    rate = rate.at[2 * count :, 2 * count :].set(-inner)
    if springs is not None:
        rate = rate.at[2 * count : 3 * count, count : 2 * count].set(-springs / root[:, None])
    flow = _exponentials(rate, times)
    thermal_energy = jnp.asarray(GAS_CONSTANT * temperature, dtype)
    velocity = thermal_energy * flow[:, 2 * count : 3 * count, 2 * count : 3 * count] / root[:, None] / root
    twice = thermal_energy * flow[:, :count, 2 * count : 3 * count] / root
    displacement = twice + jnp.swapaxes(twice, 1, 2)
    position = None
    if springs is not None:
        here = flow[:, count : 2 * count, count : 2 * count]
        position = thermal_energy * jnp.matmul(here, jnp.linalg.inv(springs), precision="highest")
    if embedding.scalar:
        velocity, displacement = velocity[:, 0, 0], displacement[:, 0, 0]
        position = None if position is None else position[:, 0, 0]
    return LinearCorrelations(velocity, displacement, position)


@jax.jit
def _exponentials(rate: Array, times: Array) -> Array:
    return jax.lax.map(lambda t: expm(t * rate, max_squarings=_SQUARINGS), times)
