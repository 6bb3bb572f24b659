"""Doubtful backbones: what counts as doubtful. That a second look mends them is for whole proteins (see the acceptance
tests): lysozyme's frames have 3 % of outliers without it."""

import jax
import numpy as np
import pytest
from fragments import fragment

from jaxcg.backmap import Engine
from jaxcg.backmap.quality.vectors import dihedrals
from jaxcg.backmap.ramachandran import backbone_torsions, ramachandran_regions
from jaxcg.backmap.settling import Backbone, settle
from jaxcg.lockstep import alone


@pytest.fixture(scope="module")
def engine():
    return Engine(fragment(), beads="exact")


def turned(x, bond, moving, angle):
    """``x`` with the atoms ``moving`` turned by ``angle`` about the bond."""
    origin, axis = x[bond[0]], x[bond[1]] - x[bond[0]]
    axis = axis / np.linalg.norm(axis)
    v = x[moving] - origin
    along = (v @ axis)[:, None] * axis
    turned = x.copy()
    turned[moving] = origin + along + (v - along) * np.cos(angle) + np.cross(axis, v) * np.sin(angle)
    return turned


@pytest.mark.slow
def test_doubt_follows_the_regions(engine):
    frame = engine.frame(0, engine.molecule.y, jax.random.key(0))
    backbone = Backbone(engine.system)
    phi, psi, residues, classes = backbone_torsions(engine.system)
    for k in range(0, 360, 30):
        moving = np.arange(phi[1, 2], engine.system.n_atoms)
        x = turned(frame.positions, phi[1, 1:3], moving, np.radians(k))
        regions = ramachandran_regions(dihedrals(x, phi), dihedrals(x, psi), classes)
        np.testing.assert_array_equal(backbone.doubt(x)[residues], 2 - regions)
        doubtful = set(backbone.doubtful(x))
        assert set(residues[regions == 0].tolist()) <= doubtful
        assert doubtful.isdisjoint(residues[regions == 2].tolist())
    density = backbone.log_density(frame.positions)
    assert (density[residues] != 0).all()


def test_a_structure_without_doubt_is_returned_as_it_is(engine):
    frame = engine.frame(0, engine.molecule.y, jax.random.key(0))
    backbone = Backbone(engine.system)
    if backbone.doubtful(frame.positions):
        pytest.fail("the fragment's own structure must be beyond doubt for this test")
    x = np.asarray(frame.positions)
    assert alone(settle(backbone, engine.relaxer, x, frame.y, jax.random.key(1), None, noise=None)) is x
