"""Many trajectories of one system: the way from a dynamics and starting positions to frames."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...chains import Chains
from ...run import AbstractKernel, run
from ...typing import Array, PRNGKeyArray
from .base import AbstractDynamics
from .history import HistoryGLE
from .stability import require_stable_starts

#: Numbers of one system up to which trajectories are vectorised on a CPU, where larger ones are taken one by one.
_SMALL = 2048
#: Bytes of frames that one compiled chunk may hold, and the most steps of one.
_CHUNK_BYTES, _CHUNK_STEPS = 1 << 26, 5000


class Frames(NamedTuple):
    """Consecutive frames of several trajectories.

    Fields:
        times: (frames,) ps since the start; the start itself is not among them.
        positions: (trajectories, frames, *shape) nm.
        velocities: the same shape, nm/ps.
        potential: (trajectories, frames) kJ/mol.
        temperature: kinetic, (trajectories, frames) K.
    """

    times: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    potential: np.ndarray
    temperature: np.ndarray


class Simulation(NamedTuple):
    """What `simulate` returns: the fields of `Frames` (no frames, if a writer took them) and where it ended.

    Fields:
        times, positions, velocities, potential, temperature: see `Frames`.
        state: the last state, leading axis trajectories.
    """

    times: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    potential: np.ndarray
    temperature: np.ndarray
    state: Any


class _Recorded(NamedTuple):
    state: Any
    info: Any


class _Recorder(AbstractKernel):
    """A dynamics whose state carries the info of its last step, so that only what is kept takes memory."""

    dynamics: AbstractDynamics

    def init(self, key, position):
        """State and an info of zeros; ``position`` is the pair of position and velocity."""
        state = self.dynamics.init(key, *position)
        shapes = jax.eval_shape(lambda: self.dynamics.step(key, state)[1])
        return _Recorded(state, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))

    def step(self, key, state):
        """One step."""
        return _Recorded(*self.dynamics.step(key, state.state)), ()

    def rebuild(self, state):
        """With pair lists made anew."""
        return eqx.tree_at(lambda k: k.dynamics, self, self.dynamics.rebuild(state.state))

    def healthy(self, state):
        """True where the motion goes on and every number of a frame is finite."""
        numbers = (state.info.potential, state.info.temperature)
        return self.dynamics.healthy(state.state) & jnp.all(jnp.isfinite(jnp.stack(numbers)))


def simulate(
    dynamics: AbstractDynamics,
    positions: Array,
    steps: int,
    key: PRNGKeyArray,
    *,
    every: int = 1,
    velocities: Array | None = None,
    chunk: int | None = None,
    progress: Callable[[int, int, Any], None] | None = None,
    checkpoint: str | os.PathLike | None = None,
    writer: Callable[[int, Frames], None] | None = None,
    label: str = "simulation",
) -> Simulation:
    """Trajectories from each of ``positions``, in equilibrium with the bath from the first step on.

    Trajectory i draws from ``fold_in`` of its number, step by step: it does not depend on how many others there are
    (but for the rounding of batches of another size), on the length of a chunk, or on an interruption.

    Arguments:
        dynamics: of one system.
        positions: (trajectories, *shape) nm, where they start.
        steps: number of steps, a multiple of ``every``.
        key: random key of the whole simulation.
        every: a frame is kept after every this many steps; only frames take memory.
        velocities: (trajectories, *shape) nm/ps; thermal if None.
        chunk: steps between two reports, checkpoints and checks; by default as many as fit into 64 MiB, at most 5000.
        progress: called as ``progress(done, steps, ())`` after each chunk.
        checkpoint: file from which an interrupted simulation resumes; without a writer it holds the frames so far.
        writer: called as ``writer(first, frames)`` with the number of the first frame and the `Frames` of a chunk; then
            nothing is collected. After a crash a chunk may come again: overwrite from ``first``.
        label: what the simulation is called in messages.

    Returns:
        The `Simulation`.

    Raises:
        ValueError: shapes do not fit, or the time step is beyond the limit of stability at the start.
        ResultError: a trajectory is not finite any more; the message names it and the time.
    """
    positions = jnp.asarray(positions)
    positions = positions.astype(jnp.result_type(positions, float))  # whole numbers too are places
    if positions.ndim == 0 or positions.shape[0] == 0:
        raise ValueError(
            f"simulate: positions of shape {positions.shape}; give (trajectories, ...), positions[None] for one."
        )
    if velocities is not None and np.shape(velocities) != positions.shape:
        raise ValueError(
            f"simulate: velocities of shape {np.shape(velocities)} for positions of shape {positions.shape}; "
            "they must be the same."
        )
    require_stable_starts(dynamics, positions)
    count, shape, size = positions.shape[0], positions.shape[1:], positions[0].size
    kernel = Chains(_Recorder(dynamics), vectorized=size <= _SMALL)
    first, second = jax.random.split(key)
    start: Any = (positions, None if velocities is None else jnp.asarray(velocities, positions.dtype))
    state = kernel.init(first, start)
    if isinstance(dynamics, HistoryGLE):
        state = state._replace(state=dynamics.share_noise(state.state, steps))
    if chunk is None:
        saves = max(_CHUNK_BYTES // max(count * (2 * size + 2) * positions.dtype.itemsize, 1), 1)
        chunk = every * max(min(saves, _CHUNK_STEPS // every, steps // every), 1)
    # The decimal number that was meant, also where it is kept in single precision.
    time_step = float(str(np.asarray(dynamics.time_step)))

    def complain(step, chains):
        others = f" ({len(chains)} of {count} trajectories in all)" if len(chains) > 1 else ""
        return (
            f"trajectory {chains[0]} is not finite after {step * time_step:.6g} ps (step {step}){others}; take a time "
            f"step shorter than {time_step:g} ps, or look whether the potential of mean force holds it there."
        )

    def frames(done, seen) -> Frames:
        times = time_step * (done + every * np.arange(1, len(seen[0]) + 1))
        return Frames(times, *(np.moveaxis(leaf, 0, 1) for leaf in seen))

    done = run(
        kernel,
        state,
        second,
        steps,
        every=every,
        observe=_frame,
        chunk=chunk,
        progress=progress,
        writer=None if writer is None else lambda at, _, seen: writer(at // every, frames(at, seen)),
        checkpoint=checkpoint,
        label=label,
        complain=complain,
    )
    if done.observations is None:
        none = np.zeros((0, count), positions.dtype)
        kept = frames(0, (*(np.zeros((0, count, *shape), positions.dtype) for _ in range(2)), none, none))
    else:
        kept = frames(0, done.observations)
    return Simulation(*kept, done.state.state)


def _frame(recorded: _Recorded):
    state, info = recorded
    return state.position, state.velocity, info.potential, info.temperature
