import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian

from jaxcg.errors import ResultError
from jaxcg.sampling import Torsions, rank_normalised_r_hat, sample

KEY = jax.random.key(5)
TORSIONS = Torsions(["one"], ["torsion"], ["threefold"], [[0, 1, 2, 3]])
SETTINGS = {"heat": 200, "hold": 200, "warmup": 20, "thin": 3, "step_size": 0.02, "steps": 6}


@pytest.fixture(autouse=True)
def strict_dtypes():
    """Nothing may be promoted silently: float32 runs stay float32 under x64 too."""
    with jax.numpy_dtype_promotion("strict"):
        yield


def starts(problem, chains, dtype=np.float32):
    return np.repeat(problem.mode[None], chains, axis=0).astype(dtype)


@pytest.mark.parametrize("noise", [None, 0.05])
def test_samples_of_a_gaussian(noise, tmp_path):
    problem = Gaussian(noise=noise)
    seen = []
    arguments = (problem.posterior, starts(problem, 4), KEY)
    settings = SETTINGS | {"samples": 102, "masses": problem.masses, "torsions": TORSIONS}
    result = sample(*arguments, **settings, progress=lambda *event: seen.append(event), checkpoint=tmp_path)
    assert result.positions.shape == (102, 8, 3)
    assert result.positions.dtype == np.float64
    assert [stage for stage, done, total in seen if done == total] == ["heating", "tuning", "sampling"]
    assert [stage for stage, done, _ in seen if done == 0] == ["heating", "tuning", "sampling"]
    np.testing.assert_array_equal(result.chain[:6], [0, 1, 2, 3, 0, 1])
    np.testing.assert_array_equal(result.trajectory[[0, 3, 4, 101]], [3, 3, 6, 78])
    assert result.trace.shape == (4, 78)
    # Energies belong to the positions.
    for i in (0, 50, 101):
        x = jnp.asarray(result.positions[i], jnp.float32)
        assert result.energies[i] == pytest.approx(float(problem.posterior.energy(x)), rel=1e-4)
        assert result.potentials[i] == pytest.approx(float(problem.posterior.potential(x)), rel=1e-4)
        assert result.potentials[i] == pytest.approx(result.trace[result.chain[i], result.trajectory[i] - 1], rel=1e-6)
    residual = np.abs(result.positions.reshape(102, -1) @ problem.matrix.T - problem.posterior.y.ravel()).max()
    assert residual < 1e-12 if noise is None else residual > 0.05
    # The law: each whitened coordinate's variance, loosely (test_sampling_hmc has the strict test).
    variance = problem.whiten(result.positions).var(axis=0)
    assert variance.mean() == pytest.approx(1, abs=0.25)
    statistics = result.statistics()
    assert statistics["excess_energy"] == pytest.approx(statistics["excess_energy_expected"], rel=0.2)
    assert 0.5 < statistics["acceptance"] < 0.99
    assert result.dimension == problem.dimension
    # Judged by every trajectory, not by the samples alone.
    assert [row.name for row in result.diagnosis.rows] == ["energy", "one"]
    assert result.r_hat == result.diagnosis.rows[0].r_hat == rank_normalised_r_hat(result.trace)
    assert result.torsions is not None
    assert result.torsions.draws == 78
    assert result.health.trajectories == 78
    assert statistics["verdict"] == result.verdict == result.diagnosis.sentence
    # Finished stages are read back: the same numbers, no work.
    again = sample(*arguments, **settings, checkpoint=tmp_path)
    np.testing.assert_array_equal(again.positions, result.positions)
    other = sample(problem.posterior, starts(problem, 4), jax.random.key(6), **settings | {"samples": 4})
    assert not np.array_equal(other.positions, result.positions[:4])


def test_a_chain_does_not_depend_on_how_many_others_there_are():
    problem = Gaussian()
    settings = SETTINGS | {"masses": problem.masses, "warmup": 0}
    few = sample(problem.posterior, starts(problem, 2), KEY, samples=2, **settings)
    many = sample(problem.posterior, starts(problem, 4), KEY, samples=4, **settings)
    np.testing.assert_allclose(few.positions, many.positions[:2], atol=1e-6)


def test_another_frame_does_not_compile_again():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration, **kwargs: compiled.append(event) if "backend_compile" in event else None
    )
    problem, key = Gaussian(n_atoms=9), jax.random.key(9)
    settings = SETTINGS | {"masses": problem.masses}
    sample(problem.posterior, starts(problem, 2), KEY, samples=3, **settings)
    first = len(compiled)
    other = Gaussian(n_atoms=9, temperature=310.0).posterior
    sample(other, starts(problem, 2), key, samples=8, **settings)
    # All but the float64 projection of the results, a closure that is tiny, is reused.
    assert len(compiled) - first <= 2 < first


@pytest.mark.slow
def test_chains_are_long_enough_to_judge_by_default():
    problem = Gaussian()
    settings = {**SETTINGS, "masses": problem.masses, "heat": 10, "hold": 0, "warmup": 0}
    settings.pop("thin")
    result = sample(problem.posterior, starts(problem, 2), KEY, samples=4, **settings)
    assert result.trace.shape == (2, 20)
    assert np.isfinite(result.r_hat)
    assert result.torsions is None
    short = sample(problem.posterior, starts(problem, 2), KEY, samples=4, thin=1, torsions=TORSIONS, **settings)
    assert np.isnan(short.r_hat)
    assert short.statistics()["r_hat_energy"] is None
    assert short.verdict == "Too short to judge: take more draws of each chain."
    # Every trajectory is a sample here: their angles are those that were watched.
    angle = TORSIONS.along(short.positions)[:, 0]
    assert short.torsions is not None
    assert short.torsions.mean[0] == pytest.approx(np.arctan2(np.sin(angle).mean(), np.cos(angle).mean()), abs=1e-4)


@pytest.mark.slow
def test_float64_all_the_way():
    with jax.enable_x64(True):
        problem = Gaussian(dtype=np.float64)
        result = sample(
            problem.posterior, starts(problem, 2, np.float64), KEY, samples=2, masses=problem.masses, **SETTINGS
        )
        assert result.step_size.dtype == np.float64


def test_bad_input_and_bad_ends():
    problem = Gaussian()
    with pytest.raises(ValueError, match="expected \\(chains, 8, 3\\)"):
        sample(problem.posterior, problem.mode, KEY, samples=1, masses=problem.masses)
    with pytest.raises(ValueError, match="at least one"):
        sample(problem.posterior, starts(problem, 2), KEY, samples=0, masses=problem.masses)
    wild = SETTINGS | {"step_size": 5.0}
    with pytest.raises(ResultError, match="burn-in: chain 0 is not finite"):
        sample(problem.posterior, starts(problem, 2), KEY, samples=2, masses=problem.masses, **wild)
    stuck = wild | {"heat": 0, "hold": 0, "warmup": 0}
    with pytest.raises(ResultError, match="not one trajectory"):
        sample(problem.posterior, starts(problem, 2), KEY, samples=2, masses=problem.masses, **stuck)
