"""The limits of stability are where trajectories really blow up."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxcg.dynamics import (
    GLE,
    CaldeiraLeggett,
    DeltaKernel,
    DrudeLorentz,
    HistoryGLE,
    PassiveKernel,
    PronyKernel,
    SumKernel,
    discretize,
    largest_stable_step,
    require_stable,
    simulate,
)
from jaxcg.energy.base import AbstractEnergy
from jaxcg.typing import Array

COLD = 1e-9


class Quadratic(AbstractEnergy):
    stiffness: Array

    def __call__(self, x):
        return 0.5 * jnp.sum(self.stiffness * x**2)


@eqx.filter_jit
def largest_excursion(dynamics, start, steps=400):
    """max |x| from 1, without noise worth speaking of."""
    state = dynamics.init(jax.random.key(0), start)

    def one(state, step):
        state, _ = dynamics.step(jax.random.fold_in(jax.random.key(1), step), state)
        return state, jnp.max(jnp.abs(state.position))

    return jnp.max(jax.lax.scan(one, state, jnp.arange(steps))[1])


def blows_up_just_beyond_its_limit(make, start, share=0.02):
    """The limit, just below which the trajectory is bounded and just above which it is not."""
    limit = make(0.1).largest_time_step(start)
    below, above = make((1 - share) * limit), make((1 + share) * limit)
    assert largest_excursion(below, start) < 30.0
    assert not largest_excursion(above, start) < 1e6
    require_stable(below, start)
    with pytest.raises(ValueError, match=rf"time step of {(1 + share) * limit:.4g} ps is beyond the limit"):
        require_stable(above, start)
    return limit


@pytest.mark.parametrize("kernel", [PronyKernel([50.0], [3.0]), DeltaKernel(1.0)])
def test_auxiliaries_leave_the_limit_of_the_potential(x64, kernel):
    energy = Quadratic(jnp.asarray([9.0, 400.0]))
    limit = blows_up_just_beyond_its_limit(
        lambda dt: GLE(energy, kernel, 4.0, time_step=dt, temperature=COLD), jnp.ones(2)
    )
    assert limit == pytest.approx(0.2, rel=1e-9)


@pytest.mark.parametrize(
    ("kernel", "stiffness"),
    [
        (PronyKernel([300.0], [1.0]), 100.0),
        (PronyKernel([300.0], [1.0]), None),
        (SumKernel(PronyKernel([30.0], [40.0]), DeltaKernel(20.0)), 100.0),
        (PassiveKernel([12.0, 0.0], [[0.0, 9.0], [0.0, 0.0]], [[0.1], [1.0]]), 30.0),
    ],
)
def test_an_explicit_memory_is_a_spring(x64, kernel, stiffness):
    energy = None if stiffness is None else Quadratic(jnp.asarray(stiffness))

    def make(dt):
        return HistoryGLE.of(
            energy,
            kernel,
            2.0,
            jax.random.key(0),
            steps=400,
            shape=(1,),
            time_step=dt,
            temperature=COLD,
            window=200,
        )

    limit = blows_up_just_beyond_its_limit(make, jnp.ones(1))
    spring = 2 / np.sqrt(((stiffness or 0.0) + float(kernel(jnp.zeros(())))) / 2.0)
    if isinstance(kernel, PronyKernel):  # it changes little in a step
        assert limit == pytest.approx(spring, rel=0.05)


@pytest.mark.parametrize(("density", "highest"), [(DrudeLorentz(40.0, 5.0), 20.0), (DrudeLorentz(0.1, 2.0), 60.0)])
def test_an_explicit_bath_is_stable_until_an_oscillator_does_half_a_turn(x64, density, highest):
    bath = discretize(density, 12, highest)

    @jax.jit
    def matrix(dt):
        """Of one step, which is linear; resonances may grow too slowly for a trajectory to show them."""
        dynamics = CaldeiraLeggett(Quadratic(jnp.asarray(10.0)), bath, 1.0, time_step=dt, temperature=COLD)
        start, unravel = ravel_pytree(dynamics.init(jax.random.key(0), jnp.ones(1)))
        return jax.jacfwd(lambda flat: ravel_pytree(dynamics.step(jax.random.key(0), unravel(flat))[0])[0])(start)

    def limit(dt):
        dynamics = CaldeiraLeggett(Quadratic(jnp.asarray(10.0)), bath, 1.0, time_step=dt, temperature=COLD)
        return dynamics.largest_time_step(jnp.ones(1))

    first, half_turn = limit(1e-3), np.pi / np.asarray(bath.frequencies).max()
    assert first < half_turn
    strong = density.friction > 1
    for dt, stable in ((0.7, True), (1 - 1e-5, True), (1 + 1e-3, not strong), (1.1, not strong)):
        dt = dt * first
        growth = np.abs(np.linalg.eigvals(matrix(dt))).max() - 1
        assert (growth < 1e-7) if stable else (growth > 1e-3)
        assert (dt < limit(dt)) == stable


def test_only_what_vibrates_limits_the_step(x64):
    saddle = Quadratic(jnp.asarray([-400.0, 16.0]))
    assert largest_stable_step(saddle, 4.0, jnp.ones(2)) == pytest.approx(1.0)
    assert largest_stable_step(Quadratic(jnp.asarray(-1.0)), 4.0, jnp.ones(2)) == np.inf
    assert largest_stable_step(None, 1.0, jnp.ones(2)) == np.inf
    # Large systems by Lanczos; one mass for each particle.
    stiffness = jnp.asarray(np.random.default_rng(0).uniform(0, 100, (40, 3)))
    masses = np.linspace(1, 2, 40)
    exact = 2 / np.sqrt((np.asarray(stiffness) / masses[:, None]).max())
    assert largest_stable_step(Quadratic(stiffness), masses, jnp.ones((40, 3))) == pytest.approx(exact, rel=1e-6)


def test_a_crowded_spectrum_in_single_precision_and_no_curvature_at_all():
    # Without a tolerance of its own Lanczos iteration goes on until round-off, which single precision never gets to.
    stiffness = jnp.asarray(np.random.default_rng(0).uniform(0, 100, 3000), jnp.float32)
    found = largest_stable_step(Quadratic(stiffness), 1.0, jnp.ones(3000, jnp.float32))
    assert found == pytest.approx(2 / np.sqrt(float(stiffness.max())), rel=1e-4)
    assert largest_stable_step(Quadratic(jnp.zeros(3000)), 1.0, jnp.ones(3000)) == np.inf


def test_simulations_check_their_starts():
    class Wall(AbstractEnergy):
        def __call__(self, x):
            return jnp.sum(1 / x)

    dynamics = GLE(Wall(), DeltaKernel(1.0), 1.0, time_step=0.01, temperature=300.0)
    with pytest.raises(ValueError, match="no finite curvature at the start"):
        simulate(dynamics, jnp.zeros((1, 1)), 10, jax.random.key(0))
    with pytest.raises(ValueError, match=r"limit of stability, 0\.001414 ps at the start; take at most 0\.000"):
        simulate(dynamics, jnp.full((1, 1), 0.01), 10, jax.random.key(0))
