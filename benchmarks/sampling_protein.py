"""Sections of benchmarks/sampling.py on proteins: energies and rotamers of villin, and many chains on a GPU."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from sampling_small import of_trajectories

from jaxcg.batching import batch_width
from jaxcg.energy import SoluteTempering, StereoFence
from jaxcg.run import run
from jaxcg.sampling import (
    HMC,
    AdaptiveChains,
    Chains,
    burn_in,
    find_torsions,
    heavy_hydrogen_masses,
    mean_effective_sample_size,
    rank_normalised_r_hat,
    torsion_mixing,
)
from jaxcg.sampling.tempering.exchange import ReplicaExchange
from jaxcg.sampling.tempering.ladder import Ladder, round_trips

#: Single-precision peak outside tensor cores, TFLOP/s, by words in the name of the device.
PEAKS = {"H100": 66.9, "H200": 66.9, "A100": 19.5, "L4": 30.3, "L40": 90.5, "RTX 4090": 82.6, "V100": 15.7}
#: Residues of villin whose chi1 plain chains from different relaxations leave in different wells most.
STUCK = (1,)
#: Ladders, rungs of each (a ladder takes as many gradients as so many chains), λ of the last and softening, nm².
LADDERS, RUNGS, WEAKEST, SEPARATION = 2, 8, 0.15, 0.02


class Angles:
    """Called with a state it gives torsion angles of every chain (of the first rung of every ladder)."""

    def __init__(self, torsions):
        self.torsions = torsions

    def __call__(self, state) -> jax.Array:
        if hasattr(state, "rungs"):
            return jax.vmap(self.torsions)(state.rungs.position[:, 0])
        return jax.vmap(self.torsions)(getattr(state, "chains", state).position)


def _warm(rows, case, settings, problem, count: int):
    """Chains at temperature from the relaxed starts, each of which may serve several."""
    starts = np.asarray(problem["starts"], np.float32)
    starts = starts[np.arange(count) % len(starts)]
    begun = time.perf_counter()
    burned = burn_in(
        problem["posterior"],
        jnp.asarray(starts),
        jax.random.key(0),
        masses=heavy_hydrogen_masses(problem["system"]),
        heat=settings.steps,
        hold=settings.steps,
    )
    rows.add(case, f"burn-in of {count} chains, with compilation", time.perf_counter() - begun, "s")
    rows.add(case, "temperature at its end", float(burned.temperature.mean()), "K")
    return burned.positions


def villin(rows, settings, peer) -> None:
    """Chains from independent relaxations: energy and chi1."""
    del peer
    problem = settings.problem("villin")
    count = len(problem["starts"])
    case = f"villin, HMC, heavy hydrogens, {count} chains from independent relaxations"
    x = _warm(rows, case, settings, problem, count)
    masses = heavy_hydrogen_masses(problem["system"])
    kernel = AdaptiveChains(Chains(HMC(problem["posterior"], masses, step_size=0.0015, steps=80)), warmup=10)
    infos, angles, spent = _timed(kernel, kernel.init(jax.random.key(1), x), settings, problem, warm_up=10)
    rows.add(case, "acceptance", infos.acceptance.mean())
    rows.add(case, "step size", 1000 * float(infos.step_size[-1].mean()), "fs")
    gradients = of_trajectories(infos).sum() * count
    rows.add(case, "gradients a second, all chains", gradients / spent, "1/s", better="higher")
    simulated = float((infos.steps * infos.step_size).sum(axis=0).mean())
    rows.add(case, "length of a chain", simulated, "ps")
    _judge(rows, case, np.asarray(infos.potential).T, angles, problem, spent)
    lowest = float(min(problem["posterior"].potential(jnp.asarray(s, jnp.float32)) for s in problem["starts"]))
    excess = float(infos.potential.mean()) - lowest
    expected = 0.5 * kernel.chains.kernel.geometry.dimension * float(problem["posterior"].thermal_energy)
    rows.add(case, "⟨U⟩ above the lowest minimum, over (d/2) kT", excess / expected)


def tempering(rows, settings, peer) -> None:
    """Replica exchange in which the side chains that plain chains leave apart are weakened, and they alone."""
    del peer
    problem = settings.problem("villin")
    system, posterior = problem["system"], problem["posterior"]
    stuck = np.isin(system.atom_residue, np.array(STUCK) - 1) & ~np.isin(system.atom_names, ("N", "H", "C", "O"))
    region = f"{stuck.sum()} atoms of {len(STUCK)} side chain(s)"
    case = f"villin, replica exchange, {LADDERS} ladders of {RUNGS} rungs, {region}"
    x = _warm(rows, case, settings, problem, LADDERS * RUNGS)
    fenced = eqx.tree_at(lambda p: p.energy, posterior, posterior.energy + StereoFence(system))
    kernel = HMC(fenced, heavy_hydrogen_masses(system), step_size=0.0012, steps=30)
    ladder = Ladder.geometric(float(posterior.temperature), coupling=WEAKEST, rungs=RUNGS)
    path = SoluteTempering(jnp.asarray(stuck, x.dtype), separation=SEPARATION)
    exchange = ReplicaExchange(kernel, ladder, path=path, warmup=20)
    start = exchange.init(jax.random.key(1), x.reshape(LADDERS, RUNGS, *x.shape[1:]))
    infos, angles, spent = _timed(exchange, start, settings, problem, warm_up=20)
    swaps = infos.swap_probability.sum(axis=(0, 1)) / infos.proposed.sum(axis=(0, 1))
    rows.add(case, "swaps accepted, mean", swaps.mean(), better="higher")
    rows.add(case, "swaps accepted, least of a pair", swaps.min(), better="higher")
    rows.add(case, "round trips of replicas", int(round_trips(infos.replica).sum()), better="higher")
    rows.add(case, "acceptance of trajectories", infos.rungs.acceptance.mean())
    _judge(rows, case, infos.rungs.potential[:, :, 0].T, angles, problem, spent)


def _timed(kernel, state, settings, problem, *, warm_up: int):
    """Infos, torsions (chains, draws, torsions) of draws worth ``seconds``, after steps that tune and warm."""
    observe = Angles(find_torsions(problem["system"]).only("chi1"))
    options: dict[str, Any] = {"observe": observe, "chunk": warm_up}
    tuned = run(kernel, state, jax.random.key(2), warm_up, **options).state
    begun = time.perf_counter()
    tuned = run(kernel, tuned, jax.random.key(3), warm_up, **options).state
    each = (time.perf_counter() - begun) / warm_up
    count = max(round(settings.seconds / each / warm_up), 2) * warm_up
    begun = time.perf_counter()
    found = run(kernel, tuned, jax.random.key(4), count, **options)
    return found.infos, np.swapaxes(found.observations, 0, 1), time.perf_counter() - begun


def _judge(rows, case, energy, angles, problem, spent) -> None:
    """Rows on how far energy and rotamers are mixed."""
    rows.add(case, "draws per chain", energy.shape[1], better="higher")
    rows.add(case, "ESS of the energy", mean_effective_sample_size(energy) / spent, "1/s", better="higher")
    rows.add(case, "R-hat of the energy", rank_normalised_r_hat(energy))
    torsions = find_torsions(problem["system"]).only("chi1")
    mixing = torsion_mixing(torsions, angles)
    rows.add(case, "chi1 torsions", len(torsions))
    rows.add(case, "chi1 that changed well in some chain", int((mixing.transitions.sum(axis=0) > 0).sum()))
    rows.add(case, "changes of well, all chains", int(mixing.transitions.sum()), better="higher")
    rows.add(case, "chi1 alike in all chains (R-hat below 1.1)", int((mixing.r_hat < 1.1).sum()), better="higher")
    size = np.where(np.isnan(mixing.bulk), 0, mixing.bulk)
    slowest = int(np.argmin(size))
    rows.add(
        case, f"ESS of the slowest chi1 ({torsions.names[slowest]})", size[slowest] / spent, "1/s", better="higher"
    )
    rows.add(case, "ESS of the median chi1", float(np.median(size)) / spent, "1/s", better="higher")
    worst = np.argsort(-np.nan_to_num(mixing.r_hat, nan=np.inf))
    for k in worst:
        shares = ", ".join(
            f"{name} {share:.2f}"
            for name, share in zip(mixing.wells(k), mixing.populations[k], strict=False)
            if np.isfinite(share)
        )
        rows.add(f"{case}: chi1", f"R-hat of {torsions.names[k]}; {shares}", float(mixing.r_hat[k]))


def gpu(rows, settings, peer, counts=(1, 64, 1024)) -> None:
    """Leapfrog steps a second by number of chains; share of the single-precision peak in the pair term."""
    del peer
    device = jax.devices()[0]
    peak = next((value for word, value in PEAKS.items() if word in device.device_kind), None)
    for name in ("villin", "ubiquitin"):
        problem = settings.problem(name)
        posterior = problem["posterior"]
        masses = heavy_hydrogen_masses(problem["system"])
        for count in counts if device.platform != "cpu" else (1, batch_width()):
            case = f"{name}, {problem['system'].n_atoms} atoms, {count} chains on {device.device_kind}"
            starts = np.asarray(problem["starts"], np.float32)
            x = jnp.asarray(starts[np.arange(count) % len(starts)])
            steps = 100 if device.platform != "cpu" else 10
            kernel = HMC(posterior, masses, step_size=1e-6, steps=steps)
            spent = _best(eqx.filter_jit(jax.vmap(_trajectory, (None, 0, None))), kernel, x, jnp.asarray(steps))
            rows.add(case, "leapfrog steps a second", count * (steps + 1) / spent, "1/s", better="higher")
            pairs = [term for term in posterior.energy.terms() if "Pair" in type(term).__name__ or _is_pairs(term)]
            for term in pairs:
                work = eqx.filter_jit(jax.vmap(jax.value_and_grad(lambda x, term: term(x)), (0, None)))
                seconds = _best(work, x, term)
                flops = work.lower(x, term).compile().compiled.cost_analysis().get("flops", np.nan)
                label = type(term).__name__
                rows.add(case, f"{label}, energy and force", 1e6 * seconds / count, "µs per chain")
                rows.add(case, f"{label}, counted by the compiler", 1e-12 * flops / seconds, "TFLOP/s", better="higher")
                if peak is not None:
                    share = 100e-12 * flops / seconds / peak
                    rows.add(case, f"{label}, share of the single-precision peak", share, "%", better="higher")


def _is_pairs(term) -> bool:
    return "nonbonded" in type(term).__module__ or "born" in type(term).__module__


def _trajectory(kernel, x, steps):
    v = kernel.geometry.thermal_velocities(jax.random.key(0), kernel.posterior.thermal_energy, x)
    return kernel.trajectory(x, v, jnp.float32(1e-6), steps)


def _best(function, *arguments) -> float:
    """Seconds of the best of five calls after the first."""
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        jax.block_until_ready(jax.tree.leaves(function(*arguments)))
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
