"""OFMU's parts, one change at a time."""
