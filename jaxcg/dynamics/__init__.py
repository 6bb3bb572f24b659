"""Non-Markovian dynamics of coarse coordinates: memory kernels, the generalised Langevin equation and its inverse."""
