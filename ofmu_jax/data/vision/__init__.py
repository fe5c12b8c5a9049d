"""Images, their split, and batches."""
