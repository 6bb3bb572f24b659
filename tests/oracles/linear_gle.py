"""Exactly sampled trajectories of a coordinate with exponential memory, free or in a harmonic well, and their C_vv."""

import numpy as np
from scipy.linalg import expm


def generator(strengths, rates, square=0.0, mass=1.0):
    """A in d(x, v, s) = A (x, v, s) dt + noise; ``square`` is ω² of the well."""
    strengths, rates = np.asarray(strengths), np.asarray(rates)
    size = len(rates) + 2
    drift = np.zeros((size, size))
    drift[0, 1], drift[1, 0] = 1.0, -square
    drift[1, 2:], drift[2:, 1] = -np.sqrt(strengths) / mass, np.sqrt(strengths)
    drift[2:, 2:] = -np.diag(rates)
    return drift


def velocity_correlation(strengths, rates, times, square=0.0, mass=1.0):
    """C_vv at equally spaced times from 0, kT = 1."""
    step, now, found = expm(generator(strengths, rates, square, mass) * (times[1] - times[0])), None, []
    now = np.zeros(len(rates) + 2)
    now[1] = 1 / mass
    for _ in times:
        found.append(now[1])
        now = step @ now
    return np.array(found)


def sample(strengths, rates, spacing, trajectories, frames, *, square=0.0, mass=1.0, seed=0):
    """Positions, velocities and total forces (trajectories, frames) at kT = 1 from equilibrium, exactly."""
    rng = np.random.default_rng(seed)
    drift = generator(strengths, rates, square, mass)
    size = len(drift)
    diffusion = np.zeros((size, size))
    diffusion[2:, 2:] = 2 * np.diag(rates)
    # Van Loan's matrix exponential: the step, and the covariance of its noise.
    both = expm(np.block([[-drift, diffusion], [np.zeros_like(drift), drift.T]]) * spacing)
    step = both[size:, size:].T
    covariance = step @ both[:size, size:]
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    root = vectors * np.sqrt(np.maximum(values, 0))
    spread = np.ones(size)
    spread[0], spread[1] = (1 / np.sqrt(square * mass) if square else 0.0), 1 / np.sqrt(mass)
    state = rng.normal(size=(trajectories, size)) * spread
    made = np.empty((3, frames, trajectories))
    for i in range(frames):
        made[:2, i] = state[:, :2].T
        made[2, i] = mass * state @ drift[1]
        state = state @ step.T + rng.normal(size=state.shape) @ root.T
    return made[0].T, made[1].T, made[2].T
