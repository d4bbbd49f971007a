"""How much memory a server may use, of what this machine has: the pools of `bursar.contracts.monitor_quota`.

What JetStream keeps in memory is state that agents share (pool ``shared``, less what is there for the services, which
is half of it); the rest of the process is communication. Go collects harder as it comes near ``GOMEMLIMIT``, so that
the server stays within its pool as long as it can, and is not killed for a peak.
"""

from __future__ import annotations

import os

from bursar.bus.identity import JETSTREAM_LIMITS
from bursar.contracts.monitor_quota import pool_bytes

ACCOUNTS = 16
"""Journals that a server has room for; it sets the memory of each aside, and does not start without it."""


def machine_bytes() -> int:
    """The memory of this machine; 0 where nothing tells it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def memory_store(total: int) -> int:
    """Bytes of streams in memory on a machine with so many: at least what the accounts are promised."""
    promised = ACCOUNTS * JETSTREAM_LIMITS["mem_storage"]
    return max(promised, pool_bytes("shared", total) // 2)


def environment(total: int) -> dict[str, str]:
    """This process's environment for the server's, with its limit, unless one is set."""
    limit = pool_bytes("communication", total)
    return {**({"GOMEMLIMIT": str(limit)} if limit else {}), **os.environ}
