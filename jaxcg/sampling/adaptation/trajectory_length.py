"""Step size and trajectory length tuned together, from what all chains do."""

from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp

from ...chains import Chains
from ...run import AbstractKernel
from ...typing import Array, PRNGKeyArray, Scalar
from ..geometry import AbstractGeometry
from ..geometry.blocks import BlockGeometry
from ..kernels.generalized_hmc import GeneralizedHMC, GeneralizedHMCState
from ..kernels.hmc import HMCInfo
from .moments import Moments
from .step_size import DualAveraging

#: What a trajectory costs besides its steps, in gradients: one more at its end, and the energies of its ends.
OVERHEAD = 2.0


class LengthAveraging(NamedTuple):
    """State of the search for a trajectory length.

    Fields:
        log_length: log of the mean length (ps) to try next.
        log_average: averaged log length, to be used when adaptation ends.
        benefit: running mean of the criterion, the squared change of the squared distance from the mean.
        slope: running mean of its derivative with respect to the log length.
        mean: (atoms, 3) mean position so far, nm.
        count: updates so far.
    """

    log_length: Array
    log_average: Array
    benefit: Array
    slope: Array
    mean: Array
    count: Array


class SelfTuningState(NamedTuple):
    """State of `SelfTuningChains`: the chains, the searches for step size and length, moments of the draws so far."""

    chains: GeneralizedHMCState
    averaging: DualAveraging
    length: LengthAveraging
    moments: Moments


class SelfTuningChains(AbstractKernel):
    """Chains whose step size and mean trajectory length are tuned in the first trajectories and fixed afterwards.

    The step size follows the mean acceptance of all chains. The length T climbs the criterion
    C(T) = E[(|x' − μ|² − |x − μ|²)²]/4 per unit of work, d log [C/(T + T₀)]/d log T: the squared distance from the
    mean, in the mass metric, is to change as much as possible between the ends of a trajectory for the gradients it
    costs. All chains share both, and their jittered lengths, so none waits for another. The derivative of a log
    criterion has no units, so a plain stochastic approximation with averaging does, and no adaptive scaling of it.

    Start from a short length: among lengths of many periods the criterion is noise and shows no way back.

    The first ``warmup`` trajectories must not be used as samples; the same compiled kernel serves both phases.

    Arguments:
        chains: `Chains` of a `GeneralizedHMC` kernel (persistence 0 makes it HMC).
        warmup: trajectories that adapt.
        target: acceptance probability aimed at.
        length: mean length of the first trajectories, ps; the kernel's steps times its step size when None.
        tune_length: False keeps the length as it is and tunes the step size alone.
        longest: mean number of steps a trajectory may have.

    Source: Hoffman, Radul & Sountsov, AISTATS 130, 3907 (2021); per unit of work as in Sountsov & Hoffman,
    arXiv:2110.11576 (2021).
    """

    chains: Chains
    warmup: Array
    target: Array
    length: Array
    tune_length: Array
    longest: Array

    def __init__(
        self,
        chains: Chains,
        *,
        warmup: int = 50,
        target: float = 0.8,
        length: float | None = None,
        tune_length: bool = True,
        longest: int = 200,
    ):
        kernel = chains.kernel
        if not isinstance(kernel, GeneralizedHMC):
            raise ValueError("SelfTuningChains: needs chains of a GeneralizedHMC kernel, whose velocities can be seen.")
        if not 0 < target < 1:
            raise ValueError(f"SelfTuningChains: target acceptance {target} is not between 0 and 1.")
        if longest < 1 or (length is not None and not length > 0):
            raise ValueError(f"SelfTuningChains: length ({length}) and longest ({longest}) must be positive.")
        step_size = kernel.hmc.step_size
        self.chains = chains
        self.warmup = jnp.asarray(warmup, jnp.int32)
        self.target = jnp.asarray(target, step_size.dtype)
        length = float(kernel.hmc.steps * step_size) if length is None else length
        self.length = jnp.asarray(length, step_size.dtype)
        self.tune_length = jnp.asarray(tune_length)
        self.longest = jnp.asarray(longest, jnp.int32)

    @property
    def hmc(self) -> GeneralizedHMC:
        """The kernel of one chain; its numbers of steps and step size are those the search started from."""
        kernel = self.chains.kernel
        assert isinstance(kernel, GeneralizedHMC)
        return kernel

    @property
    def geometry(self) -> AbstractGeometry:
        """Constraints and masses of all chains."""
        return self.hmc.hmc.geometry

    def init(self, key: PRNGKeyArray, position: Array) -> SelfTuningState:
        """States at ``position`` (chains, atoms, 3)."""
        chains = self.chains.init(key, position)
        # On the devices of the chains, where the steps leave them: elsewhere the second step would compile again.
        zero = jnp.zeros_like(chains.step_size[0])
        log_length = zero + jnp.log(self.length).astype(position.dtype)
        mean = jnp.mean(chains.position, axis=0)
        length = LengthAveraging(log_length, log_length, zero, zero, mean, zero)
        drawn = self._split(chains.position)
        dense = isinstance(self.geometry, BlockGeometry)
        moments = jax.tree.map(zero.__add__, Moments.start(drawn.shape[1:], position.dtype, dense=dense))
        return SelfTuningState(chains, DualAveraging.start(chains.step_size[0]), length, moments)

    def step(self, key: PRNGKeyArray, state: SelfTuningState) -> tuple[SelfTuningState, HMCInfo]:
        """One trajectory of every chain; during the warm-up also an update of step size, length and moments."""
        old, dtype = state.chains, state.chains.step_size.dtype
        longest = self.longest.astype(dtype)
        adapting = state.averaging.count < self.warmup.astype(dtype)
        log_length = jnp.where(adapting, state.length.log_length, state.length.log_average)
        mean_steps = jnp.clip(jnp.round(jnp.exp(log_length) / old.step_size[0]), 1, longest)
        chains = eqx.tree_at(lambda c: c.kernel.hmc.steps, self.chains, mean_steps.astype(jnp.int32))
        new, info = chains.step(key, old)

        origin = jnp.log(self.hmc.hmc.step_size).astype(dtype)
        averaging = state.averaging.update(jnp.mean(info.acceptance).astype(dtype), self.target.astype(dtype), origin)
        length = self._lengthen(state.length, old, new, info.steps[0].astype(dtype) * old.step_size[0])
        step_size = jnp.exp(averaging.log_step)
        limits = jnp.log(step_size), jnp.log(step_size * longest)
        length = length._replace(log_length=jnp.clip(length.log_length, *limits))
        length = jax.tree.map(lambda a, b: jnp.where(self.tune_length, a, b), length, state.length)
        fresh = (averaging, length, state.moments.update(self._split(new.position)))
        kept = jax.tree.map(lambda a, b: jnp.where(adapting, a, b), fresh, state[1:])
        averaging, length, moments = kept
        done = averaging.count >= self.warmup.astype(dtype)
        log_step = jnp.where(done, averaging.log_average, averaging.log_step)
        new = new._replace(step_size=jnp.broadcast_to(jnp.exp(log_step), new.step_size.shape).astype(dtype))
        return SelfTuningState(new, averaging, length, moments), info

    def rebuild(self, state: SelfTuningState) -> Self:
        """Pair lists made anew around every chain's own state."""
        return eqx.tree_at(lambda k: k.chains, self, self.chains.rebuild(state.chains))

    def healthy(self, state: SelfTuningState) -> Array:
        """(chains,) True where a chain's state is finite."""
        return self.chains.healthy(state.chains)

    def _lengthen(self, length: LengthAveraging, old, new, time: Scalar) -> LengthAveraging:
        benefits, slopes = jax.vmap(self._criterion, in_axes=(0, 0, 0, None))(
            old.position, new.position, new.velocity, length.mean
        )
        count = length.count + 1
        weight = jnp.maximum(1 / count, 0.1)  # the last ten trajectories: lengths far from the present one say little
        benefit = length.benefit + weight * (jnp.mean(benefits) - length.benefit)
        slope = length.slope + weight * (time * jnp.mean(slopes) - length.slope)
        mean = length.mean + jnp.maximum(1 / count, 0.02) * (jnp.mean(new.position, axis=0) - length.mean)
        duration = jnp.exp(length.log_length)
        overhead = OVERHEAD * old.step_size[0]
        gain = jnp.where(benefit > 0, slope / jnp.where(benefit > 0, benefit, 1), 0) - duration / (duration + overhead)
        log_length = length.log_length + (count + 10) ** -0.75 * jnp.clip(gain, -2, 2)
        forget = count**-0.75
        log_average = forget * log_length + (1 - forget) * length.log_average
        return LengthAveraging(log_length, log_average, benefit, slope, mean, count)

    def _criterion(self, old, new, velocity, mean):
        """¼ D² of one chain and its derivative with respect to the time, D = |x' − μ|² − |x − μ|² in the mass metric.

        A refused proposal changes nothing and counts zero: what counts for the others is so weighted by acceptance.
        """
        differences = self.geometry.kinetic_differences
        far = new - mean
        change = 2 * jnp.sum(differences(old - mean, far))
        rate = 0.5 * jnp.sum(differences(far - velocity, far + velocity))  # (x' − μ)ᵀ M v'
        return 0.25 * change**2, change * rate

    def _split(self, positions: Array) -> Array:
        geometry = self.geometry
        return jax.vmap(geometry.blocks.split)(positions) if isinstance(geometry, BlockGeometry) else positions
