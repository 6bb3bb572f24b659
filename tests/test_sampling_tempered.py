"""From starts to weighted basins in one call, and the honesty of what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from butane import MASSES, TORSION, butane, weights

from jaxcg.run import run
from jaxcg.sampling import GeneralizedHMC, Ladder, ReplicaExchange, tempered_sample
from jaxcg.sampling.diagnostics.verdict import assess
from jaxcg.sampling.tempering.sample import weights_in_words

KEY = jax.random.key(0)
SETTINGS = {"masses": MASSES, "step_size": 0.011, "steps": 8, "heat": 0, "hold": 0, "torsions": TORSION}


@pytest.fixture(scope="module")
def result():
    posterior, start = butane()
    return tempered_sample(
        posterior,
        jnp.asarray(start[None]),
        KEY,
        draws=350,
        thin=2,
        ladder=Ladder.geometric(300.0, 2400.0, rungs=5),
        ladders=4,
        warmup=40,
        **SETTINGS,
    )


@pytest.mark.slow
def test_a_torsion_from_one_start(result):
    assert result.positions.shape == (4, 350, 4, 3)
    found, errors = result.torsions.populations[0], result.torsions.population_errors[0]
    # Wells of the table go from −120° on: gauche−, gauche+, trans.
    expected = weights()[[2, 0, 1]]
    assert np.all(errors[:3] < 0.06)
    assert np.all(np.abs(found[:3] - expected) < 4 * errors[:3])
    assert result.torsions.r_hat[0] < 1.05
    assert np.all(result.round_trips >= 5)
    assert "round trips per ladder" in result.weights
    assert "no weights" not in result.weights
    assert np.all((result.swap_acceptance > 0.3) & (result.swap_acceptance < 0.9))
    assert len(np.unique(result.replica[0])) == 5
    energies = np.array([butane()[0].potential(jnp.asarray(x)) for x in result.positions[1, :3]])
    np.testing.assert_allclose(result.potentials[1, :3], energies, rtol=1e-4)


@pytest.mark.slow
def test_no_weights_without_travel():
    posterior, start = butane()
    # Two rungs so far apart that nothing is exchanged.
    result = tempered_sample(
        posterior,
        jnp.asarray(start[None]),
        KEY,
        draws=30,
        ladder=Ladder([300.0, 40000.0]),
        ladders=2,
        warmup=4,
        **SETTINGS,
    )
    assert result.weights.startswith("Basins have no weights")
    assert result.weights in result.verdict


def test_one_ladder_proves_nothing():
    diagnosis = assess({"energy": np.random.default_rng(0).normal(size=(2, 400))})
    assert "unchecked" in weights_in_words(np.array([50]), diagnosis)
    assert "ladders agree" in weights_in_words(np.array([50, 60]), diagnosis)


@pytest.mark.slow
def test_generalised_hmc_keeps_the_temperature_of_every_rung():
    posterior, start = butane()
    ladder = Ladder([300.0, 450.0, 675.0])
    kernel = GeneralizedHMC(posterior, MASSES, step_size=0.008, steps=3, persistence=0.8)
    exchange = ReplicaExchange(kernel, ladder, vectorized=True)
    x = jnp.asarray(np.broadcast_to(start, (8, 3, 4, 3)))
    drawn = run(exchange, exchange.init(KEY, x), KEY, 500, observe=_velocities, chunk=250)
    assert drawn.infos.swapped.mean() > 0.2
    # ½ m v² of 9 free coordinates; without rescaling the rungs would mix.
    kinetic = 0.5 * (MASSES[:, None] * drawn.observations[50:] ** 2).sum(axis=(-2, -1)).mean(axis=(0, 1))
    np.testing.assert_allclose(2 * kinetic / 9 / 8.31446e-3, [300, 450, 675], rtol=0.06)


def _velocities(state):
    return state.rungs.velocity


def test_clear_errors():
    posterior, start = butane()
    with pytest.raises(ValueError, match="expected \\(chains, 4"):
        tempered_sample(posterior, jnp.asarray(start), KEY, draws=3, **SETTINGS)
    with pytest.raises(ValueError, match="at least one draw"):
        tempered_sample(posterior, jnp.asarray(start[None]), KEY, draws=0, **SETTINGS)
