"""The generalised Langevin equation with an explicit history: for kernels that are known as a table.

The friction force is summed over the velocities of the past, and the noise is drawn beforehand with the covariance of
the kernel. A kernel that can be fitted by a few auxiliary variables is far cheaper as a `GLE`; this is for those that
cannot, and for checking fits against.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...energy.base import AbstractEnergy
from ...typing import Array, PRNGKeyArray
from ...units import GAS_CONSTANT
from ..kernels.forms import AbstractMemoryKernel, require_positive
from ..kernels.noise import colored_noise
from ..kernels.passivity import require_positive_real
from ._forces import potential_and_force
from .base import AbstractDynamics
from .stability import highest_squared_frequency, largest_history_step


class HistoryState(NamedTuple):
    """State of one system.

    Fields:
        position: nm.
        velocity: half a step behind, nm/ps.
        past: velocities before that, (window, *shape), in a ring.
        count: steps done.
        copy: which of the noises drives it.
    """

    position: Array
    velocity: Array
    past: Array
    count: Array
    copy: Array


class HistoryInfo(NamedTuple):
    """One step: U at its start in kJ/mol, kinetic temperature amid it in K."""

    potential: Array
    temperature: Array


class HistoryGLE(AbstractDynamics):
    """Leapfrog for M x″ = −∂U/∂x − ∫ Γ(t−s) x′(s) ds + η(t) with the convolution summed over a window of the past.

    Velocities live at half steps, so the memory integral is a midpoint rule that needs no velocity of the present: the
    step is explicit, of second order, and costs one gradient and one sum over the window.

    Arguments:
        energy: U(x), kJ/mol; None for free motion.
        kernel: scalar memory kernel, amu/ps².
        masses: amu: a number, or (particles,) for the leading axis.
        weights: (window,) kernel times time step at the middles of the steps of the past that count.
        noise: (steps, trajectories, *shape) random force, kJ/mol/nm; a run may not be longer.

    Use `HistoryGLE.of`.
    """

    energy: AbstractEnergy | None
    kernel: AbstractMemoryKernel
    weights: Array
    friction: Array
    masses: Array
    noise: Array
    time_step: Array
    temperature: Array

    @staticmethod
    def of(
        energy: AbstractEnergy | None,
        kernel: AbstractMemoryKernel,
        masses,
        key: PRNGKeyArray,
        *,
        steps: int,
        shape: tuple[int, ...],
        time_step: float,
        temperature: float,
        window: int,
        trajectories: int = 1,
    ) -> "HistoryGLE":
        """The dynamics, with the noise of a run of ``steps`` steps of positions of ``shape`` drawn.

        Arguments:
            energy, kernel, masses: see the class.
            key: random key of the noise.
            steps: longest run; the noise takes trajectories × steps × shape numbers of memory.
            shape: of the positions of one system.
            time_step: ps.
            temperature: K.
            window: steps after which the kernel counts as gone.
            trajectories: how many of them need a noise of their own; noise i depends on i alone.

        Raises:
            ValueError: the kernel is matrix-valued or not positive-real, or a number is out of range.
        """
        for name, value in (("mass", masses), ("time step", time_step), ("temperature", temperature)):
            require_positive("HistoryGLE", name, value)
        if window < 1 or steps < 1 or trajectories < 1:
            raise ValueError(
                f"HistoryGLE: window ({window}), steps ({steps}) and trajectories ({trajectories}) must be at least 1."
            )
        require_positive_real(kernel, "HistoryGLE")
        keys = [jax.random.fold_in(key, copy) for copy in range(trajectories)]
        noises = [colored_noise(kernel, one, steps, time_step, temperature, shape=shape) for one in keys]
        noise = jnp.stack(noises, axis=1)
        weights = time_step * jnp.asarray(kernel((jnp.arange(window) + 0.5) * time_step), noise.dtype)
        masses = jnp.asarray(masses, noise.dtype)
        return HistoryGLE(
            energy=energy,
            kernel=kernel,
            weights=weights,
            friction=jnp.asarray(kernel.friction, noise.dtype),
            masses=masses,
            noise=noise,
            time_step=jnp.asarray(time_step, noise.dtype),
            temperature=jnp.asarray(temperature, noise.dtype),
        )

    def init(self, key: PRNGKeyArray, position: Array, velocity: Array | None = None) -> HistoryState:
        """State at ``position`` with thermal velocities, unless given. It has no past: equilibrium takes the window."""
        x = jnp.asarray(position, self.noise.dtype)
        if velocity is None:
            scale = jnp.sqrt(GAS_CONSTANT * self.temperature / self._mass(x))
            velocity = scale * jax.random.normal(key, x.shape, x.dtype)
        past = jnp.zeros((self.weights.shape[0], *x.shape), x.dtype)
        none = jnp.zeros((), jnp.int32)
        return HistoryState(x, jnp.asarray(velocity, x.dtype), past, none, none)

    def share_noise(self, states: HistoryState, steps: int) -> HistoryState:
        """States with a leading axis (trajectories), each with a noise of its own for ``steps`` steps.

        Raises:
            ValueError: there are not as many noises, they are of another shape, or too short.
        """
        if steps > self.noise.shape[0]:
            raise ValueError(
                f"HistoryGLE: {steps} steps, but the noise was drawn for only {self.noise.shape[0]} steps; "
                "give `HistoryGLE.of` their number."
            )
        count, shape = states.position.shape[0], states.position.shape[1:]
        if count > self.noise.shape[1] or shape != self.noise.shape[2:]:
            raise ValueError(
                f"HistoryGLE: {count} trajectories of shape {shape}, but the noise was drawn for {self.noise.shape[1]} "
                f"of shape {self.noise.shape[2:]}; give `HistoryGLE.of` these numbers."
            )
        return states._replace(copy=jnp.arange(count, dtype=jnp.int32))

    def step(self, key: PRNGKeyArray, state: HistoryState) -> tuple[HistoryState, HistoryInfo]:
        """One time step; its randomness is in the noise."""
        del key
        x, v, past, count, copy = state
        window = self.weights.shape[0]
        past = past.at[count % window].set(v)
        # past[j] is the velocity (count − j) mod window steps and a half ago.
        age = (count - jnp.arange(window)) % window
        memory = jnp.tensordot(self.weights[age], past, axes=1, precision="highest")
        potential, force = potential_and_force(self.energy, x)
        mass, dt = self._mass(x), self.time_step
        half = 0.5 * dt * self.friction / mass
        total = force - memory + self.noise[count, copy]
        v = ((1 - half) * v + dt * total / mass) / (1 + half)
        temperature = jnp.mean(mass * v**2) / GAS_CONSTANT
        return HistoryState(x + dt * v, v, past, count + 1, copy), HistoryInfo(potential, temperature)

    def largest_time_step(self, position: Array) -> float:
        """The limit of stability about ``position``, ps: the explicit memory is a spring too."""
        square, lightest = highest_squared_frequency(self.energy, self.masses, position), float(jnp.min(self.masses))
        return largest_history_step(self.kernel, square, lightest, self.weights.shape[0], float(self.time_step))

    def _mass(self, x: Array) -> Array:
        mass = self.masses
        return mass if mass.ndim == 0 else mass.reshape((-1, *(1,) * (x.ndim - 1)))


@eqx.filter_jit
def history_trajectory(
    dynamics: HistoryGLE, state: HistoryState, blocks: int, block: int
) -> tuple[HistoryState, tuple[Array, Array]]:
    """The same trajectory in blocks: the past before a block acts by one FFT, only the block's own past by sums.

    For windows of thousands of steps: the work per step falls from the window to the length of a block plus the
    logarithm of the window. ``state`` must be as `HistoryGLE.init` makes it, or as this function returns it.

    Arguments:
        dynamics: with a window that is a multiple of ``block``.
        state: where to start.
        blocks: how many blocks.
        block: steps of each.

    Returns:
        The last state, and positions and velocities (blocks × block, *shape) after every step.

    Raises:
        ValueError: the window is no multiple of the block.

    Source: Hairer, Lubich & Schlichte, SIAM J. Sci. Stat. Comput. 6, 532 (1985), one level of it.
    """
    window = dynamics.weights.shape[0]
    if window % block:
        raise ValueError(f"history_trajectory: the window of {window} steps is no multiple of the block of {block}.")
    size = 1 << (window + 2 * block - 1).bit_length()
    kernel = jnp.fft.rfft(jnp.pad(dynamics.weights, (0, block)), size).reshape(-1, *(1,) * state.position.ndim)
    mass, dt = dynamics._mass(state.position), dynamics.time_step
    half = 0.5 * dt * dynamics.friction / mass
    # In order of time, oldest first, up to the velocity before the block.
    ring = jnp.roll(state.past, -(state.count % window), axis=0)

    def one_block(carry, _):
        x, v, ring, count = carry
        spectrum = jnp.fft.rfft(ring, size, axis=0) * kernel
        before = jnp.fft.irfft(spectrum, size, axis=0)[window : window + block]

        def step(carry, i):
            x, v, own = carry
            own = own.at[i].set(v)
            age = i - jnp.arange(block)
            share = jnp.where(age >= 0, dynamics.weights[jnp.clip(age, 0, window - 1)], 0.0)
            memory = before[i] + jnp.tensordot(share, own, axes=1, precision="highest")
            _, force = potential_and_force(dynamics.energy, x)
            total = force - memory + dynamics.noise[count + i, state.copy]
            v = ((1 - half) * v + dt * total / mass) / (1 + half)
            x = x + dt * v
            return (x, v, own), (x, v)

        start = (x, v, jnp.zeros((block, *x.shape), x.dtype))
        (x, v, own), made = jax.lax.scan(step, start, jnp.arange(block))
        return (x, v, jnp.concatenate([ring[block:], own]), count + block), made

    start = (state.position, state.velocity, ring, state.count)
    (x, v, ring, count), made = jax.lax.scan(one_block, start, length=blocks)
    merged = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), made)
    return HistoryState(x, v, jnp.roll(ring, count % window, axis=0), count, state.copy), merged


def longest_window(
    kernel: AbstractMemoryKernel, time_step: float, *, share: float = 1e-4, longest: int = 100_000
) -> int:
    """Steps after which a kernel stays below ``share`` of its first value.

    Raises:
        ValueError: it does not within ``longest`` steps.
    """
    values = np.abs(np.asarray(kernel((jnp.arange(longest) + 0.5) * time_step)))
    above = np.flatnonzero(values > share * values[0])
    if above.size and above[-1] == longest - 1:
        raise ValueError(
            f"longest_window: the kernel is still {values[-1] / values[0]:.1e} of its start after {longest} steps; "
            "give the window yourself, or fit a PassiveKernel and use GLE."
        )
    return int(above[-1]) + 1 if above.size else 1
