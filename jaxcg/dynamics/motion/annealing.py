"""Changes of temperature: the memory must change with it."""

from typing import Any, NamedTuple, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ...typing import Array, PRNGKeyArray
from ..kernels.forms import require_positive
from .base import AbstractDynamics
from .gle import GLE, GLEInfo, GLEState


def change_temperature(
    dynamics: GLE, state: GLEState, temperature: Array | float, *, velocities: bool = False
) -> tuple[GLE, GLEState]:
    """The dynamics at another temperature, and the state with its auxiliaries scaled by √(T₂/T₁).

    The bath is then in equilibrium at once; otherwise it would go on pushing at the old temperature for as long as it
    remembers. Nothing is compiled anew: the temperature is an array.

    Arguments:
        dynamics: at the old temperature T₁.
        state: of one system or, with leading axes, of several.
        temperature: T₂, K.
        velocities: whether they are scaled too, so that a free or rigid state is stationary at once.

    Raises:
        ValueError: the temperature is not positive.
    """
    require_positive("change_temperature", "temperature", temperature)
    new = jnp.asarray(temperature, dynamics.temperature.dtype)
    scale = jnp.sqrt(new / dynamics.temperature).astype(state.position.dtype)
    state = state._replace(auxiliaries=scale * state.auxiliaries)
    if velocities:
        state = state._replace(velocity=scale * state.velocity)
    return eqx.tree_at(lambda d: d.temperature, dynamics, new), state


class AnnealingState(NamedTuple):
    """State of a `GLE` and the number of steps done."""

    gle: GLEState
    count: Array

    @property
    def position(self) -> Array:
        """nm."""
        return self.gle.position

    @property
    def velocity(self) -> Array:
        """nm/ps."""
        return self.gle.velocity


class Annealing(AbstractDynamics):
    """A `GLE` whose temperature follows a schedule, piecewise linear in time and constant after its end.

    Auxiliaries are scaled with the temperature at every step, so the bath is always in equilibrium at the temperature
    of the moment; what the system does lags behind.

    Arguments:
        gle: the dynamics; its own temperature is not used.
        times: (knots,) ps from the start, increasing.
        temperatures: (knots,) K.

    Raises:
        ValueError: shapes differ, times do not increase or a temperature is not positive.
    """

    gle: GLE
    times: Array
    temperatures: Array

    def __init__(self, gle: GLE, times, temperatures):
        if np.ndim(times) != 1 or np.shape(times) != np.shape(temperatures) or np.any(np.diff(times) <= 0):
            raise ValueError("Annealing: give increasing times (knots,) and as many temperatures.")
        require_positive("Annealing", "temperature", temperatures)
        self.gle = gle
        self.times, self.temperatures = (jnp.asarray(each, gle.time_step.dtype) for each in (times, temperatures))

    @property
    def energy(self):
        """U(x)."""
        return self.gle.energy

    @property
    def time_step(self) -> Array:
        """ps."""
        return self.gle.time_step

    @property
    def temperature(self) -> Array:
        """At the start, K."""
        return self.temperatures[0]

    def temperature_at(self, count: Array) -> Array:
        """Of the bath after ``count`` steps, K."""
        return jnp.interp(count * self.time_step, self.times, self.temperatures)

    def init(self, key: PRNGKeyArray, position: Array, velocity: Array | None = None) -> AnnealingState:
        """State at ``position`` in equilibrium at the temperature of the start."""
        count = jnp.zeros((), jnp.int32)
        return AnnealingState(self._at(count).init(key, position, velocity), count)

    def step(self, key: PRNGKeyArray, state: AnnealingState) -> tuple[AnnealingState, GLEInfo]:
        """One step, at the temperature of its end."""
        gle, inner = change_temperature(self._at(state.count), state.gle, self.temperature_at(state.count + 1))
        inner, info = gle.step(key, inner)
        return AnnealingState(inner, state.count + 1), info

    def largest_time_step(self, position: Array) -> float:
        """The limit of stability of the `GLE`, ps."""
        return self.gle.largest_time_step(position)

    def rebuild(self, state: Any) -> Self:
        """The same with the energy's pair lists made anew around the state."""
        return eqx.tree_at(lambda k: k.gle, self, self.gle.rebuild(state))

    def _at(self, count) -> GLE:
        return eqx.tree_at(lambda d: d.temperature, self.gle, self.temperature_at(count))
