"""Pictures of posterior samples and of how far they may be trusted. Each function returns SVG text."""

from collections.abc import Sequence

import numpy as np

from ..sampling.diagnostics.energy import SamplerHealth
from ..sampling.diagnostics.rotamers import TorsionMixing
from ..sampling.diagnostics.typical_set import TypicalSet
from ..sampling.diagnostics.verdict import LOW_ENERGY_FRACTION, MIXED, NOT_MIXED, STUCK
from .drawing import BLUE, GRAY, GREEN, INK, ORANGE, RED, svg

#: Colours of chains and of wells.
_COLORS = (BLUE, ORANGE, GREEN, RED, "#8e6fc1", "#4aa8a8")
#: More chains than this are drawn in one colour.
_TELL_APART = len(_COLORS)


def typical_set(found: TypicalSet) -> str:
    """Energies of the samples above the MAP beside (d/2) kT, and their distance from it."""

    def draw(figure, axes):
        energies, distances = axes
        excess, expected, spread = found.excess.ravel(), found.expected, found.expected_spread
        u = np.linspace(max(expected - 4.5 * spread, 0), expected + 5 * spread, 300)[1:]
        curve = _density(u, (0.5 * found.dimension - 1) * np.log(u) - u * 0.5 * found.dimension / expected)
        energies.fill_between(u, curve, color=ORANGE, alpha=0.3, lw=0, label="harmonic well")
        energies.axvline(expected, color=ORANGE, label=f"(d/2) kT = {expected:.4g}")
        bins = min(max(int(np.sqrt(excess.size)), 8), 50)
        energies.hist(excess, bins=bins, density=True, color=BLUE, alpha=0.7, label="samples")
        energies.plot([0], [0], "D", ms=7, color=RED, clip_on=False, zorder=5, label="MAP")
        edge = 1.05 * max(float(excess.max()), float(u[-1]))
        energies.set(xlabel="U above the MAP / kJ mol⁻¹", xlim=(min(-0.02 * edge, 1.05 * float(excess.min())), edge))
        energies.set_yticks([])
        energies.spines["left"].set_visible(False)
        energies.legend(loc="upper left", ncols=4, bbox_to_anchor=(0, 1.17), borderaxespad=0, columnspacing=1)
        if found.whitened is None:
            radius, line, label = found.radius, None, "distance from the MAP / nm"
        else:
            radius, line, label = found.whitened, np.sqrt(found.dimension), "whitened distance from the MAP"
        distances.hist(radius, bins=min(max(int(np.sqrt(radius.size)), 8), 50), density=True, color=BLUE, alpha=0.7)
        if line is not None:
            r = np.linspace(max(line - 4, 0), line + 4, 300)[1:]
            chi = _density(r, (found.dimension - 1) * np.log(r) - 0.5 * r**2)
            distances.fill_between(r, chi, color=ORANGE, alpha=0.3, lw=0)
            distances.axvline(line, color=ORANGE, label=f"√d = {line:.3g}")
            distances.legend(loc="upper left", bbox_to_anchor=(0, 1.17), borderaxespad=0)
        distances.plot([0], [0], "D", ms=7, color=RED, clip_on=False, zorder=5)
        distances.set(xlabel=label, xlim=(0, None))
        distances.set_yticks([])
        distances.spines["left"].set_visible(False)

    return svg(draw, "The mode and the typical set", size=(10.2, 2.9), columns=2, left=0.2, top=0.4)


def traces(draws: np.ndarray, label: str) -> str:
    """A quantity along every chain, and its distribution in each.

    Arguments:
        draws: (chains, draws).
        label: name and unit.
    """

    def draw(figure, axes):
        along, across = axes
        edges = np.histogram_bin_edges(draws, bins=min(max(int(np.sqrt(draws.shape[1])), 8), 40))
        for chain, row in enumerate(draws):
            style = {"color": _color(chain, len(draws)), "alpha": 0.75, "lw": 0.8, "label": f"chain {chain}"}
            along.plot(np.arange(1, len(row) + 1), row, **style)
            across.stairs(np.histogram(row, edges)[0] / len(row), edges, **{**style, "lw": 1.3})
        along.set(xlabel="draw", ylabel=label)
        along.ticklabel_format(useOffset=False)
        along.margins(x=0.01)
        across.set(xlabel=label, ylabel="share of the draws", ylim=(0, None))
        across.ticklabel_format(useOffset=False)
        if len(draws) <= _TELL_APART:
            across.legend()

    return svg(draw, f"Trace of {label}", size=(10.2, 2.9), columns=2)


def ranks(draws: np.ndarray, label: str, bins: int = 20) -> str:
    """Ranks of the draws of each chain among all of them: level where the chains agree.

    Chains outside the band that ranks of independent draws would keep to (99 % of the bins) are told by number. Draws
    that depend on each other leave it sooner.

    Arguments:
        draws: (chains, draws).
        label: name of the quantity.
        bins: of the ranks.

    Source: Vehtari et al., Bayesian Analysis 16, 667 (2021), section 5.
    """
    count = draws.shape[1]
    order = np.argsort(np.argsort(draws, axis=None, kind="stable"), kind="stable").reshape(draws.shape)
    share = (order + 0.5) / draws.size

    def draw(figure, axes):
        edges = np.linspace(0, 1, bins + 1)
        level, band = 1.0, 2.58 * np.sqrt(bins / count * (1 - 1 / bins))
        axes.axhspan(level - band, level + band, color=GRAY, alpha=0.2, lw=0)
        axes.axhline(level, color=GRAY, lw=0.8)
        density = np.array([np.histogram(row, edges)[0] * bins / count for row in share])
        outside = np.abs(density - level) > band
        strange = np.flatnonzero(outside.sum(axis=1) > max(1, 0.15 * bins)).tolist()
        for chain, row in enumerate(density):
            told = chain in strange[:_TELL_APART]
            color = _COLORS[strange.index(chain)] if told else GRAY
            axes.stairs(
                row,
                edges,
                baseline=None,
                color=color,
                lw=1.4 if told else 0.7,
                label=f"chain {chain}" if told else None,
            )
        axes.set(xlabel=f"rank of {label}, smallest to largest", ylabel="frequency (1 = even)", xlim=(0, 1))
        axes.set_ylim(0, max(2.0, 1.05 * density.max()))
        if strange:
            axes.legend(loc="upper left", ncols=6, bbox_to_anchor=(0, 1.15), borderaxespad=0)

    return svg(draw, f"Ranks of {label}", size=(5.2, 2.9), top=0.36)


def rotamers(mixing: TorsionMixing, which: Sequence[int]) -> str:
    """Populations of the wells of some torsions with their errors; the dot's colour tells R-hat, gray that none moved.

    Arguments:
        mixing: of all torsions.
        which: numbers of those to draw, from top to bottom; some twenty are readable.
    """
    size = (10.2, 0.9 + 0.24 * len(which))

    def draw(figure, axes):
        place, unmoved = np.arange(len(which))[::-1], mixing.unmoved()
        for y, i in zip(place, which):
            names, start = mixing.wells(i), 0.0
            for k, name in enumerate(names):
                share = mixing.populations[i, k]
                axes.barh(y, share, left=start, height=0.72, color=_COLORS[k], alpha=0.75, lw=0)
                start += share
                if share > 0.12:
                    axes.text(start - share / 2, y + 0.06, name, ha="center", va="center", fontsize=7)
            # The border after the first well moves with its population, that before the last with the last one's.
            for k, border in (
                (0, mixing.populations[i, 0]),
                (len(names) - 1, 1 - mixing.populations[i, len(names) - 1]),
            ):
                error = mixing.population_errors[i, k]
                if error > 0.005 and (k == 0 or len(names) > 2):
                    low, high = max(border - error, 0), min(border + error, 1)
                    axes.plot([low, high], [y - 0.27] * 2, "|-", color=INK, lw=1, ms=4)
            r_hat, changes = mixing.r_hat[i], mixing.transitions[:, i].sum()
            axes.plot([1.04], [y], "o", ms=6, color=GRAY if unmoved[i] else _trust_color(r_hat), clip_on=False)
            shown = "–" if np.isnan(r_hat) else f"{r_hat:.2f}"
            for x, text in ((1.065, shown), (1.13, f"{mixing.bulk[i]:.0f}"), (1.2, f"{changes}")):
                axes.text(x, y, text, va="center", fontsize=8)
        for x, text in ((1.065, "R-hat"), (1.13, "ESS"), (1.2, "changes")):
            axes.text(x, len(which) - 0.3, text, va="bottom", fontsize=8)
        axes.set_yticks(place, [mixing.torsions.names[i] for i in which])
        axes.set(xlabel="population", xlim=(0, 1), ylim=(-0.6, len(which) - 0.4))
        figure.subplots_adjust(right=0.78)

    return svg(draw, "Populations of torsions", size=size, left=1.75, top=0.32)


def chains(health: SamplerHealth) -> str:
    """Acceptance, E-BFMI and failed trajectories of each chain, with the limits below which they are a warning."""
    failed = 100 * (health.divergences + health.irreversible) / health.trajectories
    rows = (
        ("acceptance", health.acceptance, STUCK, (0, 1)),
        ("E-BFMI", health.e_bfmi, LOW_ENERGY_FRACTION, (0, None)),
        ("diverged or irreversible / %", failed, None, (0, max(1.0, 1.1 * float(failed.max(initial=0))))),
    )

    def draw(figure, axes):
        for panel, (name, values, limit, span) in zip(axes, rows):
            bad = np.zeros(len(values), bool) if limit is None else ~(values >= limit)
            number = np.arange(len(values))
            panel.plot(number[~bad], values[~bad], "o", ms=5, mew=0, color=BLUE, clip_on=False)
            panel.plot(number[bad], np.nan_to_num(values[bad]), "X", ms=7, mew=0, color=RED, clip_on=False)
            if limit is not None:
                panel.axhline(limit, color=RED, lw=0.9, ls="--")
            panel.set(xlabel="chain", title=name, ylim=span)
            panel.xaxis.get_major_locator().set_params(integer=True)
            panel.set_xlim(-0.6, len(values) - 0.4)

    return svg(draw, "Chains of the sampler", size=(10.2, 2.5), columns=3)


def _density(x, logarithm):
    """Density on a grid, of its logarithm up to a constant."""
    values = np.exp(logarithm - logarithm.max())
    return values / np.trapezoid(values, x)


def _color(chain: int, chains: int) -> str:
    return _COLORS[chain] if chains <= _TELL_APART else BLUE


def _trust_color(r_hat: float) -> str:
    if np.isnan(r_hat):
        return GRAY
    return GREEN if r_hat <= MIXED else ORANGE if r_hat < NOT_MIXED else RED
