"""The command line of `ofmu_jax`: recipes, the run, the report."""
