"""The scheduler; see README.md."""
