"""Correlation functions of many blocks of trajectories, kept apart so that they can be drawn again with replacement.

On the host and in double precision, whatever the precision of the data. A block owns the pairs of frames whose earlier
frame it contains; the later one may lie in the next block. So the sum over blocks is the correlation function of the
whole trajectories, and nothing is lost at the seams.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np

from .profile import EstimatedProfile
from .profile_response import block_histograms, cell_response

#: Most blocks kept; beyond them neighbours are merged, so that a stream of any length fits in the memory.
_MOST = 512
#: Numbers transformed at a time.
_CHUNK = 1 << 22


@dataclass(frozen=True)
class BlockSums:
    """Sums over pairs of frames of every block.

    Fields:
        totals: name of a pair of quantities → (blocks, lags, columns, columns) Σ a(t + lag) b(t)ᵀ.
        pairs: (blocks, lags) number of pairs.
        histograms: (blocks, bins) of the positions, where a profile is made of them.
        response: (cells, lags) of `cell_response`, of all blocks together; where a profile is made.
    """

    totals: dict[str, np.ndarray]
    pairs: np.ndarray
    histograms: np.ndarray | None = None
    response: np.ndarray | None = None

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.pairs.shape[0]

    def means(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Correlation functions (..., lags, columns, columns) of blocks that count ``weights`` (..., blocks) times."""
        weights = np.ones(self.blocks) if weights is None else np.asarray(weights, np.float64)
        pairs = np.maximum(weights @ self.pairs, 1e-300)[..., None, None]
        return {name: np.tensordot(weights, total, 1) / pairs for name, total in self.totals.items()}

    def draws(self, resamples: int, seed: int) -> np.ndarray:
        """(resamples, blocks) how often each block is drawn in samples with replacement that have pairs at all lags."""
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(self.blocks, np.full(self.blocks, 1 / self.blocks), size=resamples).astype(np.float64)
        # Where only few trajectories reach the largest lags, a sample may lack them.
        lacking = (drawn @ self.pairs).min(axis=1) <= 0
        drawn[lacking] = 1.0
        return drawn

    @classmethod
    def of(cls, parts: Iterable[Self]) -> Self:
        """All blocks of all parts; neighbours are merged where there are too many."""
        whole: list[Self] = []
        for part in parts:
            whole.append(part)
            if sum(p.blocks for p in whole) > 2 * _MOST:
                whole = [cls._joined(whole)]
        return cls._joined(whole)

    @classmethod
    def _joined(cls, parts: list[Self]) -> Self:
        pairs = _merged(np.concatenate([p.pairs for p in parts]))
        totals = {name: _merged(np.concatenate([p.totals[name] for p in parts])) for name in parts[0].totals}
        histograms = [p.histograms for p in parts if p.histograms is not None]
        responses = [p.response for p in parts if p.response is not None]
        if not histograms or not responses:
            return cls(totals, pairs)
        return cls(totals, pairs, _merged(np.concatenate(histograms)), np.sum(responses, axis=0))


def _merged(table: np.ndarray) -> np.ndarray:
    while len(table) > _MOST:
        odd = len(table) % 2
        table = np.concatenate(
            [table[: len(table) - odd : 2] + table[1 : len(table) - odd : 2], table[len(table) - odd :]]
        )
    return table


def block_sums(
    quantities: dict[str, tuple[np.ndarray, np.ndarray]],
    lags: int,
    pieces: int,
    *,
    isotropic: bool,
    profile: EstimatedProfile | None = None,
    positions: np.ndarray | None = None,
) -> BlockSums:
    """Sums of the blocks of some trajectories.

    Arguments:
        quantities: name → a and b, each (trajectories, frames, columns).
        lags: number of lags, from 0.
        pieces: blocks of each trajectory.
        isotropic: average over the columns of a_i b_i: one column in the result.
        profile: which the forces in ``quantities["fv"]`` come from, if it is to be made anew with the blocks.
        positions: (trajectories, frames, columns), with the profile.
    """
    trajectories, frames, columns = next(iter(quantities.values()))[0].shape
    bounds = np.linspace(0, frames, pieces + 1).astype(int)
    longest = int(np.diff(bounds).max())
    size = 1 << (longest + lags - 1).bit_length()
    at_once = max(_CHUNK // (size * columns), 1)
    kept = 1 if isotropic else columns
    totals = {name: np.zeros((trajectories, pieces, lags, kept, kept)) for name in quantities}
    for name, (a, b) in quantities.items():
        for start in range(0, trajectories, at_once):
            some = slice(start, start + at_once)
            for piece, (low, high) in enumerate(pairwise(bounds)):
                later = np.fft.rfft(np.asarray(a[some, low : high + lags - 1], np.float64), size, axis=1)
                earlier = np.fft.rfft(np.asarray(b[some, low:high], np.float64), size, axis=1).conj()
                if isotropic:
                    product = (np.einsum("nfi,nfi->nf", later, earlier) / columns)[:, :, None, None]
                else:
                    product = later[..., :, None] * earlier[..., None, :]
                totals[name][some, piece] = np.fft.irfft(product, size, axis=1)[:, :lags]
    count = np.clip(frames - np.arange(lags) - bounds[:-1, None], 0, np.diff(bounds)[:, None])
    pairs = np.broadcast_to(count, (trajectories, pieces, lags)).astype(np.float64)
    flat = {name: total.reshape(-1, lags, kept, kept) for name, total in totals.items()}
    found = BlockSums(flat, pairs.reshape(-1, lags))
    if profile is None or positions is None:
        return found
    histograms = block_histograms(profile, positions, bounds)
    return replace(found, histograms=histograms, response=cell_response(profile, positions, quantities["fv"][1], lags))
