"""From trajectories back: correlation functions, memory kernels with error bars, fits and likelihoods."""
