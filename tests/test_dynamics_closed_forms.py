"""Motion with memory against closed forms: wells, chains of atoms, polymers, power laws, and the finite bath."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.memory import (
    exponential_velocity_correlation,
    fourier,
    harmonic,
    mittag_leffler,
    rouse_displacement,
    rouse_kernel,
    rouse_laplace,
    rubin_kernel,
    talbot,
)
from scipy.integrate import cumulative_simpson
from scipy.special import gamma, j0

from jaxcg.dynamics import (
    GLE,
    AbstractMemoryKernel,
    CaldeiraLeggett,
    DeltaKernel,
    DrudeLorentz,
    HistoryGLE,
    PassiveKernel,
    PowerLaw,
    PronyKernel,
    SumKernel,
    TabulatedKernel,
    discretize,
    extract_kernel,
    fit_passive_kernel,
    history_trajectory,
    linear_correlations,
    simulate,
)
from jaxcg.energy import DoubleWell, HarmonicBond, HarmonicPotential
from jaxcg.mapping import LinearMap
from jaxcg.run import run
from jaxcg.units import GAS_CONSTANT

TEMPERATURE = 1 / GAS_CONSTANT  # kT = 1


def oscillating():
    return PassiveKernel([1.5, -0.6], [[0.0, 3.0], [0.0, 0.0]], np.diag([1.0, 1.4]))


KERNELS = {
    "three exponentials": lambda: PronyKernel([2.0, 30.0, 0.05], [1.0, 10.0, 0.02]),
    "oscillating": oscillating,
    "with white noise": lambda: SumKernel(oscillating(), DeltaKernel(0.7)),
}


def relative(found, exact):
    return np.linalg.norm(np.asarray(found) - exact) / np.linalg.norm(exact)


def test_a_free_particle_with_one_exponential(x64):
    t, strength, rate = np.linspace(0, 20, 60), 2.0, 1.3
    found = linear_correlations(PronyKernel([strength], [rate]), 1.0, t, TEMPERATURE)
    exact = exponential_velocity_correlation(t, strength, rate)
    np.testing.assert_allclose(found.velocity, exact, atol=1e-13)
    # D = kT λ/c is half the slope of the displacement, which has an offset once the memory is over.
    late = linear_correlations(PronyKernel([strength], [rate]), 1.0, np.array([60.0, 80.0]), TEMPERATURE)
    assert np.diff(late.displacement)[0] / 40 == pytest.approx(rate / strength, rel=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_a_harmonic_well_with_any_kernel(x64, name):
    kernel, mass, omega, t = KERNELS[name](), 1.5, 1.2, np.linspace(0.05, 12, 25)
    velocity, position, _ = harmonic(lambda s: np.asarray(kernel.laplace(jnp.asarray(s))), mass, omega)
    found = linear_correlations(kernel, mass, t, TEMPERATURE, stiffness=mass * omega**2)
    # The integral over frequencies is cut off where the spectra have fallen as ω⁻⁴ and ω⁻².
    np.testing.assert_allclose(found.position, fourier(position, t, 400.0), atol=1e-9)
    np.testing.assert_allclose(found.velocity, fourier(velocity, t, 400.0), atol=5e-5)


def test_a_simulated_harmonic_well_with_an_oscillating_kernel(x64):
    kernel, count, dt, frames = oscillating(), 6000, 0.1, 40
    well = HarmonicPotential(1.44)
    positions = jax.random.normal(jax.random.key(0), (count,)) / 1.2
    found = simulate(
        GLE(well, kernel, 1.0, time_step=dt, temperature=TEMPERATURE), positions, 2 * frames, jax.random.key(1), every=2
    )
    first = np.asarray(positions)
    _, position, _ = harmonic(lambda s: np.asarray(kernel.laplace(jnp.asarray(s))), 1.0, 1.2)
    exact = fourier(position, found.times, 200.0, 2**13)
    products = found.positions * first[:, None]
    error = products.std(axis=0) / np.sqrt(count)
    # The step's own error is (ω dt)²/24 of the phase.
    assert (np.abs(products.mean(axis=0) - exact) < 4 * error + 2e-3).all()


@pytest.mark.slow
def test_a_simulated_well_with_a_kernel_that_has_no_embedding(x64):
    # A parabolic table: neither exponentials nor infinite in time. Its transform, known on the axis, is exact.
    dt, count, window = 0.05, 1500, 64
    kernel = TabulatedKernel(4.0 * (1 - np.minimum(dt * np.arange(window + 1) / 3.0, 1.0)) ** 2, dt)
    made = HistoryGLE.of(
        HarmonicPotential(1.44),
        kernel,
        1.0,
        jax.random.key(0),
        steps=1024,
        shape=(count,),
        time_step=dt,
        temperature=TEMPERATURE,
        window=window,
    )
    _, (x, _) = history_trajectory(made, made.init(jax.random.key(1), jnp.zeros(count)), 14, 64)
    x = np.asarray(x)[384:]  # without the way to equilibrium
    _, position, _ = harmonic(lambda s: np.asarray(kernel.laplace(jnp.asarray(s))), 1.0, 1.2)
    lags = np.arange(0, 160, 10)
    exact = fourier(position, dt * lags, 200.0, 2**12)
    each = np.array([[np.mean(x[k:] * x[: len(x) - k], axis=0)] for k in lags])[:, 0]
    error = each.std(axis=1) / np.sqrt(count)
    assert (np.abs(each.mean(axis=1) - exact) < 4 * error + 3e-3).all()


def test_a_finite_bath_forgets_and_remembers(x64):
    density, t = DrudeLorentz(1.0, 1.0), np.linspace(0, 10, 2001)
    exact = np.exp(-t)
    for oscillators, share in ((200, 1.8e-3), (1000, 6.1e-4)):
        bath = discretize(density, oscillators, 4 * np.sqrt(oscillators))
        assert relative(bath.memory_kernel(t), exact) == pytest.approx(share, rel=0.05)
        # At 2π/Δω evenly spaced oscillators are in phase again: Γ comes back, with the other sign for midpoints.
        assert bath.recurrence_time == pytest.approx(2 * np.pi * oscillators / (4 * np.sqrt(oscillators)), rel=1e-10)
        again = np.asarray(bath.memory_kernel(bath.recurrence_time + t))
        np.testing.assert_allclose(again, -np.asarray(bath.memory_kernel(t)), atol=1e-8)


def test_every_realisation_of_a_bath_obeys_the_generalised_langevin_equation(x64):
    # Not on average but frame by frame, in any potential: M a = F − ∫ Γ_N v + η, with η from the bath's own start.
    well, mass, dt, frames = DoubleWell(2.0, 1.0), 1.7, 0.01, 600
    bath = discretize(DrudeLorentz(2.0, 1.5), 60, 20.0)
    exact = CaldeiraLeggett(well, bath, mass, time_step=dt / 4, temperature=TEMPERATURE)
    start = exact.init(jax.random.key(3), jnp.array([0.4, -1.0]))
    done = run(exact, start, jax.random.key(0), 4 * frames, every=4, chunk=4 * frames, observe=_phase)
    x, v = (np.concatenate([np.asarray(a)[None], b]) for a, b in zip(_phase(start), done.observations, strict=True))
    t = dt * np.arange(frames + 1)
    omega, c = np.asarray(bath.frequencies)[:, None], np.asarray(bath.couplings)[:, None]
    z = np.asarray(start.displacement) - c / omega**2 * x[0]
    phase = omega[:, 0, None] * t
    noise = np.cos(phase).T @ (c * z) + np.sin(phase).T @ (c / omega * np.asarray(start.bath_velocity))
    kernel = np.asarray(bath.memory_kernel(t))
    memory = np.zeros_like(v)
    for k in range(1, frames + 1):
        memory[k] = cumulative_simpson(kernel[k::-1, None] * v[: k + 1], dx=dt, axis=0, initial=0)[-1]
    force = -np.asarray(jax.grad(lambda q: well(q))(jnp.asarray(x)))
    # Momentum is what the forces add up to.
    total = cumulative_simpson(force - memory + noise, dx=dt, axis=0, initial=0)
    np.testing.assert_allclose(mass * (v - v[0]), total, atol=2e-4)
    assert np.ptp(mass * v) > 3


def test_a_bath_starts_thermal_about_its_shifted_minima(x64):
    bath, count = discretize(DrudeLorentz(2.0, 1.5), 5, 4.0), 20_000
    start = CaldeiraLeggett(None, bath, 1.7, time_step=0.01, temperature=TEMPERATURE).init(
        jax.random.key(0), jnp.full(count, 3.0)
    )
    omega, c = np.asarray(bath.frequencies)[:, None], np.asarray(bath.couplings)[:, None]
    z = omega * (np.asarray(start.displacement) - 3.0 * c / omega**2)
    for white in (z, np.asarray(start.bath_velocity), np.sqrt(1.7) * np.asarray(start.velocity)[None]):
        assert np.abs(white.mean(axis=1)).max() < 4 / np.sqrt(count)
        assert np.abs(white.var(axis=1) - 1).max() < 4 * np.sqrt(2 / count)


def test_a_tagged_atom_of_a_harmonic_chain_has_the_bessel_correlation(x64):
    # Rubin's chain closed to a ring of 400: its Hessian from our bonds, its tagged atom by our map.
    atoms, mass, stiffness = 400, 3.0, 6.0
    ring = np.stack([np.arange(atoms), (np.arange(atoms) + 1) % atoms], axis=1)
    chain = HarmonicBond(ring, np.zeros(atoms), np.full(atoms, stiffness), n_atoms=atoms)
    mapping = LinearMap.slice([170], atoms)
    pull = jnp.zeros((atoms, 3)).at[0, 0].set(1.0)
    column = np.asarray(jax.grad(chain)(pull))[:, 0]  # the forces are linear
    index = (np.arange(atoms)[:, None] - np.arange(atoms)) % atoms
    squared, modes = np.linalg.eigh(column[index] / mass)
    frequencies = np.sqrt(np.maximum(squared, 0.0))
    highest = np.sqrt(4 * stiffness / mass)
    assert frequencies[-1] == pytest.approx(highest, rel=1e-12)
    tagged = np.asarray(mapping.matrix().toarray())[0] @ modes
    t = np.linspace(0, 40, 300)
    correlation_ = np.cos(np.outer(t, frequencies)) @ tagged**2 / mass
    np.testing.assert_allclose(correlation_, j0(highest * t) / mass, atol=1e-12)


@pytest.mark.parametrize(("method", "bound"), [("integral", 8e-4), ("first kind", 4e-4)])
def test_the_bessel_correlation_gives_the_kernel_of_the_chain_back(x64, method, bound):
    spacing = 0.05
    t = np.arange(0, 20, spacing)
    values = extract_kernel(j0(2 * t) / 3, None, 3.0, spacing, method=method).kernel.values
    assert relative(values, rubin_kernel(t[: len(values)], 3.0, 2.0)) < bound


SPRING, FRICTION, MASS = 1.0, 1.0, 0.1


def rouse():
    """Transforms of C_vv and MSD of the tagged bead with a little inertia."""
    velocity, _, displacement = harmonic(lambda s: rouse_laplace(s, SPRING, FRICTION), MASS, 0.0)
    return velocity, displacement


def test_the_memory_of_a_tagged_rouse_bead_is_extracted(x64):
    # White noise and a tail t^(−1/2) at once; G starts at the friction of the bead itself.
    velocity, _ = rouse()
    spacing, bound = 0.01, 0.005
    t = np.arange(0, 10, spacing)
    c = np.concatenate([[1 / MASS], talbot(velocity, t[1:])])
    found = extract_kernel(c, None, MASS, spacing)
    fine = np.linspace(0, 10, 20001)
    tail = cumulative_simpson(rouse_kernel(fine, SPRING, FRICTION), x=fine, initial=0)
    exact = FRICTION + np.interp(found.times, fine, tail)
    assert np.abs(np.asarray(found.integral) / exact - 1).max() < bound
    values = np.asarray(found.kernel.values)[5:]
    assert relative(values, rouse_kernel(spacing * np.arange(5, 5 + len(values)), SPRING, FRICTION)) < bound


class Closed(AbstractMemoryKernel):
    """A kernel by its closed form alone."""

    formula: object

    def __call__(self, t):
        return jnp.asarray(self.formula(np.asarray(t)))

    def laplace(self, s):
        raise NotImplementedError

    @property
    def coordinates(self):
        return None

    @property
    def friction(self):
        return jnp.zeros(())


def rouse_fit():
    return fit_passive_kernel(Closed(lambda t: rouse_kernel(t, SPRING, FRICTION)), duration=1000.0, families=("modes",))


def test_a_tagged_rouse_bead_moves_as_the_fourth_root_of_time(x64):
    # Eight exponentials carry the bead through five decades; at the end its MSD is 2kT √(t/πkζ).
    kernel = SumKernel(rouse_fit().kernel, DeltaKernel(FRICTION))
    t = np.geomspace(1e-2, 1e3, 26)
    _, displacement = rouse()
    found = np.asarray(linear_correlations(kernel, MASS, t, TEMPERATURE).displacement)
    np.testing.assert_allclose(found, talbot(displacement, t), rtol=1e-3)
    np.testing.assert_allclose(found[-6:], rouse_displacement(t[-6:], SPRING, FRICTION), rtol=1e-3)
    assert found[-1] == pytest.approx(2 * np.sqrt(t[-1] / (np.pi * SPRING * FRICTION)), rel=1e-3)


@pytest.mark.slow
def test_trajectories_of_a_rouse_bead(x64):
    # The drift's trapezoids add dt²/6 |C_vv′(0+)| for each unit of time.
    kernel = SumKernel(rouse_fit().kernel, DeltaKernel(FRICTION))
    _, displacement = rouse()
    count, dt = 2000, 0.02
    made = simulate(
        GLE(None, kernel, MASS, time_step=dt, temperature=TEMPERATURE),
        jnp.zeros(count),
        2500,
        jax.random.key(4),
        every=500,
    )
    squares = np.asarray(made.positions) ** 2
    error = squares.std(axis=0) / np.sqrt(count)
    wanted = talbot(displacement, made.times) + dt**2 / 6 * FRICTION / MASS**2 * made.times
    assert (np.abs(squares.mean(axis=0) - wanted) < 4 * error).all()


def test_fractional_friction_and_the_mittag_leffler_function(x64):
    # Γ̂ = γ s^(α−1), Γ = γ t^(−α)/Γ(1−α): infinite at zero and without a friction.
    alpha, strength = 0.5, 2.0
    velocity, _, _ = harmonic(lambda s: strength * s ** (alpha - 1), 1.0, 0.0)
    t = np.linspace(0.01, 4, 50)
    np.testing.assert_allclose(mittag_leffler(2 - alpha, -strength * t ** (2 - alpha)), talbot(velocity, t), atol=1e-10)
    spacing = 0.025
    t = spacing * np.arange(160)
    found = extract_kernel(mittag_leffler(2 - alpha, -strength * t ** (2 - alpha)), None, 1.0, spacing)
    times = np.asarray(found.times)
    exact = strength * times ** (1 - alpha) / gamma(2 - alpha)
    np.testing.assert_allclose(np.asarray(found.integral)[1:], exact[1:], rtol=5e-3)
    values = np.asarray(found.kernel.values)[5:]
    np.testing.assert_allclose(values, strength * t[5 : 5 + len(values)] ** -alpha / gamma(1 - alpha), rtol=5e-3)


@pytest.mark.slow
def test_a_power_law_is_passive_over_three_decades(x64):
    # A sub-Ohmic bath: the power law t^(−1/2) with a cutoff, so that it is finite at zero.
    density = PowerLaw(2.0, 1.0, 0.5)
    bath = Closed(lambda t: np.asarray(density.memory_kernel(jnp.asarray(t))))
    fit = fit_passive_kernel(bath, duration=1000.0, families=("modes",), tolerance=1e-3)
    t = np.geomspace(1, 1000, 31)
    found, exact = np.asarray(fit.kernel(jnp.asarray(t))), np.asarray(density.memory_kernel(jnp.asarray(t)))
    np.testing.assert_allclose(found, exact, rtol=0.02)
    slope = np.polyfit(np.log(t[10:]), np.log(found[10:]), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.01)
    assert bool(jnp.all(fit.kernel.spectrum(jnp.geomspace(1e-4, 1e2, 200)) >= 0))


def test_positions_of_a_simulation_have_no_bias_of_the_time_step(x64):
    # Γ = 2e^{−t}, ω = 1: another program's splitting is 1.03 % off in ⟨x²⟩ here.
    dt, trap = 0.2, 1.03e-2
    gle = GLE(HarmonicPotential(1.0), PronyKernel([2.0], [1.0]), 1.0, time_step=dt, temperature=TEMPERATURE)
    count = 4000
    positions = jax.random.normal(jax.random.key(0), (count,))
    made = simulate(gle, positions, 2500, jax.random.key(1), every=5)
    each = np.mean(np.asarray(made.positions) ** 2, axis=1)
    error = each.std() / np.sqrt(count)
    assert error < trap / 4
    assert abs(each.mean() - 1) < 4 * error
    kinetic = np.mean(np.asarray(made.velocities) ** 2)
    assert kinetic == pytest.approx(1 - dt**2 / 4, abs=4 * error)


@pytest.mark.parametrize("dt", [0.05, 0.2])
def test_an_oscillating_kernel_does_not_heat_a_simulation(x64, dt):
    # Another program is 9.2 and 58 % too hot at these time steps.
    kernel = PassiveKernel([3.0, 0.0], [[0.0, 5.0], [0.0, 0.0]], np.diag([1.5, 1.5]))
    count = 1500
    made = simulate(
        GLE(None, kernel, 1.0, time_step=dt, temperature=TEMPERATURE),
        jnp.zeros(count),
        round(20 / dt),
        jax.random.key(1),
        every=round(0.2 / dt),
    )
    each = np.mean(np.asarray(made.velocities) ** 2, axis=1)
    error = each.std() / np.sqrt(count)
    assert error < 0.01
    assert abs(each.mean() - 1) < 4 * error


def _phase(state):
    return state.position, state.velocity
