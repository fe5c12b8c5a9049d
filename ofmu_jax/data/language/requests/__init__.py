"""Requests whose retain rows lie close to what is forgotten."""
