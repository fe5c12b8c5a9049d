"""Attacks on an unlearned classifier: what it can still be made to tell."""
