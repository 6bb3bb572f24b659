"""Fits to ensembles: closed forms of harmonic models sampled exactly, derivatives by finite differences, resuming."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize

from jaxcg.consistency.structure import soft_radial_distribution
from jaxcg.energy.base import AbstractEnergy
from jaxcg.energy.bonded import HarmonicBond
from jaxcg.energy.pair_energy import PairEnergy
from jaxcg.energy.pair_potentials import LennardJones
from jaxcg.errors import InputError, ResultError
from jaxcg.fit.ensemble import FluidSampling, fit_ensemble
from jaxcg.fit.relative_entropy import RelativeEntropy, _chi2, _error_covariance, _frame_slopes
from jaxcg.fit.reweighting import Reweighting, reweighted_loss
from jaxcg.fit.targets import (
    Frames,
    ObservableTarget,
    compressibility_target,
    kish_size,
    parameter_vector,
    pressure_target,
    with_parameters,
)
from jaxcg.units import GAS_CONSTANT

#: Temperature at which kT is 1 kJ/mol.
ONE = 1 / GAS_CONSTANT


class Springs(AbstractEnergy):
    """U = ½ Σ k_i x_i²; atom i has 3 kT / k_i of mean square."""

    k: jax.Array

    def __call__(self, x):
        return 0.5 * jnp.sum(self.k * jnp.sum(x**2, axis=-1))


class Logarithmic(AbstractEnergy):
    """Springs in another parameter, k = exp(q), which the energy is not linear in."""

    q: jax.Array

    def __call__(self, x):
        return 0.5 * jnp.sum(jnp.exp(self.q) * jnp.sum(x**2, axis=-1))


def stiffness(energy):
    return energy.k if isinstance(energy, Springs) else jnp.exp(energy.q)


class Exact:
    """Independent frames of springs."""

    def __init__(self, frames):
        self.frames, self.calls = frames, 0

    def __call__(self, energy, key, last):
        self.calls += 1
        k = stiffness(energy)
        return Frames(jax.random.normal(key, (self.frames, len(k), 3)) / jnp.sqrt(k)[:, None])


def exact_frames(k, frames, seed):
    return Exact(frames)(Springs(jnp.asarray(k, jnp.float32)), jax.random.key(seed), None)


@pytest.fixture(scope="module")
def target():
    return exact_frames([1.0, 4.0], 2000, 100)


def best_stiffness(target):
    """The closed form: of all stiffnesses 3 kT / ⟨r²⟩ makes the frames most likely."""
    return 3.0 / np.mean(np.sum(np.asarray(target.positions) ** 2, axis=-1), axis=0)


@pytest.mark.parametrize(("second", "start"), [("fisher", Springs), ("fisher", Logarithmic), ("newton", Logarithmic)])
def test_relative_entropy_finds_the_closed_form(target, second, start):
    method = RelativeEntropy(target, ONE, second=second)
    wrong = jnp.array([2.5, 2.0])
    energy = start(wrong if start is Springs else jnp.log(wrong))
    result = fit_ensemble(method, energy, Exact(2000), jax.random.key(1), 20)
    assert result.status == "converged", result.message
    found, best = np.asarray(stiffness(result.energy)), best_stiffness(target)
    # Of a variance of 6000 numbers √(2/6000), and √2 for as many frames of the model as of the target.
    error = best * np.sqrt(2 / 6000) * np.sqrt(2)
    assert np.all(np.abs(found - best) < 4 * error)
    assert np.all(np.abs(wrong - best) > 15 * error)
    of_stiffness = result.history[-1].errors * (1 if start is Springs else best)
    np.testing.assert_allclose(of_stiffness, error, rtol=0.35)  # errors of blocks scatter
    # S_rel in closed form, per number ½ (k t − 1 − ln k t): loss counts from the start.
    relative = best_stiffness(target) ** -1 * np.asarray(wrong)
    whole = 1.5 * np.sum(relative - 1 - np.log(relative))
    assert result.history[-1].loss == pytest.approx(-whole, abs=0.05)


def test_bonds_of_a_gaussian_chain():
    """Bonds of rest length zero have stiffness 3 kT / ⟨r²⟩; only what is chosen is fitted."""
    bonds = np.stack([np.arange(3), np.arange(1, 4)], axis=1)

    def sample(energy, key, last):
        steps = jax.random.normal(key, (1000, 3, 3)) / jnp.sqrt(energy.stiffness)[:, None]
        return Frames(jnp.concatenate([jnp.zeros((1000, 1, 3)), jnp.cumsum(steps, axis=1)], axis=1))

    def chain(k):
        return HarmonicBond(bonds, np.zeros(3), np.full(3, k), n_atoms=4)

    target = sample(chain(300.0), jax.random.key(5), None)
    method = RelativeEntropy(target, ONE, parameters=lambda e: e.stiffness)
    result = fit_ensemble(method, chain(500.0), sample, jax.random.key(6), 20)
    assert result.status == "converged", result.message
    best = 3 / np.mean(np.sum(np.diff(np.asarray(target.positions), axis=1) ** 2, axis=-1), axis=0)
    np.testing.assert_allclose(result.energy.stiffness, best, rtol=4 * np.sqrt(2 / 3000))
    np.testing.assert_array_equal(result.energy.length, 0)


def test_step_is_limited_in_kt(target):
    """Far away, the step adds an energy with the standard deviation that was allowed, over the same frames."""
    energy = Springs(jnp.array([50.0, 0.2]))
    frames = Exact(500)(energy, jax.random.key(2), None)
    method = RelativeEntropy(target, ONE, largest_step=0.5)
    new, _, step = method.step(energy, method.init(energy), frames)
    added = jax.vmap(lambda x: new(x) - energy(x))(frames.positions)
    assert step.step == 0.5
    assert float(jnp.std(added)) == pytest.approx(0.5, rel=0.01)


def test_few_frames_damp_what_they_do_not_resolve(target):
    """Two parameters that do the same: the step stays bounded and is shared between them."""

    class Doubled(AbstractEnergy):
        k: jax.Array
        more: jax.Array

        def __call__(self, x):
            return Springs(self.k + self.more)(x)

    energy = Doubled(jnp.array([1.25, 1.0]), jnp.array([1.25, 1.0]))
    frames = exact_frames([2.5, 2.0], 500, 3)
    method = RelativeEntropy(target, ONE)
    new, _, _ = method.step(energy, method.init(energy), frames)
    np.testing.assert_allclose(new.k, new.more, rtol=1e-3)
    assert np.all(np.asarray(new.k) > 0)


def test_chi2_of_noise_alone_is_its_degrees_of_freedom():
    rng = np.random.default_rng(0)
    mixing = np.array([[1.0, 0.0, 0.0], [0.9, 0.3, 0.0], [0.2, 1.0, 2.0]])
    values = []
    for _ in range(300):
        series = rng.normal(size=(256, 3)) @ mixing.T
        covariance, size = _error_covariance(series)
        chi2, dof = _chi2(series.mean(axis=0), covariance)
        values.append(chi2)
        assert dof == 3
        assert size <= 256
    # 3 expected, standard error of the mean √(6/300) = 0.14; blocking scatters the errors by some per cent.
    assert np.mean(values) == pytest.approx(3.0, abs=0.6)


def test_constraint_is_met_and_the_rest_is_optimal(target):
    """Σ⟨r²⟩ held away from the target: compared with the constrained minimum in closed form."""
    best = best_stiffness(target)
    held = 0.8 * float(np.sum(3 / best))
    constraint = ObservableTarget("extent", lambda x, box, energy: jnp.sum(x**2), held, 0.01 * held)
    method = RelativeEntropy(target, ONE, constraint=constraint)
    result = fit_ensemble(method, Springs(jnp.array([2.0, 3.0])), Exact(4000), jax.random.key(8), 20)
    assert result.status == "converged", result.message
    exact = minimize(
        lambda k: 1.5 * np.sum(k / best - np.log(k)),
        [2.0, 3.0],
        constraints={"type": "eq", "fun": lambda k: np.sum(3 / k) - held},
    ).x
    np.testing.assert_allclose(result.energy.k, exact, rtol=0.08)
    assert np.all(np.abs(exact - best) > 0.1 * best * np.array([1, 0.1]))
    assert result.history[-1].constrained == pytest.approx(held, rel=0.04)


def lattice(count=3, spacing=1.15, frames=6, seed=0):
    rng = np.random.default_rng(seed)
    points = np.stack(np.meshgrid(*[np.arange(count) + 0.5] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * spacing
    return points + 0.05 * rng.normal(size=(frames, *points.shape)), count * spacing * np.eye(3)


def test_gradients_of_reweighted_averages_are_finite_differences(x64):
    """Of g(r), the pressure and a fluctuation, through the weights and through the energy in the pressure."""
    positions, box = lattice()
    frames = Frames(jnp.asarray(positions), jnp.asarray(np.stack([box * (1 + 0.01 * i) for i in range(6)])))
    energy = PairEnergy(LennardJones(1.0, 1.0, 1.7, shift="force"), 27, box=box)
    edges = np.linspace(0.8, 1.6, 6)
    targets = (
        ObservableTarget("g", lambda x, box, e: soft_radial_distribution(x, box, edges, 0.1), np.ones(5), 0.3),
        pressure_target(1.0, 0.2, ONE),
        compressibility_target(0.05, 0.1, ONE),
    )
    reference = jax.vmap(lambda x, box: energy.with_box(box)(x))(*frames)
    vector = parameter_vector(energy)
    assert vector.shape == (2,)

    def loss(vector):
        result = reweighted_loss(vector, energy, None, frames, reference, targets, ONE)
        return result.loss, result

    graded = jax.jit(jax.value_and_grad(loss, has_aux=True))
    moved = vector + jnp.array([0.003, 0.02])
    step, (_, result), gradient = 1e-5, *graded(moved)
    differences = [(graded(moved + step * d)[0][0] - graded(moved - step * d)[0][0]) / (2 * step) for d in np.eye(2)]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6)
    # The average itself, by hand.
    here = with_parameters(energy, None, moved)
    weights = np.exp(-(jax.vmap(lambda x, box: here.with_box(box)(x))(*frames) - reference))
    volumes = np.linalg.det(np.asarray(frames.boxes))
    mean = np.average(volumes, weights=weights)
    compressibility = np.average((volumes - mean) ** 2, weights=weights) / mean
    assert result.values[2] == pytest.approx(compressibility)
    assert result.effective_frames == pytest.approx(weights.sum() ** 2 / np.sum(weights**2))

    # d⟨P⟩/dλ = ⟨∂P/∂λ⟩ − cov(P, ∂U/∂λ)/kT, which a constraint uses.
    slopes = _frame_slopes(energy, None, frames, False, targets[1].function)
    deviation = slopes.observable - slopes.observable.mean()
    explicit = slopes.observable_slopes.mean(axis=0) - deviation @ slopes.slopes / 6

    def pressure(vector):
        return graded(vector)[0][1].values[1]

    differences = [(pressure(vector + step * d) - pressure(vector - step * d)) / (2 * step) for d in np.eye(2)]
    np.testing.assert_allclose(explicit, differences, rtol=1e-6)


def test_effective_number_of_frames():
    assert float(kish_size(jnp.log(jnp.array([1.0, 1.0, 2.0])) + 700.0)) == pytest.approx(16 / 6, rel=1e-4)
    assert float(kish_size(jnp.zeros(7))) == pytest.approx(7)


def extents(values, error=0.05):
    return ObservableTarget("extents", lambda x, box, energy: jnp.sum(x**2, axis=-1), np.asarray(values), error)


def test_reweighting_finds_the_closed_form_and_keeps_its_frames_in_number():
    method = Reweighting([extents([3.0, 1.0], 0.03)], ONE, optax.adam(0.1), threshold=0.6, updates=15)
    sample = Exact(1500)
    result = fit_ensemble(method, Springs(jnp.array([2.0, 2.0])), sample, jax.random.key(3), 25)
    assert result.status == "converged", result.message
    # ⟨r²⟩ = 3/k within 3 √(2/3)/√1500 of its mean and the error of the target.
    np.testing.assert_allclose(3 / np.asarray(result.energy.k), [3.0, 1.0], rtol=0.15)
    assert len(result.history) < 25
    assert all(step.effective_frames >= 0.6 * 1500 for step in result.history)
    assert result.history[-1].loss < 0.01 * result.history[0].loss


def test_an_update_that_would_leave_too_few_frames_is_shrunk():
    method = Reweighting([extents([0.3, 0.3])], ONE, optax.sgd(10.0), threshold=0.7)
    energy = Springs(jnp.array([2.0, 2.0]))
    frames = Exact(500)(energy, jax.random.key(4), None)
    new, _, step = method.step(energy, method.init(energy), frames)
    added = jax.vmap(lambda x: new(x) - energy(x))(frames.positions)
    effective = float(kish_size(-added))
    assert effective == pytest.approx(step.effective_frames, rel=1e-4)
    # Halving stops at the first that is allowed.
    assert 0.7 * 500 <= effective < 500


@pytest.mark.parametrize("kind", ["entropy", "reweighting"])
def test_a_resumed_fit_equals_an_uninterrupted_one(tmp_path, target, kind):
    if kind == "entropy":
        method = RelativeEntropy(target, ONE, largest_step=0.3)
    else:
        method = Reweighting([extents([3.0, 0.75])], ONE, optax.adam(0.02), updates=2)
    start, file = Springs(jnp.array([2.5, 2.0])), tmp_path / "fit.npz"

    def sample(energy, key, last):
        shift = 0.0 if last is None else 1e-3 * last.positions[-1]
        return Frames(exact(energy, key, None).positions + shift)

    exact = Exact(400)
    whole = fit_ensemble(method, start, sample, jax.random.key(7), 5)
    fit_ensemble(method, start, sample, jax.random.key(7), 2, checkpoint=file)
    resumed = fit_ensemble(method, start, sample, jax.random.key(7), 5, checkpoint=file)
    np.testing.assert_array_equal(whole.energy.k, resumed.energy.k)
    assert whole.status == resumed.status == "iterations"
    assert len(resumed.history) == 5
    for one, other in zip(whole.history, resumed.history, strict=True):
        np.testing.assert_array_equal(one.parameters, other.parameters)
        assert one.loss == pytest.approx(other.loss)
    calls = exact.calls
    again = fit_ensemble(method, start, sample, jax.random.key(7), 5, checkpoint=file)
    assert exact.calls == calls
    np.testing.assert_array_equal(whole.energy.k, again.energy.k)
    with pytest.raises(InputError, match="another run"):
        fit_ensemble(method, start, sample, jax.random.key(9), 5, checkpoint=file)


def test_a_failed_simulation_leaves_the_last_good_parameters(target):
    method = RelativeEntropy(target, ONE, largest_step=0.3)
    exact = Exact(400)

    def sample(energy, key, last):
        frames = exact(energy, key, last)
        return frames if exact.calls < 3 else Frames(frames.positions.at[7].set(jnp.nan))

    result = fit_ensemble(method, Springs(jnp.array([2.5, 2.0])), sample, jax.random.key(7), 9)
    assert result.status == "failed"
    assert "simulation 2" in result.message
    assert "frame 7 is not finite" in result.message
    assert len(result.history) == 2
    np.testing.assert_allclose(result.energy.k, result.history[-1].parameters)


def test_bad_input_is_refused(target):
    with pytest.raises(ValueError, match="four at least"):
        RelativeEntropy(Frames(np.zeros((2, 3, 3))), ONE)
    with pytest.raises(ValueError, match="positive"):
        RelativeEntropy(target, -1.0)
    with pytest.raises(ValueError, match="second"):
        RelativeEntropy(target, ONE, second="bfgs")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one target"):
        Reweighting([], ONE, optax.sgd(1.0))
    with pytest.raises(ValueError, match="extents"):
        Reweighting([extents([1.0, 1.0], 0.0)], ONE, optax.sgd(1.0))
    with pytest.raises(ValueError, match="no leaf"):
        parameter_vector(PairEnergy(LennardJones(1.0, 1.0, 1.0), 3, box=3 * np.eye(3)), lambda e: e.types)
    method, nan = RelativeEntropy(target, ONE), Springs(jnp.array([jnp.nan, 1.0]))
    with pytest.raises(ResultError, match="target"):
        method.step(nan, method.init(nan), target)


@pytest.mark.slow
def test_sigma_and_epsilon_of_a_fluid_from_its_frames():
    positions, box = lattice(count=5, spacing=1.2, frames=1)
    x, box = jnp.asarray(positions[0], jnp.float32), jnp.asarray(box, jnp.float32)

    def fluid(sigma, epsilon):
        return PairEnergy(LennardJones(sigma, epsilon, 2.5), 125, box=box)

    sample = FluidSampling(x, box, 1.0, ONE, 0.005, steps=4000, every=20, equilibration=400)
    long = FluidSampling(x, box, 1.0, ONE, 0.005, steps=8000, every=20, equilibration=800)
    target = long(fluid(1.0, 0.9), jax.random.key(0))
    method = RelativeEntropy(target, ONE, largest_step=10.0)
    result = fit_ensemble(method, fluid(0.95, 0.6), sample, jax.random.key(1), 12)
    assert result.status == "converged", result.message
    errors = result.history[-1].errors
    assert np.all(np.abs(parameter_vector(result.energy) - np.array([1.0, 0.9])) < 4 * errors)
    assert np.all(errors < [0.01, 0.1])
