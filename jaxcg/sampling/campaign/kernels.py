"""Samplers as a campaign runs them: one kind of state and of infos, whatever the sampler."""

from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from ...run import AbstractKernel
from ...typing import Array, AtomVectors, PRNGKeyArray
from ..adaptation.step_size import DualAveraging
from ..kernels.generalized_hmc import GeneralizedHMC
from ..kernels.hmc import HMC
from ..kernels.langevin import Langevin, LangevinState


class WalkerState(NamedTuple):
    """State of one walker: that of its sampler, and the dual averaging of its step size (None without)."""

    chain: Any
    averaging: DualAveraging | None


class WalkerInfo(NamedTuple):
    """What happened in one trajectory.

    Fields:
        energy: prior energy U(x) after it, kJ/mol.
        potential: −kT log p(x|y) after it, kJ/mol.
        total_energy: H at its start, kJ/mol; nan where the sampler has none.
        acceptance: acceptance probability; 1 for a sampler without a test.
        accepted, divergent: whether it was taken; whether its energy error was beyond all reason.
        step_size: ps.
        steps: gradient evaluations.
    """

    energy: Array
    potential: Array
    total_energy: Array
    acceptance: Array
    accepted: Array
    divergent: Array
    step_size: Array
    steps: Array


class Tuned(AbstractKernel):
    """Hamiltonian Monte Carlo whose step size is tuned, for one chain by itself, during the first trajectories.

    A chain tunes alone, so that chains need not communicate; between the stages of a campaign the step sizes of a
    frame's chains are pooled on the host. The first ``warmup`` trajectories must not be used as samples.

    Arguments:
        sampler: `HMC` or `GeneralizedHMC`.
        step_size: first step size, ps.
        warmup: trajectories that adapt.
        target: acceptance probability aimed at.
    """

    sampler: HMC | GeneralizedHMC
    step_size: Array
    warmup: Array
    target: Array

    def __init__(self, sampler: HMC | GeneralizedHMC, *, step_size: float, warmup: int, target: float):
        if not 0 < target < 1:
            raise ValueError(f"campaign: target acceptance {target} is not between 0 and 1.")
        self.sampler = sampler
        self.step_size = jnp.asarray(step_size, jnp.float32)
        self.warmup = jnp.asarray(warmup, jnp.int32)
        self.target = jnp.asarray(target, jnp.float32)

    def init(self, key: PRNGKeyArray, position: AtomVectors) -> WalkerState:
        """State at ``position``."""
        chain = self.sampler.init(key, position)
        return WalkerState(chain, DualAveraging.start(chain.step_size))

    def step(self, key: PRNGKeyArray, state: WalkerState) -> tuple[WalkerState, WalkerInfo]:
        """One trajectory; during the warm-up also an update of the step size."""
        chain, info = self.sampler.step(key, state.chain)  # pyright: ignore[reportArgumentType]
        old = state.averaging
        assert old is not None
        dtype = old.log_step.dtype
        origin = jnp.log(self.step_size.astype(dtype))
        new = old.update(info.acceptance.astype(dtype), self.target.astype(dtype), origin)
        warmup = self.warmup.astype(dtype)
        averaging = DualAveraging(*(jnp.where(old.count < warmup, a, b) for a, b in zip(new, old, strict=True)))
        log_step = jnp.where(averaging.count < warmup, averaging.log_step, averaging.log_average)
        chain = chain._replace(step_size=jnp.exp(log_step).astype(chain.step_size.dtype))
        return WalkerState(chain, averaging), WalkerInfo(
            energy=info.energy,
            potential=info.potential,
            total_energy=info.total_energy,
            acceptance=info.acceptance,
            accepted=info.accepted,
            divergent=info.divergent,
            step_size=info.step_size,
            steps=info.steps + 1,
        )

    def rebuild(self, state: WalkerState) -> Self:
        """The same kernel with pair lists made anew around the state."""
        return eqx.tree_at(lambda k: k.sampler, self, self.sampler.rebuild(state.chain))


class Steady(AbstractKernel):
    """Langevin dynamics in stretches of ``steps`` steps, each of which counts as one trajectory.

    Not Metropolis-adjusted: averages have an error of order step_size².

    Arguments:
        sampler: `Langevin`.
        steps: of a stretch.
    """

    sampler: Langevin
    steps: Array

    def __init__(self, sampler: Langevin, *, steps: int):
        self.sampler = sampler
        self.steps = jnp.asarray(steps, jnp.int32)

    def init(self, key: PRNGKeyArray, position: AtomVectors) -> WalkerState:
        """State at ``position`` with thermal velocities."""
        return WalkerState(self.sampler.init(key, position), None)

    def step(self, key: PRNGKeyArray, state: WalkerState) -> tuple[WalkerState, WalkerInfo]:
        """One stretch."""

        def move(i, chain):
            return self.sampler.step(jax.random.fold_in(key, i), chain)[0]

        chain: LangevinState = lax.fori_loop(0, self.steps, move, state.chain)
        posterior = self.sampler.posterior.rebuild(chain.position)
        x = chain.position
        energy, restraint = posterior.energy(x), posterior.restraint(x)
        return WalkerState(chain, None), WalkerInfo(
            energy=energy,
            potential=energy + restraint,
            total_energy=jnp.full_like(energy, jnp.nan),
            acceptance=jnp.ones_like(energy),
            accepted=jnp.asarray(True),
            divergent=jnp.asarray(False),
            step_size=self.sampler.step_size.astype(energy.dtype),
            steps=self.steps,
        )

    def rebuild(self, state: WalkerState) -> Self:
        """The same kernel with pair lists made anew around the state."""
        return eqx.tree_at(lambda k: k.sampler, self, self.sampler.rebuild(state.chain))
