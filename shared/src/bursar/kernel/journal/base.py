"""The journal of one shard, with its snapshots.

Appends are conditional: ``expected`` is the sequence of the shard's last entry (0: none). The answer is a sequence, a
`Conflict` (with JetStream's code), or `OutcomeUnknown`; there is no fourth. Reads go to the stream's leader.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from bursar.kernel.effects import Inspection
from bursar.kernel.errors import KernelError
from bursar.kernel.snapshot import Manifest

Appended = Callable[[int | KernelError], None]


class Journal(Protocol):
    async def append(self, expected: int, payload: bytes) -> int:
        """Append if the last sequence is ``expected``; return the new one. Raises `Conflict`, `JournalFull`,
        `OutcomeUnknown`."""
        ...

    def start_append(self, expected: int, payload: bytes, then: Appended) -> None:
        """As `append`, for the hot path: sent at once, and ``then`` is called later with the sequence or the error."""
        ...

    async def inspect(self, sequence: int) -> Inspection:
        """See `Inspection`. Raises `OutcomeUnknown` when it cannot be read now."""
        ...

    def read(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        """All entries after a sequence that exist now, in order; then it ends."""
        ...

    def tail(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        """All entries after a sequence, and then the new ones as they come; never ends. Raises `OutcomeUnknown`
        when the stream of entries breaks: start again after the last one seen."""
        ...

    async def purge_below(self, sequence: int) -> None:
        """Forget the entries before a sequence; the entry itself stays."""
        ...

    async def put_chunk(self, snapshot_id: str, index: int, data: bytes) -> None: ...

    async def chunk(self, snapshot_id: str, index: int) -> bytes | None: ...

    async def put_manifest(self, manifest: Manifest, after: str) -> None:
        """Make a snapshot valid if the newest manifest is still ``after`` (its id; empty: there is none); otherwise
        `Conflict`. Older manifests than the newest three go by themselves."""
        ...

    async def manifests(self) -> list[Manifest]:
        """Readable manifests, newest first."""
        ...

    async def drop_snapshot(self, snapshot_id: str) -> None:
        """Forget a snapshot's chunks."""
        ...

    async def leftovers(self) -> list[str]:
        """Names under which chunks were stored before the newest manifest was, and which no manifest has."""
        ...
