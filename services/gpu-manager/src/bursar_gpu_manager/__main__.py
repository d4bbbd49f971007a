"""``python -m bursar_gpu_manager``: one instance of the manager, told by environment variables (see `settings`)."""

from __future__ import annotations

import sys

from bursar.kernel.host import run
from bursar.kernel.settings import told
from bursar_gpu_manager.service import SPEC
from bursar_gpu_manager.settings import GpuSettings


def main() -> int:
    """Run until told to stop; returns the exit status."""
    return run(SPEC, told(GpuSettings, "python -m bursar_gpu_manager"))


if __name__ == "__main__":
    sys.exit(main())
