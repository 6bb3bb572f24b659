"""Any energy is a potential of mean force: force-field terms of a molecule, splines, tables of mean force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import cumulative_simpson

from jaxcg.dynamics import GLE, PronyKernel, simulate
from jaxcg.energy import HarmonicAngle, HarmonicBond, SplinePotential
from jaxcg.units import GAS_CONSTANT

KT = 2.5
TEMPERATURE = KT / GAS_CONSTANT
KEY = jax.random.key(8)


def mean_and_error(values):
    """Over independent trajectories (axis 0)."""
    each = np.asarray(values, np.float64).reshape(len(values), -1).mean(axis=1)
    return each.mean(), each.std(ddof=1) / np.sqrt(len(each))


@pytest.mark.slow
def test_bonded_terms_of_a_molecule():
    molecule = HarmonicBond([[0, 1], [1, 2]], [0.15, 0.12], [4e4, 6e4], n_atoms=3) + HarmonicAngle(
        [[0, 1, 2]], [1.9], [400.0], n_atoms=3
    )
    start = jnp.array([[0.15, 0.0, 0.0], [0.0, 0.0, 0.0], [0.12 * np.cos(1.9), 0.12 * np.sin(1.9), 0.0]])
    kernel, masses = PronyKernel([3000.0], [30.0]), [12.0, 14.0, 16.0]
    gle = GLE(molecule, kernel, masses, time_step=0.003, temperature=TEMPERATURE)
    assert 0.01 < gle.largest_time_step(start) < 0.03
    done = simulate(gle, jnp.broadcast_to(start, (200, 3, 3)), 1200, KEY, every=12)
    mean, error = mean_and_error(done.potential[:, 40:])
    # ½ kT for each of three stiff terms; stretching of the volume element r² sin θ adds less than 2 %.
    assert abs(mean - 1.5 * KT) < 4 * error + 0.02 * 1.5 * KT
    with pytest.raises(ValueError, match=r"the limit of stability, 0\.0\d+ ps"):
        simulate(GLE(molecule, kernel, masses, time_step=0.04, temperature=TEMPERATURE), start[None], 1, KEY)


def exact_moment(u, power):
    x = np.linspace(-0.6, 0.6, 4001)
    weight = np.exp(-u(x) / KT)
    return (x**power * weight).sum() / weight.sum()


@pytest.mark.parametrize("table", ["potential", "mean force"])
def test_tables_of_a_coordinate(table):
    def u(x):
        return 4.0 * ((x / 0.2) ** 2 - 1) ** 2 + 6.0 * x

    x = np.linspace(-0.4, 0.4, 81)
    if table == "potential":
        values = u(x)
    else:  # all that is known is −du/dx
        mean_force = -(16.0 * ((x / 0.2) ** 2 - 1) * x / 0.2**2 + 6.0)
        values = -cumulative_simpson(mean_force, x=x, initial=0.0)
    energy = SplinePotential(x, values)
    gle = GLE(energy, PronyKernel([2000.0], [10.0]), 20.0, time_step=0.02, temperature=TEMPERATURE)
    done = simulate(gle, jnp.full((300, 1), 0.1), 3000, KEY, every=20)
    for power in (1, 2):
        mean, error = mean_and_error(done.positions[:, 50:] ** power)
        assert abs(mean - exact_moment(u, power)) < 4 * error
