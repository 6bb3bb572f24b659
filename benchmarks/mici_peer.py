"""The peer of benchmarks/sampling.py: one chain of mici on a prepared problem, by its dynamic (NUTS) sampler.

    python benchmarks/mici_peer.py problem.npz out.npz MODE SECONDS SEED [LEAST]

MODE is ``constrained``, M(x) = y by mici's projected leapfrog in all coordinates, or ``reduced``, plain dynamics of the
coordinates of an orthonormal basis of the null space of M, which needs no projection. Both have the physical masses and
the same energy and gradient, compiled by JAX in double precision; mici adapts its step size in the first transitions.
Sampling stops after SECONDS, or later where fewer than LEAST transitions were made. Chains run one process each.

The file written has, after the warm-up: draws (transitions, 5) of the energy in kT and cos φ, sin φ, cos ψ, sin ψ;
seconds; gradients.
"""

import os
import sys
import time
from importlib.metadata import version

# One core per chain: processes side by side would share threads badly.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import mici
import numpy as np

from jaxcg.io.problem import load_problem

WARM_UP, BLOCK = 150, 50


def main(problem: str, out: str, mode: str, seconds: float, seed: int, least: int) -> None:
    """Samples and writes."""
    loaded = load_problem(problem)
    posterior, masses, start = loaded["posterior"], np.asarray(loaded["masses"]), np.asarray(loaded["start"])
    posterior = jax.tree.map(_widen, posterior)
    matrix = np.kron(posterior.mapping.matrix().toarray(), np.eye(3))
    beads = np.asarray(posterior.y, np.float64).ravel()
    weights = np.repeat(masses, 3)
    # Onto the fibre to the last digit of double precision.
    x0 = start.astype(np.float64).ravel()
    x0 = x0 - matrix.T @ np.linalg.solve(matrix @ matrix.T, matrix @ x0 - beads)
    thermal = float(posterior.thermal_energy)
    energy = jax.jit(jax.value_and_grad(lambda x: posterior.energy(x.reshape(-1, 3)) / thermal))
    counted = {"gradients": 0}

    def gradient(x):
        value, slope = energy(x)
        counted["gradients"] += 1
        return np.asarray(slope), float(value)

    rng = np.random.default_rng(seed)
    if mode == "constrained":
        system = mici.systems.DenseConstrainedEuclideanMetricSystem(
            neg_log_dens=lambda x: float(energy(x)[0]),
            grad_neg_log_dens=gradient,
            constr=lambda x: matrix @ x - beads,
            jacob_constr=lambda x: matrix,
            metric=mici.matrices.PositiveDiagonalMatrix(weights / thermal),
        )
        integrator = mici.integrators.ConstrainedLeapfrogIntegrator(system)
        position, to_atoms = x0, lambda x: x
    else:
        root = np.sqrt(weights / thermal)
        _, _, right = np.linalg.svd(matrix / root)
        basis = right[len(beads) :].T / root[:, None]

        def reduced(q):
            slope, value = gradient(x0 + basis @ q)
            return basis.T @ slope, value

        system = mici.systems.EuclideanMetricSystem(
            neg_log_dens=lambda q: float(energy(x0 + basis @ q)[0]), grad_neg_log_dens=reduced
        )
        integrator = mici.integrators.LeapfrogIntegrator(system)
        position, to_atoms = np.zeros(basis.shape[1]), lambda q: x0 + basis @ q
    sampler = mici.samplers.DynamicMultinomialHMC(system, integrator, rng)
    torsions = np.asarray(loaded["torsions"])

    def trace(state):
        x = to_atoms(state.pos).reshape(-1, 3)
        return {"draws": np.concatenate([[system.neg_log_dens(state)], *(_circle(x, atoms) for atoms in torsions)])}

    settings = {"trace_funcs": [trace], "display_progress": False}
    gradient(x0)
    state = sampler.sample_chains(WARM_UP, 1, [position], **settings).final_states[0]
    counted["gradients"], start_time, draws, spent = 0, time.perf_counter(), [], 0.0
    while spent < seconds or BLOCK * len(draws) < least:
        done = sampler.sample_chains(0, BLOCK, [state], adapters=[], **settings)
        state = done.final_states[0]
        draws.append(done.traces["draws"][0])
        spent = time.perf_counter() - start_time
    np.savez(
        out,
        draws=np.concatenate(draws),
        seconds=spent,
        gradients=counted["gradients"],
        step_size=integrator.step_size,
        version=version("mici"),
    )


def _circle(x, atoms) -> np.ndarray:
    a, b, c, d = x[atoms]
    axis = (c - b) / np.linalg.norm(c - b)
    first, last = np.cross(b - a, axis), np.cross(axis, d - c)
    angle = np.arctan2(np.cross(first, last) @ axis, first @ last)
    return np.array([np.cos(angle), np.sin(angle)])


def _widen(leaf):
    return jnp.asarray(leaf, jnp.float64) if hasattr(leaf, "dtype") and np.issubdtype(leaf.dtype, np.floating) else leaf


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*given[:3], float(given[3]), int(given[4]), int(given[5]) if len(given) > 5 else 0)
