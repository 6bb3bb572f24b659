"""The page's picture sections: which pictures a run calls for, and what is said under them."""

from typing import TYPE_CHECKING

import numpy as np

from ..backmap.pipeline import superposed
from ..backmap.ramachandran import CLASSES, ramachandran_levels, ramachandran_tables
from ..units import thermal_energy
from . import figures, measures
from .sampling import sampling_section
from .summary import backbone_prior

if TYPE_CHECKING:
    from ..backmap.result import BackmapResult, FrameResult
    from ..sampling import EnsembleResult
    from ..system import System


_ALONG_THE_CHAIN = "Residues in file order; dotted lines separate chains."


def picture(name: str, caption: str, svg: str, *, wide: bool = False) -> dict:
    """A picture as the page's template takes it."""
    return {"name": name, "caption": caption, "svg": svg, "wide": wide}


def structure_section(result: "BackmapResult", frame: "FrameResult") -> dict:
    """Pictures of one structure: Ramachandran plot, bonds, contacts, beads, residues, energy along the way."""
    molecule = result.molecule
    system, x = molecule.system, np.asarray(frame.positions)
    pictures = []
    panels = _ramachandran_panels(result)
    if panels:
        several = f" All {len(result.frames)} frames." if len(result.frames) > 1 else ""
        pictures.append(
            picture(
                "Ramachandran plot",
                "Shaded: allowed and, darker, favoured regions of each residue class; red crosses: outliers."
                + several
                + _prior_note(result),
                figures.ramachandran(panels),
                wide=True,
            )
        )
    pairs, lengths = _ideal_bonds(result)
    pictures += [
        picture(
            "Bond lengths",
            "Deviation of every bond from the force field's length; dashed: ±10 %.",
            figures.bonds(measures.bond_deviations(x, pairs, lengths)),
        ),
        picture(
            "Contacts",
            "Heavy atoms more than three bonds apart; dashed: 0.12 and 0.22 nm.",
            figures.contacts(measures.contact_distances(system, x)),
        ),
    ]
    distance = bead_distance(result, frame)
    held = "held exactly" if frame.bead_mode == "exact" else f"held to a Gaussian of σ = {frame.bead_noise:.3f} nm"
    pictures.append(
        picture(
            "Beads reproduced",
            f"Distance of each mapped bead from the given one; the beads are {held}.",
            figures.beads(distance, frame.bead_noise if frame.bead_mode != "exact" else None),
        )
    )
    if frame.energy_terms:
        pictures.append(
            picture("Energy by term", "Terms of the force field at the structure.", figures.terms(frame.energy_terms))
        )
    ways = _ways(result)
    if ways:
        caption = "Energy of the force field after each stage, above that of the last."
        pictures.append(picture("Energy along the way", caption, figures.energies(ways), wide=True))
    breaks = measures.chain_breaks(system)
    rows = _residue_rows(result, frame, distance)
    if rows:
        svg = figures.residues(rows, "nm", breaks)
        pictures.append(picture("Deviation of each residue", _ALONG_THE_CHAIN, svg, wide=True))
    strain = [("largest bond deviation", measures.residue_strain(system, x, pairs, lengths))]
    svg = figures.residues(strain, "%", breaks)
    pictures.append(picture("Strain of each residue", _ALONG_THE_CHAIN, svg, wide=True))
    where = f"Frame {frame.frame}, the first. " if len(result.frames) > 1 else ""
    return {"anchor": "pictures", "name": "Pictures", "text": where, "figures": pictures, "table": None}


def frames_section(result: "BackmapResult") -> dict:
    """Figures of each frame of a trajectory, as pictures and as a table."""
    frames = result.frames
    numbers = [frame.frame for frame in frames]
    favoured = [frame.quality.ramachandran_favoured if frame.quality else None for frame in frames]
    rows = [("energy / kJ mol⁻¹", np.array([frame.energy for frame in frames]))]
    if None not in favoured:
        rows.append(("Ramachandran favoured / %", np.array(favoured, dtype=float)))
    rows.append(("bead deviation, rms / nm", np.array([_rms(bead_distance(result, frame)) for frame in frames])))
    table = {
        "head": [
            "frame",
            "beads",
            "energy",
            "favoured %",
            "outliers %",
            "errors",
            "bead rms / nm",
            "repairs",
            "status",
        ],
        "rows": [
            [
                frame.frame,
                frame.bead_mode if frame.bead_noise is None else f"{frame.bead_mode}, σ {frame.bead_noise:.3f}",
                f"{frame.energy:.0f}",
                _number(frame.quality and frame.quality.ramachandran_favoured, ".1f"),
                _number(frame.quality and frame.quality.ramachandran_outlier, ".1f"),
                sum(frame.quality.errors.values()) if frame.quality else "–",
                f"{_rms(bead_distance(result, frame)):.2g}",
                frame.repairs,
                frame.status,
            ]
            for frame in frames
        ],
    }
    pictures = [picture("Frames", "Each frame was built on its own.", figures.frames(numbers, rows), wide=True)]
    return {"anchor": "frames", "name": "Frames", "text": "", "figures": pictures, "table": table}


def ensemble_section(ensemble: "EnsembleResult", system: "System") -> dict:
    """Pictures of the posterior samples."""
    kt = thermal_energy(float(ensemble.temperature))
    pictures = []
    mode = float(np.mean(ensemble.start_potentials))
    if np.isfinite(mode):
        caption = (
            "Energies of the samples above the MAP. A harmonic well of d dimensions has (d/2) kT on average "
            "(orange, with its spread): samples live there, the MAP does not."
        )
        svg = figures.typical_set(ensemble.potentials, mode, ensemble.dimension, kt)
        pictures.append(picture("The mode and the typical set", caption, svg, wide=True))
    breaks = measures.chain_breaks(system)
    pictures.append(
        picture(
            "Fluctuation of each residue",
            "Root-mean-square fluctuation of heavy atoms over the samples, not superposed: the beads hold the frame.",
            figures.fluctuations(measures.fluctuations(system, np.asarray(ensemble.positions)), breaks),
            wide=True,
        )
    )
    judged = sampling_section(
        ensemble.diagnosis,
        {"potential / kJ mol⁻¹": np.asarray(ensemble.trace)},
        torsions=ensemble.torsions,
        health=ensemble.health,
    )
    statistics = ensemble.statistics()
    text = (
        f"{statistics['samples']} samples from {statistics['chains']} independent chains, acceptance "
        f"{statistics['acceptance']:.2f}. Judged by every trajectory: {judged['text']}"
    )
    return {**judged, "anchor": "ensemble", "name": "Ensemble", "text": text, "figures": pictures + judged["figures"]}


def bead_distance(result: "BackmapResult", frame: "FrameResult") -> np.ndarray:
    """(beads,) |M(x) − y| of a frame in nm, in double precision."""
    mapped = result.molecule.mapping.matrix() @ np.asarray(frame.positions, dtype=float)
    return np.linalg.norm(mapped - np.asarray(frame.y, dtype=float), axis=1)


def _prior_note(result: "BackmapResult") -> str:
    weights = sorted({backbone_prior(result, frame) for frame in result.frames} - {0.0})
    if not weights:
        return " No backbone prior was used."
    shown = " and ".join(f"{weight:g}" for weight in weights)
    return (
        f" A knowledge-based backbone prior of weight {shown} kT favours these regions, so the share of favoured "
        "residues is not an independent measure; --backbone-prior 0 turns it off."
    )


def reference_deviation(result: "BackmapResult", frame: "FrameResult") -> np.ndarray:
    """(residues,) RMSD of heavy atoms to the reference, nm, with the beads of both superposed."""
    molecule = result.molecule
    reference = superposed(molecule.reference_positions, molecule.mapping, np.asarray(frame.y))
    heavy = np.flatnonzero(molecule.system.heavy)
    squared = ((np.asarray(frame.positions) - reference)[heavy] ** 2).sum(axis=1)
    return measures.residue_rms(molecule.system, squared, heavy)


def _ramachandran_panels(result: "BackmapResult") -> list[dict]:
    rows = [row for frame in result.frames if frame.quality for row in frame.quality.phi_psi]
    panels = []
    for name in CLASSES:
        chosen = [row for row in rows if row[3] == name]
        if not chosen:
            continue
        panels.append(
            {
                "name": name,
                "phi": np.array([row[1] for row in chosen]),
                "psi": np.array([row[2] for row in chosen]),
                "outlier": np.array([row[4] == 0 for row in chosen]),
                "density": ramachandran_tables()[name],
                "levels": ramachandran_levels()[name],
            }
        )
    return panels


def _ideal_bonds(result: "BackmapResult") -> tuple[np.ndarray, np.ndarray]:
    from ..backmap.geometry import ideal_geometry

    return ideal_geometry(result.molecule.system, result.molecule.energy).bond_lengths()


def _residue_rows(result: "BackmapResult", frame: "FrameResult", distance: np.ndarray) -> list:
    molecule = result.molecule
    rows = []
    if frame.bead_mode != "exact":
        deviation = measures.residue_bead_deviation(molecule.system, molecule.mapping, distance)
        rows.append(("largest bead deviation", deviation))
    if molecule.reference_positions is not None:
        rows.append(("heavy-atom RMSD to the reference", reference_deviation(result, frame)))
    return rows


def _ways(result: "BackmapResult") -> list[list[tuple[str, float]]]:
    """Stage and energy of each frame along the way, of frames whose energies are finite."""
    ways = [[(row["stage"], float(row["energy"])) for row in frame.history] for frame in result.frames]
    return [way for way in ways if len(way) > 1 and all(np.isfinite(energy) for _, energy in way)]


def _rms(distance: np.ndarray) -> float:
    return float(np.sqrt(np.mean(distance**2)))


def _number(value: float | None, style: str) -> str:
    return "–" if value is None else format(value, style)
