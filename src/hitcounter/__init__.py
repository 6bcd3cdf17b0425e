"""A self-hosted web-visit counter that counts every acknowledged hit exactly once."""

__version__ = "0.8.0"
