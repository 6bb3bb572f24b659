"""Sections of benchmarks/sampling.py on alanine dipeptide, and the cost of a step."""

import os
import sys
import time
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


class Drawn(NamedTuple):
    """Draws (chains, draws) of each quantity; seconds, gradients of all chains, acceptance, compile seconds."""

    draws: dict[str, np.ndarray]
    seconds: float
    gradients: int
    acceptance: float | None
    compilation: float
    step_size: float


def sampled(kernel: AbstractKernel, state: Any, seconds: float, *, gradients, warm_up: int = WARM_UP) -> Drawn:
    """Runs for about ``seconds`` after ``warm_up`` steps that tune and a few that show how long a step takes.

    ``gradients`` counts the gradient evaluations of one chain in infos.
    """
    observe = Torsions(tuple(map(tuple, TORSIONS.tolist())))
    chunk = 10
    settings: dict[str, Any] = {"observe": observe, "chunk": chunk}
    start = time.perf_counter()
    tuned = run(kernel, state, jax.random.key(1), warm_up, **settings)
    first = time.perf_counter() - start
    start = time.perf_counter()
    state = run(kernel, tuned.state, jax.random.key(2), 2 * chunk, **settings).state
    each = (time.perf_counter() - start) / (2 * chunk)
    count = max(round(seconds / each / chunk), 2) * chunk
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
        compilation=max(first - each * warm_up, 0.0),
        step_size=float(np.asarray(infos.step_size)[-1].mean()),
    )


def of_trajectories(infos) -> np.ndarray:
    """Gradients of one chain in every trajectory: one more than steps."""
    return 1 + infos.steps[:, 0]


def of_steps(infos) -> np.ndarray:
    """One gradient a step."""
    return np.ones(len(infos.potential))


def samplers(posterior, system, starts) -> dict[str, tuple[AbstractKernel, Any]]:
    """Every sampler and mass of the dipeptide, and what counts its gradients."""
    physical, heavy = np.asarray(system.masses), heavy_hydrogen_masses(system)
    blocks = AtomBlocks(posterior.mapping)
    hessian = mean_hessian(posterior, blocks, starts[:HESSIANS], jax.random.key(7))
    dense = stiffness_geometry(posterior, blocks, hessian)

    def hmc(masses, step_size, steps):
        kernel = Chains(HMC(posterior, masses, step_size=step_size, steps=steps), vectorized=True)
        return AdaptiveChains(kernel, warmup=WARM_UP), of_trajectories

    def tuned(masses, step_size, steps, persistence=0.0, tune_length=True, target=0.8):
        kernel = GeneralizedHMC(posterior, masses, step_size=step_size, steps=steps, persistence=persistence)
        chains = Chains(kernel, vectorized=True)
        return SelfTuningChains(chains, warmup=WARM_UP, tune_length=tune_length, target=target), of_trajectories

    langevin = Chains(Langevin(posterior, physical, step_size=0.0005, friction=20.0), vectorized=True)
    return {
        "HMC, physical masses, 20 steps": hmc(physical, 0.001, 20),
        "HMC, heavy hydrogens, 20 steps": hmc(heavy, 0.0015, 20),
        "HMC, heavy hydrogens, 80 steps": hmc(heavy, 0.002, 80),
        "HMC, heavy hydrogens, length tuned": tuned(heavy, 0.002, 40),
        "generalised HMC, physical masses, 10 steps": tuned(physical, 0.001, 10, 0.8, False, 0.98),
        "HMC, dense mean Hessian, 10 steps": hmc(dense, 0.002, 10),
        "HMC, dense mean Hessian, length tuned": tuned(dense, 0.002, 10),
        "Langevin 0.5 fs, not adjusted": (langevin, of_steps),
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
    begun = time.perf_counter()
    chosen = samplers(posterior, system, warm.positions)
    rows.add(case, f"mean of {min(HESSIANS, settings.chains)} Hessians", time.perf_counter() - begun, "s")
    best, best_per_gradient = {name: (0.0, "") for name in NAMES}, 0.0
    for label, (kernel, gradients) in chosen.items():
        if settings.samplers not in label:
            continue
        print(label, file=sys.stderr, flush=True)
        start = kernel.init(jax.random.key(3), warm.positions)
        drawn = sampled(kernel, start, settings.seconds, gradients=gradients)
        if drawn.acceptance is not None:
            rows.add(label, "acceptance", drawn.acceptance)
        rows.add(label, "step size", 1000 * drawn.step_size, "fs")
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
        rows.add(label, "compilation", drawn.compilation, "s")
    if best_per_gradient:
        case = "dipeptide, best of ours"
        rows.add(case, "ESS of cos φ per 1000 gradients", best_per_gradient, better="higher", limit=13)
    against(rows, settings, peer, problem, np.asarray(warm.positions[0]), best)


def against(rows, settings, peer, problem, start, best) -> None:
    """The peer's two forms beside our best."""
    if not peer.ready:
        return
    file = Path(settings.problems.get("dipeptide") or ".").parent / f"mici-{os.getpid()}.npz"
    extra = {"masses": problem["masses"], "start": start, "torsions": TORSIONS}
    save_problem(file, problem["posterior"], problem["system"], **extra)
    processes = len(os.sched_getaffinity(0))
    try:
        for mode, words in (("constrained", "constrained form"), ("reduced", "null-space coordinates")):
            chains = peer(str(file), mode, 2 * settings.seconds, processes)
            case = f"mici, {words}, {processes} chains side by side"
            rate = sum(int(one["gradients"]) / float(one["seconds"]) for one in chains)
            rows.add(case, "gradients a second", rate, "1/s")
            for column, name in enumerate(("energy", "cos φ", "", "cos ψ")):
                if not name:
                    continue
                each = [mean_effective_sample_size(one["draws"][None, :, column]) for one in chains]
                per_second = sum(size / float(one["seconds"]) for size, one in zip(each, chains, strict=True))
                gradients = sum(int(one["gradients"]) for one in chains)
                rows.add(case, f"ESS of {name} per 1000 gradients", 1000 * sum(each) / gradients)
                ours, label = best[name]
                rows.add(
                    case,
                    f"ESS of {name} a second; ours: {label}",
                    ours,
                    "1/s",
                    better="higher",
                    peer=peer.name,
                    peer_value=per_second,
                )
                times = ours / (per_second / processes)
                rows.add(case, f"ESS of {name}: times one chain of the peer", times, better="higher", limit=50)
    finally:
        file.unlink()


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
