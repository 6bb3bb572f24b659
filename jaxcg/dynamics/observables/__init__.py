"""What motion shows: spectra, diffusion, first passages, rates, and whether a model moves as its data do."""
