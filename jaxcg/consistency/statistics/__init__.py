"""Errors of averages over correlated series, and how far two distributions are apart, with intervals."""

from .block_errors import (
    BlockingCurve,
    block_average,
    block_length,
    block_means,
    blocking_curve,
    decorrelated_frames,
    statistical_inefficiency,
)
from .bootstrap import BootstrapEstimate, block_bootstrap
from .comparison import DistributionComparison, compare_distributions, compare_histograms
from .curves import compare_curves, curve_difference
from .divergences import (
    hellinger_distance,
    jensen_shannon_divergence,
    kl_divergence,
    sample_wasserstein_distance,
    wasserstein_distance,
)
from .estimate import Estimate, too_uncertain
from .intervals import Divergence

__all__ = [
    "BlockingCurve",
    "BootstrapEstimate",
    "DistributionComparison",
    "Divergence",
    "Estimate",
    "block_average",
    "block_bootstrap",
    "block_length",
    "block_means",
    "blocking_curve",
    "compare_curves",
    "compare_distributions",
    "compare_histograms",
    "curve_difference",
    "decorrelated_frames",
    "hellinger_distance",
    "jensen_shannon_divergence",
    "kl_divergence",
    "sample_wasserstein_distance",
    "statistical_inefficiency",
    "too_uncertain",
    "wasserstein_distance",
]
