"""One frame from beads to its MAP structure: the bead mode is chosen, the structure relaxed, minimised and checked."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..energy import PeriodicTorsion
from ..energy.base import SumEnergy
from ..lockstep import Program, alone, clock
from ..mapping.linear import Fibre, LinearMap
from ..posterior import Posterior
from ..typing import Array, PRNGKeyArray
from ._molecule import cast
from .isomers import choose_isomers, proline_peptides
from .map_estimate import MapEstimate, map_search
from .naming import Nomenclature
from .prior import OMEGA_PRIOR, OMEGA_SOFT, WEIGHT_EXACT, WEIGHT_SOFT, omega_restraint, ramachandran_energy
from .quality import Quality, quality
from .quality.vectors import dihedrals
from .relaxer import STRAIN_LIMIT, Relaxer
from .result import FrameResult
from .settling import Backbone, prepare, settle

#: σ of each coordinate of noisy beads, nm: frames of Martini 3 simulations then leave residuals of 0.06 nm.
BEAD_NOISE = 0.023
#: Steps of the MAP search and its tolerance for exact and for noisy beads, kJ/mol/nm.
MAP_STEPS, MAP_TOLERANCE = 200, {"exact": 5.0, "soft": 10.0}
#: Steps of the exact embedding that tells simulated beads from mapped ones; the strain has settled by then.
CHOICE_STEPS = 150
#: How often a MAP structure that fails the checks is repaired.
MAP_REPAIRS = 3


@dataclass(frozen=True)
class BeadMode:
    """How the beads of a frame are held, and why."""

    noise: float | None
    reason: str

    @property
    def name(self) -> str:
        """``"exact"`` or ``"soft"``."""
        return "exact" if self.noise is None else "soft"


@dataclass(frozen=True)
class Minimum:
    """A relaxed and minimised structure, and how it came about.

    Arguments:
        estimate: the MAP estimate.
        stages: name, steps and positions (atoms, 3) of each stage, in order.
        repairs: how often residues were started anew because a check failed.
        seconds: spent in each stage.
        cis_prolines: prolines (residue indices) with a cis peptide before them.
    """

    estimate: MapEstimate
    stages: list[tuple[str, int, np.ndarray]]
    repairs: int
    seconds: dict[str, float]
    cis_prolines: tuple[int, ...]


class Engine:
    """Back-maps frames of one molecule; prepared once, so that frames and seeds never compile anew.

    Arguments:
        molecule: as built by `jaxcg.io.build_molecule` (or anything with its fields).
        mapping: forward map to use; that of the molecule when None.
        temperature: K.
        beads: ``"exact"``, ``"soft"`` or ``"auto"``.
        bead_noise: σ of noisy beads, nm.
        backbone_prior: weight of the knowledge-based backbone prior in kT; None takes 5 for noisy beads and 1 for exact
            ones, 0 turns it off.
        dtype: precision of the MAP search.
    """

    def __init__(
        self,
        molecule: Any,
        *,
        mapping: LinearMap | None = None,
        temperature: float = 300.0,
        beads: str = "auto",
        bead_noise: float | None = None,
        backbone_prior: float | None = None,
        dtype=np.float32,
    ):
        if beads not in ("auto", "exact", "soft"):
            raise ValueError(f"beads={beads!r}: choose 'auto', 'exact' or 'soft'.")
        self.molecule, self.system = molecule, molecule.system
        self.mapping = molecule.mapping if mapping is None else mapping
        self.temperature, self.beads, self.dtype = temperature, beads, dtype
        self.bead_noise = BEAD_NOISE if bead_noise is None else bead_noise
        self.prior_weight = backbone_prior
        self._settings = {
            "temperature": temperature,
            "beads": beads,
            "bead_noise": bead_noise,
            "backbone_prior": backbone_prior,
            "dtype": dtype,
        }
        self.energy = cast(molecule.energy, dtype)
        self._listed = self.energy
        self.relaxer = Relaxer(
            self.system,
            molecule.energy,
            self.mapping,
            prior_weight=self.weight(soft=True),
            exact_prior_weight=self.weight(soft=False),
            temperature=temperature,
        )

    def with_molecule(self, molecule: Any) -> "Engine":
        """An engine of the same settings for another molecule, or the same with another map."""
        return Engine(molecule, **self._settings)

    def weight(self, *, soft: bool) -> float:
        """Weight of the backbone prior for noisy or exact beads, kT."""
        return (WEIGHT_SOFT if soft else WEIGHT_EXACT) if self.prior_weight is None else self.prior_weight

    @cached_property
    def _ideal_bonds(self) -> np.ndarray:
        pairs, lengths = self.relaxer.geometry.bond_lengths()
        length_of = {(int(i), int(j)): length for (i, j), length in zip(pairs, lengths, strict=True)}
        return np.array([length_of.get((min(i, j), max(i, j)), np.nan) for i, j in self.system.bonds.tolist()])

    @cached_property
    def nomenclature(self) -> Nomenclature:
        """How atoms that are alike are told apart."""
        return Nomenclature.of(self.system, self.mapping, self.energy)

    @cached_property
    def _priors(self) -> dict[bool, SumEnergy]:
        return {}

    def prior(self, *, soft: bool) -> SumEnergy:
        """Energy of p(x): the force field and, where its weight is not zero, the backbone prior.

        Peptide planes of noisy beads are always held: in vacuo they would twist to satisfy the beads.
        """
        if soft not in self._priors:
            weight = self.weight(soft=soft)
            energy = SumEnergy(self.energy.terms())
            if weight > 0:
                energy = energy + cast(ramachandran_energy(self.system, weight, self.temperature), self.dtype)
            stiffness = OMEGA_PRIOR if weight > 0 else OMEGA_SOFT if soft else 0.0
            if stiffness and len(self.system.double_bonds):
                energy = energy + cast(omega_restraint(self.system, stiffness), self.dtype)
            self._priors[soft] = energy
        return self._priors[soft]

    def make_room(self, x: np.ndarray) -> None:
        """Gives the neighbour tables room for a structure ``x`` (atoms, 3); it stays, so later ones compile nothing."""
        sizes = [leaf.size for leaf in jax.tree.leaves(self._listed)]
        grown = self._listed.rebuild(jnp.asarray(x, self.dtype))
        if [leaf.size for leaf in jax.tree.leaves(grown)] != sizes:
            self._listed = grown

    def _with_lists(self, posterior: Posterior) -> Posterior:
        """``posterior`` with the force field's neighbour tables, which have room but wait to be rebuilt."""
        terms = self._listed.terms()
        energy = SumEnergy((*terms, *posterior.energy.terms()[len(terms) :]))
        return eqx.tree_at(lambda p: p.energy, posterior, energy)

    def posterior(self, y: np.ndarray, mode: BeadMode, double_bond_angles: np.ndarray | None = None) -> Posterior:
        """p(x | y) of one frame; ``double_bond_angles`` (radians) where peptides are not those of the system."""
        y = np.asarray(y, dtype=self.dtype)
        prior = self.prior(soft=mode.noise is not None)
        if double_bond_angles is not None and len(prior.parts) > len(self.energy.terms()):
            phase = cast(np.asarray(double_bond_angles) + np.pi, self.dtype)
            planes = prior.parts[-1]
            if isinstance(planes, PeriodicTorsion):
                prior = eqx.tree_at(lambda e: e.parts[-1].phase, prior, jnp.asarray(phase))
        return Posterior(prior, self.mapping, y, temperature=self.temperature, noise=mode.noise)

    # -- stages ---------------------------------------------------------------------------------------------------

    def choice(self, y: np.ndarray, key: PRNGKeyArray) -> Program[BeadMode]:
        """The program that chooses the bead mode of a frame."""
        if self.beads == "exact":
            return BeadMode(None, "asked for")
        if self.beads == "soft":
            return BeadMode(self.bead_noise, "asked for")
        heavy = yield from self.relaxer.embedding(y, jax.random.fold_in(key, 0), soft=False, steps=CHOICE_STEPS)
        strain = self.relaxer.strain(heavy)
        words = f"holding the beads exactly strains bonds by {100 * strain:.1f} % rms"
        if strain <= STRAIN_LIMIT:
            reason = f"{words}, within {100 * STRAIN_LIMIT:.0f} %: beads mapped from atoms"
            return BeadMode(None, reason)
        return BeadMode(self.bead_noise, f"{words}, above {100 * STRAIN_LIMIT:.0f} %: beads of a simulation")

    def choose(self, y: np.ndarray, key: PRNGKeyArray) -> BeadMode:
        """The bead mode of a frame."""
        return alone(self.choice(y, key))

    def minimum(self, y: np.ndarray, key: PRNGKeyArray, mode: BeadMode, start=None, cis=None) -> "Program[Minimum]":
        """The program that relaxes a frame, minimises its posterior, mends what the checks find and retries doubts.

        Arguments:
            y: (beads, 3) nm.
            key: random key.
            mode: how beads are held.
            start: (atoms, 3) complete structure to minimise from instead of relaxing.
            cis: prolines to have cis peptides before them; None decides.
        """
        seconds: dict[str, float] = {}
        relaxer, soft = self.relaxer, mode.noise is not None
        if start is None:
            since = clock()
            if cis is not None:
                relaxer = relaxer.with_cis(tuple(proline_peptides(relaxer, cis).values()))
            heavy = yield from relaxer.embedding(y, jax.random.fold_in(key, 0), soft=soft)
            if cis is None:
                relaxer, heavy, cis = yield from choose_isomers(
                    relaxer, self.molecule.prolines, heavy, y, jax.random.fold_in(key, 300), soft=soft
                )
            chosen = clock() - since
            relaxed = yield from relaxer.relaxation(y, key, noise=mode.noise, start=heavy)
            x, stages, repairs = relaxed.x, list(relaxed.history), relaxed.repairs
            seconds.update(relaxed.seconds)
            seconds["embedding"] += chosen
        else:
            x, stages, repairs = np.asarray(start), [("reference", 0, np.asarray(start))], 0
            cis = self._cis_in(x)
            relaxer = relaxer.with_cis(tuple(proline_peptides(relaxer, cis).values()))
        self.make_room(x)
        angles = relaxer.system.double_bond_angles

        def descend(x, steps=MAP_STEPS):
            posterior = self._with_lists(self.posterior(y, mode, angles))
            found = yield from map_search(
                posterior,
                self._own(posterior),
                np.asarray(x, self.dtype),
                steps=steps,
                tolerance=MAP_TOLERANCE[mode.name],
                fibre=self._fibre,
            )
            return found

        if start is None and self.weight(soft=soft) > 0:
            since = clock()
            x = yield from settle(
                self._backbone, relaxer, x, y, jax.random.fold_in(key, 400), descend, noise=mode.noise
            )
            seconds["repair"] = seconds.get("repair", 0.0) + clock() - since
        since = clock()
        best = yield from descend(x)
        seconds["MAP"] = clock() - since
        since = clock()
        bad = relaxer.bad_residues(np.asarray(best.x))
        for attempt in range(MAP_REPAIRS):
            if not bad:
                break
            repairs += 1
            x = np.asarray(best.x, np.float32)
            number = jax.random.fold_in(key, 200 + attempt)
            x, _, _ = yield from relaxer.mending(x, y, number, noise=mode.noise, bad=bad)
            again = yield from descend(x)
            still = relaxer.bad_residues(np.asarray(again.x))
            if len(still) < len(bad):
                best, bad = again, still
        seconds["repair"] = seconds.get("repair", 0.0) + clock() - since
        stages.append(("MAP", best.steps, np.asarray(best.x)))
        return Minimum(best, stages, repairs, seconds, cis)

    def _own(self, posterior: Posterior) -> Posterior:
        """True for the leaves that frames of this molecule do not share: the beads, and which peptides are cis."""
        own = eqx.tree_at(lambda p: p.y, jax.tree.map(lambda leaf: False, posterior), True)
        planes = posterior.energy.terms()[-1]
        if len(posterior.energy.terms()) > len(self.energy.terms()) and isinstance(planes, PeriodicTorsion):
            own = eqx.tree_at(lambda p: p.energy.parts[-1].phase, own, True)
        return own

    @cached_property
    def _fibre(self) -> Fibre:
        return self.mapping.fibre()

    @cached_property
    def _backbone(self) -> Backbone:
        return Backbone(self.system)

    def frame(self, number: int, y: np.ndarray, key: PRNGKeyArray, *, start=None, reference=None) -> FrameResult:
        """The MAP structure of the frame with beads ``y`` (beads, 3) nm, judged."""
        return alone(self.structure(number, y, key, start=start, reference=reference))

    def structure(
        self, number: int, y: np.ndarray, key: PRNGKeyArray, *, start=None, reference=None
    ) -> Program[FrameResult]:
        """The program of `frame`; `jaxcg.lockstep.together` takes many of them through in batches.

        Arguments:
            number: of the frame.
            y: (beads, 3) nm.
            key: random key.
            start: (atoms, 3) complete structure to minimise from instead of relaxing, nm.
            reference: (atoms, 3) structure to compare with, nm.
        """
        y = np.asarray(y, dtype=np.float64)
        since = clock()
        mode = yield from self.choice(y, key)
        chosen = clock() - since
        found = yield from self.minimum(y, key, mode, start=start)
        estimate, seconds = found.estimate, found.seconds
        seconds["embedding"] = seconds.get("embedding", 0.0) + chosen
        since = clock()
        positions = self.nomenclature.named(self.on_fibre(np.asarray(estimate.x), y, mode))
        terms = self.term_energies(positions)
        history = [
            {"stage": stage, "step": step, "energy": sum(self.term_energies(x).values())}
            for stage, step, x in found.stages
        ]
        judged = self.judge(positions, y, reference) if np.isfinite(positions).all() else None
        seconds["checks"] = clock() - since
        return FrameResult(
            frame=number,
            positions=positions,
            y=y,
            bead_mode=mode.name,
            bead_noise=mode.noise,
            bead_reason=mode.reason,
            energy=float(sum(terms.values())),
            energy_terms=terms,
            history=history,
            status=estimate.status,
            gradient_norm=estimate.gradient_norm,
            bond_strain=self.relaxer.strain(positions[self.relaxer.heavy]),
            repairs=found.repairs,
            cis_prolines=found.cis_prolines,
            quality=judged,
            seconds=seconds,
        )

    def prepare(self, frame: FrameResult) -> None:
        """Compiles what only some structures need, so that none after ``frame``, the first, compiles anything."""
        soft = frame.bead_noise is not None
        if self.weight(soft=soft) > 0:
            heavy = frame.positions[self.relaxer.heavy].astype(np.float32)
            prepare(self.relaxer, heavy, frame.y, soft=soft)

    def _cis_in(self, x: np.ndarray) -> tuple[int, ...]:
        """Prolines whose preceding peptide is cis at ``x`` (atoms, 3)."""
        peptides = proline_peptides(self.relaxer, self.molecule.prolines)
        omega = dihedrals(x, self.system.double_bonds)
        return tuple(p for p, number in peptides.items() if np.cos(omega[number]) > 0)

    def judge(self, positions: np.ndarray, y: np.ndarray, reference=None) -> Quality:
        """Every check on one structure."""
        return quality(
            self.system,
            positions,
            mapping=self.mapping,
            y=y,
            ideal_bonds=self._ideal_bonds,
            reference_positions=reference,
        )

    def on_fibre(self, x: np.ndarray, y: np.ndarray, mode: BeadMode) -> np.ndarray:
        """Positions in float64, on the fibre to its round-off when the beads are exact."""
        x = np.asarray(x, dtype=np.float64)
        if mode.noise is not None:
            return x
        matrix = self.mapping.matrix().tocsr()
        for _ in range(2):
            x = x + self._lift @ (y - matrix @ x)
        return x

    @cached_property
    def _lift(self):
        return self.mapping.fibre().matrix().tocsr()

    def term_energies(self, x: np.ndarray) -> dict[str, float]:
        """Energy of each force-field term at ``x`` (atoms, 3), kJ/mol."""
        positions = jnp.asarray(x, self.dtype)
        values = np.asarray(_term_energies(self._listed.rebuild(positions), positions))
        energies: dict[str, float] = {}
        for term, value in zip(self.energy.terms(), values, strict=True):
            name = type(term).__name__
            energies[name] = energies.get(name, 0.0) + float(value)
        return energies


@eqx.filter_jit
def _term_energies(energy: SumEnergy, x: Array) -> Array:
    return jnp.stack([term(x) for term in energy.terms()])
