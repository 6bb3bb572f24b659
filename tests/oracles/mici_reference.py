"""Makes tests/data/mici_alanine.json: what mici draws on the alanine fibre of tests/alanine_fibre.py.

    PYTHONPATH=<folder with mici 0.4.1> python benchmarks/mici_peer.py problem.npz out.npz MODE 170 1
    python tests/oracles/mici_reference.py out-reduced.npz out-constrained.npz

Both forms of mici, one chain each, 150 adaptive transitions left out: the same density by independent code, in
null-space coordinates without any constraint (MODE reduced) and by projection (MODE constrained). The problem is that
of tests/alanine_fibre.py, saved after a burn-in. The file has counts of φ and ψ on a grid, effective sample sizes of
the energy, cos φ, sin φ, cos ψ, sin ψ, and mean and standard deviation of the energy.
"""

import json
import sys
from pathlib import Path

import numpy as np

from jaxcg.sampling import mean_effective_sample_size

TABLE = Path(__file__).parent.parent / "data" / "mici_alanine.json"
#: Between cells, degrees in [−360, 0) for φ and [0, 360) for ψ; the outer cells are open.
PHI_EDGES, PSI_EDGES = (-164, -157, -150, -143, -136), (148, 154, 160, 166, 172)


def histogram(circle: np.ndarray) -> np.ndarray:
    """Counts (6, 6) by φ and ψ of draws (count, 4): cos φ, sin φ, cos ψ, sin ψ."""
    phi = np.degrees(np.arctan2(circle[:, 1], circle[:, 0]))
    psi = np.degrees(np.arctan2(circle[:, 3], circle[:, 2]))
    cells = np.digitize(np.where(phi > 0, phi - 360, phi), PHI_EDGES), np.digitize(psi % 360, PSI_EDGES)
    counts = np.zeros((len(PHI_EDGES) + 1, len(PSI_EDGES) + 1), int)
    np.add.at(counts, cells, 1)
    return counts


def table(files) -> dict:
    """What the JSON file has, one entry for each form."""
    found = {}
    for name, file in zip(("reduced", "constrained"), files, strict=True):
        data = np.load(file)
        draws = data["draws"]
        found[name] = {
            "mici": str(data["version"]),
            "transitions": len(draws),
            "gradients": int(data["gradients"]),
            "step_size": float(data["step_size"]),
            "energy_kT": [float(draws[:, 0].mean()), float(draws[:, 0].std())],
            "ess": [float(mean_effective_sample_size(c[None])) for c in draws.T],
            "counts": histogram(draws[:, 1:]).tolist(),
        }
    return found


if __name__ == "__main__":
    TABLE.write_text(json.dumps(table(sys.argv[1:3])) + "\n")
