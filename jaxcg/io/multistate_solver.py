"""The multistate equations of free-energy estimation, solved by pymbar: the one place that imports it.

Where pymbar finds JAX it computes with it and turns on JAX's double precision for the whole process. It is made to use
NumPy here, so that nothing else changes its results by a call.
"""

import contextlib
import functools
import inspect
import logging
import sys
import warnings
from types import ModuleType

import numpy as np

from ..errors import InputError, ResultError

_ADVICE = "pymbar is needed for free energies of several states; install it: pip install 'jaxcg[free-energy]'"


def solve_multistate(reduced_energies: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Reduced free energies (states,), the first zero, that solve Σ_n W_k(x_n) = 1.

    Arguments:
        reduced_energies: (states, samples) u_k(x_n), samples in the order of the states they come from.
        counts: (states,) samples of each state, positive.

    Raises:
        InputError: pymbar is not installed.
        ResultError: it has failed.
    """
    if len(counts) == 1:
        return np.zeros(1)
    pymbar = numpy_pymbar()
    options = {"accelerator": "numpy"} if "accelerator" in inspect.signature(pymbar.MBAR).parameters else {}
    # A constant for every sample changes nothing, and keeps exponentials of large energies in range.
    energies = reduced_energies - reduced_energies.min(axis=0)
    with _quiet("solve_multistate"):
        # The default protocol gives SciPy options that it does not know.
        found = pymbar.MBAR(energies, np.asarray(counts), solver_protocol="robust", relative_tolerance=1e-12, **options)
        return np.asarray(found.f_k, np.float64)


def solve_two_states(forward: np.ndarray, reverse: np.ndarray) -> float:
    """Reduced free-energy difference of two states from reduced energy differences, by Bennett's acceptance ratio.

    Arguments:
        forward: (samples of 0,) u₁ − u₀.
        reverse: (samples of 1,) u₀ − u₁.

    Raises:
        InputError: pymbar is not installed.
        ResultError: it has failed.
    """
    pymbar = numpy_pymbar()
    with _quiet("solve_two_states"):
        return float(pymbar.bar(forward, reverse, compute_uncertainty=False)["Delta_f"])


@functools.cache
def numpy_pymbar() -> ModuleType:
    """A copy of pymbar of our own that has not found JAX; one that others have imported stays as it is.

    Raises:
        InputError: it is not installed.
    """
    others = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "pymbar" and module}
    logger = logging.getLogger("pymbar")
    level, jax = logger.level, sys.modules.get("jax")
    for name in others:
        del sys.modules[name]
    sys.modules["jax"] = None  # type: ignore[assignment]
    logger.setLevel(logging.ERROR)  # it would advise to install JAX
    try:
        import pymbar
    except ImportError as error:
        raise InputError(f"{_ADVICE} ({error}).") from None
    finally:
        del sys.modules["jax"]
        if jax is not None:
            sys.modules["jax"] = jax
        logger.setLevel(level)
        for name in [name for name, module in sys.modules.items() if name.split(".")[0] == "pymbar" and module]:
            del sys.modules[name]
        sys.modules.update(others)
    return pymbar


@contextlib.contextmanager
def _quiet(what: str):
    """pymbar's errors as ours, no warnings (the caller checks), NumPy's error handling, which it changes, kept."""
    with np.errstate(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
            raise ResultError(f"{what}: pymbar has found no solution ({error}); states hardly overlap.") from None
        except Exception as error:
            if type(error).__module__.split(".")[0] != "pymbar":
                raise
            raise ResultError(f"{what}: pymbar has found no solution ({error}); states hardly overlap.") from None
