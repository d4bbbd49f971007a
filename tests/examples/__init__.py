"""Each example runs here, against real processes."""
