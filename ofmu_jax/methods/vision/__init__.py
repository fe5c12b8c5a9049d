"""Methods for image classifiers, by name."""
