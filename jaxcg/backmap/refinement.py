"""Refinement of an embedded structure: all atoms, three dimensions, the force field with a softened non-bonded part."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ..energy.base import SumEnergy
from ..mapping.linear import Fibre
from ..typing import Array
from ._rows import gather_forces, volume_forces
from .embedding import Restraints
from .softcore import SoftNonbonded

#: Weight of the chiral volumes while refining, kJ/mol per 1e-3 nm³.
VOLUME_WEIGHT = 200.0
#: Soft core at the start; it is gone after this fraction of the steps.
SOFTNESS = 0.5
SOFT_FRACTION = 0.4


class Refiner(eqx.Module):
    """What the refinement of a molecule needs: bonded terms and prior, soft non-bonded part, chirality."""

    bonded: SumEnergy
    soft: SoftNonbonded
    restraints: Restraints

    def forces(self, x: Array, contacts: Array, pairs: tuple[Array, Array, Array], softness, charge) -> Array:
        """Forces (atoms, 4), kJ/mol/nm, at ``x`` (atoms, 4) whose fourth component is zero."""
        total = self.soft.forces(x, contacts, pairs, softness, charge)
        if self.restraints.centers.shape[0]:
            chiral = volume_forces(x, self.restraints.centers, self.restraints.volumes, VOLUME_WEIGHT)
            total = total + gather_forces(chiral, self.restraints.incidence)
        return total - jnp.pad(jax.grad(self.bonded)(x[:, :3]), ((0, 0), (0, 1)))


class Progress(eqx.Module):
    """State of a refinement between chunks."""

    x: Array
    moments: optax.OptState
    step: Array

    @staticmethod
    def start(x: Array) -> "Progress":
        """Progress at step 0 from positions (atoms, 3)."""
        x = jnp.pad(x, ((0, 0), (0, 1)))
        return Progress(x, optax.scale_by_adam().init(x), jnp.zeros((), jnp.int32))


def refine(
    refiner: Refiner,
    fibre: Fibre,
    y: Array,
    contacts: Array,
    progress: Progress,
    n_steps: Array,
    total: Array,
    rate: Array,
    bead_stiffness: Array | None,
) -> Progress:
    """Advances a refinement by ``n_steps`` of projected Adam out of ``total``.

    Arguments:
        refiner, fibre: the molecule; unit masses.
        y: (beads, 3) nm.
        contacts: (width, atoms) neighbour table around the present positions.
        progress: where the refinement stands.
        n_steps, total: steps to take now and altogether; soft core and rate follow step/total.
        rate: initial step size, nm; falls to a twentieth along a cosine.
        bead_stiffness: None holds the beads exactly; else force constant of each bead, kJ/mol/nm².
    """
    y4 = jnp.pad(y, ((0, 0), (0, 1)))
    pairs = refiner.soft.pairs(contacts)
    adam = optax.scale_by_adam()

    def step(_, state: Progress) -> Progress:
        done = state.step / total
        x = state.x
        softness = SOFTNESS * jnp.maximum(1.0 - done / SOFT_FRACTION, 0.0)
        charge = jnp.minimum(done / SOFT_FRACTION, 1.0)
        gradient = -refiner.forces(x, contacts, pairs, softness.astype(x.dtype), charge.astype(x.dtype))
        if bead_stiffness is None:
            gradient = fibre.tangent(gradient)
        else:
            gradient = gradient + bead_stiffness * fibre.mapping.transpose(fibre.mapping(x) - y4)
        update, moments = adam.update(gradient, state.moments)
        speed = rate * (0.05 + 0.95 * 0.5 * (1 + jnp.cos(jnp.pi * done)))
        x = x - speed.astype(x.dtype) * jnp.asarray(update)
        if bead_stiffness is None:
            x = jnp.asarray(fibre.retract(x, y4))
        return Progress(x, moments, state.step + 1)

    return jax.lax.fori_loop(0, n_steps, step, progress)
