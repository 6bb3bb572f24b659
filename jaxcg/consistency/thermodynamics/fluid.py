"""A short equilibrium run of a periodic fluid, at constant volume or constant pressure, with neighbour lists."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...dynamics.kernels.forms import DeltaKernel
from ...dynamics.motion.gle import GLE, GLEInfo, GLEState
from ...energy.base import AbstractEnergy
from ...errors import ResultError
from ...space import Box
from ...typing import Array, AtomScalars, AtomVectors, PRNGKeyArray
from ...units import GAS_CONSTANT
from .molecules import Molecules
from .stress import box_volume

#: Acceptance of volume changes that equilibration aims at is where these balance: 0.4.
_WIDER, _NARROWER = 1.15, 0.91


class Barostat(NamedTuple):
    """Volume changes by Monte Carlo: exact at any time step, and no virial is needed.

    Fields:
        pressure: kJ/mol/nm³ (multiply bar by `jaxcg.units.BAR`).
        every: steps between two proposals.
        amplitude: largest relative change of the volume proposed; adapted while equilibrating.
        molecules: scale centres of mass instead of atoms, for bonded molecules.

    Source: Frenkel & Smit, Understanding Molecular Simulation (Academic Press, 2002), section 5.4.1.
    """

    pressure: float
    every: int = 20
    amplitude: float = 0.02
    molecules: Molecules | None = None


class FluidRun(NamedTuple):
    """Frames of one run.

    Fields:
        times: (frames,) ps since the end of the equilibration.
        positions: (frames, atoms, 3) nm, not wrapped into the box.
        velocities: (frames, atoms, 3) nm/ps.
        boxes: (frames, 3, 3) box vectors as rows, nm.
        potential: (frames,) kJ/mol.
        temperature: (frames,) K, kinetic.
        energy: as it was at the end, with pair lists that hold for the last frame.
        accepted: share of the volume changes accepted after the equilibration; NaN without any.
    """

    times: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    boxes: np.ndarray
    potential: np.ndarray
    temperature: np.ndarray
    energy: AbstractEnergy
    accepted: float

    @property
    def volumes(self) -> np.ndarray:
        """(frames,) nm³."""
        return np.abs(np.linalg.det(self.boxes))


def simulate_fluid(
    energy: AbstractEnergy,
    positions: AtomVectors,
    box: Box,
    masses: float | AtomScalars,
    *,
    temperature: float,
    time_step: float,
    steps: int,
    key: PRNGKeyArray,
    every: int = 50,
    equilibration: int = 0,
    collision_rate: float = 1.0,
    velocities: AtomVectors | None = None,
    barostat: Barostat | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FluidRun:
    """Langevin dynamics (BAOAB) of a periodic system in equilibrium, and frames of it.

    Pair lists are made anew whenever an atom has moved by half the skin: the step that found this is taken back and
    repeated with a new list, so no force ever comes from an old one. Step i draws from ``fold_in(key, i)``.

    Arguments:
        energy: of the fluid; its box is replaced by ``box``.
        positions: (atoms, 3) nm, where it starts; overlaps must have been relaxed before.
        box: (3, 3) box vectors as rows, nm, lower triangular.
        masses: amu, one for all or (atoms,).
        temperature: K.
        time_step: ps.
        steps: after the equilibration, a multiple of ``every``.
        key: random key of the run.
        every: steps between two frames.
        equilibration: steps before the first counted one.
        collision_rate: 1/ps, of an atom of mean mass; averages do not depend on it.
        velocities: (atoms, 3) nm/ps at the start; thermal if None.
        barostat: for constant pressure; None for constant volume.
        progress: called as ``progress(done, total)`` in steps, at every frame.

    Returns:
        The `FluidRun`.

    Raises:
        ValueError: numbers that do not fit.
        ResultError: the motion is not finite any more, or an atom crosses the skin in one step.
    """
    if every < 1 or steps < 0 or steps % every or equilibration < 0:
        raise ValueError(f"simulate_fluid: steps ({steps}) must be a multiple of every ({every}), and none negative.")
    if barostat is not None and (barostat.every < 1 or not 0 < barostat.amplitude < 1):
        raise ValueError("simulate_fluid: a barostat acts every 1 or more steps, its amplitude is between 0 and 1.")
    x = jnp.asarray(positions)
    box = jnp.asarray(box, x.dtype)
    masses = jnp.asarray(masses, x.dtype)
    friction = DeltaKernel(jnp.mean(masses) * jnp.asarray(collision_rate, x.dtype))
    energy = energy.with_box(box).rebuild(x)
    dynamics = GLE(energy, friction, masses, time_step=time_step, temperature=temperature)
    start, moves, key = jax.random.split(key, 3)
    state = _start(dynamics, start, x, velocities)
    info = _info(dynamics, state)
    _require_finite(state, info, 0, time_step)

    total, step, amplitude = equilibration + steps, 0, 0.0 if barostat is None else barostat.amplitude
    tried = accepted = 0
    frames: list[tuple] = []
    while step < total:
        goal = _next_multiple(step, equilibration, every) if step >= equilibration else equilibration
        if barostat is not None:
            goal = min(goal, _next_multiple(step, 0, barostat.every))
        dynamics, state, info = _advance_to(dynamics, state, info, key, step, goal)
        step = goal
        _require_finite(state, info, step, time_step)
        if barostat is not None and step % barostat.every == 0:
            move_key = jax.random.fold_in(moves, step)
            dynamics, state, info, box, moved = _change_volume(
                barostat, amplitude, move_key, dynamics, state, info, box
            )
            if step <= equilibration:
                amplitude = min(amplitude * (_WIDER if moved else _NARROWER), 0.5)
            else:
                tried, accepted = tried + 1, accepted + moved
        if step > equilibration and (step - equilibration) % every == 0:
            frames.append(tuple(np.asarray(a) for a in (state.position, state.velocity, box, *info)))
        if progress is not None:
            progress(step, total)
    times = float(str(np.asarray(dynamics.time_step))) * every * np.arange(1, len(frames) + 1)
    if not frames:
        empty = (state.position, state.velocity, box, *info)
        kept = [np.zeros((0, *a.shape), a.dtype) for a in empty]
    else:
        kept = [np.stack(column) for column in zip(*frames, strict=True)]
    x, v, boxes, potential, kinetic = kept
    assert dynamics.energy is not None
    share = accepted / tried if tried else float("nan")
    return FluidRun(times, x, v, boxes, potential, kinetic, dynamics.energy, share)


def _next_multiple(step: int, origin: int, every: int) -> int:
    return origin + ((step - origin) // every + 1) * every


@eqx.filter_jit
def _start(dynamics: GLE, key: PRNGKeyArray, x: Array, velocities) -> GLEState:
    return dynamics.init(key, x, velocities)


@eqx.filter_jit
def _info(dynamics: GLE, state: GLEState) -> GLEInfo:
    """What a step would tell of the state."""
    x = state.position
    masses = dynamics.masses.astype(x.dtype)
    kinetic = jnp.mean(masses.reshape(-1, *(1,) * (x.ndim - 1)) * state.velocity**2) / GAS_CONSTANT
    assert dynamics.energy is not None
    return GLEInfo(dynamics.energy(x), kinetic)


def _advance_to(dynamics: GLE, state: GLEState, info: GLEInfo, key, step: int, goal: int):
    """The state at ``goal``; lists are renewed on the way. (Where one lacks room it gets more, on the host.)"""
    renewed = False
    while step < goal:
        bounds = (jnp.asarray(step, jnp.int32), jnp.asarray(goal, jnp.int32))
        state, info, reached = _advance(dynamics, state, info, key, *bounds)
        reached = int(reached)
        if reached == step and renewed:
            raise ResultError(
                f"simulate_fluid: an atom crosses half the skin of the pair list within step {step + 1}; relax the "
                "start, shorten the time step or make the skin wider."
            )
        if reached < goal:
            dynamics, renewed = dynamics.rebuild(state), True
        step = reached
    return dynamics, state, info


@eqx.filter_jit
def _advance(dynamics: GLE, state: GLEState, info: GLEInfo, key: PRNGKeyArray, step: Array, goal: Array):
    """Steps up to ``goal`` or up to the last one that the pair lists hold for; state, info and the step reached."""
    assert dynamics.energy is not None
    stale = dynamics.energy.stale

    def going(carry):
        _, _, step, old = carry
        return (step < goal) & ~old

    def one(carry):
        state, info, step, _ = carry
        new = dynamics.step(jax.random.fold_in(key, step), state)
        old = stale(new[0].position)
        state, info = jax.tree.map(lambda a, b: jnp.where(old, a, b), (state, info), new)
        return state, info, jnp.where(old, step, step + 1), old

    state, info, step, _ = lax.while_loop(going, one, (state, info, step, jnp.asarray(False)))
    return state, info, step


def _change_volume(barostat: Barostat, amplitude: float, key, dynamics: GLE, state: GLEState, info: GLEInfo, box):
    """One proposal of another volume: uniform in V about the present one."""
    assert dynamics.energy is not None
    first, second = jax.random.split(key)
    change = float(amplitude * (2 * jax.random.uniform(first) - 1))
    new_x, new_box = _scaled(state.position, box, jnp.asarray((1 + change) ** (1 / 3), box.dtype), barostat.molecules)
    energy = dynamics.energy.with_box(new_box).rebuild(new_x)
    potential, force = _potential_and_force(energy, new_x)
    volume = float(box_volume(box))
    count = len(state.position) if barostat.molecules is None else barostat.molecules.count
    thermal_energy = GAS_CONSTANT * float(dynamics.temperature)
    work = float(potential) - float(info.potential) + barostat.pressure * volume * change
    # Proposed uniformly within ± a share of V, so the way back has another density: one more power of V'/V less.
    log_ratio = (count - 1) * np.log1p(change) - work / thermal_energy
    back = abs(-change / (1 + change)) <= amplitude
    if not (back and np.log(float(jax.random.uniform(second)) + 1e-300) < log_ratio):
        return dynamics, state, info, box, False
    dynamics = eqx.tree_at(lambda d: d.energy, dynamics, energy)
    state = state._replace(position=new_x, force=force)
    return dynamics, state, info._replace(potential=potential), new_box, True


@eqx.filter_jit
def _scaled(x: Array, box: Array, factor: Array, molecules: Molecules | None):
    shift = x if molecules is None else molecules.centers(x, box)
    return x + (factor - 1) * shift, factor * box


@eqx.filter_jit
def _potential_and_force(energy: AbstractEnergy, x: Array):
    value, gradient = jax.value_and_grad(energy)(x)
    return value, -gradient


def _require_finite(state: GLEState, info: GLEInfo, step: int, time_step: float) -> None:
    numbers = (state.position, state.velocity, *info)
    if not all(bool(jnp.all(jnp.isfinite(a))) for a in numbers):
        raise ResultError(
            f"simulate_fluid: not finite after step {step} ({step * time_step:g} ps); the start may be strained (relax "
            "it first), the time step too long, or the box too small for the cutoff."
        )
