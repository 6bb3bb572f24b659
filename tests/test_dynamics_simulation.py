"""Many trajectories of one system: independent of their number, of chunks and of interruptions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.dynamics import (
    GLE,
    Annealing,
    CaldeiraLeggett,
    DeltaKernel,
    DrudeLorentz,
    FrictionTerm,
    HistoryGLE,
    PositionDependentGLE,
    PronyKernel,
    discretize,
    simulate,
)
from jaxcg.energy.base import AbstractEnergy
from jaxcg.errors import ResultError
from jaxcg.run import run
from jaxcg.units import GAS_CONSTANT

TEMPERATURE = 1 / GAS_CONSTANT  # kT = 1
KEY = jax.random.key(5)
KERNEL = PronyKernel([2.0], [1.0])


class Well(AbstractEnergy):
    def __call__(self, x):
        return 0.5 * jnp.sum(x**2)


class Cliff(AbstractEnergy):
    """Not a number beyond the edge."""

    def __call__(self, x):
        return 0.5 * jnp.sum(jnp.where(x > 1.5, jnp.nan, x) ** 2)


class Lost(AbstractEnergy):
    """Infinite off the start, without a force."""

    def __call__(self, x):
        return jax.lax.stop_gradient(jnp.where(jnp.all(x == 0), 0.0, jnp.inf)) + 0.0 * jnp.sum(x)


def gle(energy=None, **settings):
    return GLE(energy or Well(), KERNEL, 1.0, **{"time_step": 0.1, "temperature": TEMPERATURE, **settings})


@pytest.fixture(scope="module")
def reference():
    return simulate(gle(), jnp.ones((6, 2)), 60, KEY, every=3)


def test_frames_have_times_and_what_was_asked_for(reference):
    assert reference.positions.shape == reference.velocities.shape == (6, 20, 2)
    assert reference.potential.shape == reference.temperature.shape == (6, 20)
    np.testing.assert_allclose(reference.times, 0.3 * np.arange(1, 21), rtol=1e-12)
    np.testing.assert_allclose(reference.potential, 0.5 * (reference.positions**2).sum(-1), rtol=1e-5)
    kinetic = (reference.velocities**2).mean(-1) / GAS_CONSTANT
    np.testing.assert_allclose(reference.temperature, kinetic, rtol=1e-5)
    np.testing.assert_array_equal(reference.state.position, reference.positions[:, -1])


def test_a_trajectory_depends_on_its_number_alone(reference):
    few = simulate(gle(), jnp.ones((2, 2)), 60, KEY, every=3, chunk=7)
    # Batches of another size may round differently, by compiler; other random numbers differ by one.
    np.testing.assert_allclose(few.positions, reference.positions[:2], atol=1e-5)
    assert not np.allclose(reference.positions[0], reference.positions[1])


def test_an_interruption_changes_nothing(reference, tmp_path):
    def interrupt(done, steps, infos):
        if done >= 30:
            raise KeyboardInterrupt

    settings = {"every": 3, "chunk": 15, "checkpoint": tmp_path / "here"}
    with pytest.raises(KeyboardInterrupt):
        simulate(gle(), jnp.ones((6, 2)), 60, KEY, progress=interrupt, **settings)
    done = []
    resumed = simulate(gle(), jnp.ones((6, 2)), 60, KEY, progress=lambda at, *_: done.append(at), **settings)
    assert done == [45, 60]
    np.testing.assert_array_equal(resumed.positions, reference.positions)
    np.testing.assert_array_equal(resumed.temperature, reference.temperature)


def test_a_writer_gets_the_frames_of_each_chunk(reference):
    pieces = []
    settings = {"every": 3, "chunk": 27}
    left = simulate(gle(), jnp.ones((6, 2)), 60, KEY, writer=lambda *piece: pieces.append(piece), **settings)
    assert [first for first, _ in pieces] == [0, 9, 18]
    for name in ("positions", "velocities", "potential", "temperature"):
        whole = np.concatenate([getattr(frames, name) for _, frames in pieces], axis=1)
        np.testing.assert_array_equal(whole, getattr(reference, name))
    np.testing.assert_array_equal(np.concatenate([frames.times for _, frames in pieces]), reference.times)
    assert left.positions.shape == (6, 0, 2)
    assert left.times.shape == (0,)
    np.testing.assert_array_equal(left.state.position, reference.state.position)


def test_large_systems_go_one_by_one_on_a_cpu_and_do_the_same(reference, monkeypatch):
    monkeypatch.setattr("jaxcg.dynamics.motion.simulation._SMALL", 1)
    one_by_one = simulate(gle(), jnp.ones((2, 2)), 12, KEY, every=3)
    np.testing.assert_allclose(one_by_one.positions, reference.positions[:2, :4], rtol=1e-5, atol=1e-6)


def test_velocities_may_be_given():
    bath = discretize(DrudeLorentz(1.0, 1.0), 8, 8.0)
    exact = CaldeiraLeggett(Well(), bath, 1.0, time_step=0.05, temperature=TEMPERATURE)
    done = simulate(exact, jnp.zeros((3, 1)), 1, KEY, velocities=jnp.full((3, 1), 2.0))
    np.testing.assert_allclose(done.positions[:, 0], 0.1, atol=0.02)
    with pytest.raises(ValueError, match="they must be the same"):
        simulate(exact, jnp.zeros((3, 1)), 1, KEY, velocities=jnp.zeros(3))


@pytest.mark.slow
def test_every_trajectory_of_a_history_has_its_own_noise():
    def dynamics(count):
        settings = {"steps": 20, "shape": (2,), "time_step": 0.05, "temperature": TEMPERATURE, "window": 8}
        return HistoryGLE.of(Well(), KERNEL, 1.0, jax.random.key(1), trajectories=count, **settings)

    three = simulate(dynamics(3), jnp.zeros((3, 2)), 20, KEY)
    one = simulate(dynamics(1), jnp.zeros((1, 2)), 20, KEY)
    np.testing.assert_allclose(one.positions[0], three.positions[0], rtol=1e-5, atol=1e-7)
    assert not np.allclose(three.velocities[0] - three.velocities[0, 0], three.velocities[1] - three.velocities[1, 0])
    with pytest.raises(ValueError, match=r"4 trajectories of shape \(2,\), but the noise was drawn for 3"):
        simulate(dynamics(3), jnp.zeros((4, 2)), 20, KEY)
    with pytest.raises(ValueError, match="21 steps, but the noise was drawn for only 20"):
        simulate(dynamics(3), jnp.zeros((3, 2)), 21, KEY)


def test_numbers_that_are_not_finite_are_told_with_trajectory_and_time():
    starts = jnp.array([[-4.0], [-4.0], [1.4], [-4.0]])
    cliff = gle(Cliff(), temperature=1e-6)
    velocities = jnp.array([[0.0], [0.0], [3.0], [0.0]])
    with pytest.raises(ResultError, match=r"fall: trajectory 2 is not finite after 0\.\d+ ps \(step \d\); take a time"):
        simulate(cliff, starts, 5, KEY, velocities=velocities, label="fall")


def dynamics_of_every_kind(energy):
    settings = {"time_step": 0.05, "temperature": TEMPERATURE}
    drawn = {"steps": 4, "shape": (2,), "window": 3, "trajectories": 2}
    plain = GLE(energy, KERNEL, 1.0, **settings)
    return [
        plain,
        Annealing(plain, [0.0, 1.0], [TEMPERATURE, 2 * TEMPERATURE]),
        PositionDependentGLE(energy, FrictionTerm(KERNEL, jnp.cos, largest=1.0), 1.0, **settings),
        CaldeiraLeggett(energy, discretize(DrudeLorentz(1.0, 1.0), 4, 8.0), 1.0, **settings),
        HistoryGLE.of(energy, KERNEL, 1.0, jax.random.key(1), **settings, **drawn),
    ]


@pytest.mark.parametrize("kind", range(5))
def test_no_frame_is_written_that_is_not_finite(kind):
    written = []
    # Free motion never looks at the position.
    free = dynamics_of_every_kind(None)[kind]
    starts = jnp.asarray([[0.0, 0.0], [0.0, jnp.nan]])
    with pytest.raises(ResultError, match=r"trajectory 1 is not finite after 0.05 ps \(step 1\)"):
        simulate(free, starts, 4, KEY, chunk=1, writer=lambda *piece: written.append(piece))
    with pytest.raises(ResultError, match="not finite after step 1"):
        run(free, free.init(KEY, starts[1]), KEY, 4)
    # Whatever else is not finite is told before a frame shows it, at the next step at the latest.
    state = free.init(KEY, starts[0])
    for place, leaf in enumerate(jax.tree.leaves(state)):
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and leaf.size and not (kind < 3 and place == 2):
            leaves, structure = jax.tree.flatten(state)
            leaves[place] = jnp.full_like(leaf, jnp.nan)
            bad, _ = free.step(KEY, jax.tree.unflatten(structure, leaves))
            assert not free.healthy(bad)
    # A potential that is not finite where all else is.
    fallen = dynamics_of_every_kind(Lost())[kind]
    with pytest.raises(ResultError, match=r"step [12]\)"):
        simulate(fallen, jnp.zeros((2, 2)), 4, KEY, chunk=1, writer=lambda *piece: written.append(piece))
    for _, frames in written:
        assert all(np.isfinite(each).all() for each in frames)


def test_whole_numbers_are_positions():
    done = simulate(gle(), np.ones((2, 1), int), 2, KEY)
    np.testing.assert_array_equal(done.positions, simulate(gle(), jnp.ones((2, 1)), 2, KEY).positions)


def test_positions_need_an_axis_of_trajectories():
    with pytest.raises(ValueError, match=r"positions\[None\] for one"):
        simulate(gle(), jnp.zeros(()), 10, KEY)


def test_memory_holds_frames_and_not_steps():
    # The infos of all steps would be ten times as much as the frames.
    kept = []
    free = GLE(None, DeltaKernel(1.0), 1.0, time_step=0.1, temperature=TEMPERATURE)
    simulate(free, jnp.zeros((2, 1)), 40, KEY, every=20, progress=lambda done, steps, infos: kept.append(infos))
    assert kept == [()]
    plain = run(free, free.init(KEY, jnp.zeros(1)), KEY, 4)
    assert plain.infos.potential.shape == (4,)
