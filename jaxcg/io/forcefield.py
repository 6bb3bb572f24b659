"""OpenMM force fields by short name, and the residues they know."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import InputError

_SHORT_NAMES = {"amber14": "amber14-all.xml", "amber19": "amber19-all.xml"}
_SOLVENTS = {"none": None, "obc2": "implicit/obc2.xml", "gbn2": "implicit/gbn2.xml"}


@dataclass(frozen=True)
class ResidueTemplate:
    """Atoms and bonds of a residue as a force field knows it.

    Arguments:
        name: template name in the force field.
        atom_names: as in the force field.
        elements: element symbols.
        bonds: pairs of atom numbers.
        external: numbers of the atoms with bonds to other residues.
    """

    name: str
    atom_names: tuple[str, ...]
    elements: tuple[str, ...]
    bonds: tuple[tuple[int, int], ...]
    external: tuple[int, ...]


class ForceFieldLibrary:
    """A force field of OpenMM: residue templates, and the System of a topology.

    Arguments:
        names: short names (``"amber14"``, ``"charmm36"``: a file of OpenMM's data folder without its ending) or paths
            of XML files.
        solvent: ``"none"``, ``"obc2"`` or ``"gbn2"``.
        dielectric: relative permittivity that screens all charges; 1 leaves the force field as it is.

    Raises:
        InputError: a name or file is not known or not readable, or the permittivity is below 1.
    """

    def __init__(self, names: str | Sequence[str] = ("amber14",), solvent: str = "none", dielectric: float = 1.0):
        names = (names,) if isinstance(names, str) else tuple(names)
        if not names:
            raise InputError("no force field given; name one, for example amber14.")
        if solvent not in _SOLVENTS:
            raise InputError(f"solvent '{solvent}' is not known; choose none, obc2 or gbn2.")
        if not dielectric >= 1:
            raise InputError(f"a relative permittivity of {dielectric:g} is not possible; give 1 or more.")
        files = tuple(_resolve(name) for name in names)
        if _SOLVENTS[solvent]:
            files += (_SOLVENTS[solvent],)
        self.names = names
        self.solvent = solvent
        self.dielectric = dielectric
        self.forcefield = _load(files)

    @property
    def charmm(self) -> bool:
        """True for force fields that make chain ends with patches (CHARMM)."""
        return any(name.split("_")[0] == "NTER" for name in self.forcefield._patches)

    def template(self, residue: str, *, first: bool = False, last: bool = False) -> ResidueTemplate | None:
        """Template of a residue variant (``"HIE"``, ``"CYX"``), at the chain's first or last place; None if unknown."""
        find = self._charmm_template if self.charmm else self._amber_template
        data = find(residue, first, last)
        if data is None:
            return None
        return ResidueTemplate(
            name=data.name,
            atom_names=tuple(atom.name for atom in data.atoms),
            elements=tuple(atom.element.symbol if atom.element is not None else "" for atom in data.atoms),
            bonds=tuple((int(a), int(b)) for a, b in data.bonds),
            external=tuple(int(a) for a in data.externalBonds),
        )

    def _amber_template(self, residue: str, first: bool, last: bool):
        templates = self.forcefield._templates
        if first and last:
            # No force field has a single amino acid with both ends charged under one name.
            return None
        prefix = "N" if first else "C" if last else ""
        if residue == "HIS" and prefix + residue not in templates:
            residue = "HIE"
        return templates.get(prefix + residue)

    def _charmm_template(self, residue: str, first: bool, last: bool):
        templates, patches = self.forcefield._templates, self.forcefield._patches
        base, patch = _CHARMM_VARIANTS.get(residue, (residue, None))
        data = templates.get(base)
        if data is None:
            return None
        names = [patch] if patch else []
        if first:
            names.append({"GLY": "GLYP", "PRO": "PROP"}.get(base, "NTER"))
        if last:
            names.append("CTER")
        for name in names:
            # Newer files number the versions of a patch (NTER_1); the residue says which it takes.
            allowed = sorted(p for p, _ in self.forcefield._templatePatches.get(base, ()) if p.split("_")[0] == name)
            if not allowed:
                return None
            patch = patches[allowed[0]]
            data = patch.createPatchedTemplates([data] * patch.numResidues)[0]
        # OpenMM finds patches by trying them all, which takes a minute for large force fields; a registered template
        # is found by its name at once.
        if names and data.name not in templates:
            self.forcefield.registerResidueTemplate(data)
        return data

    def describes(self, topology) -> bool:
        """Whether every residue of a topology, hydrogens included, matches a template."""
        try:
            return not self.forcefield.getUnmatchedResidues(topology)
        except Exception:  # several templates fit: the residue is known
            return True

    def create_system(self, topology, *, nonbonded_cutoff: float | None = None, residue_templates=None):
        """`openmm.System` of a topology: no constraints, flexible water, no centre-of-mass remover.

        Arguments:
            topology: `openmm.app.Topology` with hydrogens.
            nonbonded_cutoff: nm; None computes every pair.
            residue_templates: topology residue → template name where several fit.

        Raises:
            InputError: the force field does not know a residue.
        """
        from openmm import app

        periodic = topology.getPeriodicBoxVectors() is not None
        options: dict[str, Any] = {"nonbondedMethod": app.NoCutoff}
        if nonbonded_cutoff is not None:
            options = {
                "nonbondedMethod": app.CutoffPeriodic if periodic else app.CutoffNonPeriodic,
                "nonbondedCutoff": nonbonded_cutoff,
            }
        try:
            system = self.forcefield.createSystem(
                topology,
                constraints=None,
                rigidWater=False,
                removeCMMotion=False,
                residueTemplates=residue_templates or {},
                **options,
            )
        except (ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"force field {'+'.join(self.names)} (solvent {self.solvent}) cannot describe this molecule: {reason}"
            ) from error
        if self.dielectric != 1:
            _screen(system, self.dielectric)
        return system


def _screen(system, dielectric: float) -> None:
    """Divides every Coulomb energy of an `openmm.System` by ``dielectric``."""
    for force in system.getForces():
        if type(force).__name__ != "NonbondedForce":
            continue
        for i in range(force.getNumParticles()):
            charge, sigma, epsilon = force.getParticleParameters(i)
            force.setParticleParameters(i, charge / dielectric**0.5, sigma, epsilon)
        for i in range(force.getNumExceptions()):
            first, second, product, sigma, epsilon = force.getExceptionParameters(i)
            force.setExceptionParameters(i, first, second, product / dielectric, sigma, epsilon)


#: Variant → (residue template, patch) in CHARMM.
_CHARMM_VARIANTS: dict[str, tuple[str, str | None]] = {
    "HIS": ("HSE", None),
    "HID": ("HSD", None),
    "HIE": ("HSE", None),
    "HIP": ("HSP", None),
    "ASH": ("ASP", "ASPP"),
    "GLH": ("GLU", "GLUP"),
    "LYN": ("LYS", "LSN"),
    "CYX": ("CYS", "DISU"),
}


def _resolve(name: str) -> str:
    if os.path.isfile(name):
        return os.path.abspath(name)
    data = _data()
    short = _SHORT_NAMES.get(name, name if name.endswith(".xml") else f"{name}.xml")
    if (data / short).is_file():
        return short
    matches = sorted(data.rglob(short))
    if matches:
        return str(matches[0].relative_to(data))
    if name.endswith(".xml"):
        raise InputError(f"force field file {name}: no such file.")
    known = sorted(path.stem for path in data.glob("*.xml") if path.stem.startswith(("amber", "charmm36")))
    raise InputError(f"force field '{name}' is not known; give an XML file or one of {', '.join(['amber14', *known])}.")


def _data() -> Path:
    import openmm.app

    return Path(openmm.app.__file__).parent / "data"


@cache
def _load(files: tuple[str, ...]):
    from openmm.app import ForceField

    try:
        return ForceField(*files)
    except Exception as error:  # XML errors, missing includes and bad numbers all end here
        raise InputError(f"force field {', '.join(files)}: cannot be read ({' '.join(str(error).split())}).") from error
