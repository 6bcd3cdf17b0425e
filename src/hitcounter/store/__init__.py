"""Everything that speaks to the store, names what is in it, or runs it."""
