"""Two distributions side by side: divergences with intervals, a p-value and a verdict in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...dynamics.observables.comparison import largest_deviation
from .binning import (
    as_runs,
    block_counts,
    chosen_edges,
    effective_size,
    grouped,
    independent_blocks,
    merged_bins,
    shares_and_variances,
)
from .block_errors import FEWEST_BLOCKS
from .estimate import Estimate, check_level
from .intervals import Divergence, Drawn, separable_divergences, wasserstein_divergence

#: Effective samples below which the words warn.
_FEW = 100


@dataclass(frozen=True)
class DistributionComparison:
    """A distribution of the reference and of a model. Result of `compare_distributions`.

    Fields:
        name, unit: of the coordinate.
        edges: of the bins, an array for each axis.
        reference, model: `Estimate`s of the densities, of the shape of the bins, per unit of the coordinate(s); the
            effective sample size is that of the whole histogram, a number.
        divergences: the table, `Divergence`s.
        blocks: number of independent blocks of reference and model.
        deviation, place: model − reference where they differ most, in standard errors, and the coordinate there (an
            entry for each axis; nan where sparse bins together differ most).
        p_value: probability of so large a deviation anywhere if both were samples of one distribution.
        level: of intervals and test.
        agree: whether the p-value is above 1 − level.
        verdict: the same in words, with numbers.
        warnings: what is to be kept in mind, one sentence each.
    """

    name: str
    unit: str
    edges: tuple[np.ndarray, ...]
    reference: Estimate
    model: Estimate
    divergences: tuple[Divergence, ...]
    blocks: tuple[int, int]
    deviation: float
    place: tuple[float, ...]
    p_value: float
    level: float
    agree: bool
    verdict: str
    warnings: tuple[str, ...]

    def __getitem__(self, name: str) -> Divergence:
        """The divergence of that name."""
        for each in self.divergences:
            if each.name == name:
                return each
        raise KeyError(f"{name!r}; there are {', '.join(repr(each.name) for each in self.divergences)}")

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain lists and numbers, for JSON; None where a number is not finite."""
        density = {
            side: {"density": _plain(e.value), "error": _plain(e.error), "effective_samples": _plain(e[2])}
            for side, e in (("reference", self.reference), ("model", self.model))
        }
        return {
            "name": self.name,
            "unit": self.unit,
            "edges": [_plain(edge) for edge in self.edges],
            **density,
            "divergences": [{k: _plain(v) for k, v in each._asdict().items()} for each in self.divergences],
            "blocks": list(self.blocks),
            "deviation": _plain(self.deviation),
            "place": [_plain(x) for x in self.place],
            "p_value": self.p_value,
            "level": self.level,
            "agree": self.agree,
            "verdict": self.verdict,
            "warnings": list(self.warnings),
        }

    def table(self) -> str:
        """The divergences in plain text, one a line."""
        return "\n".join(str(each) for each in self.divergences)


class _Side(NamedTuple):
    """Counts (blocks, bins), shares (bins,), their squared errors, effective number of values."""

    counts: np.ndarray
    share: np.ndarray
    variance: np.ndarray
    size: float


def compare_distributions(
    reference: Any,
    model: Any,
    *,
    name: str = "distribution",
    unit: str = "",
    dimensions: int = 1,
    edges: Any = None,
    bins: int | None = None,
    periods: float | Sequence[float | None] | None = None,
    axes: Sequence[str] | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> DistributionComparison:
    """How far samples of a model are from samples of the reference.

    Correlations in time are seen to by blocks (see `block_length`) of frames; all values of a frame stay together. The
    divergences, their bias and their intervals are those of `compare_histograms`.

    Arguments:
        reference: (frames, ...) values of the coordinate in the order of time, many to a frame if there are (all bonds
            of one kind); (frames, ..., dimensions) for several coordinates together. A list of such arrays for
            independent runs.
        model: the same of the model; other numbers of frames and values.
        name: what the coordinate is called.
        unit: of the coordinate.
        dimensions: coordinates that belong together, 2 for (φ, ψ).
        edges: of the bins; for several dimensions a list of arrays. None: bins of one width over all values.
        bins: number of bins for each axis where no edges are given. None: by the number of values.
        periods: of the coordinate, or one for each axis with None for those without; 2π for dihedrals in radians.
        axes: names of the axes of several dimensions.
        level: of the intervals and, from one, of the test.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The `DistributionComparison`.

    Raises:
        ValueError: samples of a shape that does not fit, empty, not finite, outside the edges, or too few.
    """
    sides = [
        as_runs(each, dimensions, f"{name}, {side}") for each, side in ((reference, "reference"), (model, "model"))
    ]
    period = _per_axis(periods, dimensions)
    if edges is None:
        pooled = [*sides[0], *sides[1]]
        edge = tuple(chosen_edges(pooled, bins, period[i], i, dimensions) for i in range(dimensions))
    else:
        edge = _edges(edges)
    if len(edge) != dimensions:
        raise ValueError(f"{name}: edges for {len(edge)} axes, but {dimensions} dimensions; give one array for each.")
    _check_periods(edge, period, name)
    first, second = (
        independent_blocks(block_counts(runs, edge, period, f"{name}, {side}"))
        for runs, side in zip(sides, ("reference", "model"), strict=True)
    )
    shape = tuple(len(e) - 1 for e in edge)
    return compare_histograms(
        first.reshape(-1, *shape),
        second.reshape(-1, *shape),
        edge,
        name=name,
        unit=unit,
        periods=period,
        axes=axes,
        level=level,
        resamples=resamples,
        seed=seed,
    )


def compare_histograms(
    reference: np.ndarray,
    model: np.ndarray,
    edges: Any,
    *,
    name: str = "distribution",
    unit: str = "",
    periods: float | Sequence[float | None] | None = None,
    axes: Sequence[str] | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> DistributionComparison:
    """`compare_distributions` from counts of blocks, e.g. of accumulators that stream over trajectories.

    Sparse bins are merged until they hold ten effective samples of both sides together (adjacent ones on one axis), for
    the divergences and the test but not for Wasserstein distances; what bins forget makes a divergence smaller, never
    larger. Bias of finite samples: that of the Kullback–Leibler, Jensen–Shannon and Hellinger divergences is taken off
    to second order (½ Σ φ″ Var over the bins, the variances from the blocks); that of the Wasserstein distance is taken
    off as far as the bootstrap sees it, and the rest lies between zero and its `Divergence.bias_bound`. A bin where one
    side has nothing and the other something makes the exact divergence D infinite; half an effective sample is put
    there, and the value is marked as a lower bound.

    Arguments:
        reference: (blocks, bins...) counts of blocks that may be taken as independent, four at least.
        model: (blocks, bins...) of the same bins; another number of blocks.
        edges: (bins + 1,), or one array for each axis.
        name: what the coordinate is called.
        unit: of the coordinate.
        periods: as in `compare_distributions`.
        axes: names of the axes of several dimensions.
        level: of the intervals and, from one, of the test.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The `DistributionComparison`.

    Raises:
        ValueError: histograms that do not fit the edges, empty, negative or not finite, or of too few blocks.
    """
    check_level(level)
    edge = _edges(edges)
    shape = tuple(len(e) - 1 for e in edge)
    period = _per_axis(periods, len(shape))
    _check_periods(edge, period, name)
    axes = tuple(axes) if axes is not None else tuple(f"axis {i + 1}" for i in range(len(shape)))
    first, second = (_side(*pair, shape, name) for pair in ((reference, "reference"), (model, "model")))
    group = merged_bins(_held(first) + _held(second), neighbours=len(shape) == 1)
    if group.max() == 0 and np.isfinite(min(first.size, second.size)):
        raise ValueError(
            f"{name}: {first.size:.3g} and {second.size:.3g} effective samples are too few to tell distributions "
            "apart; give longer runs."
        )
    rng = np.random.default_rng(seed)
    drawn = Drawn.of(first.counts, second.counts, resamples, level, rng)
    coarse = drawn.grouped(group)
    sizes = (first.size, second.size)
    divergences = separable_divergences(coarse, sizes)
    for i, label in enumerate(axes):
        marginal = drawn if len(shape) == 1 else drawn.marginal(shape, i)
        suffix = "" if len(shape) == 1 else f" {label}"
        found = wasserstein_divergence(marginal, edge[i], period[i] is not None, unit)
        divergences.append(found._replace(name=found.name + suffix))
    deviations, worst, p_value = largest_deviation(
        _block_shares(grouped(first.counts, group)),
        _block_shares(grouped(second.counts, group)),
        slack=np.zeros(group.max() + 1),
        rng=rng,
        # All or nothing in every block of both sides: half a block may have been missed.
        unseen=0.5 * float(np.hypot(1 / len(first.counts), 1 / len(second.counts))),
    )
    place = _place(group, worst, edge, shape)
    agree = p_value >= 1 - level
    warnings = _warnings(sizes, divergences)
    words = _verdict(agree, p_value, float(deviations[worst]), place, unit, divergences, level)
    volume = _volumes(edge)
    return DistributionComparison(
        name=name,
        unit=unit,
        edges=edge,
        reference=_density(first, volume, shape),
        model=_density(second, volume, shape),
        divergences=tuple(divergences),
        blocks=(len(first.counts), len(second.counts)),
        deviation=float(deviations[worst]),
        place=place,
        p_value=p_value,
        level=level,
        agree=agree,
        verdict=words,
        warnings=warnings,
    )


def _side(counts, side: str, shape, name: str) -> _Side:
    counts = np.asarray(counts, np.float64)
    if counts.shape[1:] != shape:
        raise ValueError(f"{name}, {side}: histograms of shape {counts.shape[1:]}, but the edges make bins {shape}.")
    counts = counts.reshape(len(counts), -1)
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError(f"{name}, {side}: counts that are negative or not finite.")
    counts = counts[counts.sum(axis=1) > 0]
    if len(counts) < FEWEST_BLOCKS:
        raise ValueError(
            f"{name}, {side}: {len(counts)} blocks with values, but {FEWEST_BLOCKS} are needed for an error; give a "
            "longer run."
        )
    share, variance = shares_and_variances(counts)
    return _Side(counts, share, variance, effective_size(share, variance))


def _held(side: _Side) -> np.ndarray:
    # A histogram that never scatters is known from its counts alone.
    return side.share * (side.size if np.isfinite(side.size) else side.counts.sum())


def _block_shares(counts):
    return counts / counts.sum(axis=1, keepdims=True)


def _edges(edges) -> tuple[np.ndarray, ...]:
    several = edges if isinstance(edges, list | tuple) and len(edges) and np.ndim(edges[0]) == 1 else [edges]
    edge = tuple(np.asarray(each, np.float64) for each in several)
    for each in edge:
        if each.ndim != 1 or len(each) < 3 or not (np.diff(each) > 0).all():
            raise ValueError("compare: the edges of an axis must be at least three increasing numbers.")
    return edge


def _per_axis(periods, dimensions: int) -> tuple[float | None, ...]:
    each = (periods,) * dimensions if periods is None or np.ndim(periods) == 0 else tuple(periods)
    if len(each) != dimensions:
        raise ValueError(f"compare: {len(each)} periods for {dimensions} axes; give one for each, or one for all.")
    return each


def _check_periods(edge, period, name: str) -> None:
    for each, p in zip(edge, period, strict=True):
        if p is not None and not np.isclose(each[-1] - each[0], p):
            raise ValueError(f"{name}: edges from {each[0]:g} to {each[-1]:g} do not go round the period {p:g}.")


def _volumes(edge) -> np.ndarray:
    volume = np.ones(())
    for each in edge:
        volume = volume[..., None] * np.diff(each)
    return volume


def _density(side: _Side, volume, shape) -> Estimate:
    return Estimate(side.share.reshape(shape) / volume, np.sqrt(side.variance).reshape(shape) / volume, side.size)


def _place(group, worst: int, edge, shape) -> tuple[float, ...]:
    members = np.flatnonzero(group == worst)
    if len(shape) == 1:
        return (float(edge[0][members[0]] + edge[0][members[-1] + 1]) / 2,)
    if len(members) > 1:
        return (np.nan,) * len(shape)
    index = np.unravel_index(members[0], shape)
    return tuple(float(e[i] + e[i + 1]) / 2 for e, i in zip(edge, index, strict=True))


def _warnings(sizes, divergences) -> tuple[str, ...]:
    words = [
        f"the {side} has only {size:.0f} effective samples; intervals are rough below {_FEW}"
        for side, size in zip(("reference", "model"), sizes, strict=True)
        if size < _FEW
    ]
    words += [
        f"{each.direction} is a lower bound: one side has nothing where the other has values"
        for each in divergences
        if each.lower_bound
    ]
    return tuple(words)


def _verdict(agree, p_value, deviation, place, unit, divergences, level) -> str:
    symmetric = next(each for each in divergences if each.name == "Jensen–Shannon")
    if agree:
        return (
            f"no difference beyond chance (p = {p_value:.2g}); the Jensen–Shannon divergence is at most "
            f"{symmetric.upper:.2g} nats ({100 * level:g} %)"
        )
    where = "in the sparse bins together"
    if np.isfinite(place[0]):
        where = "at " + ", ".join(f"{x:.3g}" for x in place) + (f" {unit}" if unit else "")
    chance = f"p = {p_value:.2g}" if p_value >= 1e-4 else "p < 0.0001"
    return (
        f"they differ ({chance}), most {where}, by {deviation:+.1f} standard errors; Jensen–Shannon divergence "
        f"{symmetric.value:.2g} nats, {symmetric.lower:.2g} to {symmetric.upper:.2g} ({100 * level:g} %), "
        "of 0.69 at most"
    )


def _plain(value):
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value.tolist()]
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
