"""What a kernel leaves unexplained of correlation functions; linear in them, so that blocks of data tell its error."""

from dataclasses import dataclass

import numpy as np

#: Gauss's rule on a frame, for the convolution; cubics between frames carry no more.
_NODES, _WEIGHTS = (0.5 + 0.5 * np.sqrt(0.6) * np.array([-1, 0, 1]), np.array([5, 8, 5]) / 18)


@dataclass(frozen=True)
class Exponentials:
    """Γ(t) = Re Σ w_k e^{−λ_k t}.

    Fields:
        strengths: (terms,) w, amu/ps².
        rates: (terms,) λ, 1/ps.
    """

    strengths: np.ndarray
    rates: np.ndarray

    @staticmethod
    def of(couplings: np.ndarray, skew: np.ndarray, damping: np.ndarray) -> "Exponentials":
        """Of a passive kernel."""
        rates, vectors = np.linalg.eig(skew - skew.T + damping @ damping.T)
        return Exponentials((couplings @ vectors) * np.linalg.solve(vectors, couplings), rates)

    def __call__(self, t) -> np.ndarray:
        """Γ at times ``t``."""
        return np.real(np.exp(-np.asarray(t)[..., None] * self.rates) @ self.strengths)

    def integral(self, t) -> np.ndarray:
        """∫₀ᵗ Γ at times ``t``."""
        return np.real(-np.expm1(-np.asarray(t)[..., None] * self.rates) @ (self.strengths / self.rates))


class VolterraMisfit:
    """R(t) = M [C_vv − C_vv(0)] − ∫ C_Fv + ∫ G(s) C_vv(t−s) ds, its change over each frame, amu nm²/ps².

    Changes, because the errors of R add up along t while those of its changes hardly know of each other. The
    convolution takes G where it is wanted and C_vv by cubics, so it depends on the frames only as C_vv does.

    Arguments:
        tables: of `CorrelationData.tables`, any number of leading axes.
        spacing: ps.
    """

    def __init__(self, tables: dict[str, np.ndarray], spacing: float):
        c = tables["vv"][..., 0, 0]
        mass = tables["mass"][..., 0, :1]
        if "impulse" in tables:
            impulse = tables["impulse"][..., 0, 0]
        elif "fv" in tables:
            f = tables["fv"][..., 0, 0]
            pieces = spacing * (f[..., :-1] + 4 * between(f, 0.5) + f[..., 1:]) / 6
            impulse = np.concatenate([np.zeros_like(f[..., :1]), np.cumsum(pieces, axis=-1)], axis=-1)
        else:
            impulse = np.zeros_like(c)
        self.left = (mass * (c - c[..., :1]) - impulse)[..., 1:]
        count = self.left.shape[-1]
        self._size = 1 << (2 * count - 1).bit_length()
        self.times = spacing * np.arange(1, count + 1)
        #: (nodes, times) where G is wanted.
        self.nodes = spacing * (np.arange(count) + _NODES[:, None])
        self._spectra = [spacing * w * np.fft.rfft(between(c, 1 - x), self._size) for x, w in zip(_NODES, _WEIGHTS)]

    def __call__(self, integral: np.ndarray) -> np.ndarray:
        """Changes of R (..., times) of a kernel whose integral has the values (nodes, times) at the `nodes`."""
        transforms = np.fft.rfft(integral, self._size)
        product = sum(s * g for s, g in zip(self._spectra, transforms, strict=True))
        whole = self.left + np.fft.irfft(product, self._size)[..., : self.left.shape[-1]]
        return np.diff(whole, axis=-1, prepend=0.0)

    def of(self, kernel: Exponentials) -> np.ndarray:
        """Changes of R (..., times) of a kernel."""
        return self(kernel.integral(self.nodes))


class VelocityMisfit:
    """C_vv of the linear equations of motion minus that of the data, over C_vv(0), at the frames from 1.

    Arguments:
        tables: of `CorrelationData.tables`, any number of leading axes.
        spacing: ps.
        stiffness: of the harmonic well, kJ/mol/nm²; zero for free motion.
    """

    def __init__(self, tables: dict[str, np.ndarray], spacing: float, stiffness: float):
        c = tables["vv"][..., 0, 0]
        self.left = -(c / c[..., :1])[..., 1:]
        self.times = spacing * np.arange(1, c.shape[-1])
        self._square = stiffness / float(np.mean(tables["mass"]))
        self._mass = float(np.mean(tables["mass"]))

    def of(self, kernel: Exponentials) -> np.ndarray:
        """Predicted minus measured (..., times)."""
        # (v, ω x, z): ω x′ = ω v, and each exponential a variable of its own, z′ = v − λ z, force −w z.
        size = len(kernel.rates) + 2
        drift = np.zeros((size, size), complex)
        drift[0, 1], drift[1, 0] = -self._square, 1.0
        drift[0, 2:], drift[2:, 0] = -kernel.strengths / self._mass, 1.0
        drift[2:, 2:] = -np.diag(kernel.rates)
        values, vectors = np.linalg.eig(drift)
        shares = vectors[0] * np.linalg.solve(vectors, np.eye(size)[0])
        return self.left + (np.exp(np.outer(self.times, values)) @ shares).real


def between(c: np.ndarray, share: float) -> np.ndarray:
    """Values at ``share`` of the way from each frame to the next, by cubics: (..., lags) → (..., lags − 1)."""
    windows = np.lib.stride_tricks.sliding_window_view(c, 4, axis=-1)
    inner = windows @ _cubic(share)
    first = windows[..., :1, :] @ _cubic(share - 1)
    last = windows[..., -1:, :] @ _cubic(share + 1)
    return np.concatenate([first, inner, last], axis=-1)


def _cubic(x: float) -> np.ndarray:
    """Weights of values at −1, 0, 1, 2 of the cubic through them at ``x``."""
    outer = np.array([-x * (x - 1) * (x - 2), (x + 1) * x * (x - 1)]) / 6
    inner = np.array([(x + 1) * (x - 1) * (x - 2), -(x + 1) * x * (x - 2)]) / 2
    return np.array([outer[0], inner[0], inner[1], outer[1]])
