"""Motion with memory: integrators, many trajectories of them, gradients through them, and what is exact."""
