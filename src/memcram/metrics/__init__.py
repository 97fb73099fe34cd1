"""What is measured: pure functions with units in their names."""
