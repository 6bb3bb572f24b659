"""How the chains of a campaign are sampled."""

from dataclasses import dataclass
from typing import Literal, get_args


@dataclass(frozen=True)
class SamplingSettings:
    """How every chain of a campaign is sampled.

    Arguments:
        draws: samples of each chain.
        thin: trajectories between two of them.
        sampler: ``"hmc"``; ``"ghmc"``, whose velocities are refreshed in part; or ``"langevin"``, which has no
            Metropolis test.
        masses: ``"given"``, or ``"bonded"``: for each frame a mass matrix from the Hessians of the bonded terms at the
            end of the burn-in (`stiffness_geometry`).
        step_size: first step size, ps, and that of the burn-in; Langevin keeps it.
        steps: (mean) steps of a trajectory.
        heat, hold: Langevin steps of the burn-in from minima; 0 and 0 for starts that are typical already.
        warmup: trajectories that tune the step size.
        target: acceptance aimed at.
        friction: of Langevin dynamics, 1/ps.
        persistence: of velocities in generalised HMC.
    """

    draws: int = 100
    thin: int = 4
    sampler: Literal["hmc", "ghmc", "langevin"] = "hmc"
    masses: Literal["given", "bonded"] = "given"
    step_size: float = 0.001
    steps: int = 40
    heat: int = 750
    hold: int = 750
    warmup: int = 40
    target: float = 0.8
    friction: float = 20.0
    persistence: float = 0.9

    def __post_init__(self):
        if self.draws < 1 or self.thin < 1 or self.steps < 1:
            raise ValueError(
                f"campaign: draws ({self.draws}), thin ({self.thin}) and steps ({self.steps}) must be at least 1."
            )
        if min(self.heat, self.hold, self.warmup) < 0 or self.heat + self.hold < 0:
            raise ValueError("campaign: heat, hold and warmup cannot be negative.")
        if self.sampler not in get_args(SamplingSettings.__annotations__["sampler"]):
            raise ValueError(f"campaign: sampler {self.sampler!r} is not known; choose 'hmc', 'ghmc' or 'langevin'.")
        if self.masses not in get_args(SamplingSettings.__annotations__["masses"]):
            raise ValueError(f"campaign: masses {self.masses!r} are not known; choose 'given' or 'bonded'.")
