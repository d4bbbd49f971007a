"""``python -m bursar_limiter.diagram`` prints the state diagram of a reservation for the README."""

from __future__ import annotations

import sys

from bursar_limiter.lifecycle import diagram

if __name__ == "__main__":
    sys.stdout.write(diagram() + "\n")
