"""Trackers of experiments: one file each, and the registry."""
