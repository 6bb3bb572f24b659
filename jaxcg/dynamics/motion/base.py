"""What every dynamics of coarse coordinates has in common."""

from abc import abstractmethod
from typing import Any, Self

import equinox as eqx
import jax.numpy as jnp

from ...energy.base import AbstractEnergy
from ...run import AbstractKernel
from ...typing import Array, PRNGKeyArray


class AbstractDynamics(AbstractKernel):
    """A time step of coarse coordinates in a potential of mean force, for one system.

    States have fields ``position`` (nm) and ``velocity`` (nm/ps), infos fields ``potential`` (kJ/mol) and
    ``temperature`` (kinetic, K): what `simulate` keeps.
    """

    energy: eqx.AbstractVar[AbstractEnergy | None]
    time_step: eqx.AbstractVar[Array]
    temperature: eqx.AbstractVar[Array]

    @abstractmethod
    def init(self, key: PRNGKeyArray, position: Array, velocity: Array | None = None) -> Any:
        """State at ``position`` (nm), in equilibrium in all else; velocities (nm/ps) may be given."""

    @abstractmethod
    def largest_time_step(self, position: Array) -> float:
        """The time step (ps) beyond which motion about ``position`` (nm) blows up; concrete numbers only."""

    def rebuild(self, state: Any) -> Self:
        """The same with the energy's pair lists made anew around the state."""
        if self.energy is None:
            return self
        return eqx.tree_at(lambda k: k.energy, self, self.energy.rebuild(state.position))

    def healthy(self, state: Any) -> Array:
        """True where position and velocity are finite: what is not finite elsewhere reaches them within a step."""
        return jnp.all(jnp.isfinite(state.position)) & jnp.all(jnp.isfinite(state.velocity))
