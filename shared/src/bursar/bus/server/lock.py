"""One owner per store: an advisory lock that names its holder.

The lock's file descriptor is handed down to the nats-server process, so that the store stays locked as long as
either lives: a server that outlived a killed `bursar up` is found and named, not joined by a second one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class StoreInUse(Exception):
    """Another process works on this store."""


class StoreLock:
    """An exclusive lock on a file, released by `release` and by the death of all its holders.

    ``what`` names the locked thing in error messages.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The open file that holds the lock; a child that inherits it shares the lock."""
        if self._descriptor is None:
            raise RuntimeError("the lock is not held")
        return self._descriptor

    def acquire(self) -> None:
        """Take the lock or raise `StoreInUse`, which says who holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise StoreInUse(self._holder()) from error
        self._descriptor = descriptor
        self.describe(server=None, url=None)

    @property
    def is_orphaned(self) -> bool:
        """Whether somebody holds the lock on behalf of a process that has died."""
        try:
            return not _alive(int(json.loads(self._path.read_text())["pid"]))
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def describe(self, server: int | None, url: str | None) -> None:
        """Note for others who holds the lock: this process and the server it runs."""
        facts = json.dumps({"pid": os.getpid(), "server": server, "url": url}).encode()
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, facts, 0)

    def release(self) -> None:
        """Let go (children that inherited the lock keep it)."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _holder(self) -> str:
        place = self._what
        try:
            facts = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return f"{place} is in use by another process"
        pid, server, url = facts["pid"], facts["server"], facts["url"]
        at = f" at {url}" if url else ""
        if _alive(pid):
            return f"{place} is in use by process {pid}, whose server runs{at}: stop it first, or use another --home"
        return f"{place} is in use by a nats-server{at} left behind by process {pid}: stop it with `kill {server}`"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
