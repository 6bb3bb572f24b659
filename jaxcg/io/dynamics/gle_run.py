"""`jaxcg gle` from a config to files: the dynamics it asks for, the run with its checkpoints, and what came of it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar

from ...dynamics import (
    GLE,
    CaldeiraLeggett,
    FrictionTerm,
    HistoryGLE,
    PositionDependentGLE,
    SplineProfile,
    TabulatedSpectralDensity,
    discretize,
    is_positive_real,
    longest_window,
)
from ...dynamics.motion.base import AbstractDynamics
from ...dynamics.motion.simulation import Frames, simulate
from ...errors import InputError, ResultError
from ..writers import write_text
from .gle_config import GleConfig
from .gle_parts import PotentialPart
from .series_writers import RawArray, SeriesLayout, open_series

#: Folder of an unfinished run within that of its results, and the files that stand at its end.
RUNNING, SUMMARY, FIGURE = "running", "summary.json", "trajectory.png"
#: Starts at which the limit of stability is worked out beforehand.
_STARTS = 3
#: Trajectories whose first coordinate is kept for the figure.
_SAMPLED = 16
#: Bytes of frames that one chunk may hold, its most and its fewest steps, and in how many a run is divided.
_CHUNK_BYTES, _MOST_STEPS, _FEWEST_STEPS, _CHUNKS = 1 << 26, 200_000, 2000, 100


class Prepared(NamedTuple):
    """A simulation about to start: dynamics of one trajectory, positions (trajectories, *shape), key, and its limit.

    ``limit`` is the largest stable time step at the starts, ps.
    """

    dynamics: AbstractDynamics
    positions: jax.Array
    key: jax.Array
    limit: float


def prepare(config: GleConfig) -> Prepared:
    """The dynamics and the start of a config.

    Raises:
        InputError: the kernel is not positive-real (the message names the frequency) or does not suit the integrator,
            or the time step is beyond the limit of stability.
    """
    kernel, integrator = config.kernel.kernel, config.integrator
    apart = config.kernel.terms if config.kernel.depends_on_position else ()
    # An explicit bath is made of its spectral density; the table of the kernel may be cut short.
    drawn = integrator.kind == "bath" and config.kernel.density is not None
    for one in () if drawn else (*config.kernel.every, *(term for term, _ in apart)):
        passive = is_positive_real(one)
        if not passive:
            raise InputError(
                f"{config.path}: 'kernel' is not positive-real: its spectrum is {passive.spectrum:.3g} amu/ps at "
                f"ω = {passive.frequency:.4g} 1/ps, where friction would heat; fit it with 'fit: passive'."
            )
    dtype = jnp.dtype(config.precision)
    key, noise_key = jax.random.split(jax.random.key(config.seed))
    start = np.full(config.shape, lowest_point(config.potential)) if isinstance(config.start, str) else config.start
    positions = jnp.asarray(np.broadcast_to(start, (config.trajectories, *config.shape)), dtype)
    given: Any = {"time_step": config.time_step, "temperature": config.temperature}
    masses, energy = config.masses, config.potential.energy
    try:
        if config.kernel.depends_on_position:
            terms = [FrictionTerm(one, _even() if profile is None else profile) for one, profile in config.kernel.terms]
            dynamics = PositionDependentGLE(energy, terms, masses, **given)
        elif integrator.kind == "auxiliaries":
            dynamics = GLE(energy, config.kernel.particles or kernel, masses, **given)
        elif integrator.kind == "bath":
            bath = discretize(_density(config), integrator.oscillators, integrator.highest, rule=integrator.rule)
            total = (config.steps + config.equilibrate) * config.time_step
            if total > bath.recurrence_time:
                raise ValueError(
                    f"the bath comes back after {bath.recurrence_time:.4g} ps, before the end of the run at "
                    f"{total:.4g} ps; take more 'oscillators', a lower 'highest', or a shorter run"
                )
            dynamics = CaldeiraLeggett(energy, bath, float(masses), **given)
        else:
            window = (
                longest_window(kernel, config.time_step)
                if integrator.window is None
                else max(round(integrator.window / config.time_step), 1)
            )
            dynamics = HistoryGLE.of(
                energy,
                kernel,
                masses,
                noise_key,
                steps=config.steps + config.equilibrate,
                shape=config.shape,
                window=window,
                trajectories=config.trajectories,
                **given,
            )
            # Its precision is that of the noise, which is drawn in that of the kernel.
            dynamics = jax.tree.map(lambda leaf: leaf.astype(dtype), dynamics)
    except ValueError as error:
        advice = ""
        if "no exact embedding" in str(error) or "negative strength" in str(error):
            advice = " Add 'fit: passive' to the kernel, or choose 'integrator: history'."
        raise InputError(f"{config.path}: {str(error).rstrip('.')}.{advice}") from None
    # Starts that are copies of one another have one limit.
    limit = min(
        dynamics.largest_time_step(jnp.asarray(one)) for one in np.unique(np.asarray(positions), axis=0)[:_STARTS]
    )
    if np.isnan(limit):
        raise InputError(f"{config.path}: 'potential' has no finite curvature at the start; give another 'start'.")
    if not config.time_step < limit:
        raise InputError(
            f"{config.path}: 'time_step' of {config.time_step:g} ps is beyond the limit of stability, {limit:.4g} ps "
            f"at the start; take {0.1 * limit:.2g} ps or less."
        )
    return Prepared(dynamics, positions, key, limit)


def lowest_point(potential: PotentialPart) -> float:
    """Position of the lowest minimum of a potential of one coordinate, nm; zero for free motion."""
    energy, (low, high) = potential.energy, potential.span
    if energy is None:
        return 0.0
    if low == high:
        return float(low)
    grid = np.linspace(low, high, 4001)
    values = jax.vmap(lambda x: energy(x[None]))(jnp.asarray(grid))
    best, step = grid[int(np.argmin(np.asarray(values)))], grid[1] - grid[0]
    found = minimize_scalar(
        lambda x: float(energy(jnp.asarray([x]))), bounds=(best - step, best + step), method="bounded"
    )
    return float(found.x)  # pyright: ignore[reportAttributeAccessIssue]


def run_gle(
    config: GleConfig,
    prepared: Prepared,
    target: str | os.PathLike,
    *,
    draw: Callable[[Path, GleConfig, np.ndarray, np.ndarray], None],
    progress: Callable[..., None] | None = None,
) -> dict[str, Any]:
    """Runs a config, or goes on with it where it was interrupted, and writes its results.

    While it runs, everything is in the folder ``running`` of ``target``; killed at any moment and called again, it ends
    with the numbers of an uninterrupted run.

    Arguments:
        config: what to run.
        prepared: what `prepare` makes of it.
        target: the folder of the results.
        draw: draws the figure, as ``draw(path, config, times, motion)``: times (frames,) in ps, motion (trajectories,
            frames, 2) the first coordinate of some trajectories in nm and its velocity in nm/ps.
        progress: called as ``progress(stage, done, total)``, while simulating with the speed as a fourth argument.

    Returns:
        The summary, which is also in ``summary.json``, and the speed.

    Raises:
        InputError: the config cannot be run, or the folder belongs to another run.
        ResultError: a trajectory is not finite any more, or the results cannot be written.
    """
    target = Path(target)
    working = target / RUNNING
    tell = progress or (lambda *_: None)
    every, thrown = config.every, config.equilibrate // config.every
    layout = SeriesLayout(
        config.trajectories,
        config.frames,
        config.shape,
        config.time_step * every,
        np.dtype(config.precision),
        config.velocities,
        {"config": config.settings},
    )
    try:
        series = open_series(config.format, working, layout)
        sampled = min(config.trajectories, _SAMPLED)
        sample = RawArray(working / "sample.npy", (sampled, config.frames, 2), layout.dtype)
        kinetic = RawArray(working / "kinetic.npy", (config.trajectories, config.frames), layout.dtype)

        def write(first: int, frames: Frames) -> None:
            skipped = max(thrown - first, 0)
            if skipped >= len(frames.times):
                return
            first, kept = (
                max(first - thrown, 0),
                Frames(frames.times[skipped:], *(np.asarray(array)[:, skipped:] for array in frames[1:])),
            )
            series.write(first, kept)
            both = [array.reshape(*array.shape[:2], -1)[:sampled, :, 0] for array in (kept.positions, kept.velocities)]
            sample.write(first, np.stack(both, axis=-1))
            kinetic.write(first, kept.temperature)

        total = config.steps + config.equilibrate
        marks: list[tuple[float, int]] = []

        def speed(done: int) -> str:
            # From the second chunk on: the first holds the compilation, and a resumed run begins in the middle.
            marks[1:] = [(time.perf_counter(), done)]
            return "" if len(marks) < 2 else f"{_speed(marks, config.time_step):.3g} ps/s"

        tell("simulating", 0, total)
        simulate(
            prepared.dynamics,
            prepared.positions,
            total,
            prepared.key,
            every=every,
            chunk=_chunk(config),
            progress=lambda done, steps, _: tell("simulating", done, steps, speed(done)),
            checkpoint=working / "checkpoint.npz",
            writer=write,
            label=str(config.path),
        )
        tell("writing", 0, 1)
        files = series.finish(target)
        summary = _summary(config, prepared, kinetic.read())
        draw(target / FIGURE, config, layout.times(), sample.read())
        summary["files"] = [*files, FIGURE, SUMMARY]
        write_text(target / SUMMARY, json.dumps({**summary, **identity(config)}, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise ResultError(
            f"{target}: cannot be written ({error.strerror or error}); what was done is kept: the same command goes on."
        ) from error
    except ValueError as error:
        raise InputError(f"{config.path}: {error}") from error
    shutil.rmtree(working, ignore_errors=True)
    # Not in the file, which is the same for every way to get there.
    return {**summary, "ps_per_second": _speed(marks, config.time_step) if len(marks) > 1 else None}


def _speed(marks: list[tuple[float, int]], time_step: float) -> float:
    """ps of each trajectory per second between two pairs of time and steps done."""
    (start, before), (now, done) = marks
    return (done - before) * time_step / (now - start)


def identity(config: GleConfig) -> dict[str, Any]:
    """What two configs must share to be of the same run."""
    return {"settings": config.settings, "input_files": config.files}


def _chunk(config: GleConfig) -> int:
    """Steps between two checkpoints."""
    total = config.steps + config.equilibrate
    frame = config.trajectories * (2 * int(np.prod(config.shape)) + 2) * np.dtype(config.precision).itemsize
    wanted = min(max(total // _CHUNKS, _FEWEST_STEPS), _MOST_STEPS, total)
    return config.every * max(min(_CHUNK_BYTES // frame, wanted // config.every), 1)


def _even() -> SplineProfile:
    """The profile of friction that is the same everywhere."""
    return SplineProfile(np.array([-1.0, 1.0]), jnp.ones(2))


def _density(config: GleConfig):
    """The spectral density of a config: as given, or of its kernel."""
    if config.kernel.density is not None:
        return config.kernel.density
    integrator = config.integrator
    omega = np.linspace(0, integrator.highest, 20 * integrator.oscillators + 1)
    return TabulatedSpectralDensity(jnp.asarray(omega), 0.5 * config.kernel.kernel.spectrum(jnp.asarray(omega)))


def _summary(config: GleConfig, prepared: Prepared, kinetic: np.ndarray) -> dict[str, Any]:
    """What came of the run."""
    mean, error = _mean_and_error(kinetic)
    friction = [np.asarray(kernel.total_friction(), np.float64).tolist() for kernel in config.kernel.every]
    warnings = []
    if error is not None and abs(mean - config.temperature) > 4 * error:
        warnings.append(
            f"the kinetic temperature, {mean:.2f} ± {error:.2f} K, is {abs(mean - config.temperature) / error:.0f} "
            f"standard errors off the target of {config.temperature:g} K; shorten the time step "
            f"({config.time_step:g} ps; the limit of stability is {prepared.limit:.3g} ps), or equilibrate longer."
        )
    return {
        "outcome": "done",
        "trajectories": config.trajectories,
        "frames": config.frames,
        "steps": config.steps,
        "time_ps": config.steps * config.time_step,
        "temperature_K": {"target": config.temperature, "mean": mean, "error": error},
        "total_friction_amu_per_ps": friction[0] if config.kernel.particles is None else friction,
        "largest_stable_step_ps": prepared.limit if np.isfinite(prepared.limit) else None,
        "notes": list(config.kernel.notes),
        "warnings": warnings,
    }


def _mean_and_error(values: np.ndarray) -> tuple[float, float | None]:
    """Mean of (trajectories, frames) and its standard error, from trajectories or, with few, from pieces of them."""
    count, frames = values.shape
    pieces = min(max(-(-20 // count), 1), frames)
    means = np.concatenate([piece.mean(axis=1, dtype=np.float64) for piece in np.array_split(values, pieces, axis=1)])
    mean = float(np.mean(values, dtype=np.float64))
    if len(means) < 5:
        return mean, None
    return mean, float(means.std(ddof=1) / np.sqrt(len(means)))
