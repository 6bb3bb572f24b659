"""Frames of a simulation, what is averaged over them, and which leaves of an energy are fitted."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..consistency.thermodynamics.molecules import Molecules
from ..consistency.thermodynamics.pressure import frame_boxes
from ..consistency.thermodynamics.stress import pressure_tensor
from ..energy.base import AbstractEnergy
from ..errors import ResultError
from ..typing import Array, Float, Scalar
from ..units import GAS_CONSTANT

#: Fields of energies that are no parameters though they hold real numbers.
_NO_PARAMETERS = ("box", "pairs", "incidence")


class Frames(NamedTuple):
    """Configurations in the order of time, of a target or of a model.

    Fields:
        positions: (frames, atoms, 3) nm.
        boxes: (frames, 3, 3) box vectors as rows, nm, lower triangular; None where the energy knows its box or has
            none.
    """

    positions: Float[Array | np.ndarray, "frames atoms 3"]
    boxes: Float[Array | np.ndarray, "frames 3 3"] | None = None


class ObservableTarget(NamedTuple):
    """An average over the frames of the model, and what it ought to be.

    Fields:
        name: what messages call it.
        function: ``function(x, box, energy)`` of one frame (x in nm, the box as in `Frames`, the energy with lists for
            x), differentiable in the parameters of the energy: an array of any shape. A `soft_radial_distribution`, an
            angle's smoothed histogram, a pressure (`pressure_target`), whatever an experiment measures.
        value: what ``combine`` of the averages ought to be, a number or an array of its shape.
        error: σ of it, of the same shape or a number: the error of the target and how far the fit may miss it.
        weight: factor of its share of a loss.
        combine: from the averages of ``function`` to the shape of ``value``; None for the averages themselves. For
            fluctuations: of averages of V and V² to a compressibility.
    """

    name: str
    function: Callable[[Array, Array | None, AbstractEnergy], Array]
    value: Any
    error: Any
    weight: float = 1.0
    combine: Callable[[Array], Array] | None = None

    def combined(self, averages: Array) -> Array:
        """The quantity that is compared with ``value``, from averages over frames."""
        return averages if self.combine is None else self.combine(averages)


def pressure_target(
    value: float, error: float, temperature: float, *, molecules: Molecules | None = None, weight: float = 1.0
) -> ObservableTarget:
    """The mean virial pressure of frames with boxes, N kT / V − tr(∂U/∂ε) / 3V.

    What the cutoffs remove is not in it: take it off the target.

    Arguments:
        value, error: kJ/mol/nm³ (multiply bar by `jaxcg.units.BAR`).
        temperature: K.
        molecules: scale centres of mass instead of atoms.
        weight: of its share of a loss.
    """

    def pressure(x, box, energy):
        if box is None:
            raise ValueError("pressure_target: frames need boxes for a pressure.")
        return pressure_tensor(energy, x, box, temperature=temperature, molecules=molecules).pressure

    return ObservableTarget("pressure", pressure, value, error, weight)


def compressibility_target(value: float, error: float, temperature: float, *, weight: float = 1.0) -> ObservableTarget:
    """The isothermal compressibility from fluctuations of the volume, var(V) / (⟨V⟩ kT), at constant pressure.

    Arguments:
        value, error: nm³ mol/kJ.
        temperature: K.
        weight: of its share of a loss.

    Source: Allen & Tildesley, Computer Simulation of Liquids, section 2.5.
    """

    def volume_powers(x, box, energy):
        del x, energy
        if box is None:
            raise ValueError("compressibility_target: frames need boxes for a volume.")
        volume = jnp.abs(jnp.linalg.det(box))
        return jnp.stack([volume, volume**2])

    def combine(averages):
        return (averages[1] - averages[0] ** 2) / (averages[0] * GAS_CONSTANT * temperature)

    return ObservableTarget("compressibility", volume_powers, value, error, weight, combine)


#: ``parameters(energy)``: the leaves to fit, or modules all of whose real leaves are fitted, as `where` of
#: `equinox.tree_at`. None for all real leaves but boxes and pair lists.
Parameters = Callable[[Any], Any] | None


def parameter_vector(energy: AbstractEnergy, parameters: Parameters = None) -> Float[Array, " parameters"]:
    """The fitted leaves of ``energy`` in one vector, in the order of the tree.

    Raises:
        ValueError: nothing to fit, or a chosen leaf is no array of real numbers.
    """
    return ravel_pytree(_split(energy, parameters)[0])[0]


def with_parameters(energy: AbstractEnergy, parameters: Parameters, vector: Array) -> Any:
    """``energy`` with its fitted leaves from ``vector``, as `parameter_vector` gives it."""
    free, fixed = _split(energy, parameters)
    return eqx.combine(ravel_pytree(free)[1](vector), fixed)


def _split(energy: AbstractEnergy, parameters: Parameters):
    if parameters is None:

        def chosen(path, leaf):
            names = {getattr(key, "name", None) for key in path}
            return eqx.is_inexact_array(leaf) and names.isdisjoint(_NO_PARAMETERS)

        spec = jax.tree_util.tree_map_with_path(chosen, energy)
    else:
        none = jax.tree.map(lambda _: False, energy)
        spec = eqx.tree_at(parameters, none, replace_fn=lambda node: jax.tree.map(lambda _: True, node))
        # Modules may be chosen whole: their integers and flags are no parameters.
        spec = jax.tree.map(lambda free, leaf: free and eqx.is_inexact_array(leaf), spec, energy)
    free, fixed = eqx.partition(energy, spec)
    if not jax.tree.leaves(free):
        raise ValueError(
            f"{type(energy).__name__}: no leaf to fit; `parameters` must choose arrays of real numbers of the energy."
        )
    return free, fixed


def as_frames(frames: Frames, what: str) -> Frames:
    """``frames`` as JAX arrays, with a box for each where there is one.

    Raises:
        ValueError: no frames, or boxes that do not fit.
        ResultError: positions that are not finite; the message names the frame.
    """
    positions = np.asarray(frames.positions)
    if len(positions) < 4:
        raise ValueError(f"{what}: {len(positions)} frames; errors need four at least, useful ones many more.")
    finite = np.isfinite(positions).reshape(len(positions), -1).all(axis=1)
    if not finite.all():
        raise ResultError(f"{what}: frame {int(np.argmin(finite))} is not finite.")
    boxes = None if frames.boxes is None else jnp.asarray(frame_boxes(frames.boxes, len(positions)), positions.dtype)
    return Frames(jnp.asarray(positions), boxes)


def located(energy: Any, x: Array, box: Array | None) -> Any:
    """``energy`` in the box of a frame, with pair lists for it."""
    return (energy if box is None else energy.with_box(box)).rebuild(x)


def with_room(energy: Any, frames: Frames) -> Any:
    """``energy`` with pair lists that have room for every frame."""
    for index, x in enumerate(frames.positions):
        energy = located(energy, x, None if frames.boxes is None else frames.boxes[index])
    return energy


def kish_size(log_weights: Float[Array, " frames"]) -> Scalar:
    """Kish's effective number of frames, (Σw)² / Σw², from logarithms of weights up to a constant.

    Source: Kish, Survey Sampling (1965).
    """
    weights = jax.nn.softmax(log_weights)
    return 1.0 / jnp.sum(weights**2)
