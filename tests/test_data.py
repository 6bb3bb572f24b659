"""The examples inside the package."""

import numpy as np
import pytest

from jaxcg.data import EXAMPLES, example
from jaxcg.errors import InputError
from jaxcg.io import read_beads, read_frames


@pytest.mark.parametrize(
    ("name", "beads", "residues"), [("ubiquitin", 166, 76), ("villin", 88, 35), ("ubiquitin-md", 166, 76)]
)
def test_examples_can_be_read(name, beads, residues):
    files = example(name)
    structure = read_beads(files.structure)
    assert (structure.n_beads, len(structure.residues)) == (beads, residues)
    if files.trajectory is None:
        return
    frames = list(read_frames(structure, files.trajectory, None))
    assert len(frames) == 5
    assert all(np.asarray(frame[1]).shape == (beads, 3) for frame in frames)


def test_unknown_example_lists_the_known():
    with pytest.raises(InputError, match="ubiquitin, villin"):
        example("insulin")


def test_origin_of_every_file_is_stated():
    readme = (example("ubiquitin").structure.parent / "README.md").read_text()
    for files in EXAMPLES.values():
        assert files.structure.name in readme
