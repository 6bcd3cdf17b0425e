"""What operators see: a process and a listener of their own, so that no look delays a hit."""
