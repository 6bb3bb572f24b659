"""Replica exchange for the frames of `jaxcg sample`: frame by frame, with a ladder for each chain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...energy import StereoFence
from ...posterior import Posterior
from ...sampling.campaign.checks import check_on_fibre
from ...sampling.campaign.samples import FrameSamples
from ...sampling.diagnostics.torsions import Torsions
from ...sampling.geometry import as_geometry
from ...sampling.tempering.sample import tempered_sample
from ...system import System
from ...typing import PRNGKeyArray
from .settings import SampleSettings

#: Temperature (K) above which stereo centres and double bonds may turn over without a fence.
HOT = 600.0


def sample_tempered(
    frame: int,
    posterior: Posterior,
    starts: np.ndarray,
    key: PRNGKeyArray,
    masses: np.ndarray,
    settings: SampleSettings,
    system: System,
    *,
    folder: Path,
    progress: Callable[[str, int, int], None],
) -> tuple[FrameSamples, str]:
    """Samples of one frame at the target temperature, a chain for each ladder, and whether basins have weights.

    Arguments:
        frame: its number; it chooses the random numbers.
        posterior: p(x|y) of the frame.
        starts: (starts, atoms, 3) nm.
        key: random key of the run.
        masses: (atoms,) amu.
        settings: of the run; ``tempering`` is the highest temperature.
        system: the molecule; above `HOT` a fence keeps its stereochemistry.
        folder: for the checkpoint.
        progress: called as ``progress(stage, done, total)``.
    """
    assert settings.tempering is not None
    check_on_fibre(posterior, starts, np.asarray(posterior.y), frame=frame)
    tempered = posterior
    if settings.tempering > HOT:
        tempered = eqx.tree_at(lambda p: p.energy, posterior, posterior.energy + _fence(system, starts[0]))
    half = settings.burn_in // 2
    folder.mkdir(parents=True, exist_ok=True)
    found = tempered_sample(
        tempered,
        jnp.asarray(starts),
        jax.random.fold_in(key, frame),
        masses=masses,
        draws=settings.draws,
        highest=settings.tempering,
        ladders=settings.chains,
        warmup=settings.warmup,
        thin=settings.thin,
        heat=half,
        hold=settings.burn_in - half,
        step_size=settings.step_size,
        steps=settings.steps,
        progress=progress,
        checkpoint=folder / f"tempered-{frame:06d}.npz",
    )
    restraints = np.stack([np.asarray(jax.lax.map(posterior.restraint, jnp.asarray(x))) for x in found.positions])
    unknown = np.full(settings.chains, np.nan)
    samples = FrameSamples(
        frame=frame,
        positions=found.positions,
        energies=found.potentials - restraints.astype(np.float64),
        potentials=found.potentials,
        trace=found.potentials,
        total_energies=found.total_energies,
        start_potentials=unknown,
        acceptance=found.health.acceptance,
        divergences=found.health.divergences,
        step_size=found.health.step_size,
        burn_in_temperature=unknown,
        gradients=found.gradients // settings.chains,
        dimension=as_geometry(posterior, masses).dimension,
        temperature=float(posterior.temperature),
    )
    return samples, found.weights


def _fence(system: System, x: np.ndarray) -> StereoFence:
    """The fence around the stereochemistry of ``system``, its double bonds cis or trans as they are in ``x``."""
    fence = StereoFence(system)
    turns = Torsions.of_atoms(system, system.double_bonds).along(x)
    return eqx.tree_at(lambda f: f.angles, fence, jnp.where(jnp.cos(turns) < 0, np.pi, 0.0).astype(fence.angles.dtype))
