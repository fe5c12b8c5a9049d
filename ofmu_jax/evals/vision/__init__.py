"""Accuracies, gaps and membership attacks."""
