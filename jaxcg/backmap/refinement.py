"""Refinement of an embedded structure: all atoms, three dimensions, the force field with a softened non-bonded part."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..energy.base import SumEnergy
from ..mapping.base import AbstractFibre
from ..neighbors import neighbor_table
from ..typing import Array
from ._rows import gather_forces, volume_forces
from .embedding import Restraints
from .softcore import CUTOFF, SoftNonbonded

#: Weight of the chiral volumes while refining, kJ/mol per 1e-3 nm³.
VOLUME_WEIGHT = 200.0
#: Soft core at the start; it is gone after this fraction of the steps.
SOFTNESS = 0.5
SOFT_FRACTION = 0.4
#: Decay of Adam's second moment: short, as in the embedding, so that it ends nearer to the minimum.
SECOND_MOMENT_DECAY = 0.9
#: Skin of the neighbour table, nm.
SKIN = 0.06


class Refiner(eqx.Module):
    """What the refinement of a molecule needs: bonded terms and prior, soft non-bonded part, chirality."""

    bonded: SumEnergy
    soft: SoftNonbonded
    restraints: Restraints

    def forces(self, x: Array, table, softness, charge) -> Array:
        """Forces (atoms, 4), kJ/mol/nm, at ``x`` (atoms, 4) whose fourth component is zero."""
        total = self.soft.forces(x, table, softness, charge)
        if self.restraints.centers.shape[0]:
            chiral = volume_forces(x, self.restraints.centers, self.restraints.volumes, VOLUME_WEIGHT)
            total = total + gather_forces(chiral, self.restraints.incidence)
        return total - jnp.pad(jax.grad(self.bonded)(x[:, :3]), ((0, 0), (0, 1)))


class Schedule(NamedTuple):
    """How a refinement goes: steps of each chunk (a new neighbour table before each) and the first step size, nm."""

    chunks: np.ndarray
    rate: np.ndarray


def refine(
    refiner: Refiner,
    fibre: AbstractFibre,
    order: Array | np.ndarray,
    room: tuple[int, int],
    schedule: Schedule,
    bead_stiffness: Array | None,
    y: Array | np.ndarray,
    x: Array | np.ndarray,
) -> tuple[Array, Array]:
    """Projected Adam on the softened force field while the soft core and the step size shrink.

    Arguments:
        refiner, fibre: the molecule; unit masses.
        order: tiles of the neighbour table.
        room: rows of the neighbour table, in all and of one tile.
        schedule: chunks and step size, which falls to a twentieth along a cosine.
        bead_stiffness: None holds the beads exactly; else force constant of each bead, kJ/mol/nm².
        y: (beads, 3) nm.
        x: (atoms, 3) nm, the start.

    Returns:
        Refined positions (atoms, 3), nm, and the largest overflow of a neighbour table: if positive the positions are
        of no use.
    """
    y4 = jnp.pad(y, ((0, 0), (0, 1)))
    adam = optax.scale_by_adam(b2=SECOND_MOMENT_DECAY)
    total = jnp.sum(schedule.chunks)

    def chunk(state, n_steps):
        table = neighbor_table(state[0][:, :3], CUTOFF + SKIN, order, *room, jnp.asarray(refiner.soft.excluded))

        def step(_, state):
            x, moments, number = state
            done = (number / total).astype(x.dtype)
            softness = SOFTNESS * jnp.maximum(1.0 - done / SOFT_FRACTION, 0.0)
            charge = jnp.minimum(done / SOFT_FRACTION, 1.0)
            gradient = -refiner.forces(x, table, softness, charge)
            if bead_stiffness is None:
                gradient = fibre.tangent(gradient)
            else:
                gradient = gradient + bead_stiffness * fibre.mapping.transpose(fibre.mapping(x) - y4)
            update, moments = adam.update(gradient, moments)
            speed = schedule.rate * (0.05 + 0.95 * 0.5 * (1 + jnp.cos(jnp.pi * done)))
            x = x - speed.astype(x.dtype) * jnp.asarray(update)
            if bead_stiffness is None:
                x = jnp.asarray(fibre.retract(x, y4))
            return x, moments, number + 1

        return jax.lax.fori_loop(0, n_steps, step, state), table.overflow

    x = jnp.pad(x, ((0, 0), (0, 1)))
    start = (x, adam.init(x), jnp.zeros((), jnp.int32))
    (x, *_), overflow = jax.lax.scan(chunk, start, jnp.asarray(schedule.chunks))
    return x[:, :3], jnp.max(overflow)
