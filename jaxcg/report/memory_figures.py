"""Pictures of a memory kernel and of what its motion does. Each function takes plain arrays and returns SVG text."""

from collections.abc import Sequence

import numpy as np

from .drawing import BLUE, GRAY, GREEN, ORANGE, power_of_ten, svg


def kernel(times, values, error, fitted, end: float, unit: str) -> str:
    """Γ(t) with its error band and the fit: where it decays on a linear axis, all of it on logarithmic ones.

    Arguments:
        times, values, error: (times,) of the data, ps and amu/ps².
        fitted: (times,) the fit at the same times.
        end: ps up to which the left panel reaches.
        unit: of Γ.
    """

    def draw(figure, axes):
        near, far = axes
        shown = times <= end
        near.axhline(0, color=GRAY, lw=0.8)
        _band(near, times[shown], values[shown], error[shown], "data")
        near.plot(times[shown], fitted[shown], color=ORANGE, label="passive fit")
        near.set(xlabel="t / ps", ylabel=f"Γ / {unit}", xlim=(0, end))
        near.legend()
        later = times > 0
        size = np.abs(values)
        far.plot(times[later], size[later], ".", ms=3, mew=0, color=BLUE, label="|data|")
        far.plot(times[later], np.abs(fitted[later]), color=ORANGE, label="|fit|")
        far.plot(times[later], error[later], color=GRAY, lw=0.9, ls="--", label="standard error")
        _logarithmic(far, "xy")
        top = float(size.max())
        low = max(float(np.median(error)) * 0.2, 1e-7 * top)
        far.set(xlabel="t / ps", ylim=(min(low, 0.1 * top), 2 * top))
        far.legend(loc="lower left")

    return svg(draw, "Memory kernel", size=(10.2, 3.1), columns=2)


def integral(times, values, error, fitted, plateau: tuple[float, float, float] | None, unit: str) -> str:
    """Running integral of Γ with its error band, that of the fit, and the plateau (value, error, begin)."""

    def draw(figure, axes):
        _band(axes, times, values, error, "data")
        axes.plot(times, fitted, color=ORANGE, label="passive fit")
        if plateau is not None:
            value, spread, begin = plateau
            axes.plot([begin, times[-1]], [value, value], color=GREEN, ls="--", label="plateau")
            axes.axhspan(value - spread, value + spread, color=GREEN, alpha=0.12, lw=0)
        axes.set(xlabel="t / ps", ylabel=f"∫₀ᵗ Γ / {unit}", xlim=(times[0], times[-1]))
        _logarithmic(axes, "x")
        middle = plateau[0] if plateau is not None else float(np.median(values))
        reach = max(float(np.abs(fitted).max()), abs(middle))
        axes.set_ylim(min(0.0, float(fitted.min()) * 1.2), 1.6 * reach)
        axes.legend(loc="upper left")

    return svg(draw, "Integral of the kernel")


def compared(name: str, label: str, x, data, data_error, model, model_error, *, xlabel: str = "t / ps", log="") -> str:
    """A curve of the data and of the fitted model, each with its error band.

    Arguments:
        name: for screen readers.
        label: of the ordinate.
        x, data, data_error, model, model_error: (points,).
        xlabel: of the abscissa.
        log: which axes are logarithmic: ``""``, ``"x"`` or ``"xy"``.
    """

    def draw(figure, axes):
        keep = x > 0 if "x" in log else np.ones(len(x), bool)
        if "y" not in log:
            axes.axhline(0, color=GRAY, lw=0.8)
        _band(axes, x[keep], data[keep], data_error[keep], "data")
        axes.plot(x[keep], model[keep], color=ORANGE, label="model")
        if np.any(model_error > 0):
            low, high = (model + sign * model_error for sign in (-1, 1))
            axes.fill_between(x[keep], low[keep], high[keep], color=ORANGE, alpha=0.2, lw=0)
        if log:
            _logarithmic(axes, log)
        axes.set(xlabel=xlabel, ylabel=label)
        axes.legend()

    return svg(draw, name)


def alone(name: str, label: str, x, data, error, *, log="") -> str:
    """A curve of the data with its error band (points,), where there is no model to compare."""

    def draw(figure, axes):
        keep = x > 0 if "x" in log else np.ones(len(x), bool)
        _band(axes, x[keep], data[keep], error[keep], "data")
        if log:
            _logarithmic(axes, log)
        axes.set(xlabel="t / ps", ylabel=label)

    return svg(draw, name)


def spectrum(omega, data, fitted, unit: str) -> str:
    """Re Γ̂(iω), half the power spectrum of the noise over kT: of the table and of the fit, (frequencies,)."""

    def draw(figure, axes):
        top = float(np.max(fitted))
        inside = np.where(data > 1e-5 * top, data, np.nan)
        axes.plot(omega, inside, ".", ms=3, mew=0, color=BLUE, label="data")
        axes.plot(omega, fitted, color=ORANGE, label="passive fit")
        _logarithmic(axes, "xy")
        least = float(np.min(fitted[fitted > 0])) if np.any(fitted > 0) else 1e-5 * top
        axes.set(xlabel="ω / ps⁻¹", ylabel=f"Re Γ̂(iω) / {unit}", ylim=(max(0.3 * least, 1e-5 * top), 3 * top))
        axes.legend(loc="lower left")

    return svg(draw, "Spectrum of the noise")


def profile(x, values, thermal_energy: float, unit: str) -> str:
    """Free-energy profile (points,), kJ/mol, with a line at kT above the minimum."""

    def draw(figure, axes):
        axes.plot(x, values, color=BLUE)
        axes.axhline(thermal_energy, color=GRAY, lw=0.8, ls="--")
        axes.text(0.5 * (x[0] + x[-1]), thermal_energy, "kT above the minimum", ha="center", va="bottom", fontsize=8)
        axes.set(xlabel=f"coordinate / {unit}", ylabel="free energy / kJ mol⁻¹", xlim=(x[0], x[-1]))

    return svg(draw, "Free-energy profile")


def passages(rows: Sequence[tuple[str, float, float, float, float]]) -> str:
    """Mean first-passage times: (name, data, its error, model, its error), ps."""

    def draw(figure, axes):
        place = np.arange(len(rows))[::-1]
        for shift, column, color, label in ((0.12, 1, BLUE, "data"), (-0.12, 3, ORANGE, "model")):
            value = np.array([row[column] for row in rows])
            error = np.array([row[column + 1] for row in rows])
            axes.errorbar(value, place + shift, xerr=error, fmt="o", ms=5, capsize=3, color=color, label=label)
        axes.set_yticks(place, [row[0] for row in rows])
        axes.set(xlabel="mean first-passage time / ps", xlim=(0, None), ylim=(-0.6, len(rows) - 0.4))
        axes.legend(loc="upper left", ncols=2, bbox_to_anchor=(0, 1.15), borderaxespad=0)

    return svg(draw, "First-passage times", left=1.35, top=0.36)


def _band(axes, x, values, error, label: str) -> None:
    axes.fill_between(x, values - error, values + error, color=BLUE, alpha=0.25, lw=0)
    axes.plot(x, values, color=BLUE, label=label)


def _logarithmic(axes, which: str) -> None:
    for name in which:
        getattr(axes, f"set_{name}scale")("log")
        axis = getattr(axes, f"{name}axis")
        axis.set_major_formatter(power_of_ten)
        axis.set_minor_formatter("")
