"""The published contracts agree with the code."""
