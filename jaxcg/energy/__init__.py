"""U(x): all-atom potential energies.

Every term of a molecular-mechanics force field is a final module whose array fields are the force-field parameters,
so `jax.grad` reaches them; a sum of terms is an energy. Terms return energy and gradient together, by gathers and row
sums only (see `jaxcg.energy._analytic`). `from_openmm` turns an OpenMM System into an energy that no longer needs
OpenMM.
"""

from .base import AbstractEnergy, SumEnergy, energy_and_forces
from .bonded import HarmonicAngle, HarmonicBond
from .bonded_tables import TabulatedAngle, TabulatedBond, TabulatedTorsion
from .born import GeneralizedBorn, Neck
from .cmap import CMAPTorsion
from .coordinate import DoubleWell, HarmonicPotential, SplinePotential
from .lennard_jones import TypedLennardJones
from .nonbonded import Nonbonded
from .openmm_system import from_openmm
from .pair_bspline import BSplinePair
from .pair_energy import PairEnergy, TailCorrection
from .pair_families import Mie, RepulsiveCore, SwitchedPair
from .pair_potentials import WCA, AbstractPairPotential, LennardJones, StillingerWeberPair
from .pair_tables import SplinePair, TabulatedPair
from .path import AbstractEnergyPath, ScaledEnergy, ScaledTerms, SoluteTempering
from .stereo import StereoFence
from .stillinger_weber import MW_WATER, SILICON, StillingerWeber, StillingerWeberTriplets, stillinger_weber
from .torsion import HarmonicTorsion, PeriodicTorsion

__all__ = [
    "MW_WATER",
    "SILICON",
    "WCA",
    "AbstractEnergy",
    "AbstractEnergyPath",
    "AbstractPairPotential",
    "BSplinePair",
    "CMAPTorsion",
    "DoubleWell",
    "GeneralizedBorn",
    "HarmonicAngle",
    "HarmonicBond",
    "HarmonicPotential",
    "HarmonicTorsion",
    "LennardJones",
    "Mie",
    "Neck",
    "Nonbonded",
    "PairEnergy",
    "PeriodicTorsion",
    "RepulsiveCore",
    "ScaledEnergy",
    "ScaledTerms",
    "SoluteTempering",
    "SplinePair",
    "SplinePotential",
    "StereoFence",
    "StillingerWeber",
    "StillingerWeberPair",
    "StillingerWeberTriplets",
    "SumEnergy",
    "SwitchedPair",
    "TabulatedAngle",
    "TabulatedBond",
    "TabulatedPair",
    "TabulatedTorsion",
    "TailCorrection",
    "TypedLennardJones",
    "energy_and_forces",
    "from_openmm",
    "stillinger_weber",
]
