"""The generalised Langevin equation by auxiliary variables: BAOAB with the joint exact step of velocity and memory."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ...energy.base import AbstractEnergy
from ...random import standard_normal
from ...typing import Array, PRNGKeyArray
from ...units import GAS_CONSTANT
from ..kernels.embedding import Embedding
from ..kernels.forms import AbstractMemoryKernel, DeltaKernel
from ..kernels.particle_kernels import ParticleKernels
from ..kernels.propagators import joint_propagators
from ._forces import potential_and_force
from .base import AbstractDynamics
from .stability import largest_stable_step

#: Up to this many rows the joint step is written out, so that it fuses into one pass over the state; not for systems
#: of so few numbers that, in a batch, the pass would go through memory in small strides.
_UNROLLED, _SHORT = 12, 64


class GLEState(NamedTuple):
    """State of one system.

    Fields:
        position: nm, any shape, e.g. (particles, 3).
        velocity: nm/ps, the same shape.
        force: −∂U/∂x at the position, kJ/mol/nm.
        auxiliaries: (auxiliaries, *shape) for a scalar kernel, (auxiliaries, particles) for particles whose components
            are coupled, (auxiliaries,) if all coordinates are; √(kJ/mol).
    """

    position: Array
    velocity: Array
    force: Array
    auxiliaries: Array


class GLEInfo(NamedTuple):
    """One step: U at its end in kJ/mol, kinetic temperature at its end in K."""

    potential: Array
    temperature: Array


class GLE(AbstractDynamics):
    """Trajectories of M x″ = −∂U/∂x − ∫ Γ(t−s) x′(s) ds + η(t) for a kernel with a Markovian embedding.

    A step is B A O A B: half kick, half drift, exact joint Ornstein-Uhlenbeck step of (√m v, s), half drift, half kick;
    one gradient for each step. For harmonic forces ⟨x²⟩ is exact for every stable step; ⟨v²⟩ is low by the share
    (ω dt)²/4. A `DeltaKernel` gives Langevin dynamics.

    Arguments:
        energy: U(x), kJ/mol, of positions in nm; None for free motion.
        kernel: memory kernel, amu/ps². A scalar one acts on every coordinate alone; a matrix-valued one couples all
            coordinates, in the order of ``position.ravel()``; `ParticleKernels` give each particle its own.
        masses: amu: a number, or (particles,) for the leading axis of the position; (coordinates,) where all are
            coupled.
        time_step: ps.
        temperature: K.

    Raises:
        ValueError: the kernel has no exact embedding, or a mass, the time step or the temperature is not positive.

    Source: Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34 (BAOAB); Ceriotti, Bussi & Parrinello, J. Chem.
    Theory Comput. 6, 1170 (2010), for the exact joint step.
    """

    energy: AbstractEnergy | None
    masses: Array
    step_matrix: Array
    noise_matrix: Array
    time_step: Array
    temperature: Array
    scalar: bool = eqx.field(static=True)
    whole: bool = eqx.field(static=True)
    coupled: int = eqx.field(static=True)

    def __init__(
        self,
        energy: AbstractEnergy | None,
        kernel: AbstractMemoryKernel | Embedding | ParticleKernels,
        masses,
        *,
        time_step: float,
        temperature: float,
    ):
        kernel = Embedding.of(kernel) if isinstance(kernel, AbstractMemoryKernel) else kernel
        embedding = kernel.embeddings if isinstance(kernel, ParticleKernels) else kernel
        dtype = embedding.couplings.dtype
        for name, value in (("mass", masses), ("time step", time_step), ("temperature", temperature)):
            _require_positive(name, value)
        self.energy = energy
        self.masses = jnp.asarray(masses, dtype)
        self.time_step = jnp.asarray(time_step, dtype)
        self.temperature = jnp.asarray(temperature, dtype)
        self.scalar = embedding.scalar
        # Whether all coordinates share auxiliaries, and how many do.
        self.whole = not (self.scalar or isinstance(kernel, ParticleKernels))
        self.coupled = embedding.couplings.shape[-1]
        if isinstance(kernel, ParticleKernels) and self.masses.shape not in ((), kernel.types.shape):
            raise ValueError(
                f"GLE: {self.masses.shape[0]} masses for {kernel.types.shape[0]} particles with kernels; "
                "give one mass, or one for each particle."
            )
        self.step_matrix, self.noise_matrix = joint_propagators(kernel, self.masses, self.time_step)

    @property
    def thermal_energy(self) -> Array:
        """kT, kJ/mol."""
        return GAS_CONSTANT * self.temperature

    def init(self, key: PRNGKeyArray, position: Array, velocity: Array | None = None) -> GLEState:
        """State at ``position`` with thermal velocities, unless given, and auxiliaries of equilibrium.

        Equilibrium auxiliaries are those of a bath that has been coupled for ever: with zeros instead, the first memory
        time of a trajectory would be of another process.
        """
        position = jnp.asarray(position)
        first, second = jax.random.split(key)
        root = jnp.sqrt(self.thermal_energy).astype(position.dtype)
        if velocity is None:
            velocity = root * jax.random.normal(first, position.shape, position.dtype) / self._root_mass(position)
        self._require_shape(position)
        along = position.shape if self.scalar else () if self.whole else position.shape[:1]
        shape = (self.step_matrix.shape[0] - self.coupled, *along)
        auxiliaries = root * jax.random.normal(second, shape, position.dtype)
        return GLEState(
            position, jnp.asarray(velocity, position.dtype), potential_and_force(self.energy, position)[1], auxiliaries
        )

    def step(self, key: PRNGKeyArray, state: GLEState) -> tuple[GLEState, GLEInfo]:
        """One time step."""
        x, v, force, s = state
        half, root = 0.5 * self.time_step.astype(x.dtype), self._root_mass(x)
        # In u = √m v half a kick and half a drift have one factor; it is divided once, not for every coordinate.
        share = half / root
        u = root * v + share * force
        x = x + share * u
        u, s = self._joint(key, u, s)
        x = x + share * u
        potential, force = potential_and_force(self.energy, x)
        u = u + share * force
        v = (1 / root) * u
        kinetic = jnp.mean(u**2) / GAS_CONSTANT
        return GLEState(x, v, force, s), GLEInfo(potential, kinetic)

    def largest_time_step(self, position: Array) -> float:
        """The limit of stability 2/ω_max about ``position``, ps, whatever the kernel."""
        return largest_stable_step(self.energy, self.masses, position)

    def _root_mass(self, x: Array) -> Array:
        root = jnp.sqrt(self.masses).astype(x.dtype)
        if root.ndim == 0:
            return root
        return root.reshape(x.shape) if self.whole else root.reshape((-1, *(1,) * (x.ndim - 1)))

    def _require_shape(self, x: Array) -> None:
        particles = self.step_matrix.shape[-1] if self.step_matrix.ndim == 3 else None
        if particles is not None and (x.ndim == 0 or x.shape[0] != particles):
            raise ValueError(f"GLE: positions of shape {x.shape} for {particles} particles; give them along axis 0.")
        if not (self.scalar or self.whole) and x.shape[1:] != (self.coupled,):
            raise ValueError(
                f"GLE: positions of shape {x.shape}, but the kernels couple the {self.coupled} components of each "
                f"particle; give (particles, {self.coupled})."
            )
        if self.whole and x.size != self.coupled:
            raise ValueError(f"GLE: positions of shape {x.shape} for a kernel of {self.coupled} coordinates.")

    def _joint(self, key: PRNGKeyArray, u: Array, s: Array) -> tuple[Array, Array]:
        """(u, s) after the exact free step."""
        root = jnp.sqrt(self.thermal_energy).astype(u.dtype)
        step, noise = self.step_matrix.astype(u.dtype), root * self.noise_matrix.astype(u.dtype)
        both = jnp.concatenate([u[None] if self.scalar else u.ravel() if self.whole else u.T, s])
        # Drawn flat: a batch of small systems then costs no more random numbers a second than a large one.
        white = standard_normal(key, both.size, u.dtype).reshape(both.shape)
        both = _combine(jnp.concatenate([step, noise], axis=1), both, white, short=1 < u.size < _SHORT)
        u_new, s = both[: self.coupled], both[self.coupled :]
        return u_new[0] if self.scalar else u_new.reshape(u.shape) if self.whole else u_new.T, s


def _combine(matrix: Array, both: Array, white: Array, *, short: bool) -> Array:
    """``matrix`` (k, 2k) or (k, 2k, particles) times the k rows of ``both`` and the k of ``white``, (k, *shape)."""
    size = both.shape[0]
    if matrix.ndim == 2 and (short or size > _UNROLLED):
        return jnp.tensordot(matrix, jnp.concatenate([both, white]), axes=1, precision="highest")
    matrix = matrix.reshape(*matrix.shape, *(1,) * (both.ndim - 1 - (matrix.ndim - 2)))
    if size > _UNROLLED:
        return jnp.sum(matrix * jnp.concatenate([both, white])[None], axis=1)
    rows = [*both, *white]
    sums = [matrix[i, 0] * rows[0] for i in range(size)]
    for j, row in enumerate(rows[1:], start=1):
        sums = [total + matrix[i, j] * row for i, total in enumerate(sums)]
    return jnp.stack(sums)


def langevin(energy, masses, *, time_step: float, temperature: float, collision_rate: float) -> GLE:
    """Markovian Langevin dynamics as the special case of a `GLE`: friction γ = ``collision_rate`` × mass.

    Arguments:
        energy: U(x), kJ/mol; None for free motion.
        masses: amu, one for all particles.
        time_step: ps.
        temperature: K.
        collision_rate: 1/ps.
    """
    return GLE(
        energy,
        DeltaKernel(jnp.asarray(masses) * collision_rate),
        masses,
        time_step=time_step,
        temperature=temperature,
    )


def _require_positive(name: str, value) -> None:
    if not isinstance(value, Tracer) and not np.all(np.asarray(value) > 0):
        raise ValueError(f"GLE: the {name} must be positive, got {np.min(np.asarray(value)):g}.")
