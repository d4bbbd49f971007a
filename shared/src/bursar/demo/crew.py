"""A crew: the processes of one arm, or the probe. ``python -m bursar.demo.crew WORK_FOLDER NAME``.

The SDK is imported and warmed up once, then the processes are forked from this one. Everything goes through files of
the work folder: ``NAME.json`` says what to do; ``go`` appears when work begins and holds that moment
(`time.monotonic`, which is one clock for all processes of a machine); ``NAME-<process>.json`` is what each process
found. On standard output each process writes a JSON line when it is ready, and one each second while it works.

SIGTERM ends the work: what is not done by then is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import uvloop

import bursar
from bursar.demo.agents import Crew, Shift, clients_of
from bursar.demo.plan import BUDGET, Job
from bursar.demo.probe import Probe
from bursar.demo.warm import warm_up

GO_POLL_S: Final = 0.02
TELL_S: Final = 1.0

Work = Callable[[Path, str, dict[str, Any], int], Coroutine[Any, Any, dict[str, Any]]]


async def agents(folder: Path, name: str, config: dict[str, Any], process: int) -> dict[str, Any]:
    """The agents of one process, from ready to done."""
    crew = Crew(**{**config, "jobs": [Job(*job) for job in config["jobs"]]})
    async with clients_of(crew, process) as (clients, probe):
        shift = Shift(crew, process, clients)
        begin = await _begin(folder, name, process)
        helpers = [asyncio.create_task(_tell_progress(shift, name, process))]
        if probe is not None:
            helpers.append(asyncio.create_task(probe.run()))
        await _until_stopped(shift.work(begin))
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
    probed = probe.found if probe is not None else []
    return {"outcomes": shift.outcomes, "open": shift.open, "unavailable": shift.unavailable, "probed": probed}


async def probing(folder: Path, name: str, config: dict[str, Any], process: int) -> dict[str, Any]:
    """The separate probe: asks until stopped."""
    async with bursar.connect(config["nats"], creds=config["creds"][process]) as fleet:
        found = Probe(fleet, config["rate"])
        begin = await _begin(folder, name, process)
        await _until_stopped(found.run())
        status = await fleet.limiter.status(BUDGET)
    granted = status.budgets[0].granted
    return {"begin": begin, "probed": found.found, "errors": found.errors, "granted": granted}


async def _begin(folder: Path, name: str, process: int) -> float:
    """Say that all is ready and wait for the start; its moment."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 100, 100)
    _tell({"crew": name, "process": process, "ready": True})
    go = folder / "go"
    while not go.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(GO_POLL_S)
    return float(go.read_text(encoding="ascii"))


async def _until_stopped(work: Awaitable[None]) -> None:
    """Do the work, or as much of it as there is time for before SIGTERM."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _tell_progress(shift: Shift, name: str, process: int) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        _tell({"crew": name, "process": process, "open": shift.open, "ended": dict(shift.hows)})


def _tell(line: dict[str, Any]) -> None:
    """One line in one write, so that the lines of several processes do not mix."""
    os.write(sys.stdout.fileno(), json.dumps(line).encode() + b"\n")


WORK: Final[dict[str, Work]] = {"agents": agents, "probe": probing}


def _run_one(folder: Path, name: str, process: int) -> int:
    try:
        config = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        found = uvloop.run(WORK[config["work"]](folder, name, config["config"], process))
        (folder / f"{name}-{process}.json").write_text(json.dumps(found), encoding="utf-8")
    except BaseException:  # noqa: BLE001 - the last words of a process
        traceback.print_exc()
        return 1
    return 0


def _pass_on(children: list[int]) -> None:
    for child in children:
        os.kill(child, signal.SIGTERM)


def main() -> int:
    """Fork the processes, wait for all; 0 when each ended well."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    config = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    children: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: _pass_on(children))
    if config["work"] == "agents":
        warm_up()
    gc.collect()
    gc.freeze()
    for process in range(config["processes"]):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os._exit(_run_one(folder, name, process))
        children.append(child)
    bad = 0
    while children:
        child, status = os.waitpid(children[0], 0)
        children.remove(child)
        bad |= os.waitstatus_to_exitcode(status) != 0
    return bad


if __name__ == "__main__":
    sys.exit(main())
