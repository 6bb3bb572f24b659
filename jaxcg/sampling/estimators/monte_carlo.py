"""Means over chains with their Monte Carlo errors: the arithmetic that every estimator here ends in, in NumPy.

An estimator that is no plain mean (a covariance, a ratio) is turned into one to first order: its influence series is
the series of each draw's share, and the standard error of the mean of that series is that of the estimator.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import numpy as np

from ...batching import batch_map, batch_width
from ...typing import Array
from ..diagnostics.convergence import mean_effective_sample_size

#: Draws of Markov chains, (chains, draws, atoms, 3) nm.
Draws: TypeAlias = Array | np.ndarray

#: Bytes of temporaries of one block, on the device and in the sums over draws.
_BYTES = 2**26
#: Draws carried out in one compiled call on a CPU, at most.
_CPU_DRAWS = 1024
#: Draws per chain from which the chain's own correlations are seen.
_ENOUGH = 8


class Estimate(NamedTuple):
    """An estimate from draws; three pytrees of the same structure, float64 arrays or numbers of NumPy.

    Fields:
        value: the estimate.
        error: its standard error, one σ; zero for what never changes, nan where there are too few draws to tell.
        effective_samples: number of independent draws that would have given this error; nan where there is none.
    """

    value: Any
    error: Any
    effective_samples: Any


def series_mean(series: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over chains and draws, its standard error and the effective sample size, for every component.

    Chains of fewer than eight draws count as one value each, for their correlations cannot be seen.

    Arguments:
        series: (chains, draws, ...) values.

    Returns:
        Three arrays of the trailing shape.
    """
    series = np.asarray(series, dtype=np.float64)
    value = series.mean(axis=(0, 1))
    chains, draws = series.shape[:2]
    if draws < _ENOUGH:
        means, effective = series.mean(axis=1), np.full(value.shape, float(chains))
        spread = means.std(axis=0, ddof=1) if chains > 1 else np.full(value.shape, np.nan)
    else:
        effective = np.asarray(mean_effective_sample_size(series))
        spread = series.std(axis=(0, 1), ddof=1)
    # What never changes has no effective sample size, and no error.
    still = np.ptp(series, axis=(0, 1)) == 0 if chains * draws > 1 else np.zeros(value.shape, bool)
    error = np.where(still, 0.0, spread / np.sqrt(effective))
    return value, error, np.where(still, np.nan, effective)


def mean_of_tree(series: Any) -> Estimate:
    """`series_mean` of every leaf of a pytree of arrays (chains, draws, ...)."""
    return estimate_of(jax.tree.map(series_mean, series), series)


def estimate_of(triples: Any, like: Any) -> Estimate:
    """The `Estimate` from a tree of ``(value, error, effective_samples)``, one where ``like`` has a leaf."""
    structure = jax.tree.structure(like)
    triples = structure.flatten_up_to(triples)
    return Estimate(*(structure.unflatten([triple[i] for triple in triples]) for i in range(3)))


def over_draws(function: Callable, shared: Any, draws: Draws, what: str) -> Any:
    """``function(shared, x)`` of every draw, in blocks of bounded memory: a pytree of NumPy (chains, draws, ...).

    Arguments:
        function: a module-level function (a new lambda compiles again); what varies goes into ``shared``.
        shared: pytree all draws share.
        draws: (chains, draws, atoms, 3) nm.
        what: what the values are called in the error.

    Raises:
        ValueError: the draws have another shape, or a value is not finite.
    """
    check_draws(draws, what)
    chains, count = draws.shape[:2]
    flat = np.asarray(draws).reshape(-1, *draws.shape[2:])
    shapes = eqx.filter_eval_shape(function, shared, flat[0])
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    widest = _CPU_DRAWS if jax.default_backend() == "cpu" else batch_width()
    block = max(min(_BYTES // max(size, 1), widest, len(flat)), 1)
    parts = []
    for start in range(0, len(flat), block):
        part = flat[start : start + block]
        # The last block is filled up, for one compiled shape serves all.
        filled = part if len(part) == block else np.concatenate([part, np.repeat(part[-1:], block - len(part), axis=0)])
        values = _mapped(function, shared, filled)
        parts.append(jax.tree.map(np.asarray, values))
    values = jax.tree.map(lambda *pieces: np.concatenate(pieces)[: len(flat)].astype(np.float64), *parts)
    for leaf in jax.tree.leaves(values):
        bad = np.flatnonzero(~np.isfinite(leaf.reshape(len(leaf), -1)).all(axis=1))
        if bad.size:
            raise ValueError(
                f"{what}: not finite for draw {bad[0] % count} of chain {bad[0] // count} "
                f"({bad.size} of {len(flat)} draws in all); leave such draws out."
            )
    return jax.tree.map(lambda leaf: leaf.reshape(chains, count, *leaf.shape[1:]), values)


def check_draws(draws: Draws, what: str, n_atoms: int | None = None) -> None:
    """Refuses draws that are not (chains, draws, atoms, 3).

    Raises:
        ValueError: the draws have another shape.
    """
    atoms = "atoms" if n_atoms is None else n_atoms
    wrong = draws.ndim != 4 or draws.shape[-1] != 3 or (n_atoms is not None and draws.shape[2] != n_atoms)
    if wrong or 0 in draws.shape[:2]:
        raise ValueError(
            f"{what}: draws have shape {tuple(draws.shape)}, expected (chains, draws, {atoms}, 3); observations of a "
            "run come as (draws, chains, ...): swap the first two axes."
        )


@eqx.filter_jit
def _mapped(function, shared, block):
    return batch_map(function)(shared, block)
