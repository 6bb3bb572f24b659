"""How points are arranged: radial, bonded and three-body distributions, structure factors, tetrahedral order.

Distributions are streamed: an accumulator takes one frame after another, its memory depends neither on their number nor
on that of pairs, and gives values with errors from blocks of frames. What gradients are needed of is in JAX: soft
histograms, structure factors, order parameters, internal coordinates.
"""

from .bonded import BondedAccumulator, BondedDistribution, bonded_distributions
from .cells import CellPairs
from .internal_coordinates import bond_angles, bond_lengths, dihedral_angles
from .radial import RadialAccumulator, RadialDistribution, radial_distribution, radial_distributions

__all__ = [
    "BondedAccumulator",
    "BondedDistribution",
    "CellPairs",
    "RadialAccumulator",
    "RadialDistribution",
    "bond_angles",
    "bond_lengths",
    "bonded_distributions",
    "dihedral_angles",
    "radial_distribution",
    "radial_distributions",
]
