"""Sections of benchmarks/sampling.py on alanine dipeptide, and the cost of a step."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxcg.io.problem import save_problem
from jaxcg.run import AbstractKernel, run
from jaxcg.sampling import (
    HMC,
    AdaptiveChains,
    Chains,
    GeneralizedHMC,
    Langevin,
    SelfTuningChains,
    burn_in,
    heavy_hydrogen_masses,
    mean_effective_sample_size,
    rank_normalised_r_hat,
    warm_up,
)
from jaxcg.sampling.adaptation.curvature import mean_hessian
from jaxcg.sampling.adaptation.metric import stiffness_geometry
from jaxcg.sampling.geometry.atom_blocks import AtomBlocks

#: Atoms of φ and ψ of the dipeptide.
TORSIONS = np.array([[4, 6, 8, 14], [6, 8, 14, 16]])
NAMES = ("energy", "cos φ", "cos ψ")
#: Configurations whose Hessians are averaged.
HESSIANS = 64
WARM_UP = 60


class Torsions(eqx.Module):
    """Called with a state it gives cos and sin of the torsions of every chain, (chains, 4)."""

    atoms: tuple = eqx.field(static=True)

    def __call__(self, state) -> jax.Array:
        chains = getattr(state, "chains", state)
        a, b, c, d = (chains.position[:, [quartet[k] for quartet in self.atoms]] for k in range(4))
        axis = c - b
        axis /= jnp.linalg.norm(axis, axis=-1, keepdims=True)
        first, last = jnp.cross(b - a, axis), jnp.cross(axis, d - c)
        angle = jnp.arctan2(jnp.sum(jnp.cross(first, last) * axis, -1), jnp.sum(first * last, -1))
        return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=1)


#: What every run of the dipeptide observes and how many steps it does at once: one program serves tuning and sampling.
OBSERVE = Torsions(tuple(map(tuple, TORSIONS.tolist())))
CHUNK = 10


class Drawn(NamedTuple):
    """Draws (chains, draws) of each quantity; seconds, gradients of all chains, acceptance, compile seconds."""

    draws: dict[str, np.ndarray]
    seconds: float
    gradients: int
    acceptance: float | None
    compilation: float
    step_size: float


def sampled(kernel: AbstractKernel, state: Any, seconds: float, *, gradients) -> Drawn:
    """Runs for about ``seconds`` after `WARM_UP` steps that tune and a few that show how long a step takes.

    ``gradients`` counts the gradient evaluations of one chain in infos.
    """
    settings: dict[str, Any] = {"observe": OBSERVE, "chunk": CHUNK}
    start = time.perf_counter()
    tuned = run(kernel, state, jax.random.key(1), WARM_UP, **settings)
    first = time.perf_counter() - start
    start = time.perf_counter()
    state = run(kernel, tuned.state, jax.random.key(2), 2 * CHUNK, **settings).state
    each = (time.perf_counter() - start) / (2 * CHUNK)
    count = max(round(seconds / each / CHUNK), 2) * CHUNK
    start = time.perf_counter()
    found = run(kernel, state, jax.random.key(3), count, **settings)
    spent = time.perf_counter() - start
    infos, chains = found.infos, found.observations.shape[1]
    circle = np.moveaxis(found.observations, 2, 0).swapaxes(1, 2)
    energy = getattr(infos, "energy", None)
    energy = np.asarray(infos.potential if energy is None else energy).T
    acceptance = float(infos.acceptance.mean()) if hasattr(infos, "acceptance") else None
    return Drawn(
        draws=dict(zip(NAMES, (energy, circle[0], circle[1]), strict=True)),
        seconds=spent,
        gradients=int(gradients(infos).sum()) * chains,
        acceptance=acceptance,
        compilation=max(first - each * WARM_UP, 0.0),
        step_size=float(np.asarray(infos.step_size)[-1].mean()),
    )


def of_trajectories(infos) -> np.ndarray:
    """Gradients of one chain in every trajectory: one more than steps."""
    return 1 + infos.steps[:, 0]


def of_steps(infos) -> np.ndarray:
    """One gradient a step."""
    return np.ones(len(infos.potential))


def samplers(posterior, system, positions) -> dict[str, Callable[[], tuple[AbstractKernel, Any, Callable]]]:
    """Every sampler and mass of the dipeptide: what makes its kernel, its first state, what counts its gradients."""
    physical, heavy = np.asarray(system.masses), heavy_hydrogen_masses(system)

    def started(kernel, gradients=of_trajectories):
        return kernel, kernel.init(jax.random.key(3), positions), gradients

    def hmc(masses, step_size, steps):
        kernel = Chains(HMC(posterior, masses, step_size=step_size, steps=steps), vectorized=True)
        return started(AdaptiveChains(kernel, warmup=WARM_UP))

    def dense():
        blocks = AtomBlocks(posterior.mapping)
        hessian = mean_hessian(posterior, blocks, positions[:HESSIANS], jax.random.key(7))
        return hmc(stiffness_geometry(posterior, blocks, hessian), 0.002, 10)

    def generalized():
        kernel = GeneralizedHMC(posterior, physical, step_size=0.001, steps=10, persistence=0.8)
        chains = Chains(kernel, vectorized=True)
        return started(SelfTuningChains(chains, warmup=WARM_UP, tune_length=False, target=0.98))

    def tuned(persistence):
        options: dict[str, Any] = {"heat": 0, "hold": 0, "observe": OBSERVE, "chunk": CHUNK}
        options |= {"adapt": "hessian", "persistence": persistence}
        found = warm_up(posterior, positions, jax.random.key(3), masses=heavy, **options)
        return found.kernel, found.state, of_trajectories

    def langevin():
        kernel = Langevin(posterior, physical, step_size=0.0005, friction=20.0)
        return started(Chains(kernel, vectorized=True), of_steps)

    return {
        "HMC, physical masses, 20 steps": lambda: hmc(physical, 0.001, 20),
        "HMC, heavy hydrogens, 80 steps": lambda: hmc(heavy, 0.002, 80),
        "generalised HMC, physical masses, 10 steps": generalized,
        "HMC, dense mean Hessian, 10 steps": dense,
        "warm_up(adapt='hessian'), persistence 0.5": lambda: tuned(0.5),
        "warm_up(adapt='hessian'), persistence 0.9": lambda: tuned(0.9),
        "Langevin 0.5 fs, not adjusted": langevin,
    }


def dipeptide(rows, settings, peer) -> None:
    """Effective samples a second and per gradient; the peer in its two forms."""
    problem = settings.problem("dipeptide")
    posterior, system = problem["posterior"], problem["system"]
    posterior = jax.tree.map(_single, posterior)
    starts = np.repeat(np.asarray(problem["starts"], np.float32)[:1], settings.chains, axis=0)
    begun = time.perf_counter()
    warm = burn_in(
        posterior,
        jnp.asarray(starts),
        jax.random.key(0),
        masses=problem["masses"],
        heat=settings.steps,
        hold=settings.steps,
    )
    case = f"dipeptide, {settings.chains} chains"
    rows.add(case, "burn-in of all chains, with compilation", time.perf_counter() - begun, "s")
    best, best_per_gradient = {name: (0.0, "") for name in NAMES}, 0.0
    for label, make in samplers(posterior, system, warm.positions).items():
        if settings.samplers not in label:
            continue
        print(label, file=sys.stderr, flush=True)
        begun = time.perf_counter()
        kernel, start, gradients = make()
        made = time.perf_counter() - begun
        drawn = sampled(kernel, start, settings.seconds, gradients=gradients)
        if drawn.acceptance is not None:
            rows.add(label, "acceptance", drawn.acceptance)
        rows.add(label, "step size", 1000 * drawn.step_size, "fs")
        rows.add(label, "gradients of a draw", drawn.gradients / drawn.draws["energy"].size)
        rows.add(label, "gradients a second", drawn.gradients / drawn.seconds, "1/s", better="higher")
        for name in NAMES:
            size = mean_effective_sample_size(drawn.draws[name])
            rows.add(label, f"ESS of {name}", size / drawn.seconds, "1/s", better="higher")
            rows.add(label, f"ESS of {name} per 1000 gradients", 1000 * size / drawn.gradients, better="higher")
            if drawn.acceptance is not None:
                best[name] = max(best[name], (size / drawn.seconds, label))
                if name == "cos φ":
                    best_per_gradient = max(best_per_gradient, 1000 * size / drawn.gradients)
        rows.add(label, "R-hat of cos φ", rank_normalised_r_hat(drawn.draws["cos φ"]))
        rows.add(label, "masses and tuning before the run, with compilation", made, "s")
        rows.add(label, "compilation of the run", drawn.compilation, "s")
    if best_per_gradient:
        case = "dipeptide, best of ours"
        rows.add(case, "ESS of cos φ per 1000 gradients", best_per_gradient, better="higher", limit=13)
    with tempfile.TemporaryDirectory() as folder:
        against(rows, settings, peer, problem, np.asarray(warm.positions[0]), best, Path(folder) / "problem.npz")


def against(rows, settings, peer, problem, start, best, file) -> None:
    """The peer's two forms beside our best: one chain with the machine to itself, and one on every core at once."""
    if not peer.ready:
        return
    extra = {"masses": problem["masses"], "start": start, "torsions": TORSIONS}
    save_problem(file, problem["posterior"], problem["system"], **extra)
    cores = len(os.sched_getaffinity(0))
    for mode, words in (("constrained", "constrained form"), ("reduced", "null-space coordinates")):
        for count in sorted({1, cores}):
            case = f"mici, {words}, " + ("one chain" if count == 1 else f"{count} chains, one on each core")
            print(case, file=sys.stderr, flush=True)
            chains = peer(str(file), mode, settings.seconds, count)
            gradients = sum(int(one["gradients"]) for one in chains)
            rows.add(case, "gradients a second", sum(int(c["gradients"]) / float(c["seconds"]) for c in chains), "1/s")
            for column, name in enumerate(("energy", "cos φ", "", "cos ψ")):
                if not name:
                    continue
                each = [mean_effective_sample_size(one["draws"][None, :, column]) for one in chains]
                theirs = sum(size / float(one["seconds"]) for size, one in zip(each, chains, strict=True))
                rows.add(case, f"ESS of {name} per 1000 gradients", 1000 * sum(each) / gradients)
                ours, label = best[name]
                metric = f"ESS of {name} a second; ours: {label}"
                rows.add(case, metric, ours, "1/s", better="higher", peer=peer.name, peer_value=theirs)
                # What must be reached is said of one chain; the ratio to all cores of the peer stands beside it.
                limit = 50 if count == 1 else None
                rows.add(case, f"ESS of {name}: times the peer", ours / theirs, better="higher", limit=limit)


def cost(rows, settings, peer) -> None:
    """One leapfrog step against one force evaluation, both in compiled loops on one core."""
    del peer
    for name, loops in (("dipeptide", 2000), ("villin", 60)):
        problem = settings.problem(name)
        posterior = jax.tree.map(_single, problem["posterior"])
        x = jnp.asarray(np.asarray(problem["starts"])[0], jnp.float32)
        masses = np.asarray(problem["masses"])
        group = None if name == "dipeptide" else np.asarray(problem["system"].atom_residue)
        blocks = AtomBlocks(posterior.mapping, group)
        metrics = {"one mass per atom": masses, "dense blocks": _unit_blocks(posterior, blocks, masses)}
        tasks = {"force": (_forces, posterior, x, x)}
        for label, metric in metrics.items():
            kernel = HMC(posterior, metric)
            v = kernel.geometry.thermal_velocities(jax.random.key(0), posterior.thermal_energy, x)
            tasks[label] = (_leaps, kernel, x, v)
        best = dict.fromkeys(tasks, np.inf)
        for turn in range(8):
            for label, (function, *arguments) in tasks.items():
                start = time.perf_counter()
                jax.block_until_ready(function(*arguments, jnp.asarray(loops)))
                if turn:
                    best[label] = min(best[label], (time.perf_counter() - start) / loops)
        case, force = f"cost of a step, {name}", best.pop("force")
        rows.add(case, "one force evaluation", 1e6 * force, "µs")
        for label, spent in best.items():
            rows.add(case, f"leapfrog step over force, {label}", spent / force, limit=1.25)


@eqx.filter_jit
def _forces(posterior, x, v, count):
    def one(_, x):
        # A force that moves next to nothing, which the compiler cannot know.
        return x - jnp.float32(1e-12) * jax.grad(posterior.potential)(x)

    del v
    return jax.lax.fori_loop(0, count, one, x)


@eqx.filter_jit
def _leaps(kernel, x, v, count):
    return kernel.trajectory(x, v, jnp.float32(1e-6), count - 1)


def _unit_blocks(posterior, blocks, masses):
    from jaxcg.sampling.geometry.blocks import BlockGeometry

    return BlockGeometry(posterior, blocks, blocks.diagonal(masses))


def _single(leaf):
    wide = hasattr(leaf, "dtype") and np.issubdtype(leaf.dtype, np.floating)
    return jnp.asarray(leaf, jnp.float32) if wide else leaf
