"""Replica exchange: rungs of a ladder sampled side by side, whose configurations change places."""

from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp

from ...batching import batch_map
from ...energy.path import AbstractEnergyPath
from ...posterior import Posterior
from ...run import AbstractKernel
from ...typing import Array, PRNGKeyArray, Scalar
from ..adaptation.step_size import DualAveraging
from ..kernels.differences import compensated_sum, potential_terms
from ..kernels.generalized_hmc import GeneralizedHMC
from ..kernels.hmc import HMC
from .ladder import Ladder
from .switching import SwitchingHMC


class ExchangeState(NamedTuple):
    """State of several ladders.

    Fields:
        rungs: states of the kernel, leading axes (ladders, rungs).
        replica: (ladders, rungs) number of the replica at each rung.
        averaging: dual averaging of each rung's step size, (rungs,).
        count: sweeps so far.
    """

    rungs: Any
    replica: Array
    averaging: DualAveraging
    count: Array


class ExchangeInfo(NamedTuple):
    """What happened in one sweep.

    Fields:
        rungs: infos of the kernel's step, before the swaps, leading axes (ladders, rungs).
        replica: (ladders, rungs) number of the replica at each rung after the swaps.
        proposed: (ladders, rungs − 1) whether the rungs r and r + 1 tried to swap in this sweep.
        swap_probability: (ladders, rungs − 1) acceptance probability of the swap; zero where none was tried.
        swapped: (ladders, rungs − 1) whether they did.
    """

    rungs: Any
    replica: Array
    proposed: Array
    swap_probability: Array
    swapped: Array


class ReplicaExchange(AbstractKernel):
    """Replica exchange over temperatures, energies U_λ, or both, of any Metropolis-adjusted kernel.

    A sweep is one step of the kernel at every rung, then swaps between neighbours: even pairs in even sweeps, odd
    pairs in odd ones. That alternation without chance carries replicas along the ladder instead of letting them
    diffuse. Rungs a and b swap with probability min(1, exp(u_a(x_a) + u_b(x_b) − u_a(x_b) − u_b(x_a))) with
    u_r = U_λr/kT_r; each configuration is evaluated for its own and for its neighbour's rung, and energies are
    subtracted term by term before anything is summed, so float32 does. The bead noise of a soft posterior belongs to
    the likelihood and is the same at every rung. Velocities that a kernel keeps are scaled by √(T_new/T_old).

    Step sizes belong to rungs, not to replicas. During the first ``warmup`` sweeps they are tuned, pooled over the
    ladders; those sweeps are no samples. The rungs of all ladders are one batch of one compiled kernel: temperatures
    and couplings are arrays. States and infos have leading axes (ladders, rungs); ladders are independent.

    Arguments:
        kernel: `HMC`, `GeneralizedHMC` or `SwitchingHMC` of the target posterior.
        ladder: rungs, the target first.
        path: energies U_λ; needed when couplings differ from 1.
        step_sizes: (rungs,) ps, or None for that of the kernel.
        warmup: sweeps that tune step sizes.
        target: acceptance of trajectories they are tuned to.
        vectorized: see `jaxcg.batching.batch_map`.

    Raises:
        ValueError: the ladder has couplings but no path, or its first rung is not the target.
        TypeError: another kernel.

    Source: Hukushima & Nemoto, J. Phys. Soc. Jpn. 65, 1604 (1996); Sugita & Okamoto, Chem. Phys. Lett. 314, 141 (1999);
    even and odd pairs by turns: Okabe, Kawata, Okamoto & Mikami, Chem. Phys. Lett. 335, 435 (2001); Syed,
    Bouchard-Côté, Deligiannidis & Doucet, J. R. Stat. Soc. B 84, 321 (2022).
    """

    kernel: AbstractKernel
    path: AbstractEnergyPath | None
    temperatures: Array
    couplings: Array
    step_sizes: Array
    warmup: Array
    target: Array
    vectorized: bool = eqx.field(static=True)

    def __init__(
        self,
        kernel: AbstractKernel,
        ladder: Ladder,
        path: AbstractEnergyPath | None = None,
        *,
        step_sizes=None,
        warmup: int = 0,
        target: float = 0.8,
        vectorized: bool = False,
    ):
        posterior = _posterior(kernel)
        dtype = posterior.y.dtype
        if path is None and bool(jnp.any(ladder.couplings != 1)):
            raise ValueError("ReplicaExchange: the ladder has couplings other than 1; give the path of energies.")
        if abs(float(ladder.temperatures[0]) / float(posterior.temperature) - 1) > 1e-5 or ladder.couplings[0] != 1:
            raise ValueError(
                f"ReplicaExchange: the first rung ({float(ladder.temperatures[0]):g} K, coupling "
                f"{float(ladder.couplings[0]):g}) is not the target ({float(posterior.temperature):g} K, coupling 1)."
            )
        if not 0 < target < 1:
            raise ValueError(f"ReplicaExchange: target acceptance {target} is not between 0 and 1.")
        first = core(kernel).step_size if step_sizes is None else jnp.asarray(step_sizes)
        self.kernel = kernel
        self.path = path
        self.temperatures = ladder.temperatures.astype(dtype)
        self.couplings = ladder.couplings.astype(dtype)
        self.step_sizes = jnp.broadcast_to(first, (ladder.rungs,)).astype(dtype)
        self.warmup = jnp.asarray(warmup, jnp.int32)
        self.target = jnp.asarray(target, dtype)
        self.vectorized = vectorized

    def init(self, key: PRNGKeyArray, position: Array) -> ExchangeState:
        """States at ``position`` (ladders, rungs, atoms, 3)."""
        ladders, rungs = position.shape[:2]
        if rungs != self.temperatures.shape[0]:
            raise ValueError(
                f"ReplicaExchange: {rungs} positions per ladder for {self.temperatures.shape[0]} rungs; the shape is "
                "(ladders, rungs, atoms, 3)."
            )
        states = _init(self, key, jnp.asarray(position))
        step_sizes = self.step_sizes.astype(position.dtype)
        states = states._replace(step_size=jnp.broadcast_to(step_sizes, (ladders, rungs)))
        replica = jnp.broadcast_to(jnp.arange(rungs, dtype=jnp.int32), (ladders, rungs))
        return ExchangeState(states, replica, DualAveraging.start(step_sizes), jnp.zeros((), jnp.int32))

    def step(self, key: PRNGKeyArray, state: ExchangeState) -> tuple[ExchangeState, ExchangeInfo]:
        """One step of every rung of every ladder, then swaps."""
        ladders, rungs = state.replica.shape
        move_key, swap_key = jax.random.split(key)
        here = jnp.arange(rungs, dtype=jnp.int32)
        # The pairs of this sweep are (r, r + 1) with r of the parity of the sweep.
        upper = (here + state.count) % 2 == 0
        partner = jnp.where(upper, jnp.minimum(here + 1, rungs - 1), jnp.maximum(here - 1, 0))
        mapped = batch_map(_step_of_one, vectorized=self.vectorized)
        own = (jnp.tile(here, ladders), jnp.tile(partner, ladders))
        states, infos, gains = mapped((self, move_key), jnp.arange(ladders * rungs), *own, _flat(state.rungs))
        states, infos, gains = (_ladders(tree, ladders, rungs) for tree in (states, infos, gains))

        log_ratio = jax.vmap(jax.vmap(compensated_sum))(gains[:, :-1] + gains[:, 1:])
        log_ratio = jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio)
        keys = jax.vmap(lambda ladder: jax.random.fold_in(swap_key, ladder))(jnp.arange(ladders))
        uniform = jax.vmap(lambda k: jax.random.uniform(k, (rungs - 1,), log_ratio.dtype))(keys)
        proposed = jnp.broadcast_to(upper[:-1], log_ratio.shape)
        swapped = proposed & (jnp.log1p(-uniform) < log_ratio)
        down = jnp.pad(swapped, ((0, 0), (0, 1))).astype(jnp.int32)
        up = jnp.pad(swapped, ((0, 0), (1, 0))).astype(jnp.int32)
        source = here + down - up
        replica = jnp.take_along_axis(state.replica, source, axis=1)
        heat = jnp.sqrt(self.temperatures / self.temperatures[source])
        averaging, step_size = self._tuned(state, infos)
        states = _exchanged(states, source, heat)._replace(step_size=step_size)
        probability = jnp.where(proposed, jnp.exp(jnp.minimum(log_ratio, 0.0)), 0.0).astype(heat.dtype)
        info = ExchangeInfo(infos, replica, proposed, probability, swapped)
        return ExchangeState(states, replica, averaging, state.count + 1), info

    def rebuild(self, state: ExchangeState) -> Self:
        """The same with pair lists large enough for every replica; each makes its own anew before it moves."""
        posterior = _posterior(self.kernel)
        for position in state.rungs.position.reshape(-1, *state.rungs.position.shape[2:]):
            new = posterior.rebuild(position)
            ours, theirs = jax.tree.leaves(posterior), jax.tree.leaves(new)
            if len(ours) == len(theirs) and all(a is b for a, b in zip(ours, theirs, strict=True)):
                return self  # no lists
            posterior = new
        return eqx.tree_at(lambda k: _posterior(k.kernel), self, posterior)

    def healthy(self, state: ExchangeState) -> Array:
        """(ladders,) True where all replicas of a ladder are finite."""
        return jnp.all(jax.vmap(jax.vmap(self.kernel.healthy))(state.rungs), axis=1)

    def at(self, temperature: Scalar, coupling: Scalar) -> AbstractKernel:
        """The kernel of a rung."""
        posterior = _posterior(self.kernel)
        energy = posterior.energy if self.path is None else self.path(posterior.energy, coupling)
        rung = eqx.tree_at(lambda p: (p.temperature, p.energy), posterior, (temperature, energy))
        return eqx.tree_at(_posterior, self.kernel, rung)

    def _gain(self, own, partner, position) -> Array:
        """Terms of u_own(x) − u_partner(x): what a swap gains at this configuration, in units of kT."""
        first, second = (self.at(self.temperatures[r], self.couplings[r]) for r in (own, partner))
        geometry = core(first).geometry
        terms = potential_terms(_posterior(first).rebuild(position), geometry, position)
        beta, other_beta = (1 / _posterior(k).thermal_energy.astype(terms.dtype) for k in (first, second))
        # The last two are restraint and volume terms, proportional to kT: the same at every rung.
        gain = (beta - other_beta) * terms[:-2]
        if self.path is not None:
            other = potential_terms(_posterior(second).rebuild(position), geometry, position)
            gain = gain + other_beta * (terms - other)[:-2]
        return gain

    def _tuned(self, state: ExchangeState, infos) -> tuple[DualAveraging, Array]:
        old = state.averaging
        dtype = old.log_step.dtype
        acceptance = jnp.mean(infos.acceptance, axis=0).astype(dtype)
        new = old.update(acceptance, self.target.astype(dtype), jnp.log(self.step_sizes).astype(dtype))
        warmup = self.warmup.astype(dtype)
        averaging = DualAveraging(*(jnp.where(old.count < warmup, a, b) for a, b in zip(new, old, strict=True)))
        log_step = jnp.where(averaging.count < warmup, averaging.log_step, averaging.log_average)
        return averaging, jnp.broadcast_to(jnp.exp(log_step), state.replica.shape)


def core(kernel: AbstractKernel) -> HMC:
    """The `HMC` that a kernel is or is made of: it has the posterior, the geometry, steps and their size.

    Raises:
        TypeError: the kernel has none.
    """
    if isinstance(kernel, HMC):
        return kernel
    if isinstance(kernel, (GeneralizedHMC, SwitchingHMC)):
        return kernel.hmc
    raise TypeError(
        f"Replica exchange takes HMC, GeneralizedHMC or SwitchingHMC, not {type(kernel).__name__}: between swaps every "
        "rung must keep its own distribution exactly."
    )


def _posterior(kernel) -> Posterior:
    return core(kernel).posterior


def _flat(tree):
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)


def _ladders(tree, ladders, rungs):
    return jax.tree.map(lambda leaf: leaf.reshape(ladders, rungs, *leaf.shape[1:]), tree)


def _exchanged(states, source, heat):
    """Configurations from the rungs ``source``; velocities, where the kernel keeps them, at the new temperature."""

    def taken(leaf):
        return jnp.take_along_axis(leaf, source[:, :, None, None], axis=1)

    moved = {"position": taken(states.position)}
    if "velocity" in states._fields:
        moved["velocity"] = taken(states.velocity) * heat[:, :, None, None].astype(states.velocity.dtype)
    return states._replace(**moved)


@eqx.filter_jit
def _init(exchange, key, position):
    ladders, rungs = position.shape[:2]
    mapped = batch_map(_init_of_one, vectorized=exchange.vectorized)
    own = jnp.tile(jnp.arange(rungs), ladders)
    states = mapped((exchange, key), jnp.arange(ladders * rungs), own, _flat(position))
    return _ladders(states, ladders, rungs)


def _init_of_one(shared, number, rung, position):
    exchange, key = shared
    kernel = exchange.at(exchange.temperatures[rung], exchange.couplings[rung])
    return kernel.init(jax.random.fold_in(key, number), position)


def _step_of_one(shared, number, rung, partner, state):
    exchange, key = shared
    kernel = exchange.at(exchange.temperatures[rung], exchange.couplings[rung])
    new, info = kernel.step(jax.random.fold_in(key, number), state)
    return new, info, exchange._gain(rung, partner, new.position)
