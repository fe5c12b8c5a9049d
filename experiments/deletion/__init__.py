"""Deletion records: written, and checked again."""
