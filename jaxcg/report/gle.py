"""The picture of a generalised Langevin run: a stretch of trajectory, and the velocity correlation."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ..dynamics import Embedding, correlation, linear_correlations
from ..io.dynamics.gle_config import GleConfig
from ..io.writers import atomic_path
from ..units import GAS_CONSTANT

_BLUE, _GRAY, _INK = "#4c8bd6", "#b9c0ca", "#222222"
#: Frames that are drawn, frames that are averaged over, and lags of the correlation.
_DRAWN, _AVERAGED, _LAGS = 3000, 400_000, 400


def draw_trajectory(path: Path, config: GleConfig, times: np.ndarray, motion: np.ndarray) -> None:
    """Draws x(t) of the first trajectories and ⟨v(t) v(0)⟩, beside the exact one for free and harmonic motion, as PNG.

    Arguments:
        path: file to write.
        config: of the run.
        times: (frames,) ps.
        motion: (trajectories, frames, 2) first coordinate of each trajectory, nm, and its velocity, nm/ps.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    stride = max(len(times) // _DRAWN, 1)
    for number in range(min(len(motion), 4) - 1, -1, -1):
        color = _BLUE if number == 0 else _GRAY
        left.plot(times[::stride], motion[number, ::stride, 0], color=color, lw=0.8)
    left.set(xlabel="t (ps)", ylabel="x (nm)")
    frames = min(motion.shape[1], max(_AVERAGED // len(motion), 1))
    lags = min(_LAGS, max(frames // 4, 1))
    found = np.asarray(correlation(jnp.asarray(motion[:, :frames, 1]), lags=lags))
    at = (times[0] if len(times) else 0.0) * np.arange(lags)
    mass = float(np.ravel(config.masses)[0])
    thermal = GAS_CONSTANT * config.temperature / mass
    right.plot(at, found / thermal, ".", color=_BLUE, ms=3, label="run")
    exact = exact_velocity_correlation(config, at)
    if exact is not None:
        right.plot(at, exact / thermal, "-", color=_INK, lw=1, label="exact")
    right.axhline(0, color=_GRAY, lw=0.6, zorder=0)
    right.set(xlabel="t (ps)", ylabel=r"$\langle v(t)\,v(0)\rangle\;m/kT$")
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, metadata={"Software": None})


def exact_velocity_correlation(config: GleConfig, times: np.ndarray) -> np.ndarray | None:
    """⟨v(t) v(0)⟩ of the first coordinate, nm²/ps², where a closed form is known; else None.

    Arguments:
        config: of the run; free or harmonic motion under a kernel with auxiliary variables has one.
        times: (times,) ps.
    """
    potential, kernel = config.potential, config.kernel.kernel
    if config.kernel.depends_on_position:
        return None
    if kernel.coordinates is not None or (potential.energy is not None and potential.stiffness is None):
        return None
    try:
        embedding = Embedding.of(kernel)
    except ValueError:
        return None
    mass = float(np.ravel(config.masses)[0])
    return np.asarray(
        linear_correlations(embedding, mass, jnp.asarray(times), config.temperature, potential.stiffness).velocity
    )
