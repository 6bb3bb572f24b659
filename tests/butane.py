"""Four atoms in a chain on the fibre of their centre: a torsion whose law is known by quadrature."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcg.energy import HarmonicAngle, HarmonicBond, PeriodicTorsion
from jaxcg.mapping import LinearMap
from jaxcg.posterior import Posterior
from jaxcg.sampling import Torsions
from jaxcg.units import GAS_CONSTANT

KT = GAS_CONSTANT * 300.0
MASSES = np.full(4, 14.0)
TORSION = Torsions(["phi"], ["phi"], ["threefold"], [[0, 1, 2, 3]])


def butane(dtype=np.float32):
    """Four atoms in a chain whose centre is held. Bonds, angles and the torsion are independent: the law of the torsion
    is exp(−V(φ)/kT). Its barriers are 10 kT, its wells not equally deep, one wide bead holds the centre."""
    stiffness = np.array([5.0, 0.8]) * KT
    energy = (
        HarmonicBond([[0, 1], [1, 2], [2, 3]], [0.15] * 3, [5e3] * 3, n_atoms=4)
        + HarmonicAngle([[0, 1, 2], [1, 2, 3]], [1.95] * 2, [100.0] * 2, n_atoms=4)
        + PeriodicTorsion([[0, 1, 2, 3]] * 2, [3, 1], [0.0, 2.0], stiffness, n_atoms=4)
    )
    energy = jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, energy)
    mapping = LinearMap.center_of_mass([[0, 1, 2, 3]], MASSES)
    start = np.array([[0, 0, 0], [0.15, 0, 0], [0.2055, 0.1394, 0], [0.1455, 0.2, 0.12]], dtype)
    return Posterior(energy, mapping, mapping(jnp.asarray(start)), 300.0), start


def weights():
    """Probability of the wells around 60°, 180° and 300°."""
    phi = (np.arange(36000) + 0.5) / 100
    radians = np.deg2rad(phi)
    density = np.exp(-5 * (1 + np.cos(3 * radians)) - 0.8 * (1 + np.cos(radians - 2.0)))
    return np.bincount((phi // 120).astype(int), density) / density.sum()
