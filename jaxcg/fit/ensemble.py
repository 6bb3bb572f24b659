"""Fits of an energy to ensemble averages: simulations and changes of the parameters in turns."""

import os
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..consistency.thermodynamics.fluid import Barostat, simulate_fluid
from ..energy.base import AbstractEnergy
from ..errors import InputError, ResultError
from ..run import _Checkpoint, _digest
from ..typing import Array, AtomScalars, AtomVectors, Float, PRNGKeyArray
from .targets import Frames, Parameters, as_frames, parameter_vector, with_parameters

#: ``sample(energy, key, last)``: frames of the equilibrium of ``energy``, in the order of time. ``last`` is the last
#: frame of the call before, None at first: a place to start from.
Sample = Callable[[Any, PRNGKeyArray, Frames | None], Frames]


class FitStep(NamedTuple):
    """What one set of frames said of the energy they came from, and what was made of it.

    Fields:
        parameters: (parameters,) that the frames were simulated with.
        loss: see the method.
        chi2: squared misfit by its squared error, per degree of freedom.
        limit: ``chi2`` at or below it counts as converged: two standard deviations above its mean of one.
        step: size of the change of parameters in kT: standard deviation of the energy it adds, over the frames. 0 when
            nothing was changed.
        effective_frames: number of independent frames behind the last change.
        errors: (parameters,) standard errors of the parameters if they are at the optimum; nan where not known.
        constrained: average that is held to a value; nan without.
    """

    parameters: np.ndarray
    loss: float
    chi2: float
    limit: float
    step: float
    effective_frames: float
    errors: np.ndarray
    constrained: float

    @property
    def converged(self) -> bool:
        """Whether what remains is within its statistical error."""
        return bool(self.chi2 <= self.limit)


class AbstractEnsembleFit(eqx.Module):
    """A rule that makes parameters better from frames that were simulated with them.

    States are pytrees of arrays.
    """

    #: Which leaves are fitted.
    parameters: eqx.AbstractVar[Parameters]

    @abstractmethod
    def init(self, energy: AbstractEnergy) -> Any:
        """The state to start with."""

    @abstractmethod
    def step(self, energy: Any, state: Any, frames: Frames) -> tuple[Any, Any, FitStep]:
        """The energy with better parameters, the new state, and the `FitStep`; ``frames`` are those of ``energy``.

        Where the step is converged the energy comes back as it is.
        """


class EnsembleFit(NamedTuple):
    """Result of `fit_ensemble`.

    Fields:
        energy: with the last parameters that were simulated without failure.
        status: "converged"; "iterations", when they were used up; or "failed", when a simulation or what followed from
            it was not finite.
        message: what happened, one line.
        history: a `FitStep` for every set of frames.
    """

    energy: Any
    status: Literal["converged", "iterations", "failed"]
    message: str
    history: tuple[FitStep, ...]


class FluidSampling(eqx.Module):
    """Frames by `simulate_fluid`, every run from where the last one ended.

    Arguments:
        positions: (atoms, 3) nm, where the first run starts; relaxed.
        box: (3, 3) box vectors as rows, nm.
        masses: amu, one for all or (atoms,).
        temperature: K.
        time_step: ps.
        steps, every, equilibration: of every run, in steps; steps is a multiple of every.
        collision_rate: 1/ps.
        barostat: for constant pressure; None for constant volume.
    """

    positions: AtomVectors
    box: Float[Array | np.ndarray, "3 3"]
    masses: float | AtomScalars
    temperature: float
    time_step: float
    steps: int
    every: int = 50
    equilibration: int = 0
    collision_rate: float = 1.0
    barostat: Barostat | None = None

    def __call__(self, energy: AbstractEnergy, key: PRNGKeyArray, last: Frames | None = None) -> Frames:
        """The frames and their boxes."""
        x, box = jnp.asarray(self.positions), jnp.asarray(self.box)
        if last is not None and last.boxes is not None:
            x, box = jnp.asarray(last.positions[-1]), jnp.asarray(last.boxes[-1])
        run = simulate_fluid(
            energy,
            x,
            box,
            self.masses,
            temperature=self.temperature,
            time_step=self.time_step,
            steps=self.steps,
            key=key,
            every=self.every,
            equilibration=self.equilibration,
            collision_rate=self.collision_rate,
            barostat=self.barostat,
        )
        return Frames(run.positions, run.boxes)


def fit_ensemble(
    method: AbstractEnsembleFit,
    energy: AbstractEnergy,
    sample: Sample,
    key: PRNGKeyArray,
    iterations: int,
    *,
    progress: Callable[[int, int, FitStep], None] | None = None,
    checkpoint: str | os.PathLike | None = None,
) -> EnsembleFit:
    """Simulates and changes the parameters in turns, until the misfit is within its statistical error.

    Iteration i draws from ``fold_in(key, i)``, so that a fit that was resumed equals one that was not interrupted. A
    simulation that fails ends the fit with the last parameters whose simulation did not.

    Arguments:
        method: `RelativeEntropy` or `Reweighting`.
        energy: with the parameters to start from.
        sample: see `Sample`; `FluidSampling` is one.
        key: random key of the whole fit.
        iterations: most simulations, those before a resumption included.
        progress: called as ``progress(done, iterations, step)`` after each.
        checkpoint: file written atomically after each iteration; if it exists the fit resumes from it.

    Returns:
        The `EnsembleFit`; read its status.

    Raises:
        ValueError: no iterations.
        InputError: the checkpoint belongs to another fit or cannot be read.
    """
    if iterations < 1:
        raise ValueError(f"fit_ensemble: {iterations} iterations; give one at least.")
    where = method.parameters
    vector = good = parameter_vector(energy, where)
    state = method.init(energy)
    # Chosen leaves enter the fingerprint by their positions in the tree.
    marks = with_parameters(energy, where, jnp.full_like(vector, jnp.nan))
    named = (
        method,
        sample,
        [np.isnan(np.asarray(a)) for a in jax.tree.leaves(eqx.filter(marks, eqx.is_inexact_array))],
    )
    store = None if checkpoint is None else _Checkpoint(Path(checkpoint), _digest(named, (energy, state), key, 1))
    last: Frames | None = None
    history: list[FitStep] = []
    if store is not None and store.path.exists():
        carry = (vector, good, state, jnp.zeros(()), jnp.zeros(()))
        done, (vector, good, state, x, box), parts = store.load(carry, lambda: FitStep(*range(8)))  # type: ignore[arg-type]
        if done > iterations:
            raise InputError(
                f"{store.path}: this checkpoint is at iteration {done}, beyond the {iterations} asked for."
            )
        last = Frames(x, box if box.size else None)
        history = [_record(*fields) for fields in zip(*parts[0], strict=True)]
    current = with_parameters(energy, where, vector)
    while len(history) < iterations and not (history and history[-1].converged):
        number = len(history)
        try:
            frames = as_frames(
                sample(current, jax.random.fold_in(key, number), last), f"fit_ensemble, simulation {number + 1}"
            )
            new, state, step = method.step(current, state, frames)
        except ResultError as error:
            kept = f"the parameters of simulation {number}" if number else "the starting parameters"
            message = f"stopped in iteration {number + 1} with {kept}: {error}"
            return EnsembleFit(with_parameters(energy, where, good), "failed", message, tuple(history))
        last = Frames(frames.positions[-1:], None if frames.boxes is None else frames.boxes[-1:])
        good, current = parameter_vector(current, where), new
        history.append(step)
        if store is not None:
            box = jnp.zeros((0, 3, 3)) if last.boxes is None else last.boxes
            carry = (parameter_vector(current, where), good, state, last.positions, box)
            store.save(len(history), carry, [_stacked(history)])
        if progress is not None:
            progress(len(history), iterations, step)
    final = history[-1]
    if final.converged:
        message = f"converged: chi2 per degree of freedom {final.chi2:.3g}, at most {final.limit:.3g}"
        return EnsembleFit(with_parameters(energy, where, good), "converged", message, tuple(history))
    message = (
        f"{iterations} iterations used up with chi2 per degree of freedom {final.chi2:.3g} of the last frames, above "
        f"{final.limit:.3g}; the change that followed is not in the energy"
    )
    return EnsembleFit(with_parameters(energy, where, good), "iterations", message, tuple(history))


def _stacked(history: list[FitStep]) -> FitStep:
    return FitStep(*(np.stack([np.asarray(a) for a in column]) for column in zip(*history, strict=True)))  # type: ignore[arg-type]


def _record(*fields) -> FitStep:
    return FitStep(*(np.asarray(a) if np.ndim(a) else float(a) for a in fields))  # type: ignore[arg-type]
