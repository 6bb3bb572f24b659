"""What ⟨F(t) v(0)⟩ owes to the free-energy profile that F comes from, so that resampling can include the profile.

A profile from the same data errs with them. In every sample of a bootstrap it is made anew; the change of the mean
force, averaged over some tens of cells of the coordinate, acts on the correlation function of the sample through
⟨1_cell(x(t)) v(0)⟩ of all the data: to first order in the errors, which is what a bootstrap is good for.
"""

import numpy as np

from .profile import EstimatedProfile

#: Numbers transformed at a time, and the shortest transforms worth their overhead.
_CHUNK, _SHORT = 1 << 21, 1 << 13


def block_histograms(profile: EstimatedProfile, x: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """(trajectories · pieces, bins) counts of ``x`` (trajectories, frames, columns) between ``bounds`` in frames."""
    return np.array([profile.counts(part) for row in x for part in np.split(row, bounds[1:-1])], np.float64)


def cell_response(profile: EstimatedProfile, x: np.ndarray, v: np.ndarray, lags: int) -> np.ndarray:
    """(cells, lags) Σ 1_cell(x(t + lag)) v(t) over all pairs of frames, averaged over columns.

    Arguments:
        profile: whose cells.
        x, v: positions and velocities (trajectories, frames, columns).
        lags: number of lags, from 0.
    """
    trajectories, frames, columns = x.shape
    size = min(max(1 << (4 * lags - 1).bit_length(), _SHORT), 1 << (frames + lags - 2).bit_length())
    step = size - lags + 1
    pieces = -(-frames // step)
    spectra = np.zeros((profile.cells, size // 2 + 1), np.complex128)
    rows, some = max(_CHUNK // (pieces * size), 1), max(_CHUNK // size, 1)
    for first in range(0, trajectories, rows):
        for column in range(columns):
            part = x[first : first + rows, :, column]
            # Beyond the end there is no cell, and no velocity.
            cells = np.full((len(part), pieces * step + lags - 1), -1, np.int16)
            cells[:, :frames] = profile.cell(part)
            speeds = np.zeros((len(part), pieces * step), np.float32)
            speeds[:, :frames] = v[first : first + rows, :, column]
            speeds = speeds.reshape(len(part), pieces, step)
            windows = np.lib.stride_tricks.sliding_window_view(cells, size, axis=1)[:, ::step]
            for start in range(0, pieces, some):
                earlier = np.conj(np.fft.rfft(speeds[:, start : start + some], size))
                later = windows[:, start : start + some]
                for cell in range(profile.cells):
                    inside = np.fft.rfft((later == cell).astype(np.float32), size)
                    spectra[cell] += np.einsum("rps,rps->s", inside, earlier)
    return np.fft.irfft(spectra, size)[:, :lags] / columns


def force_changes(
    profile: EstimatedProfile, histograms: np.ndarray, weights: np.ndarray, response: np.ndarray
) -> np.ndarray:
    """(samples, lags) what the profile of each sample adds to Σ F(t + lag) v(t) of all the data.

    Arguments:
        profile: of all the data.
        histograms: (blocks, bins).
        weights: (samples, blocks), how often each block counts.
        response: (cells, lags) of `cell_response`.
    """
    whole = profile.forces(histograms.sum(axis=0))
    if whole is None:
        return np.zeros((len(weights), response.shape[1]))
    remade = [profile.forces(counts) for counts in weights @ histograms]
    # A sample that hardly moves says nothing about the profile.
    return np.array([np.zeros_like(whole) if forces is None else forces - whole for forces in remade]) @ response
