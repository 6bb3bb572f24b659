"""Distributions of reference and model side by side, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...consistency.free_energy import FreeEnergyProfile, profile_deviation
from ...consistency.statistics import (
    DistributionComparison,
    Estimate,
    block_means,
    compare_histograms,
    curve_difference,
)
from ...consistency.statistics.binning import independent_blocks
from ...consistency.structure import BondedDistribution, RadialDistribution
from ...errors import InputError
from ...units import GAS_CONSTANT

#: Pairs an ideal gas would have in a bin of g(r) that is compared; bins near r = 0, whose shells are small, are joined.
ENOUGH = 25


class Difference(NamedTuple):
    """A distance that is not negative, with its interval.

    Fields:
        value, lower, upper: with what noise adds taken off.
    """

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class CurveComparison:
    """g(r) of reference and model.

    Arguments:
        name: the pair of kinds.
        reference, model: the distributions.
        difference: √(∫Δg² dr / ∫g² dr).
    """

    name: str
    reference: RadialDistribution
    model: RadialDistribution
    difference: Difference

    @property
    def highest(self) -> float:
        """The highest value of both, of bins that are not too small to tell."""
        enough = np.minimum(*(expected_pairs(one) for one in (self.reference, self.model))) >= ENOUGH
        if not enough.any():
            return 2.0
        return float(max(one.value[enough].max() for one in (self.reference, self.model)))


@dataclass(frozen=True)
class BondedComparison:
    """A bond, angle or dihedral of reference and model.

    Arguments:
        reference, model: the distributions.
        found: their divergences and verdict.
        deviation: mean square of the difference of the potentials of mean force over (kT)²; None without temperature.
    """

    reference: BondedDistribution
    model: BondedDistribution
    found: DistributionComparison
    deviation: Estimate | None


def expected_pairs(one: RadialDistribution) -> np.ndarray:
    """(bins,) pairs that an ideal gas of the same density has in all frames."""
    shells = 4 / 3 * np.pi * np.diff(one.edges**3)
    return one.pairs * one.density[0] / max(one.numbers[0], 1) * shells * one.frames


def compare_radial(
    reference: RadialDistribution, model: RadialDistribution, *, level: float = 0.95, seed: int = 0
) -> CurveComparison:
    """The relative difference of two g(r), √(∫Δg² dr / ∫g² dr).

    Squares, as what noise adds to them is known: it is taken off, and of two equal models the interval begins at zero.

    Arguments:
        reference, model: of the same bins.
        level: of the interval.
        seed: of the bootstrap.
    """
    expected = np.minimum(expected_pairs(reference), expected_pairs(model))
    group = np.minimum(np.floor(np.cumsum(expected) / ENOUGH), np.arange(len(expected))).astype(int)
    group = np.unique(group, return_inverse=True)[1]
    shells = np.diff(reference.edges**3)
    join = (group[:, None] == np.arange(group.max() + 1)) * shells[:, None]
    join /= join.sum(axis=0)
    found = curve_difference(
        block_means(reference.series) @ join,
        block_means(model.series) @ join,
        # Centres of the joined bins, weighted by length as the integral is over r.
        np.bincount(group, reference.centers) / np.bincount(group),
        power=2,
        level=level,
        seed=seed,
    )
    ends = [float(np.sqrt(max(v, 0.0))) for v in (found.value - found.bias, found.lower, found.upper)]
    value, lower, upper = ends
    return CurveComparison(
        "–".join(reference.types), reference, model, Difference(min(max(value, lower), upper), lower, upper)
    )


def compare_bonded(
    title: str,
    reference: BondedDistribution,
    model: BondedDistribution,
    *,
    temperature: float | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> BondedComparison:
    """Divergences of two distributions of a bonded coordinate, and how far their potentials of mean force are apart.

    Arguments:
        title: of the coordinate.
        reference, model: of the same bins.
        temperature: K; None: no potentials of mean force.
        level: of the intervals.
        seed: of the bootstrap.

    Raises:
        InputError: too few values to tell.
    """
    first, second = (
        independent_blocks([one.series * np.diff(one.edges) * one.terms * one.frames_per_block])
        for one in (reference, model)
    )
    try:
        found = compare_histograms(
            first,
            second,
            reference.edges,
            name=title,
            unit="nm" if reference.kind == "bond" else "rad",
            periods=2 * np.pi if reference.kind == "dihedral" else None,
            level=level,
            seed=seed,
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    deviation = None
    if temperature is not None and np.count_nonzero((reference.counts > 0) & (model.counts > 0)) > 1:
        deviation = profile_deviation(_profile(model, temperature), _profile(reference, temperature))
    return BondedComparison(reference, model, found, deviation)


def _profile(one: BondedDistribution, temperature: float) -> FreeEnergyProfile:
    """−kT ln p with the covariance of blocks; the Jacobian, in both, cancels in a difference."""
    kt = GAS_CONSTANT * temperature
    blocks = block_means(one.series)
    seen = one.value > 0
    density = np.where(seen, one.value, 1.0)
    value = np.where(seen, -kt * np.log(density), np.inf)
    scaled = np.where(seen, kt * (blocks - blocks.mean(axis=0)) / density, np.nan)
    covariance = scaled.T @ scaled / (len(blocks) * (len(blocks) - 1))
    return FreeEnergyProfile(one.centers, value, covariance, temperature)
