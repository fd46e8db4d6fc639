"""Comparisons of settings over seeds: runs, measures, statistics."""
