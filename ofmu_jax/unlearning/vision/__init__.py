"""A deletion request on an image classifier: batches, the look at its progress."""
