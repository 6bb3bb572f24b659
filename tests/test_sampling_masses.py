import numpy as np
import pytest

from jaxcg.sampling import heavy_hydrogen_masses
from jaxcg.system import System


def methanol():
    return System(
        masses=[12.011, 1.008, 1.008, 1.008, 15.999, 1.008],
        elements=["C", "H", "H", "H", "O", "H"],
        atom_names=["C", "H1", "H2", "H3", "O", "HO"],
        atom_residue=[0] * 6,
        residue_names=["MOH"],
        residue_ids=["1"],
        chain_ids=["A"],
        bonds=[(0, 1), (2, 0), (0, 3), (0, 4), (5, 4)],
    )


def test_mass_moves_from_parents_to_hydrogens():
    masses = heavy_hydrogen_masses(methanol())
    np.testing.assert_allclose(masses, [12.011 - 6.048, 3.024, 3.024, 3.024, 15.999 - 2.016, 3.024])
    np.testing.assert_allclose(heavy_hydrogen_masses(methanol(), 1.0), methanol().masses)


def test_factor_must_leave_the_parent_heavier():
    with pytest.raises(ValueError, match="leaves atom 0 \\(C\\) with"):
        heavy_hydrogen_masses(methanol(), 4.0)
    with pytest.raises(ValueError, match="below 1"):
        heavy_hydrogen_masses(methanol(), 0.5)
