"""Hamiltonian Monte Carlo on the fibre, or in all of space for the soft posterior."""

from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from ...posterior import Posterior
from ...run import AbstractKernel
from ...typing import Array, AtomScalars, AtomVectors, PRNGKeyArray, Scalar
from ..geometry import AbstractGeometry, as_geometry
from .differences import energy_difference, potential_terms
from .pair_lists import PairLists

#: Energy error of a trajectory, in units of kT, from which it counts as divergent.
DIVERGENCE = 1000.0


class HMCState(NamedTuple):
    """State of one chain.

    Fields:
        position: (atoms, 3) nm, on the fibre if the posterior is exact.
        step_size: ps.
        count: trajectories so far; sets the jittered trajectory length.
    """

    position: Array
    step_size: Array
    count: Array


class HMCInfo(NamedTuple):
    """What happened in one trajectory.

    Fields:
        acceptance: acceptance probability min(1, exp(−ΔH/kT)).
        accepted: whether the proposal was taken.
        divergent: ΔH was not finite or above `DIVERGENCE` kT.
        irreversible: a step on curved constraints could not be undone, so the proposal was refused.
        energy_error: ΔH, kJ/mol.
        total_energy: H at the start of the trajectory, with its new velocities, kJ/mol: what E-BFMI is made of.
        energy: prior energy U(x) after the step, kJ/mol.
        potential: −kT log p(x|y) after the step, kJ/mol: U plus the bead restraint of a soft posterior.
        step_size: ps.
        steps: leapfrog steps taken.
    """

    acceptance: Array
    accepted: Array
    divergent: Array
    irreversible: Array
    energy_error: Array
    total_energy: Array
    energy: Array
    potential: Array
    step_size: Array
    steps: Array


class HMC(AbstractKernel):
    """Hamiltonian Monte Carlo with velocity Verlet in the null space of the map.

    Velocities are drawn from the constrained Maxwell-Boltzmann law, forces are projected in the mass metric, and
    each step ends with a retraction, so every sample lies on the fibre to round-off. For a linear map all of this is
    exact: the integrator is time-reversible and keeps the volume of the fibre, so with the Metropolis test the target
    is p(x|y) for any masses and step size.

    The number of leapfrog steps is jittered, always: uniform on 1 … 2·steps − 1 by a Weyl sequence in the number
    of trajectories. It depends on nothing random, so all chains of a batch take trajectories of one length and none
    waits for another.

    Arguments:
        posterior: the target.
        masses: (atoms,) amu; physical, or `heavy_hydrogen_masses`, or anything positive; or a geometry.
        step_size: starting step size, ps (1 fs = 0.001).
        steps: mean number of leapfrog steps of a trajectory.

    Source: Duane et al., Phys. Lett. B 195, 216 (1987); Neal, Handbook of MCMC, ch. 5 (2011); on a linear constraint,
    Lelièvre, Rousset & Stoltz, Math. Comput. 81, 2071 (2012).
    """

    posterior: Posterior
    geometry: AbstractGeometry
    step_size: Array
    steps: Array

    def __init__(
        self,
        posterior: Posterior,
        masses: AtomScalars | AbstractGeometry,
        *,
        step_size: float = 0.001,
        steps: int = 50,
    ):
        if not 0 < step_size < float("inf") or steps < 1:
            raise ValueError(f"HMC: step_size ({step_size}) must be positive and finite, steps ({steps}) at least 1.")
        self.posterior = posterior
        self.geometry = as_geometry(posterior, masses)
        self.step_size = jnp.asarray(step_size, dtype=posterior.y.dtype)
        self.steps = jnp.asarray(steps, dtype=jnp.int32)

    def init(self, key: PRNGKeyArray, position: AtomVectors) -> HMCState:
        """State at ``position``, moved to the nearest point of the fibre. ``key`` is not used."""
        del key
        position = jnp.asarray(position)
        x = self.geometry.retract(position, self.posterior.y.astype(position.dtype))
        return HMCState(position=x, step_size=self.step_size.astype(x.dtype), count=jnp.zeros((), jnp.int32))

    def step(self, key: PRNGKeyArray, state: HMCState) -> tuple[HMCState, HMCInfo]:
        """One trajectory and its Metropolis test; pair lists are made anew where atoms have moved too far for them."""
        velocity_key, metropolis_key = jax.random.split(key)
        x, thermal_energy = state.position, self.posterior.thermal_energy
        velocity = self.geometry.thermal_velocities(velocity_key, thermal_energy, x)
        x, _, info = self.transition(
            metropolis_key, x, velocity, state.step_size, jittered_steps(state.count, self.steps)
        )
        return state._replace(position=x, count=state.count + 1), info

    def transition(
        self, key: PRNGKeyArray, x: AtomVectors, velocity: AtomVectors, step_size: Scalar, steps: Array
    ) -> tuple[Array, Array, HMCInfo]:
        """A trajectory of ``steps`` steps and its Metropolis test: ``(x, velocity, info)`` after them.

        Where the proposal is refused ``x`` stays and the velocity turns round: with this the move keeps the joint law
        of both, and velocities may be carried on instead of being drawn anew.
        """
        proposal = self.trajectory(x, velocity, step_size, steps)
        return self.metropolis(key, x, velocity, proposal, step_size, steps)

    def metropolis(
        self,
        key: PRNGKeyArray,
        x: AtomVectors,
        velocity: AtomVectors,
        proposal: tuple[Array, Array, Array],
        step_size: Scalar,
        steps: Array,
    ) -> tuple[Array, Array, HMCInfo]:
        """The test of a ``proposal`` (x, velocity, reversible) from any map that is undone by turning velocities round
        and keeps volumes, in ``steps`` steps of ``step_size``: ``(x, velocity, info)`` after it."""
        new_x, new_velocity, reversible = proposal
        lists, thermal_energy = PairLists.of(self.posterior, x), self.posterior.thermal_energy
        # Both ends in one loop: a second copy of the energy would cost more to compile than it saves.
        terms, new_terms = lax.map(
            lambda end: potential_terms(lists.at(lists.fresh(lists.arrays, end)), self.geometry, end),
            jnp.stack([x, new_x]),
        )
        error = energy_difference(self.geometry, terms, new_terms, velocity, new_velocity)
        error_in_kT = error / thermal_energy.astype(error.dtype)
        divergent = ~(error_in_kT < DIVERGENCE)  # true for NaN
        log_ratio = jnp.where(divergent | ~reversible, -jnp.inf, -error_in_kT)
        uniform = jax.random.uniform(key, (), log_ratio.dtype)
        accepted = jnp.log1p(-uniform) < log_ratio  # 1 − u lies in (0, 1]: its logarithm is finite
        total = jnp.sum(terms) + self.geometry.kinetic_energy(velocity).astype(terms.dtype)
        terms = jnp.where(accepted, new_terms, terms)
        info = HMCInfo(
            acceptance=jnp.exp(jnp.minimum(log_ratio, 0.0)).astype(x.dtype),
            accepted=accepted,
            divergent=divergent,
            irreversible=~reversible,
            energy_error=error,
            total_energy=total,
            energy=jnp.sum(terms[:-2]),
            potential=jnp.sum(terms[:-1]),
            step_size=step_size,
            steps=steps,
        )
        return jnp.where(accepted, new_x, x), jnp.where(accepted, new_velocity, -velocity), info

    def trajectory(
        self, x: AtomVectors, velocity: AtomVectors, step_size: Scalar, steps: Array
    ) -> tuple[Array, Array, Array]:
        """``steps`` velocity-Verlet steps on the fibre: ``(x, velocity, reversible)`` at the end.

        One gradient, one projection and one retraction per step, and one gradient more at the end: half kicks that meet
        are merged. Nothing is cached between trajectories, so a state is a position and starting costs no compilation.
        """
        y = self.posterior.y.astype(x.dtype)
        move, lists = self.geometry, PairLists.of(self.posterior, x)

        def potential(x, arrays):
            # The measure that the drift keeps is not that of the density where constraints are curved.
            posterior = lists.at(arrays)
            return posterior.potential(x) + posterior.thermal_energy * move.log_volume(x)

        def kick_and_drift(i, carry):
            x, v, reversible, arrays = carry
            arrays = lists.fresh(arrays, x)
            end = (i == 0) | (i == steps)
            kick = jnp.where(end, 0.5 * step_size, step_size)
            v = move.project(x, v + kick * move.acceleration(jax.grad(potential)(x, arrays)))
            x, v, back = move.drift(x, v, jnp.where(i < steps, step_size, 0.0), y)
            return x, v, reversible & back, arrays

        start = jnp.asarray(x), jnp.asarray(velocity), jnp.asarray(True), lists.arrays
        return lax.fori_loop(0, steps + 1, kick_and_drift, start)[:3]

    def rebuild(self, state: HMCState) -> Self:
        """The same kernel with the energy's pair lists made anew around the state."""
        return eqx.tree_at(lambda k: k.posterior, self, self.posterior.rebuild(state.position))


def jittered_steps(count: Array, mean: Array) -> Array:
    """Number of leapfrog steps of trajectory ``count``: uniform on 1 … 2·mean − 1.

    A Weyl sequence with the golden ratio in 32-bit arithmetic: low-discrepancy, exact for any count.
    """
    fraction = (count.astype(jnp.uint32) + 1) * jnp.uint32(0x9E3779B9)
    fraction = (fraction >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    return 1 + jnp.floor(fraction * (2 * mean - 1).astype(jnp.float32)).astype(jnp.int32)
