"""`jaxcg memory`: the kernel that made the data comes back, what it writes agrees, and what it refuses and says."""

import json
import re
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from MDAnalysis.lib.formats.libmdaxdr import TRRFile, XTCFile

from jaxcg.cli import main
from jaxcg.cli.main import build_parser
from jaxcg.cli.memory import OUTPUTS, SETTINGS
from jaxcg.dynamics import GLE, PronyKernel, simulate
from jaxcg.dynamics.observables.comparison import Comparison
from jaxcg.dynamics.observables.validation import Validation
from jaxcg.energy import DoubleWell
from jaxcg.errors import InputError
from jaxcg.io.dynamics.gle_config import read_gle_config
from jaxcg.io.dynamics.kernels import read_energy, read_kernel
from jaxcg.io.dynamics.trajectory_memory import _of_an_angle
from jaxcg.report.memory_summary import auxiliary_variables

TEMPERATURE, MASS, SPACING = 300.0, 39.948, 0.02
PARTICLES, FRAMES = 24, 2400
STRENGTHS, RATES = [600.0, 100.0], [10.0, 1.0]
FRICTION = 160.0
BOX = np.diag([1.1, 1.2, 1.3]).astype(np.float32)


def kernel():
    return PronyKernel(jnp.asarray(STRENGTHS), jnp.asarray(RATES))


@cache
def fluid():
    """Positions and velocities (frames, particles, 3) of free particles with memory."""
    with jax.enable_x64(True):
        dynamics = GLE(None, kernel(), MASS, time_step=SPACING / 2, temperature=TEMPERATURE)
        found = simulate(dynamics, jnp.zeros((1, PARTICLES, 3)), 2 * FRAMES, jax.random.key(5), every=2)
        return np.asarray(found.positions)[0], np.asarray(found.velocities)[0]


@cache
def well():
    """Positions and velocities (trajectories, frames) in a double well, which they cross every few ps."""
    with jax.enable_x64(True):
        dynamics = GLE(DoubleWell(4.0, 0.15), kernel(), MASS, time_step=SPACING / 2, temperature=TEMPERATURE)
        found = simulate(dynamics, jnp.full((8, 1), 0.15), 2 * 6000, jax.random.key(6), every=2)
        return np.asarray(found.positions)[..., 0], np.asarray(found.velocities)[..., 0]


@pytest.fixture
def folder(tmp_path, monkeypatch, x64):
    """An empty folder that the test is in; the command's setting of JAX is left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxcg.cli.memory.configure_jax", lambda: None)
    return tmp_path


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are left out of the report: they take a second each."""
    monkeypatch.setattr("jaxcg.report.memory_figures.svg", lambda *given, **options: "<svg/>")


def write_topology(path="top.gro"):
    lines = ["argon", str(PARTICLES)]
    lines += [f"{k + 1:5d}AR   {'AR':>5s}{k + 1:5d}{0.1:8.3f}{0.1:8.3f}{0.1:8.3f}" for k in range(PARTICLES)]
    Path(path).write_text("\n".join([*lines, "   1.1   1.2   1.3"]) + "\n")


def write_fluid(path, *, frames=FRAMES, velocities=True, times=None):
    """Positions folded into the box; XTC to 1e-5 nm, without velocities."""
    x, v = fluid()
    x = np.mod(x[:frames], np.diag(BOX)).astype(np.float32)
    times = SPACING * np.arange(frames) if times is None else times
    if str(path).endswith(".xtc"):
        with XTCFile(str(path), "w") as xtc:
            for k in range(frames):
                xtc.write(x[k], BOX, k, times[k], precision=1e5)
    else:
        with TRRFile(str(path), "w") as trr:
            for k in range(frames):
                trr.write(x[k], v[k].astype(np.float32) if velocities else None, None, BOX, k, times[k], 0.0, PARTICLES)


def run(*words):
    return main(["memory", *map(str, words), "--quiet"])


def refused(capsys, pattern, *words, code=2):
    assert run(*words) == code
    message = capsys.readouterr().err.strip()
    assert message.startswith("jaxcg: ")
    assert "\n" not in message
    assert re.search(pattern, message), message


@pytest.mark.slow
def test_the_kernel_of_tagged_particles_comes_back(folder, capsys):
    write_topology()
    write_fluid("a.trr")
    words = [
        "a.trr",
        "--topology",
        "top.gro",
        "--select",
        "name AR",
        "--temperature",
        300,
        "--window",
        6,
        "--fit-order",
        3,
    ]
    assert run(*words, "-o", "out", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    wanted = ["gle.yaml", "kernel.json", "memory.json", "memory.npz", "report.html"]
    assert sorted(path.name for path in Path("out").iterdir()) == printed["files"] == wanted
    summary = json.loads(Path("out/memory.json").read_text())
    assert {name: printed[name] for name in summary} == summary
    assert set(summary["settings"]) == set(SETTINGS)
    assert (summary["trajectories"], summary["frames"]) == (3 * PARTICLES, FRAMES)
    assert summary["mass_amu"] == pytest.approx(MASS, rel=1e-3)
    assert summary["spacing_ps"] == pytest.approx(SPACING, rel=1e-5)
    assert summary["window_ps"] == pytest.approx(6, abs=2 * SPACING)

    # Γ, its integral and D, each within four of its standard errors.
    with np.load("out/memory.npz") as data:
        curves = dict(data)
    exact = np.asarray(kernel()(jnp.asarray(curves["times"])))
    deviation = (curves["kernel"] - exact) / np.maximum(curves["kernel_error"], 0.01 * exact[0])
    assert np.sqrt(np.mean(deviation**2)) < 1.6
    assert np.abs(summary["friction_amu_per_ps"] - FRICTION) < 4 * summary["friction_error"]
    assert summary["friction_error"] < 0.1 * FRICTION
    diffusion = 8.31446e-3 * TEMPERATURE / FRICTION
    for name in ("diffusion_of_friction", "diffusion_of_displacement"):
        assert np.abs(summary[name] - diffusion) < 4 * summary[f"{name}_error"]
    np.testing.assert_allclose(curves["velocity_correlation"][0], 8.31446e-3 * TEMPERATURE / MASS, rtol=0.02)
    assert curves["displacement"][0] == pytest.approx(0, abs=1e-9)

    # The passive fit is the file's, close to the kernel, and moves like the data.
    fitted = read_kernel("out/kernel.json")
    found = np.asarray(fitted(jnp.asarray(curves["times"])))
    np.testing.assert_allclose(found, curves["kernel_fit"], rtol=1e-6, atol=1e-6)
    assert np.linalg.norm(curves["kernel_fit"] - exact) < 0.08 * np.linalg.norm(exact)
    assert summary["fit"]["order"] <= 4
    assert summary["validation"]["passed"], summary["validation"]["verdict"]
    assert summary["outcome"] == "good"

    # What jaxcg gle reads.
    config = read_gle_config("out/gle.yaml")
    assert config.shape == (PARTICLES, 3)
    assert config.time_step * config.every == pytest.approx(SPACING, rel=1e-5)
    assert float(config.masses) == pytest.approx(MASS, rel=1e-3)

    page = Path("out/report.html").read_text()
    assert "jaxcg memory" in page
    assert page.count("<svg") == 5
    assert not re.search(r'(src|href)="https?:', page)
    assert summary["verdict"] in page
    for name in ("friction ∫Γ dt", "D of the displacement", "Spectrum of the noise"):
        assert name in page


@pytest.mark.slow
def test_positions_alone_of_a_trajectory_that_breaks_off(folder, capsys, undrawn):
    write_topology()
    write_fluid("a.xtc", frames=FRAMES // 2)
    Path("b.xtc").write_bytes(Path("a.xtc").read_bytes()[:-100])
    words = ["a.xtc", "b.xtc", "--topology", "top.gro", "--select", "all", "--temperature", 300, "--window", 5]
    words += ["--fit-order", 2]
    pattern = r"b\.xtc: .* after 1199 whole frames; what is whole is in out"
    refused(capsys, pattern, *words, "-o", "out", "--no-validate", code=3)
    summary = json.loads(Path("out/memory.json").read_text())
    assert (summary["trajectories"], summary["frames"]) == (6 * PARTICLES, FRAMES // 2 - 1)
    assert summary["validation"] is None
    assert (summary["outcome"], summary["verdict"]) == ("bad", "trajectory breaks off")
    assert any("no velocities" in note for note in summary["notes"])
    # Both files hold the same motion: errors are too small by √2.
    assert np.abs(summary["friction_amu_per_ps"] - FRICTION) < 6 * summary["friction_error"]


@pytest.mark.slow
def test_a_coordinate_in_a_potential(folder, undrawn):
    x, v = well()
    np.savez("well.npz", positions=x, velocities=v, times=SPACING * np.arange(x.shape[1]))
    assert run("well.npz", "--temperature", 300, "--window", 5, "--fit-order", 3, "-o", "out") == 0
    summary = json.loads(Path("out/memory.json").read_text())
    assert summary["mass_amu"] == pytest.approx(MASS, rel=0.05)
    assert np.abs(summary["friction_amu_per_ps"] - FRICTION) < 4 * summary["friction_error"]
    assert summary["diffusion_of_displacement"] is None
    names = [comparison["name"] for comparison in summary["validation"]["comparisons"]]
    assert sum("first-passage" in name for name in names) == 2
    profile = read_energy("out/profile.json")
    u = np.asarray(profile.profile(jnp.asarray([-0.15, 0.0, 0.15])))
    np.testing.assert_allclose(u - u.mean(), np.array([-4, 8, -4]) / 3, atol=1.5)
    config = read_gle_config("out/gle.yaml")
    assert config.potential.energy is not None
    assert "Free-energy profile" in Path("out/report.html").read_text()


def test_a_potential_from_a_file_takes_the_place_of_the_profile(folder, monkeypatch):
    x = np.linspace(-0.4, 0.4, 161)
    np.savetxt("u.dat", np.stack([x, 4 * ((x / 0.15) ** 2 - 1) ** 2], axis=1))
    np.save("a.npy", np.random.default_rng(0).normal(size=200))
    asked = []

    def analyze(series, temperature, **options):
        asked.append(options["energy"])
        raise InputError("enough.")

    monkeypatch.setattr("jaxcg.io.dynamics.trajectory_memory.analyze_memory", analyze)
    for words in (["--potential", "u.dat"], ["--free"], []):
        assert run("a.npy", "--spacing", 1, "--temperature", 300, *words) == 2
    given, free, default = asked
    np.testing.assert_allclose(given.profile(jnp.asarray([0.0, 0.15])), [4, 0], atol=1e-6)
    assert (free, default) == (None, "profile")


def test_what_is_refused(folder, capsys):
    write_topology()
    write_fluid("a.trr", frames=300)
    given = ["a.trr", "--topology", "top.gro", "--temperature", 300]
    refused(capsys, "arguments are required: --temperature", "a.trr", "--topology", "top.gro", "--select", "all")
    refused(capsys, "name a coordinate: --select", *given)
    refused(capsys, "--select and --distance name two", *given, "--select", "all", "--distance", "a", "b")
    refused(capsys, "an angle has none", *given, "--angle", "a", "b", "c", "--component", "x")
    refused(capsys, r"selection 'name XY' holds no atom", *given, "--select", "name XY")
    refused(capsys, r"a\.trr: does not say what its atoms are", "a.trr", "--temperature", 300, "--select", "all")
    no_atoms = ["a.trr", "--topology", "a.trr", "--temperature", 300, "--select", "all"]
    refused(capsys, r"a\.trr: does not say what its atoms are", *no_atoms)
    refused(capsys, r"b\.trr: there is no such file", "b.trr", *given[1:], "--select", "all")
    Path("t.npz").touch()
    window = [*given, "--select", "all", "--window"]
    refused(capsys, r"--window 5 ps is longer than the data allow: at most 1\.98 ps with 20 blocks", *window, 5)
    refused(capsys, r"--window 0\.05 ps is shorter than 8 frames", *window, 0.05)
    refused(capsys, "is a table, to which --topology", "t.npz", "--topology", "top.gro", "--temperature", 300)
    refused(capsys, "--column is for tables", *given, "--select", "all", "--column", "x")
    refused(capsys, "files of one kind", "a.trr", "t.npz", "--temperature", 300)
    refused(capsys, "--free means", *given, "--select", "all", "--free", "--potential", "top.gro")
    times = SPACING * np.arange(300.0)
    times[200:] += 0.3
    write_fluid("gap.trr", frames=300, times=times)
    refused(capsys, r"gap\.trr, frame 200: 0\.32 ps after the frame before", "gap.trr", *given[1:], "--select", "all")
    np.save("still.npy", np.ones(500))
    refused(capsys, "does not move", "still.npy", "--spacing", 1, "--temperature", 300)
    np.save("short.npy", np.random.default_rng(0).normal(size=100))
    refused(capsys, "100 frames are too few for 20 blocks", "short.npy", "--spacing", 1, "--temperature", 300)
    Path("full").mkdir()
    Path("full/thesis.txt").touch()
    refused(capsys, r"already holds other files \(thesis\.txt\)", *given, "--select", "all", "-o", "full")
    assert not Path("out").exists()


def test_the_report_on_an_angle_is_in_radians():
    x = np.zeros(1)
    name = "mean first-passage time -2.6 → -1.2 nm"
    verdict = f"{name}: too long"
    told = Comparison(name, "nm²/ps²", x, "nm", x, x, x, x, 0.0, 0.0, 1.0, True, verdict)
    found = _of_an_angle(Validation((told,), True, "fails at 0.1 nm", 0.01, 20, 1.0, ("mean -1 → 1 nm: few",)))
    (c,) = found.comparisons
    assert (c.unit, c.abscissa_unit) == ("rad²/ps²", "rad")
    assert c.name == "mean first-passage time -2.6 → -1.2 rad"
    assert c.verdict.startswith(c.name)
    assert (found.verdict, found.notes) == ("fails at 0.1 rad", ("mean -1 → 1 rad: few",))
    assert [auxiliary_variables(count) for count in (1, 2)] == ["auxiliary variable", "auxiliary variables"]


def test_an_interruption_leaves_nothing(folder, monkeypatch, capsys):
    np.save("a.npy", np.cumsum(np.random.default_rng(0).normal(size=2000)))

    def interrupted(path, found, **options):
        (path / "kernel.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxcg.io.dynamics.trajectory_memory.analyze_memory", lambda *arguments, **options: None)
    monkeypatch.setattr("jaxcg.report.memory.write_memory", interrupted)
    refused(capsys, "interrupted; nothing was written", "a.npy", "--spacing", 1, "--temperature", 300, code=130)
    assert [path.name for path in folder.iterdir()] == ["a.npy"]


def test_every_output_and_setting_is_known():
    options = build_parser().parse_args(["memory", "a.npz", "--temperature", "300"])
    assert set(SETTINGS) <= set(vars(options))
    assert len(set(OUTPUTS)) == 6
