"""The command line: what it parses, refuses, writes and leaves alone."""

import errno
import json
import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from jaxcg.cli import main
from jaxcg.cli.backmap import OUTPUTS
from jaxcg.cli.main import build_parser
from jaxcg.cli.staging import StagedFolder
from jaxcg.errors import InputError

ROOT = Path(__file__).parents[1]


def parse(*words: str):
    return build_parser().parse_args(["backmap", *words])


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == f"jaxcg {version('jaxcg')}"


def test_help_names_the_verb_and_the_exit_codes(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert "backmap" in text
    assert "exit codes" in text


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom jaxcg.cli import main\n"
        "try:\n main(['backmap', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'jax', 'equinox', 'openmm', 'MDAnalysis', 'vermouth', 'biotite', 'matplotlib', 'scipy', 'numpy'}\n"
        "found = heavy & set(sys.modules)\nassert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_documentation_names_every_option():
    parser = build_parser()
    verbs = next(action for action in parser._actions if action.choices and "backmap" in action.choices)
    text = (ROOT / "docs" / "cli.md").read_text()
    for action in verbs.choices["backmap"]._actions:
        for option in action.option_strings:
            if option not in ("-h", "--help"):
                assert f"`{option}" in text, option


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--example"),
        (("a.pdb", "--example", "villin"), "either"),
        (("nowhere.pdb",), "nowhere.pdb: there is no such file"),
        ((".",), "is a folder"),
        (("--example", "titin"), "titin"),
        (("--example", "villin", "--frames", "0:3"), "has none"),
        (("--example", "villin", "--frames", "0:3:0"), "step of 0"),
        (("--example", "villin", "--frames", "one"), "A:B:C"),
        (("--example", "villin", "--trajectory", __file__), "own files"),
        (("--example", "villin", "--beads", "firm"), "firm"),
        (("--example", "villin", "--beads", "exact", "--bead-noise", "0.03"), "--bead-noise"),
        (("--example", "villin", "--bead-noise", "-1"), "above zero"),
        (("--example", "villin", "--temperature", "nan"), "not finite"),
        (("--example", "villin", "--samples", "-1"), "below zero"),
        (("--example", "villin", "--samples", "2.5"), "whole number"),
        (("--example", "villin", "--seed", str(2**32)), "4294967295"),
        (("--example", "villin", "--start-from-reference"), "--reference"),
        (("--example", "villin", "--reference", "nowhere.pdb"), "nowhere.pdb"),
        (("--example", "villin", "--sample", "3"), "--sample"),
    ],
)
def test_bad_options_give_one_line_and_write_nothing(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["backmap", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("jaxcg: ")
    assert said in captured.err
    assert list(tmp_path.iterdir()) == []


def test_json_says_what_was_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["backmap", "nowhere.pdb", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] == 2
    assert "nowhere.pdb" in told["error"]


def test_unknown_verb(capsys):
    assert main(["foremap"]) == 2
    assert "foremap" in capsys.readouterr().err


def test_staged_folder_shows_all_files_or_none(tmp_path):
    target = tmp_path / "deep" / "out"
    with StagedFolder(target, OUTPUTS) as folder:
        (folder.path / "map.pdb").write_text("atoms")
        (folder.path / "report.json").write_text("{}")
        assert not target.exists()
        folder.commit(last="report.json")
    assert sorted(os.listdir(target)) == ["map.pdb", "report.json"]
    assert sorted(os.listdir(tmp_path)) == ["deep"]


def test_staged_folder_leaves_nothing_after_an_error(tmp_path):
    def fail():
        with StagedFolder(tmp_path / "out", OUTPUTS) as folder:
            (folder.path / "map.pdb").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_staged_folder_replaces_an_earlier_run_and_its_leftovers(tmp_path):
    for name in ("map.pdb", "ensemble.xtc", "report.json"):
        (tmp_path / name).write_text("old")
    with StagedFolder(tmp_path, OUTPUTS) as folder:
        (folder.path / "map.pdb").write_text("new")
        (folder.path / "report.json").write_text("new")
        folder.commit(last="report.json")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"map.pdb": "new", "report.json": "new"}


def test_staged_folder_refuses_a_folder_with_other_files(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="--force"):
        StagedFolder(tmp_path, OUTPUTS)
    with StagedFolder(tmp_path, OUTPUTS, force=True) as folder:
        (folder.path / "report.json").write_text("{}")
        folder.commit(last="report.json")
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_staged_folder_refuses_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        StagedFolder(tmp_path / "out", OUTPUTS)


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anywhere")
def test_staged_folder_refuses_a_folder_it_cannot_write(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"), StagedFolder(tmp_path / "out", OUTPUTS):
        pass


def start(*words: str, cwd: Path, cache: Path) -> subprocess.Popen:
    """Starts the command as a user does."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", "import sys; from jaxcg.cli import main; sys.exit(main())", *words]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def jaxcg(*words: str, cwd: Path, cache: Path) -> subprocess.CompletedProcess:
    """Runs the command to its end."""
    with start(*words, cwd=cwd, cache=cache) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def villin(tmp_path_factory, cache):
    """A finished run: the folder it ran in, and the process."""
    folder = tmp_path_factory.mktemp("villin")
    return folder, jaxcg("backmap", "--example", "villin", "--seed", "3", cwd=folder, cache=cache)


def test_first_command(villin):
    folder, process = villin
    assert process.returncode == 0, process.stderr
    written = sorted(os.listdir(folder / "out"))
    assert written == ["map.pdb", "report.html", "report.json", "system.xml", "topology.pdb"]
    assert os.listdir(folder) == ["out"]
    assert "all checks passed" in process.stdout
    assert len(process.stdout.splitlines()) <= 24
    for stage in ("building the molecule", "MAP structures", "writing"):
        assert stage in process.stderr


def test_map_pdb_reproduces_the_beads_and_its_energy(villin):
    import numpy as np
    import openmm
    from openmm import app, unit

    from jaxcg.data import example
    from jaxcg.io import build_molecule

    out = villin[0] / "out"
    molecule = build_molecule(example("villin").structure)
    pdb = app.PDBFile(str(out / "map.pdb"))
    x = np.array(pdb.positions.value_in_unit(unit.nanometer))
    # PDB files hold 0.001 Å, and the input beads were rounded in the same way. These beads were made from an input
    # with hydrogens, which the program has to find out.
    assert molecule.alternative_mapping is not None
    assert np.abs(molecule.alternative_mapping.matrix() @ x - molecule.y).max() < 1e-4
    system = openmm.XmlSerializer.deserialize((out / "system.xml").read_text())
    assert system.getNumParticles() == len(x) == app.PDBFile(str(out / "topology.pdb")).topology.getNumAtoms()
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    energy = context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    report = json.loads((out / "report.json").read_text())
    # The rounding of coordinates is worth a few kJ/mol.
    assert energy == pytest.approx(report["frames"][0]["energy"], abs=20)


@pytest.mark.slow
def test_same_seed_same_files_and_machine_summary(villin, cache):
    folder, _ = villin
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    process = jaxcg("backmap", "--example", "villin", "--seed", "3", "--json", "--quiet", cwd=folder, cache=cache)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    told = json.loads(process.stdout)
    assert told["files"] == sorted(before)
    assert set(told["seconds"]) >= {"loading", "building the molecule", "MAP structures", "writing"}
    after = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    assert [name for name in before if before[name] != after.get(name)] == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_leaves_nothing(number, code, tmp_path, cache):
    with start("backmap", "--example", "villin", cwd=tmp_path, cache=cache) as process:
        process.stderr.readline()  # the first stage is over
        process.send_signal(number)
        message = process.stderr.read()
        assert process.wait(60) == code
    assert message.splitlines()[-1].startswith("jaxcg: ")
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []


def test_bad_structure_gives_one_line_and_writes_nothing(tmp_path, cache):
    (tmp_path / "bad.pdb").write_text("ATOM      1 BB   XYZ A   1      27.168  25.742   3.357  1.00  0.00\nEND\n")
    process = jaxcg("backmap", "bad.pdb", "--quiet", cwd=tmp_path, cache=cache)
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1
    assert "XYZ" in process.stderr
    assert os.listdir(tmp_path) == ["bad.pdb"]


@pytest.mark.parametrize("with_structure", [False, True])
def test_run_that_ends_badly_exits_with_3_and_a_report(with_structure, tmp_path, monkeypatch, capsys):
    import jaxcg.backmap
    from jaxcg.backmap import BackmapResult
    from jaxcg.data import example
    from jaxcg.errors import ResultError
    from jaxcg.io import build_molecule

    def fail(structure, *, progress, **settings):
        error = ResultError("frame 0: 1 stereo errors left after every repair (first: CA of LYS 33)")
        if with_structure:
            error.result = BackmapResult(build_molecule(example("villin").structure), settings, [])
        raise error

    monkeypatch.setattr("jaxcg.cli.backmap.configure_jax", lambda: None)
    monkeypatch.setattr(jaxcg.backmap, "backmap", fail)
    monkeypatch.chdir(tmp_path)
    assert main(["backmap", "--example", "villin", "--quiet"]) == 3
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "LYS 33" in captured.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["outcome"] == "bad"
    assert "LYS 33" in report["error"]
    assert "LYS 33" in (tmp_path / "out" / "report.html").read_text()


def test_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    import jaxcg.backmap
    import jaxcg.report
    from jaxcg.backmap import BackmapResult
    from jaxcg.data import example
    from jaxcg.io import build_molecule

    def full(*arguments, **settings):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    result = BackmapResult(build_molecule(example("villin").structure), {}, [])
    monkeypatch.setattr("jaxcg.cli.backmap.configure_jax", lambda: None)
    monkeypatch.setattr(jaxcg.backmap, "backmap", lambda structure, **settings: result)
    monkeypatch.setattr(jaxcg.report, "write_report", full)
    monkeypatch.chdir(tmp_path)
    assert main(["backmap", "--example", "villin", "--quiet"]) == 2
    assert "No space left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_samples_keep_their_beads_in_the_files(tmp_path, cache):
    import MDAnalysis
    import numpy as np

    from jaxcg.data import example
    from jaxcg.io import build_molecule

    process = jaxcg("backmap", "--example", "villin", "--samples", "3", "--seed", "1", cwd=tmp_path, cache=cache)
    assert process.returncode == 0, process.stderr
    out = tmp_path / "out"
    assert sorted(os.listdir(out)) == sorted(set(OUTPUTS) - {"map.xtc"})
    molecule = build_molecule(example("villin").structure)
    universe = MDAnalysis.Universe(str(out / "ensemble.pdb"), str(out / "ensemble.xtc"))
    assert len(universe.trajectory) == 3
    for frame in universe.trajectory:
        beads = molecule.alternative_mapping.matrix() @ (frame.positions / 10)
        # XTC files hold 0.00001 nm, read into single precision.
        assert np.abs(beads - molecule.y).max() < 2e-5
    report = json.loads((out / "report.json").read_text())
    assert report["ensemble"]["samples"] == 3


@pytest.mark.slow
def test_trajectory(tmp_path, cache):
    import MDAnalysis

    words = ("backmap", "--example", "ubiquitin-md", "--frames", "1:5:2", "-o", "frames")
    process = jaxcg(*words, cwd=tmp_path, cache=cache)
    assert process.returncode == 0, process.stderr
    out = tmp_path / "frames"
    assert sorted(os.listdir(out)) == sorted(set(OUTPUTS) - {"ensemble.pdb", "ensemble.xtc"})
    report = json.loads((out / "report.json").read_text())
    assert [frame["frame"] for frame in report["frames"]] == [1, 3]
    assert {frame["beads"]["mode"] for frame in report["frames"]} == {"soft"}
    assert len(MDAnalysis.Universe(str(out / "map.pdb"), str(out / "map.xtc")).trajectory) == 2
