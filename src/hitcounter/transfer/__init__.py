"""Brings numbers in and out, and takes them away."""
