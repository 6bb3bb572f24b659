"""U(x): all-atom potential energies.

Every term of a molecular-mechanics force field is a final module whose array fields are the force-field parameters,
so `jax.grad` reaches them; a sum of terms is an energy. Terms return energy and gradient together, by gathers and row
sums only (see `jaxcg.energy._analytic`). `from_openmm` turns an OpenMM System into an energy that no longer needs
OpenMM.
"""

from .base import AbstractEnergy, SumEnergy, energy_and_forces
from .bonded import HarmonicAngle, HarmonicBond
from .born import GeneralizedBorn, Neck
from .cmap import CMAPTorsion
from .coordinate import DoubleWell, HarmonicPotential, SplinePotential
from .lennard_jones import TypedLennardJones
from .nonbonded import Nonbonded
from .openmm_system import from_openmm
from .path import AbstractEnergyPath, ScaledEnergy, ScaledTerms, SoluteTempering
from .stereo import StereoFence
from .torsion import HarmonicTorsion, PeriodicTorsion

__all__ = [
    "AbstractEnergy",
    "AbstractEnergyPath",
    "CMAPTorsion",
    "DoubleWell",
    "GeneralizedBorn",
    "HarmonicAngle",
    "HarmonicBond",
    "HarmonicPotential",
    "HarmonicTorsion",
    "Neck",
    "Nonbonded",
    "PeriodicTorsion",
    "ScaledEnergy",
    "ScaledTerms",
    "SoluteTempering",
    "SplinePotential",
    "StereoFence",
    "SumEnergy",
    "TypedLennardJones",
    "energy_and_forces",
    "from_openmm",
]
