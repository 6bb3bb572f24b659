"""Whether a memory kernel can belong to a bath in equilibrium: its spectrum must nowhere be negative."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .forms import AbstractMemoryKernel, PassiveKernel, PronyKernel, SumKernel, TabulatedKernel

#: Frequencies looked at, and how negative a spectrum may be by round-off, as a share of its largest value.
_GRID, _ROUND_OFF = 4000, 1e-9
#: Terms of transforms worked out at once.
_ENTRIES = 4_000_000


class Passivity(NamedTuple):
    """Result of `is_positive_real`.

    Fields:
        holds: whether the spectrum is non-negative at every frequency looked at.
        frequency: where it is lowest, 1/ps.
        spectrum: its lowest eigenvalue there, amu/ps.
    """

    holds: bool
    frequency: float
    spectrum: float

    def __bool__(self) -> bool:
        return self.holds


def is_positive_real(kernel: AbstractMemoryKernel, *, highest: float | None = None) -> Passivity:
    """Whether Γ̂(iω) + Γ̂(iω)ᴴ ≥ 0 for all ω, so that a noise with ⟨η η⟩ = kT Γ exists and friction takes energy out.

    Arguments:
        kernel: any memory kernel.
        highest: largest frequency to look at, 1/ps; found from the kernel's own scales when None.

    Source: positive-real lemma; Bochner's theorem for the noise.
    """
    top = _highest(kernel) if highest is None else highest
    omega = np.concatenate([[0.0], np.geomspace(1e-6 * top, top, _GRID // 2), np.linspace(0, top, _GRID // 2)[1:]])
    # Piece by piece: the transform of a long table takes memory for every frequency at once.
    pieces = np.array_split(omega, max(1, len(omega) * _length(kernel) // _ENTRIES))
    spectrum = np.concatenate([np.asarray(kernel.spectrum(jnp.asarray(piece))) for piece in pieces])
    if kernel.coordinates is None:
        lowest, largest = spectrum, np.abs(spectrum).max()
    else:
        values = np.linalg.eigvalsh(spectrum)
        lowest, largest = values[:, 0], np.abs(values).max()
    where = int(lowest.argmin())
    return Passivity(bool(lowest[where] >= -_ROUND_OFF * largest), float(omega[where]), float(lowest[where]))


def require_positive_real(kernel: AbstractMemoryKernel, owner: str) -> None:
    """Raises ValueError, with the violating frequency, unless the kernel is positive-real."""
    found = is_positive_real(kernel)
    if not found:
        raise ValueError(
            f"{owner}: the memory kernel is not positive-real: its spectrum is {found.spectrum:.3g} amu/ps at "
            f"ω = {found.frequency:.4g} 1/ps; no noise of equilibrium has it. Fit a PassiveKernel to it."
        )


def _highest(kernel: AbstractMemoryKernel) -> float:
    """A frequency well above all scales of the kernel, 1/ps."""
    if isinstance(kernel, PronyKernel):
        return 30 * float(np.max(np.asarray(kernel.rates)))
    if isinstance(kernel, PassiveKernel):
        return 30 * float(np.abs(np.linalg.eigvals(np.asarray(kernel.drift))).max())
    if isinstance(kernel, TabulatedKernel):
        return float(np.pi / np.asarray(kernel.spacing))
    if isinstance(kernel, SumKernel):
        return max(_highest(part) for part in kernel.parts)
    return 1.0


def _length(kernel: AbstractMemoryKernel) -> int:
    """Terms of the transform at one frequency."""
    if isinstance(kernel, TabulatedKernel):
        return int(kernel.values.size)
    return sum(_length(part) for part in kernel.parts) if isinstance(kernel, SumKernel) else 1
