"""Relaxation from nothing to a sound all-atom structure: embed, add hydrogens, refine, check, repair.

Every stage is a program (see `jaxcg.lockstep`), so that many frames and seeds go through the stages in batches.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..energy import CMAPTorsion, HarmonicAngle, HarmonicBond, HarmonicTorsion, Nonbonded, PeriodicTorsion
from ..energy.base import AbstractEnergy, SumEnergy
from ..lockstep import Batched, Call, Program, alone, call, clock
from ..mapping.base import AbstractFibre, AbstractLinearMap
from ..neighbors import WIDTH, rounded_rows, sequential_order, suggest_room
from ..posterior import Posterior
from ..system import System
from ..typing import Array, PRNGKeyArray
from ..units import thermal_energy
from ._molecule import anchors, cast, restricted_map, widened
from .defects import defective_residues
from .embedding import Restraints, contact_table, embed, random_start
from .geometry import ideal_geometry
from .hydrogens import HydrogenRules
from .prior import OMEGA_EXACT, OMEGA_PRIOR, OMEGA_SOFT, omega_restraint, ramachandran_energy
from .refinement import SKIN, Refiner, Schedule, refine
from .result import Relaxed
from .softcore import CUTOFF, SoftNonbonded

#: Embedding: steps with noisy and with exact beads, step size (nm), reach of static contacts beyond the two atoms'
#: distances to their beads.
EMBED_STEPS, EMBED_RATE, CONTACT_REACH = {True: 800, False: 1200}, 0.06, 0.77
#: Refinement: steps of each chunk (a new neighbour table before each), step size (nm).
REFINE_CHUNKS, REFINE_RATE = (20, 40, 60, 80), 0.004
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
        mapping: AbstractLinearMap,
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
        self._room: tuple[int, int] | None = None
        self._order = sequential_order(system.n_atoms)

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
            variant._contact_width, variant._room = self._contact_width, self._room
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

    # -- stages: each a program for one structure, and a method that runs it alone -----------------------------------

    def embedding(
        self,
        y: np.ndarray,
        key: PRNGKeyArray,
        *,
        soft: bool,
        start=None,
        steps: int | None = None,
        bead_stiffness: float | np.ndarray = EMBED_BEAD_STIFFNESS,
    ) -> Program[np.ndarray]:
        """The program of `embed`."""
        (result,) = yield [self._embedding_call(y, key, soft, start, steps, bead_stiffness)]
        return np.asarray(result)

    def _embedding_call(self, y, key, soft, start, steps, bead_stiffness) -> Call:
        restraints, fibre = self._heavy_tables
        y = np.asarray(y, dtype=np.float32)
        anchors = y[self.anchor[self.heavy]]
        contacts = contact_table(anchors, CONTACT_REACH, self.heavy_geometry.pairs, self._contact_width)
        self._contact_width = contacts.shape[0]
        if start is None:
            start = _random_start(key, anchors)
        spring = None
        if soft:
            stiffness = np.asarray(bead_stiffness, np.float32).reshape(-1, 1)
            spring = np.broadcast_to(stiffness, (self.mapping.n_beads, 1))
        shared = (restraints, fibre, np.int32(EMBED_STEPS[soft] if steps is None else steps), np.float32(EMBED_RATE))
        return Call(_EMBED, shared, (contacts, y, np.asarray(start, np.float32), spring))

    def embed(
        self, y: np.ndarray, key: PRNGKeyArray, *, soft: bool, start=None, steps: int | None = None
    ) -> np.ndarray:
        """Heavy atoms (heavy, 3), nm, from random four-dimensional positions or from ``start`` (heavy, 4).

        Arguments:
            y: (beads, 3) nm.
            key: random key.
            soft: whether beads are noisy; springs then take the place of the constraint.
            start: (heavy, 4) nm.
            steps: Adam steps; the usual number when None.
        """
        return alone(self.embedding(y, key, soft=soft, start=start, steps=steps))

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

    def refinement(
        self, x: np.ndarray, y: np.ndarray, *, noise: float | None, chunks: Sequence[int] = REFINE_CHUNKS
    ) -> Program[np.ndarray]:
        """The program of `refine`."""
        x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
        while True:
            refined, overflow = yield from call(_REFINE, self._refinement(x, noise, chunks), y, x)
            if overflow <= 0:
                return np.asarray(refined)
            self._enlarge(int(overflow))

    def refine(
        self, x: np.ndarray, y: np.ndarray, *, noise: float | None, chunks: Sequence[int] = REFINE_CHUNKS
    ) -> np.ndarray:
        """Refined positions (atoms, 3), nm, from complete ones; ``noise`` in nm, None for exact beads."""
        return alone(self.refinement(x, y, noise=noise, chunks=chunks))

    def _refinement(
        self, x: np.ndarray, noise: float | None, chunks: Sequence[int]
    ) -> tuple[Refiner, AbstractFibre, np.ndarray, tuple[int, int], Schedule, Any]:
        """Arguments of a refinement that do not depend on the structure."""
        if self._room is None:
            self._room = suggest_room(x, CUTOFF + SKIN, self._order)
        spring = None if noise is None else np.float32(thermal_energy(self.temperature) / noise**2)
        schedule = Schedule(np.asarray(chunks, np.int32), np.asarray(REFINE_RATE, np.float32))
        return self.refiner(noise is not None), self._fibre, self._order, self._room, schedule, spring

    def _enlarge(self, overflow: int) -> None:
        """More room for neighbours from now on: a structure was denser than any before."""
        assert self._room is not None
        rows, most = self._room
        self._room = rounded_rows(rows + overflow), min(most + overflow, -(-self.system.n_atoms // WIDTH))

    # -- the whole way --------------------------------------------------------------------------------------------

    def relaxation(
        self, y: np.ndarray, key: PRNGKeyArray, *, noise: float | None = None, start=None
    ) -> Program[Relaxed]:
        """The program of `relax`."""
        seconds: dict[str, float] = {}
        since = clock()
        soft = noise is not None
        if start is None:
            heavy = yield from self.embedding(y, jax.random.fold_in(key, 0), soft=soft)
        else:
            heavy = np.asarray(start)
        repairs = 0
        for attempt in range(EMBED_REPAIRS):
            bad = self.bad_residues(self.complete(heavy), strict=False)
            if not bad:
                break
            repairs += 1
            heavy = yield from self.reembedding(heavy, y, bad, jax.random.fold_in(key, 1 + attempt), soft=soft)
        strain = self.strain(heavy)
        since = _lap(seconds, "embedding", since)
        history = [("embedding", EMBED_STEPS[soft], self.complete(heavy))]
        x = yield from self.refinement(history[-1][2], y, noise=noise)
        since = _lap(seconds, "refinement", since)
        history.append(("refinement", sum(REFINE_CHUNKS), x))
        x, more, bad = yield from self.mending(x, y, jax.random.fold_in(key, 100), noise=noise)
        _lap(seconds, "repair", since)
        if more:
            history.append(("repair", more * sum(REPAIR_CHUNKS), x))
        return Relaxed(x, strain, repairs + more, bad, history, seconds)

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
        return alone(self.relaxation(y, key, noise=noise, start=start))

    def reembedding(self, heavy, y, residues: Sequence[int], key: PRNGKeyArray, *, soft: bool) -> Program[np.ndarray]:
        """Starts the heavy atoms of ``residues`` anew in four dimensions, the others nearly where they are."""
        (result,) = yield from self.tries(heavy, y, residues, [key], soft=soft, loose=[EMBED_BEAD_STIFFNESS])
        return result

    def tries(
        self, heavy, y, residues, keys, *, soft: bool, loose: Sequence[float], steps: int = REPAIR_STEPS
    ) -> Program[np.ndarray]:
        """Several independent embeddings (tries, heavy, 3) with ``residues`` started anew, one for each key.

        Soft beads of these residues are held by springs of ``loose`` (kJ/mol/nm²), one value for each try: with the
        springs of the others the same basin would often come out.
        """
        atoms = np.isin(self.system.atom_residue, residues)
        y32 = np.asarray(y, dtype=np.float32)
        calls = []
        for key, stiffness in zip(keys, loose, strict=True):
            springs = np.full(self.mapping.n_beads, EMBED_BEAD_STIFFNESS)
            springs[self.anchor[atoms]] = stiffness
            first, second = jax.random.split(key)
            fresh = np.asarray(_random_start(first, y32[self.anchor[self.heavy]]))
            noise = REPAIR_NOISE * np.asarray(jax.random.normal(second, fresh.shape, jnp.float32))
            kept = np.pad(heavy, ((0, 0), (0, 1))) + noise
            start = np.where(atoms[self.heavy][:, None], fresh, kept).astype(np.float32)
            calls.append(self._embedding_call(y, key, soft, start, steps, springs))
        results = yield calls
        return np.stack([np.asarray(result) for result in results])

    def mending(
        self, x: np.ndarray, y: np.ndarray, key: PRNGKeyArray, *, noise: float | None, bad=None
    ) -> Program[tuple[np.ndarray, int, tuple[int, ...]]]:
        """The program of `repair`."""
        bad = self.bad_residues(x) if bad is None else bad
        best, best_bad, tries = x, bad, 0
        while best_bad and tries < REFINE_REPAIRS:
            # Widen the region a little with every try: the knot may lie next door.
            near = widened(self.system, best_bad, tries // 2)
            number = jax.random.fold_in(key, tries)
            heavy = yield from self.reembedding(best[self.heavy], y, near, number, soft=noise is not None)
            x = yield from self.refinement(self.complete(heavy), y, noise=noise, chunks=REPAIR_CHUNKS)
            tries += 1
            bad = self.bad_residues(x)
            if len(bad) < len(best_bad) or not bad:
                best, best_bad = x, bad
        return best, tries, best_bad

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
        return alone(self.mending(x, y, key, noise=noise, bad=bad))

    def bad_residues(self, x: np.ndarray, *, strict: bool = True) -> tuple[int, ...]:
        """Residues of ``x`` (atoms, 3) that `defective_residues` finds."""
        return defective_residues(self.system, self.geometry, x, strict=strict)


def relax(posterior: Posterior, system: System, key: PRNGKeyArray) -> Relaxed:
    """A sound structure near the mode of ``posterior`` from nothing but a random key.

    For many frames or seeds of one molecule make a `Relaxer` once and call its methods.

    Arguments:
        posterior: its energy needs bond, angle and `Nonbonded` terms; its beads and their noise are taken.
        system: the molecule.
        key: random key.
    """
    relaxer = Relaxer(system, posterior.energy, posterior.linear_map("relax"), temperature=float(posterior.temperature))
    noise = None if posterior.noise is None else float(posterior.noise)
    return relaxer.relax(np.asarray(posterior.y), key, noise=noise)


_BONDED = (HarmonicBond, HarmonicAngle, PeriodicTorsion, HarmonicTorsion, CMAPTorsion)


def _embed(shared, contacts, y, start, springs) -> Array:
    restraints, fibre, steps, rate = shared
    return embed(restraints, fibre, contacts, y, start, steps, rate, springs)


def _refine(shared, y, x) -> tuple[Array, Array]:
    refiner, fibre, order, room, schedule, spring = shared
    return refine(refiner, fibre, order, room, schedule, spring, y, x)


_EMBED, _REFINE = Batched(_embed), Batched(_refine)
_random_start = jax.jit(random_start)


def _lap(seconds: dict[str, float], stage: str, since: float) -> float:
    now = clock()
    seconds[stage] = seconds.get(stage, 0.0) + now - since
    return now
