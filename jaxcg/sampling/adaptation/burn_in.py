"""Warming chains up from minima, until the potential no longer rises."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ...chains import Chains
from ...errors import ResultError
from ...posterior import Posterior
from ...run import run
from ...typing import Array, AtomScalars, PRNGKeyArray
from ..geometry import AbstractGeometry, check_start
from ..kernels.langevin import Heating, Langevin
from .step_size import GRADIENTS_PER_CHUNK

#: Kinetic temperatures this far from the target, as a fraction, are put down to the step size of the dynamics.
TOLERANCE = 0.05


class BurnIn(NamedTuple):
    """Result of `burn_in`.

    Fields:
        positions: (chains, atoms, 3) nm.
        temperature: (chains,) kinetic temperature in K, mean of the last fifth of the steps.
        potential: (steps, chains) −kT log p(x|y) before each step, kJ/mol; the first row is that of the starts.
        done: whether potential and temperature had settled at the end.
        reason: one sentence: what was seen, and what is wrong where it is not done.
    """

    positions: Array
    temperature: np.ndarray
    potential: np.ndarray
    done: bool
    reason: str


def burn_in(
    posterior: Posterior,
    positions: Array,
    key: PRNGKeyArray,
    *,
    masses: AtomScalars | AbstractGeometry,
    heat: int = 750,
    hold: int = 750,
    limit: int | None = None,
    step_size: float = 0.001,
    friction: float = 20.0,
    progress: Callable[[int, int, Any], None] | None = None,
    checkpoint: str | Path | None = None,
) -> BurnIn:
    """Brings chains from minima to the temperature of the posterior by constrained Langevin dynamics.

    The dynamics at full temperature goes on, ``hold`` steps at a time, until `settled` says so or ``limit`` is reached.

    Arguments:
        posterior: the target.
        positions: (chains, atoms, 3) minima, nm.
        key: random key.
        masses: (atoms,) amu, or a geometry.
        heat: steps over which temperature (from 3 %) and step size (from a quarter) grow.
        hold: steps at full temperature after that.
        limit: most steps at full temperature; ``hold`` when None.
        step_size: ps, at full temperature.
        friction: 1/ps.
        progress, checkpoint: see `jaxcg.run.run`; steps beyond the first ``hold`` have checkpoints of their own.

    Returns:
        The `BurnIn`.

    Raises:
        ValueError: settings out of range, or starts that are far off (`check_start`).
        ResultError: the potential of a start is not finite, or a chain did not stay finite.
    """
    if heat < 0 or hold < 0:
        raise ValueError(f"burn_in: heat ({heat}) and hold ({hold}) are numbers of steps and cannot be negative.")
    check_start(posterior, positions)
    langevin = Langevin(posterior, masses, step_size=step_size, friction=friction)
    target = float(posterior.temperature)
    heating = Heating(langevin, ramp=heat, start_temperature=0.03 * target, start_step_size=0.25 * step_size)
    kernel = Chains(heating)
    state = kernel.init(key, positions)
    chunk = max(GRADIENTS_PER_CHUNK // positions.shape[0], 10)
    file = None if checkpoint is None else Path(checkpoint)
    potentials, temperatures, held, steps = [], [], 0, heat + hold
    while True:
        part = len(potentials)
        result = run(
            kernel,
            state,
            jax.random.fold_in(key, part) if part else key,
            steps,
            chunk=chunk,
            progress=progress,
            checkpoint=file if file is None or not part else file.with_stem(f"{file.stem}-{part}"),
            label="burn-in",
        )
        if not part and len(result.infos.potential):
            bad = np.flatnonzero(~np.isfinite(result.infos.potential[0]))
            if bad.size:
                raise ResultError(
                    f"burn-in: the potential of the start of chain {bad[0]} is not finite ({len(bad)} of "
                    f"{len(positions)} chains); atoms may lie on each other: minimise it first."
                )
        state, held = result.state, held + hold
        potentials.append(result.infos.potential)
        temperatures.append(result.infos.temperature)
        potential, temperature = np.concatenate(potentials), np.concatenate(temperatures)
        last = len(potential) - heat if held else 0  # judged at full temperature alone
        done, reason = settled(
            potential[len(potential) - min(last, hold) :],
            temperature[len(potential) - min(last, hold) :],
            langevin.geometry.dimension,
            target,
            float(posterior.thermal_energy),
        )
        steps = min(hold, (hold if limit is None else limit) - held)
        if done or steps <= 0:
            break
    tail = max(len(potential) // 5, 1)
    return BurnIn(
        positions=state.position,
        temperature=temperature[-tail:].mean(axis=0),
        potential=potential,
        done=done,
        reason=reason,
    )


def settled(
    potential: np.ndarray, temperature: np.ndarray, dimension: int, target: float, thermal_energy: float
) -> tuple[bool, str]:
    """Whether chains at constant temperature have reached their typical energy: ``(done, reason)``.

    The potential of the second half of the window may differ from that of the first, in the mean over chains, by half
    the standard deviation √(d/2) kT it has in equilibrium at most, or by three standard errors of that difference if
    more; and the mean kinetic temperature of the window from its target by `TOLERANCE` and three standard errors.

    Arguments:
        potential: (steps, chains), kJ/mol.
        temperature: (steps, chains) kinetic temperatures, K.
        dimension: d.
        target: K.
        thermal_energy: kT, kJ/mol.
    """
    steps = len(potential) // 2
    if steps < 10:
        return False, "too few steps at full temperature to judge; hold for longer."
    parts = 5 * (steps // 5)  # each half in five pieces: their scatter gives errors
    pieces = np.stack(
        [
            half[-parts:].reshape(5, -1, half.shape[1]).mean(axis=1)
            for half in (potential[:steps].astype(np.float64), potential[-steps:].astype(np.float64))
        ]
    )
    rise = pieces[1].mean() - pieces[0].mean()
    error = np.sqrt(pieces.var(axis=1, ddof=1).mean() * 2 / (5 * potential.shape[1]))
    spread = np.sqrt(dimension / 2) * thermal_energy
    allowed = max(0.5 * spread, min(3 * error, spread))
    means = temperature[-10 * (len(temperature) // 10) :].reshape(10, -1).mean(axis=1)
    off = means.mean() - target
    figures = f"potential {rise:+.1f} kJ/mol over the last {steps} steps, temperature {means.mean():.0f} K"
    if not np.isfinite(rise) or abs(rise) > allowed:
        return False, f"the potential still drifts: {figures}; up to {allowed:.1f} would do."
    if abs(off) > TOLERANCE * target + 3 * means.std(ddof=1) / np.sqrt(10):
        return False, f"the temperature is not at its target of {target:.0f} K: {figures}."
    return True, f"settled: {figures}."
