"""Relaxation from nothing to a sound all-atom structure: embed, add hydrogens, refine, check, repair."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..batching import batch_map
from ..energy import CMAPTorsion, HarmonicAngle, HarmonicBond, HarmonicTorsion, Nonbonded, PeriodicTorsion
from ..energy.base import AbstractEnergy, SumEnergy
from ..mapping.linear import LinearMap
from ..posterior import Posterior
from ..system import System
from ..typing import Array, PRNGKeyArray
from ..units import thermal_energy
from ._molecule import anchors, cast, restricted_map, widened
from .embedding import Restraints, contact_table, embed, random_start
from .geometry import ideal_geometry
from .hydrogens import HydrogenRules
from .prior import OMEGA_EXACT, OMEGA_PRIOR, OMEGA_SOFT, omega_restraint, ramachandran_energy
from .quality.checks import check_contacts, check_rings
from .quality.tables import tables_of
from .quality.vectors import angle_difference, dihedrals
from .refinement import Progress, Refiner, refine
from .softcore import CUTOFF, SoftNonbonded

#: Embedding: steps, step size (nm), reach of static contacts beyond the two atoms' distances to their beads.
EMBED_STEPS, EMBED_RATE, CONTACT_REACH = 600, 0.03, 0.77
#: Refinement: steps of each chunk (a new neighbour table before each), step size (nm), table skin (nm).
REFINE_CHUNKS, REFINE_RATE, SKIN = (20, 40, 60, 80), 0.002, 0.06
#: Steps of a repair: embedding and refinement chunks.
REPAIR_STEPS, REPAIR_CHUNKS = 300, (20, 40, 60, 80)
#: Noise of the atoms that are not repaired, nm.
REPAIR_NOISE = 0.003
#: Most repairs of an embedding and of a refined structure.
EMBED_REPAIRS, REFINE_REPAIRS = 2, 6
#: Spring of noisy beads in four dimensions, kJ/mol/nm².
EMBED_BEAD_STIFFNESS = 3e3
#: Bond strain (rms, relative) of the exact embedding above which beads are taken to be noisy.
STRAIN_LIMIT = 0.04


@dataclass(frozen=True)
class Relaxed:
    """Result of one relaxation.

    Arguments:
        x: (atoms, 3) nm.
        strain: relative rms strain of the bonds after the embedding.
        repairs: how often residues were started anew.
        bad: residues that stayed wrong after the last repair; empty for a sound structure.
        history: ``(stage, steps done)`` of every stage, in order, with the positions after it.
        seconds: seconds spent in each stage.
    """

    x: np.ndarray
    strain: float
    repairs: int
    bad: tuple[int, ...]
    history: list[tuple[str, int, np.ndarray]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Relaxer:
    """Everything about a molecule that relaxation needs, prepared once; frames and seeds only change y and the key.

    Arguments:
        system: the molecule.
        energy: its force field; bonds, angles and a `Nonbonded` term are needed.
        mapping: forward map.
        prior_weight, exact_prior_weight: weight of the Ramachandran prior in the refinement with noisy and with exact
            beads, in kT.
        temperature: K; sets the prior and the bead spring.
        double_bond_angles: (double bonds,) configuration to aim at, radians; that of ``system`` when None.
    """

    def __init__(
        self,
        system: System,
        energy: AbstractEnergy,
        mapping: LinearMap,
        *,
        prior_weight: float = 0.0,
        exact_prior_weight: float = 0.0,
        temperature: float = 300.0,
        double_bond_angles: np.ndarray | None = None,
    ):
        if double_bond_angles is not None:
            system = eqx.tree_at(lambda s: s.double_bond_angles, system, np.asarray(double_bond_angles, float))
        self.system, self.energy, self.mapping = system, energy, mapping
        self.prior_weights = {True: prior_weight, False: exact_prior_weight}
        self.temperature = temperature
        self.geometry = ideal_geometry(system, energy)
        self.hydrogens = HydrogenRules.of(system, energy)
        self.heavy = np.flatnonzero(system.heavy)
        self.heavy_geometry = self.geometry.subset(self.heavy)
        self.heavy_map = restricted_map(mapping, self.heavy)
        self.anchor = anchors(system.bonds, mapping)
        self._contact_width: int | None = None
        self._neighbor_width: int | None = None

    def with_cis(self, peptides: Sequence[int]) -> "Relaxer":
        """The same relaxer with the double bonds numbered ``peptides`` cis; made once for each choice."""
        chosen = tuple(sorted(peptides))
        if not chosen:
            return self
        if chosen not in self._variants:
            angles = self.system.double_bond_angles.copy()
            angles[list(chosen)] = 0.0
            variant = Relaxer(
                self.system,
                self.energy,
                self.mapping,
                prior_weight=self.prior_weights[True],
                exact_prior_weight=self.prior_weights[False],
                temperature=self.temperature,
                double_bond_angles=angles,
            )
            variant._contact_width, variant._neighbor_width = self._contact_width, self._neighbor_width
            self._variants[chosen] = variant
        return self._variants[chosen]

    @cached_property
    def _variants(self) -> dict[tuple[int, ...], "Relaxer"]:
        return {}

    @cached_property
    def _heavy_tables(self):
        return Restraints.of(self.heavy_geometry), cast(self.heavy_map.fibre())

    @cached_property
    def _nonbonded(self) -> Nonbonded:
        return next(t for t in self.energy.terms() if isinstance(t, Nonbonded))

    @cached_property
    def _excluded(self) -> np.ndarray:
        return np.asarray(self._nonbonded.exception_atoms).reshape(-1, 2)

    @cached_property
    def _fibre(self):
        return cast(self.mapping.fibre())

    def _refiner(self, soft: bool) -> Refiner:
        bonded = SumEnergy(tuple(t for t in self.energy.terms() if isinstance(t, _BONDED)))
        weight = self.prior_weights[soft]
        if weight > 0:
            bonded = bonded + ramachandran_energy(self.system, weight, self.temperature)
        omega = OMEGA_PRIOR if weight > 0 else OMEGA_SOFT if soft else OMEGA_EXACT
        if len(self.system.double_bonds):
            bonded = bonded + omega_restraint(self.system, omega)
        return cast(Refiner(bonded, SoftNonbonded.of(self._nonbonded), Restraints.of(self.geometry)))

    @cached_property
    def _refiners(self) -> dict[bool, Refiner]:
        return {}

    def refiner(self, soft: bool) -> Refiner:
        """The energy of the refinement for exact or noisy beads."""
        if soft not in self._refiners:
            self._refiners[soft] = self._refiner(soft)
        return self._refiners[soft]

    # -- stages ---------------------------------------------------------------------------------------------------

    def embed(
        self,
        y: np.ndarray,
        key: PRNGKeyArray,
        *,
        soft: bool,
        start=None,
        steps: int = EMBED_STEPS,
        bead_stiffness: float = EMBED_BEAD_STIFFNESS,
    ) -> np.ndarray:
        """Heavy atoms (heavy, 3), nm, from random four-dimensional positions or from ``start`` (heavy, 4)."""
        restraints, fibre = self._heavy_tables
        y = np.asarray(y, dtype=np.float32)
        anchors = y[self.anchor[self.heavy]]
        contacts = contact_table(anchors, CONTACT_REACH, self.heavy_geometry.pairs, self._contact_width)
        self._contact_width = contacts.shape[0]
        if start is None:
            start = _random_start(key, anchors)
        spring = np.float32(bead_stiffness) if soft else None
        return np.asarray(
            _embed(restraints, fibre, contacts, y, start, np.int32(steps), np.float32(EMBED_RATE), spring)
        )

    def embed_many(self, ys: np.ndarray, keys: Array, *, soft: bool, steps: int = EMBED_STEPS) -> np.ndarray:
        """Embeddings of several frames or seeds at once: vectorised on a GPU, shared out over the devices of a CPU.

        Arguments:
            ys: (structures, beads, 3) nm.
            keys: (structures,) random keys.
            soft: whether beads are noisy.
            steps: Adam steps.

        Returns:
            (structures, heavy, 3) nm; each what `embed` gives for its key.
        """
        restraints, fibre = self._heavy_tables
        ys = np.asarray(ys, dtype=np.float32)
        anchors = ys[:, self.anchor[self.heavy]]
        tables = [contact_table(a, CONTACT_REACH, self.heavy_geometry.pairs, self._contact_width) for a in anchors]
        self._contact_width = max(table.shape[0] for table in tables)
        contacts = np.stack(
            [contact_table(a, CONTACT_REACH, self.heavy_geometry.pairs, self._contact_width) for a in anchors]
        )
        starts = np.stack([_random_start(key, a) for key, a in zip(keys, anchors, strict=True)])
        spring = np.float32(EMBED_BEAD_STIFFNESS) if soft else None
        shared = (restraints, fibre, np.int32(steps), np.float32(EMBED_RATE), spring)
        return np.asarray(_embed_many(shared, contacts, ys, starts))

    def strain(self, heavy: np.ndarray) -> float:
        """Relative rms strain of the bonds between heavy atoms."""
        pairs, lengths = self.heavy_geometry.bond_lengths()
        d = np.linalg.norm(heavy[pairs[:, 0]] - heavy[pairs[:, 1]], axis=1)
        return float(np.sqrt(np.mean((d / lengths - 1) ** 2)))

    def complete(self, heavy: np.ndarray) -> np.ndarray:
        """All atoms (atoms, 3), nm, from heavy ones: hydrogens where their parents' neighbours say."""
        x = np.zeros((self.system.n_atoms, 3), dtype=np.float32)
        x[self.heavy] = heavy
        return self.hydrogens.place(x).astype(np.float32)

    def refine(
        self, x: np.ndarray, y: np.ndarray, *, noise: float | None, chunks: Sequence[int] = REFINE_CHUNKS
    ) -> np.ndarray:
        """Refined positions (atoms, 3), nm, from complete ones; ``noise`` in nm, None for exact beads."""
        refiner = self.refiner(noise is not None)
        spring = None if noise is None else np.float32(thermal_energy(self.temperature) / noise**2)
        progress = Progress.start(jnp.asarray(x, dtype=np.float32))
        total = np.float32(sum(chunks))
        for steps in chunks:
            contacts = self._neighbors(np.asarray(progress.x)[:, :3])
            progress = _refine(
                refiner, self._fibre, np.asarray(y, np.float32), contacts, progress, np.int32(steps), total,
                np.float32(REFINE_RATE), spring,
            )  # fmt: skip
        return np.asarray(progress.x)[:, :3]

    def _neighbors(self, x: np.ndarray) -> np.ndarray:
        if self._neighbor_width is None:
            table = contact_table(x, CUTOFF + SKIN, self._excluded)
            self._neighbor_width = table.shape[0] + 8
        return contact_table(x, CUTOFF + SKIN, self._excluded, self._neighbor_width)

    # -- the whole way --------------------------------------------------------------------------------------------

    def relax(self, y: np.ndarray, key: PRNGKeyArray, *, noise: float | None = None, start=None) -> Relaxed:
        """A sound structure for the beads ``y`` from nothing but a random key.

        Arguments:
            y: (beads, 3) nm.
            key: random key.
            noise: σ of each bead coordinate, nm; None holds the beads exactly.
            start: (heavy, 3) an embedding to go on from, e.g. from `embed`; None makes one.

        Returns:
            A `Relaxed`; ``bad`` names the residues that could not be mended.
        """
        seconds: dict[str, float] = {}
        clock = perf_counter()
        soft = noise is not None
        heavy = self.embed(y, jax.random.fold_in(key, 0), soft=soft) if start is None else np.asarray(start)
        repairs = 0
        for attempt in range(EMBED_REPAIRS):
            bad = self.bad_residues(self.complete(heavy), strict=False)
            if not bad:
                break
            repairs += 1
            heavy = self.reembed(heavy, y, bad, jax.random.fold_in(key, 1 + attempt), soft=soft)
        strain = self.strain(heavy)
        clock = _lap(seconds, "embedding", clock)
        history = [("embedding", EMBED_STEPS, self.complete(heavy))]
        x = self.refine(history[-1][2], y, noise=noise)
        clock = _lap(seconds, "refinement", clock)
        history.append(("refinement", sum(REFINE_CHUNKS), x))
        x, more, bad = self.repair(x, y, jax.random.fold_in(key, 100), noise=noise)
        _lap(seconds, "repair", clock)
        if more:
            history.append(("repair", more * sum(REPAIR_CHUNKS), x))
        return Relaxed(x, strain, repairs + more, bad, history, seconds)

    def reembed(
        self,
        heavy,
        y,
        residues: Sequence[int],
        key: PRNGKeyArray,
        *,
        soft: bool,
        bead_stiffness: float = EMBED_BEAD_STIFFNESS,
    ) -> np.ndarray:
        """Starts the heavy atoms of ``residues`` anew in four dimensions, the others nearly where they are."""
        anew = np.isin(self.system.atom_residue[self.heavy], residues)
        y32 = np.asarray(y, dtype=np.float32)
        first, second = jax.random.split(key)
        fresh = np.asarray(_random_start(first, y32[self.anchor[self.heavy]]))
        noise = REPAIR_NOISE * np.asarray(jax.random.normal(second, fresh.shape, jnp.float32))
        start = np.where(anew[:, None], fresh, np.pad(heavy, ((0, 0), (0, 1))) + noise).astype(np.float32)
        return self.embed(y, key, soft=soft, start=start, steps=REPAIR_STEPS, bead_stiffness=bead_stiffness)

    def repair(self, x: np.ndarray, y: np.ndarray, key: PRNGKeyArray, *, noise: float | None, bad=None):
        """Mends a refined structure by starting its bad residues anew; the least bad of all tries is kept.

        Arguments:
            x: (atoms, 3) nm.
            y: (beads, 3) nm.
            key: random key.
            noise: σ of each bead coordinate, nm; None for exact beads.
            bad: residues to start anew first; those the checks find when None.

        Returns:
            Positions (atoms, 3), number of tries, residues still bad.
        """
        bad = self.bad_residues(x) if bad is None else bad
        best, best_bad, tries = x, bad, 0
        while best_bad and tries < REFINE_REPAIRS:
            # Widen the region a little with every try: the knot may lie next door.
            near = widened(self.system, best_bad, tries // 2)
            heavy = self.reembed(best[self.heavy], y, near, jax.random.fold_in(key, tries), soft=noise is not None)
            x = self.refine(self.complete(heavy), y, noise=noise, chunks=REPAIR_CHUNKS)
            tries += 1
            bad = self.bad_residues(x)
            if len(bad) < len(best_bad) or not bad:
                best, best_bad = x, bad
        return best, tries, best_bad

    def bad_residues(self, x: np.ndarray, *, strict: bool = True) -> tuple[int, ...]:
        """Residues with a wrong or flat stereo centre, a wrong or twisted double bond, a bond off, or a pierced ring.

        Arguments:
            x: (atoms, 3) nm.
            strict: limits of a finished structure (30° of twist, bonds 9.5 % off) or of an embedding (75°, 12 %).
        """
        system, geometry, owner = self.system, self.geometry, self.system.atom_residue
        if not np.isfinite(x).all():
            return tuple(range(system.n_residues))
        wrong = []
        if len(geometry.centers):
            a, b, c = (x[geometry.centers[:, k]] - x[geometry.centers[:, 0]] for k in (1, 2, 3))
            share = np.sum(a * np.cross(b, c), axis=1) / geometry.volumes
            wrong.append(geometry.centers[share < (0.45 if strict else 0.4), 0])
        if len(system.double_bonds):
            twist = angle_difference(dihedrals(x, system.double_bonds), system.double_bond_angles)
            wrong.append(system.double_bonds[np.abs(twist) > np.deg2rad(28 if strict else 75), 1:3].ravel())
        pairs, lengths = geometry.bond_lengths()
        if not strict:
            keep = system.heavy[pairs].all(axis=1)
            pairs, lengths = pairs[keep], lengths[keep]
        stretch = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1) / lengths - 1
        wrong.append(pairs[np.abs(stretch) > (0.095 if strict else 0.12)].ravel())
        found = check_rings(system, tables_of(system), np.asarray(x, dtype=np.float64))[1]["rings_pierced"]
        wrong.append(np.array([atom for offender in found for atom in offender.atoms], dtype=int))
        if strict:
            close = check_contacts(system, tables_of(system), np.asarray(x, dtype=np.float64))[1]
            wrong.append(np.array([a for name in close for o in close[name] for a in o.atoms], dtype=int))
        return tuple(sorted({int(r) for r in owner[np.concatenate(wrong).astype(int)]}))


def relax(posterior: Posterior, system: System, key: PRNGKeyArray) -> Relaxed:
    """A sound structure near the mode of ``posterior`` from nothing but a random key.

    For many frames or seeds of one molecule make a `Relaxer` once and call its methods.

    Arguments:
        posterior: its energy needs bond, angle and `Nonbonded` terms; its beads and their noise are taken.
        system: the molecule.
        key: random key.
    """
    relaxer = Relaxer(system, posterior.energy, posterior.mapping, temperature=float(posterior.temperature))
    noise = None if posterior.noise is None else float(posterior.noise)
    return relaxer.relax(np.asarray(posterior.y), key, noise=noise)


_BONDED = (HarmonicBond, HarmonicAngle, PeriodicTorsion, HarmonicTorsion, CMAPTorsion)
_embed = jax.jit(embed)
_embed_many = jax.jit(
    batch_map(lambda shared, contacts, y, start: embed(shared[0], shared[1], contacts, y, start, *shared[2:]))
)
_refine = jax.jit(refine)
_random_start = jax.jit(random_start)


def _lap(seconds: dict[str, float], stage: str, since: float) -> float:
    now = perf_counter()
    seconds[stage] = seconds.get(stage, 0.0) + now - since
    return now
