"""Fits of averages over frames that are reweighted as the parameters move (DiffTRe)."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ..consistency.statistics.block_errors import block_average
from ..energy.base import AbstractEnergy
from ..errors import ResultError
from ..typing import Array, Float, Scalar
from ..units import GAS_CONSTANT
from .ensemble import AbstractEnsembleFit, FitStep
from .targets import (
    Frames,
    ObservableTarget,
    Parameters,
    as_frames,
    kish_size,
    located,
    parameter_vector,
    with_parameters,
    with_room,
)


class Reweighted(NamedTuple):
    """Averages over the frames of one energy as those of another.

    Fields:
        loss: Σ over targets of weight × mean of ((⟨O⟩ − O*) / σ)².
        values: per target what is compared with its value.
        effective_frames: Kish's (Σw)² / Σw².
    """

    loss: Scalar
    values: tuple[Array, ...]
    effective_frames: Scalar


def reweighted_loss(
    vector: Float[Array, " parameters"],
    energy: Any,
    parameters: Parameters,
    frames: Frames,
    reference: Float[Array, " frames"],
    targets: Sequence[ObservableTarget],
    temperature: float | Array,
) -> Reweighted:
    """Loss and averages at parameters ``vector`` from frames of others; differentiable in ``vector``.

    Frame i has the weight w_i ∝ exp(−(U_λ(x_i) − U_ref(x_i)) / kT); derivatives act on the weights and on observables
    that depend on the energy, in the memory of one frame.

    Arguments:
        vector: parameters λ, as `parameter_vector` gives them.
        energy: whose fitted leaves λ replaces.
        parameters: which these are.
        frames: of the reference energy.
        reference: (frames,) U_ref of them, kJ/mol.
        targets: what is averaged.
        temperature: K.

    Source: Thaler & Zavadlav, Nat. Commun. 12, 6884 (2021).
    """

    @jax.checkpoint
    def one(frame):
        x, box = frame
        here = with_parameters(located(energy, x, box), parameters, vector)
        return here(x), tuple(jnp.asarray(target.function(x, box, here)) for target in targets)

    energies, seen = lax.map(one, frames)
    log_weights = -(energies - reference) / (GAS_CONSTANT * temperature)
    weights = jax.nn.softmax(log_weights)
    averages = [jnp.tensordot(weights, series, axes=1, precision="highest") for series in seen]
    values = tuple(target.combined(average) for target, average in zip(targets, averages, strict=True))
    loss = jnp.zeros((), energies.dtype)
    for target, value in zip(targets, values, strict=True):
        misfit = (value - jnp.asarray(target.value, value.dtype)) / jnp.asarray(target.error, value.dtype)
        loss = loss + target.weight * jnp.mean(misfit**2)
    return Reweighted(loss, values, kish_size(log_weights))


class ReweightingState(NamedTuple):
    """Fields:
    optimizer: the state of the optimiser.
    """

    optimizer: Any


class Reweighting(AbstractEnsembleFit):
    """Gradient descent on averages of observables, many updates for one simulation.

    Between simulations the averages are reweighted. An update that would leave fewer effective frames (Kish) than
    ``threshold`` of all is halved until it does not, and then new frames are asked for. Constraints such as a pressure
    enter as penalties: a target with a small error or a large weight.

    Converged means that new frames, weights of one, miss the targets by their errors: the mean over all components of
    (⟨O⟩ − O*)² / (σ² + error(⟨O⟩)²), the latter by blocking, is at most 1 + 2 √(2/n). The loss of a `FitStep` is that
    of the parameters that were simulated.

    Arguments:
        targets: one `ObservableTarget` or more.
        temperature: K.
        optimizer: of optax. Parameters are as they are, in their own units: where they differ much in size scale the
            updates by parameter.
        parameters: which leaves are fitted, see `jaxcg.fit.targets`.
        threshold: least effective number of frames by all frames, between 0 and 1.
        updates: most of them for one simulation.

    Raises:
        ValueError: no targets, errors that are not positive, or numbers out of range.

    Source: Thaler & Zavadlav, Nat. Commun. 12, 6884 (2021).
    """

    targets: tuple[ObservableTarget, ...]
    temperature: float
    optimizer: optax.GradientTransformation
    parameters: Parameters
    threshold: float
    updates: int

    def __init__(
        self,
        targets: Sequence[ObservableTarget],
        temperature: float,
        optimizer: optax.GradientTransformation,
        *,
        parameters: Parameters = None,
        threshold: float = 0.5,
        updates: int = 20,
    ):
        if not targets:
            raise ValueError("Reweighting: give one target at least.")
        for target in targets:
            if not np.all(np.asarray(target.error) > 0):
                raise ValueError(f"Reweighting: the errors of target {target.name} must be positive.")
        if not (temperature > 0 and 0 < threshold < 1 and updates >= 1):
            raise ValueError(
                "Reweighting: the temperature must be positive, the threshold between 0 and 1, updates 1 or more."
            )
        self.targets = tuple(
            target._replace(value=jnp.asarray(target.value), error=jnp.asarray(target.error)) for target in targets
        )
        self.temperature, self.optimizer = float(temperature), optimizer
        self.parameters, self.threshold, self.updates = parameters, float(threshold), int(updates)

    def init(self, energy: AbstractEnergy) -> ReweightingState:
        """The optimiser at its start."""
        return ReweightingState(self.optimizer.init(parameter_vector(energy, self.parameters)))

    def step(self, energy: Any, state: ReweightingState, frames: Frames) -> tuple[Any, ReweightingState, FitStep]:
        """As many updates as ``frames`` of ``energy`` allow.

        Raises:
            ResultError: a loss or its gradient is not finite.
        """
        frames = as_frames(frames, "Reweighting, model")
        start = vector = parameter_vector(energy, self.parameters)
        reference, series = _observe(energy, frames, self.targets)
        if not np.isfinite(np.asarray(reference)).all():
            energy = with_room(energy, frames)
            reference, series = _observe(energy, frames, self.targets)
        chi2, limit, loss = self._misfit(series)
        if not math.isfinite(chi2) or not np.isfinite(np.asarray(reference)).all():
            raise ResultError("Reweighting: energies or observables of the frames are not finite; do atoms overlap?")
        least, count = self.threshold * len(frames.positions), len(frames.positions)
        effective, optimizer_state = float(count), state.optimizer
        arguments = (energy, self.parameters, frames, reference, self.targets, self.temperature)
        for _ in range(0 if chi2 <= limit else self.updates):
            gradient, _ = _gradient(vector, *arguments)
            if not np.isfinite(np.asarray(gradient)).all():
                raise ResultError("Reweighting: the gradient of the loss is not finite; lower the learning rate.")
            proposed, optimizer_state = self.optimizer.update(gradient, optimizer_state, vector)
            update = jnp.asarray(proposed)
            shrunk = False
            for _ in range(40):
                moved = vector + update
                effective = float(_effective_frames(moved, *arguments))
                if effective >= least:
                    break
                update, shrunk = update / 2, True
            else:
                raise ResultError(
                    "Reweighting: no step keeps the effective number of frames; use more frames or a lower threshold."
                )
            vector = jnp.asarray(moved)
            if shrunk:
                break
        new = with_parameters(energy, self.parameters, vector)
        moved_energy = np.asarray(_energies(new, frames), np.float64) - np.asarray(reference, np.float64)
        record = FitStep(
            np.asarray(start, np.float64),
            loss,
            chi2,
            limit,
            float(np.std(moved_energy)) / (GAS_CONSTANT * self.temperature),
            effective,
            np.full(len(start), np.nan),
            math.nan,
        )
        return new, ReweightingState(optimizer_state), record

    def _misfit(self, series) -> tuple[float, float, float]:
        """χ² per component, what it may be, and the loss, of frames with weights of one."""
        total, count, loss = 0.0, 0, 0.0
        for target, one in zip(self.targets, series, strict=True):
            value, linear = _linearised(target, one)
            if not np.isfinite(linear).all():
                return math.nan, math.nan, math.nan
            deviation = (value - np.asarray(target.value, np.float64)) ** 2
            sigma = np.broadcast_to(np.asarray(target.error, np.float64), value.shape)
            error = block_average(linear).error
            total, count = total + float(np.sum(deviation / (sigma**2 + error**2))), count + value.size
            loss += target.weight * float(np.mean(deviation / sigma**2))
        return total / count, 1.0 + 2.0 * math.sqrt(2.0 / count), loss


def _linearised(target: ObservableTarget, series: Array) -> tuple[np.ndarray, np.ndarray]:
    """The combined value of a series of frames, and per frame what it adds to it to first order."""
    average = jnp.mean(series, axis=0)
    value = target.combined(average)
    deviations = jax.vmap(lambda one: jax.jvp(target.combined, (average,), (one - average,))[1])(series)
    return np.asarray(value, np.float64), np.asarray(deviations, np.float64)


@eqx.filter_jit
def _observe(energy, frames: Frames, targets) -> tuple[Array, tuple[Array, ...]]:
    def one(frame):
        x, box = frame
        here = located(energy, x, box)
        return here(x), tuple(jnp.asarray(target.function(x, box, here)) for target in targets)

    return lax.map(one, frames)


@eqx.filter_jit
def _energies(energy, frames: Frames) -> Array:
    return lax.map(lambda frame: located(energy, *frame)(frame[0]), frames)


@eqx.filter_jit
def _gradient(vector, energy, parameters, frames, reference, targets, temperature):
    def loss(vector):
        result = reweighted_loss(vector, energy, parameters, frames, reference, targets, temperature)
        return result.loss, result

    return jax.grad(loss, has_aux=True)(vector)


@eqx.filter_jit
def _effective_frames(vector, energy, parameters, frames, reference, targets, temperature) -> Array:
    del targets
    moved = _energies(with_parameters(energy, parameters, vector), frames)
    return kish_size(-(moved - reference) / (GAS_CONSTANT * temperature))
