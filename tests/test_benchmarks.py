"""The benchmarks' own arithmetic: ratios, limits, files, and judging a peer's heavy atoms."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from proteins import protein

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from rows import Rows
from scoring import read_atoms, secondary_structure, subsystem

FRAMES = Path(__file__).parent / "data" / "frames"


def _rows() -> Rows:
    return Rows(device="a machine", versions={"jaxcg": "0"})


@pytest.mark.parametrize(
    ("value", "peer_value", "better", "ratio"),
    [
        (2.0, 4.0, "lower", 2),
        (90.0, 45.0, "higher", 2),
        (8.0, 4.0, "lower", 0.5),
        (0, 0, "lower", 1),
        (0, 3, "lower", "inf"),
        (3, 0, "lower", 0),
        (1.0, None, "lower", None),
    ],
)
def test_ratio_above_one_means_ours_is_ahead(value, peer_value, better, ratio):
    row = _rows().add("case", "metric", value, better=better, peer="peer", peer_value=peer_value)
    assert row["ratio"] == ratio
    assert row["peer"] == (None if peer_value is None else "peer")


@pytest.mark.parametrize(
    ("value", "limit", "better", "unit", "met"),
    [
        (0, 0, "lower", "", True),
        (1, 0, "lower", "", False),
        (98.2, 98, "higher", "%", True),
        (96.97, 97, "higher", "%", True),
        (96.9, 97, "higher", "%", False),
        (0.06501, 0.065, "lower", "nm", False),
        (5, None, "lower", "", None),
    ],
)
def test_limits(value, limit, better, unit, met):
    assert _rows().add("case", "metric", value, unit, better=better, limit=limit)["met"] is met


def test_rows_are_written_as_a_list(tmp_path):
    rows = _rows()
    rows.add("case", "time", 1.5, "s", peer="peer", peer_value=3.0)
    rows.write(str(tmp_path / "rows.json"))
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    keys = ("case", "metric", "value", "unit", "peer", "peer_value", "ratio", "device", "versions")
    assert set(keys) <= row.keys()
    assert row["ratio"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]
    assert "| time | 1.50 | s |" in "\n".join(rows.lines())


def test_heavy_atoms_alone_can_be_judged():
    system, x, _ = protein("ubiquitin")
    heavy = subsystem(system, system.heavy)
    assert heavy.n_atoms == int(system.heavy.sum()) == 602
    assert "H" not in heavy.elements
    assert len(heavy.double_bonds) == len(system.double_bonds)
    assert len(heavy.stereo_centers) == 84
    names = np.array(heavy.atom_names)
    assert (names[heavy.double_bonds] == ("CA", "C", "N", "CA")).all()
    positions, present = read_atoms(FRAMES / "ubiquitin" / "aa.pdb", system)
    np.testing.assert_array_equal(present, system.heavy)
    np.testing.assert_allclose(positions[present], x[present], atol=1e-6)


def test_secondary_structure_of_a_known_fold():
    system, x, _ = protein("ubiquitin")
    code = secondary_structure(system, x)
    assert len(code) == system.n_residues
    assert (code[22:33] == 1).all()  # the helix 23–33
    assert (code[1:6] == 2).all()  # the first strand


@pytest.mark.slow
def test_the_benchmark_of_sampling_runs(tmp_path):
    script = Path(__file__).parent.parent / "benchmarks" / "sampling.py"
    size = ["--only=dipeptide", "--samplers=Langevin", "--no-peer", "--seconds=0.1", "--chains=4", "--steps=40"]
    words = [sys.executable, str(script), *size, "--json=rows.json"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    subprocess.run(words, check=True, cwd=tmp_path, env=environment)
    rows = json.loads((tmp_path / "rows.json").read_text())
    found = {row["metric"]: row["value"] for row in rows if row["case"].startswith("Langevin")}
    assert found["gradients a second"] > 0
    assert 0 < found["ESS of cos φ per 1000 gradients"] < 1000
    assert (tmp_path / "jaxcg" / "benchmarks" / "sampling" / "dipeptide.npz").exists()
