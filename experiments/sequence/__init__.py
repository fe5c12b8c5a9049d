"""Deletion requests one after another, from one lineage of models."""
