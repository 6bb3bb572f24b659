"""Relative entropy minimisation: the parameters under which the target's frames are most likely."""

import math
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.optimize import brentq
from scipy.special import expit

from ..consistency.statistics.block_errors import block_average
from ..energy.base import AbstractEnergy
from ..errors import ResultError
from ..typing import Array
from ..units import GAS_CONSTANT
from .ensemble import AbstractEnsembleFit, FitStep
from .targets import (
    Frames,
    ObservableTarget,
    Parameters,
    as_frames,
    located,
    parameter_vector,
    with_parameters,
    with_room,
)


class RelativeEntropyState(NamedTuple):
    """Fields:
    entropy: S_rel of the parameters that the last frames had, relative to the start.
    vector: (parameters,) these parameters.
    work: (frames,) what the last step added to the energies of those frames, kT; empty before the first.
    """

    entropy: Array
    vector: Array
    work: Array


class RelativeEntropy(AbstractEnsembleFit):
    """Minimises S_rel = β (⟨U⟩_target − A) + const over parameters λ of any energy, A the model's free energy.

    The gradient is β (⟨∂U/∂λ⟩_target − ⟨∂U/∂λ⟩_model). A step solves with the Fisher matrix β² cov(∂U/∂λ) over the
    model's frames ("fisher", the natural gradient, always downhill), or with the whole Hessian, which adds
    β (⟨∂²U/∂λ²⟩_target − ⟨∂²U/∂λ²⟩_model) ("newton"; where it is not positive that step is a natural gradient). For
    parameters that the energy is linear in the two are the same. Directions that the effective number of frames does
    not resolve are damped: parameters / effective frames is added to the eigenvalues of the matrix in units of its
    diagonal. A step is cut to a standard deviation of the added energy of ``largest_step`` kT over the frames: at
    0.5 no stiffness of a harmonic energy changes its sign; liquids of many atoms bear far more, for what is added there
    is a sum over many.

    Converged means that χ² = gᵀ C⁻¹ g per degree of freedom is at most 1 + 2 √(2/dof), two standard deviations above
    its mean for a gradient that is noise alone; C is the covariance of the gradient, with errors by blocking. The loss
    is S_rel relative to the start; of every step it has β⟨ΔU⟩_target and, by Bennett's acceptance ratio from the frames
    before and after, the change of the model's free energy. It decides nothing.

    With a ``constraint`` (a pressure) each step also closes its gap to first order, by a Lagrange multiplier with
    d⟨O⟩/dλ = ⟨∂O/∂λ⟩ − β cov(O, ∂U/∂λ); χ² then has the gradient along the constraint and the constrained average.

    Arguments:
        target: frames of the target in the coordinates of the model, in the order of time.
        temperature: K.
        parameters: which leaves are fitted, see `jaxcg.fit.targets`.
        second: "fisher" or "newton".
        largest_step: kT.
        constraint: an `ObservableTarget` of one number that must be met, or None. Its weight is not used.

    Raises:
        ValueError: numbers or frames that cannot be used.

    Source: Shell, J. Chem. Phys. 129, 144108 (2008); Chaimovich & Shell, J. Chem. Phys. 134, 094112 (2011) for the
    Hessian; Amari, Neural Comput. 10, 251 (1998) for the natural gradient; Bennett, J. Comput. Phys. 22, 245 (1976).
    """

    target: Frames
    temperature: float
    parameters: Parameters
    second: Literal["fisher", "newton"] = eqx.field(static=True)
    largest_step: float
    constraint: ObservableTarget | None

    def __init__(
        self,
        target: Frames,
        temperature: float,
        *,
        parameters: Parameters = None,
        second: Literal["fisher", "newton"] = "fisher",
        largest_step: float = 0.5,
        constraint: ObservableTarget | None = None,
    ):
        if not (temperature > 0 and largest_step > 0):
            raise ValueError("RelativeEntropy: the temperature and the largest step must be positive.")
        if second not in ("fisher", "newton"):
            raise ValueError(f"RelativeEntropy: second must be 'fisher' or 'newton', not {second!r}.")
        if constraint is not None and np.size(constraint.value) != 1:
            raise ValueError(f"RelativeEntropy: the constraint {constraint.name} must be one number.")
        if constraint is not None and constraint.combine is not None:
            raise ValueError(f"RelativeEntropy: the constraint {constraint.name} must be a plain average.")
        self.target = as_frames(target, "RelativeEntropy, target")
        self.temperature, self.parameters, self.second = float(temperature), parameters, second
        self.largest_step, self.constraint = float(largest_step), constraint

    def init(self, energy: AbstractEnergy) -> RelativeEntropyState:
        """Nothing has changed yet."""
        vector = parameter_vector(energy, self.parameters)
        return RelativeEntropyState(jnp.zeros(()), vector, jnp.zeros(0))

    def step(
        self, energy: Any, state: RelativeEntropyState, frames: Frames
    ) -> tuple[Any, RelativeEntropyState, FitStep]:
        """One step from ``frames`` of ``energy``.

        Raises:
            ResultError: energies or their derivatives are not finite.
        """
        beta = 1.0 / (GAS_CONSTANT * self.temperature)
        vector = np.asarray(parameter_vector(energy, self.parameters), np.float64)
        function = None if self.constraint is None else self.constraint.function
        frames = as_frames(frames, "RelativeEntropy, model")
        curved = self.second == "newton"
        reference = self._slopes(energy, self.target, curved, None, "target")
        model = self._slopes(energy, frames, curved, function, "model")

        gradient = beta * (reference.slopes.mean(axis=0) - model.slopes.mean(axis=0))
        noise, _ = _error_covariance(beta * reference.slopes)
        own_noise, size = _error_covariance(beta * model.slopes)
        noise = noise + own_noise
        fisher = beta**2 * np.atleast_2d(np.cov(model.slopes.T))
        matrix = fisher + beta * (reference.curvature - model.curvature)
        # A parameter that no frame depends on stays as it is.
        used = np.diag(fisher) > 0
        scale = np.where(used, 1.0 / np.sqrt(np.where(used, np.diag(fisher), 1.0)), 0.0)
        damping = len(vector) / size
        matrix = scale[:, None] * matrix * scale
        if curved and np.linalg.eigvalsh(matrix)[0] <= damping:
            matrix = scale[:, None] * fisher * scale
        inverse = scale[:, None] * np.linalg.inv(matrix + damping * np.eye(len(vector))) * scale

        change, spread = -inverse @ gradient, inverse @ noise @ inverse
        tangent, gap, row = np.eye(len(vector)), np.zeros(0), np.full(1, np.nan)
        if self.constraint is not None:
            row = model.observable
            deviations = row - row.mean()
            slope = model.observable_slopes.mean(axis=0) - beta * deviations @ model.slopes / (len(row) - 1)
            lever = inverse @ slope / (slope @ inverse @ slope)
            miss = row.mean() - float(np.reshape(self.constraint.value, ()))
            change = change - lever * (miss + slope @ change)
            project = np.eye(len(vector)) - np.outer(lever, slope)
            allowed = float(np.hypot(block_average(row).error, float(np.reshape(self.constraint.error, ()))))
            spread = project @ spread @ project.T + np.outer(lever, lever) * allowed**2
            # Directions along which the constrained average stays, in units in which parameters compare.
            tangent = scale[:, None] * np.linalg.svd((scale * slope)[None])[2][1:].T
            gap = np.array([miss / allowed])
        chi2, dof = _chi2(tangent.T @ gradient, tangent.T @ noise @ tangent)
        dof = dof + len(gap)
        chi2, limit = (chi2 + float(gap @ gap)) / max(dof, 1), 1.0 + 2.0 * math.sqrt(2.0 / max(dof, 1))

        size_of_change = math.sqrt(max(change @ fisher @ change, 0.0))
        if size_of_change > self.largest_step:
            change, size_of_change = change * self.largest_step / size_of_change, self.largest_step
        done = chi2 <= limit
        entropy = self._entropy(energy, state, frames, reference.energies, model.energies)
        record = FitStep(
            vector,
            entropy,
            chi2,
            limit,
            0.0 if done else size_of_change,
            size,
            np.where(used, np.sqrt(np.diag(spread)), np.nan),
            float(row.mean()),
        )
        here = jnp.asarray(vector, parameter_vector(energy, self.parameters).dtype)
        if done:
            return energy, RelativeEntropyState(jnp.asarray(entropy), here, jnp.zeros(len(model.energies))), record
        if not np.isfinite(change).all():
            raise ResultError("RelativeEntropy: the step is not finite; does the constraint depend on the parameters?")
        new = with_parameters(energy, self.parameters, jnp.asarray(vector + change, here.dtype))
        work = beta * (self._energies(new, frames) - model.energies)
        if not np.isfinite(work).all():
            raise ResultError("RelativeEntropy: energies after the step are not finite; make largest_step smaller.")
        return new, RelativeEntropyState(jnp.asarray(entropy), here, jnp.asarray(work)), record

    def _entropy(self, energy, state: RelativeEntropyState, frames: Frames, reference, model) -> float:
        """S_rel of ``energy`` relative to the start, from that of the step before."""
        if not state.work.size:
            return 0.0
        beta = 1.0 / (GAS_CONSTANT * self.temperature)
        before = with_parameters(energy, self.parameters, state.vector)
        added = beta * np.mean(reference - self._energies(before, self.target))
        back = beta * (self._energies(before, frames) - model)
        return float(state.entropy) + float(added) - _free_energy(np.asarray(state.work, np.float64), back)

    def _slopes(self, energy, frames: Frames, curved: bool, function, what: str) -> "_Slopes":
        for prepared in (lambda: energy, lambda: with_room(energy, frames)):
            slopes = _frame_slopes(prepared(), self.parameters, frames, curved, function)
            slopes = _Slopes(*(np.asarray(a, np.float64) for a in slopes))
            if all(np.isfinite(a).all() for a in slopes):
                return slopes
        raise ResultError(
            f"RelativeEntropy: the energy of the {what} frames, or its derivative by the parameters, is not finite; "
            "atoms overlap there, or a parameter left its range."
        )

    def _energies(self, energy, frames: Frames) -> np.ndarray:
        values = np.asarray(_frame_energies(energy, frames), np.float64)
        if not np.isfinite(values).all():
            values = np.asarray(_frame_energies(with_room(energy, frames), frames), np.float64)
        return values


class _Slopes(NamedTuple):
    """Of frames: U, ∂U/∂λ, mean ∂²U/∂λ², an observable and its own derivative by λ."""

    energies: Any
    slopes: Any
    curvature: Any
    observable: Any
    observable_slopes: Any


@eqx.filter_jit
def _frame_slopes(energy, parameters: Parameters, frames: Frames, curved: bool, function) -> _Slopes:
    vector = parameter_vector(energy, parameters)
    zero = jnp.zeros((vector.size, vector.size), vector.dtype)

    def one(total, frame):
        x, box = frame
        here = located(energy, x, box)

        def value(vector):
            return with_parameters(here, parameters, vector)(x)

        def observed(vector):
            return jnp.reshape(function(x, box, with_parameters(here, parameters, vector)), ())

        u, slope = jax.value_and_grad(value)(vector)
        total = total + jax.hessian(value)(vector) if curved else total
        seen = (jnp.zeros(()), jnp.zeros_like(vector)) if function is None else jax.value_and_grad(observed)(vector)
        return total, (u, slope, *seen)

    total, (u, slopes, seen, seen_slopes) = lax.scan(one, zero, frames)
    return _Slopes(u, slopes, total / len(frames.positions), seen, seen_slopes)


@eqx.filter_jit
def _frame_energies(energy, frames: Frames) -> Array:
    return lax.map(lambda frame: located(energy, *frame)(frame[0]), frames)


def _error_covariance(series: np.ndarray) -> tuple[np.ndarray, float]:
    """Covariance of the mean of (frames, parameters), and the least effective number of frames of a column.

    Errors are those of blocks, correlations between columns those of single frames.
    """
    estimate = block_average(series)
    covariance = np.atleast_2d(np.cov(series.T))
    deviation = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
    ratio = estimate.error / deviation
    sizes = np.append(estimate.effective_sample_size, len(series))
    return ratio[:, None] * covariance * ratio, float(max(np.nanmin(sizes), 1.0))


def _chi2(residual: np.ndarray, covariance: np.ndarray) -> tuple[float, int]:
    """rᵀ C⁻¹ r over the directions that have noise at all, and their number."""
    if not residual.size:
        return 0.0, 0
    deviation = np.sqrt(np.diag(covariance))
    if not (deviation > 0).any():
        return (0.0 if np.allclose(residual, 0.0) else math.inf), residual.size
    kept = deviation > 0
    residual, deviation = residual[kept] / deviation[kept], deviation[kept]
    values, vectors = np.linalg.eigh(covariance[np.ix_(kept, kept)] / np.outer(deviation, deviation))
    known = values > 1e-9 * values[-1]
    return float(np.sum((vectors[:, known].T @ residual) ** 2 / values[known])), int(known.sum())


def _free_energy(forward: np.ndarray, back: np.ndarray) -> float:
    """Free energy that a step adds, kT, from the work there over frames before and the work back over those after."""
    shift = math.log(len(forward) / len(back))

    def imbalance(free):
        return np.sum(expit(free - forward - shift)) - np.sum(expit(shift - back - free))

    ends = np.concatenate([forward + shift, shift - back])
    return float(np.asarray(brentq(imbalance, ends.min() - 50.0, ends.max() + 50.0)))
