"""Whole proteins by the defaults: mapped beads, frames of simulations, and what OpenMM says of the result (slow)."""

from functools import cache

import jax
import numpy as np
import openmm
import pytest
from fragments import FRAMES
from openmm import unit
from proteins import protein

from jaxcg.backmap import Engine
from jaxcg.backmap.pipeline import IN_VACUO, better_mapping
from jaxcg.io import build_molecule, read_frames

pytestmark = pytest.mark.slow

PROTEINS = ("villin", "ubiquitin", "lysozyme")


@cache
def engine(name: str, structure: str) -> Engine:
    return Engine(build_molecule(FRAMES / name / structure, **IN_VACUO))


def source(name: str, system) -> np.ndarray:
    """Heavy atoms of the structure the beads came from, in the order of ``system``; NaN elsewhere."""
    other, x, _ = protein(name)
    position = {(int(r), n): p for r, n, p, heavy in zip(other.atom_residue, other.atom_names, x, other.heavy) if heavy}
    return np.array(
        [position.get((int(r), n), np.full(3, np.nan)) for r, n in zip(system.atom_residue, system.atom_names)]
    )


@cache
def mapped(name: str, seed: int):
    made = engine(name, "cg_crystal.pdb")
    key = jax.random.key(seed)
    reference = source(name, made.system)
    frame = made.frame(0, made.molecule.y, key, reference=reference)
    made, frame, notes = better_mapping(
        made, frame, lambda other: other.structure(0, frame.y, key, reference=reference)
    )
    return made, frame, notes


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", PROTEINS)
def test_mapped_structures(name, seed):
    made, frame, _ = mapped(name, seed)
    quality = frame.quality
    assert frame.bead_mode == "exact"
    assert quality.errors == {}
    assert quality.bonds_within_10 == 100
    # One residue of villin's 33 is 3 %; its own source has 97.0 % favoured.
    assert quality.ramachandran_favoured > 96.9
    assert np.abs(made.mapping.matrix() @ frame.positions - frame.y).max() < 1e-12


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", PROTEINS)
def test_mapped_structures_are_near_their_source(name, seed):
    assert mapped(name, seed)[1].quality.rmsd_heavy <= 0.065


def test_villins_beads_count_hydrogens_and_the_crystals_do_not():
    assert mapped("villin", 0)[0].molecule.hydrogens
    assert not mapped("ubiquitin", 0)[0].molecule.hydrogens
    assert not mapped("lysozyme", 0)[0].molecule.hydrogens


@pytest.mark.parametrize("name", PROTEINS)
def test_simulation_frames(name):
    made = engine(name, "cg.pdb")
    frames = [
        made.frame(number, y, jax.random.fold_in(jax.random.key(0), number))
        for number, y, _ in read_frames(made.molecule.beads, FRAMES / name / "cg.xtc", "0:20:7")
    ]
    for frame in frames:
        assert frame.bead_mode == "soft"
        assert frame.quality.errors == {}, (frame.frame, frame.quality.summary())
        assert frame.quality.bonds_within_10 == 100
        assert frame.quality.bead_rms <= 0.065
    assert np.mean([f.quality.ramachandran_favoured for f in frames]) >= 95
    assert np.mean([f.quality.ramachandran_outlier for f in frames]) <= 1.5


def test_openmm_agrees_and_runs_on():
    made, frame, _ = mapped("villin", 0)
    system = made.molecule.openmm_system
    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 0.001 * unit.picosecond)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("CPU"))
    context.setPositions(frame.positions)
    energy = context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    assert frame.energy == pytest.approx(energy, rel=1e-5)

    openmm.LocalEnergyMinimizer.minimize(context)
    free = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    moved = (free - frame.positions)[made.system.heavy]
    assert np.sqrt((moved**2).sum(axis=1).mean()) <= 0.1

    context.setPositions(frame.positions)
    context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
    integrator.step(5000)
    state = context.getState(energy=True, positions=True)
    kinetic = state.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole)
    temperature = kinetic / (0.5 * 3 * made.system.n_atoms * 8.314e-3)
    assert 240 < temperature < 360
