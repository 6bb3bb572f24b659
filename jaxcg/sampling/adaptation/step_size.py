"""Finding a step size by dual averaging."""

from typing import NamedTuple, Self

import equinox as eqx
import jax.numpy as jnp

from ...chains import Chains
from ...run import AbstractKernel
from ...typing import Array, PRNGKeyArray, Scalar
from ..kernels.hmc import HMCInfo, HMCState

#: Gradient evaluations between two reports of progress, checkpoints and checks, over all chains.
GRADIENTS_PER_CHUNK = 1500


class DualAveraging(NamedTuple):
    """State of Nesterov's dual averaging of log step size; fields are scalars or one per chain.

    Fields:
        log_step: log step size to try next.
        log_average: averaged log step size, to be used when adaptation ends.
        error: running mean of (target − acceptance).
        count: updates so far.
    """

    log_step: Array
    log_average: Array
    error: Array
    count: Array

    @staticmethod
    def start(step_size: Array) -> "DualAveraging":
        """Before the first update."""
        log_step = jnp.log(step_size)
        return DualAveraging(log_step, log_step, jnp.zeros_like(log_step), jnp.zeros_like(log_step))

    def update(self, acceptance: Array, target: Scalar, origin: Array) -> "DualAveraging":
        """One update from the acceptance probability of the last trajectory.

        ``origin`` is the log step size the iteration is drawn to. Hoffman & Gelman draw to ten times the first guess
        and use γ = 0.05; for molecules the first guess is good and much longer steps diverge, so `AdaptiveChains`
        draws to the guess itself, and γ = 0.2 keeps the swings small: 30 trajectories reach the target unbiased.

        Source: Hoffman & Gelman, J. Mach. Learn. Res. 15, 1593 (2014), eq. 6, with their t0 and κ.
        """
        gamma, offset, kappa = 0.2, 10.0, 0.75
        count = self.count + 1
        weight = 1 / (count + offset)
        error = (1 - weight) * self.error + weight * (target - acceptance)
        log_step = origin - jnp.sqrt(count) / gamma * error
        forget = count**-kappa
        return DualAveraging(log_step, forget * log_step + (1 - forget) * self.log_average, error, count)


class AdaptiveState(NamedTuple):
    """State of `AdaptiveChains`: the chains' states and the dual averaging."""

    chains: HMCState
    averaging: DualAveraging

    @property
    def position(self) -> Array:
        """(chains, atoms, 3) nm."""
        return self.chains.position


class AdaptiveChains(AbstractKernel):
    """HMC chains whose step size is tuned to an acceptance during the first trajectories and fixed afterwards.

    The first ``warmup`` trajectories must not be used as samples. The same compiled kernel serves both phases.

    Arguments:
        chains: `Chains` of an `HMC` kernel.
        warmup: trajectories that adapt.
        target: acceptance probability aimed at.
        pooled: one step size for all chains, from their mean acceptance (less noise), or one for each.
    """

    chains: Chains
    warmup: Array
    target: Array
    pooled: bool = eqx.field(static=True)

    def __init__(self, chains: Chains, *, warmup: int = 50, target: float = 0.8, pooled: bool = True):
        if not 0 < target < 1:
            raise ValueError(f"AdaptiveChains: target acceptance {target} is not between 0 and 1.")
        self.chains = chains
        self.warmup = jnp.asarray(warmup, jnp.int32)
        self.target = jnp.asarray(target, jnp.float32)
        self.pooled = pooled

    def init(self, key: PRNGKeyArray, position: Array) -> AdaptiveState:
        """States at ``position`` (chains, atoms, 3)."""
        chains = self.chains.init(key, position)
        step_size = chains.step_size[0] if self.pooled else chains.step_size
        return AdaptiveState(chains, DualAveraging.start(step_size))

    def step(self, key: PRNGKeyArray, state: AdaptiveState) -> tuple[AdaptiveState, HMCInfo]:
        """One trajectory of every chain; during the warm-up also an update of the step size."""
        chains, info = self.chains.step(key, state.chains)
        old = state.averaging
        dtype = old.log_step.dtype
        acceptance = jnp.mean(info.acceptance) if self.pooled else info.acceptance
        origin = jnp.log(self._first_step_size()).astype(dtype)
        new = old.update(acceptance.astype(dtype), self.target.astype(dtype), origin)
        warmup = self.warmup.astype(dtype)
        adapting = old.count < warmup
        averaging = DualAveraging(*(jnp.where(adapting, a, b) for a, b in zip(new, old, strict=True)))
        log_step = jnp.where(averaging.count < warmup, averaging.log_step, averaging.log_average)
        step_size = jnp.broadcast_to(jnp.exp(log_step), chains.step_size.shape).astype(chains.step_size.dtype)
        return AdaptiveState(chains._replace(step_size=step_size), averaging), info

    def rebuild(self, state: AdaptiveState) -> Self:
        """Pair lists made anew around every chain's own state."""
        return eqx.tree_at(lambda k: k.chains, self, self.chains.rebuild(state.chains))

    def healthy(self, state: AdaptiveState) -> Array:
        """(chains,) True where a chain's state is finite."""
        return self.chains.healthy(state.chains)

    def _first_step_size(self) -> Array:
        return self.chains.kernel.step_size  # pyright: ignore[reportAttributeAccessIssue]
