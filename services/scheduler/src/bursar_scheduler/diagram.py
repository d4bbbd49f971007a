"""``python -m bursar_scheduler.diagram`` prints the state diagram of a task for the README."""

from __future__ import annotations

import sys

from bursar_scheduler.lifecycle import diagram

if __name__ == "__main__":
    sys.stdout.write(diagram() + "\n")
