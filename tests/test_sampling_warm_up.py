import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian
from test_sampling_hmc import check_moments

from jaxcg.energy import AbstractEnergy
from jaxcg.errors import ResultError
from jaxcg.posterior import Posterior
from jaxcg.run import run
from jaxcg.sampling import BlockGeometry, LinearGeometry, Torsions, burn_in, warm_up
from jaxcg.sampling.adaptation.burn_in import settled

KEY = jax.random.key(8)
TRACES = []
TORSIONS = Torsions(["one", "other"], ["torsion"] * 2, ["threefold"] * 2, [[0, 1, 2, 3], [4, 5, 6, 7]])


def observe(state):
    TRACES.append(1)
    return state.position, TORSIONS.observed(state)


def starts(problem, chains=32):
    return jnp.asarray(np.repeat(problem.mode[None], chains, axis=0), jnp.float32)


SETTINGS = {"heat": 60, "hold": 60, "limit": 600, "step_size": 0.03, "steps": 6, "chunk": 25, "observe": observe}


def test_from_the_mode_to_samples():
    problem = Gaussian()
    seen, stages = [], []

    def progress(stage, done, total):
        stages.append((stage, done, total))
        if stage == "tuning" and done >= 25:
            seen.append(len(TRACES))

    warm = warm_up(
        problem.posterior,
        starts(problem),
        KEY,
        masses=problem.masses,
        adapt="hessian",
        windows=(25, 25, 50),
        progress=progress,
        **SETTINGS,
    )
    assert warm.masses == "hessian"
    assert isinstance(warm.geometry, BlockGeometry)
    assert warm.burn_in is not None
    assert warm.burn_in.done
    assert warm.notes == ()
    assert warm.acceptance.mean() == pytest.approx(0.8, abs=0.1)
    # Directions vibrate alike: a few steps lead from one independent configuration to the next.
    assert warm.steps <= 6
    assert 0.0005 < warm.step_size < 0.004
    assert stages[0] == ("heating", 0, 120)
    assert stages[-1] == ("tuning", 100, 100)
    result = run(warm.kernel, warm.state, KEY, 500, observe=observe, chunk=25)
    assert len(TRACES) == seen[0]  # all windows and the run after them are one compiled kernel
    assert np.ptp(result.infos.step_size) == 0
    positions, angles = result.observations
    np.testing.assert_allclose(angles[::100], TORSIONS.along(positions[::100]), atol=1e-5)
    np.testing.assert_allclose(result.infos.step_size[0], warm.step_size)
    check_moments(problem, positions, result.infos.potential)


class Stopped(Exception):
    """The user, or the machine, stops the run."""


@pytest.mark.slow
@pytest.mark.parametrize("stop", [("heating", 1), ("tuning", 0), ("tuning", 75)])
def test_a_warm_up_that_was_stopped_goes_on_to_the_same_numbers(tmp_path, stop):
    problem = Gaussian()
    arguments = (problem.posterior, starts(problem), KEY)
    options = SETTINGS | {"masses": problem.masses, "adapt": "hessian", "windows": (25, 25, 50)}
    calls, stopped = [], []

    def progress(stage, done, total):
        calls.append((stage, done))
        if stage == stop[0] and done >= stop[1] and not stopped:
            stopped.append(done)
            raise Stopped

    with pytest.raises(Stopped):
        warm_up(*arguments, checkpoint=tmp_path, progress=progress, **options)
    before = len(calls)
    resumed = warm_up(*arguments, checkpoint=tmp_path, progress=progress, **options)
    assert before < len(calls)
    if stop[0] == "tuning":
        # Nothing that was done is done again.
        assert not any(stage == "heating" and done for stage, done in calls[before:])
    whole = warm_up(*arguments, **options)
    for name in ("step_size", "length", "steps", "gradients", "masses", "notes"):
        assert getattr(resumed, name) == getattr(whole, name), name
    np.testing.assert_array_equal(resumed.acceptance, whole.acceptance)
    for one, other in zip(jax.tree.leaves(resumed.state), jax.tree.leaves(whole.state), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_search_that_ended_at_its_bound_is_told_of():
    problem = Gaussian()
    options = SETTINGS | {"heat": 0, "hold": 0, "windows": (25, 25), "longest": 2, "steps": 2}
    start = jnp.asarray(problem.exact_draws(32), jnp.float32)
    warm = warm_up(problem.posterior, start, KEY, masses=problem.masses, adapt="hessian", **options)
    assert warm.steps == 2
    assert "the most allowed" in warm.notes[0]


@pytest.mark.slow
def test_masses_of_atoms_and_falling_back_to_them(monkeypatch):
    problem = Gaussian()
    options = SETTINGS | {"heat": 0, "hold": 0, "windows": (25, 25)}
    start = jnp.asarray(problem.exact_draws(8))
    monkeypatch.setattr("jaxcg.sampling.adaptation.warm_up.LARGEST_BLOCK", 5)
    warm = warm_up(problem.posterior, start, KEY, masses=problem.masses, adapt="bonded", **options)
    assert warm.masses == "variance"
    assert isinstance(warm.geometry, LinearGeometry)
    assert "hang together" in warm.notes[0]
    assert warm.burn_in is None
    spread = problem.covariance.diagonal().reshape(-1, 3).mean(axis=1)
    products = np.asarray(warm.geometry.masses) * spread
    assert products.max() / products.min() < 2
    kept = warm_up(problem.posterior, start, KEY, masses=problem.masses, adapt="given", **options)
    np.testing.assert_allclose(kept.geometry.masses, problem.masses, rtol=1e-6)


def test_burn_in_goes_on_until_it_is_done():
    problem = Gaussian()
    options = {"masses": problem.masses, "heat": 40, "hold": 40, "step_size": 0.03, "friction": 0.02}
    short = burn_in(problem.posterior, starts(problem), KEY, **options)
    assert not short.done
    assert "drifts" in short.reason or "temperature" in short.reason
    assert len(short.potential) == 80
    long = burn_in(problem.posterior, starts(problem), KEY, limit=4000, **(options | {"friction": 0.2}))
    assert long.done
    assert 80 < len(long.potential) < 4040
    assert len(long.potential) % 40 == 0
    excess = (long.potential[-40:].mean() - float(problem.posterior.potential(starts(problem)[0]))) / problem.kT
    assert excess == pytest.approx(problem.dimension / 2, rel=0.2)


def test_what_counts_as_settled():
    rng = np.random.default_rng(0)
    spread = np.sqrt(50) * 2.5
    flat = 1000 + spread * rng.normal(size=(200, 4))
    warm = 300 + 30 * rng.normal(size=(200, 4))
    rising = flat + np.linspace(0, 4 * spread, 200)[:, None]
    assert settled(flat, warm, 100, 300.0, 2.5)[0]
    done, reason = settled(rising, warm, 100, 300.0, 2.5)
    assert not done
    assert "still drifts" in reason
    done, reason = settled(flat, warm - 60, 100, 300.0, 2.5)
    assert not done
    assert "not at its target of 300 K" in reason
    assert not settled(flat[:12], warm[:12], 100, 300.0, 2.5)[0]
    assert not settled(flat * np.nan, warm, 100, 300.0, 2.5)[0]


def test_bad_settings_are_refused():
    problem = Gaussian()
    with pytest.raises(ValueError, match="windows"):
        warm_up(problem.posterior, starts(problem, 2), KEY, masses=problem.masses, windows=())
    with pytest.raises(ValueError, match="adapt"):
        warm_up(problem.posterior, starts(problem, 2), KEY, masses=problem.masses, adapt="best")  # pyright: ignore


class Hole(AbstractEnergy):
    """A well with a place whose energy is no number, while its gradient is."""

    def __call__(self, x):
        far = jax.lax.stop_gradient(jnp.where(x[0, 0] > 5, jnp.nan, 0.0))
        return 0.5 * jnp.sum(x**2) + far


def test_starts_that_cannot_be_used_are_refused():
    problem = Gaussian()
    good = starts(problem, 2)
    with pytest.raises(ValueError, match="no starting positions"):
        warm_up(problem.posterior, good[:0], KEY, masses=problem.masses)
    with pytest.raises(ValueError, match=r"chain 1 starts off"):
        warm_up(problem.posterior, good.at[1].add(0.3), KEY, masses=problem.masses)
    with pytest.raises(ValueError, match="cannot be negative"):
        burn_in(problem.posterior, good, KEY, masses=problem.masses, heat=-5)
    soft = Posterior(Hole(), problem.mapping, problem.posterior.y, 300.0, noise=1.0)
    with pytest.raises(ResultError, match="start of chain 1 is not finite"):
        burn_in(soft, good.at[1, 0, 0].set(7.0), KEY, masses=problem.masses, heat=2, hold=2)
