"""Keeps what this version writes, for later versions to read: ``python -m tests.upgrade.make limiter 17``.

Run it in the tree of the version that is to be kept, before a decider's version is raised. One history of the simulator
(the seed chooses it) gives a journal and the snapshot of its end; both go into
``tests/upgrade/kept/<service>-<version>.bin``, packed with zlib: ``[service, version, [[sequence, entry], ...],
snapshot]``.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]

from bursar.kernel.entry import RECOVERY, decode
from tests.simulation.run import WORKLOADS
from tests.simulation.world import History, World

KEPT = Path(__file__).parent / "kept"
MOST_BYTES = 60_000


def history(service: str, seed: int) -> list[Any]:
    """What the journal held at the end of a history, and the snapshot of it."""
    rows: list[tuple[int, bytes]] = []
    append = World.append

    def noting(self: World, expected: int, payload: bytes) -> int:
        sequence = append(self, expected, payload)
        rows.append((sequence, payload))
        return sequence

    World.append = noting  # type: ignore[method-assign]
    try:
        played = History(seed, WORKLOADS[service])
        played.play()
    finally:
        World.append = append  # type: ignore[method-assign]
    reference = played.world.checker.reference
    assert reference is not None
    kinds = {decode(payload).kind for _, payload in rows}
    assert RECOVERY not in kinds, "a recovery names a snapshot, which is not kept: take another seed"
    return [service, reference.folded.decider.version, rows, reference.folded.dump()]


def main() -> None:
    service, seed = sys.argv[1], int(sys.argv[2])
    kept = history(service, seed)
    packed = zlib.compress(msgpack.packb(kept, use_bin_type=True), 9)
    assert len(packed) <= MOST_BYTES, f"{len(packed)} bytes are much for a file that is kept for ever"
    KEPT.mkdir(exist_ok=True)
    path = KEPT / f"{service}-{kept[1]}.bin"
    path.write_bytes(packed)
    sys.stdout.write(f"{path}: {len(kept[2])} entries, {len(packed)} bytes\n")


if __name__ == "__main__":
    main()
