"""The consistency report: right models pass at the rate they should, wrong ones fail, in words that say how."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.dynamics import GLE, DeltaKernel, PassiveKernel, PronyKernel, TabulatedKernel, simulate, validate
from jaxcg.dynamics.observables.comparison import largest_deviation
from jaxcg.energy import SplinePotential
from jaxcg.units import GAS_CONSTANT

#: kT = 1.
TEMPERATURE = 1 / GAS_CONSTANT
KERNEL = PronyKernel([2.0], [1.0])
SPACING = 0.1


@pytest.fixture(scope="module")
def free():
    with jax.enable_x64(True):
        gle = GLE(None, KERNEL, 1.0, time_step=SPACING, temperature=TEMPERATURE)
        return simulate(gle, jnp.zeros(80), 4000, jax.random.key(1))


def report(data, rows, kernel=KERNEL, **options):
    options = {"velocities": data.velocities[rows], "lags": 60, "temperature": TEMPERATURE, **options}
    return validate(kernel, data.positions[rows], SPACING, mass=1.0, **options)


def test_a_right_model_passes_with_even_p_values(x64, free):
    p_values = np.array(
        [
            [c.p_value for c in report(free, slice(16 * i, 16 * i + 16), tolerance=0.0, seed=i).comparisons]
            for i in range(5)
        ]
    )
    assert p_values.min() > 1e-3
    assert 0.2 < p_values.mean() < 0.8
    # Known exactly: nothing was simulated and the model has no error.
    found = report(free, slice(0, 8))
    assert found.passed
    assert found.simulated == 0
    assert not found["mean square displacement"].model_error.any()
    assert found["velocity correlation"].data.shape == (60,)


@pytest.mark.parametrize("kernel", [PronyKernel([2.6], [1.0]), DeltaKernel(2.0)])
def test_wrong_friction_and_missing_memory_fail(x64, free, kernel):
    found = report(free, slice(0, 8), kernel)
    assert not found.passed
    assert not found["velocity correlation"].passed
    assert not found["mean square displacement"].passed
    assert found["kinetic temperature"].passed
    assert "standard errors" in found["mean square displacement"].verdict


def test_a_wrong_mass_is_named(x64, free):
    found = validate(
        KERNEL,
        None,
        SPACING,
        mass=1.2,
        temperature=TEMPERATURE,
        velocities=free.velocities[:8],
        lags=60,
    )
    assert [c.name for c in found.comparisons] == ["velocity correlation", "kinetic temperature"]
    assert "mass" in found["kinetic temperature"].verdict


def test_velocities_by_differences_have_the_same_bias_on_both_sides(x64, free):
    found = report(free, slice(0, 8), velocities=None, tolerance=0.0)
    assert found.passed
    # Which is large: at this spacing differences lose a tenth of a per cent and more.
    given = report(free, slice(0, 8), tolerance=0.0)
    assert found["velocity correlation"].model[0] < 0.999 * given["velocity correlation"].model[0]


def test_coupled_coordinates_are_compared_apart(x64, free):
    pair = (np.stack([a[:8], a[8:16]], axis=-1) for a in (free.positions, free.velocities))
    x, v = pair
    kernel = PassiveKernel(jnp.sqrt(2.0) * jnp.eye(2), jnp.zeros((2, 2)), jnp.eye(2))
    found = validate(kernel, x, SPACING, mass=1.0, temperature=TEMPERATURE, velocities=v, lags=40, factor=1)
    assert found.passed
    assert len(found.comparisons) == 6
    assert found.comparisons[-1].name == "kinetic temperature of coordinate 2"
    assert found.simulated == pytest.approx(8 * 4 * 1000 * SPACING)


@pytest.fixture(scope="module")
def well():
    grid = np.linspace(-2.2, 2.2, 111)
    with jax.enable_x64(True):
        energy = SplinePotential(grid, 2.0 * (grid**2 - 1) ** 2)
        gle = GLE(energy, KERNEL, 1.0, time_step=0.05, temperature=TEMPERATURE)
        starts = jnp.asarray(np.where(np.arange(64) % 2, 1.0, -1.0))
        return energy, simulate(gle, starts, 12000, jax.random.key(3), every=2)


@pytest.mark.slow
def test_a_double_well_passes_with_its_kernel_and_fails_without_memory(x64, well):
    energy, data = well
    right = report(data, slice(None), energy=energy, factor=1, time_step=0.05)
    assert right.passed, right.text()
    names = [c.name for c in right.comparisons]
    assert names[3:] == [
        "distribution of positions",
        "mean first-passage time -1 → 1 nm",
        "mean first-passage time 1 → -1 nm",
    ]
    passage = right[names[-1]]
    assert abs(passage.deviation) < 4
    assert passage.data_error[0] < 0.1 * passage.data[0]
    wrong = report(data, slice(None), DeltaKernel(4.0), energy=energy, factor=1, time_step=0.05)
    passage = wrong[names[-1]]
    assert not passage.passed
    assert passage.deviation > 5
    assert "too slow; try a longer window" in passage.verdict
    assert names[-1] in wrong.verdict
    assert wrong["distribution of positions"].passed
    again = json.loads(json.dumps(wrong.as_dict(), allow_nan=False))
    assert again["comparisons"][-1]["data"] == [passage.data[0]]
    assert again["comparisons"][-1]["place"] is None
    lines = wrong.text().splitlines()
    assert len(lines[0]) < 100
    assert "differs" in lines[5]


def test_a_wrong_potential_shows_in_the_positions(x64, well):
    data = well[1]
    grid = np.linspace(-2.2, 2.2, 111)
    tilted = SplinePotential(grid, 2.0 * (grid**2 - 1) ** 2 + 0.5 * grid)
    found = report(data, slice(None), energy=tilted, factor=1, time_step=0.05, passages=())
    assert not found["distribution of positions"].passed
    assert "free energy" in found["distribution of positions"].verdict
    assert not any("passage" in c.name for c in found.comparisons)


def test_too_few_passages_are_a_note(x64, well):
    energy, data = well
    # The model may be a dynamics of its own; what it skips is not compared.
    gle = GLE(energy, KERNEL, 1.0, time_step=0.05, temperature=TEMPERATURE)
    found = report(data, slice(None), gle, factor=1, equilibration=20 * SPACING, passages=[(-2.0, 2.1)])
    assert found.passed
    assert found["mean square displacement"].model_error.all()
    assert len(found.notes) == 1
    assert "too few" in found.notes[0]


def test_the_largest_deviation_of_correlated_points_is_not_punished_twice():
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(100):
        # Twenty points that are nearly one.
        data = rng.standard_normal((20, 1)) + 0.05 * rng.standard_normal((20, 20))
        p_values.append(largest_deviation(data, np.zeros((1, 20)), slack=np.zeros(20), rng=rng)[2])
    share = np.mean(np.array(p_values) < 0.1)
    assert 0.03 < share < 0.2
    far, place, p_value = largest_deviation(data + 5, np.zeros((1, 20)), slack=np.zeros(20), rng=rng)
    assert far[place] < -10
    assert p_value < 1e-8
    assert largest_deviation(data + 5, np.zeros((1, 20)), slack=np.full(20, 9.0), rng=rng)[2] == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lags": 2000}, "too short for 2000 lags"),
        ({"velocities": np.zeros((8, 3))}, "positions and velocities alike"),
        ({"kernel": TabulatedKernel(jnp.ones(5), 0.1)}, "no exact embedding"),
        ({"velocities": np.full((8, 4000), np.nan)}, "not finite"),
        ({"kernel": GLE(None, KERNEL, 1.0, time_step=0.03, temperature=TEMPERATURE)}, "no multiple of the time step"),
    ],
)
def test_what_cannot_be_compared(free, options, message):
    with pytest.raises(ValueError, match=message):
        report(free, slice(0, 8), **options)


def test_what_is_missing():
    with pytest.raises(ValueError, match="give positions"):
        validate(KERNEL, None, SPACING, mass=1.0, temperature=300.0)
    with pytest.raises(ValueError, match="give the temperature"):
        validate(KERNEL, np.zeros((4, 900)), SPACING, mass=1.0)
