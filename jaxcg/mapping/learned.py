"""Maps learned from a trajectory: a soft assignment of atoms to beads, hardened at the end.

Each atom spreads itself over the beads by a softmax; while the temperature of the softmax falls, the assignment is
trained to keep what can be kept of the positions (reconstruction error) and to leave out the forces that scatter most
(variance of the mapped forces). Both losses need only second moments of the trajectory, so a step costs the same for
ten frames and for ten million.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..typing import Array, AtomArray, AtomScalars, BeadArray, Float, Int, PRNGKeyArray, Scalar
from .linear import LinearMap


class SoftAssignment(eqx.Module):
    """A linear map whose assignment of atoms to beads is soft: W_Ii ∝ m_i p_Ii with p_Ii a softmax over the beads.

    Rows of W are normalised, so it commutes with translations. As the temperature goes to zero each atom belongs to
    the bead with its largest logit and W is the centre-of-mass map of these groups (of geometry without masses).

    Arguments:
        logits: (beads, atoms).
        masses: (atoms,) amu, or None for centres of geometry.

    Source: Wang and Gómez-Bombarelli, npj Comput. Mater. 5, 125 (2019).
    """

    logits: Float[Array | np.ndarray, "beads atoms"]
    masses: AtomScalars | None = None

    @staticmethod
    def random(key: PRNGKeyArray, n_beads: int, n_atoms: int, masses: AtomScalars | None = None, dtype=None):
        """Assignment with normally distributed logits, from which training starts."""
        return SoftAssignment(jax.random.normal(key, (n_beads, n_atoms), dtype), masses)

    def probabilities(self, temperature: float | Scalar) -> Float[Array, "beads atoms"]:
        """Share of each atom in each bead at a temperature (of the softmax, without unit); columns sum to one."""
        return jax.nn.softmax(self.logits / temperature, axis=0)

    def weights(self, temperature: float | Scalar) -> Float[Array, "beads atoms"]:
        """W at a temperature; rows sum to one."""
        # In logarithms: a bead that no atom wants has vanishing shares, but a sound row of weights.
        shares = jax.nn.log_softmax(self.logits / temperature, axis=0)
        if self.masses is not None:
            shares = shares + jnp.log(jnp.asarray(self.masses, shares.dtype))
        return jax.nn.softmax(shares, axis=1)

    def __call__(self, x: AtomArray, temperature: float | Scalar) -> BeadArray:
        """Bead positions of ``x``: (atoms, ...) → (beads, ...), in the units of ``x``."""
        return jnp.tensordot(self.weights(temperature).astype(x.dtype), x, axes=1, precision="highest")

    def groups(self) -> Int[np.ndarray, " atoms"]:
        """Most likely bead of each atom."""
        return np.asarray(jnp.argmax(self.logits, axis=0))

    def harden(self) -> LinearMap:
        """The map in which each atom belongs to its most likely bead only.

        Raises:
            ValueError: a bead is the most likely one of no atom.
        """
        groups = self.groups()
        members = [np.flatnonzero(groups == bead).tolist() for bead in range(self.logits.shape[0])]
        empty = [bead for bead, atoms in enumerate(members) if len(atoms) == 0]
        if empty:
            raise ValueError(
                f"SoftAssignment: bead {empty[0]} is the most likely one of no atom ({len(empty)} such beads); "
                "train from other starts (learn_map takes several) or with fewer beads."
            )
        if self.masses is None:
            return LinearMap.center_of_geometry(members, len(groups))
        return LinearMap.center_of_mass(members, np.asarray(self.masses))


def position_moments(x: Float[Array | np.ndarray, "frames atoms 3"]) -> Float[np.ndarray, "atoms atoms"]:
    """⟨(x_i − c)·(x_j − c)⟩ over a trajectory, with c each frame's centroid, nm².

    Turning or shifting any frame leaves it as it is.
    """
    x = np.asarray(x)
    centred = x.astype(np.float64) - x.mean(axis=1, keepdims=True, dtype=np.float64)
    return np.einsum("tik,tjk->ij", centred, centred, optimize=True) / len(x)


def force_moments(forces: Float[Array | np.ndarray, "frames atoms 3"]) -> Float[np.ndarray, "atoms atoms"]:
    """⟨f_i·f_j⟩ over a trajectory, (kJ/mol/nm)²."""
    forces = np.asarray(forces, dtype=np.float64)
    return np.einsum("tik,tjk->ij", forces, forces, optimize=True) / len(forces)


def reconstruction_error(
    weights: Float[Array, "beads atoms"], moments: Float[Array | np.ndarray, "atoms atoms"], noise: float | Scalar
) -> Scalar:
    """Mean square error per atom of the best linear back-map from the beads, nm².

    The back-map x* = D y minimises ⟨|x − D (y + ξ)|²⟩ over all matrices D whose rows sum to one; such maps, and so the
    error, do not depend on where the frames lie or how they are turned. ξ is normal noise on the beads: without it, a
    soft assignment may hide positions in differences of beads too small to mean anything.

    Arguments:
        weights: W.
        moments: `position_moments`.
        noise: standard deviation of each coordinate of the beads, nm.

    Source: Gaussian conditioning, x* = S Wᵀ (W S Wᵀ + σ²)⁻¹ y with S the moments about the centroid of the beads.
    """
    n_beads, n_atoms = weights.shape
    moments = jnp.asarray(moments, weights.dtype)
    centre = jnp.mean(weights, axis=0)
    relative = jnp.eye(n_atoms, dtype=weights.dtype) - centre
    beads = weights - centre
    cross = _dot(_dot(relative, moments), beads.T)
    gram = _dot(_dot(beads, moments), beads.T)
    # Relative positions say nothing of the beads' centroid: that direction is filled, and nothing projects onto it.
    fill = jnp.trace(gram) / n_beads**2
    gram = gram + fill + 3 * noise**2 * jnp.eye(n_beads, dtype=weights.dtype)
    total = jnp.sum(_dot(relative, moments) * relative)
    known = jnp.sum(_dot(cross, jnp.linalg.inv(gram)) * cross)
    return (total - known) / n_atoms + 3 * noise**2 / n_beads


def mapped_force_variance(
    weights: Float[Array, "beads atoms"],
    moments: Float[Array | np.ndarray, "atoms atoms"],
    masses: AtomScalars | None = None,
) -> Scalar:
    """Mean square force on a bead, averaged over the beads, (kJ/mol/nm)².

    The force map is B = (W m⁻¹ Wᵀ)⁻¹ W m⁻¹ (`aggregating_force_map`), unit masses when None.

    Arguments:
        weights: W.
        moments: `force_moments`.
        masses: (atoms,) amu.
    """
    moments = jnp.asarray(moments, weights.dtype)
    scaled = weights if masses is None else weights / jnp.asarray(masses, weights.dtype)
    coefficients = jnp.linalg.solve(_dot(scaled, weights.T), scaled)
    return jnp.sum(_dot(coefficients, moments) * coefficients) / weights.shape[0]


class TrainingState(eqx.Module):
    """State of a training: the assignment, the optimiser's own state and the number of steps done."""

    assignment: SoftAssignment
    optimiser_state: optax.OptState
    step: Int[Array, ""]


class TrainingInfo(eqx.Module):
    """What one step saw: the loss before it, without unit, and the temperature."""

    loss: Scalar
    temperature: Scalar


class MapTrainer(eqx.Module):
    """Trains a `SoftAssignment`; made by `MapTrainer.of`.

    The loss is the logarithm of the reconstruction error, relative to the spread of the atoms about their centroid,
    plus ``force_weight`` times the logarithm of the variance of the mapped forces, relative to the mean square force on
    an atom. Logarithms make the two comparable and let cooling find good assignments: while it is warm, beads are
    nearly alike and the force variance is orders of magnitude larger than at the end.
    """

    _positions: Array | None
    _forces: Array | None
    masses: AtomScalars | None
    force_weight: float
    noise: float
    n_beads: int = eqx.field(static=True)
    temperature: Callable = eqx.field(static=True)
    optimiser: optax.GradientTransformation = eqx.field(static=True)

    @staticmethod
    def of(
        n_beads: int,
        x: Float[Array | np.ndarray, "frames atoms 3"] | None = None,
        forces: Float[Array | np.ndarray, "force_frames force_atoms 3"] | None = None,
        *,
        masses: Float[Array | np.ndarray, " masses"] | None = None,
        force_weight: float = 1.0,
        noise: float = 0.02,
        temperature: Callable | None = None,
        optimiser: optax.GradientTransformation | None = None,
    ) -> "MapTrainer":
        """A trainer for a trajectory.

        Arguments:
            n_beads: number of beads.
            x: (frames, atoms, 3) positions, nm, molecules whole; None trains on forces alone.
            forces: (frames, atoms, 3) kJ/mol/nm; None trains on positions alone.
            masses: (atoms,) amu; None makes centres of geometry.
            force_weight: weight of the force variance beside the reconstruction error.
            noise: noise on the beads that the back-map must bear, nm (`reconstruction_error`).
            temperature: temperature of the softmax at each step, an optax schedule; by default it falls from 10 to 0.1
                within 400 steps.
            optimiser: an optax optimiser; Adam with rate 0.2 by default.

        Raises:
            ValueError: neither positions nor forces, or not fewer beads than atoms.
        """
        if x is None and forces is None:
            raise ValueError("MapTrainer: give positions, forces or both to learn from.")
        n_atoms = (x if x is not None else forces).shape[1]  # pyright: ignore[reportOptionalMemberAccess]
        if not 1 <= n_beads < n_atoms:
            raise ValueError(f"MapTrainer: {n_beads} beads for {n_atoms} atoms; give at least one, and fewer.")
        if masses is not None and np.shape(masses) != (n_atoms,):
            raise ValueError(f"MapTrainer: masses of shape {np.shape(masses)} for {n_atoms} atoms.")
        if x is not None and forces is not None and forces.shape[1] != n_atoms:
            raise ValueError(f"MapTrainer: forces on {forces.shape[1]} atoms, positions of {n_atoms}.")
        return MapTrainer(
            _positions=None if x is None else jnp.asarray(position_moments(x), jnp.asarray(x).dtype),
            _forces=None if forces is None else jnp.asarray(force_moments(forces), jnp.asarray(forces).dtype),
            masses=masses,
            force_weight=force_weight,
            noise=noise,
            n_beads=n_beads,
            temperature=temperature or optax.exponential_decay(10.0, 400, 0.01, end_value=0.1),
            optimiser=optimiser or optax.adam(0.2),
        )

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return self._moments.shape[0]

    @property
    def _moments(self) -> Array:
        moments = self._forces if self._positions is None else self._positions
        assert moments is not None
        return moments

    def loss(self, weights: Float[Array, "beads atoms"]) -> Scalar:
        """The loss of a map with weights W, without unit."""
        total = jnp.zeros((), weights.dtype)
        if self._positions is not None:
            spread = jnp.trace(self._positions) / self.n_atoms
            total = total + jnp.log(reconstruction_error(weights, self._positions, self.noise) / spread)
        if self._forces is not None:
            scale = jnp.trace(self._forces) / self.n_atoms
            variance = mapped_force_variance(weights, self._forces, self.masses)
            total = total + self.force_weight * jnp.log(variance / scale)
        return total

    def init(self, key: PRNGKeyArray) -> TrainingState:
        """A random start."""
        assignment = SoftAssignment.random(key, self.n_beads, self.n_atoms, self.masses, self._moments.dtype)
        return TrainingState(assignment, self.optimiser.init(assignment.logits), jnp.zeros((), jnp.int32))

    def step(self, state: TrainingState) -> tuple[TrainingState, TrainingInfo]:
        """One step of the optimiser at the temperature of this step."""
        logits = state.assignment.logits
        temperature = jnp.asarray(self.temperature(state.step), logits.dtype)

        def loss_of(logits):
            return self.loss(SoftAssignment(logits, self.masses).weights(temperature))

        loss, gradient = jax.value_and_grad(loss_of)(logits)
        updates, optimiser_state = self.optimiser.update(gradient, state.optimiser_state, logits)
        assignment = SoftAssignment(optax.apply_updates(logits, updates), self.masses)  # pyright: ignore[reportArgumentType]
        return TrainingState(assignment, optimiser_state, state.step + 1), TrainingInfo(loss, temperature)


class LearnedMap(eqx.Module):
    """Result of `learn_map`.

    Arguments:
        mapping: the hardened map of the best start.
        assignment: its soft assignment.
        loss: its loss after hardening.
        start: which start it is.
        losses: (starts,) hardened loss of every start, infinite where a bead ended empty.
        history: loss and temperature of every step, arrays (starts, steps).
    """

    mapping: LinearMap
    assignment: SoftAssignment
    loss: float
    start: int
    losses: np.ndarray
    history: TrainingInfo


def learn_map(trainer: MapTrainer, key: PRNGKeyArray, *, steps: int = 500, starts: int = 8) -> LearnedMap:
    """Trains soft assignments from several random starts and hardens the best.

    Arguments:
        trainer: what to learn from, and how.
        key: random key.
        steps: number of steps; by their end the temperature should be low.
        starts: number of starts, trained together.

    Raises:
        ValueError: every start ended with an empty bead.

    Source: Wang and Gómez-Bombarelli, npj Comput. Mater. 5, 125 (2019); starts at random and slow cooling as in
    deterministic annealing, Rose, Proc. IEEE 86, 2210 (1998).
    """
    logits, history = _train(trainer, jax.random.split(key, starts), steps)
    groups = np.asarray(jnp.argmax(logits, axis=1))
    losses = np.full(starts, np.inf)
    for start, group in enumerate(groups):
        if len(np.unique(group)) == trainer.n_beads:
            losses[start] = _hard_loss(trainer, jnp.asarray(group))
    best = int(np.argmin(losses))
    if not np.isfinite(losses[best]):
        raise ValueError(
            f"learn_map: all {starts} starts ended with an empty bead; use fewer than {trainer.n_beads} beads, "
            "more starts, or slower cooling (temperature, steps)."
        )
    assignment = SoftAssignment(logits[best], trainer.masses)
    return LearnedMap(assignment.harden(), assignment, float(losses[best]), best, losses, history)


@eqx.filter_jit
def _train(trainer: MapTrainer, keys: Array, steps: int):
    def one(key):
        state, history = jax.lax.scan(lambda state, _: trainer.step(state), trainer.init(key), length=steps)
        return state.assignment.logits, history

    return jax.vmap(one)(keys)


@eqx.filter_jit
def _hard_loss(trainer: MapTrainer, groups: Array) -> Scalar:
    member = groups == jnp.arange(trainer.n_beads)[:, None]
    shares = jnp.where(member, 1.0 if trainer.masses is None else jnp.asarray(trainer.masses), 0.0)
    return trainer.loss((shares / shares.sum(axis=1, keepdims=True)).astype(trainer._moments.dtype))


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
