"""How points are arranged: radial, bonded and three-body distributions, structure factors, tetrahedral order.

Distributions are streamed: an accumulator takes one frame after another, its memory depends neither on their number nor
on that of pairs, and gives values with errors from blocks of frames. What gradients are needed of is in JAX: soft
histograms, structure factors, order parameters, internal coordinates.
"""

from .bonded import BondedAccumulator, BondedDistribution, bonded_distributions
from .cells import CellPairs, PairBlock, box_widths
from .frame_blocks import FrameBlocks
from .histograms import Distribution, HistogramAccumulator, hard_histogram, soft_histogram
from .internal_coordinates import bond_angles, bond_lengths, dihedral_angles
from .near_points import nearest_neighbors
from .radial import (
    RadialAccumulator,
    RadialDistribution,
    count_distances,
    radial_distribution,
    radial_distributions,
)
from .soft_radial import compared_counts, soft_radial_distribution
from .structure_factor import (
    StructureFactorAccumulator,
    debye_structure_factor,
    lattice_magnitudes,
    lattice_structure_factor,
    structure_factor,
    structure_factor_from_radial,
)
from .tetrahedral import tetrahedral_distribution, tetrahedral_order
from .three_body import ThreeBodyDistribution, angular_distribution, three_body_distribution, triplets

__all__ = [
    "BondedAccumulator",
    "BondedDistribution",
    "CellPairs",
    "Distribution",
    "FrameBlocks",
    "HistogramAccumulator",
    "PairBlock",
    "RadialAccumulator",
    "RadialDistribution",
    "StructureFactorAccumulator",
    "ThreeBodyDistribution",
    "angular_distribution",
    "bond_angles",
    "bond_lengths",
    "bonded_distributions",
    "box_widths",
    "compared_counts",
    "count_distances",
    "debye_structure_factor",
    "dihedral_angles",
    "hard_histogram",
    "lattice_magnitudes",
    "lattice_structure_factor",
    "nearest_neighbors",
    "radial_distribution",
    "radial_distributions",
    "soft_histogram",
    "soft_radial_distribution",
    "structure_factor",
    "structure_factor_from_radial",
    "tetrahedral_distribution",
    "tetrahedral_order",
    "three_body_distribution",
    "triplets",
]
