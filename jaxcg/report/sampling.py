"""The page's section on posterior samples: the verdict, its pictures and its table."""

from collections.abc import Mapping

import numpy as np

from ..sampling.diagnostics.energy import SamplerHealth
from ..sampling.diagnostics.rotamers import TorsionMixing
from ..sampling.diagnostics.typical_set import TypicalSet
from ..sampling.diagnostics.verdict import Diagnosis
from . import sampling_figures as figures

#: Torsions and rows of the table that a page shows; files have them all.
_SHOWN = 24


def sampling_section(
    diagnosis: Diagnosis,
    quantities: Mapping[str, np.ndarray],
    *,
    torsions: TorsionMixing | None = None,
    health: SamplerHealth | None = None,
    typical_set: TypicalSet | None = None,
) -> dict:
    """The section as the page's template takes it.

    Arguments:
        diagnosis: from `assess` of the same quantities, torsions and health.
        quantities: (chains, draws) of each observable by name with unit, e.g. ``"energy / kJ mol⁻¹"``; they are
            followed along the chains.
        torsions, health, typical_set: whatever there is, drawn if given.
    """
    pictures = []

    def add(name, caption, svg, wide=True):
        pictures.append({"name": name, "caption": caption, "svg": svg, "wide": wide})

    if typical_set is not None:
        add("The mode and the typical set", typical_set.words(), figures.typical_set(typical_set))
    for name, draws in quantities.items():
        draws = np.asarray(draws, dtype=np.float64)
        caption = "Every chain along its draws, and its distribution: where they differ, no average is to be trusted."
        add(f"Trace of {name}", caption, figures.traces(draws, name))
        if draws.shape[0] > 1 and np.ptp(draws) > 0:
            caption = (
                "How often each chain has small and large values among those of all chains; even where they agree. "
                "The band is that of independent draws."
            )
            add(f"Ranks of {name}", caption, figures.ranks(draws, name), wide=False)
    if health is not None:
        caption = "Mean acceptance, energy mixing (E-BFMI) and failed trajectories; a cross is a warning."
        add("Chains of the sampler", caption, figures.chains(health))
    if torsions is not None and len(torsions.torsions):
        numbers = {name: i for i, name in enumerate(torsions.torsions.names)}
        which = [numbers[row.name] for row in diagnosis.rows if row.transitions is not None][:_SHOWN]
        caption = (
            "The torsions that mix worst: share of each well with its Monte Carlo error; the dot is green where R-hat "
            "is good, orange and red where it is not, gray where every chain stayed in the same well."
        )
        add("Populations of torsions", caption, figures.rotamers(torsions, which))
    head, *rows = diagnosis.cells(_SHOWN + len(quantities))
    return {
        "anchor": "sampling",
        "name": "Samples",
        "text": diagnosis.words(),
        "figures": pictures,
        "table": {"head": list(head), "rows": [list(row) for row in rows]},
    }
