"""Which of two atoms that are alike bears which name.

The two oxygens of an aspartate differ in nothing but their names, and neither the energy nor the beads tell them apart.
IUPAC does, by the torsion that ends in the first of them: it lies between −90° and 90°.

Source: Markley et al., Pure Appl. Chem. 70, 117 (1998), section 2.1; IUPAC-IUB, J. Mol. Biol. 52, 1 (1970).
"""

from dataclasses import dataclass

import numpy as np

from ..energy import Nonbonded
from ..energy.base import AbstractEnergy
from ..mapping.linear import LinearMap
from ..system import System
from .quality.tables import ALIKE
from .quality.vectors import dihedrals

#: The torsion that decides: it ends in the atom to be named first.
_TORSIONS = {
    "ARG": ("CD", "NE", "CZ", "NH1"),
    "ASP": ("CA", "CB", "CG", "OD1"),
    "GLU": ("CB", "CG", "CD", "OE1"),
    "PHE": ("CA", "CB", "CG", "CD1"),
    "TYR": ("CA", "CB", "CG", "CD1"),
}


@dataclass(frozen=True)
class Nomenclature:
    """Groups of atoms of one molecule whose names may be exchanged.

    Arguments:
        torsions: (groups, 4) atoms of the torsion that decides.
        exchanges: for each group the (pairs, 2) atoms that change places.
    """

    torsions: np.ndarray
    exchanges: list[np.ndarray]

    @staticmethod
    def of(system: System, mapping: LinearMap, energy: AbstractEnergy) -> "Nomenclature":
        """The groups that neither the map nor the non-bonded parameters tell apart."""
        columns = mapping.matrix().tocsc()
        parameters = [
            np.stack([np.asarray(a) for a in (term.charges, term.sigmas, term.epsilons)])
            for term in energy.terms()
            if isinstance(term, Nonbonded)
        ]
        hydrogens = [[] for _ in range(system.n_atoms)]
        for i, j in np.concatenate([system.bonds, system.bonds[:, ::-1]]).tolist():
            if not system.heavy[j]:
                hydrogens[i].append(j)
        torsions, exchanges = [], []
        for name, atoms in zip(system.residue_names, system.residue_atoms(), strict=True):
            wanted = _TORSIONS.get(name, ())
            if not wanted or not all(a in atoms for a in wanted):
                continue
            if not all(a in atoms and b in atoms for a, b in ALIKE[name]):
                continue
            pairs = [(atoms[a], atoms[b]) for a, b in ALIKE[name]]
            if any(len(hydrogens[a]) != len(hydrogens[b]) for a, b in pairs):
                continue
            pairs += [(i, j) for a, b in pairs for i, j in zip(sorted(hydrogens[a]), sorted(hydrogens[b]), strict=True)]
            first, second = np.array(pairs).T
            if (columns[:, first] != columns[:, second]).nnz:
                continue
            if any((values[:, first] != values[:, second]).any() for values in parameters):
                continue
            torsions.append([atoms[a] for a in wanted])
            exchanges.append(np.array(pairs))
        return Nomenclature(np.array(torsions, dtype=np.int64).reshape(-1, 4), exchanges)

    def named(self, x: np.ndarray) -> np.ndarray:
        """``x`` (atoms, 3) with every group named by the rule; beads and energy stay what they were."""
        if not len(self.torsions):
            return x
        x = x.copy()
        for number in np.flatnonzero(np.cos(dihedrals(x, self.torsions)) < 0):
            first, second = self.exchanges[number].T
            x[first], x[second] = x[second], x[first]
        return x
