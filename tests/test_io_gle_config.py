"""The config of `jaxcg gle`: what it means, and that every error names file, line, key and unit."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.cli.gle_example import EXAMPLE
from jaxcg.dynamics import DeltaKernel, DrudeLorentz, PassiveKernel, PronyKernel, SumKernel, TabulatedKernel
from jaxcg.energy.coordinate import SplinePotential
from jaxcg.errors import InputError
from jaxcg.io.dynamics.gle_config import read_gle_config
from jaxcg.io.dynamics.gle_run import lowest_point, prepare
from jaxcg.io.dynamics.kernels import write_energy, write_kernel

PLAIN = {
    "temperature": "300",
    "time_step": "0.002",
    "steps": "100",
    "mass": "40",
    "kernel": "{prony: {strengths: [1200, 300], times: [0.05, 0.8]}}",
}


@pytest.fixture
def config(tmp_path):
    """``config(key=text, ...)`` reads a small config with these settings; None leaves a key out."""

    def read(**changes):
        settings = {key: text for key, text in {**PLAIN, **changes}.items() if text is not None}
        (tmp_path / "c.yaml").write_text("".join(f"{key}: {text}\n" for key, text in settings.items()))
        return read_gle_config(tmp_path / "c.yaml")

    return read


def kernel_table(folder, name="k.dat", rate=2.0, strength=100.0):
    t = np.linspace(0, 4, 401)
    np.savetxt(folder / name, np.column_stack([t, strength * np.exp(-rate * t)]))


def test_the_example_is_a_config(tmp_path, x64):
    (tmp_path / "c.yaml").write_text(EXAMPLE)
    read = read_gle_config(tmp_path / "c.yaml")
    assert (read.temperature, read.time_step, read.steps, read.every) == (300, 0.002, 100_000, 10)
    assert (read.equilibrate, read.trajectories, read.seed, read.shape, read.frames) == (10_000, 8, 1, (1,), 10_000)
    kernel = read.kernel.kernel
    assert isinstance(kernel, SumKernel)
    assert float(kernel.total_friction()) == pytest.approx(1200 * 0.05 + 300 * 0.8 + 20)
    assert float(read.potential.energy(jnp.zeros(1))) == pytest.approx(8.0)
    assert (read.format, read.velocities, read.precision) == ("npz", True, "float64")
    # Every kind of kernel that the comments name is one that can be read.
    for word in ("strengths", "frictions", "rates", "delta", "passive", "drude-lorentz", "brownian", "power-law"):
        assert word in EXAMPLE


def test_defaults(config, x64):
    read = config()
    assert (read.every, read.trajectories, read.seed, read.equilibrate, read.shape) == (1, 1, 0, 0, (1,))
    assert read.potential.energy is None
    assert read.integrator.kind == "auxiliaries"
    assert isinstance(read.start, str)
    assert isinstance(read.kernel.kernel, PronyKernel)


@pytest.mark.parametrize(
    ("text", "kind", "friction"),
    [
        ("{prony: {frictions: [3, 4], rates: [2, 1]}}", PronyKernel, 7.0),
        ("{delta: 12.5}", DeltaKernel, 12.5),
        ("{passive: {couplings: [3], skew: [[0]], damping: [[2]]}}", PassiveKernel, 9 / 4),
        ("{spectral_density: {kind: drude-lorentz, friction: 40, cutoff: 5}}", PronyKernel, 40.0),
        ("{spectral_density: {kind: brownian-oscillator, strength: 9, frequency: 3, damping: 2}}", PassiveKernel, 2.0),
        (
            "{spectral_density: {kind: power-law, friction: 4, cutoff: 5, exponent: 1, duration: 400}}",
            TabulatedKernel,
            4.0,
        ),
        ("{spectral_density: {kind: table, file: j.dat, duration: 400}}", TabulatedKernel, 4.0),
        ("k.dat", TabulatedKernel, 50.0),
        ("k.json", PronyKernel, 2.0),
        ("[k.json, {delta: 1}]", SumKernel, 3.0),
        ("{file: k.dat, fit: passive}", PassiveKernel, 50.0),
        ("{file: k.dat, fit: {largest_order: 1, tolerance: 1e-3}}", PassiveKernel, 50.0),
    ],
)
def test_kernels(config, tmp_path, x64, text, kind, friction):
    kernel_table(tmp_path)
    omega = np.linspace(0, 60, 600)
    np.savetxt(tmp_path / "j.dat", np.column_stack([omega, 4 * np.exp(-omega / 5)]))
    write_kernel(tmp_path / "k.json", PronyKernel([4.0], [2.0]))
    part = config(kernel=text).kernel
    assert isinstance(part.kernel, kind)
    assert float(part.kernel.total_friction()) == pytest.approx(friction, rel=0.02)
    assert bool(part.notes) == ("fit" in text)
    assert (part.density is not None) == ("spectral" in text)


def test_potentials(config, tmp_path, x64):
    x = np.linspace(-1, 1, 81)
    spline = SplinePotential(x, (x - 0.25) ** 2)
    write_energy(tmp_path / "u.json", spline)
    write_energy(tmp_path / "u.dat", spline)
    at = jnp.asarray([0.3, -0.1])
    for text in ("u.json", "u.dat", "{file: u.dat}"):
        read = config(potential=text)
        assert float(read.potential.energy(at)) == pytest.approx(float(spline(at)))
        assert lowest_point(read.potential) == pytest.approx(0.25, abs=1e-6)
        assert read.potential.stiffness is None
    read = config(potential="[{harmonic: {stiffness: 30, center: 0.2}}, {harmonic: {stiffness: 10}}]")
    assert read.potential.stiffness == 40
    assert lowest_point(read.potential) == pytest.approx(0.15, abs=1e-5)
    both = config(potential="[u.json, {double-well: {barrier: 5, half_distance: 0.2}}]").potential
    assert float(both.energy(at)) == pytest.approx(float(spline(at) + 5 * jnp.sum((at**2 / 0.04 - 1) ** 2)))
    assert config(potential="none").potential.energy is None
    assert lowest_point(config().potential) == 0


def test_matrix_kernels_and_masses(config, tmp_path, x64):
    kernel = "{passive: {couplings: [[1, 0], [0.5, 1]], skew: [[0, 1], [0, 0]], damping: [[1, 0], [0, 1]]}}"
    read = config(kernel=kernel, mass="[10, 20]")
    assert read.shape == (2,)
    assert prepare(read).positions.shape == (1, 2)
    assert config(shape="[5, 3]", mass="[1, 2, 3, 4, 5]").masses.shape == (5,)


def test_particles_and_profiles(config, tmp_path, x64):
    kernels = "{particles: [{delta: 1}, {prony: {strengths: [6], times: [0.5]}}], types: [0, 1, 1]}"
    read = config(kernel=kernels, shape="[3, 2]", mass="[10, 20, 30]")
    assert config(kernel=kernels).shape == (3,)
    np.testing.assert_array_equal(read.kernel.particles.types, [0, 1, 1])
    assert prepare(read).dynamics.step_matrix.shape == (2, 2, 3)
    np.savetxt(tmp_path / "g.dat", np.column_stack([np.linspace(-1, 1, 21), np.linspace(1, 2, 21)]))
    read = config(kernel="[{delta: 1, profile: g.dat}, {prony: {strengths: [6], times: [0.5]}}]")
    friction = prepare(read).dynamics.friction(jnp.array([0.0, 0.9]))
    np.testing.assert_allclose(friction, [1.5**2 + 3, 1.95**2 + 3], rtol=1e-3)


def test_starts(config, tmp_path, x64):
    np.save(tmp_path / "x.npy", np.arange(3.0))
    np.savetxt(tmp_path / "x.dat", np.arange(6.0).reshape(2, 3))
    np.savez(tmp_path / "x.npz", positions=np.arange(24.0).reshape(2, 4, 3))
    many = {"trajectories": "2", "shape": "3"}
    for text, expected in (
        ("0.5", np.full((2, 3), 0.5)),
        ("[1, 2, 3]", [[1, 2, 3]] * 2),
        ("x.npy", [[0, 1, 2]] * 2),
        ("x.dat", [[0, 1, 2], [3, 4, 5]]),
        ("x.npz", [[9, 10, 11], [21, 22, 23]]),
    ):
        read = config(start=text, **many)
        np.testing.assert_array_equal(prepare(read).positions, expected)
    assert prepare(config(start="0.5", precision="float32")).positions.dtype == np.float32


def test_durations_are_whole_frames(config):
    read = config(steps=None, duration="1.0", every="7", equilibrate="0.1")
    assert (read.frames, read.steps, read.equilibrate) == (71, 497, 56)
    assert config(steps="1e3").steps == 1000


@pytest.mark.slow
def test_integrators(config, tmp_path, x64):
    kernel_table(tmp_path)
    history = prepare(config(kernel="k.dat", integrator="history"))
    assert history.dynamics.noise.shape == (100, 1, 1)
    read = config(kernel="k.dat", integrator="{history: {window: 0.1}}", precision="float32")
    dynamics = prepare(read).dynamics
    assert dynamics.weights.shape == (50,)
    assert dynamics.noise.dtype == np.float32
    for kernel in (PLAIN["kernel"], "{spectral_density: {kind: drude-lorentz, friction: 40, cutoff: 5}}"):
        read = config(kernel=kernel, integrator="{bath: {oscillators: 300, highest: 200}}")
        bath = prepare(read).dynamics.bath
        t = jnp.linspace(0.05, 0.3, 7)
        np.testing.assert_allclose(bath.memory_kernel(t), read.kernel.kernel(t), rtol=0.05)
    assert isinstance(read.kernel.density, DrudeLorentz)


def test_files_and_settings_tell_configs_apart(config, tmp_path):
    kernel_table(tmp_path)
    one = config(kernel="k.dat")
    kernel_table(tmp_path, rate=3.0)
    other = config(kernel="k.dat")
    assert one.settings == other.settings
    assert set(one.files) == {"k.dat"}
    assert one.files != other.files
    assert config(mass="4.0e1").settings == config().settings
    assert config(mass="41").settings != config().settings


P = "{prony: {strengths: [1], times: [1]}}"
BAD = [
    ({"temprature": "3"}, 6, "'temprature' is not known in the config; choose from temperature, time_step, mass"),
    ({"mass": None}, 1, "the config needs 'mass'"),
    ({"temperature": "-3"}, 1, "'temperature' (K) must be a number above 0, not '-3'"),
    ({"temperature": "warm"}, 1, "'temperature' (K) must be a number above 0, not 'warm'"),
    ({"temperature": ""}, 1, "not nothing"),
    ({"time_step": ".inf"}, 2, "'time_step' (ps) must be a number above 0"),
    ({"time_step": "[1]"}, 2, "not a list"),
    ({"steps": "2.5"}, 3, "'steps' must be a whole number of at least 1, not '2.5'"),
    ({"every": "7"}, 3, "'steps' (100) must be a multiple of 'every' (7); take 98"),
    ({"duration": "3"}, 1, "the config needs either 'steps' or 'duration' (ps)"),
    ({"steps": None}, 1, "the config needs either 'steps' or 'duration' (ps)"),
    ({"steps": None, "duration": "1e-5"}, 5, "'duration' (1e-05 ps) is shorter than one frame, 1 steps of 0.002 ps"),
    ({"steps": "3e9"}, 1, "steps are more than one run can count"),
    ({"seed": "5e9"}, 6, "'seed' must be below 4294967296"),
    ({"trajectories": "0"}, 6, "'trajectories' must be a whole number of at least 1"),
    ({"mass": "[1, 2]"}, 4, "'mass' (amu) must be a number or one for each particle of 'shape' (1), not 2"),
    ({"mass": "0"}, 4, "'mass' (amu) must be above zero, not 0"),
    ({"shape": "[]"}, 6, "'shape' is empty"),
    ({"precision": "half"}, 6, "'precision' is 'half'; choose from float32, float64"),
    ({"output": "npz"}, 6, "'output' needs keys and values: format, velocities"),
    ({"output": "{format: xtc}"}, 6, "'shape' must be [particles, 3], not [1]"),
    ({"output": "{format: hdf}"}, 6, "'format' is 'hdf'; choose from npz, zarr, xtc"),
    ({"output": "{velocities: maybe}"}, 6, "'velocities' must be yes or no, not 'maybe'"),
    ({"shape": "[2, 3]", "output": "{format: xtc, velocities: yes}"}, 7, "XTC holds no velocities"),
    ({"kernel": "[]"}, 5, "'kernel' is an empty list"),
    ({"kernel": "{}"}, 5, "'kernel' takes one of file, prony, delta, passive, spectral_density (none is given)"),
    ({"kernel": "{delta: 1, file: k}"}, 5, "(delta and file are given); a list is their sum"),
    ({"kernel": "{pony: 1}"}, 5, "'pony' is not known in 'kernel'; choose from file, prony"),
    ({"kernel": "none.json"}, 5, "there is no such file"),
    ({"kernel": "bad.dat"}, 5, "line 2: expected two finite numbers"),
    ({"kernel": "{delta: -1}"}, 5, "'delta' (amu/ps) is a friction and must not be negative, not -1"),
    ({"kernel": "{delta: [[1, 0], [0]]}"}, 5, "'delta' (amu/ps) must be rows of equal length"),
    ({"kernel": "{delta: []}"}, 5, "'delta' (amu/ps) is an empty list"),
    ({"kernel": "{prony: 1}"}, 5, "'prony' needs keys and values: strengths, frictions, times, rates"),
    ({"kernel": "{prony: {times: [1]}}"}, 5, "'prony' takes either 'strengths' or 'frictions'"),
    ({"kernel": "{prony: {strengths: [1], times: [1], rates: [1]}}"}, 5, "'prony' takes either 'times' or 'rates'"),
    ({"kernel": "{prony: {strengths: [1], times: [0]}}"}, 5, "'times' (ps) must be above zero, not 0"),
    ({"kernel": "{prony: {strengths: [1, x], times: [1]}}"}, 5, "'strengths' (amu/ps^2) must be a number, not 'x'"),
    ({"kernel": "{prony: {strengths: [1, 2], times: [1]}}"}, 5, "'strengths' are 2 and 'times' are 1"),
    ({"kernel": "{passive: {couplings: [1], skew: [[0]], damping: [[1], [2]]}}"}, 5, "do not fit"),
    ({"kernel": "{passive: {couplings: [1]}}"}, 5, "'passive' needs 'skew'"),
    ({"kernel": "{spectral_density: {kind: ohmic}}"}, 5, "'kind' is 'ohmic'; choose from drude-lorentz, brownian"),
    (
        {"kernel": "{spectral_density: {kind: drude-lorentz, friction: 1}}"},
        5,
        "a drude-lorentz 'spectral_density' needs 'cutoff'; its keys are kind, friction, cutoff",
    ),
    (
        {"kernel": "{spectral_density: {kind: drude-lorentz, friction: 1, cutoff: 1, damping: 2}}"},
        5,
        "'damping' is not known in a drude-lorentz",
    ),
    ({"kernel": "[{delta: 1}, {delta: [[1, 0], [0, 1]]}]"}, 5, "all with the same number of coordinates"),
    ({"kernel": "{delta: 1, fit: yes}"}, 5, "'fit' is 'yes'; choose passive, or give keys"),
    ({"kernel": f"{P[:-1]}, fit: passive}}"}, 5, "give a duration, ps"),
    ({"kernel": "{delta: [[1, 0], [0, 1]]}", "shape": "3"}, 6, "'shape' has 3 coordinates, but the kernel couples 2"),
    ({"kernel": "{delta: [[1, 0], [0, 1]]}", "mass": "[1]"}, 4, "one for each coordinate of the kernel (2), not 1"),
    ({"kernel": "{delta: [[1, 0], [0, 1]]}", "integrator": "history"}, 6, "kernels of single coordinates"),
    ({"kernel": "{particles: []}"}, 5, "'particles' must be a list of kernels"),
    ({"kernel": "{particles: [{delta: 1}], types: [0, 1]}"}, 5, "types must be (particles,) integers from 0 to 0"),
    ({"kernel": "{particles: [{delta: 1}], types: 1}"}, 5, "'types' must be a list"),
    ({"kernel": "{particles: [{delta: 1}, {delta: 2}]}", "shape": "3"}, 6, "the kernels are those of [2, components]"),
    ({"kernel": "{particles: [{delta: 1, profile: g.dat}]}"}, 5, "'profile' and 'particles' do not go together"),
    ({"kernel": "{particles: [{delta: 1}]}", "integrator": "history"}, 6, "does not go with 'particles'"),
    ({"kernel": "{delta: 1, profile: g.dat}", "integrator": "history"}, 6, "does not go with 'profile'"),
    ({"kernel": "{delta: 1, profile: bad.dat}"}, 5, "line 2: expected two finite numbers, x (nm) and g(x)"),
    ({"potential": "{harmonic: {stiffness: -1}}"}, 6, "'stiffness' (kJ/mol/nm^2) must be a number above 0, not '-1'"),
    ({"potential": "{harmonic: {k: 1}}"}, 6, "'k' is not known in 'harmonic'; choose from stiffness, center"),
    ({"potential": "{double-well: {barrier: 1}}"}, 6, "'double-well' needs 'half_distance'"),
    ({"potential": "{doublewell: 1}"}, 6, "'doublewell' is not known in 'potential'; choose from harmonic, double-w"),
    ({"potential": "{harmonic: 1, file: u}"}, 6, "'potential' takes one of none, FILE, harmonic"),
    ({"potential": "[none]"}, 6, "'potential' as a list is a sum; it needs two or more"),
    ({"potential": "bad.dat"}, 6, "line 2: expected two finite numbers"),
    ({"integrator": "verlet"}, 6, "'integrator' is 'verlet'; choose from auxiliaries, history, bath"),
    ({"integrator": "{history: {window: 0}}"}, 6, "'window' (ps) must be a number above 0"),
    ({"integrator": "{bath: {oscillators: 9}}"}, 6, "'bath' needs 'highest'"),
    ({"integrator": "{bath: {oscillators: 9, highest: 1, rule: x}}"}, 6, "choose from midpoint, logarithmic, equal"),
    (
        {"integrator": "{bath: {oscillators: 9, highest: 1}}", "mass": "[1, 2]", "shape": "2"},
        6,
        "give 'mass' as a number",
    ),
    ({"start": "[1, 2]"}, 6, "'start' (nm) has shape (2,); expected (1,), or (1, 1)"),
    ({"start": "nowhere.npy"}, 6, "there is no such file"),
    ({"start": "bad.npz"}, 6, "holds no positions that can be read"),
    ({"start": "other.npz"}, 6, "holds no 'positions'"),
    ({"start": "nan.npy"}, 6, "not finite numbers"),
    ({"equilibrate": "-1"}, 6, "'equilibrate' (ps) must be a number of at least 0, not '-1'"),
]


@pytest.mark.parametrize(("changes", "line", "message"), BAD, ids=[str(case[0]) for case in BAD])
def test_every_error_is_one_line_with_its_place(config, tmp_path, changes, line, message):
    (tmp_path / "bad.dat").write_text("0 1\n1 x\n")
    (tmp_path / "g.dat").write_text("0 1\n1 2\n")
    (tmp_path / "bad.npz").write_text("nothing")
    np.savez(tmp_path / "other.npz", x=1.0)
    np.save(tmp_path / "nan.npy", np.array([np.nan]))
    with pytest.raises(InputError) as raised:
        config(**changes)
    said = str(raised.value)
    assert message in said
    assert said.startswith(f"{tmp_path / 'c.yaml'}, line {line}: ")
    assert "\n" not in said


def test_files_that_are_no_config(tmp_path):
    for text, message in (("", "expected keys"), ("a: [", "line 1: not YAML"), ("mass: 1\nmass: 2\n", "given twice")):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(InputError, match=message):
            read_gle_config(tmp_path / "c.yaml")
    with pytest.raises(InputError, match="no such file"):
        read_gle_config(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a folder"):
        read_gle_config(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": "hot.dat"}, "'kernel' is not positive-real: its spectrum is "),
        ({"kernel": "{delta: [[1, 0], [0, -1]]}"}, "not positive-real"),
        ({"kernel": "k.dat"}, "has no exact embedding; fit a PassiveKernel to it first. Add 'fit: passive' to the ker"),
        ({"kernel": "{prony: {strengths: [2, -1], times: [1, 1]}}"}, "negative strength"),
        (
            {"potential": "{harmonic: {stiffness: 4e8}}"},
            "'time_step' of 0.002 ps is beyond the limit of stability",
        ),
        ({"integrator": "{bath: {oscillators: 9, highest: 10000}}"}, "the bath comes back after 0.005655 ps"),
        ({"kernel": "{delta: 1}", "integrator": "{history: {window: 1}}"}, None),
    ],
)
def test_what_cannot_be_run_is_named_before_it_starts(config, tmp_path, x64, changes, message):
    kernel_table(tmp_path)
    t = np.linspace(0, 4, 401)
    np.savetxt(tmp_path / "hot.dat", np.column_stack([t, 100 * np.exp(-t) * np.cos(9 * t) * (1 + 2 * t)]))
    read = config(**changes)
    if message is None:
        prepare(read)
        return
    with pytest.raises(InputError) as raised:
        prepare(read)
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(tmp_path / "c.yaml"))
