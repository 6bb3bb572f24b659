"""From a coordinate along trajectories to its memory kernel, a passive fit and a verdict on it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ...dynamics.extraction.correlation import correlation, mean_square_displacement
from ...dynamics.extraction.extraction import Method
from ...dynamics.extraction.memory import Memory, memory_from_positions, memory_from_velocities
from ...dynamics.extraction.profile import EstimatedProfile, estimate_profile
from ...dynamics.kernels.passive_fit import PassiveFit, fit_passive_kernel
from ...dynamics.observables.validation import Validation, validate
from ...energy.coordinate import SplinePotential
from ...errors import InputError
from .coordinates import Series

#: Called as ``progress(stage, done, total)``.
Report = Callable[[str, int, int], None]

#: Blocks are this many times as long as the window, at least.
_BLOCK = 3
#: The default window: so many times as long as velocities remember, and so many frames at most.
_WINDOW, _MOST_LAGS = 8, 2000
_FEWEST_LAGS = 8
#: Frames times trajectories beyond which only some trajectories are used to choose a window and to validate.
_PLENTY = 1_000_000
#: Turns of an angle beyond which its profile is not laid out one after another.
_MOST_TURNS = 20
#: Standard errors within which an integral stays on its plateau.
_STAYS = 2.5
#: Errors of the kernel are not taken to be smaller than this share of its largest value: rounding, spacing of frames.
_LEAST_ERROR = 2e-3


@dataclass(frozen=True)
class MemoryAnalysis:
    """What `analyze_memory` finds.

    Fields:
        series: the coordinate.
        temperature: K.
        mass: amu; amu nm²/rad² of an angle.
        energy: potential of mean force, or None for free motion.
        memory: kernel with errors, correlation functions.
        plateau: ∫Γ dt, its standard error, amu/ps, and where the plateau begins, ps; None without a plateau.
        displacement_times, displacement, displacement_error: (times,) ps; mean square displacement of one component
            and its standard error, nm².
        diffusion: D of the displacement and its standard error, nm²/ps; None for bound motion.
        fit: passive kernel.
        validation: comparison of its motion with the data; None where it was not asked for or cannot be made.
        notes: what was decided, for the user.
    """

    series: Series
    temperature: float
    mass: float
    energy: SplinePotential | None
    memory: Memory
    plateau: tuple[float, float, float] | None
    displacement_times: np.ndarray
    displacement: np.ndarray
    displacement_error: np.ndarray
    diffusion: tuple[float, float] | None
    fit: PassiveFit
    validation: Validation | None
    notes: tuple[str, ...]

    @property
    def times(self) -> np.ndarray:
        """(lags,) at which the kernel is known, ps."""
        return self.series.spacing * np.arange(self.memory.extracted.kernel.values.shape[0])


def analyze_memory(
    series: Series,
    temperature: float,
    *,
    window: float | None = None,
    mass: float | None = None,
    energy: SplinePotential | Literal["profile"] | None = None,
    method: Method = "integral",
    largest_order: int = 10,
    tolerance: float = 1e-4,
    blocks: int = 20,
    check: bool = True,
    seed: int = 0,
    progress: Report | None = None,
) -> MemoryAnalysis:
    """Memory kernel of a coordinate, its passive fit, and whether the fit moves as the data do.

    Components of particles are taken for independent copies of one coordinate: motion that is the same in x, y and z.

    Arguments:
        series: the coordinate along trajectories.
        temperature: K.
        window: how long a memory to extract, ps; None: as long as matters and the data allow.
        mass: amu; None: that of the series, else kT/⟨v²⟩.
        energy: potential of mean force; ``"profile"``: from the data; None: free motion.
        method: of `jaxcg.dynamics.extract_kernel`.
        largest_order, tolerance: of `jaxcg.dynamics.fit_passive_kernel`.
        blocks: for the errors, at least.
        check: compare the fitted motion with the data.
        seed: of the bootstrap and the simulations.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        InputError: the data are too few for the window, or do not move.
    """
    report = progress or (lambda stage, done, total: None)
    notes = list(series.notes)
    x, v = _copies(series.positions), None if series.velocities is None else _copies(series.velocities)
    if np.ptp(x) == 0:
        raise InputError(f"{series.name}: does not move; choose another coordinate.")
    report("correlations", 0, 1)
    rates = np.gradient(x, series.spacing, axis=1, edge_order=1) if v is None else v
    lags, longest = _lags(series, rates, window, blocks)
    profile = None
    if energy == "profile":
        report("free-energy profile", 0, 1)
        profile, more = _profile(series, temperature)
        notes += more
        energy = profile.potential
    report("memory kernel", 0, 1)
    mass = series.mass if mass is None else mass
    bound = energy if profile is None else profile
    memory = _memory(series, x, v, mass, temperature, bound, lags, method, blocks, seed)
    notes += [*memory.notes, *_doubts(series, memory)]
    found_mass = float(np.mean(memory.mass))
    plateau = find_plateau(memory)
    if plateau is None:
        notes.append(
            "the integral of the kernel reaches no plateau within the window; its total is not known: try a longer "
            "--window, or more data"
        )
    report("diffusion", 0, 1)
    displacement = _displacement(series, x, max(lags, min(longest, 4 * lags)), memory.blocks)
    diffusion = None if energy is not None else _diffusion(displacement[0], displacement[2])
    report("passive fit", 0, 1)
    fit = _fit(memory, plateau, largest_order, tolerance)
    validation = None
    if check:
        report("validation", 0, 1)
        validation, why = _validated(series, x, v, fit, found_mass, temperature, energy, lags, seed)
        notes += why
    return MemoryAnalysis(
        series=series,
        temperature=temperature,
        mass=found_mass,
        energy=energy,
        memory=memory,
        plateau=plateau,
        displacement_times=displacement[0],
        displacement=displacement[1],
        displacement_error=displacement[2].std(axis=0, ddof=1) / np.sqrt(len(displacement[2])),
        diffusion=diffusion,
        fit=fit,
        validation=validation,
        notes=tuple(dict.fromkeys(notes)),
    )


def _copies(a: np.ndarray) -> np.ndarray:
    """(trajectories · components, frames) of (trajectories, frames, components)."""
    return a.transpose(0, 2, 1).reshape(-1, a.shape[1])


def _lags(series: Series, rates: np.ndarray, window: float | None, blocks: int) -> tuple[int, int]:
    """Frames in the window, and in the longest that the data allow.

    Raises:
        InputError: the data do not allow the window asked for.
    """
    pieces = max(-(-blocks // len(rates)), 1)
    longest = series.frames // pieces // _BLOCK
    if longest < _FEWEST_LAGS:
        raise InputError(
            f"{series.frames} frames are too few for {blocks} blocks, each {_BLOCK} times as long as a window of "
            f"{_FEWEST_LAGS} frames; give longer trajectories, or fewer --blocks."
        )
    if window is not None:
        lags = round(window / series.spacing) + 1
        if lags > longest:
            raise InputError(
                f"--window {window:g} ps is longer than the data allow: at most {(longest - 1) * series.spacing:g} ps "
                f"with {blocks} blocks of {_BLOCK} windows each; ask for less, or for fewer --blocks."
            )
        if lags < _FEWEST_LAGS:
            raise InputError(
                f"--window {window:g} ps is shorter than {_FEWEST_LAGS} frames of {series.spacing:g} ps; ask for at "
                f"least {_FEWEST_LAGS * series.spacing:g} ps, or write frames more often."
            )
        return lags, longest
    some = rates[:: max(rates.size // _PLENTY, 1)]
    c = np.asarray(correlation(jnp.asarray(some), lags=longest))
    strong = np.abs(c) > max(0.02 * c[0], 3 * float(np.std(c[-max(longest // 4, 2) :])))
    # Gone is what stays away for as long again; later peaks are noise.
    gone = next((i for i in range(1, longest) if not strong[i : 2 * i + 10].any()), longest)
    return int(np.clip(_WINDOW * gone, min(50, longest), min(longest, _MOST_LAGS))), longest


def _profile(series: Series, temperature: float) -> tuple[EstimatedProfile, list[str]]:
    """Potential of mean force of the positions visited; of an angle that goes round, turn after turn."""
    x, period, notes = series.positions, None, []
    if series.period is not None and np.ptp(x) > 0.9 * series.period:
        period = series.period
        turns = int(np.floor(x.max() / period) - np.floor(x.min() / period)) + 1
        if turns > _MOST_TURNS:
            raise InputError(
                f"{series.name}: goes round {turns} times; a profile of so many turns is not made: treat the motion as "
                "free with --free, or cut the trajectory."
            )
        notes.append(f"the angle goes round: its profile is repeated over {turns} turns and confines beyond them")
    try:
        return estimate_profile(x, temperature, period=period), notes
    except ValueError as error:
        raise InputError(f"{series.name}: no free-energy profile ({error}); say --free for free motion.") from error


def _memory(series: Series, x, v, mass, temperature, energy, lags, method, blocks, seed) -> Memory:
    options = {"lags": lags, "energy": energy, "method": method, "blocks": blocks, "seed": seed}
    try:
        if v is None:
            return memory_from_positions(x, mass, series.spacing, temperature=temperature, **options)
        moved = None if energy is None else x
        return memory_from_velocities(v, mass, series.spacing, positions=moved, temperature=temperature, **options)
    except ValueError as error:
        raise InputError(f"{series.name}: {error}") from error


def _doubts(series: Series, memory: Memory) -> list[str]:
    """What in the files, beside the numbers themselves, makes the kernel doubtful."""
    if series.velocities is not None:
        return []
    notes = ["the files have no velocities: they are taken from the positions"]
    noise = series.rounding**2 / 12 * 2 / series.spacing**2
    share = noise / float(np.asarray(memory.velocity_correlation).ravel()[0])
    if share > 1e-3:
        notes.append(
            f"positions are rounded to {series.rounding:g} nm, which adds {100 * share:.2g} % to ⟨v²⟩: write TRR "
            "files, or XTC files of higher precision"
        )
    return notes


def find_plateau(memory: Memory) -> tuple[float, float, float] | None:
    """∫Γ dt, its standard error and where its plateau begins, ps; None if there is none in four fifths of the window.

    The plateau begins at the first t from where on the running integral G stays, and where Γ has gone, on average until
    3t/2, within errors; those of Γ tell, because the errors of G at two times are much the same. Its value is the mean
    from t to 2t: what comes later only adds noise, as in a random walk.
    """
    spacing, blur = float(memory.spacing), np.asarray(memory.kernel_error, np.float64)
    g, error = np.asarray(memory.extracted.integral, np.float64), np.asarray(memory.integral_error, np.float64)
    times = np.asarray(memory.extracted.times, np.float64)
    error = np.maximum(error, 1e-3 * np.abs(g).max())
    last = len(g) - 1
    for start in range(1, int(0.8 * len(g)), max(len(g) // 200, 1)):
        twice, later = min(2 * start, last), min(start + max(start // 2, 3), last)
        if abs(g[later] - g[start]) > float(np.mean(blur[start:later])) * spacing * (later - start):
            continue
        value = float(np.mean(g[start : twice + 1]))
        if np.all(np.abs(g[start:] - value) <= _STAYS * error[start:]):
            # Neighbours err together: the mean of errors, not the error of a mean.
            return value, float(np.mean(error[start : twice + 1])), float(times[start])
    return None


def _displacement(series: Series, x: np.ndarray, lags: int, blocks: int):
    """Times, mean square displacement, and that of each block (blocks, lags)."""
    pieces = max(-(-blocks // len(x)), 1)
    length = x.shape[1] // pieces
    lags = min(lags, length)
    cut = jnp.asarray(x[:, : pieces * length].reshape(-1, 1, length, 1))
    each = np.asarray(jax.lax.map(lambda block: mean_square_displacement(block, lags=lags), cut))
    return series.spacing * np.arange(lags), each.mean(axis=0), each


def _diffusion(times: np.ndarray, each: np.ndarray) -> tuple[float, float]:
    """D and its standard error from the slope of the second half: MSD of one component = 2 D t."""
    half = slice(len(times) // 2, None)
    slopes = np.polyfit(times[half], each[:, half].T, 1)[0] / 2
    return float(slopes.mean()), float(slopes.std(ddof=1) / np.sqrt(len(slopes)))


def _fit(memory: Memory, plateau, largest_order: int, tolerance: float) -> PassiveFit:
    values = np.abs(np.asarray(memory.extracted.kernel.values))
    errors = np.maximum(memory.kernel_error, _LEAST_ERROR * values.max())
    friction = None
    if plateau is not None and plateau[0] > 2 * plateau[1]:
        friction = plateau
    return fit_passive_kernel(
        memory.extracted.kernel,
        errors=errors,
        friction=None if friction is None else friction[0],
        friction_error=None if friction is None else friction[1],
        largest_order=largest_order,
        tolerance=tolerance,
    )


def _validated(
    series: Series, x, v, fit: PassiveFit, mass: float, temperature: float, energy, lags: int, seed: int
) -> tuple[Validation | None, list[str]]:
    """The consistency report, on as much of the data as is needed; or why there is none."""
    step = max(x.size // _PLENTY, 1)
    notes = [] if step == 1 else [f"validated on {len(x[::step])} of the {len(x)} trajectories, which is plenty"]
    try:
        found = validate(
            fit.kernel,
            x[::step],
            series.spacing,
            mass=mass,
            temperature=temperature,
            energy=energy,
            velocities=None if v is None else v[::step],
            lags=lags,
            seed=seed,
        )
    except ValueError as error:
        return None, [f"not validated: {error}"]
    if series.unit == "rad":
        found = _of_an_angle(found)
    return found, [*notes, *found.notes]


def _of_an_angle(found: Validation) -> Validation:
    """The report on an angle, whose coordinate is in rad where others are in nm."""

    def reworded(text: str) -> str:
        return re.sub(r"\bnm(?=\b|²)", "rad", text)

    words = ("name", "unit", "abscissa_unit", "verdict")
    comparisons = tuple(replace(c, **{name: reworded(getattr(c, name)) for name in words}) for c in found.comparisons)
    notes = tuple(map(reworded, found.notes))
    return replace(found, comparisons=comparisons, verdict=reworded(found.verdict), notes=notes)
