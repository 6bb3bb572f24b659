"""The exact joint step of velocity and memory for every strength of their coupling, from one small table.

With c = g/√m the free motion at a frozen position is d(u, s) = −A(c)(u, s) dt + noise, u = √m v. In the variables
(s, u/c) its propagator and its noise depend on c² alone, and are analytic in it. So they are interpolated at Chebyshev
points, to round-off, once for each simulation; a step evaluates polynomials instead of matrix exponentials and roots.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ...typing import Array, PRNGKeyArray
from ..kernels.embedding import Embedding

#: Numbers of Chebyshev points that are tried, and the one used where the coefficients cannot be looked at.
_NODES, _NODES_TRACED = (8, 12, 16, 24, 32, 48, 64, 96, 128), 32
#: The time step is halved so often before its series is summed, which is then right to round-off in any sensible case.
_HALVINGS = 20


class FrozenStep(eqx.Module):
    """Exact Ornstein-Uhlenbeck step of (u, s) with all couplings scaled by c, for |c| ≤ ``bound``.

    Arguments:
        embedding: of a scalar kernel, a and S for c = 1.
        bound: largest |c|, 1/√amu; any positive number without auxiliaries. Larger c are cut to it.
        time_step: ps.

    Raises:
        ValueError: too few Chebyshev points resolve the range of couplings.
    """

    coefficients: Array
    bound: Array
    damping: Array
    auxiliaries: int = eqx.field(static=True)

    def __init__(self, embedding: Embedding, bound: Array, time_step: Array):
        dtype = embedding.couplings.dtype
        self.auxiliaries = embedding.auxiliaries
        self.bound = jnp.asarray(bound, dtype)
        self.damping = embedding.friction[0, 0] * jnp.asarray(time_step, dtype)
        if self.auxiliaries:
            a, gamma = self.bound * embedding.couplings[:, 0], self.bound**2 * embedding.friction[0, 0]
            self.coefficients = _chebyshev(a, embedding.drift, gamma, jnp.asarray(time_step, dtype))
        else:
            self.coefficients = jnp.zeros((0, 0), dtype)

    def __call__(self, key: PRNGKeyArray, c: Array, u: Array, s: Array, root: Array) -> tuple[Array, Array]:
        """(u, s) after the step.

        Arguments:
            key: random key.
            c: g/√m, the shape of ``u``.
            u: √m v, any shape.
            s: (auxiliaries, *shape of u).
            root: √kT.
        """
        count, dtype = self.auxiliaries, u.dtype
        # Drawn flat: a batch of small systems then costs no more random numbers a second than a large one.
        white = root * jax.random.normal(key, ((count + 1) * u.size,), dtype).reshape(count + 1, *u.shape)
        if count == 0:
            decay = self.damping.astype(dtype) * c**2
            spread = c * jnp.sqrt(2 * self.damping.astype(dtype) * _mean_decay(2 * decay))
            return u + jnp.expm1(-decay) * u + spread * white[0], s
        c = jnp.clip(c / self.bound.astype(dtype), -1.0, 1.0)
        table = _polynomials(self.coefficients.astype(dtype), c**2)
        gain, ss, us, su, lower = _unpack(table, count)
        new = s + c * u * su
        for j in range(count):
            new = new + ss[:, j] * s[j] + lower[:count, j] * white[j]
        random = jnp.sum(lower[count] * white, axis=0)
        return u + c**2 * gain * u + c * (jnp.sum(us * s, axis=0) + random), new

    def matrices(self, c: Array) -> tuple[Array, Array]:
        """E and L of (u, s)ₙ₊₁ = E (u, s)ₙ + √kT L ξ for one number c: what a step does."""
        count = self.auxiliaries
        if count == 0:
            decay = self.damping * c**2
            spread = c * jnp.sqrt(2 * self.damping * _mean_decay(2 * decay))
            return jnp.exp(-decay).reshape(1, 1), spread.reshape(1, 1)
        c = jnp.clip(c / self.bound, -1.0, 1.0)
        gain, ss, us, su, lower = _unpack(_polynomials(self.coefficients, c**2), count)
        step = jnp.block([[1 + c**2 * gain, c * us[None]], [c * su[:, None], jnp.eye(count) + ss]])
        return step, jnp.concatenate([c * lower[-1:], lower[:-1]])


def _unpack(table: Array, count: int) -> tuple[Array, Array, Array, Array, Array]:
    """(E_uu − 1)/c², E_ss − 1, E_us/c, E_su/c, and L (s first, its last row over c) from (entries, …)."""
    rest = table.shape[1:]
    ss, us, su, lower = jnp.split(table[1:], np.cumsum([count**2, count, count]))
    return table[0], ss.reshape(count, count, *rest), us, su, lower.reshape(count + 1, count + 1, *rest)


def _chebyshev(a: Array, drift: Array, gamma: Array, time_step: Array) -> Array:
    """Chebyshev coefficients of the entries on 0 ≤ c² ≤ 1, (nodes, entries), as many as round-off needs."""
    given, dtype = (a, drift, gamma, time_step), a.dtype
    if any(isinstance(v, Tracer) for v in given):
        return _coefficients(jnp, a, drift, gamma, time_step, _NODES_TRACED)
    # In double precision whatever the simulation's: what is tabulated once must not drift in 10⁹ steps.
    a64, drift64, gamma64, step64 = (np.asarray(v, np.float64) for v in given)
    left = np.inf
    for nodes in _NODES:
        try:
            found = _coefficients(np, a64, drift64, gamma64, step64, nodes)
        except np.linalg.LinAlgError:
            break
        size = np.abs(found)
        left = size[-2:].max() / size.max() if np.isfinite(size).all() else np.inf
        if left < 1e-13:
            break
    if not left < 1e-6:
        raise ValueError(
            "PositionDependentGLE: the largest coupling acts so fast that one time step is many of its periods or "
            "decay times; shorten the time step or lower `largest`."
        )
    return jnp.asarray(found, dtype)


def _coefficients(xp, a, drift, gamma, time_step, nodes: int):
    """The coefficients at a given number of nodes, with NumPy or jax.numpy as ``xp``."""
    angle = np.pi * (np.arange(nodes) + 0.5) / nodes
    values = _entries(xp, a, drift, gamma, time_step, xp.asarray(0.5 * (1 + np.cos(angle)), a.dtype))
    weights = 2 / nodes * np.cos(np.arange(nodes)[:, None] * angle)
    weights[0] /= 2
    return _product(xp, xp.asarray(weights, a.dtype), values)


def _entries(xp, a, drift, gamma, time_step, y):
    """The numbers of `_unpack` at c² = ``y`` (nodes,) > 0, with a, γ for c = 1: (nodes, entries)."""
    count, nodes = a.shape[0], y.shape[0]
    # (s, u/c): the upper left of both matrices is what the auxiliaries do alone.
    top = xp.concatenate([xp.broadcast_to(drift, (nodes, count, count)), -y[:, None, None] * a[:, None]], axis=-1)
    bottom = xp.concatenate([xp.broadcast_to(a, (nodes, count)), (gamma * y)[:, None]], axis=-1)
    generator = xp.concatenate([top, bottom[:, None]], axis=1)
    source = xp.pad(drift + drift.T, (0, 1)) + 2 * gamma * xp.asarray(np.diag(np.arange(count + 1) == count), a.dtype)
    change, noise = _propagate(xp, generator, xp.broadcast_to(source, generator.shape), time_step)
    # A share of round-off on the diagonal: an auxiliary without a noise of its own leaves the matrix singular to it.
    size, eps = xp.diagonal(noise, axis1=-2, axis2=-1), float(np.finfo(a.dtype).eps)
    jitter = 32 * eps * (size + eps * xp.sum(size, axis=-1, keepdims=True))
    lower = xp.linalg.cholesky(noise + jitter[..., None] * xp.eye(count + 1, dtype=a.dtype))
    blocks = (
        change[:, count, count] / y,
        change[:, :count, :count],
        change[:, count, :count],
        change[:, :count, count] / y[:, None],
        lower,
    )
    return xp.concatenate([b.reshape(nodes, -1) for b in blocks], axis=1)


def _propagate(xp, generator, source, time_step):
    """e^{−A t} − 1 and ∫₀ᵗ e^{−Aτ} Q e^{−Aᵀτ} dτ by halving and doubling, without cancellation of small entries."""
    short = time_step / 2**_HALVINGS
    x = -short * generator
    change, power, noise, term = x, x, short * source, short * source
    for order in range(2, 5):
        power = _product(xp, power, x) / order
        half = _product(xp, x, term) / order
        term = half + xp.swapaxes(half, -1, -2)
        change, noise = change + power, noise + term

    def double(pair, _):
        d, c = pair
        left = _product(xp, d, c)
        turned = xp.swapaxes(d, -1, -2)
        return (2 * d + _product(xp, d, d), 2 * c + left + xp.swapaxes(left, -1, -2) + _product(xp, left, turned)), None

    pair = (change, noise)
    if xp is jnp:
        return jax.lax.scan(double, pair, None, length=_HALVINGS)[0]
    for _ in range(_HALVINGS):
        pair, _ = double(pair, None)
    return pair


def _product(xp, a, b):
    return jnp.matmul(a, b, precision="highest") if xp is jnp else a @ b


def _polynomials(coefficients: Array, y: Array) -> Array:
    """Σ_k b_k T_k(2y − 1) of every entry: (nodes, entries), (...) → (entries, ...)."""
    z = 2 * y - 1
    terms = [jnp.ones_like(z), z]
    for _ in range(coefficients.shape[0] - 2):
        terms.append(2 * z * terms[-1] - terms[-2])
    return jnp.einsum("ke,k...->e...", coefficients, jnp.stack(terms), precision="highest")


def _mean_decay(x: Array) -> Array:
    """(1 − e^{−x})/x, one at zero."""
    safe = jnp.where(x == 0, 1.0, x)
    return jnp.where(x == 0, 1 - x / 2, -jnp.expm1(-safe) / safe)
