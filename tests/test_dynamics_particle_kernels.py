"""Particles with kernels of their own, and the matrices of their steps in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.dynamics import GLE, DeltaKernel, Embedding, ParticleKernels, PassiveKernel, PronyKernel, SumKernel
from jaxcg.dynamics.kernels.propagators import joint_propagators

SETTINGS = {"time_step": 0.1, "temperature": 300.0}
MASSES = np.array([1.0, 4.0, 1.0, 9.0])
TYPES = [0, 1, 1, 0]


def scalar_kernels():
    """Of different order."""
    return [PronyKernel([2.0], [1.0]), SumKernel(PronyKernel([3.0, 30.0, 0.1], [5.0, 50.0, 0.02]), DeltaKernel(0.7))]


def matrix_kernels():
    rng = np.random.default_rng(1)
    return [PassiveKernel(*(rng.normal(size=shape) for shape in ((n, 3), (n, n), (n, n)))) for n in (2, 4)]


@pytest.mark.parametrize("kernels", [scalar_kernels, matrix_kernels])
def test_each_particle_moves_by_its_own_kernel(x64, kernels):
    gle = GLE(None, ParticleKernels(kernels(), TYPES), MASSES, **SETTINGS)
    components = 1 if gle.scalar else 3
    rows = components + (3 if gle.scalar else 4)
    assert gle.step_matrix.shape == (rows, rows, 4)
    for particle, kind in enumerate(TYPES):
        alone = Embedding.of(kernels()[kind])
        step, noise = alone.propagator(MASSES[particle], 0.1)
        size = step.shape[0]
        np.testing.assert_allclose(gle.step_matrix[:size, :size, particle], step, atol=1e-13)
        # The root of a singular matrix amplifies round-off, its square does not.
        ours = np.asarray(gle.noise_matrix[:size, :size, particle])
        np.testing.assert_allclose(ours @ ours, noise @ noise, atol=1e-13)
        # Nothing couples to what fills shorter kernels up.
        np.testing.assert_array_equal(gle.step_matrix[:size, size:, particle], 0.0)
        np.testing.assert_array_equal(gle.step_matrix[size:, :size, particle], 0.0)
    # A step does what the matrices say: without noise (temperature zero in effect) on any velocities and auxiliaries.
    cold = GLE(None, ParticleKernels(kernels(), TYPES), MASSES, time_step=0.1, temperature=1e-300)
    state = gle.init(jax.random.key(0), jnp.zeros((4, 3)))
    assert state.auxiliaries.shape == ((3, 4, 3) if gle.scalar else (4, 4))
    new, _ = cold.step(jax.random.key(1), state)
    root = np.sqrt(MASSES)[:, None]
    for particle in range(4):
        u = (root * state.velocity)[particle]
        before = np.concatenate([u[None], state.auxiliaries[:, particle]]) if gle.scalar else None
        if before is None:
            before = np.concatenate([u, state.auxiliaries[:, particle]])
        after = np.asarray(gle.step_matrix[:, :, particle]) @ before
        np.testing.assert_allclose(
            (root * new.velocity)[particle], after[0] if gle.scalar else after[:3], rtol=1e-10, atol=1e-12
        )
        expected = after[1:] if gle.scalar else after[3:]
        np.testing.assert_allclose(new.auxiliaries[:, particle], expected, rtol=1e-10, atol=1e-12)


def test_one_kernel_for_all_is_the_plain_gle(x64):
    kernel = PronyKernel([2.0, 1.0], [1.0, 7.0])
    plain = GLE(None, kernel, MASSES, **SETTINGS)
    each = GLE(None, ParticleKernels([kernel], np.zeros(4, int)), MASSES, **SETTINGS)
    np.testing.assert_array_equal(plain.step_matrix, each.step_matrix)
    assert ParticleKernels([kernel] * 3).types.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["scalar", "masses", "particles", "coupled"])
def test_traced_numbers_give_the_same_matrices(x64, kind):
    kernel = {
        "scalar": lambda: Embedding.of(scalar_kernels()[1]),
        "masses": lambda: Embedding.of(scalar_kernels()[1]),
        "particles": lambda: ParticleKernels(matrix_kernels(), TYPES),
        "coupled": lambda: Embedding.of(matrix_kernels()[1]),
    }[kind]()
    masses = jnp.asarray({"scalar": 2.0, "masses": MASSES, "particles": MASSES, "coupled": MASSES[1:]}[kind])
    step = jnp.asarray(0.1)
    host = joint_propagators(kernel, masses, step)
    traced = jax.jit(lambda masses, step: joint_propagators(kernel, masses, step))(masses, step)
    np.testing.assert_allclose(host[0], traced[0], atol=1e-13)
    # The root of a singular matrix amplifies round-off, its square does not.
    squares = [jnp.einsum("ij...,jk...->ik...", noise, noise, precision="highest") for _, noise in (host, traced)]
    np.testing.assert_allclose(*squares, atol=1e-13)
    assert host[1].shape == traced[1].shape == host[0].shape


def test_single_precision_is_stationary_to_the_round_off_of_its_entries():
    # Rates over six decades: what single precision all the way makes of it is a bath of another temperature.
    embedding = Embedding.of(PronyKernel([3e5, 300.0, 3.0, 0.003], [1e4, 10.0, 0.1, 1e-3]))
    mass, step = jnp.asarray(30.0), jnp.asarray(1e-3)
    assert embedding.couplings.dtype == jnp.float32

    def error(pair):
        e, l = (np.asarray(m, np.float64) for m in pair)
        covariance = np.eye(5)
        return np.abs(e @ covariance @ e.T + l @ l.T - covariance).max()

    assert error(joint_propagators(embedding, mass, step)) < 4 * np.finfo(np.float32).eps


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: ParticleKernels([]), "at least one kernel"),
        (lambda: ParticleKernels([PronyKernel([1.0], [1.0]), *matrix_kernels()]), "all scalar or all of the same"),
        (lambda: ParticleKernels(scalar_kernels(), [0, 2]), "integers from 0 to 1"),
        (lambda: GLE(None, ParticleKernels(scalar_kernels(), TYPES), [1.0, 2.0], **SETTINGS), "2 masses for 4"),
        (
            lambda: start(ParticleKernels(scalar_kernels(), TYPES), (3, 3)),
            r"positions of shape \(3, 3\) for 4 particles",
        ),
        (lambda: start(ParticleKernels(matrix_kernels(), TYPES), (4, 2)), r"give \(particles, 3\)"),
        (lambda: start(matrix_kernels()[0], (4, 3)), "a kernel of 3 coordinates"),
    ],
)
def test_shapes_that_do_not_fit_are_told(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def start(kernel, shape):
    GLE(None, kernel, 1.0, **SETTINGS).init(jax.random.key(0), jnp.zeros(shape))
