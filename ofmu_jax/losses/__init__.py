"""Losses: pure functions of parameters and one batch, scalars that are batch means."""
