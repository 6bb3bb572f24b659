"""Sampling a real molecule: alanine dipeptide on the fibre of three centres of mass."""

from io import StringIO

import jax
import jax.numpy as jnp
import numpy as np
import openmm
import pytest
from openmm import app, unit

from jaxcg.energy import from_openmm
from jaxcg.mapping import LinearMap
from jaxcg.posterior import Posterior
from jaxcg.sampling import sample
from jaxcg.units import GAS_CONSTANT

# Residue, atom, position in angstrom.
ATOMS = """
ACE HH31 2.000 1.000 0.000; ACE CH3 2.000 2.090 0.000; ACE HH32 1.486 2.454 0.890; ACE HH33 1.486 2.454 -0.890
ACE C 3.427 2.641 0.000; ACE O 4.391 1.877 0.000; ALA N 3.555 3.970 0.000; ALA H 2.733 4.556 0.000
ALA CA 4.853 4.614 0.000; ALA HA 5.408 4.316 0.890; ALA CB 5.661 4.221 -1.232; ALA HB1 5.123 4.521 -2.131
ALA HB2 6.630 4.719 -1.206; ALA HB3 5.809 3.141 -1.241; ALA C 4.713 6.129 0.000; ALA O 3.601 6.653 0.000
NME N 5.846 6.835 0.000; NME H 6.737 6.359 0.000; NME CH3 5.846 8.284 0.000; NME HH31 4.819 8.648 0.000
NME HH32 6.360 8.648 0.890; NME HH33 6.360 8.648 -0.890
"""


@pytest.fixture(scope="module")
def dipeptide():
    """OpenMM system, context at a minimum, its positions (nm), and centre-of-mass groups."""
    lines, groups = [], {}
    for i, atom in enumerate(ATOMS.replace("\n", ";").strip(";").split(";")):
        residue, name, *position = atom.split()
        number = ["ACE", "ALA", "NME"].index(residue) + 1
        groups.setdefault(number, []).append(i)
        x, y, z = map(float, position)
        label = name if len(name) == 4 else f" {name}"
        lines.append(f"ATOM  {i + 1:5d} {label:4s} {residue} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00")
    pdb = app.PDBFile(StringIO("\n".join([*lines, "END"])))
    system = app.ForceField("amber14/protein.ff14SB.xml", "implicit/obc2.xml").createSystem(pdb.topology)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(pdb.positions)
    openmm.LocalEnergyMinimizer.minimize(context, 0.1)
    positions = context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    return system, context, np.asarray(positions), list(groups.values())


def test_alanine_dipeptide(dipeptide):
    system, context, minimum, groups = dipeptide
    masses = np.array([system.getParticleMass(i)._value for i in range(22)])
    with jax.enable_x64(True):
        mapping = LinearMap.center_of_mass(groups, masses)
        y = mapping(jnp.asarray(minimum))
        posterior = Posterior(from_openmm(system), mapping, y.astype(jnp.float32))
        result = sample(
            posterior,
            jnp.asarray(np.repeat(minimum[None], 4, axis=0), jnp.float32),
            jax.random.key(0),
            samples=80,
            masses=masses,
            thin=2,
            steps=20,
        )
    assert result.dimension == 57
    assert result.trace.shape == (4, 40)
    assert 0.65 < result.acceptance.mean() < 0.95
    assert result.burn_in_temperature.mean() == pytest.approx(300, rel=0.1)
    np.testing.assert_allclose(
        np.einsum("ij,sjk->sik", mapping.matrix().toarray(), result.positions),
        np.broadcast_to(np.asarray(posterior.y, np.float64), (80, 3, 3)),
        atol=1e-12,
    )
    for x, energy in zip(result.positions[::16], result.energies[::16], strict=True):
        context.setPositions(x)
        assert energy == pytest.approx(
            context.getState(getEnergy=True).getPotentialEnergy()._value, abs=0.02
        )  # kJ/mol; the samples' coordinates are float32
    # The typical set lies d/2 kT above the minimum; torsions make the well softer than harmonic by little.
    excess = (result.trace.mean() - result.start_potentials.mean()) / (0.5 * 57 * GAS_CONSTANT * 300)
    assert excess == pytest.approx(1, abs=0.12)
    # Nothing turned inside out.
    center, a, b, c = (result.positions[:, i] for i in (8, 6, 14, 10))
    volume = np.einsum("si,si->s", a - center, np.cross(b - center, c - center))
    assert np.all(np.abs(volume) > 1e-3)
    assert np.ptp(np.sign(volume)) == 0
