"""Step size and trajectory length tuned together, from what all chains do."""

from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

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
#: Mean steps of a trajectory at least: with fewer, refused proposals and fresh velocities make a random walk.
FEWEST = 3


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

    @property
    def position(self) -> Array:
        """(chains, atoms, 3) nm."""
        return self.chains.position


class SelfTuningChains(AbstractKernel):
    """Chains whose step size and mean trajectory length are tuned in the first trajectories and fixed afterwards.

    The step size follows the mean acceptance of all chains. The length T climbs the criterion
    C(T) = E[(|x' − μ|² − |x − μ|²)²]/4 per unit of work, d log [C/(T + T₀)]/d log T: the squared distance from the
    mean, in the mass metric, is to change as much as possible between the ends of a trajectory for the gradients it
    costs. All chains share both, and their jittered lengths, so none waits for another. The derivative of a log
    criterion has no units, so a plain stochastic approximation with averaging does, and no adaptive scaling of it.

    The criterion is a sum over all directions, and few draws of it are noise: where most directions are fast it may
    settle at lengths too short for the slow ones, and where atoms have turned over it may climb without end. So the
    search stays within ``bounds`` (`length_bounds`) and above `FEWEST` steps. Start from a short length: among lengths
    of many periods the criterion shows no way back.

    The first ``warmup`` trajectories must not be used as samples; the same compiled kernel serves both phases.

    Arguments:
        chains: `Chains` of a `GeneralizedHMC` kernel (persistence 0 makes it HMC).
        warmup: trajectories that adapt.
        target: acceptance probability aimed at.
        length: mean length of the first trajectories, ps; the kernel's steps times its step size when None.
        tune_length: False keeps the length as it is and tunes the step size alone.
        longest: mean number of steps a trajectory may have; it goes before ``bounds``.
        bounds: shortest and longest mean length of the search, ps.

    Source: Hoffman, Radul & Sountsov, AISTATS 130, 3907 (2021); per unit of work as in Sountsov & Hoffman,
    arXiv:2110.11576 (2021).
    """

    chains: Chains
    warmup: Array
    target: Array
    length: Array
    tune_length: Array
    longest: Array
    bounds: Array

    def __init__(
        self,
        chains: Chains,
        *,
        warmup: int = 50,
        target: float = 0.8,
        length: float | None = None,
        tune_length: bool = True,
        longest: int = 200,
        bounds: tuple[float, float] = (0.0, np.inf),
    ):
        kernel = chains.kernel
        if not isinstance(kernel, GeneralizedHMC):
            raise ValueError("SelfTuningChains: needs chains of a GeneralizedHMC kernel, whose velocities can be seen.")
        if not 0 < target < 1:
            raise ValueError(f"SelfTuningChains: target acceptance {target} is not between 0 and 1.")
        if longest < 1 or (length is not None and not length > 0):
            raise ValueError(f"SelfTuningChains: length ({length}) and longest ({longest}) must be positive.")
        if not 0 <= bounds[0] <= bounds[1] or not bounds[1] > 0:
            raise ValueError(f"SelfTuningChains: bounds {bounds} of the length must be in order and not negative.")
        step_size = kernel.hmc.step_size
        self.chains = chains
        self.warmup = jnp.asarray(warmup, jnp.int32)
        self.target = jnp.asarray(target, step_size.dtype)
        length = float(kernel.hmc.steps * step_size) if length is None else length
        self.length = jnp.asarray(length, step_size.dtype)
        self.tune_length = jnp.asarray(tune_length)
        self.longest = jnp.asarray(longest, jnp.int32)
        self.bounds = jnp.asarray(bounds, step_size.dtype)

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
        adapting = state.averaging.count < self.warmup.astype(dtype)
        log_length = jnp.where(adapting, state.length.log_length, state.length.log_average)
        steps = self.mean_steps(log_length, old.step_size[0])
        chains = eqx.tree_at(lambda c: c.kernel.hmc.steps, self.chains, steps)
        new, info = chains.step(key, old)

        origin = jnp.log(self.hmc.hmc.step_size).astype(dtype)
        averaging = state.averaging.update(jnp.mean(info.acceptance).astype(dtype), self.target.astype(dtype), origin)
        length = self._lengthen(state.length, old, new, info.steps[0].astype(dtype) * old.step_size[0])
        low, high = jnp.log(self._limits(jnp.exp(averaging.log_step)))
        length = length._replace(log_length=jnp.clip(length.log_length, low, high))
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

    def mean_steps(self, log_length: Scalar, step_size: Scalar) -> Array:
        """Mean number of steps of trajectories of a mean length, within all bounds; () int32."""
        steps = jnp.round(jnp.exp(log_length) / step_size)
        fewest, most = jnp.round(self._limits(step_size) / step_size)
        kept = jnp.clip(steps, 1, self.longest.astype(steps.dtype))
        return jnp.where(self.tune_length, jnp.clip(steps, fewest, most), kept).astype(jnp.int32)

    def _limits(self, step_size: Scalar) -> Array:
        """Shortest and longest mean length (ps) at a step size; the cap in steps goes before all else."""
        low, high = self.bounds.astype(step_size.dtype)
        cap = self.longest.astype(step_size.dtype) * step_size
        low = jnp.minimum(jnp.maximum(low, FEWEST * step_size), cap)
        return jnp.stack([low, jnp.clip(high, low, cap)])

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
