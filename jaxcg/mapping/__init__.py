"""Forward maps x → y: what a coarse-grained configuration is, as a function of the atoms, and what it leaves out.

Maps: `LinearMap` (centres of mass or geometry, slices, any weights, overlapping beads, atoms in no bead),
`ReplicatedMap` and `JoinedMap` (many equal molecules), `VirtualSites`, `FrameMap` and `ReferenceFrameMap`
(orientations). The `Fibre` of a linear map is the set of all-atom configurations with one coarse-grained image, which
back-mapping minimises on and sampling moves along. Around them: what a map keeps and loses (`split`, `null_space`,
`fluctuation_loss`, `explain`), which consistency conditions it meets (`check_conditions`), reconstruction of least
norm (`minimum_norm`), maps of forces (`ForceMap`, `optimal_force_map`) and maps that are learned (`learn_map`).
`jaxcg.mapping.formats` builds maps from mapping files.
"""

from .base import AbstractFibre, AbstractLinearMap, AbstractMap
from .conditions import Condition, check_conditions, consistent_masses
from .constraints import constrained_pairs, rigid_groups
from .explain import Explanation, explain, explain_model
from .force_maps import ForceMap, aggregating_force_map
from .frames import AbstractFrameMap, FrameMap, FrameReport, Frames, ReferenceFrameMap
from .information import FluctuationAnalysis, FluctuationLoss, Split, fluctuation_loss, null_space, split
from .learned import LearnedMap, MapTrainer, SoftAssignment, force_moments, learn_map, position_moments
from .linear import Fibre, LinearMap
from .many_frames import FrameMapper, map_frames
from .optimal_force_maps import ForceMapFit, ForceMoments, bonded_neighbours, force_variance, optimal_force_map
from .pseudoinverse import MinimumNorm, Reconstruction, minimum_norm
from .replicated import JoinedMap, ReplicatedMap
from .rigid_bonds import RigidBonds
from .virtual_sites import Site, VirtualSites, with_virtual_sites

__all__ = [
    "AbstractFibre",
    "AbstractFrameMap",
    "AbstractLinearMap",
    "AbstractMap",
    "Condition",
    "Explanation",
    "Fibre",
    "FluctuationAnalysis",
    "FluctuationLoss",
    "ForceMap",
    "ForceMapFit",
    "ForceMoments",
    "FrameMap",
    "FrameMapper",
    "FrameReport",
    "Frames",
    "JoinedMap",
    "LearnedMap",
    "LinearMap",
    "MapTrainer",
    "MinimumNorm",
    "Reconstruction",
    "ReferenceFrameMap",
    "ReplicatedMap",
    "RigidBonds",
    "Site",
    "SoftAssignment",
    "Split",
    "VirtualSites",
    "aggregating_force_map",
    "bonded_neighbours",
    "check_conditions",
    "consistent_masses",
    "constrained_pairs",
    "explain",
    "explain_model",
    "fluctuation_loss",
    "force_moments",
    "force_variance",
    "learn_map",
    "map_frames",
    "minimum_norm",
    "null_space",
    "optimal_force_map",
    "position_moments",
    "rigid_groups",
    "split",
    "with_virtual_sites",
]
