"""What people look at: HTML."""
