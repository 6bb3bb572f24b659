"""Made trajectories of rigid water, any size: what reading, mapping and writing are timed on."""

from pathlib import Path

import numpy as np
from MDAnalysis.lib.formats.libmdaxdr import TRRFile, XTCFile

SHAPE = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [-0.0333, 0.0943, 0.0]])
NAMES = ("OW", "HW1", "HW2")
#: Mapping file of VOTCA: one bead for a molecule, at its centre of mass.
MAPPING = """<cg_molecule>
  <name>SOL</name>
  <ident>SOL</ident>
  <topology>
    <cg_beads>
      <cg_bead><name>CG</name><type>CG</type><mapping>A</mapping><beads>1:SOL:OW 1:SOL:HW1 1:SOL:HW2</beads></cg_bead>
    </cg_beads>
  </topology>
  <maps><map><name>A</name><weights>15.999 1.008 1.008</weights></map></maps>
</cg_molecule>
"""


def frames(molecules: int, count: int, seed: int = 0):
    """Frames (atoms, 3) float32 in nm, wrapped into the box atom by atom, and the edge of the cubic box."""
    rng = np.random.default_rng(seed)
    edge = (molecules / 33.4) ** (1 / 3)
    side = int(np.ceil(molecules ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:molecules]
    x = ((grid * (edge / side))[:, None] + SHAPE).reshape(-1, 3)
    for _ in range(count):
        moved = x + np.repeat(rng.normal(size=(molecules, 3)) * 0.1, 3, axis=0) + rng.normal(size=x.shape) * 0.004
        yield np.mod(moved, edge).astype(np.float32), edge


def write_topology(folder: Path, molecules: int) -> None:
    """Writes ``water.gro``, the mapping ``water.xml`` and, for csg_map, ``topology.xml``."""
    first, edge = next(frames(molecules, 1))
    with open(folder / "water.gro", "w") as file:
        file.write(f"water\n{3 * molecules}\n")
        for i, (x, y, z) in enumerate(first.tolist()):
            file.write(
                f"{(i // 3 + 1) % 100000:5d}SOL  {NAMES[i % 3]:>5s}{(i + 1) % 100000:5d}{x:8.3f}{y:8.3f}{z:8.3f}\n"
            )
        file.write(f"{edge:10.5f}" * 3 + "\n")
    (folder / "water.xml").write_text(MAPPING)
    (folder / "topology.xml").write_text(
        f'<topology base="water.gro"><molecules><clear/>'
        f'<define name="SOL" first="1" nbeads="3" nmols="{molecules}"/></molecules></topology>\n'
    )


def write_xtc(path: Path, molecules: int, count: int) -> None:
    """Writes ``count`` frames as XTC."""
    with XTCFile(str(path), "w") as file:
        for k, (x, edge) in enumerate(frames(molecules, count)):
            file.write(x, np.eye(3, dtype=np.float32) * edge, k, float(k), precision=1000)


def write_trr(path: Path, molecules: int, count: int) -> None:
    """Writes ``count`` frames with forces as TRR."""
    rng = np.random.default_rng(1)
    with TRRFile(str(path), "w") as file:
        for k, (x, edge) in enumerate(frames(molecules, count)):
            forces = (rng.normal(size=x.shape) * 100).astype(np.float32)
            file.write(x, None, forces, np.eye(3, dtype=np.float32) * edge, k, float(k), 0.0, len(x))
