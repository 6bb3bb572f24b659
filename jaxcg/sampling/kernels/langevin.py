"""Langevin dynamics on the fibre: constrained BAOAB, and its use to heat a minimum to temperature."""

from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp

from ...posterior import Posterior
from ...run import AbstractKernel
from ...typing import Array, AtomScalars, AtomVectors, PRNGKeyArray
from ..geometry import AbstractGeometry, as_geometry
from .pair_lists import PairLists


class LangevinState(NamedTuple):
    """State of one system: position (nm) and velocity half a step behind (nm/ps), (atoms, 3), and the steps so far."""

    position: Array
    velocity: Array
    count: Array


class LangevinInfo(NamedTuple):
    """One step.

    Fields:
        potential: −kT log p(x|y) at its start, kJ/mol.
        temperature: kinetic temperature amid it, K.
        step_size: ps.
        irreversible: a drift on curved constraints could not be undone, and was refused.
    """

    potential: Array
    temperature: Array
    step_size: Array
    irreversible: Array


class Langevin(AbstractKernel):
    """BAOAB with all three parts projected on the fibre (or free, for the soft posterior). Not Metropolis-adjusted.

    The two half kicks B that meet between steps are merged, so a step is B A O A with a whole kick: the same positions,
    one gradient per step, and nothing to compute at the start.

    For a linear map every substep is exact on the fibre: kicks by projected forces, straight drifts, and the
    Ornstein-Uhlenbeck part, whose noise is the projection of white noise of covariance kT m⁻¹. Averages over positions
    have an error of order step_size², zero for harmonic wells.

    On curved constraints a drift that does not converge, or that cannot be undone, is refused: the atoms stay and the
    velocity turns round, which keeps the measure. `LangevinInfo` counts such steps; many of them ask for a shorter one.

    Arguments:
        posterior: the target.
        masses: (atoms,) amu, or a geometry.
        step_size: ps.
        friction: 1/ps.
        temperature: of the bath, K; the posterior's if None. The target is then the fibre's density at this
            temperature; the bead restraint of a soft posterior stays a part of the potential, as stiff as it is.

    Raises:
        ValueError: a step size or temperature that is not positive, or a negative friction.

    Source: Leimkuhler & Matthews, Proc. R. Soc. A 472, 20160138 (2016); the merged kicks as in Zhang, Liu, Yan,
    Tuckerman & Liu, J. Phys. Chem. A 123, 6056 (2019).
    """

    posterior: Posterior
    geometry: AbstractGeometry
    step_size: Array
    friction: Array
    temperature: Array

    def __init__(
        self,
        posterior: Posterior,
        masses: AtomScalars | AbstractGeometry,
        *,
        step_size: float = 0.001,
        friction: float = 20.0,
        temperature: float | None = None,
    ):
        if not (step_size > 0 and friction >= 0):
            raise ValueError(f"Langevin: step_size ({step_size}) must be positive, friction ({friction}) not negative.")
        if temperature is not None and not temperature > 0:
            raise ValueError(f"Langevin: temperature is {temperature} K; it must be positive.")
        dtype = posterior.y.dtype
        self.posterior = posterior
        self.geometry = as_geometry(posterior, masses)
        self.step_size = jnp.asarray(step_size, dtype)
        self.friction = jnp.asarray(friction, dtype)
        self.temperature = jnp.asarray(posterior.temperature if temperature is None else temperature, dtype)

    def init(self, key: PRNGKeyArray, position: AtomVectors) -> LangevinState:
        """State at ``position``, moved to the nearest point of the fibre, with thermal velocities."""
        position = jnp.asarray(position)
        x = self.geometry.retract(position, self.posterior.y.astype(position.dtype))
        velocity = self.geometry.thermal_velocities(key, self._thermal_energy(), x)
        return LangevinState(x, velocity, jnp.zeros((), jnp.int32))

    def step(self, key: PRNGKeyArray, state: LangevinState) -> tuple[LangevinState, LangevinInfo]:
        """One step: kick, half drift, Ornstein-Uhlenbeck, half drift."""
        move, x = self.geometry, state.position
        dt = self.step_size.astype(x.dtype)
        thermal_energy = self._thermal_energy()
        y = self.posterior.y.astype(x.dtype)
        lists = PairLists.of(self.posterior, x)
        posterior = lists.at(lists.fresh(lists.arrays, x))

        def potential_and_volume(x):
            potential = posterior.potential(x)
            # The volume term belongs to the measure, not to the energy: it has the temperature of the bath.
            return potential + thermal_energy * move.log_volume(x), potential

        gradient, potential = jax.grad(potential_and_volume, has_aux=True)(x)
        v = move.project(x, state.velocity + dt * move.acceleration(gradient))
        x, v, first = self._drift(x, v, y)
        v = move.project(x, v)
        keep, fill = jnp.exp(-self.friction * dt), jnp.sqrt(-jnp.expm1(-2 * self.friction * dt))
        v = keep.astype(x.dtype) * v + fill.astype(x.dtype) * move.thermal_velocities(key, thermal_energy, x)
        x, v, second = self._drift(x, v, y)
        temperature = 2 * move.kinetic_energy(v) / (move.dimension * thermal_energy) * self.temperature
        info = LangevinInfo(potential, temperature, dt, ~(first & second))
        return LangevinState(x, v, state.count + 1), info

    def rebuild(self, state: LangevinState) -> Self:
        """The same kernel with the energy's pair lists made anew around the state."""
        return eqx.tree_at(lambda k: k.posterior, self, self.posterior.rebuild(state.position))

    def _drift(self, x, v, y):
        moved, arrival, reversible = self.geometry.drift(x, v, 0.5 * self.step_size.astype(x.dtype), y)
        return jnp.where(reversible, moved, x), jnp.where(reversible, arrival, -v), reversible

    def _thermal_energy(self):
        # kT of the bath; the posterior's own temperature stays in the bead restraint of a soft posterior.
        return self.posterior.thermal_energy * (self.temperature / self.posterior.temperature)


class Heating(AbstractKernel):
    """Langevin dynamics whose temperature and step size grow linearly over the first steps, then stay.

    A minimum is no typical point: there the potential is d/2 kT too low and every mode must be filled. From it no
    Hamiltonian trajectory of useful length is accepted, while strongly damped dynamics warms it gently.

    Arguments:
        langevin: the dynamics at the end of the ramp.
        ramp: steps of the ramp.
        start_temperature: K.
        start_step_size: ps.
    """

    langevin: Langevin
    ramp: Array
    start_temperature: Array
    start_step_size: Array

    def __init__(
        self, langevin: Langevin, *, ramp: int = 750, start_temperature: float = 9.0, start_step_size: float = 0.00025
    ):
        dtype = langevin.step_size.dtype
        self.langevin = langevin
        self.ramp = jnp.asarray(max(ramp, 1), jnp.int32)
        self.start_temperature = jnp.asarray(start_temperature, dtype)
        self.start_step_size = jnp.asarray(start_step_size, dtype)

    def init(self, key: PRNGKeyArray, position: AtomVectors) -> LangevinState:
        """State at ``position`` with velocities of the starting temperature."""
        return self._at(jnp.zeros((), jnp.int32)).init(key, position)

    def step(self, key: PRNGKeyArray, state: LangevinState) -> tuple[LangevinState, LangevinInfo]:
        """One step at the temperature and step size of the ramp."""
        return self._at(state.count).step(key, state)

    def rebuild(self, state: LangevinState) -> Self:
        """The same kernel with the energy's pair lists made anew around the state."""
        return eqx.tree_at(lambda k: k.langevin, self, self.langevin.rebuild(state))

    def _at(self, count) -> Langevin:
        final = self.langevin
        done = jnp.minimum(count / self.ramp, 1).astype(final.step_size.dtype)
        temperature = self.start_temperature + done * (final.temperature - self.start_temperature)
        step_size = self.start_step_size + done * (final.step_size - self.start_step_size)
        return eqx.tree_at(lambda k: (k.temperature, k.step_size), final, (temperature, step_size))
