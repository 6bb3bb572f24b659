"""The nearest points of every point of a periodic box, on the host."""

import numpy as np
from scipy.spatial import KDTree

from .cells import box_widths, check_points, periodic_images, wrapped_points


def nearest_neighbors(x, box, count: int) -> np.ndarray:
    """The ``count`` nearest points of every point, in any lattice.

    Arguments:
        x: (points, 3) positions, nm, in any image.
        box: (3, 3) box vectors as rows, nm.
        count: neighbours wanted.

    Returns:
        (points, count) indices, the nearest first.

    Raises:
        ValueError: fewer points than that, positions that are not finite, or a box so small that a point is among its
            own neighbours.
    """
    x = np.asarray(x, np.float64)
    box = check_points(x, box)
    if not 1 <= count < len(x):
        raise ValueError(f"nearest_neighbors: {count} neighbours of each of {len(x)} points; ask for fewer.")
    one = np.ones(3)
    fraction, _ = wrapped_points(x, box, one.astype(np.int64))
    radius = (2.0 * (count + 1) * abs(np.linalg.det(box)) / (4.19 * len(x))) ** (1 / 3)
    while True:
        margin = radius / box_widths(box)
        owner, place, _ = periodic_images(fraction, one, margin, margin)
        found = KDTree(place @ box)
        distance, near = found.query(fraction @ box, k=count + 1)
        # All images within the radius were there: nothing nearer is missing.
        if np.isfinite(distance).all() and distance.max() <= radius:
            break
        radius *= 1.5
    near = owner[near]
    other = near != np.arange(len(x))[:, None]
    if (other.sum(axis=1) != count).any():
        raise ValueError("nearest_neighbors: a point is its own neighbour in the next box; the box is too small.")
    return near[other].reshape(len(x), count).astype(np.int32)
