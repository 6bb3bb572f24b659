"""A softened non-bonded potential for the refinement: overlaps cost little at first, distant charges nothing."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..energy import Nonbonded
from ..energy._pairs import pair_gradient
from ..mapping._sparse import padded_rows
from ..neighbors import NeighborTable, partner_table
from ..typing import Array
from ..units import COULOMB_CONSTANT
from ._rows import Table, pulled, separations

#: Cutoff of the refinement's non-bonded forces, nm.
CUTOFF = 0.6
#: Relative permittivity of the refinement: keeps like charges from folding onto each other in vacuo.
PERMITTIVITY = 2.0
#: Squared distance (nm²) below which forces stop growing.
NEAREST = 1e-4


class SoftNonbonded(eqx.Module):
    """Soft-core Lennard-Jones and shifted-force Coulomb forces over a neighbour table, plus the 1-4 exceptions.

    Soft core: U = 4ε[1/(α + (r/σ)⁶)² − 1/(α + (r/σ)⁶)]; α = 0 is the true potential.
    Source: Beutler et al., Chem. Phys. Lett. 222, 529 (1994).
    """

    charges: np.ndarray
    radii: np.ndarray
    depths: np.ndarray
    excluded: np.ndarray
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
            excluded=partner_table(atoms, n),
            one_four_index=tables[0][0],
            one_four_charge=(scale * tables[0][1]).astype(dtype),
            one_four_sigma=tables[1][1].astype(dtype),
            one_four_epsilon=(4 * tables[2][1]).astype(dtype),
        )

    def forces(self, x: Array, table: NeighborTable, softness, charge) -> Array:
        """Forces (atoms, 4), kJ/mol/nm.

        Arguments:
            x: (atoms, 4) positions, nm, the fourth component zero.
            table: pairs within the cutoff, without excluded and 1-4 pairs.
            softness: α of the soft core.
            charge: factor on the Coulomb forces, 0 to 1.
        """

        def kernel(r2, source, target, present):
            present = present & (r2 < CUTOFF**2)
            r2 = jnp.where(present, jnp.maximum(r2, NEAREST), 1.0)
            depth = jnp.where(present, target[2] * source[2], 0.0)
            product = jnp.where(present, charge * target[0] * source[0], 0.0)
            pull = _lennard_jones(r2, target[1] + source[1], depth, softness) + _coulomb(r2, product)
            return jnp.zeros_like(pull), pull

        features = [jnp.asarray(a) for a in (self.charges, self.radii, self.depths)]
        total = jnp.pad(pair_gradient(kernel, x[:, :3], features, table)[1], ((0, 0), (0, 1)))

        d, r2 = separations(x, self.one_four_index)
        r2 = jnp.maximum(r2, NEAREST)
        pull = _lennard_jones(r2, jnp.maximum(self.one_four_sigma, 1e-3), self.one_four_epsilon, softness)
        return total + pulled(pull + _coulomb(r2, charge * self.one_four_charge), d)


def _lennard_jones(r2: Array, sigma: Table, depth: Table, softness: Array) -> Array:
    """−U′(r)/r of the soft-core potential with 4ε = ``depth``."""
    ratio = r2 / (sigma * sigma)
    sixth = ratio * ratio * ratio
    inverse = 1.0 / (softness + sixth)
    return jnp.asarray(depth) * 6.0 * sixth / r2 * inverse * inverse * (2.0 * inverse - 1.0)


def _coulomb(r2: Array, product: Array) -> Array:
    """−U′(r)/r of q/r shifted so that the force vanishes at the cutoff."""
    inverse = jnp.minimum(1.0 / jnp.sqrt(r2), 20.0)
    force = jnp.maximum(inverse * inverse - 1.0 / CUTOFF**2, 0.0)
    return product * force * inverse
