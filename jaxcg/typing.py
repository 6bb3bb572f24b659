"""Array type aliases used in public signatures (shapes are checked in the test-suite by beartype)."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt

#: A scalar real, e.g. an energy in kJ/mol.
Scalar: TypeAlias = Float[Array, ""]
#: Atom positions, velocities or forces: (atoms, 3).
AtomVectors: TypeAlias = Float[Array | np.ndarray, "atoms 3"]
#: Bead positions: (beads, 3).
BeadVectors: TypeAlias = Float[Array | np.ndarray, "beads 3"]
#: Anything carried by atoms, or by beads: coordinates of any dimension, several configurations as trailing axes.
AtomArray: TypeAlias = Float[Array | np.ndarray, "atoms ..."]
BeadArray: TypeAlias = Float[Array | np.ndarray, "beads ..."]
#: What an energy is a function of: the positions of atoms, or other coordinates of any shape.
Coordinates: TypeAlias = Float[Array | np.ndarray, "..."]
#: Per-atom scalars such as masses (amu).
AtomScalars: TypeAlias = Float[Array | np.ndarray, " atoms"]

__all__ = [
    "Array",
    "AtomArray",
    "AtomScalars",
    "AtomVectors",
    "BeadArray",
    "BeadVectors",
    "Bool",
    "Coordinates",
    "Float",
    "Int",
    "PRNGKeyArray",
    "Scalar",
    "UInt",
]
