"""Exact likelihood of observed trajectories under a generalised Langevin equation, and its maximum.

A trajectory of positions determines the forces of the potential of mean force at every frame. Given these, velocities
and auxiliaries of the BAOAB step are linear and Gaussian; their probability follows from a Kalman filter. Covariances
do not depend on the data; means are a chain of affine maps, which an associative scan works out in parallel.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax

from ...energy.base import AbstractEnergy
from ...errors import ResultError
from ...typing import Array, Scalar
from ...units import GAS_CONSTANT
from ..kernels.embedding import Embedding
from ..kernels.forms import AbstractMemoryKernel, require_positive

#: Frames after which the covariances of the filter are taken to have settled.
SETTLED = 2000


def log_likelihood(
    positions: Array,
    energy: AbstractEnergy | Callable[[Array], Scalar] | None,
    kernel: AbstractMemoryKernel,
    mass,
    *,
    time_step: float,
    temperature: float,
    settled: int = SETTLED,
) -> Scalar:
    """log p of trajectories of a coordinate under the BAOAB step of `GLE` from equilibrium velocities and auxiliaries.

    The density is that of the displacements given the first position. It is exact for the discretised dynamics, which
    has the right ⟨x²⟩ for any stable time step; frames must resolve the motion.

    Arguments:
        positions: (trajectories, frames) of one coordinate, nm; the trajectories are independent.
        energy: potential of mean force of the coordinate, kJ/mol: a function of an array (1,); None for free motion.
        kernel: scalar memory kernel with an exact embedding.
        mass: amu.
        time_step: between frames, ps.
        temperature: K.
        settled: frames after which the filter's covariances stay what they are.

    Source: Kalman filter with correlated noises, Anderson & Moore, Optimal Filtering (1979), sec. 5.4; means in
    parallel as in Särkkä & García-Fernández, IEEE Trans. Autom. Control 66, 299 (2021).
    """
    x = jnp.asarray(positions)
    if x.ndim != 2 or x.shape[1] < 3:
        raise ValueError(
            f"log_likelihood: positions of shape {x.shape}; give (trajectories, frames) of 3 or more frames."
        )
    thermal_energy = jnp.asarray(GAS_CONSTANT * temperature, x.dtype)
    step, noise = Embedding.of(kernel).propagator(mass, jnp.asarray(time_step))
    step, noise = step.astype(x.dtype), noise.astype(x.dtype)
    root = jnp.sqrt(jnp.asarray(mass, x.dtype))
    covariance = thermal_energy * jnp.matmul(noise, noise.T, precision="highest")
    kicks = jnp.zeros_like(x) if energy is None else time_step / root * _forces(energy, x)
    # Mean of √m v over each drift, before and after the Ornstein-Uhlenbeck step.
    observed = root * jnp.diff(x, axis=1) / time_step

    size = step.shape[0]
    first = jnp.zeros(size, x.dtype).at[0].set(1.0)
    look = 0.5 * (first + step[0])
    own = 0.25 * covariance[0, 0]
    shared = 0.5 * covariance[0]

    def settle(p, _):
        spread = jnp.dot(look, jnp.matmul(p, look, precision="highest"), precision="highest") + own
        cross = jnp.matmul(step, jnp.matmul(p, look, precision="highest"), precision="highest") + shared
        new = jnp.matmul(jnp.matmul(step, p, precision="highest"), step.T, precision="highest") + covariance
        new = new - jnp.outer(cross, cross) / spread
        return 0.5 * (new + new.T), (spread, cross / spread)

    count = observed.shape[1]
    _, (spreads, gains) = jax.lax.scan(
        settle, thermal_energy * jnp.eye(size, dtype=x.dtype), length=min(count, settled)
    )
    missing = count - spreads.shape[0]
    spreads = jnp.concatenate([spreads, jnp.broadcast_to(spreads[-1], (missing,))])
    gains = jnp.concatenate([gains, jnp.broadcast_to(gains[-1], (missing, size))])
    matrices = step - gains[:, :, None] * look

    def one(y, kick):
        # Means before each observation: half a kick precedes the first drift, a whole one every other.
        vectors = gains * y[:, None] + jnp.outer(kick[1:], first)
        start = 0.5 * kick[0] * first

        def chain(a, b):
            (m1, v1), (m2, v2) = a, b
            return jnp.matmul(m2, m1, precision="highest"), jnp.einsum(
                "...ij,...j->...i", m2, v1, precision="highest"
            ) + v2

        through, along = jax.lax.associative_scan(chain, (matrices, vectors))
        means = jnp.einsum("nij,j->ni", through, start, precision="highest") + along
        before = jnp.concatenate([start[None], means[:-1]])
        residual = y - jnp.matmul(before, look, precision="highest")
        return -0.5 * jnp.sum(residual**2 / spreads + jnp.log(2 * jnp.pi * spreads))

    # In units of displacements: y = √m Δx/Δt.
    jacobian = x.shape[0] * count * jnp.log(root / time_step)
    return jnp.sum(jax.vmap(one)(observed, kicks[:, : count + 1])) + jacobian


class LikelihoodFit(NamedTuple):
    """Result of `fit_likelihood`.

    Fields:
        parameters: the pytree that maximises the likelihood.
        log_likelihood: there.
        covariance: (numbers, numbers) inverse of the observed information, in the order of the flattened parameters.
        errors: the same pytree as the parameters, of standard errors.
        history: (steps,) log-likelihood along the way.
    """

    parameters: Any
    log_likelihood: float
    covariance: np.ndarray
    errors: Any
    history: np.ndarray


def fit_likelihood(
    positions: Array,
    model: Callable[[Any], tuple[Any, AbstractMemoryKernel, Any]],
    parameters: Any,
    *,
    time_step: float,
    temperature: float,
    optimizer: optax.GradientTransformationExtraArgs | None = None,
    steps: int = 200,
    tolerance: float = 1e-6,
) -> LikelihoodFit:
    """Maximum of the likelihood over parameters of potential, kernel and mass, with errors from the Hessian.

    Arguments:
        positions: (trajectories, frames), nm.
        model: makes (energy, kernel, mass) of the parameters, e.g. from logarithms of what must stay positive.
        parameters: pytree of numbers to start from.
        time_step: between frames, ps.
        temperature: K.
        optimizer: any optax transformation; L-BFGS with its line search when None.
        steps: most steps.
        tolerance: relative change of the log-likelihood at which to stop.

    Raises:
        ResultError: the likelihood is not finite at the start or on the way.
    """
    require_positive("fit_likelihood", "time step", time_step)
    optimizer = optax.lbfgs() if optimizer is None else optimizer
    frames = positions.shape[0] * positions.shape[1]

    def loss(p):
        energy, kernel, mass = model(p)
        value = log_likelihood(positions, energy, kernel, mass, time_step=time_step, temperature=temperature)
        return -value / frames

    @eqx.filter_jit
    def advance(p, state):
        value, gradient = jax.value_and_grad(loss)(p)
        updates, state = optimizer.update(gradient, state, p, value=value, grad=gradient, value_fn=loss)
        return optax.apply_updates(p, updates), state, value

    state, history, value = optimizer.init(parameters), [], np.inf
    for _ in range(steps):
        new, state, now = advance(parameters, state)
        now = float(now)
        if not np.isfinite(now):
            raise ResultError(
                "fit_likelihood: the likelihood is not finite; start from other parameters, or check that frames "
                "resolve the motion and positions are finite."
            )
        history.append(-now * frames)
        parameters, before, value = new, value, now
        if abs(before - value) <= tolerance * max(abs(value), 1e-12):
            break
    flat, unravel = jax.flatten_util.ravel_pytree(parameters)
    # By differences of the gradient: the second derivative of a scan takes longer to compile than all the rest.
    gradient = eqx.filter_jit(jax.grad(lambda v: loss(unravel(v)) * frames))
    width = float(jnp.finfo(flat.dtype).eps) ** (1 / 3)
    rows = []
    for i, number in enumerate(np.asarray(flat)):
        change = width * max(abs(float(number)), 1.0)
        rows.append((gradient(flat.at[i].add(change)) - gradient(flat.at[i].add(-change))) / (2 * change))
    hessian = np.stack([np.asarray(row, np.float64) for row in rows])
    covariance = np.linalg.inv(0.5 * (hessian + hessian.T))
    errors = unravel(jnp.asarray(np.sqrt(np.maximum(np.diag(covariance), 0.0)), flat.dtype))
    return LikelihoodFit(parameters, -value * frames, covariance, errors, np.asarray(history))


def _forces(energy, x: Array) -> Array:
    """Forces (trajectories, frames) of the potential of mean force."""
    each = jax.vmap(jax.grad(lambda q: energy(q[None])))
    return -each(x.ravel()).reshape(x.shape)
