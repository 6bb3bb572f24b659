"""Rotamers of a real molecule: the methyl group of alanine dipeptide, whose three wells are equal by symmetry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from alanine_fibre import METHYL, alanine_fibre

from jaxcg.energy import StereoFence
from jaxcg.posterior import Posterior
from jaxcg.sampling import Ladder, Torsions, heavy_hydrogen_masses, tempered_sample

KEY = jax.random.key(0)


@pytest.mark.slow
def test_methyl_rotamers_are_visited_with_equal_weights():
    fibre = alanine_fibre(solvent=False)
    bare = fibre.posterior()
    fence = StereoFence(fibre.system)
    posterior = Posterior(bare.energy + fence, bare.mapping, bare.y)
    masses = heavy_hydrogen_masses(fibre.system)
    methyl = Torsions(["methyl of ALA 2"], ["methyl"], ["threefold"], [METHYL])
    result = tempered_sample(
        posterior,
        fibre.starts(1),
        KEY,
        masses=masses,
        draws=150,
        thin=1,
        ladder=Ladder.geometric(300.0, 1000.0, rungs=6),
        ladders=4,
        warmup=30,
        heat=200,
        hold=200,
        steps=30,
        step_size=0.0015,
        torsions=methyl,
    )
    mixing = result.torsions
    assert mixing is not None
    # The error of a population is near 0.15 in a test of this length: visited by exchange is what can be asked for.
    populations, errors = mixing.populations[0, :3], mixing.population_errors[0, :3]
    assert np.all(populations > 0.08), (populations, errors)
    assert np.all(np.abs(populations - 1 / 3) < 4 * errors)
    assert np.all(mixing.transitions[:, 0] > 0), mixing.transitions
    assert result.round_trips.sum() > 0
    # What is sampled is the target's: at the fence there is nothing, and the beads stay where they were.
    assert max(float(fence(jnp.asarray(x))) for x in result.positions[:, ::50].reshape(-1, 22, 3)) == 0
