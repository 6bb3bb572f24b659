"""Every term against OpenMM's Reference platform."""

import jax.numpy as jnp
import numpy as np
import pytest
from molecules import molecule, quick
from openmm import CustomTorsionForce, GBSAOBCForce, NonbondedForce, System
from openmm.app import CutoffNonPeriodic, CutoffPeriodic, NoCutoff
from oracles.openmm_reference import reference_terms

from jaxcg.energy import HarmonicTorsion, Nonbonded, TypedLennardJones, energy_and_forces, from_openmm

CUTOFF = {"nonbondedMethod": CutoffNonPeriodic, "nonbondedCutoff": 0.8}
PERIODIC = {"nonbondedMethod": CutoffPeriodic, "nonbondedCutoff": 0.9, "switchDistance": 0.7}
SALT = {"implicitSolventKappa": 0.9, "sasaMethod": None, "solventDielectric": 80.0}
compiled = quick(energy_and_forces)


def agree(system, positions, energy, tolerance=1e-6, dtype=float, floor=10.0):
    reference = reference_terms(system, positions)
    terms = energy.terms()
    assert len(terms) == len(reference)
    for term, (name, value, forces) in zip(terms, reference, strict=True):
        got, got_forces = compiled(term, jnp.asarray(positions, dtype))
        assert got_forces.dtype == dtype
        assert abs(float(got) - value) <= tolerance * abs(value), name
        # Every atom's force, relative to its own size; the floor is for atoms whose forces cancel.
        size = np.maximum(np.linalg.norm(forces, axis=1), floor)
        error = np.linalg.norm(np.asarray(got_forces, np.float64) - forces, axis=1)
        assert (error <= tolerance * size).all(), name


@pytest.mark.parametrize(
    ("forcefield", "settings"),
    [
        (("amber14-all.xml",), {"nonbondedMethod": NoCutoff}),
        (("amber19-all.xml",), CUTOFF | {"switchDistance": 0.6}),
        (("amber14-all.xml", "implicit/obc2.xml"), {"nonbondedMethod": NoCutoff}),
        (("amber14-all.xml", "implicit/obc2.xml"), CUTOFF | SALT),
        (("amber14-all.xml", "implicit/gbn2.xml"), CUTOFF),
        (("amber14-all.xml", "implicit/gbn2.xml"), SALT),
        (("amber14-all.xml", "implicit/obc1.xml"), CUTOFF | SALT),
        (("amber14-all.xml", "implicit/gbn.xml"), SALT),
        (("amber99sbildn.xml", "amber99_obc.xml"), {"nonbondedMethod": NoCutoff}),
        (("amber99sbildn.xml", "amber99_obc.xml"), CUTOFF),
    ],
)
def test_fragment(x64, forcefield, settings):
    system, positions = molecule("fragment", *forcefield, **settings)
    agree(system, positions, from_openmm(system))


@pytest.mark.parametrize(
    ("name", "forcefield"),
    [("villin", ("amber99sbildn.xml", "amber99_obc.xml")), ("ubiquitin", ("amber19-all.xml", "implicit/gbn2.xml"))],
)
def test_protein(x64, name, forcefield):
    system, positions = molecule(name, *forcefield)
    agree(system, positions, from_openmm(system))


def test_solvated_box(x64):
    system, positions = molecule("box", "amber14-all.xml", "amber14/tip3p.xml", **PERIODIC)
    agree(system, positions, from_openmm(system, positions))


def agree_in_total(system, positions):
    reference = reference_terms(system, positions)
    energy, forces = compiled(from_openmm(system, positions), jnp.asarray(positions))
    np.testing.assert_allclose(energy, sum(r[1] for r in reference), rtol=1e-9)
    expected = sum(r[2] for r in reference)
    np.testing.assert_allclose(forces, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


def test_charmm(x64):
    system, positions = molecule("fragment", "charmm36.xml")
    terms = from_openmm(system).terms()
    assert sum(isinstance(t, Nonbonded) for t in terms) == sum(isinstance(t, HarmonicTorsion) for t in terms) == 1
    agree_in_total(system, positions)


def test_charmm_with_pair_specific_lennard_jones(x64):
    system, positions = molecule("fragment", "charmm36.xml", **CUTOFF, switchDistance=0.6)
    tables = next(f for f in system.getForces() if type(f).__name__ == "CustomNonbondedForce")
    repulsion = tables.getTabulatedFunction(0)
    n, _, values = repulsion.getFunctionParameters()
    used = sorted({int(tables.getParticleParameters(i)[0]) for i in range(tables.getNumParticles())})
    changed = np.array(values).reshape(n, n)
    changed[used[1], used[4]] = changed[used[4], used[1]] = 1.3 * changed[used[1], used[4]]
    repulsion.setFunctionParameters(n, n, changed.ravel())
    assert any(isinstance(t, TypedLennardJones) for t in from_openmm(system).terms())
    agree_in_total(system, positions)


def test_triclinic_box_with_periodic_exceptions(x64):
    system, force, positions = charges_in_a_box(60)
    system.setDefaultPeriodicBoxVectors([2.1, 0, 0], [0.6, 2.0, 0], [-0.8, 0.5, 1.9])
    force.setExceptionsUsePeriodicBoundaryConditions(True)
    force.addException(0, 1, 0.2, 0.3, 0.5)
    force.addException(2, 7, 0.0, 1.0, 0.0)
    agree(system, positions, from_openmm(system))


def charges_in_a_box(n):
    rng = np.random.default_rng(0)
    system, force = System(), NonbondedForce()
    for _ in range(n):
        system.addParticle(1.0)
        force.addParticle(rng.normal(), 0.2 + 0.1 * rng.random(), rng.random())
    force.setNonbondedMethod(NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(0.8)
    system.addForce(force)
    return system, force, rng.uniform(-3.0, 3.0, size=(n, 3))


@pytest.mark.parametrize(
    "formula",
    ["k*(theta-theta0)^2", "k*min(dtheta, 2*pi-dtheta)^2; dtheta = abs(theta-theta0); pi = 3.141592653589793"],
)
def test_harmonic_impropers(x64, formula):
    system, force = System(), CustomTorsionForce(formula)
    force.addPerTorsionParameter("k")
    force.addPerTorsionParameter("theta0")
    for _ in range(8):
        system.addParticle(1.0)
    for i in range(5):
        force.addTorsion(i, i + 1, i + 2, i + 3, [10.0 + i, 3.0 - i])
    system.addForce(force)
    agree(system, np.random.default_rng(2).normal(size=(8, 3)), from_openmm(system))


def test_engulfed_atoms(x64):
    # An atom wholly inside another's descreening sphere is where OpenMM's two OBC2 forces differ.
    system, force = System(), GBSAOBCForce()
    for charge, radius, scale in [(0.5, 0.12, 0.85), (-0.5, 0.2, 1.4), (0.3, 0.15, 0.8)]:
        system.addParticle(1.0)
        force.addParticle(charge, radius, scale)
    system.addForce(force)
    agree(system, np.array([[0.0, 0, 0], [0.05, 0.01, 0], [0.3, 0.1, 0]]), from_openmm(system))


def test_float32():
    system, positions = molecule("villin", "amber14-all.xml", "implicit/obc2.xml")
    # Rounding a coordinate of 3 nm changes a bond's force by about 0.1 kJ/mol/nm.
    agree(system, positions, from_openmm(system), tolerance=1e-5, dtype=np.float32, floor=5e4)
