"""The report: what it says agrees with the result, it needs no network, and a failed run has one too."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from jaxcg.backmap.quality import quality
from jaxcg.backmap.result import BackmapResult, FrameResult
from jaxcg.io import build_molecule
from jaxcg.report import figures, measures, write_report
from jaxcg.report.checks import Check, verdict
from jaxcg.report.scene import LARGEST_RUN, build_scene, thin
from jaxcg.report.summary import plain
from jaxcg.sampling import EnsembleResult, SamplerHealth, assess, find_torsions, torsion_mixing

VILLIN = Path(__file__).parent / "data" / "frames" / "villin"


@cache
def molecule():
    return build_molecule(VILLIN / "cg_crystal.pdb", reference=VILLIN / "aa.pdb")


def frame(number=0, *, noise=None, shift=0.0) -> FrameResult:
    """The crystal structure as if it were a result."""
    m = molecule()
    x = m.reference_positions + shift
    y = np.asarray(m.mapping.matrix() @ x) + (0 if noise is None else noise)
    return FrameResult(
        frame=number,
        positions=x,
        y=y,
        bead_mode="exact" if noise is None else "soft",
        bead_noise=noise,
        bead_reason="asked for",
        energy=-1234.5,
        energy_terms={"HarmonicBond": 10.0, "Nonbonded": -1244.5},
        history=[{"stage": s, "step": 1, "energy": e} for s, e in (("embedding", 1e5), ("MAP", -1234.5))],
        status="converged",
        gradient_norm=1.0,
        bond_strain=0.01,
        cis_prolines=(),
        repairs=0,
        quality=quality(m.system, x, mapping=m.mapping, y=y, reference_positions=m.reference_positions),
        seconds={"MAP": 1.0},
    )


def ensemble(samples=5) -> EnsembleResult:
    rng = np.random.default_rng(0)
    x = molecule().reference_positions + rng.normal(0, 0.01, (samples, molecule().system.n_atoms, 3))
    per_sample, per_chain = np.full(samples, 500.0), np.full(2, 0.8)
    trace, torsions = rng.normal(500, 10, (2, 20)), find_torsions(molecule().system)
    mixing = torsion_mixing(torsions, rng.normal(0, 0.3, (2, 20, len(torsions))))
    health = SamplerHealth(per_chain, np.zeros(2, int), np.zeros(2, int), per_chain, per_chain, 20)
    return EnsembleResult(
        positions=x,
        energies=per_sample,
        potentials=per_sample,
        chain=np.arange(samples) % 2,
        trajectory=np.ones(samples, int),
        trace=trace,
        start_potentials=np.full(2, -1234.5),
        acceptance=per_chain,
        step_size=per_chain,
        divergences=np.zeros(2, int),
        burn_in_temperature=np.full(2, 300.0),
        gradients=100,
        dimension=1482,
        temperature=300.0,
        r_hat=float("nan"),
        effective_sample_size=float("nan"),
        health=health,
        diagnosis=assess({"energy": trace}, torsions=mixing, health=health),
        torsions=mixing,
    )


def run(*frames, samples=None) -> BackmapResult:
    return BackmapResult(molecule(), {}, ["histidine 27 is neutral"], list(frames), samples)


def read(folder) -> tuple[str, dict]:
    return (folder / "report.html").read_text(), json.loads((folder / "report.json").read_text())


def identifiers(page: str) -> list[str]:
    return re.findall(r'\bid="([^"]+)"', page)


@pytest.mark.parametrize("kind", ["structure", "ensemble", "trajectory"])
def test_page_is_whole_offline_and_repeatable(kind, tmp_path):
    result = {
        "structure": lambda: run(frame()),
        "ensemble": lambda: run(frame(), samples=ensemble()),
        "trajectory": lambda: run(frame(0, noise=0.03), frame(10, noise=0.02)),
    }[kind]()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, result, title="villin.pdb", settings={"seed": 0})
    page, data = read(tmp_path / "a")
    assert (page, data) == read(tmp_path / "b")
    # Nothing is loaded: every reference points into the page itself.
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page)
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)
    assert len(identifiers(page)) == len(set(identifiers(page)))
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert anchor in identifiers(page)
    for svg in re.findall(r"<svg.*?</svg>", page, re.S):
        ElementTree.fromstring(svg)
    assert data["outcome"] in ("good", "bad")
    assert (data["ensemble"] is None) == (kind != "ensemble")


def test_json_agrees_with_the_result(tmp_path):
    result = run(frame())
    returned = write_report(tmp_path, result, title="villin.pdb", settings={"seed": 7, "bead_noise": None})
    _, data = read(tmp_path)
    assert data == returned
    assert data["settings"] == {"seed": 7, "bead_noise": None}
    assert data["atoms"] == result.molecule.system.n_atoms
    assert data["nullity"] == 3 * data["atoms"] - 3 * data["beads"]
    assert data["notes"] == result.notes
    shown = data["frames"][0]
    assert shown["energy"] == -1234.5
    assert shown["quality"]["stereo_centers"] == result.frames[0].quality.stereo_centers
    assert "seconds" not in shown


def test_defects_are_named_and_flagged(tmp_path):
    good = frame()
    x = good.positions.copy()
    system = molecule().system
    ca = system.residue_atoms()[10]["CA"]
    x[ca] += 0.06
    bad = replace(good, positions=x, quality=quality(system, x))
    assert bad.quality.errors
    data = write_report(tmp_path, run(bad), title="villin.pdb", settings={}, error="a defect was left")
    page = (tmp_path / "report.html").read_text()
    assert data["outcome"] == "bad"
    assert "a defect was left" in page
    found = [check for check in data["checks"] if check["found"]]
    assert found
    assert all(system.residue_label(10) in check["where"] for check in found if check["found"] == 1)
    scene = json.loads(re.search(r'id="scene">(.*?)</script>', page, re.S).group(1))
    assert ca in scene["frames"][0]["flagged"]


def test_run_that_failed_before_a_structure_has_a_report(tmp_path):
    data = write_report(tmp_path, None, title="a.pdb", settings={"seed": 1}, error="embedding: no finite structure")
    page, _ = read(tmp_path)
    assert data["outcome"] == "bad"
    assert data["error"] in page
    assert "<canvas" not in page


def test_structure_that_is_not_finite_has_a_report(tmp_path):
    broken = replace(frame(), positions=np.full((582, 3), np.nan), energy=float("nan"), quality=None)
    data = write_report(tmp_path, run(broken), title="a.pdb", settings={})
    assert data["outcome"] == "bad"
    assert data["frames"][0]["energy"] is None


def test_ensemble_whose_starts_have_no_energy_is_drawn_without_the_typical_set(tmp_path):
    unknown = replace(ensemble(), start_potentials=np.full(2, np.nan))
    write_report(tmp_path, run(frame(), samples=unknown), title="a.pdb", settings={})
    page, data = read(tmp_path)
    assert "Fluctuation of each residue" in page
    assert "typical set" not in page
    assert data["ensemble"]["excess_energy"] is None


def test_names_are_escaped(tmp_path):
    write_report(tmp_path, run(frame()), title="<script>alert(1)</script>", settings={"mapping": "</script>"})
    page, _ = read(tmp_path)
    assert "<script>alert" not in page
    assert page.count("</script>") == 2


def test_scene_keeps_coordinates_to_half_a_picometre():
    shown = frame(shift=123.0)
    scene = build_scene(
        molecule().system,
        [True] * molecule().mapping.n_beads,
        [{"label": "MAP", "positions": shown.positions, "beads": shown.y, "deviation": np.zeros(35), "flagged": ()}],
    )
    packed = scene["frames"][0]
    whole = np.frombuffer(base64.b64decode(packed["positions"]), "<i2").reshape(-1, 3)
    back = whole * scene["scale"] + packed["origin"]
    np.testing.assert_allclose(back, shown.positions, atol=0.00051)
    assert [len(trace) for trace in scene["traces"]] == [35]


def test_thinning_keeps_both_ends():
    chosen = thin(1000, 100)
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 999, LARGEST_RUN)
    assert list(thin(3, 100)) == [0, 1, 2]
    assert list(thin(1, 10**9)) == [0]


@pytest.mark.parametrize(
    ("found", "error", "expected"),
    [({}, None, "good"), ({"contacts_022": 1}, None, "bad"), ({"stereo_errors": 1}, None, "bad"), ({}, "x", "bad")],
)
def test_verdict(found, error, expected):
    keys = ("stereo_errors", "contacts_022")
    assert verdict([Check(key, key, found.get(key, 0), None, "") for key in keys], error)[0] == expected


def test_measures_against_plain_sums():
    system = molecule().system
    x = molecule().reference_positions
    heavy = np.flatnonzero(system.heavy)
    distances = measures.contact_distances(system, x, cutoff=0.35)
    every = np.linalg.norm(x[heavy][:, None] - x[heavy][None], axis=-1)[np.triu_indices(len(heavy), 1)]
    # Bonded neighbours are left out; nothing else is.
    assert 0 < len(distances) < (every < 0.35).sum()
    assert np.isin(distances.round(9), every.round(9)).all()
    pairs = system.bonds
    lengths = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)
    np.testing.assert_allclose(measures.bond_deviations(1.05 * x, pairs, lengths), 5.0)
    assert measures.residue_strain(system, 1.05 * x, pairs, lengths) == pytest.approx(np.full(35, 5.0))
    samples = np.stack([x - 0.01, x + 0.01])
    assert measures.fluctuations(system, samples) == pytest.approx(np.full(35, 0.01 * np.sqrt(3)))
    distance = np.arange(molecule().mapping.n_beads, dtype=float)
    of_residue = measures.residue_bead_deviation(system, molecule().mapping, distance)
    expected = [max(residue.beads) for residue in molecule().beads.residues]
    assert of_residue == pytest.approx(expected)


def test_figures_take_the_colour_of_the_page():
    text = figures.bonds(np.array([0.1, -0.2]))
    assert "currentColor" in text
    assert "#010203" not in text
    assert text == figures.bonds(np.array([0.1, -0.2]))


def test_plain_types():
    given = {"a": np.float32(1.5), "b": np.arange(2), "c": (True, None), "d": float("inf"), 1: np.int64(3)}
    assert plain(given) == {"a": 1.5, "b": [0, 1], "c": [True, None], "d": None, "1": 3}


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_viewer_is_valid_javascript(tmp_path):
    script = tmp_path / "viewer.js"
    script.write_text((files("jaxcg.report") / "assets" / "viewer.js").read_text())
    subprocess.run(["node", "--check", str(script)], check=True)
