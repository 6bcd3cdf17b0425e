"""Brings each hit to the store exactly once, whatever crashes."""
