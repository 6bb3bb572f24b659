"""Distributions of bond lengths, angles and dihedrals, streamed over frames, with block errors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...units import thermal_energy
from ..statistics import block_average
from .cells import check_points
from .frame_blocks import FrameBlocks
from .internal_coordinates import bond_angles, bond_lengths, dihedral_angles

Kind = Literal["bond", "angle", "dihedral"]
_COORDINATES = {"bond": bond_lengths, "angle": bond_angles, "dihedral": dihedral_angles}
_POINTS = {"bond": 2, "angle": 3, "dihedral": 4}
_RANGES = {"angle": (0.0, np.pi), "dihedral": (-np.pi, np.pi)}


@dataclass(frozen=True)
class BondedDistribution:
    """How a bonded coordinate is distributed: p(q) dq, and the same over its Jacobian.

    ``value`` is the density of the coordinate itself, 1/nm or 1/rad: what a histogram shows. ``per_volume`` is that
    over the volume element, r² of bonds and sin θ of angles (1 of dihedrals), integrated over each bin: what −kT ln of
    gives the potential of mean force. Both have the integral 1 over the coordinate, if nothing is outside the range.

    Fields:
        kind: "bond", "angle" or "dihedral".
        edges: (bins + 1,) nm or rad.
        value: (bins,) density, 1/nm or 1/rad.
        error: (bins,) standard error from blocks of frames (nan for fewer than four frames, 0 where nothing was found).
        effective_sample_size: (bins,) independent frames, or blocks of ``frames_per_block``, that the error stands for.
        counts: (bins,) values found.
        outside: number of values outside the range; the density counts them in its normalisation.
        mean: of the coordinate, nm or rad; for dihedrals the direction of the mean unit vector.
        mean_error: its standard error.
        series: (blocks, bins) the density of each block of ``frames_per_block`` frames.
        frames: frames seen.
        frames_per_block: frames of a block of the series.
        terms: coordinates in a frame.
    """

    kind: Kind
    edges: np.ndarray
    value: np.ndarray
    error: np.ndarray
    effective_sample_size: np.ndarray
    counts: np.ndarray
    outside: int
    mean: float
    mean_error: float
    series: np.ndarray
    frames: int
    frames_per_block: int
    terms: int

    @property
    def centers(self) -> np.ndarray:
        """(bins,) middles of the bins, nm or rad."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def jacobian(self) -> np.ndarray:
        """(bins,) mean of r² (nm²), sin θ or 1 over each bin."""
        if self.kind == "bond":
            return np.diff(self.edges**3) / (3.0 * np.diff(self.edges))
        if self.kind == "angle":
            return -np.diff(np.cos(self.edges)) / np.diff(self.edges)
        return np.ones(len(self.edges) - 1)

    @property
    def per_volume(self) -> np.ndarray:
        """(bins,) density over the Jacobian, scaled to the integral 1, 1/nm or 1/rad."""
        density = self.value / self.jacobian
        return density / max(float(np.sum(density * np.diff(self.edges))), 1e-300)

    def mean_force_potential(self, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """−kT ln of the density over the Jacobian: the potential that gives this distribution to a lone coordinate.

        Arguments:
            temperature: K.

        Returns:
            (bins,) kJ/mol, 0 at its minimum and infinite where nothing was found; its standard error (infinite there).
        """
        kt = thermal_energy(temperature)
        with np.errstate(divide="ignore", invalid="ignore"):
            potential = -kt * np.log(self.per_volume)
            error = np.where(self.counts > 0, kt * self.error / self.value, np.inf)
        return potential - np.min(potential), error


class BondedAccumulator:
    """Histograms of one kind of bonded coordinate, by name, added up frame by frame.

    Arguments:
        kind: "bond", "angle" or "dihedral".
        atoms: (terms, 2, 3 or 4) indices of the points.
        names: (terms,) name of the distribution each term counts for; one named as the kind when None.
        bins: bins of equal width.
        limits: range of bonds, nm; the full circle or half circle of angles. None takes it, for bonds, from the first
            frame: up to twice its longest.
        n_points: number of points of a frame; checks the indices at once.

    Raises:
        ValueError: wrong shapes, no terms, or an empty range.
    """

    def __init__(
        self,
        kind: Kind,
        atoms: np.ndarray | Sequence,
        *,
        names: Sequence[str] | np.ndarray | None = None,
        bins: int = 100,
        limits: tuple[float, float] | None = None,
        n_points: int | None = None,
    ) -> None:
        if kind not in _POINTS:
            raise ValueError(f"bonded distribution: kind is '{kind}'; it is 'bond', 'angle' or 'dihedral'.")
        self._atoms = np.asarray(atoms, dtype=np.int64)
        if self._atoms.ndim != 2 or self._atoms.shape[1] != _POINTS[kind] or not len(self._atoms):
            raise ValueError(
                f"bonded distribution: {kind}s are given as (terms, {_POINTS[kind]}) indices, one term at least; got "
                f"the shape {self._atoms.shape}."
            )
        if n_points is not None:
            self._check_indices(n_points)
        labels = np.full(len(self._atoms), kind) if names is None else np.asarray(names, dtype=str)
        if labels.shape != (len(self._atoms),):
            raise ValueError(f"bonded distribution: {len(self._atoms)} terms but {labels.size} names.")
        if limits is not None and not limits[0] < limits[1]:
            raise ValueError(f"bonded distribution: the range {limits[0]:g} to {limits[1]:g} is empty.")
        if bins < 1:
            raise ValueError(f"bonded distribution: {bins} bins; give one at least.")
        self.kind: Kind = kind
        self.names, self._group = np.unique(labels, return_inverse=True)
        self._bins, self._limits = bins, _RANGES.get(kind) if limits is None else limits
        self._sizes = np.bincount(self._group)
        self._blocks = FrameBlocks()

    def add(self, x: np.ndarray, box: np.ndarray | None) -> None:
        """Counts the coordinates of one frame.

        Arguments:
            x: (points, 3) positions, nm.
            box: (3, 3) box vectors as rows, nm; nearest images are taken. None for positions as they are.

        Raises:
            ValueError: positions that are not finite, or too few of them.
        """
        x = np.asarray(x, np.float64)
        box = None if box is None else check_points(x, box)
        self._check_indices(len(x))
        if not np.isfinite(x[self._atoms]).all():
            raise ValueError("bonded distribution: positions are not finite.")
        value = np.asarray(_COORDINATES[self.kind](x, self._atoms, box))
        if self._limits is None:
            self._limits = (0.0, 2.0 * float(value.max()))
        low, high = self._limits
        count, bins = len(self.names), self._bins
        place = np.floor((value - low) * (bins / (high - low))).astype(np.int64)
        place[(value == high) & (place == bins)] = bins - 1
        inside = (place >= 0) & (place < bins)
        counts = np.bincount(self._group[inside] * bins + place[inside], minlength=count * bins)
        cosine, sine = (np.cos(value), np.sin(value)) if self.kind == "dihedral" else (value, np.zeros_like(value))
        moments = [np.bincount(self._group, weights, count) for weights in (cosine, sine)]
        self._blocks.add(np.concatenate([counts, *moments]))

    def results(self) -> dict[str, BondedDistribution]:
        """The distributions so far, by name.

        Raises:
            ValueError: no frame was added.
        """
        total, means = self._blocks.total(), self._blocks.means()
        return {str(name): self._result(number, total, means) for number, name in enumerate(self.names)}

    def _result(self, number: int, total: np.ndarray, means: np.ndarray) -> BondedDistribution:
        bins, count, frames = self._bins, len(self.names), self._blocks.frames
        low, high = self._limits or (0.0, 1.0)
        edges = np.linspace(low, high, bins + 1)
        columns = slice(number * bins, (number + 1) * bins)
        terms = int(self._sizes[number])
        series = means[:, columns] / (terms * np.diff(edges))
        spread = block_average(series)
        first, second = count * bins + number, count * (bins + 1) + number
        mean, departure = total[first] / (frames * terms), means[:, first] / terms
        if self.kind == "dihedral":
            length = np.hypot(total[first], total[second])
            mean = np.arctan2(total[second], total[first])
            # Turning of the mean vector: its part across its direction, over its length.
            across = total[first] * means[:, second] - total[second] * means[:, first]
            departure = across * frames / max(length**2, 1e-300)
        return BondedDistribution(
            kind=self.kind,
            edges=edges,
            value=total[columns] / (frames * terms * np.diff(edges)),
            error=spread.error,
            effective_sample_size=spread.effective_sample_size,
            counts=total[columns],
            outside=round(frames * terms - float(total[columns].sum())),
            mean=float(mean),
            mean_error=float(block_average(departure).error),
            series=series,
            frames=frames,
            frames_per_block=self._blocks.length,
            terms=terms,
        )

    def _check_indices(self, n_points: int) -> None:
        if self._atoms.min() < 0 or self._atoms.max() >= n_points:
            raise ValueError(
                f"bonded distribution: terms name the points {self._atoms.min()} to {self._atoms.max()}, but there are "
                f"{n_points}; number them from 0."
            )


def bonded_distributions(
    frames: Iterable[tuple[np.ndarray, np.ndarray | None]],
    terms: Mapping[Kind, np.ndarray],
    *,
    bins: int = 100,
    names: Mapping[Kind, Sequence[str]] | None = None,
) -> dict[Kind, dict[str, BondedDistribution]]:
    """Distributions of bonds, angles and dihedrals of a trajectory in one pass.

    Arguments:
        frames: (positions (points, 3), box (3, 3) or None) of every frame, nm.
        terms: kind → (terms, 2, 3 or 4) indices.
        bins: of every histogram.
        names: kind → (terms,) names of distributions.

    Returns:
        Kind → name → `BondedDistribution`.
    """
    names = names or {}
    accumulators: dict[Kind, BondedAccumulator] = {
        kind: BondedAccumulator(kind, atoms, bins=bins, names=names.get(kind)) for kind, atoms in terms.items()
    }
    for x, box in frames:
        for accumulator in accumulators.values():
            accumulator.add(x, box)
    return {kind: accumulator.results() for kind, accumulator in accumulators.items()}
