"""Writing structures, trajectories and systems; a crash leaves no half-written file."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .molecule import Molecule


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path in the folder of ``path`` that takes its place when the block ends without an error.

    The name ends like ``path``, so format detection by ending works. After an error the temporary file is removed and
    an older ``path`` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        # mkstemp makes private files; results get the permissions of any other new file.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_pdb(path: str | os.PathLike, molecule: Molecule, positions, box=None) -> None:
    """Writes one structure, or several as models, as PDB with standard atom and residue names.

    Arguments:
        path: file to write.
        molecule: whose atoms they are.
        positions: (atoms, 3) or (models, atoms, 3), nm.
        box: (3, 3) box vectors as rows, nm, or None.

    Raises:
        ValueError: the shape does not fit, or a coordinate is not finite.
    """
    from openmm.app import PDBFile

    positions = _checked(positions, molecule)
    models = positions[None] if positions.ndim == 2 else positions
    topology = _with_box(molecule.topology, box)
    text = io.StringIO()
    PDBFile.writeHeader(topology, text)
    for number, model in enumerate(models, 1):
        index = number if len(models) > 1 else None
        PDBFile.writeModel(topology, model * 10, text, modelIndex=index, keepIds=True)
    PDBFile.writeFooter(topology, text)
    names = [atom.residue.name for atom in topology.atoms()]
    with atomic_path(path) as temporary, open(temporary, "w") as file:
        file.writelines(_portable(text.getvalue().splitlines(True), names))


def _portable(lines: list[str], residue_names: list[str]) -> Iterator[str]:
    """OpenMM's PDB lines, changed where other programs or a second run would stumble.

    The line that names the day goes; four-letter residue names are kept whole (the CHARMM convention); bonds between
    atoms beyond number 99999 go, as OpenMM counts on in hexadecimal, which few programs read there.
    """
    atom, many = 0, len(residue_names) > 99_999
    for line in lines:
        if line.startswith("REMARK") or (many and line.startswith("CONECT")):
            continue
        if line.startswith(("ATOM", "HETATM")):
            name = residue_names[atom % len(residue_names)]
            atom += 1
            if len(name) == 4:
                line = line[:17] + name + line[21:]
        yield line


def write_xtc(path: str | os.PathLike, molecule: Molecule, frames: Iterable, boxes: Iterable | None = None) -> None:
    """Writes a trajectory as XTC, to 1e-5 nm.

    Arguments:
        path: file to write.
        molecule: whose atoms they are.
        frames: (atoms, 3) positions in nm, one for each frame.
        boxes: (3, 3) box vectors in nm for each frame, or None.

    Raises:
        ValueError: the shape does not fit, or a coordinate is not finite.
    """
    from MDAnalysis.lib.formats.libmdaxdr import XTCFile

    every_box = iter(boxes) if boxes is not None else None
    with atomic_path(path) as temporary, XTCFile(str(temporary), "w") as file:
        for step, frame in enumerate(frames):
            box = next(every_box) if every_box is not None else None
            vectors = np.zeros((3, 3)) if box is None else np.asarray(box)
            file.write(
                np.asarray(_checked(frame, molecule), dtype=np.float32),
                np.asarray(vectors, dtype=np.float32),
                step,
                float(step),
                precision=1e5,
            )


def write_system(path: str | os.PathLike, molecule: Molecule) -> None:
    """Writes the force field of the molecule as ``system.xml`` for OpenMM."""
    from openmm import XmlSerializer

    write_text(path, XmlSerializer.serialize(molecule.openmm_system))


def write_with(path: str | os.PathLike, write: Callable[[Path], None]) -> None:
    """Calls ``write(temporary path)`` and puts the result in place of ``path`` when it succeeds."""
    with atomic_path(path) as temporary:
        write(temporary)


def _checked(positions, molecule: Molecule) -> np.ndarray:
    positions = np.asarray(positions, dtype=np.float64)
    n = molecule.system.n_atoms
    if positions.shape[-2:] != (n, 3) or positions.ndim not in (2, 3):
        raise ValueError(f"positions have shape {positions.shape}, expected ({n}, 3) or (models, {n}, 3).")
    if not np.isfinite(positions).all():
        raise ValueError("positions hold values that are not finite.")
    return positions


def _with_box(topology, box):
    if box is None:
        return topology
    import copy

    from openmm import Vec3

    topology = copy.copy(topology)
    topology.setPeriodicBoxVectors([Vec3(*map(float, row)) for row in np.asarray(box)])
    return topology
