"""Counts and reads for sites: what a hit or a question means."""
