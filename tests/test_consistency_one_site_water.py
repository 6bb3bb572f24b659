"""One-site water from VOTCA's tables, run here: the structure is right and the pressure is wrong by kilobars."""

from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from jaxcg.consistency import frame_pressures, mean_pressure, simulate_fluid
from jaxcg.consistency.structure import radial_distribution
from jaxcg.energy import PairEnergy, TabulatedPair
from jaxcg.units import BAR

DATA = Path(__file__).parent / "data" / "votca" / "spce_one_site.npz"
#: Pressure and its error in bar of the same tables run with another program, and how far g(r) is off.
KNOWN = {"ibi": (8081, 15, 0.011), "imc": (9329, 9, 0.011), "force_matching": (6586, 8, 0.082)}


def table(data, name):
    if name != "force_matching":
        values = data[name][20:].copy()
        values[-1] = 0.0
        return TabulatedPair(data["distances"][20:], values)
    r = np.linspace(0.24, 0.996, 379)
    values = CubicSpline(data["force_matching_distances"], data[name])(r)
    return TabulatedPair(r, np.append(values[:-1], 0.0))


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_pressures_of_published_tables(name):
    data = np.load(DATA)
    x, box = data["positions"].astype(np.float32) * 1e-3, float(data["edge"]) * np.eye(3, dtype=np.float32)
    energy = PairEnergy(table(data, name), len(x), box=box, positions=x, skin=0.15)
    run = simulate_fluid(
        energy, x, box, 18.0154, temperature=300.0, time_step=0.005, steps=800, every=20, equilibration=200,
        collision_rate=2.0, key=jax.random.key(1),
    )  # fmt: skip
    found = mean_pressure(frame_pressures(run.energy, run.positions, box, temperature=300.0)).pressure
    pressure, error, off = KNOWN[name]
    assert found.error < 80 * BAR
    assert abs(found.value - pressure * BAR) < 4 * np.hypot(found.error, error * BAR)
    rdf = radial_distribution(((frame, box) for frame in run.positions), 1.0, bins=100)
    mine = np.interp(data["rdf_distances"], rdf.centers, rdf.value)
    assert np.abs(mine - data["rdf"]).sum() < (off + 0.01) * data["rdf"].sum()
