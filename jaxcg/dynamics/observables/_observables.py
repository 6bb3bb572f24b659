"""Observables of data and model for the consistency report, each with its verdict."""

from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from ...units import GAS_CONSTANT
from ..motion.linear import LinearCorrelations
from ._blocks import shares, square_displacements, velocity_correlations
from .comparison import Comparison, largest_deviation, two_sided
from .first_passage import Passages, passages, survival_function

#: Points of a correlation function that enter its test, bins of a distribution, bootstrap samples of a mean.
_POINTS, _BINS, _RESAMPLES = 24, 12, 200
#: Completed passages of the data below which a mean first-passage time is not judged.
_FEWEST_PASSAGES = 10


class Sides(NamedTuple):
    """Blocks of data and model.

    Fields:
        x, v: positions and velocities of the data, (blocks, frames, coordinates), or None where they are not known.
        model_x, model_v: the same of the simulated model.
        measured: whether the velocities are measured, not differences of positions.
        spacing: between frames, ps.
        exact: correlation functions of the model at ``lags + 2`` frames where they are known exactly.
        lags, temperature, masses: of the comparison, the model and (coordinates,) amu.
    """

    x: np.ndarray | None
    v: np.ndarray
    model_x: np.ndarray | None
    model_v: np.ndarray | None
    measured: bool
    spacing: float
    exact: LinearCorrelations | None
    lags: int
    temperature: float
    masses: np.ndarray

    def coordinate(self, index: int) -> "Sides":
        """Of one coordinate alone."""
        one = slice(index, index + 1)
        x, model_x, model_v = (None if a is None else a[..., one] for a in (self.x, self.model_x, self.model_v))
        return self._replace(x=x, v=self.v[..., one], model_x=model_x, model_v=model_v, masses=self.masses[one])


class Test(NamedTuple):
    """How a comparison is judged: relative difference that is no failing, level, and random numbers."""

    tolerance: float
    level: float
    rng: np.random.Generator


def velocity_correlation(sides: Sides, test: Test, suffix: str) -> Comparison:
    """⟨v(t) v(0)⟩."""
    lags, spacing = sides.lags, sides.spacing
    data = velocity_correlations(sides.v, sides.v, lags)
    if sides.exact is None:
        assert sides.model_v is not None
        model = velocity_correlations(sides.model_v, sides.model_v, lags)
    elif sides.measured:
        model = np.asarray(sides.exact.velocity, np.float64)[None, :lags]
    else:
        # What central differences make of the exact displacement.
        square = np.asarray(sides.exact.displacement, np.float64)
        lag = np.arange(lags)
        model = ((square[lag + 2] + square[abs(lag - 2)] - 2 * square[lag]) / (8 * spacing**2))[None]
    slack = test.tolerance * np.abs(data[:, 0].mean()) * np.ones(lags)
    chosen = _spread(0, lags)
    found, worst = _judge(data, model, slack, chosen, test)
    share = (model.mean(axis=0) - data.mean(axis=0))[chosen[worst]] / abs(data[:, 0].mean())
    time = chosen[worst] * spacing
    words = (
        f"at {time:.3g} ps the model is {_percent(share)} of the value at zero {'above' if share > 0 else 'below'} it"
    )
    if chosen[worst] == 0:
        advice = "the mean square velocity is off: look at the mass, the temperature and the unit of the velocities"
    elif chosen[worst] < lags // 10:
        advice = "the kernel is off at short times: more auxiliary variables, or frames closer together"
    else:
        advice = "try a longer window for the kernel, or a fit that weighs its tail more"
    return _comparison(
        f"velocity correlation{suffix}", "nm²/ps²", spacing * np.arange(lags), "ps", data, model, chosen, found, worst,
        test, words, advice,
    )  # fmt: skip


def displacement(sides: Sides, test: Test, suffix: str, bound: bool) -> Comparison:
    """⟨[x(t) − x(0)]²⟩."""
    assert sides.x is not None
    lags = sides.lags
    data = square_displacements(sides.x, lags)[:, 1:]
    if sides.exact is None:
        assert sides.model_x is not None
        model = square_displacements(sides.model_x, lags)[:, 1:]
    else:
        model = np.asarray(sides.exact.displacement, np.float64)[None, 1:lags]
    chosen = _spread(0, lags - 1)
    found, worst = _judge(data, model, test.tolerance * data.mean(axis=0), chosen, test)
    share = model.mean(axis=0)[chosen[worst]] / data.mean(axis=0)[chosen[worst]] - 1
    time = sides.spacing * (chosen[worst] + 1)
    words = f"in {time:.3g} ps the model goes {_percent(share)} too {'far' if share > 0 else 'short'} (squared)"
    if bound:
        advice = "try a longer window for the kernel, and look at the potential of mean force"
    else:
        advice = (
            f"its total friction is too {'low' if share > 0 else 'high'}: try a longer window, or hold the fit to the "
            "plateau of the integral of the kernel"
        )
    times = sides.spacing * np.arange(1, lags)
    return _comparison(
        f"mean square displacement{suffix}", "nm²", times, "ps", data, model, chosen, found, worst, test, words, advice
    )


def kinetic_temperature(sides: Sides, test: Test, suffix: str) -> Comparison:
    """Kinetic temperature, M⟨v²⟩/k; that of the model is the one it was given."""
    data = np.mean(sides.masses * sides.v**2, axis=(1, 2))[:, None] / GAS_CONSTANT
    model = np.full((1, 1), sides.temperature)
    found, worst = _judge(data, model, test.tolerance * model[0], np.zeros(1, int), test)
    words = f"data {_value(data)} K, model {sides.temperature:.6g} K"
    advice = "the mass and the temperature of the model do not belong to the velocities: look at them and their units"
    return _comparison(
        f"kinetic temperature{suffix}", "K", None, "", data, model, np.zeros(1, int), found, worst, test, words, advice
    )


def distribution(sides: Sides, test: Test, suffix: str) -> Comparison:
    """Density of positions in bins that hold equally many of the data's: its free energy is −kT log of it."""
    x, model_x = sides.x, sides.model_x
    assert x is not None
    assert model_x is not None
    edges = np.unique(np.quantile(x, np.linspace(0, 1, _BINS + 1)))
    width = np.diff(edges)
    data, model = shares(x, edges) / width, shares(model_x, edges) / width
    chosen = np.arange(len(width))
    found, worst = _judge(data, model, test.tolerance * data.mean(axis=0), chosen, test)
    ratio = model.mean(axis=0)[worst] / data.mean(axis=0)[worst]
    shift = -GAS_CONSTANT * sides.temperature * np.log(max(ratio, 1e-300))
    centers = 0.5 * (edges[1:] + edges[:-1])
    words = f"about {centers[worst]:.3g} nm the free energy of the model is {abs(shift):.2g} kJ/mol too "
    words += "high" if shift > 0 else "low"
    advice = "look at the potential of mean force: the data it came from, its smoothing, its temperature"
    return _comparison(
        f"distribution of positions{suffix}", "1/nm", centers, "nm", data, model, chosen, found, worst, test, words,
        advice,
    )  # fmt: skip


def passage(sides: Sides, start: float, end: float, test: Test) -> Comparison | str:
    """Mean first-passage time from ``start`` to ``end``; a note instead where the data have too few passages."""
    assert sides.x is not None
    assert sides.model_x is not None
    name = f"mean first-passage time {start:.3g} → {end:.3g} nm"
    # Every coordinate is a trajectory of its own, resampled with its block.
    blocks, model_blocks = len(sides.x), len(sides.model_x)
    found = _passages_of(sides.x, start, end, sides.spacing)
    mimic = _passages_of(sides.model_x, start, end, sides.spacing)
    count, model_count = int(found.completed.sum()), int(mimic.completed.sum())
    if count < _FEWEST_PASSAGES:
        return f"{name}: {count} passages in the data are too few to compare; give more data or nearer points."
    mean, error = _mean_passage(found, blocks, test.rng)
    if model_count < _FEWEST_PASSAGES:
        share = model_blocks / (blocks + model_blocks)
        p_value = float(binomtest(model_count, count + model_count, share).pvalue)
        mimic_mean, mimic_error, deviation = np.inf, np.inf, np.inf
    else:
        mimic_mean, mimic_error = _mean_passage(mimic, model_blocks, test.rng)
        both = np.hypot(error, mimic_error)
        deviation = (mimic_mean - mean) / both
        excess = max(abs(mimic_mean - mean) - test.tolerance * mean, 0.0) / both
        p_value = two_sided(excess, blocks - 1)
    passed = p_value >= test.level
    verdict = f"{name}: data {mean:.3g} ± {error:.2g} ps, model {mimic_mean:.3g} ± {mimic_error:.2g} ps: "
    if passed:
        verdict += f"agrees ({abs(deviation):.1f} standard errors)"
    elif np.isinf(deviation):
        verdict += f"the model makes {model_count} passages where the data make {count}; try a longer window"
    else:
        verdict += (
            f"the model is {abs(deviation):.0f} standard errors too {'slow' if deviation > 0 else 'fast'}; try a "
            "longer window, and where correlation functions agree, friction that depends on position"
        )
    return Comparison(
        name=name,
        unit="ps",
        abscissa=None,
        abscissa_unit="",
        data=np.array([mean]),
        data_error=np.array([error]),
        model=np.array([mimic_mean]),
        model_error=np.array([mimic_error]),
        deviation=float(deviation),
        place=np.nan,
        p_value=p_value,
        passed=bool(passed),
        verdict=verdict,
    )


def _passages_of(x: np.ndarray, start: float, end: float, spacing: float) -> Passages:
    coordinates = x.shape[2]
    found = passages(np.moveaxis(x, 2, 1).reshape(-1, x.shape[1]), start, end, spacing)
    return found._replace(trajectories=found.trajectories // coordinates)


def _mean_passage(found: Passages, blocks: int, rng: np.random.Generator) -> tuple[float, float]:
    mean = survival_function(found.durations, found.completed).mean
    weights = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=_RESAMPLES)[:, found.trajectories]
    return float(mean), float(np.nanstd(survival_function(found.durations, found.completed, weights).mean, ddof=1))


def _judge(data, model, slack, chosen, test: Test):
    found = largest_deviation(data[:, chosen], model[:, chosen], slack=slack[chosen], rng=test.rng)
    return found, found[1]


def _comparison(
    name, unit, abscissa, abscissa_unit, data, model, chosen, found, worst, test, words, advice
) -> Comparison:
    deviations, _, p_value = found
    passed = p_value >= test.level
    verdict = f"{name}: agrees (largest deviation {abs(deviations[worst]):.1f} standard errors, p = {p_value:.2g})"
    if not passed:
        verdict = f"{name}: {words}, {abs(deviations[worst]):.0f} standard errors (p = {p_value:.1g}); {advice}"
    return Comparison(
        name=name,
        unit=unit,
        abscissa=abscissa,
        abscissa_unit=abscissa_unit,
        data=data.mean(axis=0),
        data_error=_error(data),
        model=model.mean(axis=0),
        model_error=_error(model),
        deviation=float(deviations[worst]),
        place=np.nan if abscissa is None else float(abscissa[chosen[worst]]),
        p_value=p_value,
        passed=bool(passed),
        verdict=verdict,
    )


def _error(rows: np.ndarray) -> np.ndarray:
    return np.zeros(rows.shape[1]) if len(rows) == 1 else rows.std(axis=0, ddof=1) / np.sqrt(len(rows))


def _spread(first: int, stop: int) -> np.ndarray:
    """Some of the indices, half evenly and half logarithmically spread."""
    half = _POINTS // 2
    even = np.linspace(first, stop - 1, half)
    return np.unique(np.round(np.concatenate([even, np.geomspace(1, stop - first, half) - 1 + first])).astype(int))


def _percent(share: float) -> str:
    return f"{100 * abs(share):.2g} %"


def _value(rows: np.ndarray) -> str:
    return f"{rows.mean():.4g} ± {_error(rows)[0]:.2g}"
