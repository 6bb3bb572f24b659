"""All pairs of points within a radius in a periodic box, block by block, on the host.

Points are sorted by cell; the cells around one are a few runs of consecutive points, and the squared distances of a
cell to its surroundings are one small matrix product, |a|² + |b|² − 2 a·b, in double precision. No list of pairs is
kept: memory is that of the points and of one block. Images of the points are written out around the box, so that any
radius, also one beyond half the box, meets every image that is within it, in any lattice.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

#: Most numbers of a block: they stay in the second-level cache.
_BLOCK = 1 << 17
#: Seconds of a block, of a run of cells and of a pair: they weigh the sizes of cells against each other.
_BLOCK_COST, _RUN_COST, _PAIR_COST = 2.5e-5, 6e-7, 3e-9


@dataclass(frozen=True)
class PairBlock:
    """Pairs of a few points with a few others.

    Fields:
        first: (rows,) indices of the points.
        squared: (rows, columns) squared distances, nm².
        counted: (rows, columns) which of them are within the radius and asked for.
    """

    first: np.ndarray
    squared: np.ndarray
    counted: np.ndarray
    _owner: np.ndarray
    _shifted: np.ndarray
    _runs: list[slice]

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices of both ends of the counted pairs, and where the second lies (pairs, 3), nm: the image that counts
        for the first as it lies wrapped into the box."""
        row, column = np.nonzero(self.counted)
        owner = np.concatenate([self._owner[run] for run in self._runs])
        place = np.concatenate([self._shifted[run, :3] for run in self._runs])
        return self.first[row], owner[column], -0.5 * place[column]


def box_widths(box: np.ndarray) -> np.ndarray:
    """(3,) distances between opposite faces of a box, nm; half the smallest is where nearest images end."""
    return 1.0 / np.linalg.norm(np.linalg.inv(np.asarray(box, np.float64)), axis=0)


class CellPairs:
    """The pairs of points, or of points and others, within a radius of each other.

    Every pair of a point and an image is met once, as (i, j) or as (j, i); with ``others`` each point meets each of
    them. A point meets neither itself nor its own images.

    Arguments:
        x: (points, 3) positions, nm, in any image.
        box: (3, 3) box vectors as rows, nm.
        radius: nm; every periodic image within it is a pair of its own.
        others: (others, 3) positions of other points, nm; None for pairs among the points.
        groups: (points,) integers, e.g. molecules; needed for ``keep`` other than "all".
        other_groups: (others,) the same of the others.
        keep: "all" pairs, those "between" different groups, or "within" one group.

    Raises:
        ValueError: positions or box are not finite, the box has no volume, groups are missing or not one for each.
    """

    def __init__(
        self, x, box, radius: float, others=None, *, groups=None, other_groups=None, keep: str = "all"
    ) -> None:
        x = np.asarray(x, np.float64)
        half = others is None
        points = x if others is None else np.asarray(others, np.float64)
        box = check_points(x, box)
        check_points(points, box)
        cells, reach = _grid(box, float(radius), len(x), len(points), half)
        below = reach * np.array([0 if half else 1, 1, 1])
        size = cells + below + reach

        fraction, cell = wrapped_points(x, box, cells)
        home = _linear(cell + below, size)
        self._order = np.argsort(home, kind="stable")
        places, starts = np.unique(home[self._order], return_index=True)
        self._bounds = np.append(starts, len(x))
        place = fraction[self._order] @ box
        square = np.sum(place * place, axis=1, keepdims=True)
        self._rows = np.concatenate([place, square, np.ones_like(square)], axis=1)

        if not half:
            fraction, cell = wrapped_points(points, box, cells)
        owner, cell, shift = periodic_images(cell, cells, below, reach)
        linear = _linear(cell + below, size)
        order = np.argsort(linear, kind="stable")
        self._owner = owner[order]
        place = (fraction[self._owner] + shift[order]) @ box
        square = np.sum(place * place, axis=1, keepdims=True)
        self._columns = np.concatenate([-2.0 * place, np.ones_like(square), square], axis=1)
        first = np.concatenate([[0], np.cumsum(np.bincount(linear, minlength=int(np.prod(size))))])
        a, b, low, high = _runs(box, cells, reach, float(radius), half).T
        base = places[:, None] + (a * size[1] + b) * size[2]
        self._begin, self._end = first[base + low], first[base + high + 1]

        self.radius, self._half, self._keep = float(radius), half, keep
        self._own_images = half and self.radius > box_widths(box).min()
        self._groups = self._other_groups = np.zeros(0, np.int64)
        if keep != "all":
            self._groups = _grouped(groups, len(x), keep)[self._order]
            self._other_groups = _grouped(groups if half else other_groups, len(points), keep)[self._owner]

    def __len__(self) -> int:
        """Number of cells with points."""
        return len(self._bounds) - 1

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[PairBlock]:
        """The pairs of the cells ``start`` to ``stop``, block by block."""
        stop = len(self) if stop is None else stop
        bounds = self._bounds[start : stop + 1].tolist()
        begins, ends = self._begin[start:stop].tolist(), self._end[start:stop].tolist()
        limit = self.radius**2
        for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            runs = [slice(b, e) for b, e in zip(begin, end, strict=True) if e > b]
            if not runs:
                continue
            near = np.concatenate([self._columns[run] for run in runs]).T
            low, high = bounds[number], bounds[number + 1]
            rows = max(1, _BLOCK // near.shape[1])
            for top in range(low, high, rows):
                some = slice(top, min(top + rows, high))
                squared = self._rows[some] @ near
                counted = squared < limit
                if self._half:
                    # The first columns are the points of the cell itself.
                    counted[:, : high - low] &= np.arange(low, high) > np.arange(some.start, some.stop)[:, None]
                if self._own_images:
                    counted &= np.concatenate([self._owner[run] for run in runs]) != self._order[some, None]
                if self._keep != "all":
                    other = np.concatenate([self._other_groups[run] for run in runs])
                    same = self._groups[some, None] == other
                    counted &= same if self._keep == "within" else ~same
                yield PairBlock(self._order[some], squared, counted, self._owner, self._columns, runs)

    def wrapped(self) -> np.ndarray:
        """(points, 3) the points as they lie in the box, nm, in their own order; `PairBlock.pairs` refers to them."""
        place = np.empty((len(self._order), 3))
        place[self._order] = self._rows[:, :3]
        return place


def check_points(x: np.ndarray, box) -> np.ndarray:
    """The box in double precision; ValueError unless positions are (points, 3) and finite, in a box with a volume."""
    if box is None:
        raise ValueError("structure: this needs a periodic box; the frame has none.")
    if x.ndim != 2 or x.shape[1] != 3 or not len(x):
        raise ValueError(f"structure: positions have the shape {x.shape}; give (points, 3) with one point at least.")
    if not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        raise ValueError(f"structure: {len(bad)} of {len(x)} positions are not finite, the first is number {bad[0]}.")
    box = np.asarray(box, np.float64)
    if box.shape != (3, 3) or not np.isfinite(box).all() or not abs(np.linalg.det(box)) > 0:
        raise ValueError("structure: the box must be three finite vectors (3, 3), nm, that span a volume.")
    return box


def _grouped(groups, count: int, keep: str) -> np.ndarray:
    if keep not in ("between", "within"):
        raise ValueError(f"structure: keep is '{keep}'; it is 'all', 'between' or 'within'.")
    if groups is None or len(groups) != count:
        found = "none" if groups is None else f"{len(groups)}"
        raise ValueError(f"structure: pairs {keep} molecules need the molecule of each of {count} points; got {found}.")
    return np.asarray(groups)


def _grid(box, radius: float, n_first: int, n_second: int, half: bool) -> tuple[np.ndarray, np.ndarray]:
    """(3,) numbers of cells along the box vectors and (3,) how many cells around one the radius reaches."""
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"structure: the radius {radius:g} nm is not positive.")
    widths, volume = box_widths(box), abs(np.linalg.det(box))
    # Cells without points cost memory: no more than four for each point.
    widest = (volume / (4.0 * n_second + 64.0)) ** (1 / 3)
    best = math.inf
    cells = reach = np.ones(3, np.int64)
    for division in (0.5, 1, 2, 3, 4, 0):
        # The last is one cell for all.
        width = max(radius / division, widest) if division else math.inf
        number = np.maximum((widths / width * (1 + 1e-9)).astype(np.int64), 1)
        around = np.ceil(radius * (1 + 1e-9) / (widths / number)).astype(np.int64)
        share = 0.5 if half else 1.0
        met = np.prod(2 * around + 1) * share / np.prod(number) * n_second
        occupied = min(float(np.prod(number)), n_first)
        runs = (2 * around[0] + 1) * (2 * around[1] + 1) * share
        cost = occupied * (_BLOCK_COST + _RUN_COST * runs) + _PAIR_COST * n_first * met
        if cost < best:
            best, cells, reach = cost, number, around
    return cells, reach


def wrapped_points(x: np.ndarray, box: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fractions of the box vectors in [0, 1) and the cell of every point."""
    fraction = x @ np.linalg.inv(box)
    fraction -= np.floor(fraction)
    fraction[fraction >= 1.0] = 0.0
    return fraction, np.minimum((fraction * cells).astype(np.int64), cells - 1)


def _linear(cell: np.ndarray, size: np.ndarray) -> np.ndarray:
    return (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2]


def periodic_images(cell, cells, below, reach) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of points whose place along each vector is from ``-below`` up to, not with, ``cells + reach``.

    Arguments:
        cell: (points, 3) places in [0, cells): cells, or fractions of the box with ``cells`` of one.
        cells: (3,) the period.
        below: (3,) how far below zero images are wanted.
        reach: (3,) how far beyond the period.

    Returns:
        Point of each image, its place, and its shift in box vectors.
    """
    owner, shift = np.arange(len(cell)), np.zeros(cell.shape)
    for axis in range(3):
        number = cells[axis]
        far_below, far_above = math.ceil(below[axis] / number), math.ceil(reach[axis] / number)
        owners, places, shifts = [], [], []
        for image in range(-far_below, far_above + 1):
            place = cell[:, axis] + image * number
            kept = (place >= -below[axis]) & (place < number + reach[axis])
            moved, offset = cell[kept], shift[kept]
            moved[:, axis], offset[:, axis] = place[kept], image
            owners.append(owner[kept])
            places.append(moved)
            shifts.append(offset)
        owner, cell, shift = np.concatenate(owners), np.concatenate(places), np.concatenate(shifts)
    return owner, cell, shift


def _runs(box, cells, reach, radius: float, half: bool) -> np.ndarray:
    """(runs, 4) columns of cells around a cell: offsets along the first two vectors, first and last along the third."""
    orthorhombic = np.count_nonzero(box - np.diag(np.diag(box))) == 0
    width = box_widths(box) / cells
    runs = []
    for a, b in product(range(-reach[0], reach[0] + 1), range(-reach[1], reach[1] + 1)):
        if half and (a, b) < (0, 0):
            continue
        far = int(reach[2])
        if orthorhombic:
            gap = np.maximum(np.abs([a, b]) - 1, 0) * width[:2]
            left = (radius * (1 + 1e-9)) ** 2 - float(gap @ gap)
            if left < 0:
                continue
            far = min(far, 1 + int(math.sqrt(left) / width[2]))
        runs.append((a, b, 0 if half and (a, b) == (0, 0) else -far, far))
    # The cell itself comes first: its points are the first columns of a block.
    return np.array(sorted(runs, key=lambda run: run[:2] != (0, 0)), dtype=np.int64)
