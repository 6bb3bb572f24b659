import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from jaxcg.report.sampling import sampling_section
from jaxcg.report.sampling_figures import ranks
from jaxcg.sampling import SamplerHealth, Torsions, TypicalSet, assess, torsion_mixing

RNG = np.random.default_rng(0)
CHAINS, DRAWS = 4, 200


@pytest.fixture(scope="module")
def section():
    quantities = {"energy / kJ mol⁻¹": RNG.normal(size=(CHAINS, DRAWS)) + np.array([[0], [0], [0], [3]])}
    torsions = Torsions(
        ["chi1 of LYS 33", "omega of GLY 9"], ["chi1", "omega"], ["threefold", "planar"], [range(4), range(4)]
    )
    angles = np.radians(np.where(RNG.random((CHAINS, DRAWS, 2)) < 0.5, 60, 175))
    angles[0, :, 0] = -1
    mixing = torsion_mixing(torsions, angles)
    health = SamplerHealth(
        np.array([0.8, 0.7, 0.05, 0.9]), np.arange(4), np.zeros(4, int), np.array([1, np.nan, 0.1, 0.9]), np.ones(4), 99
    )
    typical = TypicalSet(RNG.normal(50, 12, (CHAINS, DRAWS)), 1.0, RNG.random(30), 6 + RNG.random(30), 40, 300.0)
    found = assess(quantities, torsions=mixing, health=health)
    return sampling_section(found, quantities, torsions=mixing, health=health, typical_set=typical), found


def test_section_has_every_picture(section):
    section, found = section
    names = [picture["name"] for picture in section["figures"]]
    assert names == [
        "The mode and the typical set",
        "Trace of energy / kJ mol⁻¹",
        "Ranks of energy / kJ mol⁻¹",
        "Chains of the sampler",
        "Populations of torsions",
    ]
    for picture in section["figures"]:
        ElementTree.fromstring(picture["svg"])
        assert "nan" not in picture["svg"]
    pictures = {picture["name"]: picture["svg"] for picture in section["figures"]}
    assert "(d/2) kT = 49.89" in pictures["The mode and the typical set"]
    assert "√d = 6.32" in pictures["The mode and the typical set"]
    torsions = pictures["Populations of torsions"]
    assert "chi1 of LYS 33" in torsions
    assert "gauche−" in torsions
    assert set(section) == {"anchor", "name", "text", "figures", "table"}  # what the page's template takes
    assert section["text"] == found.words()
    assert section["table"]["head"][0] == "quantity"
    assert len(section["table"]["rows"]) == 3


def test_rank_plot_names_the_strange_chain(section):
    text = ranks(RNG.normal(size=(CHAINS, 1000)) + np.array([[0], [0], [2], [0]]), "energy")
    assert "chain 2" in text
    assert "chain" not in ranks(RNG.normal(size=(CHAINS, 1000)), "energy")
