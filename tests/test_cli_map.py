"""`jaxcg map`: what it writes, refuses and says."""

import json
import re
import resource
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from MDAnalysis.lib.formats.libmdaxdr import TRRFile, XTCFile

from jaxcg.cli import main
from jaxcg.cli.main import build_parser
from jaxcg.errors import InputError
from jaxcg.io import build_molecule, read_beads
from jaxcg.io.atoms import read_atoms
from jaxcg.io.map_trajectory import map_trajectory
from jaxcg.mapping import fluctuation_loss
from jaxcg.mapping.formats.build import build_model

FRAMES = Path(__file__).parent / "data" / "frames"
VILLIN = FRAMES / "villin" / "aa.pdb"
BOX = np.diag([6.0, 5.0, 5.5]).astype(np.float32)
N_FRAMES = 9
WATER = """water
3
    1SOL     OW    1   0.100   0.100   0.100
    1SOL    HW1    2   0.200   0.100   0.100
    1SOL    HW2    3   0.067   0.194   0.100
   1.0 1.0 1.0
"""


@cache
def villin():
    return read_atoms(VILLIN)


@cache
def trajectory():
    """Positions (frames, atoms, 3), cut by the box, and forces."""
    rng = np.random.default_rng(3)
    x = villin().positions + rng.normal(size=(N_FRAMES, villin().n_atoms, 3)) * 0.004
    whole = (x + np.linspace(0, 4, N_FRAMES)[:, None, None]).astype(np.float32)
    return whole, np.mod(whole, np.diag(BOX)), (rng.normal(size=whole.shape) * 100).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with ``aa.xtc`` and ``aa.trr``, which the test is in; the command's setting of JAX is left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxcg.cli.map.configure_jax", lambda: None)
    _, cut, forces = trajectory()
    with XTCFile("aa.xtc", "w") as xtc, TRRFile("aa.trr", "w") as trr:
        for k in range(N_FRAMES):
            xtc.write(cut[k], BOX, 100 * k, 2.0 * k, precision=10000)
            trr.write(cut[k], None, forces[k], BOX, 100 * k, 2.0 * k, 0.0, len(cut[k]))
    return tmp_path


def run(*words):
    return main(["map", *map(str, words), "--quiet"])


def read(path):
    with (XTCFile if str(path).endswith(".xtc") else TRRFile)(str(path)) as file:
        return list(file)


def reference(x):
    return np.einsum("ba,fax->fbx", build_model(villin(), "martini3").mapping.matrix().toarray(), x)


def test_a_trajectory_is_made_whole_and_mapped(folder):
    assert run("aa.xtc", "--topology", VILLIN, "-o", "cg.xtc", "--structure", "cg.pdb") == 0
    whole, cut, _ = trajectory()
    assert np.abs(reference(cut) - reference(whole)).max() > 0.5  # the box cuts it
    frames, expected = read("cg.xtc"), reference(whole)
    assert [(f.step, f.time) for f in frames] == [(100 * k, 2.0 * k) for k in range(N_FRAMES)]
    # Whole molecules stay with their first atom, so they agree up to one box vector.
    for frame, beads in zip(frames, expected):
        shift = np.round((frame.x - beads).mean(axis=0) / np.diag(BOX)) * np.diag(BOX)
        np.testing.assert_allclose(frame.x - shift, beads, atol=7e-4)
        np.testing.assert_array_equal(frame.box, BOX)
    beads = read_beads("cg.pdb")
    assert beads.names[:3] == ("BB", "SC1", "BB")
    assert beads.residue_names[0] == "LEU"
    np.testing.assert_allclose(beads.positions, expected[0], atol=2e-4)
    assert sorted(path.name for path in folder.iterdir()) == ["aa.trr", "aa.xtc", "cg.pdb", "cg.xtc"]


def test_frames_and_no_whole(folder):
    assert run("aa.xtc", "--topology", VILLIN, "-o", "cg.trr", "--frames", "1:8:3", "--no-whole") == 0
    frames = read("cg.trr")
    assert [f.step for f in frames] == [100, 400, 700]
    np.testing.assert_allclose([f.x for f in frames], reference(trajectory()[1][1:8:3]), atol=2e-4)


def test_forces_of_the_basic_map_are_sums(folder):
    assert run("aa.trr", "--topology", VILLIN, "--mapping", "com", "--force-map", "basic", "-o", "cg.trr") == 0
    frames, forces = read("cg.trr"), trajectory()[2]
    totals = np.stack([forces[:, atoms].sum(axis=1) for atoms in villin().residue_atoms], axis=1)
    assert all(frame.hasf for frame in frames)
    np.testing.assert_allclose([f.f for f in frames], totals, atol=1e-3 * np.abs(totals).max())


@pytest.mark.parametrize("ending", ["dcd", "gro", "pdb"])
def test_other_formats(folder, ending):
    import MDAnalysis

    assert run("aa.xtc", "--topology", VILLIN, "-o", f"cg.{ending}", "--frames", "0:2") == 0
    files = [f"cg.{ending}"]
    if ending == "dcd":
        assert run(VILLIN, "-o", "top.pdb") == 0
        files = ["top.pdb", "cg.dcd"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe(*files, to_guess=())
    np.testing.assert_allclose(universe.atoms.positions / 10, reference(trajectory()[0])[0], atol=7e-4)


def test_the_way_back_starts_from_what_the_map_wrote(folder):
    assert run(VILLIN, "-o", "cg.pdb") == 0
    molecule = build_molecule("cg.pdb")
    assert molecule.system.n_atoms == villin().n_atoms
    places = {
        (residue, name): x for residue, name, x in zip(villin().residue.tolist(), villin().names, villin().positions)
    }
    x = np.array(
        [
            places[residue, name]
            for residue, name in zip(np.asarray(molecule.system.atom_residue).tolist(), molecule.system.atom_names)
        ]
    )
    beads = np.asarray(molecule.with_alternative_mapping().mapping(x))  # with hydrogens
    np.testing.assert_allclose(beads, read_beads("cg.pdb").positions, atol=1e-4)


def test_a_truncated_file_is_mapped_as_far_as_it_is_whole(folder, capsys):
    for name in ("aa.xtc", "aa.trr"):
        data = Path(name).read_bytes()
        Path(name).write_bytes(data[:-100])
        assert run(name, "--topology", VILLIN, "-o", "cg.xtc") == 3
        said = capsys.readouterr().err
        assert len(read("cg.xtc")) == N_FRAMES - 1
        assert f"after {N_FRAMES - 1} whole frames" in said
        assert said.count("\n") == 1
        # Frames before the damage are not touched by it.
        assert run(name, "--topology", VILLIN, "-o", "cg.xtc", "--frames", "0:2") == 0


def test_json_explain_and_check(folder, capsys):
    assert run("aa.xtc", "--topology", VILLIN, "-o", "cg.xtc", "--json", "--explain", "--check") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["frames"], said["atoms"], said["beads"]) == (N_FRAMES, 582, 88)
    assert any("LEU 1 BB" in line for line in said["explain"])
    assert any("weights" in line for line in said["check"])
    assert any("in no bead" in note for note in said["notes"])
    assert run(VILLIN, "--explain") == 0
    assert "coordinates kept" in capsys.readouterr().out


def test_explain_counts_the_motion_of_a_trajectory(folder, capsys):
    assert main(["map", "aa.xtc", "--topology", str(VILLIN), "--explain"]) == 0
    printed = capsys.readouterr().out
    whole, _, _ = trajectory()
    mapping = build_model(villin(), "martini3").mapping
    loss = fluctuation_loss(mapping, villin().masses, [whole.astype(np.float64)], "translation and rotation")
    said = re.search(r"([0-9.]+) % of the mass-weighted fluctuation is lost \(9 frames", printed)
    assert said is not None
    assert float(said[1]) == pytest.approx(100 * loss.fraction, abs=0.3)  # the file has three digits
    assert "lost fluctuation" in printed
    assert main(["map", "aa.xtc", "--topology", str(VILLIN), "--explain", "--frames", "0:4"]) == 0
    assert "(4 frames" in capsys.readouterr().out


def test_fluctuations_of_many_molecules_are_not_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxcg.cli.map.configure_jax", lambda: None)
    lines = WATER.splitlines()
    atoms = [
        f"{i + 1:5d}SOL  {line[10:15]}{3 * i + j + 1:5d}{line[20:]}"
        for i in range(2)
        for j, line in enumerate(lines[2:5])
    ]
    frame = "\n".join(["water", "6", *atoms, lines[5]]) + "\n"
    Path("two.gro").write_text(frame)
    positions = np.array([[float(v) for v in line[20:].split()] for line in atoms], dtype=np.float32)
    with XTCFile("two.xtc", "w") as xtc:
        for k in range(3):
            xtc.write(positions + 0.01 * k, np.eye(3, dtype=np.float32), k, float(k), precision=1000)
    assert main(["map", "two.xtc", "--topology", "two.gro", "--mapping", "com", "--explain"]) == 0
    assert "Motion lost: not counted (beads of 2 molecules, which drift apart)." in capsys.readouterr().out


def test_the_source_force_field_and_heavy_atoms(folder):
    for words, options in ((("--from", "amber"), {"source": "amber"}), (("--heavy-atoms",), {"hydrogens": False})):
        assert run(VILLIN, "-o", "cg.gro", *words) == 0
        expected = build_model(villin(), "martini3", **options).mapping(villin().positions)
        plain = build_model(villin(), "martini3").mapping(villin().positions)
        found = np.array(
            [[float(v) for v in line[20:44].split()] for line in Path("cg.gro").read_text().splitlines()[2:-1]]
        )
        assert np.abs(found - expected).max() < 6e-4
        assert np.abs(np.asarray(plain) - expected).max() > 2e-3


def test_the_basic_force_map_respects_constraints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxcg.cli.map.configure_jax", lambda: None)
    # Bonds to hydrogen keep their length, and the beads take heavy atoms only: hydrogens' forces must come along.
    rng = np.random.default_rng(5)
    atoms, x = villin(), trajectory()[0][:1].repeat(12, axis=0)
    x = x + rng.normal(scale=0.02, size=x.shape).astype(np.float32)
    parent = {}
    for i, j in atoms.bonds.tolist():
        heavy, light = (i, j) if atoms.elements[j] == "H" else (j, i)
        if atoms.elements[light] == "H":
            parent[light] = heavy
    for light, heavy in parent.items():
        x[:, light] = x[:, heavy] + (atoms.positions[light] - atoms.positions[heavy]).astype(np.float32)
    forces = rng.normal(size=x.shape).astype(np.float32)
    with TRRFile("c.trr", "w") as trr:
        for k in range(len(x)):
            trr.write(x[k], None, forces[k], 20 * np.eye(3, dtype=np.float32), k, float(k), 0.0, x.shape[1])
    words = ["c.trr", "--topology", VILLIN, "--mapping", "calpha", "--force-map", "basic", "-o", "cg.trr"]
    assert main(["map", *map(str, words)]) == 0
    assert "constrained distances found" in capsys.readouterr().out
    alpha = [i for i, name in enumerate(atoms.names) if name == "CA"]
    joined = [[a, *(light for light, heavy in parent.items() if heavy == a)] for a in alpha]
    expected = np.stack([forces[:, group].sum(axis=1) for group in joined], axis=1)
    found = np.stack([frame.f for frame in read("cg.trr")])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def damaged(name: str, folder: Path):
    """Inputs that cannot be used: words of the command and what it says."""
    topology = ("--topology", VILLIN)
    match name:
        case "missing":
            return ("none.xtc", *topology, "-o", "cg.xtc"), "none.xtc: there is no such file"
        case "folder":
            return (folder, *topology, "-o", "cg.xtc"), "is a folder"
        case "empty":
            Path("empty.xtc").write_bytes(b"")
            return ("empty.xtc", *topology, "-o", "cg.xtc"), "the file is empty"
        case "text":
            Path("text.xtc").write_text("nothing of the kind" * 20)
            return ("text.xtc", *topology, "-o", "cg.xtc"), "cannot be read as a trajectory"
        case "no topology":
            return ("aa.xtc", "-o", "cg.xtc"), "--topology"
        case "atoms":
            other = FRAMES / "ubiquitin" / "aa.pdb"
            return ("aa.xtc", "--topology", other, "--mapping", "com", "-o", "cg.xtc"), "582 atoms per frame but .* 660"
        case "rules":
            Path("water.gro").write_text(WATER)
            return ("water.gro", "-o", "cg.pdb"), "SOL"
        case "ending":
            return ("aa.xtc", *topology, "-o", "cg.xyz"), r"\.xtc, \.trr, \.dcd, \.gro, \.pdb"
        case "mapping":
            return ("aa.xtc", *topology, "--mapping", "martini9", "-o", "cg.xtc"), "martini9"
        case "frames":
            return ("aa.xtc", *topology, "-o", "cg.xtc", "--frames", "20:30"), "none of the 9 frames"
        case "forces":
            return ("aa.xtc", *topology, "--force-map", "basic", "-o", "cg.trr"), "aa.xtc: not every frame has forces"
        case "forces to xtc":
            return ("aa.trr", *topology, "--force-map", "basic", "-o", "cg.xtc"), "TRR files only"
        case "few frames":
            return ("aa.trr", *topology, "--force-map", "optimal", "-o", "cg.trr"), "9 frames are too few"
        case "not a number":
            x = trajectory()[1].copy()
            x[2, 9] = np.nan  # backbone O of the first residue
            with TRRFile("nan.trr", "w") as file:
                for k in range(4):
                    file.write(x[k], None, None, BOX, k, float(k), 0.0, x.shape[1])
            return ("nan.trr", *topology, "-o", "cg.xtc"), "nan.trr, frame 2: bead .* of LEU 1 has a coordinate"
        case "same file":
            return ("aa.xtc", *topology, "-o", "aa.xtc"), "would be written over"
        case "nothing to do":
            return ("aa.xtc", *topology), "-o"
        case "structure":
            return ("aa.xtc", *topology, "-o", "cg.xtc", "--structure", "cg.dcd"), "PDB or GRO"
        case "unwritable":
            return ("aa.xtc", *topology, "-o", "aa.trr/cg.xtc"), "cannot be written"
    raise AssertionError(name)


@pytest.mark.parametrize(
    "name",
    [
        "missing", "folder", "empty", "text", "no topology", "atoms", "rules", "ending", "mapping", "frames", "forces",
        "forces to xtc", "few frames", "not a number", "same file", "nothing to do", "structure", "unwritable",
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line(folder, capsys, name):
    words, said = damaged(name, folder)
    before = sorted(path.name for path in folder.iterdir())
    code = run(*words)
    error = capsys.readouterr().err
    assert code == 2, error
    assert error.count("\n") == 1
    assert re.search(said, error), error
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_map_that_leaves_most_atoms_out_says_which(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jaxcg.cli.map.configure_jax", lambda: None)
    water = [
        f"{k + 1:5d}SOL  {name:>5s}{3 * k + i + 1:5d}{0.3 * k + 0.05 * i:8.3f}   0.100   0.100"
        for k in range(400)
        for i, name in enumerate(("OW", "HW1", "HW2"))
    ]
    protein = [
        f"{1:5d}GLY  {name:>5s}{i:5d}{x:8.3f}   1.000   1.000"
        for i, (name, x) in enumerate((("N", 0.0), ("CA", 0.146), ("C", 0.3), ("O", 0.42)))
    ]
    path = tmp_path / "wet.gro"
    lines = ["wet", str(len(protein) + len(water)), *protein, *water, " 200.0 3.0 3.0", ""]
    path.write_text("\n".join(lines))
    assert main(["map", str(path), "-o", str(tmp_path / "cg.gro")]) == 0
    assert "(100 %) are in no bead: 400 residues SOL" in capsys.readouterr().out


def test_a_residue_without_a_rule_is_named(folder, capsys):
    Path("xyz.pdb").write_text(VILLIN.read_text().replace("LEU     1", "XYZ     1"))
    assert main(["map", "aa.xtc", "--topology", "xyz.pdb", "-o", "cg.xtc"]) == 0
    assert "residue XYZ 1" in capsys.readouterr().out
    assert read("cg.xtc")[0].x.shape == (86, 3)


def test_an_interruption_leaves_nothing(folder):
    def interrupt(stage, done, total):
        if stage == "mapping" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_trajectory("aa.xtc", "cg.xtc", topology=villin(), structure="cg.pdb", progress=interrupt)
    assert sorted(path.name for path in folder.iterdir()) == ["aa.trr", "aa.xtc"]


@pytest.mark.parametrize("ending", ["xtc", "trr", "dcd", "gro", "pdb"])
def test_a_disk_that_is_full_leaves_nothing_and_is_said(folder, capsys, ending):
    # A limit on the size of files fails as a full disk does; the C libraries behind XTC and DCD do not report it.
    Path(f"cg.{ending}").write_text("older")
    before = sorted(path.name for path in folder.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        assert run("aa.xtc", "--topology", VILLIN, "-o", f"cg.{ending}") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err.strip().splitlines()
    assert f"cg.{ending}: cannot be written" in said[-1]
    assert sorted(path.name for path in folder.iterdir()) == before
    assert Path(f"cg.{ending}").read_text() == "older"


def test_threads_do_not_change_the_result(folder, monkeypatch):
    monkeypatch.setattr("jaxcg.io.trajectories.BLOCK_BYTES", 3 * 582 * 12)
    results = []
    for threads in (1, 3):
        done = map_trajectory("aa.trr", f"{threads}.trr", topology=villin(), threads=threads)
        assert done.frames == N_FRAMES
        results.append(Path(f"{threads}.trr").read_bytes())
    assert results[0] == results[1]


def test_the_library_refuses_what_the_command_does(folder):
    with pytest.raises(InputError, match="TRR files only"):
        map_trajectory("aa.trr", "cg.xtc", topology=villin(), force_map="basic")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom jaxcg.cli import main\n"
        "try:\n main(['map', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'jax', 'equinox', 'openmm', 'MDAnalysis', 'vermouth', 'biotite', 'matplotlib', 'scipy', 'numpy'}\n"
        "found = heavy & set(sys.modules)\nassert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    assert build_parser().parse_args(["map", "a.pdb", "-o", "b.pdb"]).mapping == "martini3"


@pytest.mark.slow
def test_the_optimal_force_map_scatters_less(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxcg.cli.map.configure_jax", lambda: None)
    rng = np.random.default_rng(0)
    n = villin().n_atoms
    # Forces along the bonds cancel in whole beads and between them: what is common scatters less.
    with TRRFile("many.trr", "w") as file:
        for k in range(600):
            forces = np.zeros((n, 3))
            pulls = rng.normal(size=(len(villin().bonds), 3)) * 100
            np.add.at(forces, villin().bonds[:, 0], pulls)
            np.add.at(forces, villin().bonds[:, 1], -pulls)
            x = villin().positions + rng.normal(size=(n, 3)) * 0.01
            file.write(x.astype(np.float32), None, forces.astype(np.float32), BOX, k, float(k), 0.0, n)
    spread = {}
    for kind in ("basic", "optimal"):
        words = ("many.trr", "--topology", VILLIN, "--mapping", "com", "--force-map", kind, "-o", f"{kind}.trr")
        assert run(*words, "--json") == 0
        spread[kind] = np.mean([f.f**2 for f in read(f"{kind}.trr")])
    assert spread["optimal"] < 0.8 * spread["basic"]
    assert "constrained distances" in capsys.readouterr().out
