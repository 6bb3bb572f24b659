"""Is a model right? Two ensembles measured alike, compared with intervals, and the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...consistency.criteria import (
    SAME_CURVE,
    SAME_DISTRIBUTION,
    SAME_PRESSURE,
    Criterion,
    Finding,
    criterion,
    finding,
    pair_representability,
    structural_consistency,
    thermodynamic_consistency,
)
from ...consistency.statistics import Estimate, too_uncertain
from ...consistency.structure import RadialDistribution
from ...errors import InputError
from ...units import BAR
from .compare import BondedComparison, CurveComparison, compare_bonded, compare_radial
from .coordinates import bonded_groups, chosen_pairs
from .ensembles import Ensemble
from .measure import Measured, Plan, bonded_limits, default_r_max, measure
from .potentials import PairTable
from .pressures import Isotherms, compare_isotherms, pressure_of, simulated_states
from .states import StateTable

#: Frames that any error needs, and effective samples below which a note is made.
_FEWEST, _FEW = 4, 30
#: Change of the density, in percent, up to which two count as equal.
_SAME_DENSITY = 1.0
#: Share of values outside a histogram from which on it is told of.
_OUTSIDE = 0.01


@dataclass(frozen=True)
class CheckSettings:
    """What is compared, and what counts as equal.

    Arguments:
        temperature: K; needed for pressures and free energies.
        pressure: of the reference at the density of its trajectory, kJ/mol/nm³.
        pairs: of kinds, ``"A-B,C-C"``; None: the most numerous.
        r_max: of g(r), nm; None: 1.5 nm, or nearly half the box.
        bins: of g(r), and of bonded histograms.
        compare_pairs: whether g(r) is compared at all.
        within: count pairs within molecules too.
        distribution_tolerance: largest Jensen–Shannon divergence of a bonded distribution, nats.
        curve_tolerance: largest relative difference of two g(r).
        pressure_tolerance: largest difference of pressures, kJ/mol/nm³.
        level: of confidence intervals.
        steps: of the run of the model at each density of the reference's equation of state; 0: none.
        time_step: of it, ps.
        seed: of the bootstrap and of these runs.
    """

    temperature: float | None = None
    pressure: Estimate | None = None
    pairs: str | None = None
    r_max: float | None = None
    bins: int = 150
    bonded_bins: int = 100
    compare_pairs: bool = True
    within: bool = False
    distribution_tolerance: float = SAME_DISTRIBUTION
    curve_tolerance: float = SAME_CURVE
    pressure_tolerance: float = SAME_PRESSURE
    level: float = 0.95
    steps: int = 0
    time_step: float = 0.002
    seed: int = 0


@dataclass(frozen=True)
class ConsistencyCheck:
    """Everything `jaxcg check` found.

    Arguments:
        ensembles: reference and model.
        measured: what they have.
        curves: g(r) by pair.
        bonded: distributions by title.
        isotherms: pressures against density, of both; None where there is no equation of state.
        criteria: structure, thermodynamics, representability, in this order.
        notes: what was decided or is to be kept in mind.
        settings: as asked, with what was filled in.
    """

    ensembles: tuple[Ensemble, Ensemble]
    measured: tuple[Measured, Measured]
    curves: Sequence[CurveComparison]
    bonded: Sequence[BondedComparison]
    isotherms: Isotherms | None
    criteria: tuple[Criterion, ...]
    settings: CheckSettings
    r_max: float | None
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def answers(self) -> tuple[str, ...]:
        """Answers of all criteria."""
        return tuple(each.answer for each in self.criteria)


def check_model(
    reference: Ensemble,
    model: Ensemble,
    settings: CheckSettings | None = None,
    *,
    potentials: Mapping[tuple[str, str], PairTable] | None = None,
    states: StateTable | None = None,
    model_states: StateTable | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> ConsistencyCheck:
    """Compares a model with its reference.

    Arguments:
        reference: the reference seen through the map, from `read_reference`.
        model: with the same beads, from `matched`.
        settings: what is compared and what counts as equal.
        potentials: pair potential of the model by pair of kinds, for its pressure.
        states: equation of state of the reference.
        model_states: that of the model; None: simulated with ``potentials`` if the settings ask for steps.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        InputError: frames cannot be used, or are too few for an error.
    """
    settings = settings or CheckSettings()
    beads = reference.beads
    assert beads is not None
    for ensemble in (reference, model):
        if ensemble.frames < _FEWEST:
            raise InputError(
                f"{ensemble.paths[0]}: {ensemble.frames} frames of the {ensemble.role}, but errors need {_FEWEST} at "
                "least; choose more with --frames or --model-frames."
            )
    notes = [*reference.notes, *model.notes]
    plan, more = _plan(reference, model, settings)
    notes += more
    pressure = None
    if potentials:
        if settings.temperature is None:
            raise InputError("--potential: pressures need the temperature; give --temperature K.")
        pressure = pressure_of(beads, potentials, settings.temperature)
    found = measure(reference, plan, progress=progress), measure(model, plan, pressure=pressure, progress=progress)
    if progress is not None:
        progress("comparing", 0, 1)
    curves = [
        compare_radial(found[0].radial[pair], found[1].radial[pair], level=settings.level, seed=settings.seed)
        for pair in plan.pairs
    ]
    bonded = [
        compare_bonded(
            title,
            found[0].bonded[title],
            found[1].bonded[title],
            temperature=settings.temperature,
            level=settings.level,
            seed=settings.seed,
        )
        for title in found[0].bonded
    ]
    for each in bonded:
        for side, one in (("reference", each.reference), ("model", each.model)):
            share = one.outside / (one.frames * one.terms)
            if share > _OUTSIDE:
                notes.append(f"{each.found.name}: {100 * share:.1f} % of the values of the {side} are out of range")
        notes += [f"{each.found.name}: {warning}" for warning in each.found.warnings]
    notes += _few_samples(curves)
    isotherms = None
    if states is not None:
        if model_states is None and potentials and settings.steps:
            model_states = simulated_states(beads, model, potentials, states, settings, progress)
        if model_states is not None:
            isotherms = compare_isotherms(states, model_states, settings.temperature or 300.0)
        else:
            notes.append("the model has no equation of state: give --model-equation, or --potential and --run-steps")
    structure = _structure(bonded, curves, settings)
    criteria = (
        structure,
        _thermodynamics(found, isotherms, settings, notes),
        _representability(found, structure, curves, settings),
    )
    return ConsistencyCheck(
        (reference, model),
        found,
        curves,
        bonded,
        isotherms,
        criteria,
        settings,
        plan.r_max if plan.pairs else None,
        tuple(dict.fromkeys(notes)),
    )


def _plan(reference: Ensemble, model: Ensemble, settings: CheckSettings) -> tuple[Plan, list[str]]:
    """What is measured, and notes."""
    beads = reference.beads
    assert beads is not None
    groups, notes = bonded_groups(beads)
    if not groups and len(set(beads.residue_names)) < len(set(beads.names)):
        # Several kinds of beads in a residue: they are hardly molecules of their own.
        notes.append(
            "no bonds are known, so every bead counts as a molecule; give a topology that names them (TPR, PSF, a PDB "
            "file with CONECT records)"
        )
    pairs: list[tuple[str, str]] = []
    if settings.compare_pairs:
        pairs, more = chosen_pairs(beads, settings.pairs)
        notes += more
        if not pairs:
            notes.append("g(r) is not compared: there is one molecule")
    if not pairs and not groups:
        raise InputError(
            f"{reference.paths[0]}: nothing to compare: one molecule without bonds; give a mapping or a topology that "
            "names its bonds."
        )
    first = [next(iter(ensemble.blocks())) for ensemble in (reference, model)]
    r_max = settings.r_max
    if pairs and r_max is None:
        r_max = default_r_max(first)
    return Plan(
        pairs=pairs,
        r_max=r_max or 1.0,
        bins=settings.bins,
        groups=groups,
        limits=bonded_limits(first, groups),
        bonded_bins=settings.bonded_bins,
        between=not settings.within,
    ), notes


def _structure(
    bonded: Sequence[BondedComparison], curves: Sequence[CurveComparison], settings: CheckSettings
) -> Criterion:
    """Bonded distributions by their Jensen–Shannon divergence, g(r) by its relative difference."""
    whole = structural_consistency([each.found for each in bonded], tolerance=settings.distribution_tolerance)
    radial = [
        _undecided_by_noise(
            finding(f"relative difference of g(r) {each.name}", *each.difference, settings.curve_tolerance)
        )
        for each in curves
    ]
    return criterion(whole.question, [*whole.findings, *radial])


def _undecided_by_noise(one: Finding) -> Finding:
    """A distance that may be zero is held up by noise alone, which falls as 1/√frames: so many more frames decide."""
    if one.answer != "undecided" or one.lower > 0 or not np.isfinite(one.upper):
        return one
    factor = (one.upper / one.tolerance) ** 2
    words = f"{one.words.rpartition(': ')[0]}: across it; about {max(factor, 1.1):.2g} times the frames would decide"
    return replace(one, words=words)


def _few_samples(curves: Sequence[CurveComparison]) -> list[str]:
    """Notes on g(r) from few independent frames."""
    notes = []
    for side in ("reference", "model"):
        sizes = []
        for each in curves:
            one: RadialDistribution = getattr(each, side)
            seen = one.counts > 0
            if seen.any():
                sizes.append(float(np.nanmedian(np.asarray(one.effective_sample_size)[seen])) * one.frames_per_block)
        if sizes and min(sizes) < _FEW:
            notes.append(
                f"g(r) of the {side} comes from about {min(sizes):.0f} independent frames; intervals are rough below "
                f"{_FEW}"
            )
    return notes


def _thermodynamics(
    found: tuple[Measured, Measured], isotherms: Isotherms | None, settings: CheckSettings, notes: list[str]
) -> Criterion:
    """Pressures at the trajectory's density and along the isotherm, and the density where it is free."""
    reference, model = found
    pressures: dict[str, tuple[Estimate, Estimate]] = {}
    if settings.pressure is not None and model.pressure is not None and model.density is not None:
        pressures[f"{model.density.value:.4g} nm⁻³ (the trajectories)"] = (settings.pressure, model.pressure)
        tight = too_uncertain("pressure of the model / bar", _in_bar(model.pressure), settings.pressure_tolerance / BAR)
        if tight is not None:
            notes.append(tight)
    if isotherms is not None:
        pressures |= isotherms.pairs()
    whole = thermodynamic_consistency(pressures, tolerance=settings.pressure_tolerance, level=settings.level)
    findings = list(whole.findings)
    # Without g(r) the box is not looked at: a protein alone, whose solvent was left out or is none.
    if settings.compare_pairs and reference.density is not None and model.density is not None:
        free = not (reference.constant_volume and model.constant_volume)
        apart = 100 * (model.density.value / reference.density.value - 1)
        ends = [one.interval(settings.level) for one in (reference.density, model.density)]
        half = 100 * float(np.hypot(*[(high - low) / 2 for low, high in ends])) / reference.density.value
        if free:
            findings.append(
                finding(
                    "density (it is free), model − reference,", apart, apart - half, apart + half, _SAME_DENSITY, "%"
                )
            )
        elif abs(apart) > _SAME_DENSITY:
            notes.append(
                f"both were run at constant volume, at densities {abs(apart):.2g} % apart; g(r) and pressures are "
                "those of two states"
            )
    return criterion(whole.question, findings)


def _in_bar(one: Estimate) -> Estimate:
    return Estimate(one.value / BAR, one.error / BAR, one.effective_sample_size)


def _representability(
    found: tuple[Measured, Measured], structure: Criterion, curves: Sequence[CurveComparison], settings: CheckSettings
) -> Criterion:
    """Henderson's theorem: asked only where the pair potential has the reference's g(r)."""
    question = "representable by pairs?"
    pair = found[1].pressure
    if pair is None or settings.pressure is None or not curves:
        missing = "--potential" if pair is None else "--pressure" if settings.pressure is None else "g(r)"
        return Criterion(question, "not tested", f"not tested: it needs {missing}", ())
    asked = pair_representability(settings.pressure, pair, tolerance=settings.pressure_tolerance, level=settings.level)
    radial = [each for each in structure.findings if "g(r)" in each.name]
    wrong: Any = next((each for each in radial if each.answer != "yes"), None)
    if wrong is None:
        return asked
    word = "has not" if wrong.answer == "no" else "may not have"
    words = f"undecided: the pair potential {word} the reference's g(r), so that its pressure says nothing yet"
    return Criterion(question, "undecided", f"{words} ({wrong.words})", asked.findings)
