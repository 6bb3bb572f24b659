"""Where proteins' backbones are: reference densities of (φ, ψ) by residue class, as a judge and as a prior.

The data are the 100 816 (φ, ψ) pairs of 500 high-resolution crystal structures that the MDAnalysis package carries
as one histogram (4° bins). That histogram does not tell residues apart, so the four classes that matter are
separated by what is known of them:

- *glycine* has no side chain, so its density is symmetric under (φ, ψ) → (−φ, −ψ), and it makes up nearly all of
  φ > 0 but the left-handed helix, where half of the residues are others (mostly Asn and Asp);
- *general* is what remains when that glycine density is taken off;
- *proline*'s ring holds φ at −66° ± 14°, with ψ in its two basins;
- a residue *before proline* loses the ψ ≈ −25°…50° bridge, where the Cδ of the next ring would sit on its own N
  and Cβ, and keeps the β and polyproline basins and the tip of the helix.

Each class is smoothed with a kernel whose width follows the density (narrow on the peaks, wide in the tails). The
favoured region of a class is the smallest one holding 98 % of its data (95 % for glycine, whose data hold some 5 %
of other residues); outliers lie outside 99.9 % (99 %). Their areas agree with those of the class-resolved contours
in use for crystal structures (general 1440 against 1310 bins, before proline 810/820, proline 360/380, glycine
2800/2910).

Source: S. C. Lovell et al., Proteins 50, 437 (2003); MDAnalysis, `analysis/data/rama_ref_data.npy`.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from ..system import System

#: Residue classes, in the order of `backbone_torsions`' class indices.
CLASSES = ("general", "glycine", "proline", "pre-proline")

_BINS = 90
_WIDTH = 360.0 / _BINS
_CENTERS = -180.0 + _WIDTH * (np.arange(_BINS) + 0.5)
_FAVOURED = {"general": 0.98, "glycine": 0.95, "proline": 0.98, "pre-proline": 0.98}
_ALLOWED = {"general": 0.999, "glycine": 0.99, "proline": 0.999, "pre-proline": 0.999}


def available() -> bool:
    """True when the reference data can be found (the MDAnalysis package is installed)."""
    return _reference_file() is not None


@cache
def ramachandran_tables(tail: float = 0.0) -> dict[str, np.ndarray]:
    """Smooth periodic densities p(φ, ψ) of the four residue classes.

    Arguments:
        tail: share of a broad (30°) component added to each class. 0 for judging; a prior wants some (0.02), so
            that its gradient leads back to the populated regions from anywhere.

    Returns:
        For each of `CLASSES` a (90, 90) array, density per rad², integral 1. Entry [i, j] is at
        φ = −180° + 4° (i + ½), ψ = −180° + 4° (j + ½); both axes are periodic.

    Raises:
        ModuleNotFoundError: the reference data are not installed.
    """
    tables = {}
    for name, counts in _class_counts().items():
        density = _adaptive_smooth(counts)
        broad = gaussian_filter(counts, 30.0 / _WIDTH, mode="wrap")
        density = (1 - tail) * density / density.sum() + tail * broad / broad.sum()
        density = density / np.radians(_WIDTH) ** 2
        density.flags.writeable = False
        tables[name] = density
    return tables


@cache
def ramachandran_levels() -> dict[str, tuple[float, float]]:
    """For each class the densities (per rad²) that bound its favoured and its allowed region."""
    levels = {}
    for name, counts in _class_counts().items():
        density = ramachandran_tables()[name].ravel()
        order = np.argsort(-density)
        held = np.cumsum(counts.ravel()[order]) / counts.sum()
        favoured, allowed = (
            density[order][np.searchsorted(held, share)] for share in (_FAVOURED[name], _ALLOWED[name])
        )
        levels[name] = (float(favoured), float(allowed))
    return levels


def backbone_torsions(system: System) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Backbone torsions of every residue that has both, found through the bond graph (chain breaks are seen).

    Returns:
        φ atoms (r, 4): C(i−1), N, CA, C; ψ atoms (r, 4): N, CA, C, N(i+1); residues (r,) their index in the system;
        classes (r,) index into `CLASSES`.
    """
    tables = system.residue_atoms()
    residue = system.atom_residue
    names = system.atom_names
    next_of: dict[int, int] = {}
    for a, b in system.bonds:
        if residue[a] == residue[b]:
            continue
        if names[a] == "C" and names[b] == "N":
            next_of[int(residue[a])] = int(residue[b])
        elif names[a] == "N" and names[b] == "C":
            next_of[int(residue[b])] = int(residue[a])
    previous_of = {after: before for before, after in next_of.items()}
    phi, psi, residues, classes = [], [], [], []
    for i, atoms in enumerate(tables):
        if i not in next_of or i not in previous_of or not {"N", "CA", "C"} <= atoms.keys():
            continue
        before, after = tables[previous_of[i]]["C"], tables[next_of[i]]["N"]
        phi.append((before, atoms["N"], atoms["CA"], atoms["C"]))
        psi.append((atoms["N"], atoms["CA"], atoms["C"], after))
        residues.append(i)
        classes.append(_residue_class(system.residue_names[i], system.residue_names[next_of[i]]))
    return (
        np.array(phi, dtype=np.int64).reshape(-1, 4),
        np.array(psi, dtype=np.int64).reshape(-1, 4),
        np.array(residues, dtype=np.int64),
        np.array(classes, dtype=np.int64),
    )


def ramachandran_regions(phi: np.ndarray, psi: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Region of each residue: 2 favoured, 1 allowed, 0 outlier.

    Arguments:
        phi, psi: (r,) radians.
        classes: (r,) index into `CLASSES`.
    """
    tables, levels = ramachandran_tables(), ramachandran_levels()
    stacked = np.stack([tables[name] for name in CLASSES])
    density = _interpolate(stacked, classes, phi, psi)
    favoured = np.array([levels[name][0] for name in CLASSES])[classes]
    allowed = np.array([levels[name][1] for name in CLASSES])[classes]
    return (density >= favoured).astype(int) + (density >= allowed).astype(int)


def ramachandran_log_density(phi: np.ndarray, psi: np.ndarray, classes: np.ndarray, tail: float = 0.0) -> np.ndarray:
    """log p(φ, ψ) of each residue, p per rad².

    Arguments:
        phi, psi: (r,) radians.
        classes: (r,) index into `CLASSES`.
        tail: share of a broad component, as in `ramachandran_tables`.
    """
    tables = ramachandran_tables(tail)
    stacked = np.stack([tables[name] for name in CLASSES])
    return np.log(np.maximum(_interpolate(stacked, classes, phi, psi), 1e-12))


def _residue_class(name: str, next_name: str) -> int:
    if name == "GLY":
        return 1
    if name == "PRO":
        return 2
    return 3 if next_name == "PRO" else 0


def _reference_file() -> Path | None:
    # Only the file is wanted: importing the package would cost a second and bring it into numerical code.
    spec = find_spec("MDAnalysis")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "analysis" / "data" / "rama_ref_data.npy"
    return path if path.is_file() else None


@cache
def _class_counts() -> dict[str, np.ndarray]:
    """Reference counts [φ, ψ] separated into classes; see the module's docstring."""
    path = _reference_file()
    if path is None:
        raise ModuleNotFoundError(
            "The Ramachandran reference data come with the MDAnalysis package, which is not installed: "
            "pip install MDAnalysis"
        )
    counts = np.load(path).T.astype(np.float64)  # the file holds [ψ, φ]
    phi, psi = np.meshgrid(_CENTERS, _CENTERS, indexing="ij")
    left = _window(phi, 58, 22, 4) * _window(psi, 38, 32, 5)
    positive = np.where(phi > 0, counts, 0.0)
    negative = counts - positive
    half = positive * (1 - 0.5 * left)
    mirrored = half[::-1, ::-1]
    general = np.maximum(negative - mirrored, 0) + 0.5 * left * positive
    ring = np.exp(-0.5 * (_difference(phi, -66) / 14) ** 2)
    basins = np.maximum(_window(psi, -25, 40, 5), _window(psi, 140, 40, 5))
    helix_tip = _window(phi, -60, 16, 3) * _window(psi, -47, 13, 3)
    return {
        "general": general,
        "glycine": half + mirrored,
        "proline": negative * ring * basins,
        "pre-proline": general * np.minimum(_window(psi, 115, 60, 6) + 0.5 * helix_tip, 1),
    }


def _adaptive_smooth(counts: np.ndarray) -> np.ndarray:
    """Kernel density with widths 3°…16° that fall with the fourth root of a pilot density (Abramson 1982)."""
    pilot = gaussian_filter(counts, 8.0 / _WIDTH, mode="wrap")
    mean = np.exp(np.sum(counts * np.log(pilot + 1e-12)) / counts.sum())
    width = np.clip(5.0 * (np.maximum(pilot, 1e-9) / mean) ** -0.25, 3.0, 16.0)
    steps = np.geomspace(3.0, 16.0, 8)
    nearest = np.abs(np.log(width)[..., None] - np.log(steps)).argmin(-1)
    parts = (
        gaussian_filter(np.where(nearest == k, counts, 0.0), step / _WIDTH, mode="wrap") for k, step in enumerate(steps)
    )
    return np.sum(list(parts), axis=0)


def _interpolate(tables: np.ndarray, classes: np.ndarray, phi: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """Periodic bilinear interpolation of (classes, 90, 90) tables at (φ, ψ) in radians."""
    u = (np.degrees(phi) + 180.0) / _WIDTH - 0.5
    v = (np.degrees(psi) + 180.0) / _WIDTH - 0.5
    i, j = np.floor(u).astype(int), np.floor(v).astype(int)
    fu, fv = u - i, v - j
    i0, i1, j0, j1 = i % _BINS, (i + 1) % _BINS, j % _BINS, (j + 1) % _BINS
    return (
        (1 - fu) * (1 - fv) * tables[classes, i0, j0]
        + fu * (1 - fv) * tables[classes, i1, j0]
        + (1 - fu) * fv * tables[classes, i0, j1]
        + fu * fv * tables[classes, i1, j1]
    )


def _difference(angle: np.ndarray, center: float) -> np.ndarray:
    return (angle - center + 180.0) % 360.0 - 180.0


def _window(angle: np.ndarray, center: float, half_width: float, softness: float) -> np.ndarray:
    """1 inside ``center ± half_width`` degrees, 0 outside, with soft edges; periodic."""
    return 1.0 / (1.0 + np.exp((np.abs(_difference(angle, center)) - half_width) / softness))
