"""Optimal force maps beside the published package aggforce: coefficients, variances and time, on the same forces.

    python benchmarks/force_maps.py [--peer-python PYTHON] [--json rows.json] [--markdown rows.md] [--golden FILE.npz]

The peer (https://github.com/noegroup/aggforce, MIT licence) is not on the package index. It runs where PYTHON, by
default that of the environment in the cache folder, can import it:

    python -m venv ~/.cache/jaxcg/benchmarks/aggforce
    ~/.cache/jaxcg/benchmarks/aggforce/bin/pip install git+https://github.com/noegroup/aggforce

Nothing of it is used by jaxcg. ``--golden`` writes the file that the test-suite compares with.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rows import Rows, new_rows

from jaxcg.mapping import LinearMap
from jaxcg.mapping.optimal_force_maps import force_variance, optimal_force_map

DEFAULT_HOME = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxcg" / "benchmarks" / "aggforce"
#: Carbons of the made chain (two hydrogens each) and frames.
CASES = ((10, 300), (20, 300), (20, 3000), (60, 1000))
REPEATS = 3
GOLDEN_L2 = 1e4

_PEER = """
import sys, time
import numpy as np
from aggforce import LinearMap, constraint_aware_uni_map, project_forces, qp_linear_map
data = np.load(sys.argv[1])
forces = data["forces"].astype(np.float64)
mapping = LinearMap(data["weights"])
constraints = {frozenset(map(int, pair)) for pair in data["constraints"]}
def run(method, **options):
    out = project_forces(np.zeros_like(forces), forces, mapping, constraints, method, **options)
    return out["tmap"].force_map.standard_matrix
seconds = []
for _ in range(int(data["repeats"])):
    start = time.perf_counter()
    optimal = run(qp_linear_map)
    seconds.append(time.perf_counter() - start)
np.savez(sys.argv[2], optimal=optimal, optimal_l2=run(qp_linear_map, l2_regularization=float(data["l2"])),
         basic=run(constraint_aware_uni_map), seconds=min(seconds))
"""


class Aggforce:
    """Runs aggforce in its own environment; `Aggforce.ready` says whether it can."""

    name = "aggforce"

    def __init__(self, python: Path):
        self.python = Path(python)

    @property
    def ready(self) -> bool:
        """Whether the environment can import it."""
        return self.python.exists() and self._ask("import aggforce").returncode == 0

    def version(self) -> str:
        """Installed version."""
        return self._ask("from importlib.metadata import version; print(version('aggforce'))").stdout.strip()

    def run(self, problem: dict) -> dict:
        """Its coefficients and the best time of its fits."""
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder) / "in.npz", Path(folder) / "out.npz"
            np.savez(given, **problem, repeats=REPEATS)
            subprocess.run([str(self.python), "-c", _PEER, str(given), str(made)], check=True, capture_output=True)
            with np.load(made) as data:
                return dict(data)

    def _ask(self, script: str):
        return subprocess.run([str(self.python), "-c", script], capture_output=True, text=True, check=False)


def made_problem(carbons: int, frames: int, seed: int = 0) -> dict:
    """Forces on a made chain of CH2 groups whose C-H bonds are constrained, and a map of its positions.

    Bonds and angles pull on neighbours with strong, opposite, random forces, as in a molecule; solvent knocks on all
    atoms. Beads are centres of mass of two CH2 groups and, in turn, single carbons.
    """
    rng = np.random.default_rng(seed)
    n_atoms = 3 * carbons
    carbon = 3 * np.arange(carbons)
    pairs = [*itertools.pairwise(carbon), *zip(carbon[:-2], carbon[2:])]
    pairs += [(c + 1, c + 2) for c in carbon] + [(c + h, c + 3) for c in carbon[:-1] for h in (1, 2)]
    # The strengths first: they are the same for any number of frames.
    strengths = rng.uniform(100, 1500, len(pairs))
    forces = rng.normal(scale=200, size=(frames, n_atoms, 3))
    for (i, j), strength in zip(pairs, strengths):
        pull = rng.normal(scale=strength, size=(frames, 3))
        forces[:, i] += pull
        forces[:, j] -= pull
    beads = carbons // 2
    weights = np.zeros((beads, n_atoms))
    for bead in range(beads):
        if bead % 2:
            weights[bead, 6 * bead] = 1
        else:
            weights[bead, 6 * bead : 6 * bead + 6] = np.array([12.011, 1.008, 1.008] * 2) / 28.054
    constraints = np.stack([np.repeat(carbon, 2), (carbon[:, None] + [1, 2]).ravel()], axis=1)
    return {
        "forces": forces.astype(np.float32),
        "weights": weights,
        "constraints": constraints,
        "l2": np.float64(GOLDEN_L2 * 3 * frames),
    }


def compare(rows: Rows, peer: Aggforce, carbons: int, frames: int) -> None:
    """Adds the rows of one case."""
    problem = made_problem(carbons, frames)
    forces, weights, constraints = problem["forces"], problem["weights"], problem["constraints"]
    mapping = LinearMap.from_weights(*np.nonzero(weights), weights[weights != 0], *weights.shape)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        fit = optimal_force_map(mapping, forces, constraints)
        seconds.append(time.perf_counter() - start)
    held_out = made_problem(carbons, 2 * frames)["forces"][frames:]
    case = f"{weights.shape[1]} atoms, {weights.shape[0]} beads, {frames} frames"
    theirs = peer.run(problem) if peer.ready else None
    name = f"{peer.name} {peer.version()}" if theirs is not None else None
    rows.add(case, "fit", min(seconds), "s", peer=name, peer_value=None if theirs is None else float(theirs["seconds"]))
    rows.add(case, "variance, aggregating map", fit.aggregating_variance.mean(), "(kJ/mol/nm)²")
    mapped = None
    if theirs is not None:
        f = forces.astype(np.float64).transpose(1, 0, 2).reshape(weights.shape[1], -1)
        mapped = float(np.mean((theirs["optimal"] @ f) ** 2))
    rows.add(case, "variance, optimal map", fit.variance.mean(), "(kJ/mol/nm)²", peer=name, peer_value=mapped)
    rows.add(
        case, "variance, optimal map, other frames", force_variance(fit.force_map, held_out).mean(), "(kJ/mol/nm)²"
    )
    broken = np.abs(fit.force_map.matrix().toarray() @ weights.T - np.eye(len(weights))).max()
    other = None if theirs is None else float(np.abs(theirs["optimal"] @ weights.T - np.eye(len(weights))).max())
    rows.add(case, "largest error of B Wᵀ = 1", broken, peer=name, peer_value=other)
    if theirs is not None:
        difference = np.abs(fit.force_map.matrix().toarray() - theirs["optimal"]).max()
        rows.add(case, "largest difference of a coefficient", difference, limit=1e-4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, default=DEFAULT_HOME / "bin" / "python")
    parser.add_argument("--json")
    parser.add_argument("--markdown")
    parser.add_argument("--golden", type=Path)
    arguments = parser.parse_args()
    peer = Aggforce(arguments.peer_python)
    if arguments.golden:
        problem = made_problem(10, 100)
        theirs = peer.run(problem)
        kept = {key: theirs[key] for key in ("optimal", "optimal_l2", "basic")}
        np.savez_compressed(arguments.golden, **problem, **kept, version=peer.version())
        return 0
    if not peer.ready:
        print(f"{peer.name} cannot be imported by {arguments.peer_python}; its columns stay empty.", file=sys.stderr)
    rows = new_rows()
    for carbons, frames in CASES:
        compare(rows, peer, carbons, frames)
    print("\n".join(rows.lines()))
    if arguments.markdown:
        Path(arguments.markdown).write_text("\n".join(rows.lines()) + "\n")
    if arguments.json:
        rows.write(arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
