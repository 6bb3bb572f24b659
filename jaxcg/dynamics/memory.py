"""The memory of a trajectory in one call: correlation functions, mean force, kernel, and error bars."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..energy.base import AbstractEnergy
from ..typing import Array
from .correlation import Correlation
from .extraction import ExtractedKernel, Method, extract_kernel


@dataclass(frozen=True)
class Memory:
    """Result of `memory_from_velocities`.

    Fields:
        extracted: the kernel of all the data.
        kernel_error, integral_error: standard errors of Γ and of its integral, (times,), from the bootstrap.
        velocity_correlation: (lags,) nm²/ps².
        force_correlation: (lags,) ⟨F(t) v(0)⟩ of the mean force, or None.
        blocks: number of independent blocks that were drawn from.
    """

    extracted: ExtractedKernel
    kernel_error: np.ndarray
    integral_error: np.ndarray
    velocity_correlation: np.ndarray
    force_correlation: np.ndarray | None
    blocks: int


def memory_from_velocities(
    velocities: Array,
    mass: float,
    spacing: float,
    *,
    lags: int,
    positions: Array | None = None,
    energy: AbstractEnergy | None = None,
    method: Method = "integral",
    blocks: int = 20,
    resamples: int = 100,
    seed: int = 0,
) -> Memory:
    """Memory kernel of a coordinate from its velocities, with standard errors by block bootstrap.

    Trajectories are cut into blocks; the extraction is repeated on blocks drawn with replacement, all at once.

    Arguments:
        velocities: (trajectories, frames), nm/ps.
        mass: amu.
        spacing: between frames, ps.
        lags: how far to go, in frames.
        positions: (trajectories, frames), nm; with ``energy``.
        energy: potential of mean force of the coordinate, kJ/mol, e.g. a `free_energy_profile`; None: free motion.
        method: of `extract_kernel`.
        blocks: how many blocks in all, at least; each must be several times longer than ``lags``.
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ValueError: trajectories too short for the lags, or positions without energy.

    Source: Künsch, Ann. Stat. 17, 1217 (1989) (block bootstrap).
    """
    v = jnp.atleast_2d(jnp.asarray(velocities))
    if (positions is None) != (energy is None):
        raise ValueError("memory_from_velocities: positions and energy belong together; give both or neither.")
    pieces = max(-(-blocks // v.shape[0]), 1)
    length = v.shape[1] // pieces
    if length < 3 * lags:
        raise ValueError(
            f"memory_from_velocities: blocks of {length} frames are too short for {lags} lags; give longer "
            f"trajectories, fewer lags, or fewer blocks (at most {max(v.shape[0] * (v.shape[1] // (3 * lags)), 0)})."
        )

    def cut(a: Array) -> Array:
        return a[:, : pieces * length].reshape(-1, length)

    v_blocks = cut(v)
    f_blocks = None
    if positions is not None and energy is not None:
        x = jnp.atleast_2d(jnp.asarray(positions))
        f_blocks = cut(-jax.jit(jax.grad(lambda q: energy(q)))(x))
    each = _block_correlations(v_blocks, f_blocks, lags)

    def kernel_of(weights: Array) -> ExtractedKernel:
        vv = jnp.einsum("b,bl->l", weights, each[0], precision="highest")
        fv = None if f_blocks is None else jnp.einsum("b,bl->l", weights, each[1], precision="highest")
        return extract_kernel(vv, fv, mass, spacing, method=method)

    count = v_blocks.shape[0]
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples) / count
    values, integrals = jax.lax.map(_parts(kernel_of), jnp.asarray(drawn, v.dtype))
    whole = kernel_of(jnp.full(count, 1 / count, v.dtype))
    return Memory(
        extracted=whole,
        kernel_error=np.asarray(values).std(axis=0, ddof=1),
        integral_error=np.asarray(integrals).std(axis=0, ddof=1),
        velocity_correlation=np.asarray(each[0]).mean(axis=0),
        force_correlation=None if f_blocks is None else np.asarray(each[1]).mean(axis=0),
        blocks=count,
    )


def _parts(kernel_of) -> Any:
    def parts(weights):
        found = kernel_of(weights)
        return found.kernel.values, found.integral

    return parts


def _block_correlations(v: Array, f: Array | None, lags: int) -> tuple[Array, Array]:
    """⟨v v⟩ and ⟨F v⟩ of every block, (blocks, lags)."""

    def one(a, b):
        return Correlation.start(lags, 1, dtype=v.dtype).update(a[None, :, None], b[None, :, None]).value()[:, 0, 0]

    vv = jax.lax.map(lambda a: one(a, a), v)
    return vv, (jnp.zeros_like(vv) if f is None else jax.lax.map(lambda pair: one(*pair), (f, v)))
