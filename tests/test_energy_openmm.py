"""What `from_openmm` refuses, and how the energies it makes behave."""

import jax.numpy as jnp
import numpy as np
import openmm
import pytest
from molecules import molecule, quick
from openmm.app import PME, CutoffPeriodic, HBonds

from jaxcg.energy import GeneralizedBorn, HarmonicBond, SumEnergy, from_openmm
from jaxcg.errors import InputError

SOLVATED = ("amber14-all.xml", "amber14/tip3p.xml")


def system_with(*forces, n=3):
    system = openmm.System()
    for _ in range(n):
        system.addParticle(1.0)
    for force in forces:
        system.addForce(force)
    return system


def bonds():
    force = openmm.HarmonicBondForce()
    force.addBond(0, 1, 0.1, 1000.0)
    return force


def gb(**changes):
    """A CustomGBForce as OpenMM's application layer writes OBC2, with some formula changed."""
    system, _ = molecule("fragment", "amber14-all.xml", "implicit/obc2.xml")
    force = next(f for f in system.getForces() if type(f).__name__ == "CustomGBForce")
    if "integral" in changes:
        force.setComputedValueParameters(0, "I", changes["integral"], openmm.CustomGBForce.ParticlePairNoExclusions)
    if "radius" in changes:
        force.setComputedValueParameters(1, "B", changes["radius"], openmm.CustomGBForce.SingleParticle)
    if "extra" in changes:
        force.addEnergyTerm(changes["extra"], openmm.CustomGBForce.SingleParticle)
    if "method" in changes:
        force.setNonbondedMethod(changes["method"])
    return system


def with_virtual_site():
    system = system_with(bonds())
    system.setVirtualSite(2, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))
    return system


def periodic_bonds():
    force = bonds()
    force.setUsesPeriodicBoundaryConditions(True)
    return system_with(force)


def with_offsets():
    force = openmm.NonbondedForce()
    for _ in range(3):
        force.addParticle(0.0, 0.1, 0.0)
    force.addGlobalParameter("scale", 1.0)
    force.addParticleParameterOffset("scale", 0, 1.0, 0.0, 0.0)
    return system_with(force)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: system_with(bonds(), openmm.CustomExternalForce("x")), "CustomExternalForce.*remove it"),
        (lambda: system_with(openmm.AmoebaMultipoleForce()), "AmoebaMultipoleForce"),
        (lambda: molecule("fragment", constraints=HBonds)[0], "constraints=None, rigidWater=False"),
        (
            lambda: molecule("box", "amber14-all.xml", "amber14/tip3p.xml", nonbondedMethod=PME)[0],
            "PME.*CutoffPeriodic",
        ),
        (with_virtual_site, "Particle 2 .* virtual site"),
        (periodic_bonds, "HarmonicBondForce uses periodic boundary conditions"),
        (with_offsets, "parameter offsets"),
        (lambda: system_with(), "no forces"),
        (lambda: gb(integral="1/r"), "computes I by a formula.*obc2 or gbn2"),
        (lambda: gb(radius="1/(1/or-I)"), "computes B by a formula.*obc2 or gbn2"),
        (lambda: gb(extra="charge"), "energy term that jaxcg does not recognise"),
        (lambda: gb(method=openmm.CustomGBForce.CutoffPeriodic), "CustomGBForce is periodic"),
    ],
)
def test_refusals_name_the_cause_and_the_cure(make, message):
    with pytest.raises(InputError, match=message) as caught:
        from_openmm(make())
    assert "\n" not in str(caught.value)


def test_energies_do_not_need_openmm_afterwards():
    energy = from_openmm(system_with(bonds(), openmm.CMMotionRemover()))
    assert isinstance(energy, SumEnergy)
    assert [type(t) for t in energy.terms()] == [HarmonicBond]
    np.testing.assert_allclose(energy(jnp.array([[0.0, 0, 0], [0.2, 0, 0], [1.0, 1, 1]])), 5.0, rtol=1e-6)


def test_another_configuration_does_not_recompile():
    system, positions = molecule("fragment", "amber14-all.xml", "implicit/obc2.xml")
    energy = from_openmm(system)
    assert isinstance(energy.terms()[-1], GeneralizedBorn)
    traces = []

    @quick
    def evaluate(energy, x):
        traces.append(1)
        return energy(x)

    first = evaluate(energy, jnp.asarray(positions))
    assert evaluate(energy.rebuild(positions + 0.1), jnp.asarray(positions + 0.1)) == pytest.approx(
        float(first), rel=1e-3
    )
    assert len(traces) == 1


def test_large_periodic_system_is_not_a_number_before_its_first_table():
    system, positions = molecule("box", *SOLVATED, nonbondedMethod=CutoffPeriodic, nonbondedCutoff=0.5)
    energy = from_openmm(system)
    nonbonded = next(t for t in energy.terms() if type(t).__name__ == "Nonbonded")
    evaluate = quick(lambda e, x: e(x))
    assert np.isnan(evaluate(nonbonded, jnp.asarray(positions)))
    assert np.isfinite(evaluate(nonbonded.rebuild(jnp.asarray(positions)), jnp.asarray(positions)))
