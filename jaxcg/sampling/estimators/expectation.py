"""Averages over the posterior, E[g(X) | y], with their Monte Carlo errors."""

from collections.abc import Callable
from typing import Any

from ...typing import Array
from .monte_carlo import Draws, Estimate, mean_of_tree, over_draws


def expectation(observable: Callable[[Array], Any], draws: Draws) -> Estimate:
    """E[g(X) | y] from samples of p(x|y), with its Monte Carlo error.

    The error comes from the effective sample size of each component over all chains. It is what chance leaves when
    the chains have mixed: a basin that no chain has visited is in no error (see `rank_normalised_r_hat`).

    Arguments:
        observable: g, a function of the positions x (atoms, 3) in nm that returns an array or a pytree of arrays.
        draws: (chains, draws, atoms, 3) samples of p(x|y), nm, in the order each chain made them. Observations of
            `jaxcg.run.run` come as (draws, chains, ...): swap the first two axes.

    Returns:
        The `Estimate`, whose fields have the structure of what ``observable`` returns.

    Raises:
        ValueError: draws of another shape, or an observable that is not finite.
    """
    return mean_of_tree(over_draws(_observe, observable, draws, "expectation"))


def _observe(observable, x):
    return observable(x)
