"""``python -m bursar_monitor.diagram`` prints the state diagram of an alert for the README."""

from __future__ import annotations

import sys

from bursar_monitor.lifecycle import diagram

if __name__ == "__main__":
    sys.stdout.write(diagram() + "\n")
