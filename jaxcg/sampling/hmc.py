"""Hamiltonian Monte Carlo on the fibre of a linear map, or in all of space for the soft posterior."""

from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from ..posterior import Posterior
from ..run import AbstractKernel
from ..typing import Array, AtomScalars, AtomVectors, PRNGKeyArray, Scalar
from .differences import energy_difference, potential_terms
from .geometry import Geometry

#: Energy error of a trajectory, in units of kT, from which it counts as divergent.
DIVERGENCE = 1000.0


class HMCState(NamedTuple):
    """State of one chain.

    Fields:
        position: (atoms, 3) nm, on the fibre if the posterior is exact.
        gradient: (atoms, 3) ∇U there, kJ/mol/nm.
        terms: (terms,) energy terms there, kJ/mol, in the widest enabled precision.
        step_size: ps.
        count: trajectories so far; sets the jittered trajectory length.
    """

    position: Array
    gradient: Array
    terms: Array
    step_size: Array
    count: Array


class HMCInfo(NamedTuple):
    """What happened in one trajectory.

    Fields:
        acceptance: acceptance probability min(1, exp(−ΔH/kT)).
        accepted: whether the proposal was taken.
        divergent: ΔH was not finite or above `DIVERGENCE` kT.
        energy_error: ΔH, kJ/mol.
        potential: −kT log p(x|y) after the step, kJ/mol.
        step_size: ps.
        steps: leapfrog steps taken.
    """

    acceptance: Array
    accepted: Array
    divergent: Array
    energy_error: Array
    potential: Array
    step_size: Array
    steps: Array


class HMC(AbstractKernel):
    """Hamiltonian Monte Carlo with velocity Verlet in the null space of the map.

    Velocities are drawn from the constrained Maxwell-Boltzmann law, forces are projected in the mass metric, and
    each step ends with a retraction, so every sample lies on the fibre to round-off. For a linear map all of this is
    exact: the integrator is time-reversible and keeps the volume of the fibre, so with the Metropolis test the target is
    p(x|y) for any masses and step size.

    The number of leapfrog steps is jittered, always: uniform on 1 … 2·steps − 1 by a Weyl sequence in the number
    of trajectories. It depends on nothing random, so all chains of a batch take trajectories of one length and none
    waits for another.

    Arguments:
        posterior: the target.
        masses: (atoms,) amu; physical, or `heavy_hydrogen_masses`, or anything positive.
        step_size: starting step size, ps (1 fs = 0.001).
        steps: mean number of leapfrog steps of a trajectory.

    Source: Duane et al., Phys. Lett. B 195, 216 (1987); Neal, Handbook of MCMC, ch. 5 (2011); on a linear constraint,
    Lelièvre, Rousset & Stoltz, Math. Comput. 81, 2071 (2012).
    """

    posterior: Posterior
    geometry: Geometry
    step_size: Array
    steps: Array

    def __init__(self, posterior: Posterior, masses: AtomScalars, *, step_size: float = 0.001, steps: int = 50):
        if not step_size > 0 or steps < 1:
            raise ValueError(f"HMC: step_size ({step_size}) must be positive and steps ({steps}) at least 1.")
        self.posterior = posterior
        self.geometry = Geometry(posterior, masses)
        self.step_size = jnp.asarray(step_size, dtype=posterior.y.dtype)
        self.steps = jnp.asarray(steps, dtype=jnp.int32)

    def init(self, key: PRNGKeyArray, position: AtomVectors) -> HMCState:
        """State at ``position``, moved to the nearest point of the fibre. ``key`` is not used."""
        del key
        x = self.geometry.retract(jnp.asarray(position), self.posterior.y.astype(position.dtype))
        return HMCState(
            position=x,
            gradient=self._gradient(x),
            terms=potential_terms(self.posterior, x),
            step_size=self.step_size.astype(x.dtype),
            count=jnp.zeros((), jnp.int32),
        )

    def step(self, key: PRNGKeyArray, state: HMCState) -> tuple[HMCState, HMCInfo]:
        """One trajectory and its Metropolis test."""
        velocity_key, metropolis_key = jax.random.split(key)
        x = state.position
        thermal_energy = self.posterior.thermal_energy
        velocity = self.geometry.thermal_velocities(velocity_key, thermal_energy, x)
        steps = jittered_steps(state.count, self.steps)
        new_x, new_velocity, new_gradient = self.trajectory(x, velocity, state.gradient, state.step_size, steps)
        new_terms = potential_terms(self.posterior, new_x)
        error = energy_difference(state.terms, new_terms, velocity, new_velocity, self.geometry.masses)
        divergent = ~(error < DIVERGENCE * thermal_energy)  # true for NaN
        log_ratio = jnp.where(divergent, -jnp.inf, -error / thermal_energy)
        uniform = jax.random.uniform(metropolis_key, (), log_ratio.dtype)
        accepted = jnp.log1p(-uniform) < log_ratio  # 1 − u lies in (0, 1]: its logarithm is finite

        def choose(new, old):
            return jnp.where(accepted, new, old)

        new_state = HMCState(
            position=choose(new_x, x),
            gradient=choose(new_gradient, state.gradient),
            terms=choose(new_terms, state.terms),
            step_size=state.step_size,
            count=state.count + 1,
        )
        info = HMCInfo(
            acceptance=jnp.exp(jnp.minimum(log_ratio, 0.0)).astype(x.dtype),
            accepted=accepted,
            divergent=divergent,
            energy_error=error,
            potential=jnp.sum(new_state.terms),
            step_size=state.step_size,
            steps=steps,
        )
        return new_state, info

    def trajectory(
        self, x: AtomVectors, velocity: AtomVectors, gradient: AtomVectors, step_size: Scalar, steps: Array
    ) -> tuple[Array, Array, Array]:
        """``steps`` velocity-Verlet steps on the fibre: ``(x, velocity, gradient)`` at the end.

        One gradient, one projection and one retraction per step: the half kicks of neighbouring steps are merged.
        """
        y = self.posterior.y.astype(x.dtype)
        move = self.geometry

        def leapfrog(_, carry):
            x, v, _ = carry
            x = move.retract(x + step_size * v, y)
            gradient = self._gradient(x)
            return x, move.project(v + step_size * move.acceleration(gradient)), gradient

        v = move.project(velocity + 0.5 * step_size * move.acceleration(gradient))
        x, v, gradient = lax.fori_loop(0, steps, leapfrog, (x, v, gradient))
        return x, move.project(v - 0.5 * step_size * move.acceleration(gradient)), gradient

    def rebuild(self, state: HMCState) -> Self:
        """The same kernel with the energy's pair lists made anew around the state."""
        return eqx.tree_at(lambda k: k.posterior, self, self.posterior.rebuild(state.position))

    def _gradient(self, x: AtomVectors) -> Array:
        return jax.grad(self.posterior.potential)(x)


def jittered_steps(count: Array, mean: Array) -> Array:
    """Number of leapfrog steps of trajectory ``count``: uniform on 1 … 2·mean − 1.

    A Weyl sequence with the golden ratio in 32-bit arithmetic: low-discrepancy, exact for any count.
    """
    fraction = (count.astype(jnp.uint32) + 1) * jnp.uint32(0x9E3779B9)
    fraction = (fraction >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    return 1 + jnp.floor(fraction * (2 * mean - 1)).astype(jnp.int32)
