"""Non-Markovian dynamics of coarse coordinates: memory kernels, the generalised Langevin equation and its inverse.

A bath has a spectral density; it gives a memory kernel Γ(t); a kernel with a Markovian embedding drives trajectories
(`GLE`), and `extract_kernel` finds the kernel of a trajectory again. Units: nm, ps, amu, kJ/mol; Γ is in amu/ps².
"""

from .annealing import Annealing, AnnealingState, change_temperature
from .base import AbstractDynamics
from .bath import CaldeiraLeggett, HarmonicBath, discretize
from .comparison import Comparison
from .correlation import Correlation, CorrelationStream, correlation, mean_square_displacement
from .correlation_fit import CorrelationFit, fit_correlations
from .diffusion import Diffusion, diffusion_coefficient
from .embedding import Embedding
from .extraction import ExtractedKernel, extract_kernel
from .first_passage import (
    FirstPassage,
    Passages,
    Survival,
    first_passage_distribution,
    first_passage_times,
    passages,
    survival_function,
)
from .fitting import PassiveFit, fit_passive_kernel
from .gle import GLE, GLEState, langevin
from .history import HistoryGLE, HistoryState, history_trajectory, longest_window
from .kernels import AbstractMemoryKernel, DeltaKernel, PassiveKernel, PronyKernel, SumKernel, TabulatedKernel
from .likelihood import LikelihoodFit, fit_likelihood, log_likelihood
from .linear import LinearCorrelations, linear_correlations
from .memory import Memory, memory_from_positions, memory_from_velocities
from .noise import FluctuationDissipation, colored_noise, fluctuation_dissipation_test
from .particle_kernels import ParticleKernels
from .passivity import Passivity, is_positive_real
from .position_extraction import PositionMemory, position_dependent_memory
from .position_friction import FrictionTerm, PositionDependentGLE, SplineProfile, position_dependent_langevin
from .profile import free_energy_profile
from .rates import BarrierRate, barrier_rate, grote_hynes_frequency, grote_hynes_rate, overdamped_passage_time
from .reactive_flux import Transmission, transmission_coefficient
from .rollout import Rollout, rollout
from .separable_memory import SeparableMemory, separable_memory
from .simulation import Frames, Simulation, simulate
from .spectra import Spectrum, friction_spectrum, model_spectrum, velocity_spectrum, wavenumbers
from .spectral import (
    AbstractSpectralDensity,
    BrownianOscillator,
    DrudeLorentz,
    PowerLaw,
    TabulatedSpectralDensity,
    spectral_density,
)
from .stability import largest_stable_step, require_stable
from .transforms import cosine_transform
from .validation import Validation, validate

__all__ = [
    "GLE",
    "AbstractDynamics",
    "AbstractMemoryKernel",
    "AbstractSpectralDensity",
    "Annealing",
    "AnnealingState",
    "BarrierRate",
    "BrownianOscillator",
    "CaldeiraLeggett",
    "Comparison",
    "Correlation",
    "CorrelationFit",
    "CorrelationStream",
    "DeltaKernel",
    "Diffusion",
    "DrudeLorentz",
    "Embedding",
    "ExtractedKernel",
    "FirstPassage",
    "FluctuationDissipation",
    "Frames",
    "FrictionTerm",
    "GLEState",
    "HarmonicBath",
    "HistoryGLE",
    "HistoryState",
    "LikelihoodFit",
    "LinearCorrelations",
    "Memory",
    "ParticleKernels",
    "Passages",
    "PassiveFit",
    "PassiveKernel",
    "Passivity",
    "PositionDependentGLE",
    "PositionMemory",
    "PowerLaw",
    "PronyKernel",
    "Rollout",
    "SeparableMemory",
    "Simulation",
    "Spectrum",
    "SplineProfile",
    "SumKernel",
    "Survival",
    "TabulatedKernel",
    "TabulatedSpectralDensity",
    "Transmission",
    "Validation",
    "barrier_rate",
    "change_temperature",
    "colored_noise",
    "correlation",
    "cosine_transform",
    "diffusion_coefficient",
    "discretize",
    "extract_kernel",
    "first_passage_distribution",
    "first_passage_times",
    "fit_correlations",
    "fit_likelihood",
    "fit_passive_kernel",
    "fluctuation_dissipation_test",
    "free_energy_profile",
    "friction_spectrum",
    "grote_hynes_frequency",
    "grote_hynes_rate",
    "history_trajectory",
    "is_positive_real",
    "langevin",
    "largest_stable_step",
    "linear_correlations",
    "log_likelihood",
    "longest_window",
    "mean_square_displacement",
    "memory_from_positions",
    "memory_from_velocities",
    "model_spectrum",
    "overdamped_passage_time",
    "passages",
    "position_dependent_langevin",
    "position_dependent_memory",
    "require_stable",
    "rollout",
    "separable_memory",
    "simulate",
    "spectral_density",
    "survival_function",
    "transmission_coefficient",
    "validate",
    "velocity_spectrum",
    "wavenumbers",
]
