"""The command line of `ofmu_jax`: recipes, the run, the report."""

import os

# That PyTorch is not installed is no news here: its models are not used.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
