"""The circuit breaker registry; see README.md."""
