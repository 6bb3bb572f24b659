"""OpenMM systems for tests of energies: a peptide fragment, villin, ubiquitin and a solvated box; a model liquid."""

from functools import cache
from pathlib import Path

import jax
import numpy as np
import openmm.app
from openmm import unit
from openmm.app import ForceField, Modeller, PDBFile

from jaxcg.energy import Nonbonded

FRAMES = Path(__file__).parent / "data" / "frames"
_SOLVATED = Path(openmm.app.__file__).parent / "data" / "test.pdb"


def quick(function):
    """``function`` compiled without costly optimisations: tests spend their time compiling."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


@cache
def _forcefield(*files):
    return ForceField(*files)


@cache
def _villin(first=None, last=None):
    """Villin of OpenMM's own test file, or some of its residues."""
    pdb = PDBFile(str(_SOLVATED))
    modeller = Modeller(pdb.topology, pdb.positions)
    protein = [r for r in modeller.topology.residues() if r.name not in ("HOH", "Cl", "Na")]
    kept = {r.index for r in protein[first:last]}
    modeller.delete([r for r in modeller.topology.residues() if r.index not in kept])
    return modeller.topology, np.array(modeller.positions.value_in_unit(unit.nanometer))


@cache
def _ubiquitin():
    pdb = PDBFile(str(FRAMES / "ubiquitin" / "aa.pdb"))
    modeller = Modeller(pdb.topology, pdb.positions)
    modeller.deleteWater()
    modeller.addHydrogens(_forcefield("amber14-all.xml"))
    return modeller.topology, np.array(modeller.positions.value_in_unit(unit.nanometer))


@cache
def _box():
    pdb = PDBFile(str(_SOLVATED))
    return pdb.topology, np.array(pdb.positions.value_in_unit(unit.nanometer))


def molecule(name: str, *forcefield: str, **settings):
    """OpenMM system and positions (nm) of ``fragment``, ``villin``, ``ubiquitin`` or ``box`` (villin in water)."""
    if name == "fragment":
        topology, positions = _villin(20, 23)
        # The chain goes on at both ends.
        settings["ignoreExternalBonds"] = True
    else:
        topology, positions = {"villin": _villin, "ubiquitin": _ubiquitin, "box": _box}[name]()
    settings.setdefault("rigidWater", False)
    for key in ("nonbondedCutoff", "switchDistance"):
        if settings.get(key) is not None:
            settings[key] = settings[key] * unit.nanometer
    system = _forcefield(*(forcefield or ("amber14-all.xml",))).createSystem(topology, **settings)
    return system, positions


def liquid(side=10, spacing=0.3, box=None):
    """A jittered lattice with unit-like charges, neighbours excluded in pairs.

    Arguments:
        side: atoms along an edge.
        spacing: nm.
        box: (3, 3) box vectors in units of the edge, or None for a droplet.

    Returns:
        Positions (atoms, 3), nm, and a function that makes a `Nonbonded` of its keyword arguments.
    """
    rng = np.random.default_rng(3)
    n, edge = side**3, side * spacing
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) / side
    x = (grid if box is None else grid @ box) * edge + rng.normal(scale=0.02, size=(n, 3))
    exceptions = np.stack([np.arange(0, n, 2), np.arange(1, n, 2)], axis=1)
    parameters = (rng.normal(size=n), rng.uniform(0.2, 0.3, n), rng.uniform(0.1, 0.5, n), exceptions)
    zeros = np.zeros(len(exceptions))
    settings = {"cutoff": 0.7, "switch": 0.6, "skin": 0.12, "box": None if box is None else edge * np.asarray(box)}
    return x, lambda **more: Nonbonded(*parameters, zeros, zeros + 0.1, zeros, **settings | more)
