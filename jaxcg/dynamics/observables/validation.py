"""Does the fitted generalised Langevin equation move as the data do? The Mori-Zwanzig consistency report.

The data are cut into blocks. The model is simulated from the first frame of every block, as long as the block, so every
estimate has the same bias on both sides and only their scatter differs. Velocity correlations and displacements of free
and harmonic models are known exactly and need no simulation. Errors come from the scatter of the blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from ...energy.base import AbstractEnergy
from ..kernels.forms import AbstractMemoryKernel
from ..motion.base import AbstractDynamics
from ..motion.linear import linear_correlations
from ._blocks import correlation_time, pieces_of
from ._mimic import Series, fine_gle, harmonic_stiffness, mimic
from ._observables import (
    Sides,
    Test,
    displacement,
    distribution,
    kinetic_temperature,
    passage,
    velocity_correlation,
)
from .comparison import Comparison
from .first_passage import passage_ends

#: Fewest blocks for an error bar.
_FEWEST = 8


@dataclass(frozen=True)
class Validation:
    """Result of `validate`.

    Fields:
        comparisons: one for each observable.
        passed: whether all of them passed.
        verdict: in words.
        significance: probability that a right model fails somewhere.
        blocks: number of blocks of the data.
        simulated: ps of the model that were simulated in all.
        notes: what could not be compared, and why.
    """

    comparisons: tuple[Comparison, ...]
    passed: bool
    verdict: str
    significance: float
    blocks: int
    simulated: float
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> Comparison:
        """The comparison of that name."""
        for comparison in self.comparisons:
            if comparison.name == name:
                return comparison
        raise KeyError(f"{name}; there are {', '.join(c.name for c in self.comparisons)}")

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain lists, numbers and strings, for JSON."""
        return {
            "passed": self.passed,
            "verdict": self.verdict,
            "significance": self.significance,
            "blocks": self.blocks,
            "simulated": self.simulated,
            "notes": list(self.notes),
            "comparisons": [comparison.as_dict() for comparison in self.comparisons],
        }

    def text(self) -> str:
        """A short table, and the verdicts."""
        width = max(len(c.name) for c in self.comparisons)
        rows = [f"{'observable':<{width}}  deviation / s.e.  p-value"]
        for c in self.comparisons:
            mark = "agrees" if c.passed else "differs"
            rows.append(f"{c.name:<{width}}  {c.deviation:>16.1f}  {c.p_value:7.2g}  {mark}")
        return "\n".join([*rows, "", *(c.verdict for c in self.comparisons), *self.notes, "", self.verdict])


def validate(
    model: AbstractMemoryKernel | AbstractDynamics,
    positions,
    spacing: float,
    *,
    mass,
    temperature: float | None = None,
    energy: AbstractEnergy | None = None,
    velocities=None,
    lags: int = 100,
    passages: Sequence[tuple[float, float]] | None = None,
    time_step: float | None = None,
    factor: int = 2,
    equilibration: float = 0.0,
    blocks: int = 32,
    tolerance: float = 0.01,
    significance: float = 0.01,
    seed: int = 0,
) -> Validation:
    """Simulates a fitted model with as much data as it was fitted to, and compares what the two do.

    Compared are the velocity correlation function, the mean square displacement, the kinetic temperature, and of bound
    motion the distribution of positions and mean first-passage times. With a matrix-valued kernel or several masses
    each coordinate is compared apart; else the coordinates are taken for copies of one.

    Arguments:
        model: a memory kernel with an exact embedding, or a dynamics (of one system, with its own energy, temperature
            and time step), e.g. one with friction that depends on position.
        positions: (trajectories, frames) or (trajectories, frames, coordinates), nm, unwrapped; None for free motion of
            which only velocities are known.
        spacing: between frames, ps.
        mass: amu: a number, or (coordinates,).
        temperature: K; of a kernel.
        energy: potential of mean force, kJ/mol, of positions of one frame; with a kernel; None for free motion.
        velocities: the same shape as the positions, nm/ps; None: central differences of the positions, on both sides.
        lags: how far to compare correlation functions, in frames.
        passages: pairs (start, end) in nm of the first coordinate; None: there and back between the two deepest minima
            of the potential, or between the lowest and the highest tenth of the positions if there is one basin.
        time_step: ps, divides the spacing; with a kernel; None: a twentieth of the fastest time of the model.
        factor: how many times as much as the data is simulated.
        equilibration: ps of every simulated trajectory that are left out: none are needed where a dynamics starts in
            equilibrium, as all do that have auxiliary variables.
        blocks: number of blocks to aim at.
        tolerance: relative difference below which the model is right for all purposes: of C_vv(0), of the displacement,
            of the highest density, of a temperature or passage time.
        significance: probability that a right model fails in any observable.
        seed: of simulation and tests.

    Raises:
        ValueError: shapes do not fit, trajectories too short for the lags, or a kernel without an exact embedding.
    """
    series = Series.of(positions, velocities)
    if isinstance(model, AbstractDynamics):
        energy, temperature = model.energy, float(model.temperature)
    if temperature is None:
        raise ValueError("validate: give the temperature that goes with the kernel, K.")
    if series.x is None and energy is not None:
        raise ValueError("validate: a model with a potential of mean force needs positions.")
    slow = 0.0 if energy is None or series.x is None else correlation_time(series.x)
    series = series.cut(pieces_of(series.shape, lags, blocks, _FEWEST, slow))
    coordinates = series.shape[2]
    masses = np.broadcast_to(np.asarray(mass, np.float64), (coordinates,))
    coupled = not isinstance(model, AbstractDynamics) and model.coordinates is not None
    apart = coordinates > 1 and (np.ndim(mass) > 0 or coupled)
    exact, drawn = None, Series(None, None, series.flat)
    if not isinstance(model, AbstractDynamics) and not coupled and np.ndim(mass) == 0:
        stiffness = None if energy is None or series.x is None else harmonic_stiffness(energy, series.x, series.flat)
        if energy is None or stiffness is not None:
            times = jnp.asarray(spacing * np.arange(lags + 2))
            exact = linear_correlations(model, mass, times, temperature, stiffness)
    if exact is None or energy is not None:
        dynamics = model
        if not isinstance(dynamics, AbstractDynamics):
            dynamics = fine_gle(energy, dynamics, mass, spacing, temperature, time_step, series)
        drawn = mimic(dynamics, series, spacing, factor, equilibration, seed)
    sides = Sides(
        series.x,
        series.speeds(spacing),
        drawn.x,
        None if drawn.x is None and drawn.v is None else drawn.speeds(spacing),
        series.v is not None,
        spacing,
        exact,
        lags,
        temperature,
        masses,
    )
    bound = energy is not None
    ends: Sequence[tuple[float, float]] = ()
    if energy is not None and series.x is not None:
        ends = passage_ends(energy, series.x, temperature, flat=series.flat) if passages is None else passages
    parts = (coordinates if apart else 1) * (1 + (series.x is not None) + (series.v is not None) + bound) + len(ends)
    test = Test(tolerance, significance / parts, np.random.default_rng(seed))
    found, notes = [], []
    for index in range(coordinates if apart else 1):
        part = sides.coordinate(index) if apart else sides
        suffix = f" of coordinate {index + 1}" if apart else ""
        found.append(velocity_correlation(part, test, suffix))
        if series.x is not None:
            found.append(displacement(part, test, suffix, bound))
        if series.v is not None:
            found.append(kinetic_temperature(part, test, suffix))
        if bound:
            found.append(distribution(part, test, suffix))
    for start, end in ends:
        one = passage(sides.coordinate(0) if apart else sides, start, end, test)
        notes.append(one) if isinstance(one, str) else found.append(one)
    simulated = 0.0 if drawn.x is None else spacing * drawn.x.shape[0] * drawn.x.shape[1]
    failed = [c.name for c in found if not c.passed]
    verdict = f"The model passes: {len(found)} observables agree with the data."
    if failed:
        verdict = f"The model fails in {len(failed)} of {len(found)} observables: {', '.join(failed)}."
    return Validation(tuple(found), not failed, verdict, significance, series.shape[0], float(simulated), tuple(notes))
