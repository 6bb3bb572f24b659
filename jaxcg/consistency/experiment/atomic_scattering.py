"""What single atoms scatter: X-ray form factors, neutron scattering lengths, and the solvent they displace."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import jaxcg.data

#: Electrons of bulk water at 298 K in a cubic nanometre.
WATER_ELECTRON_DENSITY = 334.0
#: Scattering length of bulk water and heavy water in a cubic nanometre, fm.
WATER_LENGTH_DENSITY, HEAVY_WATER_LENGTH_DENSITY = -56.1, 636.0

#: Volumes of solvent that atoms displace, nm³: what is missing from the solvent's scattering where the atom is.
#: Source: Fraser, MacRae & Suzuki, J. Appl. Cryst. 11, 693 (1978), as used by Svergun, Barberato & Koch, J. Appl.
#: Cryst. 28, 768 (1995).
DISPLACED_VOLUMES = {"H": 0.00515, "D": 0.00515, "C": 0.01644, "N": 0.00249, "O": 0.00913, "P": 0.00573, "S": 0.01986}


def form_factor(element: str, q: np.ndarray) -> np.ndarray:
    """X-ray scattering amplitude f₀(q) of a free atom or ion, electrons; f₀(0) is its number of electrons.

    Arguments:
        element: symbol, e.g. ``"C"``; ions with their charge behind, e.g. ``"Na1+"``, ``"Cl1-"``. Deuterium is
            hydrogen.
        q: magnitudes of the scattering vector 4π sin θ/λ, 1/nm, up to 750.

    Raises:
        ValueError: an element that is not in the table.

    Source: Waasmaier & Kirfel, Acta Cryst. A 51, 416 (1995).
    """
    coefficients = np.asarray(_entry("form_factors", "H" if element == "D" else element))
    # Table in Å and sin θ/λ: q in 1/nm is 10 q in 1/Å, and s = q/4π.
    square = (np.asarray(q, np.float64) / (40 * np.pi)) ** 2
    height, width = coefficients[:5], coefficients[6:]
    return np.exp(-np.multiply.outer(square, width)) @ height + coefficients[5]


def scattering_length(element: str) -> float:
    """Coherent scattering length of thermal neutrons, fm, of the natural mixture of isotopes; "D" is deuterium.

    Raises:
        ValueError: an element that is not in the table.

    Source: the compilation of Sears, Neutron News 3 (3), 26 (1992), with later revisions, as the package periodictable
    has it.
    """
    return float(_entry("neutron_lengths", element))


def displaced_volume(element: str) -> float:
    """Volume of solvent that an atom displaces, nm³ (`DISPLACED_VOLUMES`).

    Raises:
        ValueError: an element without a tabulated volume.
    """
    if element not in DISPLACED_VOLUMES:
        raise ValueError(
            f"displaced_volume: no volume is tabulated for {element!r}, only for {', '.join(DISPLACED_VOLUMES)}; give "
            "the volumes (nm³) of all atoms yourself."
        )
    return DISPLACED_VOLUMES[element]


def kinds_of(elements: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The different elements in alphabetical order, and for each atom which of them it is."""
    names, kind = np.unique(np.asarray(elements, dtype=str), return_inverse=True)
    return [str(name) for name in names], kind.astype(np.int32)


@functools.cache
def _tables() -> dict:
    return json.loads((Path(jaxcg.data.__file__).parent / "atomic_scattering.json").read_text())


def _entry(table: str, element: str):
    values = _tables()[table]
    if element not in values:
        raise ValueError(
            f"{table.replace('_', ' ')}: {element!r} is not in the table; write elements as 'C', ions as 'Zn2+'."
        )
    return values[element]
