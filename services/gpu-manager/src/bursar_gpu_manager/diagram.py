"""``python -m bursar_gpu_manager.diagram`` prints the state diagram of a lease for the README."""

from __future__ import annotations

import sys

from bursar_gpu_manager.lifecycle import diagram

if __name__ == "__main__":
    sys.stdout.write(diagram() + "\n")
