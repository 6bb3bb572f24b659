"""Transmission over a parabolic barrier is that of Grote and Hynes exactly."""

import jax
import jax.numpy as jnp
import pytest

from jaxcg.dynamics import GLE, DeltaKernel, PronyKernel, grote_hynes_frequency, transmission_coefficient
from jaxcg.energy.base import AbstractEnergy
from jaxcg.units import GAS_CONSTANT

#: kT = 1.
TEMPERATURE = 1 / GAS_CONSTANT


class Barrier(AbstractEnergy):
    """−½ (x − 0.3)²."""

    def __call__(self, x):
        return -0.5 * jnp.sum((x - 0.3) ** 2)


@pytest.mark.parametrize(
    ("kernel", "duration"),
    [(PronyKernel([0.5], [0.1]), 8.0), (DeltaKernel(2.0), 12.0), (PronyKernel([4.0], [2.0]), 12)],
)
def test_a_parabolic_barrier(x64, kernel, duration):
    gle = GLE(Barrier(), kernel, 1.0, time_step=0.05, temperature=TEMPERATURE)
    found = transmission_coefficient(gle, 1.0, 0.3, duration, jax.random.key(1), frames=40)
    exact = grote_hynes_frequency(kernel, 1.0, 1.0)
    assert exact < 0.9
    assert abs(found.values[-1] - exact) < 4 * found.errors[-1] + 0.002
    assert found.errors[-1] < 0.02
    assert found.values[0] > exact
    assert found.times[-1] == pytest.approx(duration)


def test_pairs_are_needed():
    gle = GLE(Barrier(), DeltaKernel(2.0), 1.0, time_step=0.05, temperature=TEMPERATURE)
    with pytest.raises(ValueError, match="even number"):
        transmission_coefficient(gle, 1.0, 0.0, 5.0, jax.random.key(0), trajectories=5)
    with pytest.raises(ValueError, match="no more frames"):
        transmission_coefficient(gle, 1.0, 0.0, 1.0, jax.random.key(0))
