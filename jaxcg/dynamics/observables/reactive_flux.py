"""Transmission coefficient of a barrier from trajectories that start on its top."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...typing import PRNGKeyArray
from ...units import GAS_CONSTANT
from ..motion.base import AbstractDynamics
from ..motion.simulation import simulate


class Transmission(NamedTuple):
    """Result of `transmission_coefficient`.

    Fields:
        times: (frames,) ps.
        values, errors: (frames,) κ(t) and its standard error: one at first, then falling to the plateau that is the
            transmission coefficient; later than that it decays as slowly as the wells exchange.
    """

    times: np.ndarray
    values: np.ndarray
    errors: np.ndarray


def transmission_coefficient(
    dynamics: AbstractDynamics,
    mass: float,
    top: float,
    duration: float,
    key: PRNGKeyArray,
    *,
    trajectories: int = 4000,
    frames: int = 100,
) -> Transmission:
    """κ(t) = ⟨v₀ θ[x(t) − x_top]⟩ / ⟨v₀ θ(v₀)⟩ of one coordinate with any energy and memory: the rate is κ k_TST.

    Trajectories start on the top with velocities weighed by the flux, half of them forwards and half backwards with the
    same speeds; κ is the share of the first beyond the top less that of the second. Memory is in equilibrium at the
    start, which for a `GLE` is exact because its auxiliaries do not depend on the position.

    Arguments:
        dynamics: of one coordinate, of shape ().
        mass: amu.
        top: position of the barrier, nm.
        duration: ps, to the nearest number of time steps; several times 1/λ_r of `grote_hynes_frequency`.
        key: random key.
        trajectories: how many, an even number.
        frames: number of times at which κ is given.

    Raises:
        ValueError: an odd number of trajectories, or fewer time steps than frames.

    Source: Chandler, J. Chem. Phys. 68, 2959 (1978); Straub, Borkovec & Berne, J. Chem. Phys. 84, 1788 (1986).
    """
    every = round(duration / float(dynamics.time_step) / frames)
    if trajectories % 2 or trajectories < 2 or every < 1:
        raise ValueError(
            f"transmission_coefficient: {trajectories} trajectories, {every} time steps for each frame; give an even "
            "number of trajectories and no more frames than time steps."
        )
    first, second = jax.random.split(key)
    thermal = jnp.sqrt(GAS_CONSTANT * dynamics.temperature / mass)
    # The density of v e^{−Mv²/2kT}.
    speeds = thermal * jnp.sqrt(-2 * jnp.log1p(-jax.random.uniform(first, (trajectories // 2,))))
    velocities = jnp.concatenate([speeds, -speeds])
    starts = jnp.full(trajectories, top, velocities.dtype)
    found = simulate(dynamics, starts, every * frames, second, every=every, velocities=velocities)
    beyond = (found.positions > top).astype(np.float64)
    pairs = beyond[: trajectories // 2] - beyond[trajectories // 2 :]
    return Transmission(found.times, pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs)))
