"""Cost and convergence of OFMU itself."""
