"""VOTCA's `csg_map` as the peer of forward maps: Debian packages votca and votca-tutorials."""

import os
import shutil
import subprocess
import time
from pathlib import Path

TUTORIALS = Path("/usr/share/votca/csg-tutorials")
#: Tutorial systems with an atomistic topology: folder, mapping files.
SYSTEMS = {
    "spce": ("spce/atomistic", ("water.xml",)),
    "methanol": ("methanol/atomistic", ("methanol.xml",)),
    "propane": ("propane/atomistic", ("propane.xml",)),
    "hexane": ("hexane/atomistic", ("hexane.xml",)),
    "methanol-water": ("methanol-water/X_0.5/atomistic", ("methanol.xml", "water.xml")),
    "urea-water": ("urea-water/atomistic", ("urea.xml", "water.xml")),
}


def available() -> str | None:
    """Version of the program, or None."""
    program = shutil.which("csg_map")
    if program is None:
        return None
    text = subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout
    return next(
        (line.split("version", 1)[1].split()[0] for line in text.splitlines() if line.startswith("csg_map")), "?"
    )


def run(folder: Path, topology: str, trajectory: str, mapping: str, output: str, *more: str) -> float:
    """Seconds of one run in ``folder``; raises when it fails."""
    words = ["csg_map", "--top", topology, "--trj", trajectory, "--cg", mapping, "--out", output, *more]
    start = time.perf_counter()
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def tutorial(name: str, folder: Path) -> tuple[str, str] | None:
    """Copies a tutorial system into ``folder`` and makes ``topol.tpr``: its mapping files, and "" or why not.

    Returns:
        (mapping files joined by ";", reason): the reason is empty when all is well. None without the tutorials.
    """
    source, mappings = SYSTEMS[name]
    if not (TUTORIALS / source).is_dir() or shutil.which("gmx") is None:
        return None
    shutil.copytree(TUTORIALS / source, folder, dirs_exist_ok=True)
    words = ["gmx", "grompp", "-maxwarn", "9", "-o", "topol.tpr"]
    environment = os.environ | {"GMX_MAXBACKUP": "-1"}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    return ";".join(mappings), "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
