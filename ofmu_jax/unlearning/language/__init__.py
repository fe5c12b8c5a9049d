"""A deletion request on a language model: rows, batches, the target, the outcome."""

import os

# That PyTorch is not installed is no news here: its models are not used.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
