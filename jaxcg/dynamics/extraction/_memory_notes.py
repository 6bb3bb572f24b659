"""What a reader of an extracted kernel should be told about the data it came from."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .memory import Memory

#: Standard errors at which a difference is worth a note.
_WORTH = 4.0
#: Blocks below which the scatter of blocks is itself uncertain by a fifth.
_FEW = 12
#: Share of C_vv(0) left after one frame, below which the short times of the kernel are not resolved.
_COARSE = 0.7


def notes_on(memory: "Memory", temperature: float | None, *, found_mass: bool) -> tuple[str, ...]:
    """Notes in words: temperature, blocks, spacing of frames, length of the window.

    Arguments:
        memory: all else of it.
        temperature: that was given, K.
        found_mass: whether the mass was found from the temperature, which then cannot be compared.
    """
    notes = []
    if temperature is not None and not found_mass:
        error = memory.kinetic_temperature_error
        off = memory.kinetic_temperature - temperature
        if abs(off) > _WORTH * error:
            notes.append(
                f"The kinetic temperature {memory.kinetic_temperature:.4g} ± {error:.2g} K is not the "
                f"{temperature:.4g} K given: check mass and units; frames too far apart, constraints or a thermostat "
                "of another temperature do this too."
            )
    if memory.blocks < _FEW:
        notes.append(f"Errors come from {memory.blocks} blocks and are themselves rough; ask for more, or fewer lags.")
    c = np.trace(memory.velocity_correlation, axis1=1, axis2=2) if np.ndim(memory.mass) else memory.velocity_correlation
    if c[1] < _COARSE * c[0]:
        notes.append(
            f"The velocity correlation falls to {100 * c[1] / c[0]:.0f} % within one frame: the kernel at the shortest "
            "times is an average over frames; its integral holds."
        )
    integral, error = np.asarray(memory.extracted.integral), memory.integral_error
    if np.ndim(memory.mass):
        integral, error = (np.diagonal(t, axis1=1, axis2=2).sum(axis=-1) for t in (integral, error))
    tail = integral[-max(len(integral) // 5, 1) :]
    drift, spread = tail[-1] - tail[0], float(np.hypot(error[-1], error[-len(tail)]))
    if abs(drift) > max(_WORTH * spread, 0.05 * abs(tail[-1])):
        notes.append("The integral of the kernel still changes at the end of the window: give more lags.")
    return tuple(notes)
