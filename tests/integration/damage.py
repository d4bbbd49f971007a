"""Ways in which a store loses what it had acknowledged, applied to a real server's directory or through its API."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from bursar.bus.server import provision
from bursar.contracts.base import checkpoint_stream, log_stream
from tests.integration.support import Rig


class Damage(NamedTuple):
    """``offline`` is done to the directory of a server that is down, ``online`` to one that runs."""

    name: str
    offline: Callable[[Rig], None] | None = None
    online: Callable[[Rig], Awaitable[None]] | None = None

    async def apply(self, rig: Rig, down: float = 0.0) -> None:
        """Do it; the server was killed and runs again (after ``down`` seconds), or has run all the time."""
        if self.offline is not None:
            rig.server.kill()
            self.offline(rig)
            await asyncio.sleep(down)
            await rig.server.start()
        if self.online is not None:
            await self.online(rig)


def blocks(rig: Rig) -> list[Path]:
    """The message blocks of the journal, oldest first."""
    found = rig.server.store.glob(f"**/{log_stream(rig.service)}/msgs/*.blk")
    return sorted(found, key=lambda path: int(path.stem))


def cut(share: float) -> Callable[[Rig], None]:
    """Cut this share off the end of the newest block."""

    def offline(rig: Rig) -> None:
        last = [path for path in blocks(rig) if path.stat().st_size][-1]
        size = last.stat().st_size
        with last.open("r+b") as file:
            file.truncate(int(size * (1 - share)))

    return offline


def flip(rig: Rig) -> None:
    """Change one bit in the middle of the newest block."""
    last = [path for path in blocks(rig) if path.stat().st_size][-1]
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 0x04
    last.write_bytes(data)


def copy_store(rig: Rig) -> None:
    """Keep a copy of the store as it is now (the server is down)."""
    shutil.copytree(rig.server.store, _copy(rig))


def put_back(rig: Rig) -> None:
    """Replace the store by the kept copy."""
    shutil.rmtree(rig.server.store)
    shutil.copytree(_copy(rig), rig.server.store)


def _copy(rig: Rig) -> Path:
    return rig.directory / "older-copy"


async def purge(rig: Rig) -> None:
    """An administrator purges the whole journal."""
    await _api(rig, f"STREAM.PURGE.{log_stream(rig.service)}")


async def recreate(rig: Rig) -> None:
    """An administrator deletes both streams, and makes new ones."""
    for stream in (log_stream(rig.service), checkpoint_stream(rig.service)):
        await _api(rig, f"STREAM.DELETE.{stream}")
    await provision(await rig.bus("provisioner"), rig.service)


async def _api(rig: Rig, verb: str) -> None:
    admin = await rig.bus("admin")
    answer = json.loads((await admin.request(f"$JS.API.{verb}", b"{}", 5.0)).data)
    assert answer["success"], answer


TRUNCATED = [Damage(f"cut-{percent}", offline=cut(percent / 100)) for percent in (10, 50)]
LOSSES = [
    *TRUNCATED,
    Damage("bit-flip", offline=flip),
    Damage("purged", online=purge),
    Damage("recreated", online=recreate),
    Damage("older-copy", offline=put_back),
]
