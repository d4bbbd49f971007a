"""What a copy of this process (`os.fork`, as `multiprocessing` does on Linux) has to forget: advances and slices that
it would otherwise spend a second time."""

from __future__ import annotations

import os
import sys
from typing import Final, Protocol
from weakref import WeakSet


class Holds(Protocol):
    def forget(self) -> None:
        """This process is a copy: nothing that is in hand is its own."""


_HOLDS: Final[WeakSet[Holds]] = WeakSet()


def watch(what: Holds) -> None:
    """Have it forget everything in copies of this process."""
    _HOLDS.add(what)


def _forget() -> None:
    for what in list(_HOLDS):
        what.forget()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget)
