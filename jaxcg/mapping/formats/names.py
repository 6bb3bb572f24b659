"""Names: which residue names mean the same, what is solvent, and the standard names of atoms."""

from __future__ import annotations

from functools import cache

#: Residue name in a file → (standard residue name, variant). The variant names the force-field residue.
RESIDUE_ALIASES: dict[str, tuple[str, str]] = {
    "HID": ("HIS", "HID"),
    "HSD": ("HIS", "HID"),
    "HIE": ("HIS", "HIE"),
    "HSE": ("HIS", "HIE"),
    "HIP": ("HIS", "HIP"),
    "HSP": ("HIS", "HIP"),
    "HIH": ("HIS", "HIP"),
    "ASH": ("ASP", "ASH"),
    "ASPP": ("ASP", "ASH"),
    "ASP0": ("ASP", "ASH"),
    "GLH": ("GLU", "GLH"),
    "GLUP": ("GLU", "GLH"),
    "GLU0": ("GLU", "GLH"),
    "LYN": ("LYS", "LYN"),
    "LSN": ("LYS", "LYN"),
    "CYX": ("CYS", "CYX"),
    "CYM": ("CYS", "CYM"),
    # As GROMACS names them.
    "HISD": ("HIS", "HID"),
    "HISE": ("HIS", "HIE"),
    "HISH": ("HIS", "HIP"),
    "ASPH": ("ASP", "ASH"),
    "GLUH": ("GLU", "GLH"),
    "LYSH": ("LYS", "LYS"),
    "CYSH": ("CYS", "CYS"),
    "CYS2": ("CYS", "CYX"),
}

#: Protonation variants a residue may take; the first is the default at pH 7.
PROTONATION_VARIANTS: dict[str, tuple[str, ...]] = {
    "ASP": ("ASP", "ASH"),
    "GLU": ("GLU", "GLH"),
    "HIS": ("HIE", "HID", "HIP"),
    "LYS": ("LYS", "LYN"),
    "CYS": ("CYS", "CYX", "CYM"),
}

# fmt: off
AMINO_ACIDS = frozenset([
    "ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE", "LEU", "LYS", "MET", "PHE", "PRO",
    "SER", "THR", "TRP", "TYR", "VAL",
])
_ION_BEADS = frozenset([
    "ION", "NA", "NA+", "CL", "CL-", "CA+", "CA2+", "K", "K+", "MG", "MG2+", "LI", "LI+", "W", "WF", "WP", "WM",
])
_SOLVENT = frozenset([
    "W", "WF", "WN", "SW", "TW", "PW", "PWM", "BMW", "WAT", "HOH", "SOL", "TIP3", "H2O", "IONS", "CLA", "SOD",
    "POT", "ION", "NA", "NA+", "CL", "CL-", "CA+", "CA2+", "K", "K+", "MG", "MG2+", "LI", "LI+",
])
# fmt: on
#: Residues that peptide bonds join: amino acids and the caps of chain ends.
PEPTIDE_RESIDUES = AMINO_ACIDS | {"ACE", "NME", "NHE"}


def standard_residue(name: str) -> tuple[str, str | None]:
    """Standard name of a residue and the variant its name asks for (None: the default).

    ``"HSP"`` gives ``("HIS", "HIP")``, ``"ALA"`` gives ``("ALA", None)``.
    """
    name = name.strip().upper()
    return RESIDUE_ALIASES.get(name, (name, None))


def is_solvent(residue_name: str, bead_name: str) -> bool:
    """True for the beads of water and ions, which no atoms are rebuilt for."""
    residue_name, bead_name = residue_name.upper(), bead_name.upper()
    return residue_name in _SOLVENT or (residue_name == bead_name and bead_name in _ION_BEADS)


def is_virtual_site(bead_name: str) -> bool:
    """True for the beads of Gō-Martini that carry no atoms of their own (virtual site on the backbone bead)."""
    return bead_name.upper() in ("CA", "VS")


@cache
def _replacements() -> dict[str, dict[str, str]]:
    # OpenMM's tables of names are the best kept; reading a structure needs OpenMM anyway, computing with one does not.
    from openmm.app import PDBFile

    PDBFile._loadNameReplacementTables()
    return PDBFile._atomNameReplacements


def standard_atom(residue_name: str, atom_name: str) -> str:
    """Standard (PDB version 3) name of an atom, whichever convention (Amber, CHARMM, PDB 2) it is named by.

    Arguments:
        residue_name: standard residue name, e.g. ``"ILE"``.
        atom_name: e.g. ``"CD"``, which is ``"CD1"`` in isoleucine.

    Source: the table OpenMM reads and writes PDB files by.
    """
    return _replacements().get(residue_name, {}).get(atom_name, atom_name)
