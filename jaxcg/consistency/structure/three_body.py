"""Angles between the neighbours of a point, and the three-body distribution function, streamed over frames."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..statistics import block_average
from .cells import CellPairs, check_points
from .frame_blocks import FrameBlocks
from .histograms import Distribution, HistogramAccumulator

#: Neighbours collected before their angles are taken.
_AT_ONCE = 20_000
#: Blocks kept of three-body distributions, whose rows are long.
_BLOCKS = 64


def angular_distribution(
    frames: Iterable[tuple[np.ndarray, np.ndarray | None]],
    radius: float,
    *,
    bins: int = 90,
    centers: np.ndarray | None = None,
    ends: np.ndarray | None = None,
) -> Distribution:
    """Distribution of the angle at a point between any two of its neighbours within a radius.

    The density is p(θ), 1/rad, as a histogram shows it; over sin θ it is flat for neighbours in random directions.

    Arguments:
        frames: (positions (points, 3), box (3, 3)) of every frame, nm.
        radius: within which points are neighbours, nm.
        bins: from 0 to π.
        centers: indices of the points angles are taken at; all when None.
        ends: indices of the points that are neighbours; all when None.

    Returns:
        The `Distribution` of θ, rad.

    Raises:
        ValueError: no frames, no box, an empty selection, or no point with two neighbours.
    """
    accumulator = HistogramAccumulator((0.0, np.pi), bins)
    for x, box in frames:
        found = [angle for _, _, angle in triplets(x, box, radius, centers=centers, ends=ends)]
        accumulator.add(np.concatenate([np.zeros(0), *found]))
    return accumulator.result()


@dataclass(frozen=True)
class ThreeBodyDistribution:
    """g₃(r, s, θ): triplets found over those of an ideal gas of the same density, by two distances from a point and the
    angle between them.

    Fields:
        edges: (bins + 1,) of both distances, nm.
        angle_edges: (angles + 1,) rad.
        value: (bins, bins, angles) g₃, symmetric in r and s.
        error: its standard error from blocks of frames (nan for fewer than four frames, 0 where nothing was found).
        counts: triplets found, each from both of its ends.
        frames: frames seen.
    """

    edges: np.ndarray
    angle_edges: np.ndarray
    value: np.ndarray
    error: np.ndarray
    counts: np.ndarray
    frames: int


def three_body_distribution(
    frames: Iterable[tuple[np.ndarray, np.ndarray | None]], radius: float, *, bins: int = 12, angles: int = 18
) -> ThreeBodyDistribution:
    """Three-body distribution function of points of one type.

    Arguments:
        frames: (positions (points, 3), box (3, 3)) of every frame, nm.
        radius: largest distance, nm.
        bins: of either distance, from 0.
        angles: bins of the angle, from 0 to π.

    Raises:
        ValueError: no frames, no box, or fewer than three points.
    """
    edges, angle_edges = np.linspace(0.0, radius, bins + 1), np.linspace(0.0, np.pi, angles + 1)
    shells, caps = 4.0 / 3.0 * np.pi * np.diff(edges**3), -0.5 * np.diff(np.cos(angle_edges))
    volume = shells[:, None, None] * shells[:, None] * caps
    blocks = FrameBlocks(_BLOCKS)
    for x, box in frames:
        n = len(x)
        if n < 3:
            raise ValueError(f"three_body_distribution: {n} points; give three at least.")
        counts = np.zeros(volume.size, np.int64)
        for r, s, angle in triplets(x, box, radius):
            i, j = (np.minimum((d * (bins / radius)).astype(np.int64), bins - 1) for d in (r, s))
            k = np.minimum((angle * (angles / np.pi)).astype(np.int64), angles - 1)
            counts += np.bincount((i * bins + j) * angles + k, minlength=volume.size)
            counts += np.bincount((j * bins + i) * angles + k, minlength=volume.size)
        expected = n * (n - 1) * (n - 2) / abs(np.linalg.det(np.asarray(box, np.float64))) ** 2
        blocks.add(np.append(counts, expected))
    total, means = blocks.total(), blocks.means()
    ideal = total[-1] * volume.ravel()
    value = total[:-1] / ideal
    departure = (means[:, :-1] - value * volume.ravel() * means[:, -1:]) * (blocks.frames / ideal)
    error = block_average(departure).error
    return ThreeBodyDistribution(
        edges,
        angle_edges,
        value.reshape(volume.shape),
        error.reshape(volume.shape),
        total[:-1].reshape(volume.shape),
        blocks.frames,
    )


def triplets(
    x: np.ndarray, box, radius: float, *, centers: np.ndarray | None = None, ends: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All pairs of neighbours of every point, some points at a time, each pair once.

    Arguments:
        x: (points, 3) positions, nm.
        box: (3, 3) box vectors as rows, nm.
        radius: within which points are neighbours, nm.
        centers: indices of the points in the middle; all when None.
        ends: indices of the neighbours; all when None.

    Yields:
        Distances to one and to the other neighbour, nm, and the angle between them, rad.

    Raises:
        ValueError: no box, positions that are not finite, or an empty selection.
    """
    x = np.asarray(x, np.float64)
    box = check_points(x, box)
    middle = np.arange(len(x)) if centers is None else np.asarray(centers)
    outer = np.arange(len(x)) if ends is None else np.asarray(ends)
    if not len(middle) or not len(outer):
        raise ValueError("triplets: the selection of centers or of ends is empty.")
    # A point is no neighbour of itself: everyone is a group of its own.
    cells = CellPairs(x[middle], box, radius, x[outer], groups=middle, other_groups=outer, keep="between")
    place = cells.wrapped()
    first, step, length = [], [], 0
    for block in cells.blocks():
        i, _, there = block.pairs()
        first.append(i)
        step.append(there - place[i])
        length += len(i)
        if length > _AT_ONCE:
            yield from _angles(first, step)
            first, step, length = [], [], 0
    if length:
        yield from _angles(first, step)


def _angles(first: list[np.ndarray], step: list[np.ndarray]):
    """Distances and angles of all pairs among the steps from one point; those of a point follow each other."""
    point, d = np.concatenate(first), np.concatenate(step)
    starts = np.flatnonzero(np.diff(point, prepend=-1))
    counts = np.diff(starts, append=len(point))
    distance = np.sqrt(np.sum(d * d, axis=1))
    # Points with the same number of neighbours go together: their pairs are one table.
    for count in np.unique(counts[counts > 1]):
        a, b = np.triu_indices(count, 1)
        here = starts[counts == count, None]
        one, other = (here + a).ravel(), (here + b).ravel()
        across = np.cross(d[one], d[other])
        angle = np.arctan2(np.sqrt(np.sum(across * across, axis=1)), np.sum(d[one] * d[other], axis=1))
        yield distance[one], distance[other], angle
