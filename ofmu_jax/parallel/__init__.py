"""Meshes, processes and what lies where."""
