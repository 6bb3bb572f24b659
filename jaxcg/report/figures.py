"""The report's pictures. Each function takes plain arrays and returns one SVG element as text."""

from collections.abc import Mapping, Sequence

import numpy as np

from .drawing import BLUE, GRAY, GREEN, INK, ORANGE, RED, power_of_ten, svg


def energies(ways: Sequence[Sequence[tuple[str, float]]]) -> str:
    """Energy along the way: what is left above the last energy after each stage, on a logarithmic axis.

    Arguments:
        ways: for each frame the (stage, energy in kJ/mol) pairs in the order they ran.
    """

    def draw(figure, axes):
        longest = max(ways, key=len)
        for way in ways:
            values = np.array([energy for _, energy in way])
            # The last stage has nothing left above itself; the axis ends at 1 kJ/mol.
            above = np.maximum(values - values[-1], 1.0)
            axes.plot(np.arange(len(way)), above, "o-", ms=5, color=BLUE, alpha=max(0.25, 1 / len(ways)))
        if len(ways) == 1:
            for place, (_, energy) in enumerate(longest):
                above = max(energy - longest[-1][1], 1.0)
                text = f"{energy:,.0f}".replace(",", "\u2009").replace("-", "−")
                axes.annotate(text, (place, above), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=8)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(power_of_ten)
        axes.yaxis.set_minor_formatter("")
        axes.set(ylabel="energy above the last / kJ mol⁻¹", ylim=(0.6, None))
        axes.set_xticks(np.arange(len(longest)), [stage for stage, _ in longest])
        axes.margins(x=0.12, y=0.2)

    return svg(draw, "Energy along the way", size=(10.2, 2.7))


def ramachandran(panels: Sequence[dict]) -> str:
    """Ramachandran plot, one panel a residue class.

    Arguments:
        panels: dicts with ``name``, ``phi``, ``psi`` (degrees), ``outlier`` (bool), and where known ``density`` (k, k)
            over (φ, ψ) cells from −180° with ``levels``, the densities that bound the favoured and the allowed region.
    """

    def draw(figure, axes):
        for panel, data in zip(np.atleast_1d(axes), panels, strict=True):
            grid = data.get("density")
            if grid is not None:
                # One more cell on each side of the torus, so that contours reach the frame.
                width = 360.0 / len(grid)
                closed = np.pad(np.asarray(grid), 1, mode="wrap").T
                centers = -180.0 + width * (np.arange(len(grid) + 2) - 0.5)
                favoured, allowed = data["levels"]
                panel.contourf(centers, centers, closed, levels=[allowed, np.inf], colors=[BLUE], alpha=0.14)
                panel.contourf(centers, centers, closed, levels=[favoured, np.inf], colors=[BLUE], alpha=0.26)
                panel.contour(centers, centers, closed, levels=[allowed, favoured], colors=BLUE, linewidths=[0.5, 0.9])
            outlier = np.asarray(data["outlier"], dtype=bool)
            phi, psi = np.asarray(data["phi"]), np.asarray(data["psi"])
            panel.plot(phi[~outlier], psi[~outlier], "o", ms=3, mew=0, color=INK, alpha=0.75)
            panel.plot(phi[outlier], psi[outlier], "X", ms=6, mew=0, color=RED)
            panel.set(xlim=(-180, 180), ylim=(-180, 180), aspect="equal", xlabel="φ / °")
            panel.set_xticks([-180, -90, 0, 90, 180])
            panel.set_yticks([-180, -90, 0, 90, 180])
            panel.set_title(f"{data['name']} ({len(phi)})")
            panel.spines[["top", "right"]].set_visible(True)
        np.atleast_1d(axes)[0].set_ylabel("ψ / °")

    count = len(panels)
    return svg(draw, "Ramachandran plot", size=(max(3.6, 2.75 * count), 3.1), columns=count)


def bonds(deviation: np.ndarray) -> str:
    """Histogram of bond lengths' deviations from their ideal values, in percent."""

    def draw(figure, axes):
        values = np.asarray(deviation, dtype=float)
        limit = max(12.0, float(np.abs(values).max(initial=0)) * 1.05)
        axes.hist(values, bins=np.linspace(-limit, limit, 61), color=BLUE, alpha=0.85)
        for edge in (-10, 10):
            axes.axvline(edge, color=RED, lw=1, ls="--")
        axes.set(xlabel="deviation from the ideal length / %", ylabel="bonds", xlim=(-limit, limit))

    return svg(draw, "Bond lengths")


def contacts(distances: np.ndarray, limits: tuple[float, float] = (0.12, 0.22)) -> str:
    """Histogram of distances between heavy atoms three or more bonds apart, nm."""

    def draw(figure, axes):
        values = np.asarray(distances, dtype=float)
        axes.hist(values, bins=np.linspace(0.08, 0.45, 75), color=BLUE, alpha=0.85)
        for edge in limits:
            axes.axvline(edge, color=RED, lw=1, ls="--")
        axes.set(xlabel="distance of heavy atoms / nm", ylabel="pairs", xlim=(0.08, 0.45))

    return svg(draw, "Contacts of heavy atoms")


def beads(distance: np.ndarray, noise: float | None) -> str:
    """How well the beads are reproduced: histogram of |M(x) − y|, nm.

    For soft beads the curve is what Gaussian noise of that standard deviation would give.
    """

    def draw(figure, axes):
        values = np.asarray(distance, dtype=float)
        if noise is None:
            # A logarithm has no place for zero: exact agreement is shown at the spacing of numbers near 0.05 nm.
            shown = np.maximum(values, 7e-18)
            middle = np.log10(np.median(shown))
            low, high = min(np.log10(shown.min()) - 0.5, middle - 2), max(np.log10(shown.max()) + 0.5, middle + 2)
            axes.hist(shown, bins=np.logspace(low, high, 45), color=BLUE, alpha=0.85)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(power_of_ten)
            axes.xaxis.set_minor_formatter("")
            axes.set(xlabel="|M(x) − y| / nm", ylabel="beads")
            return
        edges = np.linspace(0, max(4.5 * noise, float(values.max(initial=0)) * 1.05), 41)
        axes.hist(values, bins=edges, color=BLUE, alpha=0.85)
        r = np.linspace(0, edges[-1], 200)
        density = np.sqrt(2 / np.pi) * r**2 / noise**3 * np.exp(-(r**2) / (2 * noise**2))
        axes.plot(r, density * len(values) * (edges[1] - edges[0]), color=ORANGE, label=f"Gaussian, σ = {noise:.3f} nm")
        axes.set(xlabel="|M(x) − y| / nm", ylabel="beads")
        axes.legend()

    return svg(draw, "Beads reproduced")


def residues(rows: Sequence[tuple[str, np.ndarray]], unit: str, breaks: Sequence[int] = ()) -> str:
    """Deviations along the chain: (name, value for each residue), one line a row.

    Arguments:
        rows: what to draw.
        unit: of the values.
        breaks: indices of residues that begin a new chain.
    """

    def draw(figure, axes):
        for (name, values), color in zip(rows, (BLUE, ORANGE, GREEN), strict=False):
            axes.plot(np.arange(1, len(values) + 1), values, color=color, label=name, drawstyle="steps-mid")
        for start in breaks:
            axes.axvline(start + 0.5, color=GRAY, lw=0.8, ls=":")
        axes.set(xlabel="residue (counted from the first)", ylabel=unit, ylim=(0, None))
        axes.margins(x=0.01)
        axes.legend(loc="upper left", ncols=len(rows), bbox_to_anchor=(0, 1.15), borderaxespad=0)

    return svg(draw, f"Deviation of each residue in {unit}", size=(10.2, 2.9), top=0.36)


def frames(numbers: Sequence[int], rows: Sequence[tuple[str, np.ndarray]]) -> str:
    """Figures of each frame of a trajectory: one panel a (name with unit, value for each frame)."""

    def draw(figure, axes):
        for panel, (name, values) in zip(np.atleast_1d(axes), rows, strict=True):
            panel.plot(numbers, values, "o-", ms=3, color=BLUE)
            panel.set(xlabel="frame", title=name)
            panel.ticklabel_format(useOffset=False)

    return svg(draw, "Frames", size=(3.1 * len(rows), 2.6), columns=len(rows))


def fluctuations(rmsf: np.ndarray, breaks: Sequence[int] = ()) -> str:
    """Root-mean-square fluctuation of each residue over the ensemble, nm."""

    def draw(figure, axes):
        axes.fill_between(np.arange(1, len(rmsf) + 1), rmsf, color=BLUE, alpha=0.3, lw=0, step="mid")
        axes.plot(np.arange(1, len(rmsf) + 1), rmsf, color=BLUE, drawstyle="steps-mid")
        for start in breaks:
            axes.axvline(start + 0.5, color=GRAY, lw=0.8, ls=":")
        axes.set(xlabel="residue (counted from the first)", ylabel="RMSF / nm", ylim=(0, None))
        axes.margins(x=0.01)

    return svg(draw, "Fluctuation of each residue", size=(10.2, 2.7))


def typical_set(sample_energies: np.ndarray, map_energy: float, dimensions: int, thermal_energy: float) -> str:
    """The samples' energies above the MAP energy, beside what equipartition expects of a harmonic well: (d/2) kT.

    Arguments:
        sample_energies: (samples,) kJ/mol.
        map_energy: kJ/mol.
        dimensions: d, the free coordinates.
        thermal_energy: kT, kJ/mol.
    """

    def draw(figure, axes):
        above = np.asarray(sample_energies, dtype=float) - map_energy
        expected = 0.5 * dimensions * thermal_energy
        spread = np.sqrt(0.5 * dimensions) * thermal_energy
        u = np.linspace(expected - 5 * spread, expected + 5 * spread, 200)
        curve = np.exp(-((u - expected) ** 2) / (2 * spread**2))
        axes.fill_between(u, curve, color=ORANGE, alpha=0.25, lw=0)
        axes.axvline(expected, color=ORANGE, lw=1.2, label=f"(d/2) kT = {expected:.0f} kJ mol⁻¹")
        axes.plot(
            above,
            0.08 + 0.84 * (np.arange(len(above)) + 0.5) / len(above),
            "o",
            ms=4,
            mew=0,
            color=BLUE,
            label="samples",
        )
        axes.plot([0], [0.5], "D", ms=7, color=RED, label="MAP")
        edge = max(expected + 5 * spread, float(above.max(initial=0)))
        axes.set(
            xlabel="energy above the MAP / kJ mol⁻¹",
            xlim=(min(-0.04 * edge, float(above.min(initial=0))), 1.05 * edge),
        )
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.legend(loc="upper left", ncols=3, bbox_to_anchor=(0, 1.15), borderaxespad=0)

    return svg(draw, "The mode and the typical set", size=(10.2, 2.7), left=0.12, top=0.36)


def terms(energies: Mapping[str, float]) -> str:
    """Energy of each term of the force field, kJ/mol."""

    def draw(figure, axes):
        names = list(energies)[::-1]
        values = [energies[name] for name in names]
        axes.barh(names, values, color=[BLUE if value < 0 else ORANGE for value in values], alpha=0.85)
        axes.axvline(0, color=INK, lw=0.8)
        axes.set(xlabel="energy / kJ mol⁻¹")

    return svg(draw, "Energy by term", left=1.35)
