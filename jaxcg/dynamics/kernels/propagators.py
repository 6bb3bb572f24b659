"""Matrices of the exact joint step of velocity and memory, for every particle that needs its own."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from scipy.linalg import expm

from ...typing import Array
from .embedding import Embedding
from .particle_kernels import ParticleKernels


def joint_propagators(kernel: Embedding | ParticleKernels, masses: Array, time_step: Array) -> tuple[Array, Array]:
    """E and L of (√m v, s)ₙ₊₁ = E (√m v, s)ₙ + √kT L ξ, see `Embedding.propagator`; of the masses' type.

    Concrete numbers are propagated in double precision and rounded at the end, once for each different particle: then
    even a run in single precision keeps its temperature to the round-off of the entries. Traced ones stay in JAX.

    Arguments:
        kernel: of one coordinate, of all, or of particles.
        masses: amu: a number, (particles,), or (coordinates,) if all are coupled.
        time_step: ps.

    Returns:
        Two arrays (rows, rows), or (rows, rows, particles) where particles differ: rows is 1 or the number of coupled
        coordinates, plus the auxiliaries.
    """
    if isinstance(kernel, Embedding):
        embedding, types, each = kernel, None, kernel.scalar and masses.ndim == 1
    else:
        embedding, types, each = kernel.embeddings, kernel.types, True
        masses = jnp.broadcast_to(masses, types.shape)
    leaves = (*jax.tree.leaves(embedding), types, masses, time_step)
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        if not each:
            return embedding.propagator(masses, time_step)
        if types is None:
            step, noise = jax.vmap(embedding.propagator, (0, None))(masses, time_step)
        else:
            of_particle = jax.tree.map(lambda leaf: leaf[types], embedding)
            step, noise = jax.vmap(Embedding.propagator, (0, 0, None))(of_particle, masses, time_step)
        return jnp.moveaxis(step, 0, -1), jnp.moveaxis(noise, 0, -1)
    mass, drift, coupling, friction = (
        np.asarray(leaf, np.float64) for leaf in (masses, embedding.drift, embedding.couplings, embedding.friction)
    )
    if not each:
        step, noise = _in_double(coupling, drift, friction, np.broadcast_to(mass, coupling.shape[1:]), time_step)
        return jnp.asarray(step, masses.dtype), jnp.asarray(noise, masses.dtype)
    number = np.zeros(len(mass), int) if types is None else np.asarray(types)
    kinds, inverse = np.unique(np.stack([number, mass]), axis=1, return_inverse=True)
    of_kind = () if types is None else (kinds[0].astype(int),)
    coupling, drift, friction = (leaf[of_kind] for leaf in (coupling, drift, friction))
    root = np.broadcast_to(kinds[1][:, None], (kinds.shape[1], coupling.shape[-1]))
    pair = _in_double(coupling, drift, friction, root, time_step)
    # The particles' axis last, where the state has it first among its own.
    step, noise = (jnp.moveaxis(jnp.asarray(m, masses.dtype)[inverse.ravel()], 0, -1) for m in pair)
    return step, noise


def _in_double(coupling, drift, friction, mass, time_step) -> tuple[np.ndarray, np.ndarray]:
    """E and L, (..., rows, rows), by NumPy; ``mass`` (..., coordinates) sets the batch."""
    root = np.sqrt(mass)
    batch, size = mass.shape[:-1], coupling.shape[-1]
    rows = size + coupling.shape[-2]
    generator = np.zeros((*batch, rows, rows))
    generator[..., :size, :size] = friction / root[..., None, :] / root[..., :, None]
    generator[..., size:, :size] = -coupling / root[..., None, :]
    generator[..., :size, size:] = -np.swapaxes(generator[..., size:, :size], -1, -2)
    generator[..., size:, size:] = drift
    step = expm(-float(time_step) * generator)
    values, vectors = np.linalg.eigh(np.eye(rows) - step @ np.swapaxes(step, -1, -2))
    noise = (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return step, noise
