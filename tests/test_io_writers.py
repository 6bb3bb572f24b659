"""Writers: what is read back, and that a crash leaves nothing behind."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openmm
import pytest
from openmm.app import PDBFile

from jaxcg.io import BeadResidue, atomic_path, build_molecule, write_pdb, write_system, write_text, write_xtc
from jaxcg.io.forcefield import ForceFieldLibrary
from jaxcg.io.topology import build_topology

VILLIN = Path(__file__).parent / "data" / "frames" / "villin" / "cg_crystal.pdb"


@cache
def molecule():
    return build_molecule(VILLIN)


@pytest.fixture
def positions():
    return np.random.default_rng(1).uniform(0, 5, size=(molecule().system.n_atoms, 3))


def test_pdb_round_trip(tmp_path, positions):
    path = tmp_path / "new" / "map.pdb"
    write_pdb(path, molecule(), positions)
    read = PDBFile(str(path))
    np.testing.assert_allclose(np.array(read.positions._value), positions, atol=6e-5)
    assert [a.name for a in read.topology.atoms()] == list(molecule().system.atom_names)
    assert [r.name for r in read.topology.residues()] == list(molecule().system.residue_names)
    assert read.topology.getNumBonds() == len(molecule().system.bonds)
    assert [p.name for p in path.parent.iterdir()] == ["map.pdb"]
    assert path.stat().st_mode & 0o044


def test_the_same_structure_gives_the_same_file(tmp_path, positions):
    for name in ("a.pdb", "b.pdb"):
        write_pdb(tmp_path / name, molecule(), positions)
    assert (tmp_path / "a.pdb").read_bytes() == (tmp_path / "b.pdb").read_bytes()
    assert "CREATED" not in (tmp_path / "a.pdb").read_text()


def test_models_and_box(tmp_path, positions):
    write_pdb(tmp_path / "m.pdb", molecule(), [positions, positions + 1], box=np.diag([4.0, 5.0, 6.0]))
    read = PDBFile(str(tmp_path / "m.pdb"))
    assert read.getNumFrames() == 2
    np.testing.assert_allclose(np.array(read.topology.getPeriodicBoxVectors()._value), np.diag([4.0, 5, 6]), atol=1e-6)
    assert molecule().topology.getPeriodicBoxVectors() is None


def test_more_atoms_than_a_pdb_file_can_count(tmp_path):
    import MDAnalysis

    lipids = [BeadResidue("POPC", str(number), "", 0, ()) for number in range(1, 751)]
    topology = build_topology(lipids, ["POPC"] * 750, [], ForceFieldLibrary("amber14")).topology
    n = topology.getNumAtoms()
    assert n > 100_000
    membrane = SimpleNamespace(topology=topology, system=SimpleNamespace(n_atoms=n))
    positions = np.random.default_rng(0).uniform(0, 20, size=(n, 3))
    write_pdb(tmp_path / "membrane.pdb", membrane, positions)
    read = MDAnalysis.Universe(str(tmp_path / "membrane.pdb"), to_guess=())
    np.testing.assert_allclose(read.atoms.positions, positions * 10, atol=6e-4)
    assert set(read.atoms.resnames) == {"POPC"}
    assert len(read.residues) == 750


def test_xtc_round_trip(tmp_path, positions):
    from MDAnalysis.lib.formats.libmdaxdr import XTCFile

    frames = [positions, positions + 0.5]
    write_xtc(tmp_path / "map.xtc", molecule(), frames, boxes=[np.eye(3) * 3, np.eye(3) * 4])
    with XTCFile(str(tmp_path / "map.xtc")) as file:
        read = list(file)
    assert len(read) == 2
    for frame, expected in zip(read, frames):
        np.testing.assert_allclose(frame.x, expected, atol=6e-6)
    np.testing.assert_allclose(read[1].box, np.eye(3) * 4, atol=1e-6)


def test_system_xml(tmp_path):
    write_system(tmp_path / "system.xml", molecule())
    system = openmm.XmlSerializer.deserialize((tmp_path / "system.xml").read_text())
    assert system.getNumParticles() == molecule().system.n_atoms


def test_a_crash_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.html"
    write_text(path, "old")

    def half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_crash_while_writing_frames_leaves_nothing(tmp_path, positions):
    def frames():
        yield positions
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_xtc(tmp_path / "map.xtc", molecule(), frames())
    assert list(tmp_path.iterdir()) == []


def test_bad_positions_are_not_written(tmp_path, positions):
    positions[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        write_pdb(tmp_path / "map.pdb", molecule(), positions)
    with pytest.raises(ValueError, match="shape"):
        write_pdb(tmp_path / "map.pdb", molecule(), positions[1:])
    assert list(tmp_path.iterdir()) == []
