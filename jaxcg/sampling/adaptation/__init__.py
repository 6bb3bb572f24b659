"""What is learnt before sampling: step size, masses, trajectory length, and how chains are warmed up."""
