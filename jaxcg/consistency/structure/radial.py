"""Radial distribution functions and coordination numbers, streamed over frames, with block errors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from ..statistics import Estimate, block_average
from .cells import CellPairs, box_widths, check_points
from .frame_blocks import FrameBlocks

#: Distances kept before they are counted.
_AT_ONCE = 1 << 17
#: The name of the one type when no types are given.
ALL = "all"


@dataclass(frozen=True)
class RadialDistribution:
    """g(r) of one pair of types: pairs found in each shell over pairs of an ideal gas of the same density.

    The ideal gas has the same number of pairs, N(N−1)/2 of one type and N_a N_b of two, less the pairs left out: so g
    goes to 1 at large distances for any number of points. `in_convention` gives what other programs print.

    Fields:
        types: names of the two types; equal for a self distribution.
        edges: (bins + 1,) edges of the shells, nm.
        value: (bins,) g, the mean of counts over the mean of those of the ideal gas.
        error: (bins,) standard error from blocks of frames (nan for fewer than four frames, 0 where nothing was found).
        effective_sample_size: (bins,) independent frames, or blocks of ``frames_per_block``, that the error stands for.
        counts: (bins,) pairs found in all frames, each pair once.
        series: (blocks, bins) g linearised for each block of ``frames_per_block`` frames: its mean is g, its scatter
            the error of g; for bootstraps.
        frames: frames seen.
        frames_per_block: frames of a block of the series.
        numbers: points of the first and of the second type.
        pairs: pairs that could be found in a frame.
        density: number of points of either type over the volume, 1/nm³, means over frames.
        coordination_series: (blocks, bins) mean number of pairs within the outer edge of each bin, in each block.
    """

    types: tuple[str, str]
    edges: np.ndarray
    value: np.ndarray
    error: np.ndarray
    effective_sample_size: np.ndarray
    counts: np.ndarray
    series: np.ndarray
    frames: int
    frames_per_block: int
    numbers: tuple[int, int]
    pairs: int
    density: tuple[float, float]
    coordination_series: np.ndarray

    @property
    def centers(self) -> np.ndarray:
        """(bins,) middles of the shells, nm."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    def coordination(self, *, around: int = 0) -> Estimate:
        """Mean number of points of the other type within r of a point of one type.

        Arguments:
            around: 0 for points of the second type around one of the first, 1 the other way.

        Returns:
            The `Estimate` (bins,) at ``edges[1:]``.
        """
        ends = (2.0 if self.types[0] == self.types[1] else 1.0) / self.numbers[around]
        value = np.cumsum(self.counts) / self.frames * ends
        return block_average(self.coordination_series * ends)._replace(value=value)

    def in_convention(self, program: str) -> np.ndarray:
        """(bins,) g as another program normalises it.

        Arguments:
            program: "mdtraj" (as here: by the pairs that were looked at), "freud" (by N² pairs of one type, its mode
                "exact"; its "finite_size" is as here), "MDAnalysis" (as here with ``exclusion_block=(1, 1)`` in a box
                of constant volume; N² without, then also with every point in the first bin).

        Raises:
            ValueError: another program.
        """
        if program in ("mdtraj", "MDAnalysis"):
            return self.value
        if program != "freud":
            raise ValueError(f"RadialDistribution: no convention '{program}'; there are mdtraj, freud, MDAnalysis.")
        first, second = self.numbers
        all_pairs = first * first / 2 if self.types[0] == self.types[1] else first * second
        return self.value * self.pairs / all_pairs


class RadialAccumulator:
    """Adds up pair distances frame by frame; memory does not depend on the number of frames or of pairs.

    Arguments:
        r_max: largest distance, nm.
        bins: shells of equal thickness from 0 to ``r_max``.
        types: (points,) name of the type of every point; None for one type, "all".
        pairs: pairs of type names wanted; all of them when None.
        molecules: (points,) number of the molecule of every point.
        keep: "all" pairs, only those "between" different molecules, or "within" one.
        images: allow ``r_max`` beyond half the box: then every periodic image within it counts as a pair, for which
            full shells are the right normalisation; the distribution repeats the period of the box there. Refused
            otherwise.

    Raises:
        ValueError: an argument is out of range, or a pair names a type that no point has.
    """

    def __init__(
        self,
        r_max: float,
        *,
        bins: int = 200,
        types: Sequence[str] | np.ndarray | None = None,
        pairs: Sequence[tuple[str, str]] | None = None,
        molecules: Sequence[int] | np.ndarray | None = None,
        keep: str = "all",
        images: bool = False,
    ) -> None:
        if not (np.isfinite(r_max) and r_max > 0) or bins < 1:
            raise ValueError(f"radial distribution: r_max {r_max}, bins {bins} must be positive.")
        if keep not in ("all", "between", "within"):
            raise ValueError(f"radial distribution: keep is '{keep}'; it is 'all', 'between' or 'within'.")
        if keep != "all" and molecules is None:
            raise ValueError(f"radial distribution: pairs {keep} molecules need the molecule of every point.")
        self.edges = np.linspace(0.0, float(r_max), bins + 1)
        self._types = None if types is None else np.asarray(types, dtype=str)
        self._molecules = None if molecules is None else np.asarray(molecules)
        if self._types is not None and self._molecules is not None and len(self._types) != len(self._molecules):
            raise ValueError(
                f"radial distribution: {len(self._types)} types but {len(self._molecules)} molecules; give one of each "
                "for every point."
            )
        names = [ALL] if self._types is None else sorted(set(self._types.tolist()))
        wanted = list(combinations_with_replacement(names, 2)) if pairs is None else [(a, b) for a, b in pairs]
        lacking = sorted({name for pair in wanted for name in pair} - set(names))
        if lacking or not wanted:
            raise ValueError(
                f"radial distribution: no points of type {', '.join(lacking) or 'any pair'}; there are "
                f"{', '.join(names)}."
            )
        self.wanted = wanted
        self._keep, self._images = keep, images
        self._blocks = FrameBlocks()
        self._n_points: int | None = None

    def add(self, x: np.ndarray, box: np.ndarray | None) -> None:
        """Counts the pairs of one frame.

        Arguments:
            x: (points, 3) positions, nm, in any image.
            box: (3, 3) box vectors as rows, nm.

        Raises:
            ValueError: no box, ``r_max`` beyond half of it, positions that are not finite or too few or many.
        """
        x = np.asarray(x, np.float64)
        box = check_points(x, box)
        self._check(x, box)
        r_max, bins = float(self.edges[-1]), len(self.edges) - 1
        row = [np.array([1.0 / abs(np.linalg.det(box))])]
        for a, b in self.wanted:
            first, second = self._of(a), self._of(b)
            mine = None if self._molecules is None else self._molecules[first]
            if a == b:
                cells = CellPairs(x[first], box, r_max, groups=mine, keep=self._keep)
            else:
                theirs = None if self._molecules is None else self._molecules[second]
                cells = CellPairs(x[first], box, r_max, x[second], groups=mine, other_groups=theirs, keep=self._keep)
            row.append(count_distances(cells, bins))
        self._blocks.add(np.concatenate(row))

    def results(self) -> dict[tuple[str, str], RadialDistribution]:
        """The distributions so far, by pair of types.

        Raises:
            ValueError: no frame was added.
        """
        total, means = self._blocks.total(), self._blocks.means()
        return {pair: self._result(number, pair, total, means) for number, pair in enumerate(self.wanted)}

    def _result(self, number: int, types: tuple[str, str], total, means) -> RadialDistribution:
        bins, frames = len(self.edges) - 1, self._blocks.frames
        columns = slice(1 + number * bins, 1 + (number + 1) * bins)
        shells = 4.0 / 3.0 * np.pi * np.diff(self.edges**3)
        numbers, pairs = self._pairs(*types)
        ideal = pairs * total[0] * shells
        value = total[columns] / ideal if pairs else np.zeros(bins)
        # A ratio of means: its error is that of the mean of (counts − g ideal)/⟨ideal⟩.
        departure = means[:, columns] - value * (pairs * shells * means[:, :1])
        series = value + (departure / (ideal / frames) if pairs else departure)
        spread = block_average(series)
        return RadialDistribution(
            types=types,
            edges=self.edges,
            value=value,
            error=spread.error,
            effective_sample_size=spread.effective_sample_size,
            counts=total[columns],
            series=series,
            frames=frames,
            frames_per_block=self._blocks.length,
            numbers=numbers,
            pairs=pairs,
            density=(numbers[0] * total[0] / frames, numbers[1] * total[0] / frames),
            coordination_series=np.cumsum(means[:, columns], axis=1),
        )

    def _of(self, name: str) -> np.ndarray:
        if self._types is None:
            return np.arange(self._n_points or 0)
        return np.flatnonzero(self._types == name)

    def _pairs(self, a: str, b: str) -> tuple[tuple[int, int], int]:
        """Points of either type, and pairs between them that are asked for."""
        first, second = self._of(a), self._of(b)
        n, m = len(first), len(second)
        every = n * (n - 1) // 2 if a == b else n * m
        if self._keep == "all" or self._molecules is None:
            return (n, m), every
        number = np.unique(self._molecules, return_inverse=True)[1]
        mine, theirs = (np.bincount(number[some], minlength=number.max() + 1) for some in (first, second))
        within = int(np.sum(mine * (mine - 1) // 2 if a == b else mine * theirs))
        return (n, m), within if self._keep == "within" else every - within

    def _check(self, x: np.ndarray, box: np.ndarray) -> None:
        for what, found in (("types", self._types), ("molecules", self._molecules)):
            if found is not None and len(found) != len(x):
                raise ValueError(f"radial distribution: {len(found)} {what} but {len(x)} points in the frame.")
        if self._n_points not in (None, len(x)):
            raise ValueError(f"radial distribution: {len(x)} points, but {self._n_points} in the frames before.")
        self._n_points = len(x)
        half = 0.5 * float(box_widths(box).min())
        if self.edges[-1] > half * (1 + 1e-6) and not self._images:
            raise ValueError(
                f"radial distribution: r_max {self.edges[-1]:.4g} nm is more than half the smallest width of the box, "
                f"{half:.4g} nm; lower it, or count periodic images too (images=True)."
            )


def count_distances(cells: CellPairs, bins: int) -> np.ndarray:
    """Pairs by distance.

    Arguments:
        cells: the pairs.
        bins: of equal width from 0 to the radius of ``cells``.

    Returns:
        (bins,) number of pairs with edge ≤ distance < next edge, by distances in double precision.
    """

    counts, kept, length = np.zeros(bins + 1, np.int64), [], 0
    scale = bins / cells.radius
    for block in cells.blocks():
        found = block.squared[block.counted]
        kept.append(found)
        length += len(found)
        if length > _AT_ONCE:
            counts += _counted(kept, scale, bins)
            kept, length = [], 0
    if kept:
        counts += _counted(kept, scale, bins)
    # A distance that rounds up to the radius belongs to the last bin.
    counts[bins - 1] += counts[bins]
    return counts[:bins]


def _counted(kept: list[np.ndarray], scale: float, bins: int) -> np.ndarray:
    squared = np.concatenate(kept)
    # Products cancel: the squares of very small distances may be negative.
    np.maximum(squared, 0.0, out=squared)
    np.sqrt(squared, out=squared)
    squared *= scale
    return np.bincount(squared.astype(np.int64), minlength=bins + 1)


def radial_distributions(
    frames: Iterable[tuple[np.ndarray, np.ndarray | None]], r_max: float, **options
) -> dict[tuple[str, str], RadialDistribution]:
    """Radial distribution functions of a trajectory, by pair of types.

    Arguments:
        frames: (positions (points, 3), box (3, 3)) of every frame, nm.
        r_max: largest distance, nm.
        options: those of `RadialAccumulator`: bins, types, pairs, molecules, keep, images.

    Returns:
        Pair of types → `RadialDistribution`; ``("all", "all")`` is the only one without types.

    Raises:
        ValueError: no frames, no box, an ``r_max`` beyond half the box, or points that do not match.
    """
    accumulator = RadialAccumulator(r_max, **options)
    for x, box in frames:
        accumulator.add(x, box)
    return accumulator.results()


def radial_distribution(
    frames: Iterable[tuple[np.ndarray, np.ndarray | None]],
    r_max: float,
    *,
    bins: int = 200,
    molecules: Sequence[int] | np.ndarray | None = None,
    keep: str = "all",
    images: bool = False,
) -> RadialDistribution:
    """Radial distribution function of points of one type; arguments as those of `RadialAccumulator`."""
    found = radial_distributions(frames, r_max, bins=bins, molecules=molecules, keep=keep, images=images)
    return found[ALL, ALL]
