"""Question-answer rows, prompts, tokens and batches."""
