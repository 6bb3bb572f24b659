"""A softened non-bonded potential for the refinement: overlaps cost little at first, distant charges nothing."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..energy import Nonbonded
from ..mapping._sparse import padded_rows
from ..typing import Array
from ..units import COULOMB_CONSTANT
from ._rows import Table, pulled, separations, take_rows

#: Cutoff of the refinement's non-bonded forces, nm.
CUTOFF = 0.6
#: Relative permittivity of the refinement: keeps like charges from folding onto each other in vacuo.
PERMITTIVITY = 2.0


class SoftNonbonded(eqx.Module):
    """Soft-core Lennard-Jones and shifted-force Coulomb forces over a neighbour table, plus the 1-4 exceptions.

    Soft core: U = 4ε[1/(α + (r/σ)⁶)² − 1/(α + (r/σ)⁶)]; α = 0 is the true potential.
    Source: Beutler et al., Chem. Phys. Lett. 222, 529 (1994).
    """

    charges: np.ndarray
    radii: np.ndarray
    depths: np.ndarray
    one_four_index: np.ndarray
    one_four_charge: np.ndarray
    one_four_sigma: np.ndarray
    one_four_epsilon: np.ndarray

    @staticmethod
    def of(term: Nonbonded, dtype=np.float32) -> "SoftNonbonded":
        """Tables of a force field's non-bonded ``term``."""
        charges = np.asarray(term.charges, dtype=np.float64)
        n = len(charges)
        atoms = np.asarray(term.exception_atoms).reshape(-1, 2)
        products = np.asarray(term.exception_charge_products, dtype=np.float64)
        epsilons = np.asarray(term.exception_epsilons, dtype=np.float64)
        kept = (products != 0) | (epsilons != 0)
        i, j = atoms[kept].T
        rows, partners = np.concatenate([i, j]), np.concatenate([j, i])
        tables = [
            padded_rows(rows, partners, np.tile(values[kept], 2), n)
            for values in (products, np.asarray(term.exception_sigmas, dtype=np.float64), epsilons)
        ]
        scale = COULOMB_CONSTANT / PERMITTIVITY
        return SoftNonbonded(
            charges=(charges * np.sqrt(scale)).astype(dtype),
            radii=(0.5 * np.asarray(term.sigmas, dtype=np.float64)).astype(dtype),
            depths=(2.0 * np.sqrt(np.asarray(term.epsilons, dtype=np.float64))).astype(dtype),
            one_four_index=tables[0][0],
            one_four_charge=(scale * tables[0][1]).astype(dtype),
            one_four_sigma=tables[1][1].astype(dtype),
            one_four_epsilon=(4 * tables[2][1]).astype(dtype),
        )

    def pairs(self, contacts: Array) -> tuple[Array, Array, Array]:
        """σ (nm), 4ε (kJ/mol) and charge product (kJ nm/mol) of each pair of the ``contacts`` table."""
        sigma = take_rows(self.radii, contacts) + self.radii[None, :]
        depth = take_rows(self.depths, contacts) * self.depths[None, :]
        return sigma, depth, take_rows(self.charges, contacts) * self.charges[None, :]

    def forces(self, x: Array, contacts: Array, pairs: tuple[Array, Array, Array], softness, charge) -> Array:
        """Forces (atoms, 4), kJ/mol/nm.

        Arguments:
            x: (atoms, 4) positions, nm, the fourth component zero.
            contacts: (width, atoms) neighbour table without excluded and 1-4 pairs, padded with the atom itself.
            pairs: `SoftNonbonded.pairs` of that table.
            softness: α of the soft core.
            charge: factor on the Coulomb forces, 0 to 1.
        """
        sigma, depth, product = pairs
        d, r2 = separations(x, contacts)
        near = (r2 < CUTOFF**2) & (r2 > 0)
        r2 = jnp.where(near, r2, 1.0)
        pull = _lennard_jones(r2, sigma, depth, softness) + _coulomb(r2, charge * product)
        total = pulled(jnp.where(near, pull, 0.0), d)

        d, r2 = separations(x, self.one_four_index)
        r2 = jnp.maximum(r2, 1e-4)
        pull = _lennard_jones(r2, jnp.maximum(self.one_four_sigma, 1e-3), self.one_four_epsilon, softness)
        return total + pulled(pull + _coulomb(r2, charge * self.one_four_charge), d)


def _lennard_jones(r2: Array, sigma: Table, depth: Table, softness: Array) -> Table:
    """−U′(r)/r of the soft-core potential with 4ε = ``depth``."""
    ratio = r2 / (sigma * sigma)
    sixth = ratio * ratio * ratio
    inverse = 1.0 / (softness + sixth)
    return depth * 6.0 * sixth / r2 * inverse * inverse * (2.0 * inverse - 1.0)


def _coulomb(r2: Array, product: Array) -> Array:
    """−U′(r)/r of q/r shifted so that the force vanishes at the cutoff."""
    inverse = jnp.minimum(1.0 / jnp.sqrt(r2), 20.0)
    force = jnp.maximum(inverse * inverse - 1.0 / CUTOFF**2, 0.0)
    return product * force * inverse
