"""A deletion request on a language model: rows, batches, the target, the outcome."""
