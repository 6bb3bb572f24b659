"""The problems of benchmarks/sampling.py: built with OpenMM once, kept as files that load without it."""

import os
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcg.io.problem import load_problem, save_problem

ROOT = Path(__file__).parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxcg" / "benchmarks" / "sampling"
#: Independent relaxations of a protein.
STARTS = 8


def prepared(name: str, path: str | None = None) -> dict[str, Any]:
    """``dipeptide``, ``villin`` or ``ubiquitin``: posterior, system, masses (atoms,) amu, starts (count, atoms, 3) nm.

    Read from ``path``, or from the cache folder, or built (and kept there).
    """
    file = Path(path) if path else CACHE / f"{name}.npz"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        posterior, system, starts = dipeptide() if name == "dipeptide" else protein(name)
        save_problem(file, posterior, system, masses=np.asarray(system.masses), starts=starts)
    return load_problem(file)


def dipeptide():
    """Alanine dipeptide, Amber14 and OBC2, under three centres of mass; one start."""
    sys.path.append(str(ROOT / "tests"))
    from alanine_fibre import alanine_fibre

    problem = alanine_fibre()
    return problem.posterior(np.float32), problem.system, problem.minimum[None]


def protein(name: str):
    """A protein from its Martini 3 beads, Amber14 and OBC2, no prior of the backbone; starts from relaxations."""
    from jaxcg.backmap import BeadMode, Engine, backmap
    from jaxcg.lockstep import alone

    first = backmap(ROOT / "jaxcg" / "data" / f"{name}_martini3.pdb", solvent="obc2", beads="exact")
    engine = Engine(first.molecule, beads="exact")
    mode, y = BeadMode(None, "asked for"), first.frames[0].y
    starts = [first.frames[0].positions]
    for number in range(1, STARTS):
        found = alone(engine.minimum(y, jax.random.key(number), mode))
        starts.append(engine.on_fibre(np.asarray(found.estimate.x), y, mode))
        print(f"{name}: relaxation {number + 1} of {STARTS}", file=sys.stderr)
    bare = Engine(first.molecule, beads="exact", backbone_prior=0.0)
    return bare.posterior(y, mode), first.molecule.system, np.stack(starts)
