"""Verdicts: within, beyond or across the tolerance."""

import json

import numpy as np
import pytest

from jaxcg.consistency.criteria import (
    criterion,
    finding,
    pair_representability,
    structural_consistency,
    thermodynamic_consistency,
)
from jaxcg.consistency.statistics import Estimate, compare_distributions, curve_difference
from jaxcg.units import BAR


def test_answers_follow_from_the_interval():
    assert finding("x", 0.5, 0.2, 0.8, 1.0).answer == "yes"
    assert finding("x", -2.0, -2.5, -1.5, 1.0).answer == "no"
    across = finding("x", 0.5, -0.5, 1.5, 1.0, "bar")
    assert across.answer == "undecided"
    assert "4 times the data" in across.words
    assert finding("x", np.nan, np.nan, np.nan, 1.0).answer == "undecided"
    with pytest.raises(ValueError, match="positive"):
        finding("x", 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="in order"):
        finding("x", 0.0, 1.0, -1.0, 1.0)


def test_the_worst_finding_decides():
    yes, no = finding("a", 0.5, 0.2, 0.8, 1.0), finding("b", 3.0, 2.0, 4.0, 1.0)
    unsure = finding("c", 0.5, -0.5, 1.5, 1.0)
    assert criterion("?", [yes, unsure, no]).answer == "no"
    assert criterion("?", [yes, unsure]).answer == "undecided"
    assert criterion("?", [yes]).answer == "yes"
    assert criterion("?", []).answer == "not tested"
    assert [each.name for each in criterion("?", [yes, unsure, no]).findings] == ["b", "c", "a"]


def test_structure():
    rng = np.random.default_rng(0)
    same = compare_distributions(rng.normal(size=20_000), rng.normal(size=20_000), name="bond")
    other = compare_distributions(rng.normal(size=20_000), rng.normal(1, 1, 20_000), name="angle")
    assert structural_consistency([same]).answer == "yes"
    found = structural_consistency([same, other])
    assert found.answer == "no"
    assert "angle" in found.words
    x = np.linspace(0, 1, 30)
    curves = [1 + 0.01 * rng.standard_normal((20, 30)) for _ in range(2)]
    near = curve_difference(*curves, x)
    far = curve_difference(curves[0], curves[1] + 0.2, x)
    assert structural_consistency([], {"g(r)": near}).answer == "yes"
    assert structural_consistency([], {"g(r)": far}).answer == "no"
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["answer"] == "no"


def test_thermodynamics_and_pairs():
    reference, model = Estimate(1 * BAR, 5 * BAR), Estimate(8000 * BAR, 15 * BAR)
    found = thermodynamic_consistency({"298 K": (reference, model)})
    assert found.answer == "no"
    assert found.findings[0].value == pytest.approx(7999)
    assert found.findings[0].upper == pytest.approx(7999 + 1.96 * np.hypot(5, 15), rel=1e-4)
    assert thermodynamic_consistency({"298 K": (reference, Estimate(20 * BAR, 5 * BAR))}).answer == "yes"
    # At the compressibility of water one percent of the density is some 220 bar.
    near = {"298 K": (reference, Estimate(180 * BAR, 5 * BAR))}
    assert thermodynamic_consistency(near).answer == "no"
    assert thermodynamic_consistency(near, compressibility=4.5e-5 / BAR).answer == "yes"
    energies = {"folding": Estimate(1.0, 0.2)}
    assert thermodynamic_consistency(free_energies=energies, thermal_energy=2.48).answer == "yes"
    with pytest.raises(ValueError, match="kT"):
        thermodynamic_consistency(free_energies=energies)
    assert pair_representability(reference, model).answer == "no"
    assert pair_representability(reference, reference).answer == "yes"
