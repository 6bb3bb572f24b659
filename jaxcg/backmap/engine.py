"""One frame from beads to its MAP structure: the bead mode is chosen, the structure relaxed, minimised and checked."""

from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..energy import PeriodicTorsion
from ..energy.base import SumEnergy
from ..mapping.linear import LinearMap
from ..posterior import Posterior
from ..typing import Array, PRNGKeyArray
from ._molecule import cast, widened
from .isomers import choose_isomers, proline_peptides
from .map_estimate import MapEstimate, map_estimate
from .prior import OMEGA_PRIOR, OMEGA_SOFT, WEIGHT_EXACT, WEIGHT_SOFT, omega_restraint, ramachandran_energy
from .quality import Quality, quality
from .quality.vectors import dihedrals
from .ramachandran import available, backbone_torsions, ramachandran_regions
from .relaxer import REPAIR_CHUNKS, STRAIN_LIMIT, Relaxer
from .result import FrameResult

#: σ of each coordinate of noisy beads, nm: frames of Martini 3 simulations then leave residuals of 0.06 nm.
BEAD_NOISE = 0.025
#: Steps of the MAP search and its tolerance, kJ/mol/nm.
MAP_STEPS, MAP_TOLERANCE = 200, 10.0
#: How often residues with a doubtful backbone are started anew, and the share of residues outside the favoured region
#: above which these count too (crystals at high resolution have 2 %).
RETRIES, DOUBTFUL_SHARE = {"exact": 3, "soft": 2}, 0.025
#: Springs of noisy beads in four dimensions at each retry, kJ/mol/nm².
RETRY_STIFFNESS = (600.0, 200.0, 200.0)
#: Residues on either side that are taken over with a better one, and the potential that losing a doubtful one may cost,
#: kJ/mol: less than the noise between two minima of the same surroundings.
NEIGHBORHOOD, TOLERATED = 3, 10.0
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

    def choose(self, y: np.ndarray, key: PRNGKeyArray) -> tuple[BeadMode, np.ndarray | None]:
        """The bead mode of a frame, and an exact embedding if one was made to find out."""
        if self.beads == "exact":
            return BeadMode(None, "asked for"), None
        if self.beads == "soft":
            return BeadMode(self.bead_noise, "asked for"), None
        heavy = self.relaxer.embed(y, jax.random.fold_in(key, 0), soft=False)
        strain = self.relaxer.strain(heavy)
        words = f"holding the beads exactly strains bonds by {100 * strain:.1f} % rms"
        if strain <= STRAIN_LIMIT:
            reason = f"{words}, within {100 * STRAIN_LIMIT:.0f} %: beads mapped from atoms"
            return BeadMode(None, reason), heavy
        return BeadMode(self.bead_noise, f"{words}, above {100 * STRAIN_LIMIT:.0f} %: beads of a simulation"), None

    def relaxed_minimum(
        self, y: np.ndarray, key: PRNGKeyArray, mode: BeadMode, heavy=None, start=None, cis=None
    ) -> "Minimum":
        """Relaxes a frame, minimises its posterior, mends what the checks find and retries what is doubtful.

        Arguments:
            y: (beads, 3) nm.
            key: random key.
            mode: how beads are held.
            heavy: an embedding to go on from.
            start: (atoms, 3) complete structure to minimise from instead of relaxing.
            cis: prolines to have cis peptides before them; None decides.
        """
        seconds: dict[str, float] = {}
        relaxer, soft = self.relaxer, mode.noise is not None
        if start is None:
            clock = perf_counter()
            if cis is not None:
                relaxer = relaxer.with_cis(tuple(proline_peptides(relaxer, cis).values()))
            if heavy is None:
                heavy = relaxer.embed(y, jax.random.fold_in(key, 0), soft=soft)
            if cis is None:
                relaxer, heavy, cis = choose_isomers(
                    relaxer, self.molecule.prolines, heavy, y, jax.random.fold_in(key, 300), soft=soft
                )
            chosen = perf_counter() - clock
            relaxed = relaxer.relax(y, key, noise=mode.noise, start=heavy)
            x, stages, repairs = relaxed.x, list(relaxed.history), relaxed.repairs
            seconds.update(relaxed.seconds)
            seconds["embedding"] += chosen
        else:
            x, stages, repairs = np.asarray(start), [("reference", 0, np.asarray(start))], 0
            cis = self._cis_in(x)
            relaxer = relaxer.with_cis(tuple(proline_peptides(relaxer, cis).values()))
        posterior = self.posterior(y, mode, relaxer.system.double_bond_angles)

        def minimum(x):
            return map_estimate(posterior, x.astype(self.dtype), steps=MAP_STEPS, tolerance=MAP_TOLERANCE, throw=False)

        clock = perf_counter()
        best = minimum(x)
        seconds["MAP"] = perf_counter() - clock
        clock = perf_counter()
        bad = relaxer.bad_residues(np.asarray(best.x))
        for attempt in range(MAP_REPAIRS):
            if not bad:
                break
            repairs += 1
            x = np.asarray(best.x, np.float32)
            x, _, _ = relaxer.repair(x, y, jax.random.fold_in(key, 200 + attempt), noise=mode.noise, bad=bad)
            again = minimum(x)
            still = relaxer.bad_residues(np.asarray(again.x))
            if len(still) < len(bad):
                best, bad = again, still
        if start is None:
            best = self._retried(relaxer, best, bad, y, jax.random.fold_in(key, 400), mode, minimum)
        seconds["repair"] = seconds.get("repair", 0.0) + perf_counter() - clock
        stages.append(("MAP", best.steps, np.asarray(best.x)))
        return Minimum(best, stages, repairs, seconds, cis)

    def _retried(self, relaxer: Relaxer, best: MapEstimate, bad, y, key, mode: BeadMode, minimum) -> MapEstimate:
        """Starts residues with a doubtful backbone anew and keeps those that came out better.

        A relaxation is one sample of the basins; an unlikely (φ, ψ) is often, not always, the wrong one. Stretches that
        improved are put into the old structure, the rest stays as it was, and the whole is minimised again.
        """
        for attempt in range(RETRIES[mode.name]):
            old = np.asarray(best.x, np.float32)
            doubtful = self.doubtful_residues(old)
            if not doubtful:
                break
            noise = mode.noise
            # The peptides on either side must be free to turn, and noisy beads to give way: with the same springs the
            # same basin would come out.
            anew = widened(self.system, doubtful, 1)
            heavy = relaxer.reembed(
                old[relaxer.heavy],
                y,
                anew,
                jax.random.fold_in(key, attempt),
                soft=noise is not None,
                bead_stiffness=RETRY_STIFFNESS[attempt],
            )
            new = relaxer.refine(relaxer.complete(heavy), y, noise=noise, chunks=REPAIR_CHUNKS)
            still = set(self.doubtful_residues(new))
            stretches = [widened(self.system, (residue,), NEIGHBORHOOD) for residue in doubtful]
            better = [stretch for stretch in stretches if not still & set(stretch)]
            if not better:
                continue
            moved = np.isin(self.system.atom_residue, sorted(set().union(*better)))
            again = minimum(np.where(moved[:, None], new, old))
            fewer = len(self.doubtful_residues(np.asarray(again.x))) < len(doubtful)
            worse = relaxer.bad_residues(np.asarray(again.x))
            if fewer and len(worse) <= len(bad) and again.potential < best.potential + TOLERATED * len(better):
                best, bad = again, worse
        return best

    def doubtful_residues(self, x: np.ndarray) -> tuple[int, ...]:
        """Ramachandran outliers of ``x`` (atoms, 3); with those merely allowed where these are more than 2.5 %."""
        phi, psi, residues, classes = self._backbone
        if not len(residues) or not available():
            return ()
        regions = ramachandran_regions(dihedrals(x, phi), dihedrals(x, psi), classes)
        limit = 2 if np.mean(regions < 2) > DOUBTFUL_SHARE else 1
        return tuple(int(r) for r in residues[regions < limit])

    @cached_property
    def _backbone(self):
        return backbone_torsions(self.system)

    def frame(self, number: int, y: np.ndarray, key: PRNGKeyArray, *, start=None, reference=None) -> FrameResult:
        """The MAP structure of the frame with beads ``y`` (beads, 3) nm, judged."""
        y = np.asarray(y, dtype=np.float64)
        clock = perf_counter()
        mode, heavy = self.choose(y, key)
        chosen = perf_counter() - clock
        found = self.relaxed_minimum(y, key, mode, heavy, start)
        estimate, seconds = found.estimate, found.seconds
        seconds["embedding"] = seconds.get("embedding", 0.0) + chosen
        clock = perf_counter()
        positions = self.on_fibre(np.asarray(estimate.x), y, mode)
        terms = self.term_energies(positions)
        history = [
            {"stage": stage, "step": step, "energy": sum(self.term_energies(x).values())}
            for stage, step, x in found.stages
        ]
        judged = self.judge(positions, y, reference) if np.isfinite(positions).all() else None
        seconds["checks"] = perf_counter() - clock
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
        index, weight, *_ = (np.asarray(t) for t in self._lift)
        matrix = self.mapping.matrix().tocsr()
        for _ in range(2):
            x = x + np.einsum("kn,knd->nd", weight, (y - matrix @ x)[index])
        return x

    @cached_property
    def _lift(self):
        fibre = self.mapping.fibre()
        return fibre._index, fibre._weight

    def term_energies(self, x: np.ndarray) -> dict[str, float]:
        """Energy of each force-field term at ``x`` (atoms, 3), kJ/mol."""
        values = np.asarray(_term_energies(self.energy.rebuild(jnp.asarray(x, self.dtype)), jnp.asarray(x, self.dtype)))
        energies: dict[str, float] = {}
        for term, value in zip(self.energy.terms(), values, strict=True):
            name = type(term).__name__
            energies[name] = energies.get(name, 0.0) + float(value)
        return energies


@eqx.filter_jit
def _term_energies(energy: SumEnergy, x: Array) -> Array:
    return jnp.stack([term(x) for term in energy.terms()])
