"""Before a process loads: show the lease to the probe of its own host, which knows whether it still holds.

::

    async with fleet.gpu.lease(memory=12 << 30) as lease:
        await enter("/run/bursar/gpu.sock", lease)      # raises when the lease has ended meanwhile
        load_the_model(lease.device)

`GpuLease.check` looks at this process's own clock; the probe knows of what happened elsewhere as well: that an operator
has dropped the lease, or that it was given to somebody else while this process stood still.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from bursar.client.gpu_lease import GpuLease
from bursar.errors import ServiceError


async def enter(path: str, lease: GpuLease, process: tuple[int, int] | None = None) -> None:
    """Ask the probe at its socket. ``process``: (pid, start), for simulated cards only; otherwise it is this one.

    Raises `bursar.client.gpu_errors.LeaseLost` when the lease does not hold by this process's own clock, and
    `bursar.errors.ServiceError`: ``stale_fence`` or ``ending`` (the lease has ended or is ending), ``not_known`` (the
    probe has not heard of it), ``not_named`` (see `GpuLease.bind`), ``bad_fence``, ``no_probe`` (nobody answers).
    """
    lease.check()
    asked: dict[str, Any] = {"op": "enter", "lease": lease.id, "fence": lease.fence}
    if process is not None:
        asked |= {"pid": process[0], "started": process[1]}
    answer = await _ask(path, asked)
    if answer.get("ok") is not True:
        raise ServiceError(str(answer.get("code")), str(answer.get("text")), lease=lease.id)


async def _ask(path: str, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        raise ServiceError("no_probe", f"no probe answers at {path}") from error
    try:
        writer.write(json.dumps(asked).encode() + b"\n")
        line = await reader.readline()
        answer: dict[str, Any] = json.loads(line)
    except (OSError, ValueError) as error:
        raise ServiceError("no_probe", f"the probe at {path} does not answer") from error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return answer
