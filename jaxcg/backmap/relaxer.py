"""Relaxation from nothing to a sound all-atom structure: embed, add hydrogens, refine, check, repair."""

from collections.abc import Sequence
from functools import cached_property
from time import perf_counter
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..batching import batch_map
from ..energy import CMAPTorsion, HarmonicAngle, HarmonicBond, HarmonicTorsion, Nonbonded, PeriodicTorsion
from ..energy.base import AbstractEnergy, SumEnergy
from ..mapping.linear import Fibre, LinearMap
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

    # -- stages ---------------------------------------------------------------------------------------------------

    def embed(
        self,
        y: np.ndarray,
        key: PRNGKeyArray,
        *,
        soft: bool,
        start=None,
        steps: int | None = None,
        bead_stiffness: float | np.ndarray = EMBED_BEAD_STIFFNESS,
    ) -> np.ndarray:
        """Heavy atoms (heavy, 3), nm, from random four-dimensional positions or from ``start`` (heavy, 4).

        ``bead_stiffness`` (kJ/mol/nm², for all or for each bead) counts for ``soft`` beads only.
        """
        restraints, fibre = self._heavy_tables
        y = np.asarray(y, dtype=np.float32)
        anchors = y[self.anchor[self.heavy]]
        contacts = contact_table(anchors, CONTACT_REACH, self.heavy_geometry.pairs, self._contact_width)
        self._contact_width = contacts.shape[0]
        if start is None:
            start = _random_start(key, anchors)
        spring = self._springs(bead_stiffness) if soft else None
        return np.asarray(
            _embed(
                restraints,
                fibre,
                contacts,
                y,
                start,
                np.int32(EMBED_STEPS[soft] if steps is None else steps),
                np.float32(EMBED_RATE),
                spring,
            )
        )

    def _springs(self, stiffness: float | np.ndarray) -> np.ndarray:
        """(beads, 1) force constants."""
        return np.broadcast_to(np.asarray(stiffness, np.float32).reshape(-1, 1), (self.mapping.n_beads, 1))

    def embed_many(
        self,
        ys: np.ndarray,
        keys: Array,
        *,
        soft: bool,
        starts: np.ndarray | None = None,
        steps: int | None = None,
        bead_stiffness: np.ndarray | None = None,
    ) -> np.ndarray:
        """Embeddings of several frames or seeds at once: vectorised on a GPU, shared out over the devices of a CPU.

        Arguments:
            ys: (structures, beads, 3) nm.
            keys: (structures,) random keys.
            soft: whether beads are noisy.
            starts: (structures, heavy, 4) nm; random when None.
            steps: Adam steps; the usual number when None.
            bead_stiffness: (structures, beads) springs of soft beads, kJ/mol/nm²; the usual ones when None.

        Returns:
            (structures, heavy, 3) nm; each what `embed` gives for its key.
        """
        restraints, fibre = self._heavy_tables
        ys = np.asarray(ys, dtype=np.float32)
        anchors = ys[:, self.anchor[self.heavy]]
        if self._contact_width is None:
            tables = [contact_table(a, CONTACT_REACH, self.heavy_geometry.pairs) for a in anchors]
            self._contact_width = max(table.shape[0] for table in tables)
        contacts = np.stack(
            [contact_table(a, CONTACT_REACH, self.heavy_geometry.pairs, self._contact_width) for a in anchors]
        )
        if starts is None:
            starts = np.stack([_random_start(key, a) for key, a in zip(keys, anchors, strict=True)])
        springs = None
        if soft:
            stiffness = [EMBED_BEAD_STIFFNESS] * len(ys) if bead_stiffness is None else bead_stiffness
            springs = np.stack([self._springs(k) for k in stiffness])
        shared = (restraints, fibre, np.int32(EMBED_STEPS[soft] if steps is None else steps), np.float32(EMBED_RATE))
        return np.asarray(_embed_many(shared, contacts, ys, np.asarray(starts, np.float32), springs))

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
        x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
        shared = self._refinement(x, noise, chunks)
        refined, overflow = _refine(*shared, y, x)
        if overflow > 0:
            self._enlarge(int(overflow))
            return self.refine(x, y, noise=noise, chunks=chunks)
        return np.asarray(refined)

    def refine_many(
        self, xs: np.ndarray, ys: np.ndarray, *, noise: float | None, chunks: Sequence[int] = REFINE_CHUNKS
    ) -> np.ndarray:
        """What `refine` gives for each of several structures (structures, atoms, 3), batched as in `embed_many`."""
        xs, ys = np.asarray(xs, np.float32), np.asarray(ys, np.float32)
        shared = self._refinement(xs[0], noise, chunks)
        refined, overflow = _refine_many(shared, ys, xs)
        if np.max(overflow) > 0:
            self._enlarge(int(np.max(overflow)))
            return self.refine_many(xs, ys, noise=noise, chunks=chunks)
        return np.asarray(refined)

    def _refinement(
        self, x: np.ndarray, noise: float | None, chunks: Sequence[int]
    ) -> tuple[Refiner, Fibre, np.ndarray, tuple[int, int], Schedule, Any]:
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
        history = [("embedding", EMBED_STEPS[soft], self.complete(heavy))]
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
        loose: float = EMBED_BEAD_STIFFNESS,
    ) -> np.ndarray:
        """Starts the heavy atoms of ``residues`` anew in four dimensions, the others nearly where they are.

        Soft beads of these residues are held by springs of ``loose`` (kJ/mol/nm²) only: with the springs of the others
        the same basin would often come out.
        """
        start, springs = self._anew(heavy, y, residues, key, loose)
        return self.embed(y, key, soft=soft, start=start, steps=REPAIR_STEPS, bead_stiffness=springs)

    def reembed_many(
        self, heavy, y, residues, keys: Array, *, soft: bool, loose: Sequence[float], steps: int = REPAIR_STEPS
    ) -> np.ndarray:
        """Several tries (tries, heavy, 3) of `reembed`, one for each key and each of ``loose``, batched."""
        made = [self._anew(heavy, y, residues, key, k) for key, k in zip(keys, loose, strict=True)]
        starts, springs = (np.stack(column) for column in zip(*made, strict=True))
        ys = np.broadcast_to(y, (len(made), *np.shape(y)))
        return self.embed_many(ys, keys, soft=soft, starts=starts, steps=steps, bead_stiffness=springs)

    def _anew(
        self, heavy, y, residues: Sequence[int], key: PRNGKeyArray, loose: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Start (heavy, 4) and springs (beads,) of a `reembed`."""
        atoms = np.isin(self.system.atom_residue, residues)
        springs = np.full(self.mapping.n_beads, EMBED_BEAD_STIFFNESS)
        springs[self.anchor[atoms]] = loose
        y32 = np.asarray(y, dtype=np.float32)
        first, second = jax.random.split(key)
        fresh = np.asarray(_random_start(first, y32[self.anchor[self.heavy]]))
        noise = REPAIR_NOISE * np.asarray(jax.random.normal(second, fresh.shape, jnp.float32))
        kept = np.pad(heavy, ((0, 0), (0, 1))) + noise
        return np.where(atoms[self.heavy][:, None], fresh, kept).astype(np.float32), springs

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
    relaxer = Relaxer(system, posterior.energy, posterior.mapping, temperature=float(posterior.temperature))
    noise = None if posterior.noise is None else float(posterior.noise)
    return relaxer.relax(np.asarray(posterior.y), key, noise=noise)


_BONDED = (HarmonicBond, HarmonicAngle, PeriodicTorsion, HarmonicTorsion, CMAPTorsion)
_embed = jax.jit(embed)
_embed_many = jax.jit(
    batch_map(lambda shared, *one: embed(*shared[:2], *one[:3], *shared[2:], one[3]))  # pyright: ignore[reportCallIssue]
)
_refine = eqx.filter_jit(refine)
_refine_many = eqx.filter_jit(batch_map(lambda shared, y, x: _refine(*shared, y, x)))  # pyright: ignore[reportCallIssue]
_random_start = jax.jit(random_start)


def _lap(seconds: dict[str, float], stage: str, since: float) -> float:
    now = perf_counter()
    seconds[stage] = seconds.get(stage, 0.0) + now - since
    return now
