"""Evaluation of unlearned language models: scores, metrics, privacy, uncertainty."""
