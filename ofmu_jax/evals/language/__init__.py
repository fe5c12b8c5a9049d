"""TOFU's metrics, privacy and scores."""
