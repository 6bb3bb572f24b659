"""Force matching by gradient, for energies that are not linear in their parameters."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ..energy.base import AbstractEnergy
from ..errors import ResultError
from ..typing import Array, Float, PRNGKeyArray
from .targets import Frames, Parameters, located, parameter_vector, with_parameters, with_room

#: Damping of Levenberg–Marquardt at first, and what it changes by.
_DAMPING, _CALMER, _BOLDER = 1e-3, 4.0, 0.2
_MOST_DAMPING = 1e12


class ForceDescent(NamedTuple):
    """Result of `match_forces`.

    Fields:
        energy: with the parameters of least loss that was seen.
        status: "converged", or "iterations" when they were used up.
        loss: (iterations + 1,) mean square of the force components that are left, (kJ/mol/nm)²; with batches, that of
            each batch before its update.
        errors: (parameters,) standard errors for independent residuals, NaN after optax.
    """

    energy: Any
    status: Literal["converged", "iterations"]
    loss: np.ndarray
    errors: np.ndarray


def match_forces(
    energy: AbstractEnergy,
    frames: Frames,
    forces: Float[Array | np.ndarray, "frames atoms 3"],
    iterations: int,
    *,
    parameters: Parameters = None,
    optimizer: optax.GradientTransformation | None = None,
    batch: int | None = None,
    key: PRNGKeyArray | None = None,
    tolerance: float = 1e-6,
    progress: Callable[[int, int, float], None] | None = None,
) -> ForceDescent:
    """Minimises ⟨|F + ∂U_λ/∂x|²⟩ over any parameters λ of an energy.

    Without an optimizer by Levenberg–Marquardt: every iteration sums JᵀJ and Jᵀr over all frames, with the exact
    Jacobian of the forces, and takes a damped Gauss–Newton step; few parameters are found to rounding in a handful of
    iterations. With an optax optimizer by stochastic gradients over batches of frames, for networks.

    Arguments:
        energy: with the parameters to start from.
        frames: positions and boxes of the target.
        forces: (frames, atoms, 3) on them, kJ/mol/nm.
        iterations: most steps.
        parameters: which leaves are fitted, see `jaxcg.fit.targets`; None for all real leaves but boxes and lists.
        optimizer: of optax; None for Levenberg–Marquardt.
        batch: frames of a step with an optimizer; all when None.
        key: draws the batches; needed for fewer than all frames.
        tolerance: converged when a step would lessen the loss by less than this share of it, or of 1e-12 of the mean
            square force. (With an optimizer there is no such test.)
        progress: called as ``progress(done, iterations, loss)``.

    Returns:
        The `ForceDescent`.

    Raises:
        ValueError: shapes do not fit, forces are not finite, or batches without a key.
        ResultError: the loss is not finite at the start.

    Source: Levenberg–Marquardt: Nocedal & Wright, Numerical Optimization (Springer, 2006), section 10.3.
    """
    x, f = np.asarray(frames.positions), np.asarray(forces)
    if f.shape != x.shape or iterations < 1:
        raise ValueError(
            f"match_forces: forces have the shape {f.shape} and positions {x.shape}; give a force for every position, "
            "and one iteration or more."
        )
    bad = np.flatnonzero(~np.isfinite(f).all(axis=(1, 2)))
    if bad.size:
        raise ValueError(f"match_forces: forces of frame {bad[0]} are not finite; leave the frame out.")
    energy = with_room(energy, frames)
    boxes = None if frames.boxes is None else jnp.asarray(frames.boxes)
    data = (jnp.asarray(x), boxes, jnp.asarray(f))
    if optimizer is not None:
        return _descend(energy, data, iterations, parameters, optimizer, batch, key, progress)
    return _least_squares(energy, data, iterations, parameters, tolerance, progress)


def _least_squares(energy, data, iterations: int, parameters, tolerance: float, progress) -> ForceDescent:
    vector = parameter_vector(energy, parameters)
    scale = float(np.mean(np.square(np.asarray(data[2], np.float64))))
    normal, right, loss = _host(_normal_equations(vector, energy, parameters, data))
    _require_finite(loss)
    losses, damping, status = [loss], _DAMPING, "iterations"
    for number in range(iterations):
        diagonal = np.diag(normal)
        diagonal = np.where(diagonal > 0, diagonal, 1.0)
        while True:
            step = np.linalg.solve(normal + damping * np.diag(diagonal), -right)
            trial = vector + jnp.asarray(step, vector.dtype)
            found = _host(_normal_equations(trial, energy, parameters, data))
            if np.isfinite(found[2]) and found[2] <= loss:
                break
            damping *= _CALMER
            if damping > _MOST_DAMPING:
                trial, found = vector, (normal, right, loss)
                break
        gain = loss - found[2]
        vector, (normal, right, loss) = trial, found
        damping = max(damping * _BOLDER, 1e-12)
        losses.append(loss)
        if progress is not None:
            progress(number + 1, iterations, loss)
        if gain <= tolerance * loss + 1e-12 * scale:
            status = "converged"
            break
    count = data[0].size
    covariance = np.linalg.pinv(normal, rcond=1e-12, hermitian=True) * loss / max(1 - len(vector) / count, 1 / count)
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0) / count)
    return ForceDescent(with_parameters(energy, parameters, vector), status, np.asarray(losses), errors)


def _descend(energy, data, iterations: int, parameters, optimizer, batch, key, progress) -> ForceDescent:
    frames = len(data[0])
    batch = frames if batch is None else min(batch, frames)
    if batch < frames and key is None:
        raise ValueError("match_forces: batches are drawn at random; give a key.")
    vector: Any = parameter_vector(energy, parameters)
    best: Any = vector
    state, losses, least = optimizer.init(vector), [], np.inf
    for number in range(iterations):
        part = data
        if batch < frames:
            assert key is not None
            chosen = jax.random.choice(jax.random.fold_in(key, number), frames, (batch,), replace=False)
            part = jax.tree.map(lambda a: a[chosen], data)  # noqa: B023
        loss, gradient = _loss_and_gradient(vector, energy, parameters, part)
        if number == 0:
            _require_finite(float(loss))
        if not (bool(jnp.isfinite(loss)) and bool(jnp.all(jnp.isfinite(gradient)))):
            break
        losses.append(float(loss))
        if losses[-1] < least:
            least, best = losses[-1], vector
        change, state = optimizer.update(gradient, state, vector)
        vector = optax.apply_updates(vector, change)
        if progress is not None:
            progress(number + 1, iterations, losses[-1])
    if batch < frames:
        best = vector  # losses of different batches do not say which parameters are best
    unknown = np.full(len(vector), np.nan)
    return ForceDescent(with_parameters(energy, parameters, best), "iterations", np.asarray(losses), unknown)


def _require_finite(loss: float) -> None:
    if not np.isfinite(loss):
        raise ResultError(
            "match_forces: the forces of the starting parameters are not finite on these frames; start from others, or "
            "check the positions."
        )


def _host(found) -> tuple[np.ndarray, np.ndarray, float]:
    normal, right, loss = found
    return np.asarray(normal, np.float64), np.asarray(right, np.float64), float(loss)


def _forces(vector, energy, parameters, x, box):
    return -jax.grad(lambda x: with_parameters(located(energy, x, box), parameters, vector)(x))(x)


@eqx.filter_jit
def _normal_equations(vector, energy, parameters, data):
    """Means over components of JᵀJ and Jᵀr, r = F_λ − F, and of r²."""

    def one(total, frame):
        x, box, wanted = frame

        def residual(vector):
            return (_forces(vector, energy, parameters, x, box) - wanted).ravel()

        left, jacobian = residual(vector), jax.jacfwd(residual)(vector)
        found = (
            jnp.matmul(jacobian.T, jacobian, precision="highest"),
            jnp.matmul(jacobian.T, left, precision="highest"),
            jnp.sum(left**2),
        )
        return jax.tree.map(jnp.add, total, found), None

    size = vector.shape[0]
    zero = jnp.zeros((size, size), vector.dtype), jnp.zeros(size, vector.dtype), jnp.zeros((), vector.dtype)
    total, _ = lax.scan(one, zero, data)
    return jax.tree.map(lambda a: a / data[0].size, total)


@eqx.filter_jit
def _loss_and_gradient(vector, energy, parameters, data):
    def loss(vector):
        @jax.checkpoint
        def one(total, frame):
            x, box, wanted = frame
            return total + jnp.sum((_forces(vector, energy, parameters, x, box) - wanted) ** 2), None

        return lax.scan(one, jnp.zeros((), vector.dtype), data)[0] / data[0].size

    return jax.value_and_grad(loss)(vector)
