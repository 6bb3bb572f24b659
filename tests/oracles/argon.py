"""Liquid argon by OpenMM: the Lennard-Jones fluid of 864 atoms near its triple point, in reduced units."""

import numpy as np
from openmm import Context, LangevinMiddleIntegrator, NonbondedForce, Platform, System, VerletIntegrator, unit

#: nm, kJ/mol, amu, and the unit of time that follows, ps.
SIGMA, EPSILON, MASS = 0.34, 0.996, 39.948
TAU = SIGMA * np.sqrt(MASS / EPSILON)
GAS_CONSTANT = 8.31446261815324e-3


def trajectory(frames: int, *, every: int = 8, time_step: float = 0.004, density=0.8442, temperature=0.71, seed=1):
    """Positions (σ, unwrapped) and velocities (σ/τ) of (atoms, frames, 3), frames ``every`` × ``time_step`` τ apart."""
    cells = 6
    corners = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    grid = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    lattice = (grid + corners).reshape(-1, 3) / cells
    atoms = len(lattice)
    box = SIGMA * (atoms / density) ** (1 / 3)
    system, force = System(), NonbondedForce()
    system.setDefaultPeriodicBoxVectors(*(box * np.eye(3)))
    force.setNonbondedMethod(NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(2.5 * SIGMA)
    force.setUseDispersionCorrection(False)
    for _ in range(atoms):
        system.addParticle(MASS)
        force.addParticle(0.0, SIGMA, EPSILON)
    system.addForce(force)
    kelvin = temperature * EPSILON / GAS_CONSTANT
    melt = LangevinMiddleIntegrator(kelvin, 2 / TAU, time_step * TAU)
    melt.setRandomNumberSeed(seed)
    platform = Platform.getPlatformByName("CPU")
    repeatable = {"DeterministicForces": "true", "Threads": "2"}
    context = Context(system, melt, platform, repeatable)
    context.setPositions(box * lattice)
    context.setVelocitiesToTemperature(1.5 * kelvin, seed)
    melt.step(3000)
    state = context.getState(positions=True, velocities=True)
    newton = VerletIntegrator(time_step * TAU)
    context = Context(system, newton, platform, repeatable)
    context.setPositions(state.getPositions())
    context.setVelocities(state.getVelocities())
    positions, velocities = [], []
    for _ in range(frames):
        newton.step(every)
        state = context.getState(positions=True, velocities=True)
        positions.append(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
        velocities.append(state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond))
    jumps = np.diff(positions, axis=0)
    jumps -= box * np.round(jumps / box)
    unwrapped = np.concatenate([positions[:1], positions[0] + np.cumsum(jumps, axis=0)])
    return (np.swapaxes(a, 0, 1) for a in (unwrapped / SIGMA, np.array(velocities) * TAU / SIGMA))
