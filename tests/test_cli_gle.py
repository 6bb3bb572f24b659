"""`jaxcg gle`: what it writes, that an interrupted run ends as an uninterrupted one, and what it refuses."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from MDAnalysis.lib.formats.libmdaxdr import XTCFile

from jaxcg.cli import main
from jaxcg.dynamics import PronyKernel, linear_correlations
from jaxcg.io.dynamics import gle_run
from jaxcg.io.dynamics.gle_config import read_gle_config
from jaxcg.io.dynamics.gle_run import lowest_point
from jaxcg.io.dynamics.kernels import write_kernel
from jaxcg.report.gle import draw_trajectory, exact_velocity_correlation
from jaxcg.units import GAS_CONSTANT

PLAIN = {
    "temperature": "300",
    "time_step": "0.01",
    "steps": "3000",
    "every": "10",
    "trajectories": "8",
    "mass": "40",
    "kernel": "{prony: {strengths: [1200, 300], times: [0.05, 0.8]}}",
    "potential": "{harmonic: {stiffness: 500, center: 0.1}}",
    "equilibrate": "1",
}
#: Runs in a process of its own, which kills itself while it writes the block from the frame in the first argument on.
KILLED = """
import os, signal, sys
import jax
from jaxcg.cli import gle, main
from jaxcg.io.dynamics import gle_run

FIRST = int(sys.argv[1])
opened = gle_run.open_series
# Compiled as in the process of the test.
gle.configure_jax = lambda: jax.config.update("jax_enable_x64", True)

def open_series(*given):
    writer = opened(*given)
    write = writer.write

    def deadly(first, frames):
        write(first, frames)
        if first >= FIRST:
            os.kill(os.getpid(), signal.SIGKILL)

    writer.write = deadly
    return writer

gle_run.open_series = open_series
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, x64):
    """The folder the test is in; the command's setting of JAX is left out, and its picture, which takes a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxcg.cli.gle.configure_jax", lambda: None)
    monkeypatch.setattr("jaxcg.report.gle.draw_trajectory", lambda path, *given: path.write_bytes(b"a picture"))
    return tmp_path


def write_config(name="c.yaml", **changes):
    settings = {key: text for key, text in {**PLAIN, **changes}.items() if text is not None}
    Path(name).write_text("".join(f"{key}: {text}\n" for key, text in settings.items()))


def run(*words):
    return main(["gle", "c.yaml", *map(str, words)])


def arrays(path="out/trajectory.npz"):
    with np.load(path, allow_pickle=False) as data:
        return dict(data)


def test_a_run_writes_trajectory_summary_and_figure(folder, capsys, monkeypatch):
    monkeypatch.setattr("jaxcg.report.gle.draw_trajectory", draw_trajectory)
    write_config()
    assert run() == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["summary.json", "trajectory.npz", "trajectory.png"]
    found = arrays()
    assert found["positions"].shape == found["velocities"].shape == (8, 300, 1)
    np.testing.assert_allclose(found["times"], 0.1 * np.arange(1, 301))
    said = capsys.readouterr()
    assert "8 trajectories of 30 ps (3000 steps, 300 frames written)" in said.out
    assert "friction of slow motion, ∫Γ dt: 300 amu/ps" in said.out
    assert "ps per second" in said.out
    assert "simulating:" in said.err
    # Four standard errors, with correlation times of about half a picosecond.
    variance = GAS_CONSTANT * 300 / 500
    assert found["positions"].mean() == pytest.approx(0.1, abs=4 * np.sqrt(variance / 240))
    assert found["positions"].var() == pytest.approx(variance, rel=4 * np.sqrt(2 / 240))
    summary = json.loads(Path("out/summary.json").read_text())
    kinetic = summary["temperature_K"]
    assert kinetic["mean"] == pytest.approx(found["temperature"].mean())
    assert abs(kinetic["mean"] - 300) < 4 * kinetic["error"]
    assert kinetic["error"] == pytest.approx(300 * np.sqrt(2 / 240), rel=0.8)
    assert summary["total_friction_amu_per_ps"] == pytest.approx(300)
    assert Path("out/trajectory.png").read_bytes().startswith(b"\x89PNG")


def test_frames_after_equilibration_are_those_of_a_longer_run(folder):
    write_config()
    assert run("--quiet") == 0
    write_config(equilibrate="0", steps="3100")
    assert run("--quiet", "-o", "whole") == 0
    one, other = arrays(), arrays("whole/trajectory.npz")
    for name in ("positions", "velocities", "potential", "temperature"):
        np.testing.assert_array_equal(one[name], other[name][:, 10:])


def test_a_finished_run_says_so_and_another_config_is_refused(folder, capsys):
    write_config(steps="100")
    assert run("--quiet", "--json") == 0
    first = json.loads(capsys.readouterr().out)
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert run("--json", "--quiet") == 0
    second = json.loads(capsys.readouterr().out)
    assert second.pop("already_finished")
    assert not first.pop("already_finished")
    assert first.pop("seconds")
    assert first.pop("ps_per_second") is None  # of one chunk: the compilation is not told from the rest
    assert not second.pop("seconds")
    assert first == second
    assert run() == 0
    assert "finished already" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
    write_config(steps="100", mass="41")
    assert run() == 2
    assert "out: holds a run of another config (mass: 40 there, 41 here); choose" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
    # A config that cannot be run removes nothing, forced or not.
    write_config(steps="100", potential="{harmonic: {stiffness: 5e8}}")
    assert run("--force") == 2
    assert "beyond the limit of stability" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
    write_config(steps="100", mass="41", output="{format: zarr}")
    assert run("--force", "--quiet") == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["summary.json", "trajectory.png", "trajectory.zarr"]


def test_a_changed_input_file_is_another_config(folder, capsys):
    write_kernel("k.json", PronyKernel([1200.0, 300.0], [20.0, 1.25]))
    write_config(steps="100", kernel="k.json")
    assert run("--quiet") == 0
    write_kernel("k.json", PronyKernel([1200.0, 300.0], [20.0, 1.5]))
    assert run() == 2
    assert "the file k.json has changed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npz", "zarr", "xtc"])
def test_formats_hold_the_same_frames(folder, kind):
    shape = {"shape": "[2, 3]", "trajectories": "2", "steps": "1000", "mass": "[40, 20]"}
    write_config(**shape)
    assert run("--quiet", "-o", "npz") == 0
    write_config(**shape, output=f"{{format: {kind}, velocities: no}}")
    assert run("--quiet", "-o", "other") == 0
    expected = arrays("npz/trajectory.npz")["positions"]
    if kind == "xtc":
        for number in range(2):
            with XTCFile(f"other/trajectory_{number}.xtc") as file:
                frames = list(file)
            np.testing.assert_allclose([frame.x for frame in frames], expected[number], atol=0.6e-5)
            np.testing.assert_allclose([frame.time for frame in frames], 0.1 * np.arange(1, 101), rtol=1e-6)
    elif kind == "zarr":
        group = zarr.open_group("other/trajectory.zarr", mode="r")
        np.testing.assert_array_equal(group["positions"][:], expected)
        assert "velocities" not in group
        assert group.attrs["config"]["mass"] == [40, 20]
    else:
        found = arrays("other/trajectory.npz")
        np.testing.assert_array_equal(found["positions"], expected)
        assert "velocities" not in found


@pytest.mark.slow  # a process of its own; the same moment is interrupted below
def test_a_killed_run_goes_on_to_the_same_numbers(folder):
    """SIGKILL after a block was written and before the checkpoint knew: the worst moment."""
    write_config()
    assert run("--quiet", "-o", "whole") == 0
    command = [sys.executable, "-c", KILLED, "150", "gle", "c.yaml", "-o", "out", "--quiet"]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in Path("out").iterdir()] == ["running"]
    with np.load("out/running/checkpoint.npz") as checkpoint:
        assert json.loads(str(checkpoint["header"]))["done"] == 2000
    assert run("--quiet") == 0
    assert files("out") == files("whole")


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


CASES = [("npz", "writing"), ("zarr", "writing"), ("xtc", "writing"), ("zarr", "finishing"), ("xtc", "finishing")]


@pytest.mark.parametrize(("kind", "when"), CASES)
def test_an_interrupted_run_goes_on_in_every_format(folder, monkeypatch, capsys, kind, when):
    monkeypatch.setattr(gle_run, "_FEWEST_STEPS", 500)
    write_config(shape="[2, 3]", trajectories="2", steps="1000", output=f"{{format: {kind}}}")
    assert run("--quiet", "-o", "whole") == 0
    opened, blocks = gle_run.open_series, []

    def open_series(*given):
        writer = opened(*given)
        write, finish = writer.write, writer.finish

        def interrupted_write(first, frames):
            write(first, frames)
            blocks.append(first)
            if len(blocks) == 2:
                raise KeyboardInterrupt

        def interrupted_finish(target):
            finish(target)
            raise KeyboardInterrupt

        if when == "writing":
            writer.write = interrupted_write
        elif when == "finishing":
            writer.finish = interrupted_finish
        return writer

    with monkeypatch.context() as patch:
        patch.setattr(gle_run, "open_series", open_series)
        assert run() == 130
    assert "the same command goes on from the last checkpoint" in capsys.readouterr().err
    assert run("--quiet") == 0
    assert files("out") == files("whole")


def test_what_is_refused(folder, capsys):
    write_config(steps="100")
    Path("file").write_text("")
    assert run("-o", "file") == 2
    assert "file: is a file, not a folder" in capsys.readouterr().err
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    assert run("-o", "full") == 2
    assert "full: already holds other files (notes.txt); choose another folder" in capsys.readouterr().err
    assert run("-o", "full", "--force", "--quiet") == 0
    assert Path("full/notes.txt").read_text() == "mine"
    assert main(["gle"]) == 2
    assert "name a config" in capsys.readouterr().err
    assert main(["gle", "nowhere.yaml"]) == 2
    assert "nowhere.yaml: there is no such file" in capsys.readouterr().err
    write_config(steps="100", mas="4")
    assert run("--json") == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["exit_code"] == 2
    assert "c.yaml, line 10: 'mas' is not known in the config; choose from temperature" in said.err
    assert not Path("out").exists()


def test_a_kernel_that_heats_is_refused_with_its_frequency(folder, capsys):
    t = np.linspace(0, 10, 1001)
    np.savetxt("k.dat", np.column_stack([t, 100 * np.exp(-t) * (np.cos(5 * t) + 3 * np.sin(5 * t))]))
    write_config(kernel="k.dat", integrator="history")
    assert run() == 2
    said = capsys.readouterr().err
    assert "c.yaml: 'kernel' is not positive-real: its spectrum is -" in said
    assert "1/ps" in said
    assert not Path("out").exists()


def test_two_processes_do_not_share_a_folder(folder, capsys):
    from jaxcg.cli.claims import claimed

    write_config(steps="100")
    with claimed(Path("out")):
        assert run() == 2
        assert "another process is running in this folder" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_run_that_blows_up_says_when_and_keeps_what_was_done(folder, capsys):
    # Stable at the start, in the middle of a flat table, and not beyond its end.
    x = np.linspace(-0.5, 0.5, 41)
    np.savetxt("u.dat", np.column_stack([x, np.where(np.abs(x) > 0.4, 1e6 * (np.abs(x) - 0.4) ** 2, 0)]))
    write_config(potential="u.dat", start="0", kernel="{delta: 1}", time_step="0.05", equilibrate="0", steps="20000")
    code = run("--quiet")
    assert code == 3
    assert "is not finite after" in capsys.readouterr().err
    assert Path("out/running/checkpoint.npz").exists() or Path("out/running/config.json").exists()


def test_a_temperature_off_the_target_is_told(folder, capsys):
    # A step near the limit: the kinetic temperature is low by the share (ω dt)²/4.
    write_config(time_step="0.3", steps="40000", every="1", equilibrate="30", precision="float32")
    assert run() == 0
    said = capsys.readouterr().out
    assert "warning: the kinetic temperature" in said
    assert "standard errors off the target of 300 K" in said


@pytest.mark.slow
def test_other_integrators(folder):
    write_config(integrator="{history: {window: 0.5}}", steps="100", trajectories="2")
    assert run("--quiet", "-o", "history") == 0
    write_config(integrator="{bath: {oscillators: 400, highest: 100, rule: midpoint}}", steps="100", trajectories="2")
    assert run("--quiet", "-o", "bath") == 0
    for name in ("history", "bath"):
        found = arrays(f"{name}/trajectory.npz")
        assert np.isfinite(found["positions"]).all()
        assert 30 < found["temperature"].mean() < 3000


@pytest.mark.slow
def test_friction_that_depends_on_the_position_and_particles_of_their_own(folder):
    x = np.linspace(-1, 1, 21)
    np.savetxt("g.dat", np.column_stack([x, 1 + 0.5 * x]))
    write_config(kernel="[{delta: 500, profile: g.dat}, {delta: 100}]", steps="3000")
    assert run("--quiet", "-o", "profile") == 0
    positions = arrays("profile/trajectory.npz")["positions"]
    # No drift of noise: the law is that of the spring, whose coordinate relaxes in 1.3 ps.
    variance = GAS_CONSTANT * 300 / 500
    assert positions.mean() == pytest.approx(0.1, abs=4 * np.sqrt(variance * 2 * 1.3 / 240))
    kernels = "{particles: [{delta: 100}, {prony: {strengths: [6], times: [0.5]}}], types: [0, 1, 1]}"
    write_config(kernel=kernels, shape="[3, 2]", mass="[10, 20, 40]", steps="100")
    assert run("--quiet", "-o", "particles") == 0
    assert arrays("particles/trajectory.npz")["positions"].shape == (8, 10, 3, 2)
    summary = json.loads(Path("particles/summary.json").read_text())
    assert summary["total_friction_amu_per_ps"] == pytest.approx([100, 3])


def test_the_exact_correlation_is_drawn_where_there_is_one(folder):
    times = np.linspace(0, 2, 5)
    write_config()
    expected = linear_correlations(PronyKernel([1200.0, 300.0], [20.0, 1.25]), 40.0, times, 300.0, 500.0).velocity
    np.testing.assert_allclose(exact_velocity_correlation(read_gle_config("c.yaml"), times), expected, rtol=1e-10)
    write_config(potential="none")
    assert exact_velocity_correlation(read_gle_config("c.yaml"), times) is not None
    write_config(potential="{double-well: {barrier: 5, half_distance: 0.1}}")
    config = read_gle_config("c.yaml")
    assert exact_velocity_correlation(config, times) is None
    assert abs(lowest_point(config.potential)) == pytest.approx(0.1, abs=1e-6)


def test_the_example_is_printed(capsys):
    assert main(["gle", "--example"]) == 0
    assert capsys.readouterr().out.startswith("# Generalised Langevin dynamics")
    assert main(["gle", "--example", "c.yaml"]) == 2
