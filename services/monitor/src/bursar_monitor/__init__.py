"""The monitor; see README.md."""
