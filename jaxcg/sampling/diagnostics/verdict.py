"""The verdict in words: what of the samples may be trusted, what not, and why; the worst first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .convergence import convergence
from .energy import SamplerHealth
from .rotamers import TorsionMixing

#: R-hat up to which chains count as mixed. Source: Vehtari et al., Bayesian Analysis 16, 667 (2021).
MIXED = 1.01
#: R-hat from which chains have not mixed. Source: Gelman et al., Bayesian Data Analysis, 3rd ed., section 11.5 (2013).
NOT_MIXED = 1.1
#: Effective samples at which R-hat and errors are themselves reliable. Source: Vehtari et al. (2021), section 4.
ENOUGH = 400
#: Effective samples below which a mean is not known to a tenth of the standard deviation, 1/√100.
FEW = 100
#: Draws per chain below which R-hat and effective sample sizes say nothing.
ENOUGH_DRAWS = 20
#: E-BFMI below which a chain sees too little of the energies. Source: Betancourt, arXiv:1604.00695 (2016), and Stan.
LOW_ENERGY_FRACTION = 0.3
#: Acceptance below which a chain hardly moves.
STUCK = 0.1
#: Acceptance far below the best, 0.65: the step size is too long. Source: Beskos et al., Bernoulli 19, 1501 (2013).
LOW_ACCEPTANCE = 0.4
#: Share of divergent, or of irreversible, trajectories that is worth a word.
MANY_FAILURES = 0.01
#: Difference of a well's population between chains that is worth a word.
DIFFERENT = 0.2

Grade = Literal["trusted", "trusted in part", "not trusted", "too short to judge"]
#: ``local``: of a torsion, within the one well that all chains were in; ``unknown``: too short, or it never changes.
Trust = Literal["yes", "nearly", "local", "no", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Fields:
        severity: the larger the worse; from 1 on nothing that depends on it may be trusted.
        subject: what it is about: the name of a quantity or torsion, or ``"sampler"``.
        words: one sentence without its full stop.
    """

    severity: float
    subject: str
    words: str


@dataclass(frozen=True)
class Row:
    """Figures of one quantity.

    Fields:
        name: of the quantity.
        mean, mean_error: in its own unit; degrees for torsions.
        r_hat, bulk, tail: see `convergence`.
        transitions: changes of well over all chains; None for what is no torsion.
        trust: what may be done with it.
    """

    name: str
    mean: float
    mean_error: float
    r_hat: float
    bulk: float
    tail: float
    transitions: int | None
    trust: Trust


@dataclass(frozen=True)
class Diagnosis:
    """What may be trusted.

    Fields:
        grade: of the whole.
        findings: what is wrong, the worst first.
        notes: what the diagnostics cannot see.
        rows: the figures of every quantity: observables first, then torsions from the worst to the best.
    """

    grade: Grade
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def trusted(self) -> tuple[str, ...]:
        """Names of the quantities that may be trusted."""
        return tuple(row.name for row in self.rows if row.trust == "yes")

    @property
    def sentence(self) -> str:
        """The verdict in one sentence: the grade and the worst finding, or what is trusted."""
        if self.grade == "too short to judge" and not self.findings:
            return "Too short to judge: take more draws of each chain."
        if self.findings and self.grade != "trusted":
            more = len(self.findings) - 1
            return f"{_HEADS[self.grade]}: {self.findings[0].words}" + (f"; and {more} more." if more else ".")
        return f"{_HEADS[self.grade]}: {self._mixed()}."

    def words(self, findings: int = 10) -> str:
        """The verdict in words: grade, at most so many ``findings``, what may be trusted, and notes; a line each."""
        lines = [f"{_HEADS[self.grade]}."]
        lines += [f"- {_capital(finding.words)}." for finding in self.findings[:findings]]
        if len(self.findings) > findings:
            lines.append(f"- And {len(self.findings) - findings} more of less weight.")
        broken = any(finding.subject == "sampler" and finding.severity >= 1 for finding in self.findings)
        if self._mixed() != "nothing" and not broken and self.grade != "too short to judge":
            lines.append(f"May be trusted: {self._mixed()}.")
        return "\n".join([*lines, *self.notes])

    def cells(self, rows: int | None = None) -> list[tuple[str, ...]]:
        """The figures as a table of texts, the head first; at most so many ``rows``."""
        head = ("quantity", "mean", "error", "R-hat", "bulk ESS", "tail ESS", "changes", "trust")
        body = [
            (
                row.name,
                _number(row.mean),
                _number(row.mean_error),
                "–" if np.isnan(row.r_hat) else f"{row.r_hat:.3f}",
                *("–" if np.isnan(size) else f"{size:.0f}" for size in (row.bulk, row.tail)),
                "" if row.transitions is None else str(row.transitions),
                row.trust,
            )
            for row in self.rows[:rows]
        ]
        return [head, *body]

    def table(self, rows: int | None = None) -> str:
        """`cells` as text in columns."""
        lines = self.cells(rows)
        widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))]).rstrip()
            for line in lines
        )

    def statistics(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, for files; what is not known is None."""
        return {
            "grade": self.grade,
            "verdict": self.sentence,
            "findings": [{"subject": f.subject, "words": f.words} for f in self.findings],
            "notes": list(self.notes),
            "quantities": [{name: _plain(value) for name, value in vars(row).items()} for row in self.rows],
        }

    def _mixed(self) -> str:
        observables = [row.name for row in self.rows if row.trust == "yes" and row.transitions is None]
        torsions = [row for row in self.rows if row.transitions is not None]
        good, local = (sum(row.trust == trust for row in torsions) for trust in ("yes", "local"))
        parts = observables[:8] + ([f"{len(observables) - 8} more"] if len(observables) > 8 else [])
        parts += [f"{good} of {len(torsions)} torsions"] if good else []
        parts += [f"{local} torsion{'s' * (local > 1)} within one well"] if local else []
        return ", ".join(parts) if parts else "nothing"


def assess(
    quantities: Mapping[str, np.ndarray],
    *,
    torsions: TorsionMixing | None = None,
    health: SamplerHealth | None = None,
) -> Diagnosis:
    """Judges a set of chains.

    Arguments:
        quantities: (chains, draws) of each observable by name, e.g. ``{"energy": trace, "radius of gyration": …}``.
            The whole is not trusted where one of them is not: they stand for what the samples are wanted for.
        torsions: from `torsion_mixing`, of the same chains.
        health: from `sampler_health`.

    Returns:
        The `Diagnosis`. Chains are numbered from 0.

    Raises:
        ValueError: the quantities differ in chains, or there is nothing to judge.
    """
    shapes = {np.shape(draws) for draws in quantities.values()}
    if any(len(shape) != 2 for shape in shapes) or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"assess: every quantity must be (chains, draws) of the same chains, got shapes {shapes}.")
    if not quantities and torsions is None:
        raise ValueError("assess: nothing to judge; give quantities or torsions.")
    chains = {shape[0] for shape in shapes} | ({len(torsions.transitions)} if torsions is not None else set())
    if len(chains) > 1:
        raise ValueError(f"assess: quantities and torsions must be of the same chains, got {sorted(chains)} chains.")
    rows = [_observable(name, np.asarray(draws)) for name, draws in quantities.items()]
    findings = [] if health is None else _sampler_findings(health)
    findings += [Finding(_severity(row), row.name, _complaint(row)) for row in rows if row.trust in ("no", "nearly")]
    notes = []
    if torsions is not None:
        found = [_torsion(torsions, i) for i in range(len(torsions.torsions))]
        for i in sorted(range(len(found)), key=lambda i: (_ORDER.index(found[i].trust), -_severity(found[i]))):
            rows.append(found[i])
            if found[i].trust in ("no", "nearly"):
                words = _complaint(found[i]) + _differences(torsions, i)
                findings.append(Finding(_severity(found[i]), found[i].name, words))
        notes += _unmoved(found)
    if chains == {1}:
        notes.append("One chain cannot show what it misses: take several from independent starts.")
    findings.sort(key=lambda finding: -finding.severity)
    draws = min([shape[1] for shape in shapes] + ([torsions.draws] if torsions is not None else []))
    grade = _grade(rows, findings, draws, chains == {1})
    return Diagnosis(grade, tuple(findings), tuple(notes), tuple(rows))


_ORDER: tuple[Trust, ...] = ("no", "nearly", "unknown", "local", "yes")
_HEADS = {
    "trusted": "May be trusted",
    "trusted in part": "May be trusted in part",
    "not trusted": "Do not trust",
    "too short to judge": "Too short to judge",
}


def _observable(name: str, draws: np.ndarray) -> Row:
    found = convergence(draws)
    trust = _trust(found.r_hat, found.bulk, found.tail)
    return Row(name, found.mean, found.mean_error, found.r_hat, found.bulk, found.tail, None, trust)


def _torsion(mixing: TorsionMixing, i: int) -> Row:
    figures = (float(column[i]) for column in (mixing.r_hat, mixing.bulk, mixing.tail))
    r_hat, bulk, tail = figures
    trust = _trust(r_hat, bulk, tail)
    if trust == "yes" and mixing.unmoved()[i] and mixing.torsions.wells[i] != "conjugated":
        trust = "local"
    mean, error = (float(np.degrees(column[i])) for column in (mixing.mean, mixing.mean_error))
    return Row(mixing.torsions.names[i], mean, error, r_hat, bulk, tail, int(mixing.transitions[:, i].sum()), trust)


def _trust(r_hat: float, bulk: float, tail: float) -> Trust:
    if np.isnan(r_hat):
        return "unknown"
    if r_hat >= NOT_MIXED or not bulk >= FEW:
        return "no"
    return "nearly" if r_hat > MIXED or not min(bulk, tail) >= ENOUGH else "yes"


def _severity(row: Row) -> float:
    """From 1 on where it is not to be trusted at all."""
    if np.isnan(row.r_hat):
        return 0.0
    return float(max((row.r_hat - 1) / (NOT_MIXED - 1), FEW / row.bulk if row.bulk > 0 else np.inf))


def _complaint(row: Row) -> str:
    if np.isinf(row.r_hat):
        return f"{row.name}: no chain changes it, and they differ"
    size = min(row.bulk, row.tail)
    figures = f"R-hat {row.r_hat:.2f}, {size:.0f} effective samples"
    return f"{row.name}: {figures}"


def _differences(mixing: TorsionMixing, i: int) -> str:
    """How the chains' populations of a torsion differ, if they do."""
    shares = mixing.chain_populations[:, i]
    names = mixing.wells(i)
    shares = shares[:, : len(names)]
    spread = np.ptp(shares, axis=0)
    if spread.max() < DIFFERENT:
        return ""
    stuck = [(name, np.flatnonzero(shares[:, k] == 1)) for k, name in enumerate(names)]
    stuck = sorted(((name, found) for name, found in stuck if len(found)), key=lambda pair: len(pair[1]))
    if stuck:
        words = ", ".join(f"{_chains(found, len(shares))} never left {name}" for name, found in stuck)
    else:
        k = int(spread.argmax())
        low, high = int(shares[:, k].argmin()), int(shares[:, k].argmax())
        words = f"{names[k]} {shares[low, k]:.2f} in chain {low}, {shares[high, k]:.2f} in chain {high}"
    return f"; its populations differ between chains: {words}"


def _chains(numbers: np.ndarray, total: int) -> str:
    if len(numbers) > 3:
        return f"{len(numbers)} of {total} chains"
    return ("chain " if len(numbers) == 1 else "chains ") + " and ".join(
        part for part in (", ".join(str(n) for n in numbers[:-1]), str(numbers[-1])) if part
    )


def _unmoved(rows: list[Row]) -> list[str]:
    local = [row.name for row in rows if row.trust == "local"]
    if not local:
        return []
    shown = ", ".join(local[:3]) + (", …" if len(local) > 3 else "")
    return [
        f"{len(local)} of {len(rows)} torsions stayed in one well in all chains ({shown}): unless the starts were "
        "independent, nothing is known of their other wells."
    ]


def _sampler_findings(health: SamplerHealth) -> list[Finding]:
    found = []

    def add(severity, words):
        found.append(Finding(float(severity), "sampler", words))

    acceptance = np.nan_to_num(health.acceptance)
    stuck = np.flatnonzero(acceptance < STUCK)
    if stuck.size:
        worst = stuck[acceptance[stuck].argmin()]
        others = f", and {stuck.size - 1} more below {100 * STUCK:.0f} %" if stuck.size > 1 else ""
        add(np.inf, f"chain {worst} accepts {100 * acceptance[worst]:.0f} % of its trajectories{others}")
    elif acceptance.mean() < LOW_ACCEPTANCE:
        add(0.5, f"only {100 * acceptance.mean():.0f} % of the trajectories are accepted: take a shorter step size")
    if np.any(health.e_bfmi < LOW_ENERGY_FRACTION):
        low = int(np.nanargmin(health.e_bfmi))
        add(
            LOW_ENERGY_FRACTION / max(float(health.e_bfmi[low]), 1e-3),
            f"E-BFMI {health.e_bfmi[low]:.2f} in chain {low}: its energies drift slowly, the tails are not explored",
        )
    trajectories = max(health.trajectories * len(acceptance), 1)
    for counts, what, cure in (
        (health.divergences, "diverged", "take a shorter step size or a longer burn-in"),
        (health.irreversible, "could not be undone and were refused", "take a shorter step size"),
    ):
        share = counts.sum() / trajectories
        if share > MANY_FAILURES:
            add(min(10 * share, 5.0), f"{100 * share:.0f} % of the trajectories {what}: {cure}")
    return found


def _grade(rows: list[Row], findings: list[Finding], draws: int, alone: bool) -> Grade:
    torsion = {row.name for row in rows if row.transitions is not None}
    if any(f.severity >= 1 for f in findings if f.subject == "sampler"):
        return "not trusted"
    if draws < ENOUGH_DRAWS or all(row.trust == "unknown" for row in rows):
        return "too short to judge"
    if any(f.severity >= 1 and f.subject not in torsion for f in findings):
        return "not trusted"
    return "trusted in part" if findings or alone else "trusted"


def _capital(text: str) -> str:
    return text if text[:3] in ("chi", "phi", "psi", "ome") else text[0].upper() + text[1:]


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4g}"


def _plain(value):
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
