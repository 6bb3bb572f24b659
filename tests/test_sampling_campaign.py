"""Campaigns: many frames times many chains in batches."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian

from jaxcg.errors import ResultError
from jaxcg.run import _chunk
from jaxcg.sampling.campaign.campaign import Campaign, _observe
from jaxcg.sampling.campaign.frames import frames_of_this_process, sample_frames
from jaxcg.sampling.campaign.memory import estimate, measured, walkers_that_fit
from jaxcg.sampling.campaign.settings import SamplingSettings
from jaxcg.sampling.campaign.storage import Rows
from jaxcg.sampling.campaign.walkers import Walkers, differing_leaves

KEY = jax.random.key(3)
SETTINGS = SamplingSettings(draws=40, thin=2, step_size=0.02, steps=6, heat=100, hold=100, warmup=20)
SHIFTS = (0.0, 0.4, -0.3)


@pytest.fixture(autouse=True)
def strict_dtypes():
    """Nothing may be promoted silently: float32 runs stay float32 under x64 too."""
    with jax.numpy_dtype_promotion("strict"):
        yield


def problem(noise=None, frames=3):
    """A Gaussian, its posteriors with shifted beads, and starts on their fibres: (frames, chains, atoms, 3)."""
    one = Gaussian(noise=noise)
    posteriors = [
        eqx.tree_at(lambda p: p.y, one.posterior, one.posterior.y + jnp.asarray(s, jnp.float32))
        for s in SHIFTS[:frames]
    ]
    starts = np.stack([np.repeat(one.mode[None] + s, 4, axis=0) for s in SHIFTS[:frames]]).astype(np.float32)
    return one, posteriors, starts


def means(one, shift):
    """Exact mean for beads that are shifted as a whole."""
    moved = Gaussian()
    gain = one.mean  # of the beads as they are
    gram = moved.matrix @ np.linalg.inv(moved.hessian) @ moved.matrix.T
    full = np.linalg.inv(moved.hessian) @ moved.matrix.T @ np.linalg.inv(gram)
    return gain + full @ np.full(len(gram), shift)


def test_every_frame_has_its_own_law_and_no_program_of_its_own(monkeypatch):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration_secs, **kwargs: compiled.append(event) if "backend_compile" in event else None
    )
    monkeypatch.setattr("jaxcg.sampling.campaign.campaign._WIDEST_CPU", 8)
    one, posteriors, starts = problem()
    frames, before = (7, 12, 3), chunk_programs()
    batches = sample_frames(posteriors, starts, KEY, masses=one.masses, settings=SETTINGS, frames=frames)
    found = [next(batches), next(batches)]
    assert chunk_programs() - before == 2  # one for the heating, one for tuning and sampling
    first = len(compiled)
    assert first > 2
    found += batches  # the last batch is not full
    assert len(compiled) == first
    assert [one.frame for one in found] == list(frames)
    for frame, shift, posterior in zip(found, SHIFTS, posteriors, strict=True):
        assert frame.positions.shape == (4, 40, 8, 3)
        assert frame.trace.shape == (4, 80)
        np.testing.assert_array_equal(frame.potentials, frame.trace[:, 1::2])
        x = frame.positions.reshape(160, -1).astype(np.float64)
        assert np.abs(x @ one.matrix.T - np.asarray(posterior.y).ravel()).max() < 1e-5
        # Whitened, so that every coordinate counts alike; 160 draws are nearly independent.
        error = (x.mean(axis=0) - means(one, shift)) @ one.basis
        reduced = one.basis.T @ one.covariance @ one.basis
        assert error @ np.linalg.solve(reduced, error) < one.dimension / 160 * 4
        energy = float(posterior.energy(jnp.asarray(frame.positions[2, 7])))
        assert frame.energies[2, 7] == pytest.approx(energy, rel=1e-4)
        assert 0.6 < frame.acceptance.mean() < 0.99
        assert np.ptp(frame.step_size) == 0
    # Pooled within a frame, not across frames.
    assert found[0].step_size[0] != found[1].step_size[0]


def chunk_programs() -> int:
    """Compiled chunks of runs so far."""
    return _chunk._cached._cache_size()  # pyright: ignore


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ghmc", "langevin"])
def test_soft_frames_and_other_samplers(sampler):
    one, posteriors, starts = problem(noise=0.05, frames=2)
    # The energy of the closed form has no shift; one frame is enough for the law.
    settings = SamplingSettings(
        draws=100, thin=5, step_size=0.02, steps=3, heat=100, hold=100, warmup=20, sampler=sampler, friction=10.0
    )
    found = list(sample_frames(posteriors, starts, KEY, masses=one.masses, settings=settings))
    spread = one.whiten(found[0].positions.reshape(400, 8, 3).astype(np.float64)).var(axis=0)
    assert spread.mean() == pytest.approx(1, abs=0.2)
    assert np.isnan(found[0].total_energies).all() == (sampler == "langevin")
    assert (found[0].potentials > found[0].energies).all()


def test_walkers_do_not_communicate():
    if jax.local_device_count() < 2:
        pytest.skip("needs two local devices (XLA_FLAGS=--xla_force_host_platform_device_count=2)")
    one, posteriors, starts = problem()
    campaign = Campaign(posteriors, 4, masses=one.masses, settings=SamplingSettings(steps=3))
    labels = np.stack([np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)], axis=1)
    walkers = Walkers.of(campaign._sampling, labels[:, 0].tolist(), labels)
    state = walkers.init(KEY, jnp.asarray(starts.reshape(12, 8, 3)))
    number = jnp.asarray(1, jnp.int32)
    chunk = _chunk.lower(walkers, state, KEY, number, number, 2, 2, _observe).compile().compiled
    text = chunk.as_text()
    assert not any(word in text for word in ("all-reduce", "all-gather", "collective-permute", "all-to-all"))
    split = [s for s in jax.tree.leaves(chunk.output_shardings) if not s.is_fully_replicated]
    assert split
    assert all(len(s.device_set) == jax.local_device_count() for s in split)


def test_bad_input():
    one, posteriors, starts = problem()
    short = SamplingSettings(draws=1, heat=0, hold=0, warmup=0)
    campaign = Campaign(posteriors, 4, masses=one.masses, settings=short, frames=(5, 6, 9))
    off = starts.copy()
    off[1, 3, 2] += 0.1
    with pytest.raises(ValueError, match=r"frame 6: chain 3 starts off the fibre: its bead \d \(SC\d\) is 0\.\d+ nm"):
        campaign.run(0, off, KEY, bead_labels=["SC0", "SC1", "SC2"])
    with pytest.raises(ValueError, match="expected \\(3, 4, 8, 3\\)"):
        campaign.run(0, starts[:2], KEY)
    with pytest.raises(ValueError, match="positive and finite"):
        Campaign([Gaussian(noise=-0.1).posterior], 4, masses=one.masses)
    other = Campaign([*posteriors, Gaussian(noise=0.1).posterior], 4, masses=one.masses, settings=short)
    with pytest.raises(ValueError, match="not of the same shape"):
        other.run(0, np.concatenate([starts, starts[:1]]), KEY)
    with pytest.raises(ValueError, match="there must be one of each"):
        Campaign([], 4, masses=one.masses)
    with pytest.raises(ValueError, match="each once"):
        Campaign(posteriors, 4, masses=one.masses, frames=(1, 1, 2))
    with pytest.raises(ValueError, match="not known"):
        SamplingSettings(sampler="gibbs")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="at least 1"):
        SamplingSettings(draws=0)
    broken = eqx.tree_at(lambda p: p.energy.constant, posteriors[1], replace=float("nan"))
    worse = Campaign([broken], 4, masses=one.masses, settings=short, frames=(6,))
    with pytest.raises(ResultError, match=r"frame 6: the energy at the start of chain 0 is not finite \(4 of"):
        worse.run(0, starts[1:2], KEY)


def test_more_chains_than_memory(monkeypatch):
    # Not compiled for this: 4 kB a walker.
    monkeypatch.setattr(Campaign, "_measure", lambda campaign, count: 4000 * count)
    one, posteriors, _ = problem()
    with pytest.raises(ValueError, match=r"1000 chains of 8 atoms do not fit .* at most 50 chains do"):
        Campaign(posteriors, 1000, masses=one.masses, memory=200_000)
    # What fits is taken, whole frames at a time.
    campaign = Campaign(posteriors, 4, masses=one.masses, memory=40_000, vectorized=True)
    assert campaign.frames_at_once < 3


def test_what_fits_is_what_the_compiler_says():
    one, posteriors, starts = problem()
    campaign = Campaign(posteriors[:1], 4, masses=one.masses)
    labels = np.zeros((4, 2))
    walkers = Walkers.of(campaign._sampling, [0] * 4, labels)
    state = walkers.init(KEY, jnp.asarray(starts[0]))
    true = measured(walkers, state)
    # The estimate is of the right order, no more: this one does not count the parameters.
    assert 0.05 < true / estimate(8, 4, 4) < 20

    def unasked(walkers):
        raise AssertionError(walkers)

    assert walkers_that_fit(10**9, 8, 4, 64, unasked) == 64
    assert walkers_that_fit(1000, 8, 4, 64) == 0
    # Estimates of 2 MB decide nothing where 4 MB are free; the compiler counts 1 MB and 10 kB for each.
    asked = []
    assert walkers_that_fit(2_000_000, 3000, 4, 500, lambda n: asked.append(n) or 1_000_000 + 10_000 * n) == 100
    assert walkers_that_fit(2 * estimate(100, 4, 64), 100, 4, 64, lambda n: asked.append(n) or 10**9 * n) == 0
    assert len(asked) == 4


def test_rows_on_disk_take_up_where_they_were(tmp_path):
    rows = Rows(tmp_path, "draws")
    values = {"a": np.arange(12.0).reshape(6, 2), "b": np.arange(6)}
    rows.write(0, jax.tree.map(lambda v: v[:4], values))
    # After a crash a chunk comes again.
    Rows(tmp_path, "draws").write(2, jax.tree.map(lambda v: v[2:], values))
    shapes = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), values)
    found = rows.read(shapes, 6)
    np.testing.assert_array_equal(found["a"], values["a"])
    np.testing.assert_array_equal(found["b"], values["b"])
    rows.remove()
    assert list(tmp_path.iterdir()) == []


def test_leaves_that_differ():
    trees = [{"a": np.ones(3), "b": np.zeros(2)}, {"a": np.ones(3), "b": np.ones(2)}]
    assert differing_leaves(trees) == (1,)
    assert differing_leaves(trees[:1]) == ()


def test_frames_of_one_process_are_all_frames():
    assert frames_of_this_process(range(5)) == list(range(5))


#: Samples two frames in a process of its own, which kills itself before the checkpoint given first, if any.
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
import jax, numpy as np
import jaxcg.run as driver
from test_sampling_campaign import KEY, SETTINGS, problem, sample_frames

LAST, FOLDER = int(sys.argv[1]), sys.argv[2]
save, count = driver._Checkpoint.save, [0]

def deadly(self, done, state, parts):
    count[0] += 1
    if count[0] == LAST:
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, done, state, parts)

driver._Checkpoint.save = deadly
import jaxcg.sampling.campaign.campaign as campaign
campaign.GRADIENTS_PER_CHUNK = 500
one, posteriors, starts = problem(frames=2)
found = list(sample_frames(posteriors, starts, KEY, masses=one.masses, settings=SETTINGS, folder=FOLDER))
np.savez(FOLDER + "/found.npz", *(getattr(f, name) for f in found for name in ("positions", "trace", "step_size")))
"""


@pytest.mark.slow
def test_a_killed_campaign_ends_with_the_same_numbers(tmp_path):
    # Compiled by the first process for all.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def go(last, folder):
        words = [sys.executable, "-c", KILLED, str(last), str(folder), str(Path(__file__).parent)]
        environment = {**os.environ, **cache}
        return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False, env=environment)

    whole = go(0, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr[-2000:]
    # In the middle of the tuning, and after that in the middle of the sampling.
    for moment, stages in ((6, {"heating", "tuning"}), (3, {"heating", "tuning", "sampling"})):
        killed = go(moment, tmp_path / "again")
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
        assert {p.stem for p in (tmp_path / "again").rglob("*ing.npz")} == stages
    again = go(0, tmp_path / "again")
    assert again.returncode == 0, again.stderr[-2000:]
    assert (tmp_path / "again" / "found.npz").read_bytes() == (tmp_path / "whole" / "found.npz").read_bytes()


#: One of two processes of a distributed run; prints its share and a number drawn for each of its frames.
DISTRIBUTED = """
import os, sys
import jax
jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
sys.path.insert(0, sys.argv[3])
from test_sampling_campaign import KEY, problem, sample_frames, SamplingSettings, frames_of_this_process
short = SamplingSettings(draws=1, thin=1, step_size=0.02, steps=3, heat=2, hold=2, warmup=1)
one, posteriors, starts = problem()
mine = frames_of_this_process(range(3))
chosen = [posteriors[i] for i in mine]
for found in sample_frames(chosen, starts[mine], KEY, masses=one.masses, settings=short, frames=mine):
    print(found.frame, found.positions.ravel()[5])
"""


@pytest.mark.slow
def test_frames_are_shared_out_over_processes():
    import socket

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-c", DISTRIBUTED, str(port)]
    both = [
        subprocess.Popen(
            [*words, str(i), str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        for i in range(2)
    ]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    lines = [out.strip().splitlines() for out, _ in said]
    assert [line.split()[0] for line in lines[0]] == ["0", "2"]
    assert [line.split()[0] for line in lines[1]] == ["1"]
    one, posteriors, starts = problem()
    short = SamplingSettings(draws=1, thin=1, step_size=0.02, steps=3, heat=2, hold=2, warmup=1)
    alone = [f.positions.ravel()[5] for f in sample_frames(posteriors, starts, KEY, masses=one.masses, settings=short)]
    apart = [float(lines[0][0].split()[1]), float(lines[1][0].split()[1]), float(lines[0][1].split()[1])]
    np.testing.assert_allclose(apart, alone, atol=1e-5)
