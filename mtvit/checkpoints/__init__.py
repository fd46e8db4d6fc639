"""Saving a run's state, checking it, and loading it."""
