"""Methods of a part of the parameters."""
