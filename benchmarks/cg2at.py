"""The peer: cg2at2, a fragment-based back-mapping program, in an environment of its own.

It is installed from the package index into a virtual environment that this module makes, and run as a command with
its own force field and fragments, as its documentation has it. It needs GROMACS (`gmx`) on the path. Nothing of it
is used by jaxcg.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scoring import read_atoms

from jaxcg.io import Beads
from jaxcg.system import System

DEFAULT_HOME = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxcg" / "benchmarks" / "cg2at2"
_RENAMED = {("ILE", "CD"): "CD1"}
_OXYGENS = {"OT1": "O", "OT2": "OXT", "O1": "O", "O2": "OXT"}


@dataclass(frozen=True)
class PeerStructure:
    """What the peer made of one frame.

    Arguments:
        positions: (atoms, 3) nm in our frame and atom order, NaN where it has no such atom.
        seconds: its wall time; None for one found finished without a record of it.
    """

    positions: np.ndarray
    seconds: float | None


class Cg2at:
    """Runs cg2at2; `Cg2at.ready` says whether it can."""

    name = "cg2at2"

    def __init__(self, home: Path = DEFAULT_HOME):
        self.home = Path(home)
        self.reason = ""

    @property
    def ready(self) -> bool:
        """Makes the environment on first use; False, with a reason, where that is impossible."""
        if shutil.which("gmx") is None:
            self.reason = "gmx (GROMACS) is not on the path"
            return False
        if self._command.exists():
            return True
        try:
            subprocess.run([sys.executable, "-m", "venv", str(self.home)], check=True, capture_output=True)
            install = [str(self.home / "bin" / "pip"), "install", "--quiet", "vermouth", "cg2at2"]
            subprocess.run(install, check=True, capture_output=True, timeout=900)
        except (subprocess.SubprocessError, OSError) as error:
            self.reason = f"its environment could not be made: {error}"
            return False
        return self._command.exists()

    @property
    def _command(self) -> Path:
        return self.home / "bin" / "cg2at"

    def version(self) -> str:
        """Installed version."""
        ask = "from importlib.metadata import version; print(version('cg2at2'))"
        return subprocess.run(
            [str(self.home / "bin" / "python"), "-c", ask], capture_output=True, text=True, check=False
        ).stdout.strip()

    def run(self, beads: Beads, y: np.ndarray, system: System, work: Path) -> PeerStructure | None:
        """Rebuilds one frame in the folder ``work``; a finished one found there is read again. None if it fails."""
        work.mkdir(parents=True, exist_ok=True)
        final, timing = work / "out" / "FINAL" / "final_cg2at_de_novo.pdb", work / "wall.txt"
        if not final.exists():
            write_beads(work / "cg.pdb", beads, y)
            environment = {**os.environ, "PATH": f"{self.home / 'bin'}{os.pathsep}{os.environ['PATH']}"}
            shutil.rmtree(work / "out", ignore_errors=True)
            box = "gmx editconf -f cg.pdb -o box.pdb -d 1.5 -c"
            build = "-c box.pdb -ff charmm36-cg2at -fg martini_3-0_charmm36 -w tip3p -o none -silent -loc out"
            options = {"cwd": work, "env": environment, "capture_output": True, "stdin": subprocess.DEVNULL}
            start = time.perf_counter()
            try:
                subprocess.run(box.split(), check=True, **options)
                subprocess.run([str(self._command), *build.split()], check=True, timeout=900, **options)
            except subprocess.SubprocessError:
                return None
            timing.write_text(f"wall {time.perf_counter() - start:.3f}\n")
            for leftovers in ("PROTEIN", "MERGED"):
                shutil.rmtree(work / "out" / leftovers, ignore_errors=True)
        if not final.exists():
            return None
        shift = _positions(work / "box.pdb").mean(axis=0) - np.asarray(y).mean(axis=0)
        seconds = float(timing.read_text().split()[1]) if timing.exists() else None
        return PeerStructure(read_atoms(final, system, _our_name)[0] - shift, seconds)


def write_beads(path: Path, beads: Beads, y: np.ndarray) -> None:
    """Writes beads as a PDB file (Å)."""
    lines, number = [], 0
    for residue in beads.residues:
        for bead in residue.beads:
            number += 1
            x = " ".join(f"{10 * v:7.3f}" for v in np.asarray(y)[bead])
            lines.append(
                f"ATOM  {number:5d}  {beads.names[bead]:<3s} {residue.name:<4s}{(residue.chain or 'A')[:1]}"
                f"{int(residue.id):4d}     {x}  1.00  0.00\n"
            )
    path.write_text("".join(lines) + "END\n")


def _positions(path: Path) -> np.ndarray:
    rows = [line for line in path.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    return np.array([[float(row[k : k + 8]) for k in (30, 38, 46)] for row in rows]) / 10


def _our_name(residue: str, atom: str) -> str:
    return _OXYGENS.get(atom, _RENAMED.get((residue, atom), atom))
