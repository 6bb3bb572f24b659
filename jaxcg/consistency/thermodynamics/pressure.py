"""Mean pressure of a trajectory, its parts, and their errors."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...energy.base import AbstractEnergy
from ...energy.pair_energy import PairEnergy
from ...errors import ResultError
from ...space import Box
from ...typing import Array, Float
from ...units import GAS_CONSTANT
from ..statistics import Estimate, block_average
from .molecules import Molecules
from .stress import PressureTensor, box_volume, kinetic_tensor, virial_by_term

Frames = Float[Array | np.ndarray, "frames atoms 3"]
#: One box for all frames, or one for each.
Boxes = Float[Array | np.ndarray, "*frames 3 3"]


class MeanPressure(NamedTuple):
    """Average pressure and its parts; the error of a sum is not the sum of errors, for the parts are correlated.

    Fields:
        pressure: all of it, kJ/mol/nm³.
        kinetic: the share of motion; N kT / V without error where a temperature stands for velocities.
        terms: (terms,) the share of each term of the energy.
        correction: of the interactions beyond the cutoff.
        tensor: (3, 3) the pressure tensor (minus the stress).
    """

    pressure: Estimate
    kinetic: Estimate
    terms: Estimate
    correction: Estimate
    tensor: Estimate


def mean_pressure(frames: PressureTensor) -> MeanPressure:
    """Averages over frames in the order of time, with errors by blocking.

    Arguments:
        frames: fields with a leading axis (frames), from `frame_pressures`.
    """
    return MeanPressure(
        block_average(np.asarray(frames.pressure)),
        block_average(np.asarray(frames.kinetic_pressure)),
        block_average(np.asarray(frames.virial_pressures)),
        block_average(np.asarray(frames.correction)),
        block_average(np.asarray(frames.tensor)),
    )


def frame_pressures(
    energy: AbstractEnergy,
    positions: Frames,
    boxes: Boxes,
    *,
    temperature: float | None = None,
    velocities: Frames | None = None,
    masses: Float[Array | np.ndarray, " atoms"] | None = None,
    molecules: Molecules | None = None,
    correction: float | Float[Array | np.ndarray, " frames"] = 0.0,
) -> PressureTensor:
    """Pressure tensors of the frames of a trajectory; pair lists are made anew for each.

    Arguments:
        energy: any energy.
        positions: (frames, atoms, 3) nm, with molecules whole if the energy has bonded terms, which know no box.
        boxes: (3, 3) or (frames, 3, 3) box vectors as rows, nm, lower triangular.
        temperature: K, for the mean of the kinetic part (it has no noise); or
        velocities: (frames, atoms, 3) nm/ps, with ``masses`` (atoms,) amu. Without either the kinetic part is zero.
        masses: amu.
        molecules: scale centres of mass instead of atoms, and count molecules in the kinetic part.
        correction: pressure beyond the cutoff, kJ/mol/nm³, for all frames or each.

    Returns:
        A `PressureTensor` of NumPy arrays with a leading axis (frames).

    Raises:
        ValueError: shapes do not fit, velocities without masses, or no box.
        ResultError: a virial is not finite; the message names the frame.
    """
    positions = np.asarray(positions)
    boxes = frame_boxes(boxes, len(positions))
    if velocities is not None and (masses is None or temperature is not None):
        raise ValueError("frame_pressures: velocities need masses, and then no temperature.")
    virials = []
    for number, (x, box) in enumerate(zip(positions, boxes, strict=True)):
        x, box = jnp.asarray(x), jnp.asarray(box, x.dtype)
        virial = np.asarray(_virials(energy.with_box(box).rebuild(x), x, box, molecules))
        if not np.isfinite(virial).all():
            raise ResultError(f"frame_pressures: the virial of frame {number} is not finite; atoms overlap there.")
        virials.append(virial)
    virial = np.stack(virials)
    if velocities is not None and masses is not None:
        each = jax.vmap(lambda v: kinetic_tensor(v, jnp.asarray(masses), molecules))
        kinetic = np.asarray(each(jnp.asarray(velocities)))
    else:
        count = positions.shape[1] if molecules is None else molecules.count
        kinetic = np.zeros_like(virial[:, 0]) + count * GAS_CONSTANT * (temperature or 0.0) * np.eye(3)
    volume = np.asarray(box_volume(boxes))
    return PressureTensor(
        *map(jnp.asarray, (kinetic, virial, np.broadcast_to(correction, volume.shape).astype(volume.dtype), volume))
    )


def tail_pressures(energy: AbstractEnergy, boxes: Float[Array | np.ndarray, "frames 3 3"]) -> np.ndarray:
    """Pressure of what the cutoffs of all `PairEnergy` terms remove, for a fluid with g(r) = 1 beyond them.

    Arguments:
        energy: any energy; terms of other kinds have no tails.
        boxes: (frames, 3, 3) nm.

    Returns:
        (frames,) kJ/mol/nm³, the ``correction`` of `frame_pressures`.
    """
    total = np.zeros(len(boxes))
    for term in energy.terms():
        if isinstance(term, PairEnergy):
            total = total + np.array([float(term.tail_correction(jnp.asarray(box)).pressure) for box in boxes])
    return total


def frame_boxes(boxes: Boxes, count: int) -> np.ndarray:
    """(frames, 3, 3) box vectors from one box or one for each frame, checked.

    Raises:
        ValueError: another shape, or a box without volume.
    """
    boxes = np.asarray(boxes)
    if boxes.shape not in ((3, 3), (count, 3, 3)):
        raise ValueError(f"boxes of shape {boxes.shape} for {count} frames; give (3, 3) or one box for each frame.")
    volumes = np.abs(np.linalg.det(boxes)).reshape(-1)
    if not (volumes > 0).all():
        raise ValueError(
            f"the box of frame {int(np.argmin(volumes > 0))} has no volume, or is not finite; a pressure needs a "
            "periodic box in every frame."
        )
    return np.broadcast_to(boxes, (count, 3, 3))


@eqx.filter_jit
def _virials(energy: AbstractEnergy, x: Array, box: Box, molecules: Molecules | None) -> Array:
    return virial_by_term(energy, x, box, molecules)
