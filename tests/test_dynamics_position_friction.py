"""Position-dependent friction: the exact frozen step, equilibrium for any profile, order, and a nonlinear bath."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.linalg import expm, solve_discrete_lyapunov

from jaxcg.dynamics import (
    GLE,
    DeltaKernel,
    DrudeLorentz,
    Embedding,
    FrictionTerm,
    PassiveKernel,
    PositionDependentGLE,
    PronyKernel,
    SplineProfile,
    SumKernel,
    discretize,
    position_dependent_langevin,
    simulate,
)
from jaxcg.energy.base import AbstractEnergy
from jaxcg.typing import Array
from jaxcg.units import GAS_CONSTANT

#: kT = 1.
TEMPERATURE = 1 / GAS_CONSTANT


class Harmonic(AbstractEnergy):
    stiffness: Array

    def __call__(self, x):
        return 0.5 * jnp.sum(self.stiffness * x**2)


class Well(AbstractEnergy):
    """Two wells with a barrier of kT, lopsided."""

    def __call__(self, x):
        return jnp.sum((x**2 - 1) ** 2 + 0.3 * x)


class Step(eqx.Module):
    """Coupling that rises fivefold where the barrier is."""

    low: Array = eqx.field(default=0.4, converter=jnp.asarray)
    high: Array = eqx.field(default=2.0, converter=jnp.asarray)

    def __call__(self, x):
        return self.low + 0.5 * (self.high - self.low) * (1 + jnp.tanh(2 * x))


class Constant(eqx.Module):
    value: Array = eqx.field(converter=jnp.asarray)

    def __call__(self, x):
        return self.value * jnp.ones_like(x)


def kernels():
    return {
        "Prony": PronyKernel([2.0], [1.0]),
        "stiff": PronyKernel([2.0, 300.0, 0.05], [1.0, 100.0, 0.02]),
        "Markovian": DeltaKernel(jnp.asarray(3.0)),
        "both": SumKernel(PronyKernel([2.0], [1.0]), DeltaKernel(jnp.asarray(3.0))),
        "oscillating": PassiveKernel([3.0, 0.0], [[0.0, 20.0], [0.0, 0.0]], np.diag([0.1, 1.0])),
        "one noise for two": PassiveKernel([3.0, 0.0], [[0.0, 20.0], [0.0, 0.0]], [[0.0], [1.0]]),
    }


def dynamics(energy, kernel, profile, dt, mass=1.0, temperature=TEMPERATURE, largest=3.0):
    return PositionDependentGLE(
        energy, FrictionTerm(kernel, profile, largest=largest), mass, time_step=dt, temperature=temperature
    )


def advance(model, state, key, steps):
    """The state after ``steps`` steps, and position and velocity of every one of them."""

    def one(state, i):
        state, _ = model.step(jax.random.fold_in(key, i), state)
        return state, (state.position, state.velocity)

    return jax.lax.scan(one, state, jnp.arange(steps))


go = eqx.filter_jit(advance)


@pytest.mark.parametrize("name", list(kernels()))
@pytest.mark.parametrize("dt", [0.001, 0.3])
def test_the_frozen_step_is_the_exact_one_for_every_coupling(x64, name, dt):
    kernel, mass = kernels()[name], 2.5
    embedding = Embedding.of(kernel)
    (frozen,) = dynamics(None, kernel, Constant(1.0), dt, mass).frozen
    matrices = eqx.filter_jit(frozen.matrices)
    for g in (0.0, 0.01, 0.7, 1.0, -2.9):
        scaled = Embedding(g * embedding.couplings, embedding.drift, g**2 * embedding.friction, True)
        exact = expm(-dt * np.asarray(scaled.generator(jnp.asarray(mass))))
        step, noise = matrices(jnp.asarray(g / np.sqrt(mass)))
        np.testing.assert_allclose(step, exact, atol=1e-12)
        np.testing.assert_allclose(noise @ noise.T, np.eye(len(exact)) - exact @ exact.T, atol=1e-12)


@pytest.mark.parametrize("name", list(kernels()))
def test_a_profile_of_one_is_the_step_of_the_plain_equation(x64, name):
    kernel = kernels()[name]
    plain = GLE(None, kernel, 1.5, time_step=0.05, temperature=300.0)
    (frozen,) = dynamics(None, kernel, Constant(1.0), 0.05, 1.5).frozen
    step, noise = frozen.matrices(1 / jnp.sqrt(1.5))
    np.testing.assert_allclose(step, plain.step_matrix, atol=1e-12)
    np.testing.assert_allclose(noise @ noise.T, plain.noise_matrix @ plain.noise_matrix.T, atol=1e-12)


def affine(model, size):
    """The matrix of one step on (x, v, s), without noise: its Jacobian in a model at almost zero temperature."""
    cold = eqx.tree_at(lambda m: m.temperature, model, jnp.asarray(1e-40))
    blank = cold.init(jax.random.key(0), jnp.zeros(()), jnp.zeros(()))

    def step(vector):
        force = -jax.grad(model.energy)(vector[0]) if model.energy is not None else jnp.zeros(())
        new, _ = cold.step(jax.random.key(0), blank._replace(
            position=vector[0], velocity=vector[1], force=force, auxiliaries=vector[2:]
        ))  # fmt: skip
        return jnp.concatenate([jnp.stack([new.position, new.velocity]), new.auxiliaries])

    return np.asarray(jax.jit(jax.jacfwd(step))(jnp.ones(size)))


@pytest.mark.parametrize(("name", "g", "dt"), [("stiff", 1.0, 0.1), ("stiff", 1.7, 0.7), ("both", 1.7, 0.7)])
def test_positions_are_exact_for_harmonic_forces(x64, name, g, dt):
    model = dynamics(Harmonic(jnp.asarray(1.0)), kernels()[name], Constant(g), dt)
    step, noise = model.frozen[0].matrices(jnp.asarray(g))
    size = len(step) + 1
    after = np.eye(size)
    after[0, 1] = 0.5 * dt
    kick = np.eye(size)
    kick[1, 0] = -0.5 * dt
    spread = np.zeros((size, size - 1))
    spread[1:] = noise
    spread = kick @ after @ spread
    covariance = solve_discrete_lyapunov(affine(model, size), spread @ spread.T)
    assert covariance[0, 0] == pytest.approx(1.0, abs=1e-11)
    assert covariance[1, 1] == pytest.approx(1 - dt**2 / 4, abs=1e-11)


def test_several_terms_are_a_palindrome_of_second_order(x64):
    first, second = PronyKernel([2.0], [1.0]), PronyKernel([5.0, 1.0], [3.0, 0.2])

    def differ(dt):
        together = dynamics(None, SumKernel(first, second), Constant(1.2), dt)
        apart = PositionDependentGLE(
            None,
            [FrictionTerm(first, Constant(1.2), largest=2), FrictionTerm(second, Constant(1.2), largest=2)],
            1.0,
            time_step=dt,
            temperature=TEMPERATURE,
        )
        return np.abs(affine(together, 5) - affine(apart, 5)).max(), together, apart

    (coarse, _, _), (fine, together, apart) = differ(0.1), differ(0.05)
    assert coarse / fine == pytest.approx(8.0, rel=0.1)
    x = jnp.asarray([0.3, -1.0])
    np.testing.assert_allclose(apart.friction(x), 1.44 * (2 + 5 / 3 + 5) * np.ones(2), rtol=1e-12)
    np.testing.assert_allclose(together.friction(x), apart.friction(x), rtol=1e-12)


def test_without_noise_the_error_is_of_second_order(x64):
    def end(steps):
        model = dynamics(Well(), kernels()["Prony"], Step(), 2.0 / steps, temperature=1e-40)
        start = model.init(jax.random.key(0), jnp.asarray([1.6]))._replace(auxiliaries=jnp.asarray([[0.3]]))
        return go(model, start, jax.random.key(1), steps)[0].position[0]

    exact, coarse, fine = end(3200), end(50), end(100)
    assert (coarse - exact) / (fine - exact) == pytest.approx(4.0, rel=0.05)


def boltzmann(rng, count):
    """Independent positions of `Well` at kT = 1, by rejection."""
    x = rng.uniform(-2.8, 2.8, 40 * count)
    keep = rng.uniform(size=x.size) < np.exp(-((x**2 - 1) ** 2) - 0.3 * x - 0.36)
    return x[keep][:count]


@pytest.mark.parametrize("name", ["both", "oscillating", "Markovian"])
def test_equilibrium_stays_for_a_strongly_varying_coupling(x64, name):
    # Independent trajectories from the Boltzmann distribution: the effective sample size is their number.
    count = 20_000
    dt = 0.02 if name == "oscillating" else 0.05
    model = dynamics(Well(), kernels()[name], Step(), dt)
    x0 = boltzmann(np.random.default_rng(0), count)
    assert len(x0) == count
    start = model.init(jax.random.key(1), jnp.asarray(x0))
    assert float(jnp.var(start.auxiliaries)) == pytest.approx(1.0, abs=0.05) if start.auxiliaries.size else True
    state, _ = go(model, start, jax.random.key(2), 200)
    x, v = np.asarray(state.position), np.asarray(state.velocity)
    assert np.mean(np.sign(x) != np.sign(x0)) > 0.1  # they have been about
    edges = np.linspace(-2.0, 2.0, 21)
    fine = np.linspace(-3, 3, 60001)
    weight = np.exp(-((fine**2 - 1) ** 2) - 0.3 * fine)
    cumulative = np.cumsum(weight) / weight.sum()
    expected = np.diff(np.concatenate([[0.0], np.interp(edges, fine, cumulative), [1.0]])) * count
    counted = np.bincount(np.digitize(x, edges), minlength=len(expected))
    assert stats.chisquare(counted, expected).pvalue > 1e-3
    # Velocities are low by about (dt)²⟨U″⟩/4 as in the plain BAOAB; nothing depends on where they are.
    for part in (x < -0.5, x > 0.5, np.abs(x) <= 0.5):
        mean = np.mean(v[part] ** 2)
        assert mean == pytest.approx(1.0, abs=4 * np.sqrt(2 / part.sum()) + 2.5 * dt**2)
    for s in np.asarray(state.auxiliaries):
        assert np.mean(s**2) == pytest.approx(1.0, abs=4 * np.sqrt(2 / count))
        assert abs(np.mean(s * x)) < 4 * np.std(x) / np.sqrt(count)


@pytest.mark.slow
def test_harmonic_positions_are_exact_for_a_varying_coupling_and_a_long_step(x64):
    count, dt = 100_000, 1.0
    model = dynamics(Harmonic(jnp.asarray(1.0)), kernels()["both"], Step(), dt)
    start = model.init(jax.random.key(1), jax.random.normal(jax.random.key(5), (count,)))
    state, _ = go(model, start, jax.random.key(3), 30)
    error = np.sqrt(2 / count)
    assert np.mean(state.position**2) == pytest.approx(1.0, abs=4 * error)
    assert np.mean(state.velocity**2) == pytest.approx(1 - dt**2 / 4, abs=4 * error)


def test_a_bath_coupled_nonlinearly_gives_the_same_velocities(x64):
    """The ground truth: H = v²/2 + U + Σ ½ [w² + ω² (q − c G(x)/ω²)²] with G′ = g, Newton's equations."""
    count, dt, steps, every = 20_000, 0.02, 150, 10
    bath = discretize(DrudeLorentz(2.0, 3.0), 80, 40.0)
    omega, coupling = np.asarray(bath.frequencies)[:, None], np.asarray(bath.couplings)[:, None]
    energy = Well()

    def integral(x):  # G of `Step` with 0.2 and 1.8
        return 0.2 * x + 0.8 * (x + jnp.log(jnp.cosh(2 * x)) / 2)

    slope = Step(0.2, 1.8)
    x0 = jnp.asarray(boltzmann(np.random.default_rng(3), count))
    keys = jax.random.split(jax.random.key(4), 4)
    z0 = jax.random.normal(keys[0], (len(omega), count)) / omega
    w0 = jax.random.normal(keys[1], (len(omega), count))
    v0 = jax.random.normal(keys[2], (count,))
    sine, cosine, shift = np.sin(omega * dt), np.cos(omega * dt), coupling / omega**2

    @jax.jit
    def newton(x, v, q, w):
        def one(state, _):
            x, v, q, w = state
            x = x + 0.5 * dt * v
            z = q - shift * integral(x)
            passed = z * sine / omega + w * (1 - cosine) / omega**2
            v = v + slope(x) * jnp.sum(coupling * passed, axis=0) - dt * jax.grad(energy)(x)
            z, w = z * cosine + w * sine / omega, w * cosine - z * omega * sine
            return (x + 0.5 * dt * v, v, z + shift * integral(x), w), (x + 0.5 * dt * v, v)

        return jax.lax.scan(one, (x, v, q, w), None, length=steps)[1]

    x_bath, v_bath = newton(x0, v0, z0 + shift * integral(x0), w0)
    model = dynamics(energy, PronyKernel([6.0], [3.0]), slope, dt, largest=1.8)
    again = jnp.asarray(boltzmann(np.random.default_rng(4), count))
    _, (x_gle, v_gle) = go(model, model.init(keys[3], again), jax.random.key(6), steps)

    def compare(one, other, start, start_other):
        for i in range(every - 1, steps, every):
            a, b = np.asarray(one[i] * start), np.asarray(other[i] * start_other)
            error = np.sqrt((a.var() + b.var()) / count)
            assert abs(a.mean() - b.mean()) < 4 * error + 2e-3

    first = model.init(keys[3], again)
    compare(v_bath, v_gle, v0, first.velocity)
    # Where it starts matters: velocities that began on the side of strong coupling, and positions.
    compare(v_bath, v_gle, v0 * (x0 > 0), first.velocity * (again > 0))
    compare(x_bath, x_gle, x0, again)


@pytest.mark.slow
def test_gradients_agree_with_differences(x64):
    grid = np.linspace(-2, 2, 9)

    def loss(values, strength, friction, start):
        kernel = SumKernel(PronyKernel(strength, jnp.asarray([1.0, 7.0])), DeltaKernel(friction))
        model = dynamics(Well(), kernel, SplineProfile(grid, values), 0.05, largest=4.0)
        state, _ = advance(model, model.init(jax.random.key(0), start), jax.random.key(1), 20)
        return jnp.mean(state.position**2 + state.velocity * state.position)

    values = 1 + 0.5 * jnp.sin(jnp.asarray(grid))
    at = (values, jnp.asarray([2.0, 5.0]), jnp.asarray(0.7), jnp.asarray([0.3, -1.1, 0.9]))
    both = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))
    gradients = both(*at)[1]
    for i, gradient in enumerate(gradients):
        direction = jnp.cos(1.0 + jnp.arange(gradient.size)).reshape(gradient.shape)
        ahead, behind = list(at), list(at)
        ahead[i], behind[i] = at[i] + 1e-5 * direction, at[i] - 1e-5 * direction
        change = (both(*ahead)[0] - both(*behind)[0]) / 2e-5
        assert float(jnp.sum(gradient * direction)) == pytest.approx(float(change), rel=1e-6)


def test_each_particle_has_its_mass_and_a_profile_may_see_all_coordinates(x64):
    def height(x):
        return 1 + 0.5 * jnp.tanh(x[:, 2:])

    masses = jnp.asarray([1.0, 4.0])
    model = dynamics(None, kernels()["Prony"], height, 0.05, masses)
    x = jnp.asarray([[0.0, 0.0, 0.5], [0.0, 0.0, -0.5]])
    start = model.init(jax.random.key(0), x, jnp.zeros((2, 3)).at[:, 1].set(1.0))
    cold = eqx.tree_at(lambda m: m.temperature, model, jnp.asarray(1e-40))
    start = start._replace(auxiliaries=jnp.zeros_like(start.auxiliaries))
    state, _ = go(cold, start, jax.random.key(1), 1)
    for i in range(2):
        g = 1 + 0.5 * np.tanh(x[i, 2])
        generator = Embedding.of(PronyKernel(2.0 * g**2, 1.0)).generator(masses[i])
        np.testing.assert_allclose(state.velocity[i, 1], expm(-0.05 * np.asarray(generator))[0, 0], rtol=1e-10)
        assert state.velocity[i, 0] == pytest.approx(0.0, abs=1e-12)


def test_couplings_beyond_the_bound_are_cut_to_it(x64):
    model = dynamics(None, kernels()["Prony"], Constant(1.0), 0.05, largest=2.0)
    for c in (2.5, 1e6):
        for found, at_bound in zip(model.frozen[0].matrices(c), model.frozen[0].matrices(2.0), strict=True):
            np.testing.assert_array_equal(found, at_bound)


def test_langevin_dynamics_takes_the_friction_itself():
    def friction(x):
        return jnp.maximum(x, 0.0)

    model = position_dependent_langevin(None, friction, 2.0, time_step=0.1, temperature=1e-30)
    x = jnp.asarray([1.0, 50.0, -1.0], jnp.float32)
    start = model.init(jax.random.key(0), x, jnp.ones(3, jnp.float32))
    state, _ = go(model, start, jax.random.key(0), 1)
    assert state.velocity.dtype == jnp.float32
    np.testing.assert_allclose(state.velocity, np.exp(-0.1 * np.asarray([1.05, 50.05, 0.0]) / 2), rtol=1e-5)
    np.testing.assert_allclose(model.friction(x), [1.0, 50.0, 0.0], rtol=1e-6)
    slope = jax.grad(lambda x: jnp.sum(go(model, start._replace(position=x), jax.random.key(0), 1)[0].velocity))(x)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("dt", [0.001, 0.1])
def test_single_precision_keeps_the_temperature(dt):
    kernel = PronyKernel(jnp.asarray([2.0, 30.0], jnp.float32), jnp.asarray([1.0, 10.0], jnp.float32))
    model = dynamics(Harmonic(jnp.float32(1.0)), kernel, Step(jnp.float32(0.4), jnp.float32(2.0)), dt)
    start = model.init(jax.random.key(0), jax.random.normal(jax.random.key(5), (20_000,), jnp.float32))
    state, _ = go(model, start, jax.random.key(1), 1000)
    assert state.velocity.dtype == jnp.float32
    assert float(jnp.mean(state.velocity**2)) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 20_000) + dt**2 / 4)


@pytest.mark.slow
def test_the_profile_follows_its_table_and_stays_beyond_it(x64):
    grid = np.linspace(-1, 1, 41)
    profile = SplineProfile(grid, np.exp(grid))
    x = jnp.linspace(-0.9, 0.9, 50)
    np.testing.assert_allclose(profile(x), np.exp(x), rtol=1e-4)
    np.testing.assert_allclose(profile(jnp.asarray([-5.0, 5.0])), np.exp([-1.0, 1.0]), rtol=1e-12)
    assert float(jnp.max(jnp.abs(profile(jnp.linspace(-2, 2, 999))))) <= float(profile.largest)
    assert profile(jnp.asarray([0.1], jnp.float32)).dtype == jnp.float32


def test_the_driver_runs_it_and_knows_its_limit(x64):
    model = dynamics(Harmonic(jnp.asarray(100.0)), kernels()["both"], Step(), 0.05)
    assert model.largest_time_step(jnp.zeros(2)) == pytest.approx(0.2)
    done = simulate(model, jnp.zeros((3, 2)), 20, jax.random.key(0), every=10)
    assert done.positions.shape == (3, 2, 2)
    with pytest.raises(ValueError, match="limit of stability"):
        simulate(eqx.tree_at(lambda m: m.time_step, model, 0.3), jnp.zeros((3, 2)), 20, jax.random.key(0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FrictionTerm(DeltaKernel(jnp.eye(2)), Constant(1.0)), "matrix-valued"),
        (lambda: FrictionTerm(PronyKernel([1.0], [1.0]), Constant(1.0)), "give `largest`"),
        (lambda: FrictionTerm(PronyKernel([1.0], [1.0]), Constant(1.0), largest=0.0), "not positive"),
        (lambda: FrictionTerm(PronyKernel([-1.0], [1.0]), Constant(1.0), largest=1.0), "negative strength"),
        (lambda: PositionDependentGLE(None, [], 1.0, time_step=0.1, temperature=300.0), "at least one"),
        (lambda: dynamics(None, DeltaKernel(jnp.asarray(1.0)), Constant(1.0), 0.1, -1.0), "mass -1 is not positive"),
        (lambda: dynamics(None, DeltaKernel(jnp.asarray(1.0)), Constant(1.0), 0.1, jnp.ones((2, 2))), "masses"),
        (lambda: dynamics(None, PronyKernel([1e6], [1.0]), Constant(1.0), 10.0), "shorten the time step"),
        (lambda: SplineProfile([0.0], [1.0]), "two or more"),
        (lambda: SplineProfile([0.0, 1.0, 3.0], [1.0, 1.0, 1.0]), "equal steps"),
        (lambda: SplineProfile([0.0, 1.0], [1.0, np.nan]), "finite"),
    ],
)
def test_mistakes_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
