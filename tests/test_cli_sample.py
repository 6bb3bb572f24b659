"""`jaxcg sample`: what it writes, that a killed run ends as an uninterrupted one, and what it refuses."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from alanine_fibre import DIMENSION, alanine_fibre

from jaxcg.cli import main
from jaxcg.cli.main import build_parser
from jaxcg.energy import StereoFence
from jaxcg.energy.base import SumEnergy
from jaxcg.io.sampling import draws, run
from jaxcg.io.sampling.problem import SamplingProblem
from jaxcg.io.sampling.tempered import _fence
from jaxcg.io.trajectories import open_trajectory
from jaxcg.mapping.base import AbstractLinearMap

SHORT = ("--chains", "4", "--draws", "6", "--thin", "1", "--steps", "5", "--burn-in", "60", "--warmup", "4", "--quiet")
SHIFT = 0.5


def problem() -> SamplingProblem:
    """Alanine dipeptide, bonds and angles alone, and the same elsewhere: two frames, two starts each."""
    fibre = alanine_fibre(False)
    whole = fibre.posterior()
    # Few terms: these tests spend their time compiling.
    posterior = eqx.tree_at(lambda p: p.energy, whole, SumEnergy(whole.energy.terms()[:2]))
    beads = np.asarray(weights(posterior) @ fibre.minimum)
    x = np.repeat(fibre.minimum[None], 2, axis=0)
    return SamplingProblem(
        posterior=posterior,
        system=fibre.system,
        frames=(3, 10),
        beads=np.stack([beads, beads + SHIFT]),
        starts=np.stack([x, x + SHIFT]).astype(np.float32),
        bead_labels=("ACE", "ALA", "NME"),
        pdb="END\n",
        notes=("a note",),
    )


def weights(posterior):
    """The map as a matrix."""
    assert isinstance(posterior.mapping, AbstractLinearMap)
    return posterior.mapping.matrix().tocsr()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a problem and a finished run of it."""
    folder = tmp_path_factory.mktemp("sample")
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("jaxcg.cli.sample.configure_jax", lambda: None)
        problem().save("problem.npz")
        assert main(["sample", "problem.npz", *SHORT]) == 0
    return folder


@pytest.fixture
def folder(finished, monkeypatch, x64):
    """The test works in the folder of the finished run; the command's setting of JAX is left out."""
    monkeypatch.chdir(finished)
    monkeypatch.setattr("jaxcg.cli.sample.configure_jax", lambda: None)
    return finished


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def test_what_is_written(folder):
    names = ["energies.npz", "frame-000003.xtc", "frame-000010.xtc", "frames.csv", "report.html", "report.json"]
    assert sorted(os.listdir("out")) == [*names, "run.json", "topology.pdb"]
    with open("out/frames.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["3", "10"]
    report = json.loads(Path("out/report.json").read_text())
    assert report["dimension"] == DIMENSION
    assert report["grade"] == "too short to judge"
    assert [row["energy"] for row in report["frames"]] == [pytest.approx(float(row["energy"])) for row in rows]
    assert "a note" in Path("out/report.html").read_text()
    assert "(d/2) kT" in Path("out/report.html").read_text()
    given = SamplingProblem.load("problem.npz")
    energy = given.posterior.energy
    with np.load("out/energies.npz") as energies:
        assert energies["energies"].shape == (2, 4, 6)
        assert energies["angles"].shape == (2, 4, 6, len(energies["torsions"]))
        told = energies["energies"]
    evaluate = jax.jit(energy.__call__)
    for number, name in enumerate(names[1:3]):
        x = open_trajectory(f"out/{name}", 22).read(range(24)).positions.astype(np.float64)
        # XTC files hold 1e-5 nm.
        assert np.abs(weights(given.posterior) @ x[5] - given.beads[number]).max() < 2e-5
        # Chain by chain: draw 5 of chain 2.
        assert told[number, 2, 5] == pytest.approx(float(evaluate(jnp.asarray(x[17], jnp.float32))), abs=0.5)


def test_a_finished_run_is_not_done_again(folder, capsys):
    before = files("out")
    assert main(["sample", "problem.npz", *SHORT[:-1]]) == 0
    assert "finished already" in capsys.readouterr().out
    assert main(["sample", "problem.npz", *SHORT, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["already_finished"] is True
    assert files("out") == before
    assert main(["sample", "problem.npz", *SHORT, "--draws", "7"]) == 2
    assert "out: holds another run (draws: 6 there, 7 here)" in capsys.readouterr().err


def test_an_interrupted_run_goes_on(folder, monkeypatch, capsys):
    """Interrupted after the draws of one frame were written."""
    # Pictures take their time, and one page has been drawn.
    monkeypatch.setattr("jaxcg.report.sampling_campaign._page", lambda *given: "page")
    written = draws.write_draws
    calls = []

    def interrupted(path, positions):
        written(path, positions)
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "write_draws", interrupted)
        assert main(["sample", "problem.npz", *SHORT, "-o", "again"]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_draws", lambda *given: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert main(["sample", "problem.npz", *SHORT, "-o", "again"]) == 3
    assert "No space left on device); what was done is kept" in capsys.readouterr().err
    assert main(["sample", "problem.npz", *SHORT, "-o", "again"]) == 0
    again, out = files("again"), files("out")
    assert again.pop(Path("report.html")) == b"page"
    assert again.items() < out.items()
    shutil.rmtree("again")


def test_bad_ends_are_one_line(folder, capsys, monkeypatch):
    def said(code=2):
        line = capsys.readouterr().err
        assert line.startswith("jaxcg: ")
        assert line.count("\n") == 1
        assert not Path("bad").exists() or os.listdir("bad") == ["running"]
        shutil.rmtree("bad", ignore_errors=True)
        return line

    good = problem()
    moved = good.starts.copy()
    moved[1, 1, 0] += 0.2
    Path("off.npz").unlink(missing_ok=True)
    SamplingProblem(**{**vars(good), "starts": moved}).save("off.npz")
    assert main(["sample", "off.npz", *SHORT, "-o", "bad"]) == 2
    assert "frame 10: chain 1 starts off the fibre: its bead 0 (ACE) is" in said()
    clash = good.starts.copy()
    clash[0, 0, 1] = np.nan
    SamplingProblem(**{**vars(good), "starts": clash}).save("nan.npz")
    assert main(["sample", "nan.npz", *SHORT, "-o", "bad"]) == 3
    assert "frame 3: the position at the start of chain 0 is not finite" in said()
    # Not compiled for this: 1 MB a walker.
    monkeypatch.setattr("jaxcg.sampling.campaign.campaign.measured", lambda walkers, state: 10**6 * len(walkers.labels))
    assert main(["sample", "problem.npz", *SHORT, "--memory", "1e-5", "-o", "bad"]) == 2
    assert "4 chains of 22 atoms do not fit into 1e-05 GiB of memory; at most" in said()
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(run.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert main(["sample", "problem.npz", *SHORT, "-o", "bad"]) == 2
    assert "GiB of disk" in said()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--example"),
        (("nowhere.pdb",), "nowhere.pdb: there is no such file"),
        (("problem.npz", "--frames", "0:3"), "brings its own"),
        (("problem.npz", "--prepare"), "prepared already"),
        (("problem.npz", "--temperature", "350"), "brings its own model; leave --temperature out"),
        (("problem.npz", "--chains", "0"), "--chains must be at least 1"),
        (("problem.npz", "--noise", "-0.1"), "above zero"),
        (("problem.npz", "--sampler", "gibbs"), "gibbs"),
        (("problem.npz", "--starts", "3", "--chains", "2"), "--starts is 3"),
        (("frames.csv", "--frames", "0:3"), "--frames chooses from a trajectory"),
        (("beads.xtc",), "name the structure it belongs to"),
        (("frames.csv", "--beads", "exact", "--noise", "0.1"), "--noise"),
        (("damaged.npz",), "damaged.npz"),
        (("frames.csv", "--tempering", "300"), "not above the 300 K"),
        (("problem.npz", "--tempering", "400", "--mass", "bonded"), "one mass for each atom"),
        (("--example", "villin", "--topology", "frames.csv"), "own files"),
    ],
)
def test_what_is_refused(words, said, tmp_path, monkeypatch, capsys, x64):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxcg.cli.sample.configure_jax", lambda: None)
    given = {"problem.npz", "damaged.npz", "frames.csv", "beads.xtc"}
    for name in given:
        Path(name).write_text("nothing")
    assert main(["sample", *words]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert said in line
    assert set(os.listdir()) - {"out"} == given
    assert not Path("out").exists() or os.listdir("out") == ["running"]


def test_documentation_names_every_option():
    verbs: Any = next(a for a in build_parser()._actions if a.choices and "sample" in a.choices)
    text = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
    missing = [o for a in verbs.choices["sample"]._actions for o in a.option_strings if f"`{o}" not in text]
    if "jaxcg sample" in text:
        assert set(missing) <= {"-h", "--help"}


def test_without_mdanalysis(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "MDAnalysis", None)
    assert main(["sample", "problem.npz", *SHORT, "-o", "bare"]) == 2
    assert "give --format trr" in capsys.readouterr().err
    assert not Path("bare").exists()


def test_a_refused_run_leaves_the_folder_free(folder, capsys):
    """Nothing was done, so the corrected command is not told that another run is there."""
    assert main(["sample", "problem.npz", *SHORT, "--draws", "1" + 12 * "0", "-o", "free"]) == 2
    assert main(["sample", "problem.npz", *SHORT, "--draws", "2" + 12 * "0", "-o", "free"]) == 2
    assert capsys.readouterr().err.count("GiB of disk") == 2
    shutil.rmtree("free")


#: Runs the command in a process that kills itself before the checkpoint given first.
KILLED = """
import os, signal, sys
import jax
import jaxcg.run as driver
from jaxcg.cli import main, sample

save, count, LAST = driver._Checkpoint.save, [0], int(sys.argv[1])
# Compiled as in the process of the test.
sample.configure_jax = lambda: jax.config.update("jax_enable_x64", True)

def deadly(self, done, state, parts):
    count[0] += 1
    if count[0] == LAST:
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, done, state, parts)

driver._Checkpoint.save = deadly
sys.exit(main(["sample", "problem.npz", *sys.argv[2:]]))
"""


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_files(folder):
    words = [sys.executable, "-c", KILLED, "2", *SHORT, "-o", "killed"]
    killed = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert os.listdir("killed") == ["running"]
    assert main(["sample", "problem.npz", *SHORT, "-o", "killed"]) == 0
    assert files("killed") == files("out")


@pytest.mark.slow
def test_replica_exchange(folder):
    short = ("--chains", "2", "--draws", "4", "--thin", "1", "--steps", "5", "--burn-in", "40", "--warmup", "4")
    assert main(["sample", "problem.npz", *short, "--tempering", "650", "--quiet", "-o", "tempered"]) == 0
    report = json.loads(Path("tempered/report.json").read_text())
    assert [row["frame"] for row in report["frames"]] == [3, 10]
    assert "round trips per ladder" in " ".join(report["notes"])
    assert report["frames"][1]["acceptance"] > 0.2
    assert "E-BFMI" in Path("tempered/report.html").read_text()


def test_hot_replicas_are_fenced_in(x64):
    fibre = alanine_fibre(False)
    system, x = fibre.system, fibre.minimum
    assert float(_fence(system, x)(x)) == 0
    mirrored = x * [1, 1, -1]
    assert float(_fence(system, mirrored)(mirrored)) > 100
    # A double bond that is cis in the start stays so.
    other = replace(system, double_bond_angles=np.zeros_like(system.double_bond_angles))
    assert float(_fence(other, x)(x)) == 0
    assert float(StereoFence(other)(x)) > 100


@pytest.mark.slow
def test_from_beads_and_from_given_structures(tmp_path, monkeypatch, capsys, x64):
    """Three residues: prepared by relaxation, sampled, and sampled again from one of the draws."""
    from fragments import FRAMES, cut

    from jaxcg.io import read_beads

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxcg.cli.sample.configure_jax", lambda: None)
    beads = cut(read_beads(FRAMES / "ubiquitin" / "cg_crystal.pdb"), 14, 17)
    with open("cg.pdb", "w") as file:
        for i, (name, residue, identity, x) in enumerate(
            zip(beads.names, beads.residue_names, beads.residue_ids, 10 * beads.positions, strict=True)
        ):
            place = "".join(f"{value:8.3f}" for value in x)
            file.write(f"ATOM  {i + 1:5d}  {name:<3s} {residue:3s} A{int(identity):4d}    {place}  1.00  0.00\n")
    assert main(["sample", "cg.pdb", "--chains", "2", "--prepare", "--quiet", "-o", "ready"]) == 0
    assert sorted(os.listdir("ready")) == ["problem.npz", "run.json"]
    short = ("--chains", "2", "--draws", "3", "--thin", "1", "--steps", "5", "--burn-in", "40", "--quiet")
    assert main(["sample", "ready/problem.npz", *short, "--mass", "bonded", "--sampler", "ghmc", "-o", "drawn"]) == 0
    report = json.loads(Path("drawn/report.json").read_text())
    assert report["atoms"] == 53
    assert report["frames"][0]["acceptance"] > 0.2
    start = ("cg.pdb", "--start", "drawn/frame-000000.xtc", "--reference", "drawn/topology.pdb", "--beads", "exact")
    like = ("--mass", "bonded", "--sampler", "ghmc", "--format", "trr")
    assert main(["sample", *start, *short, *like, "-o", "again"]) == 0
    assert "frame-000000.trr" in os.listdir("again")
    # Atoms of another molecule.
    with open("few.gro", "w") as file:
        file.write("few\n1\n    1LEU      N    1   0.000   0.000   0.000\n   0.0   0.0   0.0\n")
    few = ("--start", "few.gro", "--reference", "drawn/topology.pdb", "--beads", "exact")
    assert main(["sample", "cg.pdb", *few, *short, "-o", "fourth"]) == 2
    assert "few.gro: has 1 atoms, the molecule 53" in capsys.readouterr().err
