"""Memory kernels of any spectral density by quadrature, to a stated accuracy."""

import warnings
from collections.abc import Callable

import numpy as np
from scipy.integrate import IntegrationWarning, quad


def cosine_transform(
    reduced: Callable[[float], float], times, *, upper: float = np.inf, tolerance: float = 1e-8
) -> tuple[np.ndarray, np.ndarray]:
    """Γ(t) = (2/π) ∫₀^upper J(ω)/ω cos ωt dω by adaptive quadrature for oscillating integrands.

    Arguments:
        reduced: J(ω)/ω, amu/ps, of a frequency in 1/ps; integrable at zero.
        times: (times,) ps.
        upper: where J ends, 1/ps.
        tolerance: absolute accuracy asked for, amu/ps².

    Returns:
        Γ (times,) and the estimates of its error (times,), amu/ps².

    Raises:
        ValueError: the accuracy cannot be reached; the message names the time.

    Source: QUADPACK (QAWO, QAWF; Piessens et al. 1983), as in SciPy.
    """
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    values, errors = np.zeros(len(times)), np.zeros(len(times))
    target = 0.25 * np.pi * tolerance
    for number, t in enumerate(times):
        # Up to a quarter of the first period the cosine has one sign: there an integrable singularity at zero is safe.
        split = min(upper, 0.5 * np.pi / t) if t > 0 else upper
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IntegrationWarning)
            value, error = quad(lambda w, t=t: reduced(w) * np.cos(w * t), 0.0, split, epsabs=target, limit=400)[:2]
            if split < upper:
                rest = quad(reduced, split, upper, epsabs=target, limit=400, limlst=200, weight="cos", wvar=t)
                value, error = value + rest[0], error + rest[1]
        values[number], errors[number] = 2 / np.pi * value, 2 / np.pi * error
        if not errors[number] <= 10 * tolerance:
            raise ValueError(
                f"cosine_transform: at t = {t:g} ps the error is {errors[number]:.1e}, not {tolerance:.1e}; J(ω)/ω may "
                "not be integrable, or has features too sharp: give a finite upper limit or a larger tolerance."
            )
    return values, errors
