"""Files of motion: coordinates along trajectories, kernels and profiles, configs and runs of `jaxcg gle`."""
