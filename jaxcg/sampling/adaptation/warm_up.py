"""From minima to tuned chains: heating, masses, step size and trajectory length, in stages."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ...chains import Chains
from ...mapping.base import AbstractLinearMap
from ...posterior import Posterior
from ...run import run
from ...typing import Array, AtomScalars, PRNGKeyArray
from ..geometry import AbstractGeometry, LinearGeometry, as_geometry, check_start
from ..geometry.atom_blocks import LARGEST_BLOCK, AtomBlocks
from ..geometry.blocks import BlockGeometry
from ..kernels.generalized_hmc import GeneralizedHMC
from .burn_in import BurnIn, burn_in
from .curvature import bonded_stiffness, mean_hessian
from .metric import VIBRATION, covariance_geometry, length_bounds, stiffness_geometry, variance_geometry
from .step_size import GRADIENTS_PER_CHUNK
from .trajectory_length import SelfTuningChains, SelfTuningState

#: Ways to masses; see `warm_up`.
Masses = Literal["given", "variance", "covariance", "bonded", "hessian"]
#: Configurations Hessians are averaged over.
CONFIGURATIONS = 64


@dataclass(frozen=True)
class WarmUp:
    """Result of `warm_up`.

    Fields:
        kernel: tuned `SelfTuningChains` that adapts no more; running it compiles nothing anew.
        state: its state at the end: the positions are ``state.chains.position`` (chains, atoms, 3).
        geometry: constraints and tuned masses, for any other kernel.
        step_size: ps.
        length: mean length of a trajectory, ps.
        steps: mean number of leapfrog steps.
        masses: the kind of masses that came of it.
        acceptance: (chains,) mean acceptance probability in the last stage, in which the step size still moved.
        burn_in: what came of the heating; None without.
        gradients: gradient evaluations per chain, those for Hessians included.
        notes: sentences on what was done otherwise than asked, and why.
    """

    kernel: SelfTuningChains
    state: SelfTuningState
    geometry: AbstractGeometry
    step_size: float
    length: float
    steps: int
    masses: str
    acceptance: np.ndarray
    burn_in: BurnIn | None
    gradients: int
    notes: tuple[str, ...]


def warm_up(
    posterior: Posterior,
    positions: Array,
    key: PRNGKeyArray,
    *,
    masses: AtomScalars | AbstractGeometry,
    adapt: Masses = "bonded",
    group: np.ndarray | None = None,
    heat: int = 750,
    hold: int = 750,
    limit: int = 3000,
    windows: tuple[int, ...] = (30, 50, 100),
    step_size: float = 0.001,
    steps: int = 40,
    longest: int = 200,
    target: float = 0.8,
    persistence: float = 0.5,
    every: int = 1,
    observe: Callable[[Any], Any] | None = None,
    chunk: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    checkpoint: str | Path | None = None,
) -> WarmUp:
    """Brings chains from minima to equilibrium and learns what makes them move fast.

    First `burn_in` heats. Then windows of trajectories follow: in the first the step size alone is tuned, with the
    masses given; after each window but the last new masses are made, and from the second on the length is tuned too,
    between bounds that the spread of the window before sets (`length_bounds`).
    All windows, and sampling after them, use one compiled kernel.

    Masses, as ``adapt`` says, from the configurations of all chains in the window before:

    - ``given``: no change.
    - ``variance``: one per atom, inverse to its variance (`variance_geometry`); no good where methyl groups turn.
    - ``bonded``: from Hessians of the bonded terms, dense within blocks of atoms (`bonded_stiffness`): safe after few
      trajectories, and for molecules of any size.
    - ``hessian``: from Hessians of the whole potential, likewise: dearer, and better for slow torsions where one block
      holds all; with several blocks and few chains the couplings between blocks are noise in it, and steps get short.
    - ``covariance``: as ``bonded`` first, then from the covariance of draws within blocks (`covariance_geometry`). Not
      recommended where methyl groups or other rotors turn, for steps get tiny, nor for few draws: chains × window
      should be well above three times the atoms of a block.

    Arguments:
        posterior: the target.
        positions: (chains, atoms, 3) starting positions, nm; their dtype is that of the run.
        key: random key.
        masses: (atoms,) amu, of the burn-in and the first window: `heavy_hydrogen_masses`; or a geometry.
        adapt: the way to masses.
        group: (atoms,) numbers of the blocks of atoms that share a matrix, such as residues; one block for all when
            None. Where blocks come out too large the masses stay those of atoms, as ``variance`` makes them.
        heat, hold, limit: steps of the burn-in, see there; 0 and 0 for starts that are typical already.
        windows: trajectories of each window.
        step_size: first step size and that of the burn-in, ps.
        steps: first mean number of leapfrog steps.
        longest: mean number of steps a trajectory may come to have.
        target: acceptance probability aimed at.
        persistence: see `GeneralizedHMC`; with trajectories of few steps, half is better than none for slow torsions.
        every, observe, chunk: of `jaxcg.run.run`; give those of the run that follows and nothing compiles again.
            ``every`` must divide all windows.
        progress: called as ``progress(stage, done, total)``; stages are "heating" and "tuning".
        checkpoint: folder for checkpoints; an interrupted call resumes from them.

    Returns:
        The `WarmUp`.

    Raises:
        ValueError: shapes or settings do not fit.
        ResultError: a chain did not stay finite.
    """
    positions = jnp.asarray(positions)
    check_start(posterior, positions)
    if not windows or min(windows) < 1:
        raise ValueError(f"warm_up: windows {windows} must be positive numbers of trajectories.")
    if adapt not in get_args(Masses):
        raise ValueError(f"warm_up: adapt is {adapt!r}; use one of {', '.join(get_args(Masses))}.")
    heat_key, start_key, tune_key, probe_key = (jax.random.fold_in(key, i) for i in range(4))
    folder = None if checkpoint is None else Path(checkpoint)
    total = sum(windows)
    burned, gradients, notes = None, 0, ()
    if heat + hold:
        burned = burn_in(
            posterior,
            positions,
            heat_key,
            masses=masses,
            heat=heat,
            hold=hold,
            limit=limit,
            step_size=step_size,
            progress=_forward(progress, "heating", 0, heat + hold),
            checkpoint=None if folder is None else folder / "heating.npz",
        )
        positions, gradients = burned.positions, len(burned.potential)
        if not burned.done:
            notes = (f"Burn-in: {burned.reason}",)
    start = as_geometry(posterior, masses)
    geometry, kind, more = _first_geometry(posterior, start, adapt, group)
    notes = (*notes, *more)
    length, bounds, kernel, state, infos = steps * step_size, (0.0, np.inf), None, None, None
    for number, window in enumerate(windows):
        chains = Chains(GeneralizedHMC(posterior, geometry, step_size=step_size, steps=steps, persistence=persistence))
        kernel = SelfTuningChains(
            chains,
            warmup=window,
            target=target,
            length=length,
            tune_length=number > 0,
            longest=longest,
            bounds=bounds,
        )
        state = kernel.init(jax.random.fold_in(start_key, number), positions)
        result = run(
            kernel,
            state,
            jax.random.fold_in(tune_key, number),
            window,
            every=every,
            observe=observe,
            chunk=chunk or max(GRADIENTS_PER_CHUNK // (steps * len(positions)), every),
            progress=_forward(progress, "tuning", sum(windows[:number]), total),
            checkpoint=None if folder is None else folder / f"tuning-{number}.npz",
            label="tuning",
        )
        state, infos = result.state, result.infos
        positions = state.chains.position
        gradients += int((1 + infos.steps[:, 0]).sum())
        step_size = float(state.chains.step_size[0])
        length = float(jnp.exp(state.length.log_average))
        if number + 1 < len(windows):
            geometry, cost = _next_geometry(posterior, kind, number, geometry, state, probe_key)
            gradients += cost
            if number == 0 and kind != "given":
                # Directions now vibrate alike, with another period: the first guess is that of a harmonic well.
                step_size, length = _first_guess(geometry.dimension), 0.01
            bounds = length_bounds(posterior, geometry, state.moments)
    assert kernel is not None
    assert state is not None
    assert infos is not None
    mean_steps = int(kernel.mean_steps(state.length.log_average, state.chains.step_size[0]))
    if len(windows) > 1 and mean_steps == longest:
        notes = (
            *notes,
            f"Trajectories take {longest} steps, the most allowed: the search for their length ended at its bound. "
            "Allow more if chains move slowly; where they hop between wells it gains nothing.",
        )
    return WarmUp(
        kernel=kernel,
        state=state,
        geometry=geometry,
        step_size=step_size,
        length=mean_steps * step_size,
        steps=mean_steps,
        masses=kind,
        acceptance=infos.acceptance[-(-len(infos.acceptance) // 2) :].mean(axis=0),
        burn_in=burned,
        gradients=gradients,
        notes=notes,
    )


def _first_geometry(posterior: Posterior, start: AbstractGeometry, adapt: Masses, group):
    """Geometry of the first window in the form that later ones need, the kind of masses that can be had, notes."""
    if adapt == "given" or (isinstance(start, LinearGeometry) and adapt == "variance"):
        return start, adapt, ()
    mapping = posterior.mapping
    if not isinstance(start, LinearGeometry) or not isinstance(mapping, AbstractLinearMap):
        return start, "given", (f"Masses are kept as given: {type(start).__name__} has none to adapt.",)
    try:
        blocks = AtomBlocks(mapping, group, largest=LARGEST_BLOCK)
    except ValueError as error:
        return start, "variance", (f"One mass per atom instead of blocks: {error}",)
    return BlockGeometry(posterior, blocks, blocks.diagonal(np.asarray(start.masses))), adapt, ()


def _next_geometry(posterior, kind, number, geometry, state, key):
    """Geometry of the next window, and the gradients per chain that it cost."""
    if isinstance(geometry, LinearGeometry) and kind == "variance":
        return variance_geometry(posterior, geometry, state.moments), 0
    if not isinstance(geometry, BlockGeometry) or kind == "given":
        return geometry, 0
    if kind == "covariance" and number > 0:
        return covariance_geometry(posterior, geometry, state.moments), 0
    positions = state.chains.position[:CONFIGURATIONS]
    if kind == "hessian":
        stiffness = mean_hessian(posterior, geometry.blocks, positions, jax.random.fold_in(key, number))
        # A product with a Hessian costs about three gradients.
        cost = 3 * geometry.blocks.shape[1] * len(positions) // len(state.chains.position)
    else:
        stiffness, cost = bonded_stiffness(posterior, geometry.blocks, positions), 0
    return stiffness_geometry(posterior, geometry.blocks, stiffness, state.moments), cost


def _first_guess(dimension: int) -> float:
    """Step size (ps) at which equal oscillators of period 2π `VIBRATION` are accepted about four times in five."""
    return 1.6 * VIBRATION * dimension**-0.25


def _forward(progress, stage: str, before: int, total: int):
    """The callback of one run, of a stage that ``before`` steps belong to already."""
    if progress is None:
        return None
    if before == 0:
        progress(stage, 0, total)

    def forward(done, steps, infos):
        del steps, infos
        progress(stage, min(before + done, total), total)

    return forward
