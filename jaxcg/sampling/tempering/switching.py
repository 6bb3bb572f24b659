"""HMC with excursions: long trajectories along which a part of the molecule is softened and made whole again."""

from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from ...energy.path import SoluteTempering
from ...run import AbstractKernel
from ...typing import Array, AtomVectors, Float, PRNGKeyArray, Scalar
from ..kernels.hmc import HMC, HMCState, jittered_steps
from ..kernels.pair_lists import PairLists


class SwitchingInfo(NamedTuple):
    """What happened in one step: the fields of `HMCInfo`, and

    Fields:
        excursion: whether the trajectory was an excursion; if not, it was plain HMC.
        region: number of the region that was softened; −1 if none.
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
    excursion: Array
    region: Array


class SwitchingHMC(AbstractKernel):
    """HMC in which every second trajectory is an excursion through softened energies.

    An excursion picks a region at random (a side chain, a methyl group), draws new velocities as always and follows
    the energy U_λ(t) of that region while λ goes from 1 down to ``coupling``, stays and comes back. Its atoms then pass
    each other and turn about their bonds while the rest of the molecule gives way, on the fibre throughout. λ takes
    the same values forwards and backwards in time, so the map of positions and velocities is undone by turning the
    velocities round, and keeps volumes; with the Metropolis test on the change of the true energy, which is the work
    of switching, the target is exact for any region, depth, length and step size. What is softened is as small as a
    side chain, so acceptance does not fall with the size of the molecule, as swaps of whole temperatures do.

    Arguments:
        hmc: the plain kernel, tuned; excursions use its step size.
        regions: (regions, atoms) 1 for the atoms of each region, 0 for the rest.
        excursion: steps of an excursion, jittered by a quarter; about 0.5 ps there and back is a start.
        coupling: smallest λ.
        separation: nm², of `SoluteTempering`.
        hold: part of the time that is spent at the smallest λ.

    Raises:
        ValueError: arguments out of range, or regions of another molecule.

    Source: Neal, Statist. Comput. 6, 353 (1996); Nilmeier, Crooks, Minh & Chodera, PNAS 108, E1009 (2011).
    """

    hmc: HMC
    regions: Float[Array, "regions atoms"]
    excursion: Array
    coupling: Array
    separation: Array
    hold: Array

    def __init__(
        self,
        hmc: HMC,
        regions: Array,
        *,
        excursion: int = 400,
        coupling: float = 0.1,
        separation: float = 0.1,
        hold: float = 0.4,
    ):
        dtype = hmc.posterior.y.dtype
        n_atoms = hmc.posterior.mapping.n_atoms
        regions = jnp.asarray(regions, dtype)
        if regions.ndim != 2 or regions.shape[1] != n_atoms or regions.shape[0] == 0:
            raise ValueError(f"SwitchingHMC: regions has shape {regions.shape}, expected (regions, {n_atoms}).")
        if not 0 <= coupling <= 1 or not 0 <= hold < 1 or excursion < 4:
            raise ValueError(
                "SwitchingHMC: coupling must lie between 0 and 1, hold from 0 to below 1, and an excursion take at "
                "least 4 steps."
            )
        self.hmc = hmc
        self.regions = regions
        self.excursion = jnp.asarray(excursion, jnp.int32)
        self.coupling = jnp.asarray(coupling, dtype)
        self.separation = jnp.asarray(separation, dtype)
        self.hold = jnp.asarray(hold, dtype)

    def init(self, key: PRNGKeyArray, position: AtomVectors) -> HMCState:
        """State at ``position``, moved to the nearest point of the fibre."""
        return self.hmc.init(key, position)

    def step(self, key: PRNGKeyArray, state: HMCState) -> tuple[HMCState, SwitchingInfo]:
        """A plain trajectory (even counts) or an excursion (odd ones), and its Metropolis test."""
        velocity_key, region_key, metropolis_key = jax.random.split(key, 3)
        hmc, x = self.hmc, state.position
        velocity = hmc.geometry.thermal_velocities(velocity_key, hmc.posterior.thermal_energy, x)
        away = state.count % 2 == 1
        region = jax.random.randint(region_key, (), 0, self.regions.shape[0])
        round_count = state.count // 2
        quarter = self.excursion // 4
        long = self.excursion - quarter + jittered_steps(round_count, quarter + 1) - 1
        steps = jnp.where(away, long, jittered_steps(round_count, hmc.steps))
        depth = jnp.where(away, 1 - self.coupling, 0.0)
        proposal = self.trajectory(x, velocity, state.step_size, steps, self.regions[region], depth)
        x, _, info = hmc.metropolis(metropolis_key, x, velocity, proposal, state.step_size, steps)
        info = SwitchingInfo(*info, excursion=away, region=jnp.where(away, region, -1))
        return state._replace(position=x, count=state.count + 1), info

    def trajectory(
        self,
        x: AtomVectors,
        velocity: AtomVectors,
        step_size: Scalar,
        steps: Array,
        region: Float[Array, " atoms"],
        depth: Scalar,
    ) -> tuple[Array, Array, Array]:
        """``steps`` velocity-Verlet steps with λ = 1 − depth · shape(t): ``(x, velocity, reversible)`` at the end."""
        posterior, move = self.hmc.posterior, self.hmc.geometry
        path = SoluteTempering(region, separation=self.separation)
        y = posterior.y.astype(x.dtype)
        lists = PairLists.of(posterior, x)

        def potential(x, arrays, coupling):
            at = lists.at(arrays)
            softened = eqx.tree_at(lambda p: p.energy, at, path(at.energy, coupling))
            return softened.potential(x) + at.thermal_energy * move.log_volume(x)

        def kick_and_drift(i, carry):
            x, v, reversible, arrays = carry
            arrays = lists.fresh(arrays, x)
            # Counted from the nearer end, in integers: there and back λ is the same to the last bit.
            near = jnp.minimum(i, steps - i).astype(x.dtype) / steps.astype(x.dtype)
            t = jnp.clip(2 * near / (1 - self.hold.astype(x.dtype)), 0.0, 1.0)
            coupling = 1 - depth.astype(x.dtype) * t * t * (3 - 2 * t)
            end = (i == 0) | (i == steps)
            kick = jnp.where(end, 0.5 * step_size, step_size)
            v = move.project(x, v + kick * move.acceleration(jax.grad(potential)(x, arrays, coupling)))
            x, v, back = move.drift(x, v, jnp.where(i < steps, step_size, 0.0), y)
            return x, v, reversible & back, arrays

        start = jnp.asarray(x), jnp.asarray(velocity), jnp.asarray(True), lists.arrays
        return lax.fori_loop(0, steps + 1, kick_and_drift, start)[:3]

    def rebuild(self, state: HMCState) -> Self:
        """The same kernel with the energy's pair lists made anew around the state."""
        return eqx.tree_at(lambda k: k.hmc, self, self.hmc.rebuild(state))
