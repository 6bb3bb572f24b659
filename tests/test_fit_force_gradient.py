"""Force matching by gradient: parameters that gave the forces come back, with errors that are theirs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcg.energy import LennardJones, PairEnergy, SplinePair
from jaxcg.errors import ResultError
from jaxcg.fit import Frames, match_forces

BOX = 2.0 * np.eye(3)


def liquid(potential, dtype):
    return PairEnergy(potential, 27, box=jnp.asarray(BOX, dtype))


@pytest.fixture(scope="module")
def frames():
    lattice = np.stack(np.meshgrid(*[np.arange(3) * 2 / 3] * 3), -1).reshape(-1, 3)
    x = lattice + np.random.default_rng(0).uniform(-0.12, 0.12, (12, 27, 3))
    return Frames(x, np.repeat(BOX[None], 12, axis=0))


@pytest.fixture(scope="module")
def noisy(frames):
    """Forces of a Lennard-Jones liquid with noise of 2 kJ/mol/nm."""
    with jax.enable_x64(True):
        true = liquid(LennardJones(0.45, 0.8, 0.9, shift="force"), jnp.float64)
        exact = np.stack([-jax.grad(true)(jnp.asarray(x)) for x in frames.positions])
    return exact, exact + 2.0 * np.random.default_rng(1).normal(size=exact.shape)


def chosen(energy):
    return energy.potentials[0].sigma, energy.potentials[0].epsilon


def test_lennard_jones_comes_back(x64, frames, noisy):
    start = liquid(LennardJones(0.5, 0.4, 0.9, shift="force"), jnp.float64)
    found = match_forces(start, frames, noisy[0], 30, parameters=chosen)
    potential = found.energy.potentials[0]
    assert found.status == "converged"
    np.testing.assert_allclose([potential.sigma, potential.epsilon], [0.45, 0.8], rtol=1e-6)
    found = match_forces(start, frames, noisy[1], 30, parameters=chosen)
    potential = found.energy.potentials[0]
    scores = (np.array([potential.sigma, potential.epsilon]) - [0.45, 0.8]) / found.errors
    assert np.abs(scores).max() < 4
    assert found.errors[1] < 0.05
    assert found.loss[-1] == pytest.approx(4.0, rel=0.15)
    assert (np.diff(found.loss) <= 0).all()


def test_errors_are_those_of_repeated_fits(x64, frames, noisy):
    start = liquid(LennardJones(0.45, 0.8, 0.9, shift="force"), jnp.float64)
    rng = np.random.default_rng(2)
    fits = [
        match_forces(start, frames, noisy[0] + 2.0 * rng.normal(size=noisy[0].shape), 10, parameters=chosen)
        for _ in range(24)
    ]
    found = np.array([[f.energy.potentials[0].sigma, f.energy.potentials[0].epsilon] for f in fits])
    # Of 24 fits the spread is known to 15 per cent.
    np.testing.assert_allclose(found.std(axis=0, ddof=1) / fits[0].errors, 1.0, atol=0.5)


def test_optax_lessens_the_loss_in_batches(frames, noisy):
    single = Frames(frames.positions.astype(np.float32), frames.boxes.astype(np.float32))
    start = liquid(SplinePair(0.3, 0.9, np.zeros(10)), jnp.float32)
    forces = noisy[0].astype(np.float32)
    found = match_forces(start, single, forces, 150, optimizer=optax.adam(0.1), batch=4, key=jax.random.key(0))
    assert found.loss[-20:].mean() < 0.5 * found.loss[0]
    whole = match_forces(start, single, forces, 40, optimizer=optax.adam(0.1))
    assert whole.loss.min() < 0.9 * whole.loss[0]


def test_bad_input_is_refused(frames, noisy):
    start = liquid(LennardJones(0.45, 0.8, 0.9), jnp.float32)
    single = Frames(frames.positions.astype(np.float32), frames.boxes.astype(np.float32))
    with pytest.raises(ValueError, match="a force for every position"):
        match_forces(start, single, noisy[0][:3], 5)
    broken = noisy[0].astype(np.float32)
    broken[7, 2, 1] = np.inf
    with pytest.raises(ValueError, match="frame 7"):
        match_forces(start, single, broken, 5)
    with pytest.raises(ValueError, match="give a key"):
        match_forces(start, single, noisy[0].astype(np.float32), 5, optimizer=optax.sgd(1.0), batch=2)
    wild = liquid(LennardJones(np.nan, 0.8, 0.9), jnp.float32)
    with pytest.raises(ResultError, match="not finite on these frames"):
        match_forces(wild, single, noisy[0].astype(np.float32), 5)
