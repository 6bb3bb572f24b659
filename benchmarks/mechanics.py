"""What OpenMM thinks of a reconstructed structure: its energy, where its minimiser takes it, whether it runs."""

from dataclasses import dataclass

import numpy as np
import openmm
from openmm import unit


@dataclass(frozen=True)
class Run:
    """Outcome of a short simulation: final positions (nm) and energies, and the hottest moment (K)."""

    positions: np.ndarray
    potential: float
    highest_temperature: float
    mean_temperature: float


def energy(system: openmm.System, positions: np.ndarray) -> float:
    """Potential energy in float64 on the Reference platform, kJ/mol."""
    context = _context(system, openmm.VerletIntegrator(0.001), positions, "Reference")
    return context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def minimised(system: openmm.System, positions: np.ndarray) -> np.ndarray:
    """Positions (nm) after OpenMM's minimiser with its default tolerance, beads free."""
    context = _context(system, openmm.VerletIntegrator(0.001), positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    return _positions(context)


def langevin(system: openmm.System, positions: np.ndarray, picoseconds: float = 20.0, seed: int = 1) -> Run:
    """Langevin dynamics at 300 K from ``positions``, friction 1/ps, 1 fs steps, no constraints, beads free."""
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.001)
    integrator.setRandomNumberSeed(seed)
    context = _context(system, integrator, positions)
    context.setVelocitiesToTemperature(300.0, seed)
    degrees = 3 * system.getNumParticles()
    temperatures = []
    for _ in range(round(picoseconds / 0.1)):
        integrator.step(100)
        kinetic = context.getState(getEnergy=True).getKineticEnergy()
        temperatures.append((2 * kinetic / (degrees * unit.MOLAR_GAS_CONSTANT_R)).value_in_unit(unit.kelvin))
    state = context.getState(getEnergy=True)
    return Run(
        positions=_positions(context),
        potential=state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole),
        highest_temperature=float(np.max(temperatures)),
        mean_temperature=float(np.mean(temperatures[len(temperatures) // 2 :])),
    )


def _context(system, integrator, positions, platform: str | None = None) -> openmm.Context:
    chosen = [] if platform is None else [openmm.Platform.getPlatformByName(platform)]
    context = openmm.Context(system, integrator, *chosen)
    context.setPositions(np.asarray(positions, dtype=np.float64) * unit.nanometer)
    return context


def _positions(context) -> np.ndarray:
    return context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
