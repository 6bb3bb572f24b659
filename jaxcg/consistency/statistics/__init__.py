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
from .estimate import Estimate, too_uncertain

__all__ = [
    "BlockingCurve",
    "Estimate",
    "block_average",
    "block_length",
    "block_means",
    "blocking_curve",
    "decorrelated_frames",
    "statistical_inefficiency",
    "too_uncertain",
]
