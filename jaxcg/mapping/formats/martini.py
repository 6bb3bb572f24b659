"""Martini mappings, from the data files of the vermouth package (martinize2).

The rule of martinize2 (0.15) that is reproduced here: a bead is Σ m s x / Σ m s over the atoms present in the
input, with whole-number masses m and the shares s of the mapping file. Without hydrogens in the input only heavy
atoms count, so one all-atom topology has two maps; `jaxcg.io.build_molecule` builds both.

martinize2 maps from a source force field (its option ``-from``), and what counts depends on it. From ``"charmm"``, its
default and that of jaxcg, hydrogens of the backbone nitrogen count. From ``"amber"`` they do not, because the files
name them otherwise than the force field does; only the second and third of a chain's first residue do, and those of
histidines named HIS or HID. The file for HID shares out the ring of histidine in another way than all the others.
jaxcg does the same where it is asked for ``source="amber"``. Residues by CHARMM's names ASPP, GLUP and LSN leave out
the hydrogens of the acid and of CE, which ASP and GLU with that hydrogen, and LYS without one, count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ...errors import InputError
from .backward import read_backward
from .names import AMINO_ACIDS, standard_atom, standard_residue
from .rules import MappingScheme, ResidueRule
from .vermouth_mapping import read_vermouth_mapping, read_vermouth_modifications

#: Short names → name of the force field in vermouth.
MARTINI_NAMES = {
    "martini3": "martini3001",
    "martini3001": "martini3001",
    "martini2": "martini22",
    "martini22": "martini22",
    "elnedyn22": "elnedyn22",
    "martini3idp": "martini3IDP",
}

#: Lipids whose files vermouth keeps for Martini 2 only; Martini 3.0 kept their beads.
_SHARED_LIPIDS = frozenset(["POPC", "POPE", "POPG", "POPS", "DOPC", "DPPC", "DPPG", "DMPC"])


@cache
def martini(name: str = "martini3", source: str | None = None) -> MappingScheme:
    """The mapping of a Martini force field: ``"martini3"``, ``"martini2"``, ``"elnedyn22"`` or ``"martini3IDP"``.

    Arguments:
        name: of the mapping.
        source: what martinize2 maps from, ``"charmm"`` (None) or ``"amber"``.

    Raises:
        InputError: the mapping is not known, has no files for the source, or vermouth is not installed.
    """
    target = MARTINI_NAMES.get(name.lower())
    if target is None:
        raise InputError(f"mapping '{name}' is not known; choose one of {', '.join(MARTINI_NAMES)} or give a file.")
    rules: dict[str, ResidueRule] = {}
    folder = _data() / "mappings"
    files = [(path, read_backward) for path in sorted(folder.rglob("*.map"))]
    # Read last: vermouth prefers the newer format where a residue is in both.
    files += [(path, read_vermouth_mapping) for path in sorted(folder.glob("*.charmm.mapping"))]
    for path, read in files:
        # Other source force fields only rename atoms; what a file maps to is decided by its [ to ] section.
        if ".gromos." in path.name or ".amber." in path.name:
            continue
        for rule, _, to in read(path):
            wanted = target in to or (target == "martini3001" and "martini22" in to and rule.name in _SHARED_LIPIDS)
            if wanted and (rule.name not in rules or read is read_vermouth_mapping):
                rules[rule.name] = rule
    chosen = {}
    for key, rule in rules.items():
        standard, _ = standard_residue(key)
        if key == standard or standard not in rules:
            chosen[standard] = standardise(rule, standard, _VARIANT_ATOMS.get(target, _VARIANT_ATOMS["martini22"]))
    if target != "martini3001":
        # Only Martini 3's files say what the second nitrogen hydrogen of histidine is part of; elsewhere it is lost.
        histidine = chosen["HIS"]
        shares = {atom: beads for atom, beads in histidine.shares.items() if atom != "HD1"}
        chosen["HIS"] = replace(histidine, shares=shares)
    # Their files say that the hydrogens of these variants do not count, other than for variants by other names.
    by_name = {key: standardise(rules[key], standard_residue(key)[0]) for key in _NAMED_VARIANTS if key in rules}
    scheme = MappingScheme(name=target, rules=chosen, by_name=by_name)
    if source in (None, "charmm"):
        return scheme
    if source != "amber":
        raise InputError(f"source '{source}' is not known; choose charmm or amber.")
    named = _amber(target)
    standard = {key: rule for key, rule in named.items() if standard_residue(key) == (key, None)}
    return replace(scheme, rules={**scheme.rules, **standard}, by_name=named)


def _amber(target: str) -> dict[str, ResidueRule]:
    """Rules for residues by their names in the Amber force fields, as martinize2 maps from them."""
    folder = _data() / "mappings"
    blocks = _block_atoms("amber")
    modifications = [
        modification
        for path in sorted(folder.rglob("modifications.amber.mapping"))
        for modification in read_vermouth_modifications(path)
        if target in modification.targets
    ]
    found = {}
    for path in sorted(folder.rglob("*.amber.map")):
        for rule, _, to in read_backward(path):
            if target not in to or rule.name not in blocks:
                continue
            block = blocks[rule.name]
            shares = {atom: beads for atom, beads in rule.shares.items() if atom in block}
            for modification in modifications:
                # One that only names atoms the residue has anyway is never found in a structure.
                if modification.names[0].startswith(f"{rule.name}-") and not modification.shares.keys() <= block:
                    shares |= modification.shares
            name = standard_residue(rule.name)[0]
            shares = {standard_atom(name, atom): beads for atom, beads in shares.items()}
            found[rule.name] = replace(rule, name=name, shares=_with_chain_ends(shares, ("H2", "H3")), optional=_ENDS)
    if not found:
        raise InputError(f"vermouth has no files from amber to {target}; use source charmm.")
    return found


def _block_atoms(forcefield: str) -> dict[str, set[str]]:
    """Residue name → atoms, from a residue topology file of vermouth."""
    residues: dict[str, set[str]] = {}
    name, section = "", ""
    for line in (_data() / "force_fields" / forcefield / "aminoacids.rtp").read_text().splitlines():
        text = line.split(";", 1)[0].strip()
        if text.startswith("["):
            section = text[1:-1].strip()
            if not line.startswith((" ", "\t")):
                name = section
        elif text and section == "atoms":
            residues.setdefault(name, set()).add(text.split()[0])
    return residues


def standardise(
    rule: ResidueRule, residue_name: str, variant_atoms: Mapping[str, Mapping[str, str]] | None = None
) -> ResidueRule:
    """The rule with standard atom names, and with the atoms of chain ends and protonation variants added.

    Arguments:
        rule: as read from a file.
        residue_name: standard residue name.
        variant_atoms: residue → atom → bead the atom counts in with the share one, where a residue has the atom.
    """
    shares = {standard_atom(residue_name, atom): dict(beads) for atom, beads in rule.shares.items()}
    optional = frozenset()
    if residue_name in AMINO_ACIDS and "N" in shares and "C" in shares:
        optional = frozenset() if "OXT" in shares else _ENDS
        shares = _with_chain_ends(shares, ("H", "H2", "H3"))
    for atom, bead in (variant_atoms or {}).get(residue_name, {}).items():
        if bead in rule.beads:
            shares[atom] = {bead: 1.0}
    return replace(rule, name=residue_name, shares=shares, optional=optional)


def _with_chain_ends(shares: Mapping[str, Mapping[str, float]], hydrogens: Sequence[str]):
    """martinize2's modifications of chain ends: what they add belongs to the beads of N and C."""
    nitrogen = {bead: share for bead, share in shares["N"].items() if share}
    carbon = {bead: share for bead, share in shares["C"].items() if share}
    return dict.fromkeys(hydrogens, nitrogen) | dict.fromkeys(("OXT", "HXT", "HO"), carbon) | dict(shares)


#: The atom of a chain end that other residues of the same name lack.
_ENDS = frozenset({"OXT"})
#: Names of variants that have files of their own among those from CHARMM.
_NAMED_VARIANTS = ("ASPP", "GLUP", "LSN")
#: Hydrogens that martinize2's protonation modifications let count, by target (vermouth's modifications files).
_LYSINE = {"LYS": dict.fromkeys(("HE2", "HE3", "HZ1", "HZ2", "HZ3"), "SC2")}
_ACIDS = {"ASP": dict.fromkeys(("HD1", "HD2"), "SC1"), "GLU": dict.fromkeys(("HE1", "HE2"), "SC1")}
_VARIANT_ATOMS = {"martini22": _LYSINE, "martini3001": _LYSINE | _ACIDS, "martini3IDP": _LYSINE | _ACIDS}


def _data() -> Path:
    # The package's __init__ is slow; only its files are needed.
    spec = find_spec("vermouth")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("the package vermouth is not installed; it carries the Martini mappings.")
    return Path(next(iter(spec.submodule_search_locations))) / "data"
