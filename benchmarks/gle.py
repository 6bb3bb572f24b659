"""Generalised Langevin dynamics beside GLEQPy: steps a second, bias of the step, gradients, memory extraction.

    python benchmarks/gle.py [--sections ABCDE] [--json rows.json] [--markdown rows.md] [--no-peer]

The peer (https://github.com/afarahva/gleqpy, MIT licence, on the package index) is installed into an environment of its
own in the cache folder, and run in turn with ours. Sections:
A steps of a harmonic system with an exponential kernel, by number of coordinates and of auxiliary variables;
B bias of the step: ⟨x²⟩ and temperature where splittings that treat the memory apart go wrong;
C a stiff kernel: five exponentials from 7 fs to 5 ns in a double well;
D gradient through a trajectory against the trajectory alone, time and memory;
E two million frames to a memory kernel.

Ours in single precision unless said otherwise, the peer in double, the only one it has; a "dof-step" is one step of one
coordinate. Compilation is timed apart. The errors of section B are from samples: 0.1 to 0.2 % of them is chance.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import venv
from datetime import date
from pathlib import Path

import numpy as np

from jaxcg.cli.environment import configure_jax

configure_jax()

import equinox as eqx
import jax
import jax.numpy as jnp
from rows import Rows, new_rows

from jaxcg.dynamics import (
    GLE,
    PassiveKernel,
    PronyKernel,
    memory_from_velocities,
    rollout,
    simulate,
)
from jaxcg.energy import DoubleWell, HarmonicPotential
from jaxcg.run import run
from jaxcg.units import GAS_CONSTANT

HOME = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxcg" / "benchmarks" / "gleqpy"
ON_CPU = jax.default_backend() == "cpu"
#: kT = 1.
TEMPERATURE = 1 / GAS_CONSTANT
DOUBLE = (1_000, 100_000) if ON_CPU else (10_000, 1_000_000, 10_000_000)
REPEATS = 5

#: Common start of the peer's scripts: a harmonic well of ω = m = kT = 1 and its matrices for a kernel.
_PEER = """
import json, sys, time
import numpy as np
import gleqpy.md.dynamics as md
import gleqpy.md.forcefield as forcefield
given = json.loads(sys.argv[1])
md.kb = 1.0
def integrator(count, dt, A, B):
    A, B = np.array(A), np.array(B)
    system = md.System(1.0, nsys=count, ndim=1, box_dim=1000)
    system.pos, system.vel = np.random.normal(size=(2, count, 1))
    field = forcefield.ff_harm(count, 1, 1.0, np.zeros((count, 1)))
    gle = md.GLD(system, field, dt, 1.0, A[1:, 1:], A[:1, 1:], A[1:, :1], B)
    gle.set_bathstate(np.random.normal(size=(count, len(A) - 1, 1)))
    return gle, system
"""
_PEER_SPEED = """
seconds = []
gle, _ = integrator(given["count"], 0.05, given["A"], given["B"])
gle.run(3)
for _ in range(given["repeats"]):
    start = time.perf_counter()
    gle.run(given["steps"])
    seconds.append((time.perf_counter() - start) / given["steps"])
print(json.dumps(min(seconds)))
"""
_PEER_BIAS = """
np.random.seed(1)
gle, system = integrator(given["count"], given["dt"], given["A"], given["B"])
gle.run(given["settle"])
x2 = v2 = 0.0
for _ in range(given["samples"]):
    gle.run(given["apart"])
    x2 += np.mean(system.pos**2) / given["samples"]
    v2 += np.mean(system.vel**2) / given["samples"]
print(json.dumps([x2, v2]))
"""
_PEER_MEMORY = """
from gleqpy.memory import time as memory
data = np.load(given["file"])
start = time.perf_counter()
v, a, f = (data[name] for name in ("v", "a", "f"))
lags = given["lags"]
def tcf(first, second):
    return memory.calc_tcf(first, second, max_t=lags, mode="scipy").mean(axis=1)
vv, av, fv = tcf(v, v), tcf(v, a), tcf(v, f)
print(json.dumps(time.perf_counter() - start))
"""


class Gleqpy:
    """Runs GLEQPy in its own environment, made at the first need; `Gleqpy.ready` says whether there is one."""

    def __init__(self, home: Path, wanted: bool):
        self.python = home / "bin" / "python"
        if wanted and not self.python.exists():
            venv.create(home, with_pip=True)
            subprocess.run([str(self.python), "-m", "pip", "install", "-q", "gleqpy", "ase"], check=False)
        self.ready = wanted and self._ask("import gleqpy.md.dynamics").returncode == 0
        self.name = None
        if self.ready:
            answer = self._ask("from importlib.metadata import version; print(version('gleqpy'))")
            self.name = f"GLEQPy {answer.stdout.strip()}"

    def __call__(self, script: str, **given):
        """The last line that ``script`` prints, or None without the peer."""
        if not self.ready:
            return None
        import json

        words = [str(self.python), "-c", _PEER + script, json.dumps(given)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        return json.loads(done.stdout.splitlines()[-1])

    def _ask(self, script: str):
        return subprocess.run([str(self.python), "-c", script], capture_output=True, text=True, check=False)


def peer_matrices(kernel) -> dict:
    """The drift and noise matrices of a kernel at m = kT = 1, in the peer's convention."""
    from jaxcg.dynamics import Embedding

    embedding = Embedding.of(kernel)
    generator = np.asarray(embedding.generator(1.0), np.float64)
    drift = np.asarray(embedding.drift, np.float64)
    noise = np.linalg.cholesky(drift + drift.T + 1e-12 * np.eye(len(drift)))
    return {"A": generator.tolist(), "B": noise.tolist()}


def prony(auxiliaries: int, dtype=jnp.float32) -> PronyKernel:
    """Exponentials of strength and rate 1, 2, …"""
    rates = np.arange(1, auxiliaries + 1)
    return PronyKernel(jnp.asarray(2.0 / rates, dtype), jnp.asarray(1.0 * rates, dtype))


def harmonic(kernel, dt: float = 0.05) -> GLE:
    """ω = m = kT = 1."""
    return GLE(HarmonicPotential(jnp.float32(1)), kernel, 1.0, time_step=dt, temperature=TEMPERATURE)


def timed(call) -> tuple[float, float]:
    """Seconds of the first call, with compilation, and the best of the later ones."""
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return seconds[0], min(seconds[1:])


def speed(rows: Rows, peer: Gleqpy) -> None:
    """Section A."""
    for count in DOUBLE:
        for auxiliaries in (1, 4):
            gle = harmonic(prony(auxiliaries))
            steps = max(min(20_000_000 // count, 10_000) // 10 * 10, 10)
            case = f"A: harmonic, {count} coordinates, {auxiliaries} auxiliary variables"
            theirs = None
            if count <= 100_000:
                each = peer(
                    _PEER_SPEED,
                    count=count,
                    repeats=REPEATS,
                    steps=max(2_000_000 // count, 5),
                    **peer_matrices(prony(auxiliaries)),
                )
                theirs = None if each is None else count / each
            key = jax.random.key(0)
            start = gle.init(key, jnp.zeros(count, jnp.float32))
            first, best = timed(lambda g=gle, s=start, k=key, n=steps: run(g, s, k, n, every=n, chunk=n).state)
            must = 1e8 if (count, auxiliaries) == (100_000, 1) else None
            figure = count * steps / best
            rows.add(case, "one system", figure, "dof-steps/s", better="higher", peer=peer.name, peer_value=theirs)
            places = jnp.zeros(count, jnp.float32)
            first, best = timed(lambda g=gle, x=places, k=key, n=steps: simulate(g, x, n, k, every=n, chunk=n).state)
            rows.add(
                case,
                "as many trajectories",
                count * steps / best,
                "dof-steps/s",
                better="higher",
                peer=peer.name,
                peer_value=theirs,
                limit=must,
            )
            rows.add(case, "compilation of the trajectories", first - best, "s")
            if not ON_CPU:
                # What memory allows if each step reads and writes the state once.
                copied = jnp.zeros((2 + auxiliaries, count), jnp.float32)
                twice = jax.jit(lambda a: a + 1)
                _, once = timed(lambda c=copied, f=twice: f(c))
                rows.add(case, "share of the memory limit", 100 * figure * once / count, "%", better="higher")


def bias(rows: Rows, peer: Gleqpy) -> None:
    """Section B."""
    oscillating = PassiveKernel([np.sqrt(3.0), 0.0], [[0.0, 2.0], [0.0, 0.0]], np.eye(2))
    for name, kernel in (("exponential", prony(1, jnp.float64)), ("oscillating", oscillating)):
        for dt in (0.05, 0.2):
            case = f"B: {name} kernel, ω dt = {dt}"
            apart, samples, count = int(2 / dt), 100, 20_000
            theirs = peer(
                _PEER_BIAS,
                count=count,
                dt=dt,
                settle=int(20 / dt),
                samples=samples,
                apart=apart,
                **peer_matrices(kernel),
            )
            gle = GLE(HarmonicPotential(1.0), kernel, 1.0, time_step=dt, temperature=TEMPERATURE)
            state = gle.init(jax.random.key(0), jax.random.normal(jax.random.key(1), (count,), jnp.float64))
            ready = run(gle, state, jax.random.key(2), apart * 10, every=apart, chunk=apart * 10).state
            seen = run(gle, ready, jax.random.key(3), apart * samples, every=apart, observe=_squares).observations
            for at, what in enumerate(("⟨x²⟩", "⟨v²⟩")):
                ours = abs(float(np.mean(seen[at])) - 1)
                other = None if theirs is None else abs(theirs[at] - 1)
                rows.add(case, f"error of {what}, exact 1", 100 * ours, "%", peer=peer.name, peer_value=_percent(other))


def _squares(state):
    return jnp.mean(state.position**2), jnp.mean(state.velocity**2)


def _percent(value):
    return None if value is None else 100 * value


def stiff(rows: Rows, peer: Gleqpy) -> None:
    """Section C."""
    del peer
    friction = np.array([2153.047, 11519.97, 42295.49, 236354.6, 57311.56])
    times = np.array([6.792e-3, 4.556, 40.34, 399.26, 4965.8])
    mass, thermal = 31.34617, 2.494
    kernel = PronyKernel(friction / times, 1 / times)
    energy = DoubleWell(2 * thermal, 0.3)
    for dt in (0.001, 0.01):
        case = f"C: five exponentials from 7 fs to 5 ns, double well, dt = {1000 * dt:g} fs, double precision"
        gle = GLE(energy, kernel, mass, time_step=dt, temperature=thermal / GAS_CONSTANT)
        count, steps = 1000, 20_000
        start = 0.3 * jnp.where(jnp.arange(count) % 2, 1.0, -1.0)
        key = jax.random.key(0)
        first, best = timed(lambda g=gle, x=start, k=key, n=steps: simulate(g, x, n, k, every=n, chunk=n).state)
        rows.add(case, "1000 trajectories", 1e-3 * count * steps * dt / best * 86400, "ns/day", better="higher")
        made = simulate(gle, start, steps, key, every=100)
        rows.add(
            case, "kinetic temperature over the bath's", 100 * made.temperature.mean() * GAS_CONSTANT / thermal, "%"
        )
        rows.add(case, "compilation", first - best, "s")


def gradient(rows: Rows, peer: Gleqpy) -> None:
    """Section D."""
    del peer
    count = 10_000 if ON_CPU else 1_000_000
    key = jax.random.key(0)
    places = jnp.zeros(count, jnp.float32)
    for steps in (256, 1024):
        case = f"D: {count} coordinates, {steps} steps, gradient by potential, kernel and start"
        gle = harmonic(prony(1))
        start = gle.init(key, places)

        def loss(gle, start, key=key, steps=steps):
            return jnp.mean(rollout(gle, start, key, steps)[0].position ** 2)

        forward = eqx.filter_jit(loss)
        both = eqx.filter_jit(lambda pair: eqx.filter_value_and_grad(lambda p: loss(*p))(pair))
        _, alone = timed(lambda f=forward, g=gle, s=start: f(g, s))
        compiled, graded = timed(lambda f=both, g=gle, s=start: jax.tree.leaves(f((g, s))))
        rows.add(case, "forward", alone, "s")
        rows.add(case, "forward and gradient over forward", graded / alone, "", limit=4)
        rows.add(case, "compilation of the gradient", compiled - graded, "s")
        memory = both.lower((gle, start)).compile().compiled.memory_analysis()
        if memory is not None:
            rows.add(case, "temporary memory over that of one state", memory.temp_size_in_bytes / (16 * count), "")


def extraction(rows: Rows, peer: Gleqpy) -> None:
    """Section E."""
    count, frames, lags, dt = 1000, 2000, 100, 0.05
    gle = harmonic(prony(1, jnp.float64), dt)
    made = simulate(gle, jnp.zeros(count), frames, jax.random.key(0))
    x, v = made.positions, made.velocities
    case = f"E: kernel from {count} trajectories of {frames} frames, {lags} lags"
    energy = HarmonicPotential(1.0)
    options = {"lags": lags, "positions": x, "energy": energy, "blocks": 100}
    first, best = timed(lambda: jnp.asarray(memory_from_velocities(v, 1.0, dt, resamples=2, **options).kernel_error))
    theirs = None
    if peer.ready:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.npz"
            acceleration = np.gradient(v, dt, axis=1)
            np.savez(path, v=v.T, a=acceleration.T, f=-x.T)
            theirs = peer(_PEER_MEMORY, file=str(path), lags=lags)
    rows.add(
        case, "correlations, mean force, kernel (peer: correlations)", best, "s", peer=peer.name, peer_value=theirs
    )
    rows.add(case, "compilation", first - best, "s")
    _, booted = timed(lambda: jnp.asarray(memory_from_velocities(v, 1.0, dt, resamples=100, **options).kernel_error))
    rows.add(case, "with error bars from 100 bootstrap samples", booted, "s")


SECTIONS = {"A": speed, "B": bias, "C": stiff, "D": gradient, "E": extraction}


def main() -> int:
    """Runs the sections asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", default="".join(SECTIONS))
    parser.add_argument("--no-peer", action="store_true", help="leave the peer's columns empty")
    parser.add_argument("--json", metavar="PATH")
    parser.add_argument("--markdown", metavar="PATH")
    arguments = parser.parse_args()
    peer = Gleqpy(HOME, not arguments.no_peer)
    if not peer.ready:
        print("GLEQPy is not there; its columns stay empty.", file=sys.stderr)
    rows = new_rows()
    for name in arguments.sections:
        SECTIONS[name](rows, peer)
    packages = ", ".join(f"{name} {number}" for name, number in rows.versions.items())
    heading = ["# Generalised Langevin dynamics", "", f"{date.today()}; {rows.device}; {packages}.", ""]
    lines = [*heading, __doc__.split("\n\n")[-1].strip(), *rows.lines()]
    print("\n".join(lines))
    if arguments.markdown:
        Path(arguments.markdown).write_text("\n".join(lines) + "\n")
    if arguments.json:
        rows.write(arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
