"""Surface tension of a slab from the anisotropy of its pressure tensor."""

import numpy as np

from ..statistics import Estimate, block_average
from .pressure import Boxes, frame_boxes
from .stress import PressureTensor


def surface_tension(frames: PressureTensor, boxes: Boxes, *, axis: int = 2, surfaces: int = 2) -> Estimate:
    """γ = (L/surfaces) ⟨p_normal − p_tangential⟩ of a slab with flat surfaces across a periodic box.

    Mechanical route of Kirkwood and Buff: the free energy of more area at constant volume. Beyond a cutoff the
    interactions of a slab are not those of a homogeneous liquid, so no tail correction applies here: take a long
    cutoff.

    Arguments:
        frames: pressure tensors with a leading axis (frames), from `frame_pressures`.
        boxes: (3, 3) or (frames, 3, 3) nm, with the axis of the slab at right angles to the others.
        axis: 0, 1 or 2, normal to the surfaces.
        surfaces: how many the box has; a slab has two.

    Returns:
        kJ/mol/nm²: 1 kJ/mol/nm² is 1.66054 mN/m.

    Raises:
        ValueError: the axis is not at right angles to the others.

    Source: Kirkwood & Buff, J. Chem. Phys. 17, 338 (1949).
    """
    tensor = np.asarray(frames.tensor, np.float64)
    boxes = frame_boxes(boxes, len(tensor)).astype(np.float64)
    others = [i for i in range(3) if i != axis]
    tilted = np.abs(boxes[:, axis, others]).max(initial=0.0) + np.abs(boxes[:, others, axis]).max(initial=0.0)
    if tilted > 1e-6 * boxes.max():
        raise ValueError("surface_tension: the box vector across the slab must be at right angles to the others.")
    tangential = 0.5 * sum(tensor[:, i, i] for i in others)
    return block_average(boxes[:, axis, axis] / surfaces * (tensor[:, axis, axis] - tangential))
