"""The measurements behind every figure that the documentation quotes."""
