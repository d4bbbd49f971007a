"""The disk of the journals is full: nothing is decided, nothing is lost, and with room again everything goes on.

The server is a process on a small file system of its own (tmpfs), which takes the rights that an engine for containers
takes, too. A server that could not write takes nothing more for that stream until it is started again: on Kubernetes
its liveness probe does that.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import history
from tests.integration.fleet import Fleet, fleet_of
from tests.integration.support import TAKEOVER_SECONDS, Rig, until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(120)]

DISK = "24m"


@contextlib.contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """A file system of `DISK` there; fails where it cannot be mounted."""
    at.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(at)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"this test mounts a file system, as root: {done.stderr}"
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def fill(disk: Path) -> Path:
    """A file that leaves no room for another byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65_536, 4_096, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return ballast


async def nothing_is_answered(fleet: Fleet) -> None:
    """Many ask again, and time out again."""
    before = fleet.answered
    await fleet.refusals(60)
    assert fleet.answered == before


async def test_a_full_disk_fails_closed_and_everything_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """No answer while nothing can be kept; afterwards each request has its one answer and nothing acknowledged is
    lost."""
    with small_disk(tmp_path / "nats" / "jetstream") as disk:
        async with Rig(tmp_path) as rig:
            await rig.start("a", "b")
            async with fleet_of(rig, clients=10) as fleet:
                await fleet.answers(200)
                ballast = fill(disk)
                await fleet.refusals(20)
                await nothing_is_answered(fleet)
                with pytest.raises(OSError, match="503"):
                    await rig.server.monitor("healthz")
                ballast.unlink()
                began = time.monotonic()
                await rig.server.restart()
                await fleet.answers(200)
                assert fleet.resumed_after(began) < TAKEOVER_SECONDS + 5
            final, _ = await rig.walk()
            history.check(fleet.done, final.state)
            assert final.incarnation == 1, "nothing was lost, so nothing is to be recovered"
            await until(lambda: sorted(rig[name].role for name in "ab") == ["owner", "standby"], 10, "one owner")
