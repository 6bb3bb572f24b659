"""Pictures of a model beside its reference. Each function takes plain arrays and returns SVG text."""

from collections.abc import Sequence

import numpy as np

from .drawing import BLUE, GRAY, ORANGE, svg

#: Reference and model.
_COLORS = (BLUE, ORANGE)
_NAMES = ("reference", "model")
#: Values and half-widths of their bands, (points,), of reference and model.
Curves = Sequence[tuple[np.ndarray, np.ndarray]]


def radial(name: str, r, curves: Curves, top: float) -> str:
    """g(r) of reference and model with their bands.

    Arguments:
        name: the pair of kinds.
        r: (points,) nm.
        curves: values and half-widths of the bands, of reference and model.
        top: where the ordinate ends.
    """

    def draw(figure, axes):
        axes.axhline(1, color=GRAY, lw=0.8)
        _overlay(axes, r, curves)
        axes.set(xlabel="r / nm", ylabel="g(r)", xlim=(0, r[-1]), ylim=(0, top))
        axes.legend(loc="upper right")

    return svg(draw, f"Radial distribution {name}")


def distribution(name: str, x, curves: Curves, unit: str) -> str:
    """The density of a bonded coordinate of reference and model with their bands, in nm or degrees."""

    def draw(figure, axes):
        _overlay(axes, x, curves)
        axes.set(xlabel=f"{name} / {unit}", ylabel="density", xlim=(x[0], x[-1]), ylim=(0, None))
        axes.legend()

    return svg(draw, f"Distribution of {name}")


def free_energy(name: str, label: str, x, curves: Curves, thermal_energy: float) -> str:
    """Potential of mean force of reference and model with their bands, kJ/mol; gaps where nothing was found.

    Arguments:
        name: of the coordinate.
        label: of the abscissa.
        x: (points,).
        curves: values, infinite where nothing was found, and half-widths.
        thermal_energy: kT, kJ/mol: what is more than 12 kT above zero is not shown, bands wider than 3 kT neither.
    """

    def draw(figure, axes):
        shown = []
        for value, half in curves:
            good = np.isfinite(value) & np.isfinite(half) & (value < 12 * thermal_energy) & (half < 3 * thermal_energy)
            shown.append((np.where(good, value, np.nan), np.where(good, half, np.nan)))
        _overlay(axes, x, shown)
        axes.axhline(0, color=GRAY, lw=0.8)
        seen = np.isfinite(shown[0][0]) | np.isfinite(shown[1][0])
        ends = x[seen] if seen.any() else x
        axes.set(xlabel=label, ylabel="free energy / kJ mol⁻¹", xlim=(ends[0], ends[-1]))
        axes.legend()

    return svg(draw, f"Free energy of {name}")


def isotherm(curves: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], point: tuple | None) -> str:
    """Pressure against density.

    Arguments:
        curves: densities (nm⁻³), pressures and half-widths (bar) of reference and model.
        point: density, pressure and half-width of the model's trajectory, or None.
    """

    def draw(figure, axes):
        for (density, pressure, half), color, label in zip(curves, _COLORS, _NAMES, strict=True):
            axes.errorbar(density, pressure, yerr=half, fmt="o-", ms=4, capsize=3, color=color, label=label)
        if point is not None:
            density, pressure, half = point
            axes.errorbar(
                [density],
                [pressure],
                yerr=[half],
                fmt="D",
                ms=6,
                mfc="none",
                capsize=3,
                color=ORANGE,
                label="trajectory",
            )
        axes.axhline(0, color=GRAY, lw=0.8)
        axes.set(xlabel="density / nm⁻³", ylabel="pressure / bar")
        axes.legend()

    return svg(draw, "Pressure against density", left=0.8)


def findings(rows: Sequence[tuple[str, float, float, float, str]]) -> str:
    """Every finding over its tolerance: name, value, lower and upper end, and the answer."""
    colors = {"yes": "#4ba36f", "no": "#d9534f", "undecided": ORANGE}

    def draw(figure, axes):
        place = np.arange(len(rows))[::-1]
        axes.axvspan(-1, 1, color="#4ba36f", alpha=0.12, lw=0)
        for at, (_, value, low, high, answer) in zip(place, rows, strict=True):
            axes.plot([_folded(low), _folded(high)], [at, at], color=colors.get(answer, GRAY), lw=2.2)
            axes.plot([_folded(value)], [at], "o", ms=5, color=colors.get(answer, GRAY))
        axes.axvline(0, color=GRAY, lw=0.8)
        ticks = [t for t in (-100, -10, -1, 0, 1, 10, 100, 1000) if _reaches(rows, t)]
        axes.set_xticks([_folded(t) for t in ticks], [str(t).replace("-", "−") for t in ticks])
        axes.set_yticks(place, [row[0] for row in rows])
        axes.set(xlabel="times the tolerance", ylim=(-0.7, len(rows) - 0.3))

    return svg(draw, "Findings over their tolerances", size=(10.2, 0.75 + 0.27 * len(rows)), left=2.6)


def _folded(x: float) -> float:
    """Straight within the tolerance, logarithmic beyond."""
    return x if abs(x) <= 1 else float(np.sign(x) * (1 + np.log10(abs(x))))


def _reaches(rows, tick: float) -> bool:
    ends = [end for row in rows for end in row[1:4] if np.isfinite(end)]
    return abs(tick) <= 1 or min(ends) <= tick <= max(ends)


def _overlay(axes, x, curves: Curves) -> None:
    for (value, half), color, label in zip(curves, _COLORS, _NAMES, strict=True):
        axes.fill_between(x, value - half, value + half, color=color, alpha=0.25, lw=0)
        axes.plot(x, value, color=color, label=label)
