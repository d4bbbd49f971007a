"""The GPU manager; see README.md."""
