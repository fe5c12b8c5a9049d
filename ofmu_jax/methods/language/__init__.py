"""Methods for language models, by name."""
