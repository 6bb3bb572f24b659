"""Pressures of a model made of tabulated pair potentials: of its frames, and along an equation of state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...consistency.statistics import Estimate
from ...consistency.thermodynamics import TabulatedEquationOfState, integrated_squared_difference
from ...errors import InputError, ResultError
from .ensembles import BeadTable, Ensemble
from .potentials import PairTable
from .states import StateTable

if TYPE_CHECKING:
    from .check import CheckSettings

#: Steps between frames of a run, and the share of it that is equilibration.
_EVERY, _EQUILIBRATION = 20, 0.25


@dataclass(frozen=True)
class Isotherms:
    """Pressures of reference and model at one temperature.

    Arguments:
        reference, model: the tables.
        difference: ∫ [P_model(ρ) − P_reference(ρ)]² dρ over the densities both cover, (kJ/mol)² nm⁻⁹.
        low, high: these densities, nm⁻³.
        root_mean_square: of the difference of the pressures over them, kJ/mol/nm³.
    """

    reference: StateTable
    model: StateTable
    difference: Estimate
    low: float
    high: float
    root_mean_square: float

    def pairs(self) -> dict[str, tuple[Estimate, Estimate]]:
        """Pressures of reference and model at every density of the model that the reference covers."""
        table = _equation(self.reference, 1.0)
        found = {}
        for density, pressure, error in zip(self.model.densities, self.model.pressures, self.model.errors, strict=True):
            if self.low <= density <= self.high:
                known = table.pressure(np.array([density]), 1.0)
                wanted = Estimate(float(known.value[0]), float(known.error[0]))
                found[f"{density:.4g} nm⁻³"] = (wanted, Estimate(float(pressure), float(error)))
        return found


def pair_energy(beads: BeadTable, potentials: Mapping[tuple[str, str], PairTable], box, positions=None):
    """The energy of the tables.

    Arguments:
        beads: whose kinds they are for; molecules must be single beads.
        potentials: of every pair of kinds.
        box: (3, 3) nm.
        positions: (beads, 3) nm, for the first list of pairs.

    Raises:
        InputError: beads are bonded, whose forces the tables do not have.
    """
    from ...energy.pair_energy import PairEnergy
    from ...energy.pair_tables import TabulatedPair

    if len(beads.bonds):
        raise InputError(
            f"--potential: beads are bonded ({beads.labels[beads.bonds[0, 0]]} and {beads.labels[beads.bonds[0, 1]]}), "
            "and the pressure needs the forces of bonds too; tables of pairs serve for molecules of one bead."
        )
    names = sorted(set(beads.kinds))
    number = {name: i for i, name in enumerate(names)}
    tables = {(number[a], number[b]): TabulatedPair(table.r, table.u) for (a, b), table in potentials.items()}
    types = np.array([number[kind] for kind in beads.kinds])
    return PairEnergy(tables, types, box=box, positions=positions)


def pressure_of(
    beads: BeadTable, potentials: Mapping[tuple[str, str], PairTable], temperature: float
) -> Callable[[np.ndarray, np.ndarray], float]:
    """The pressure (kJ/mol/nm³) of a frame: N kT/V and the virial of the tables.

    Arguments:
        beads: whose kinds the tables are for.
        potentials: of every pair of kinds.
        temperature: K.

    Returns:
        A function of positions (beads, 3) and box (3, 3), nm.
    """
    import jax

    from ...consistency.thermodynamics import frame_pressures

    kept: list[Any] = []
    dtype = jax.dtypes.canonicalize_dtype(np.float64)

    def pressure(x: np.ndarray, box: np.ndarray) -> float:
        x, box = x.astype(dtype), box.astype(dtype)
        if not kept:
            kept.append(pair_energy(beads, potentials, box, x))
        try:
            found = frame_pressures(kept[0], x[None], box, temperature=temperature)
        except ResultError as error:
            raise ValueError(f"the virial of the tables is not finite ({error})") from error
        return float(found.pressure[0])

    return pressure


def compare_isotherms(reference: StateTable, model: StateTable, temperature: float) -> Isotherms:
    """Two equations of state over the densities they share.

    Raises:
        InputError: they share no range of densities.
    """
    low = max(float(reference.densities[0]), float(model.densities[0]))
    high = min(float(reference.densities[-1]), float(model.densities[-1]))
    if not low < high:
        raise InputError(
            f"{model.path}: densities from {model.densities[0]:g} to {model.densities[-1]:g} nm⁻³, but those of "
            f"{reference.path} are {reference.densities[0]:g} to {reference.densities[-1]:g} nm⁻³; they must overlap."
        )
    ours, known = _equation(model, temperature), _equation(reference, temperature)
    difference = integrated_squared_difference(ours, known, low, high, temperature)
    root = float(np.sqrt(max(difference.value, 0.0) / (high - low)))
    return Isotherms(reference, model, difference, low, high, root)


def simulated_states(
    beads: BeadTable,
    model: Ensemble,
    potentials: Mapping[tuple[str, str], PairTable],
    states: StateTable,
    settings: CheckSettings,
    progress: Callable[[str, int, int], None] | None = None,
) -> StateTable:
    """Pressures of the model at the densities of the reference's equation of state, by short runs of our own.

    Raises:
        InputError: no masses, or the motion breaks down.
    """
    import jax

    from ...consistency.thermodynamics import simulate_isotherm

    if settings.temperature is None:
        raise InputError("--run-steps: runs need the temperature; give --temperature K.")
    # Averages over positions do not depend on the masses.
    masses = np.full(len(beads), 18.0) if beads.masses is None else np.asarray(beads.masses)
    for block in model.blocks():
        x, box = np.asarray(block.positions[0], np.float32), np.asarray(block.boxes[0], np.float32)
        break
    else:
        raise InputError(f"{model.paths[0]}: holds no frames.")
    every = min(_EVERY, settings.steps)
    steps = settings.steps // every * every
    if progress is not None:
        progress("runs of the model", 0, len(states.densities))
    try:
        found = simulate_isotherm(
            pair_energy(beads, potentials, box, x),
            x,
            box,
            masses.astype(np.float32),
            states.densities,
            temperature=settings.temperature,
            time_step=settings.time_step,
            steps=steps,
            equilibration=int(_EQUILIBRATION * steps),
            every=every,
            key=jax.random.key(settings.seed),
            progress=None if progress is None else lambda done, total: progress("runs of the model", done, total),
        )
    except (ResultError, ValueError) as error:
        raise InputError(f"--run-steps: {error}") from error
    table = found.equation_of_state
    return StateTable("runs of the model", table.densities, table.pressures, table.errors)


def _equation(table: StateTable, temperature: float) -> TabulatedEquationOfState:
    return TabulatedEquationOfState(table.densities, temperature, table.pressures, table.errors)
