"""How stiff the molecule is, averaged over configurations: what a mass matrix should look like."""

from functools import partial, singledispatch

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from ...energy import AbstractEnergy, HarmonicAngle, HarmonicBond, HarmonicTorsion, PeriodicTorsion
from ...energy._geometry import angle, corners, dihedral, subtract
from ...posterior import Posterior
from ...typing import Array, AtomVectors, PRNGKeyArray
from ..geometry.atom_blocks import AtomBlocks


@singledispatch
def internal_coordinates(term: AbstractEnergy, x: AtomVectors) -> tuple[Array, Array, Array] | None:
    """The internal coordinates an energy term stiffens: ``(atoms, gradients, stiffness)``, or None for other terms.

    Arguments:
        term: a term of the energy; register another type to make its coordinates count.
        x: (atoms, 3) nm.

    Returns:
        (coordinates, k) atoms of each coordinate q, (coordinates, k, 3) its gradients ∂q/∂x, and (coordinates,) the
        second derivative of the energy with respect to it, never negative.
    """
    del term, x
    return None


@internal_coordinates.register
def _(term: HarmonicBond, x: AtomVectors):
    start, end = (jnp.stack(corner, axis=-1) for corner in corners(x, term.atoms))
    arrow = start - end
    arrow = arrow / jnp.sqrt(jnp.maximum(jnp.sum(arrow**2, axis=-1, keepdims=True), 1e-14))
    return term.atoms, jnp.stack([arrow, -arrow], axis=1), term.stiffness


@internal_coordinates.register
def _(term: HarmonicAngle, x: AtomVectors):
    start, vertex, end = corners(x, term.atoms)
    _, first, last = (jnp.stack(g, axis=-1) for g in angle(subtract(start, vertex), subtract(end, vertex)))
    return term.atoms, jnp.stack([first, -first - last, last], axis=1), term.stiffness


@internal_coordinates.register
def _(term: HarmonicTorsion, x: AtomVectors):
    return term.atoms, _dihedral_gradients(x, term.atoms), term.stiffness


@internal_coordinates.register
def _(term: PeriodicTorsion, x: AtomVectors):
    # The curvature −k n² cos(n φ − δ) in the wells of this term; on a barrier there is none to speak of.
    cosine, sine, _ = dihedral(*corners(x, term.atoms))
    phi = jnp.arctan2(sine, jnp.where((cosine == 0) & (sine == 0), 1.0, cosine))
    curvature = -term.stiffness * term.periodicity**2 * jnp.cos(term.periodicity * phi - term.phase)
    return term.atoms, _dihedral_gradients(x, term.atoms), jnp.maximum(curvature, 0.0)


def bonded_stiffness(posterior: Posterior, blocks: AtomBlocks, positions: Array) -> Array:
    """Gauss-Newton Hessians Σ k ∇q ∇qᵀ of the bonded terms, averaged over configurations, block by block.

    Positive semidefinite by construction; terms without internal coordinates (pairs, solvent) add nothing. The bead
    restraint of a soft posterior is one more such term, and exact.

    Arguments:
        posterior: its energy.
        blocks: coordinates that reach out of a block count with what lies in it.
        positions: (configurations, atoms, 3) nm.

    Returns:
        (blocks, 3 × atoms, 3 × atoms) kJ/mol/nm², zero where padded.
    """
    return _bonded(posterior, blocks, jnp.asarray(positions))


@eqx.filter_jit
def _bonded(posterior, blocks, positions):
    mean = partial(_mean_over, positions)
    return mean(lambda x: _gauss_newton(posterior.energy, blocks, x)) + _restraint(posterior, blocks)


def mean_hessian(posterior: Posterior, blocks: AtomBlocks, positions: Array, key: PRNGKeyArray) -> Array:
    """Hessians of −kT log p(x|y), averaged over configurations, block by block: all terms, pairs and solvent too.

    One Hessian-vector product for each coordinate of a block and each configuration. Blocks are probed together, with
    random signs: the couplings between them appear as noise that averages out, and with one block nothing is random.
    The average may have negative eigenvalues.

    Arguments:
        posterior: the target.
        blocks: which couplings are wanted.
        positions: (configurations, atoms, 3) nm.
        key: for the signs.

    Returns:
        (blocks, 3 × atoms, 3 × atoms) symmetric, kJ/mol/nm², zero where padded.

    Source: the probing is that of Bekas, Kokiopoulou & Saad, Appl. Numer. Math. 57, 1214 (2007).
    """
    return _hessian(posterior, blocks, jnp.asarray(positions), key)


@eqx.filter_jit
def _hessian(posterior, blocks, positions, key):
    count, size, _ = blocks.shape

    def of(case):
        x, signs = case
        slope = jax.grad(posterior.rebuild(x).potential)

        def column(k):
            probe = jnp.zeros((count, size), x.dtype).at[:, k].set(signs)
            product = jax.jvp(slope, (x,), (blocks.join(probe),))[1]
            return blocks.split(product) * signs[:, None]

        return jnp.moveaxis(lax.map(column, jnp.arange(size)), 0, 2)

    signs = jax.random.rademacher(key, (len(positions), count), positions.dtype)
    mean = _mean_over((positions, signs), of)
    there = blocks.split(jnp.ones(positions.shape[1:], positions.dtype))
    mean = mean * there[:, :, None] * there[:, None, :]
    return 0.5 * (mean + jnp.swapaxes(mean, 1, 2))


def _mean_over(cases, function):
    """Mean of ``function`` over the leading axis, one at a time: matrices of many configurations would not fit."""
    first = jax.tree.map(lambda a: a[0], cases)
    count = len(jax.tree.leaves(cases)[0])
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(function, first))
    return lax.scan(lambda total, case: (total + function(case) / count, None), zero, cases)[0]


def _gauss_newton(energy, blocks, x):
    count, size, _ = blocks.shape
    total = jnp.zeros((count, size // 3, size // 3, 3, 3), x.dtype)
    for term in energy.terms():
        found = internal_coordinates(term, x)
        if found is not None:
            atoms, gradients, stiffness = found
            block, slot = jnp.divmod(jnp.asarray(blocks.place)[atoms], size // 3)
            scaled = stiffness.astype(x.dtype)[:, None, None] * gradients
            products = jnp.einsum("qai,qbj->qabij", scaled, gradients, precision=lax.Precision.HIGHEST)
            same = block[:, :, None] == block[:, None, :]
            owner = jnp.where(same, block[:, :, None], count)
            total = total.at[owner, slot[:, :, None], slot[:, None, :]].add(products, mode="drop")
    return jnp.swapaxes(total, 2, 3).reshape(blocks.shape)


def _restraint(posterior, blocks):
    if posterior.noise is None:
        return jnp.zeros((), posterior.y.dtype)
    # M is linear and lies within blocks: the coordinates of one slot in all blocks may be probed at once.
    count, size, _ = blocks.shape
    stiffness = posterior.thermal_energy / posterior.noise**2

    def column(k):
        probe = blocks.join(jnp.zeros((count, size), posterior.y.dtype).at[:, k].set(1.0))
        return blocks.split(posterior.mapping.transpose(posterior.mapping(probe)))

    return stiffness * jnp.moveaxis(lax.map(column, jnp.arange(size)), 0, 2)


def _dihedral_gradients(x, atoms):
    return jnp.stack([jnp.stack(g, axis=-1) for g in dihedral(*corners(x, atoms))[2]], axis=1)
