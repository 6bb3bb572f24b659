"""Names of atoms that are alike, by IUPAC's rule."""

import numpy as np
from fragments import fragment

from jaxcg.backmap.naming import Nomenclature
from jaxcg.backmap.quality.vectors import dihedrals
from jaxcg.mapping import LinearMap


def exchanged(nomenclature, x):
    """``x`` with the atoms of every group in each other's place."""
    x = x.copy()
    for first, second in (pairs.T for pairs in nomenclature.exchanges):
        x[first], x[second] = x[second], x[first]
    return x


def test_alike_atoms_are_named_by_their_torsion_and_nothing_else_changes():
    molecule = fragment()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(molecule.system.n_atoms, 3))
    names = Nomenclature.of(molecule.system, molecule.mapping, molecule.energy)
    assert len(names.exchanges) > 0
    for start in (x, exchanged(names, x)):
        named = names.named(start)
        # Random coordinates: an exchange need not turn the torsion by 180°, as it does in a molecule.
        off = np.cos(dihedrals(start, names.torsions)) < 0
        for pairs, moved in zip(names.exchanges, off, strict=True):
            first, second = pairs.T
            np.testing.assert_array_equal(named[first], start[second if moved else first])
            np.testing.assert_array_equal(named[second], start[first if moved else second])
        untouched = np.setdiff1d(np.arange(len(x)), np.concatenate([p.ravel() for p in names.exchanges]))
        np.testing.assert_array_equal(named[untouched], start[untouched])
        np.testing.assert_allclose(molecule.mapping.matrix() @ named, molecule.mapping.matrix() @ start, atol=1e-12)


def test_atoms_that_beads_tell_apart_keep_their_names():
    molecule = fragment()
    n = molecule.system.n_atoms
    each = LinearMap.from_weights(np.arange(n), np.arange(n), np.ones(n), n, n)
    assert Nomenclature.of(molecule.system, each, molecule.energy).exchanges == []
