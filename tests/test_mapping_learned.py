"""Learned maps: the losses against their definitions, and known groups found again from random starts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import optax
import pytest
from dipeptide import trajectory

from jaxcg.mapping import LinearMap
from jaxcg.mapping.force_maps import aggregating_force_map
from jaxcg.mapping.learned import (
    MapTrainer,
    SoftAssignment,
    force_moments,
    learn_map,
    mapped_force_variance,
    position_moments,
    reconstruction_error,
)
from jaxcg.mapping.optimal_force_maps import force_variance

TRUTH = np.random.default_rng(3).permutation(np.repeat(np.arange(4), [4, 3, 5, 2]))
N_ATOMS = len(TRUTH)
MASSES = np.random.default_rng(4).uniform(1, 16, N_ATOMS)


def blocks(frames=300, seed=0):
    """Positions and forces of a tumbling chain of four blobs, whose atoms are numbered at random.

    Within a blob atoms move together, up to 0.05 nm, and pull on each other with strong forces; between blobs there
    are only weak ones.
    """
    rng = np.random.default_rng(seed)
    centres = np.cumsum(rng.normal(scale=0.4, size=(frames, 4, 3)), axis=1)
    x = centres[:, TRUTH] + rng.normal(scale=0.05, size=(frames, N_ATOMS, 3))
    forces = rng.normal(scale=30, size=(frames, N_ATOMS, 3))
    for blob in range(4):
        atoms = np.flatnonzero(blob == TRUTH)
        for i, j in zip(atoms, np.roll(atoms, -1)):
            pull = rng.normal(scale=300, size=(frames, 3))
            forces[:, i] += pull
            forces[:, j] -= pull
    return moved(x, seed), forces


def moved(x, seed):
    """Every frame turned and shifted on its own."""
    rng = np.random.default_rng(seed)
    turns = np.linalg.qr(rng.normal(size=(len(x), 3, 3)))[0]
    return np.einsum("tij,taj->tai", turns, x) + rng.normal(scale=3, size=(len(x), 1, 3))


def same_groups(a, b):
    pairs = set(zip(np.asarray(a).tolist(), np.asarray(b).tolist()))
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist()))


def hard(groups, masses=None):
    shares = np.eye(groups.max() + 1)[groups].T * (1 if masses is None else masses)
    return shares / shares.sum(axis=1, keepdims=True)


# -- the assignment -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masses", [None, MASSES], ids=["geometry", "mass"])
def test_weights_are_normalised_and_harden(x64, masses):
    assignment = SoftAssignment.random(jax.random.key(0), 3, N_ATOMS, masses)
    for temperature in (10.0, 1.0, 1e-3):
        weights = np.asarray(assignment.weights(temperature))
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
        share = np.asarray(assignment.probabilities(temperature)) * (1 if masses is None else masses)
        np.testing.assert_allclose(weights, share / share.sum(axis=1, keepdims=True), atol=1e-12)
    x = np.random.default_rng(0).normal(size=(N_ATOMS, 3))
    mapping = assignment.harden()
    np.testing.assert_allclose(assignment(x, 1e-4), mapping(x), atol=1e-12)
    np.testing.assert_allclose(mapping.matrix().toarray(), hard(assignment.groups(), masses), atol=1e-12)
    np.testing.assert_allclose(assignment(x + 2, 1.0), assignment(x, 1.0) + 2, atol=1e-12)


def test_a_bead_that_no_atom_wants():
    logits = jnp.array([[4.0, 3.0, -900.0, -900.0], [0.0, 0.0, 5.0, 5.0], [-1.0, 0.0, 0.0, -1.0]])
    assignment = SoftAssignment(logits, None)
    weights = assignment.weights(0.01)
    assert np.all(np.isfinite(weights))
    gradient = jax.grad(lambda logits: jnp.sum(SoftAssignment(logits).weights(0.01)[:, 0]))(logits)
    assert np.all(np.isfinite(gradient))
    with pytest.raises(ValueError, match="bead 2 is the most likely one of no atom"):
        assignment.harden()


# -- the losses -----------------------------------------------------------------------------------------------------


def test_reconstruction_error_is_that_of_the_best_back_map(x64):
    """Least squares over frames for D with rows that sum to one, without noise on the beads."""
    x, _ = blocks(frames=50)
    weights = np.asarray(SoftAssignment.random(jax.random.key(1), 4, N_ATOMS).weights(1.0))
    error = reconstruction_error(jnp.asarray(weights), jnp.asarray(position_moments(x)), 0.0)
    y = np.einsum("Ia,tak->tIk", weights, x)
    # Rows that sum to one: positions relative to the first bead from beads relative to it.
    a = (y - y[:, :1])[:, 1:].transpose(0, 2, 1).reshape(-1, 3)
    b = (x - y[:, :1]).transpose(0, 2, 1).reshape(-1, N_ATOMS)
    residual = b - a @ np.linalg.lstsq(a, b, rcond=None)[0]
    assert float(error) == pytest.approx(np.sum(residual**2) / (len(x) * N_ATOMS), rel=1e-6)


def test_reconstruction_error_with_noisy_beads(x64):
    """Gaussian conditioning with a wide prior on where the molecule is."""
    x, _ = blocks(frames=50)
    weights = np.asarray(SoftAssignment.random(jax.random.key(1), 4, N_ATOMS).weights(1.0))
    moments, noise = position_moments(x), 0.03
    prior = moments + 1e4
    gain = prior @ weights.T @ np.linalg.inv(weights @ prior @ weights.T + 3 * noise**2 * np.eye(4))
    np.testing.assert_allclose(gain.sum(axis=1), 1, atol=1e-5)
    lost = np.eye(N_ATOMS) - gain @ weights
    expected = (np.trace(lost @ moments @ lost.T) + 3 * noise**2 * np.sum(gain**2)) / N_ATOMS
    assert float(reconstruction_error(jnp.asarray(weights), moments, noise)) == pytest.approx(expected, rel=1e-5)


def test_reconstruction_error_of_groups_is_their_scatter(x64):
    """For the true blobs the best back-map puts each atom nearly at its bead."""
    x, _ = blocks()
    moments, weights = jnp.asarray(position_moments(x)), jnp.asarray(hard(TRUTH))
    at_beads = x - np.einsum("Ia,tak->tIk", hard(TRUTH), x)[:, TRUTH]
    within = np.mean(np.sum(at_beads**2, axis=-1))
    assert 0.97 * within < float(reconstruction_error(weights, moments, 0.0)) <= within
    # Noise on the beads costs, and does not change which map is better.
    assert float(reconstruction_error(weights, moments, 0.05)) > within
    wrong = hard(np.roll(TRUTH, 1))
    assert float(reconstruction_error(jnp.asarray(wrong), moments, 0.0)) > 5 * within


def test_losses_do_not_see_how_frames_lie(x64):
    x, _ = blocks(frames=20)
    np.testing.assert_allclose(position_moments(moved(x, 9)), position_moments(x), atol=1e-12)


@pytest.mark.parametrize("masses", [None, MASSES], ids=["geometry", "mass"])
def test_force_variance_is_that_of_the_aggregating_map(x64, masses):
    _, forces = blocks(frames=30)
    members = [np.flatnonzero(blob == TRUTH).tolist() for blob in range(4)]
    mapping = LinearMap.center_of_geometry(members, N_ATOMS)
    if masses is not None:
        mapping = LinearMap.center_of_mass(members, masses)
    expected = 3 * force_variance(aggregating_force_map(mapping), forces).mean()
    weights = jnp.asarray(hard(TRUTH, masses))
    assert float(mapped_force_variance(weights, jnp.asarray(force_moments(forces)), masses)) == pytest.approx(expected)
    # A soft map against the definition of its force map.
    soft = np.asarray(SoftAssignment.random(jax.random.key(2), 3, N_ATOMS, masses).weights(2.0))
    scaled = soft if masses is None else soft / masses
    b = np.linalg.inv(scaled @ soft.T) @ scaled
    np.testing.assert_allclose(b @ soft.T, np.eye(3), atol=1e-9)
    expected = np.mean(np.sum(np.einsum("Ia,tak->tIk", b, forces) ** 2, axis=-1))
    assert float(mapped_force_variance(jnp.asarray(soft), force_moments(forces), masses)) == pytest.approx(expected)


@pytest.mark.slow
def test_gradients_by_finite_differences(x64):
    trainer = MapTrainer.of(3, *blocks(frames=20), masses=MASSES, force_weight=0.5)
    logits = trainer.init(jax.random.key(3)).assignment.logits

    def loss(logits):
        return trainer.loss(SoftAssignment(logits, MASSES).weights(1.5))

    jax.test_util.check_grads(loss, (logits,), order=1, modes=("rev",), atol=1e-6, rtol=1e-6)


# -- training -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_blocks_are_found_from_random_positions_of_the_logits():
    """Worked example: from random starts every hardened map is the map of the blobs."""
    x, _ = blocks()
    learned = learn_map(MapTrainer.of(4, x.astype(np.float32), masses=MASSES), jax.random.key(5), starts=6)
    assert same_groups(learned.assignment.groups(), TRUTH)
    expected = hard(TRUTH, MASSES)[np.argsort([TRUTH.tolist().index(k) for k in range(4)])]
    found = learned.mapping.matrix().toarray()
    order = np.argsort([np.flatnonzero(row)[0] for row in found])
    np.testing.assert_allclose(found[order], expected, atol=1e-6)
    # Cooling finds them from most starts, not from a lucky one.
    assert np.sum(learned.losses < learned.loss + 1e-2) >= 5
    assert learned.loss == learned.losses[learned.start] == learned.losses.min()
    assert learned.history.loss.shape == learned.history.temperature.shape == (6, 500)
    assert np.all(learned.history.loss[:, -1] < learned.history.loss[:, 0] - 1)
    assert learned.history.temperature[0, 0] == pytest.approx(10)
    assert learned.history.temperature[0, -1] == pytest.approx(0.1)


def test_blocks_are_found_from_forces_alone():
    _, forces = blocks()
    learned = learn_map(MapTrainer.of(4, None, forces.astype(np.float32)), jax.random.key(6), starts=8)
    assert same_groups(learned.assignment.groups(), TRUTH)


@pytest.mark.slow
def test_steps_by_hand_are_those_of_the_driver():
    x, forces = blocks(frames=30)
    schedule = optax.linear_schedule(3.0, 1.0, 10)
    trainer = MapTrainer.of(3, x, forces, temperature=schedule, optimiser=optax.sgd(0.1))
    key = jax.random.key(7)
    state = trainer.init(jax.random.split(key, 2)[0])
    step = eqx.filter_jit(trainer.step)
    losses = []
    for number in range(6):
        state, info = step(state)
        losses.append(float(info.loss))
        assert float(info.temperature) == pytest.approx(3 - 0.2 * number)
    learned = learn_map(trainer, key, steps=6, starts=2)
    np.testing.assert_allclose(learned.history.loss[0], losses, rtol=1e-4)
    assert int(state.step) == 6


def test_what_cannot_be_learned_is_refused():
    x, forces = blocks(frames=12)
    with pytest.raises(ValueError, match="positions, forces or both"):
        MapTrainer.of(2)
    with pytest.raises(ValueError, match="14 beads for 14 atoms"):
        MapTrainer.of(14, x)
    with pytest.raises(ValueError, match="masses of shape"):
        MapTrainer.of(2, x, masses=MASSES[:3])
    with pytest.raises(ValueError, match="forces on 13 atoms"):
        MapTrainer.of(2, x, forces[:, :13])
    # Nearly as many beads as atoms, thrown at random and not trained: some are empty.
    with pytest.raises(ValueError, match="ended with an empty bead"):
        learn_map(MapTrainer.of(13, x), jax.random.key(0), steps=1, starts=2)


@pytest.mark.slow
def test_worked_example_alanine_dipeptide():
    """Four beads from positions and forces: no bead parts a hydrogen from its atom, and a bead is each of the blocked
    ends, the amide between and the side chain with its CA, up to where the amide of the end goes."""
    x, forces, masses, constraints = trajectory()
    trainer = MapTrainer.of(4, x.astype(np.float32), forces.astype(np.float32), masses=masses.astype(np.float32))
    learned = learn_map(trainer, jax.random.key(0), starts=16)
    groups = learned.assignment.groups()
    assert np.all(groups[constraints[:, 0]] == groups[constraints[:, 1]])
    acetyl, side, amide, end = [0, 1, 2, 3], [8, 9, 10, 11, 12, 13], [4, 5, 6, 7], [18, 19, 20, 21]
    for bead in (acetyl, side, amide, end):
        assert len(set(groups[bead])) == 1
    assert len({groups[bead[0]] for bead in (acetyl, side, amide, end)}) == 4
