"""``python -m bursar_breaker.diagram`` prints the state diagram of a circuit for the README."""

from __future__ import annotations

import sys

from bursar_breaker.lifecycle import diagram

if __name__ == "__main__":
    sys.stdout.write(diagram() + "\n")
