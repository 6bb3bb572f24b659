"""Generalised Hamiltonian Monte Carlo: velocities are refreshed in part and otherwise carried on."""

from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp

from ...posterior import Posterior
from ...run import AbstractKernel
from ...typing import Array, AtomScalars, AtomVectors, PRNGKeyArray
from ..geometry import AbstractGeometry
from .hmc import HMC, HMCInfo, jittered_steps


class GeneralizedHMCState(NamedTuple):
    """State of one chain: as `HMCState`, with the velocity (atoms, 3) in nm/ps that the next step starts from."""

    position: Array
    velocity: Array
    step_size: Array
    count: Array


class GeneralizedHMC(AbstractKernel):
    """Short trajectories that go on in the direction of the last one.

    A step mixes the velocity with a thermal one, v ← α v + √(1 − α²) v', runs a trajectory and accepts or refuses it;
    where it is refused **the velocity turns round**. Without that the target would not be kept. The mixture is tangent
    and thermal for any geometry, curved constraints included. With α = 0 this is `HMC`, and tells the last velocity.

    Worth it where acceptance is high: each refusal sends the chain back the way it came.

    Arguments:
        posterior, masses, step_size, steps: as for `HMC`; a trajectory's steps are jittered likewise.
        persistence: α, in [0, 1): how much of the velocity is kept.

    Source: Horowitz, Phys. Lett. B 268, 247 (1991); Neal, Handbook of MCMC, ch. 5 (2011), section 5.5.3.
    """

    hmc: HMC
    persistence: Array

    def __init__(
        self,
        posterior: Posterior,
        masses: AtomScalars | AbstractGeometry,
        *,
        step_size: float = 0.001,
        steps: int = 10,
        persistence: float = 0.9,
    ):
        if not 0 <= persistence < 1:
            raise ValueError(f"GeneralizedHMC: persistence is {persistence}; it must be at least 0 and below 1.")
        self.hmc = HMC(posterior, masses, step_size=step_size, steps=steps)
        self.persistence = jnp.asarray(persistence, self.hmc.step_size.dtype)

    def init(self, key: PRNGKeyArray, position: AtomVectors) -> GeneralizedHMCState:
        """State at ``position``, moved to the nearest point of the fibre, with thermal velocities."""
        start = self.hmc.init(key, position)
        velocity = self._thermal(key, start.position)
        return GeneralizedHMCState(start.position, velocity, start.step_size, start.count)

    def step(self, key: PRNGKeyArray, state: GeneralizedHMCState) -> tuple[GeneralizedHMCState, HMCInfo]:
        """Refreshment of the velocity in part, a trajectory, its Metropolis test."""
        velocity_key, metropolis_key = jax.random.split(key)
        x = state.position
        keep = self.persistence.astype(x.dtype)
        velocity = keep * state.velocity + jnp.sqrt(1 - keep**2) * self._thermal(velocity_key, x)
        velocity = self.hmc.geometry.project(x, velocity)
        steps = jittered_steps(state.count, self.hmc.steps)
        x, velocity, info = self.hmc.transition(metropolis_key, x, velocity, state.step_size, steps)
        return GeneralizedHMCState(x, velocity, state.step_size, state.count + 1), info

    def rebuild(self, state: GeneralizedHMCState) -> Self:
        """The same kernel with the energy's pair lists made anew around the state."""
        return eqx.tree_at(lambda k: k.hmc.posterior, self, self.hmc.posterior.rebuild(state.position))

    def _thermal(self, key, x):
        return self.hmc.geometry.thermal_velocities(key, self.hmc.posterior.thermal_energy, x)
