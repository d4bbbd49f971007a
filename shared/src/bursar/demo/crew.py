"""A crew: processes of one kind. ``python -m bursar.demo.crew WORK_FOLDER NAME``.

The SDK is imported and warmed up once, then the processes are forked from this one. Everything goes through files of
the work folder: ``NAME.json`` says what to do; ``go`` appears when work begins and holds that moment
(`time.monotonic`, which is one clock for all processes of a machine); ``NAME-<process>.json`` is what each process
found, and ``NAME-<process>.log`` what it noted while it worked. On standard output each process writes a JSON line when
it is ready, and one each second while it works.

SIGTERM ends the work: what is not done by then is lost. A crew whose processes ``may_be_killed`` does not mind that.
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
from bursar.cli.child import end_with_parent
from bursar.demo import workers
from bursar.demo.managed import managed
from bursar.demo.notes import Notes
from bursar.demo.plan import Job
from bursar.demo.probe import Probe, questions
from bursar.demo.shift import Shift
from bursar.demo.unmanaged import unmanaged
from bursar.demo.warm import warm_up

GO_POLL_S: Final = 0.02
TELL_S: Final = 1.0

Work = Callable[[Path, str, dict[str, Any], int], Coroutine[Any, Any, dict[str, Any]]]


async def unmanaged_agents(folder: Path, name: str, config: dict[str, Any], process: int) -> dict[str, Any]:
    """The unmanaged agents of one process, from ready to done."""
    async with unmanaged(config) as arm:
        shift = Shift(_jobs(config), config["agents"], config["processes"], process, arm.do_job)
        await _work(shift, folder, name, process)
        return {"outcomes": shift.outcomes, "open": shift.open, "out_of_memory": arm.out_of_memory}


async def managed_agents(folder: Path, name: str, config: dict[str, Any], process: int) -> dict[str, Any]:
    """The agents of one process under Bursar, from ready to done."""
    async with managed(config, process) as arm:
        shift = Shift(_jobs(config), config["agents"], config["processes"], process, arm.do_job)
        await _work(shift, folder, name, process)
        return {
            "outcomes": shift.outcomes,
            "open": shift.open,
            "unavailable": arm.unavailable,
            "submits": arm.submits,
            "ended_twice": [task for task, fences in arm.ends.items() if len(fences) > 1],
        }


async def remote_worker(folder: Path, name: str, config: dict[str, Any], process: int) -> dict[str, Any]:
    """A worker that calls the provider, until stopped."""
    return await _worker(workers.remote, folder, name, config, process)


async def local_worker(folder: Path, name: str, config: dict[str, Any], process: int) -> dict[str, Any]:
    """A worker on simulated cards, until stopped."""
    return await _worker(workers.local, folder, name, config, process)


async def probing(folder: Path, name: str, config: dict[str, Any], process: int) -> dict[str, Any]:
    """The separate probe: asks every service until stopped."""
    async with (
        bursar.connect(config["nats"], creds=config["creds"][process]) as fleet,
        questions(fleet, config["hosts"]) as asks,
    ):
        probes = {service: Probe(ask, config["rate"]) for service, ask in asks.items()}
        await _begin(folder, name, process)
        share = 1.0 / config["rate"] / len(probes)
        await _until_stopped(asyncio.gather(*(probe.run(n * share) for n, probe in enumerate(probes.values()))))
        counts = (await fleet.scheduler.status()).counts
    return {
        "probed": {service: probe.found for service, probe in probes.items()},
        "errors": {service: probe.errors[:20] for service, probe in probes.items()},
        "scheduler": counts,
    }


def _jobs(config: dict[str, Any]) -> list[Job]:
    return [Job(*job) for job in config["jobs"]]


async def _work(shift: Shift, folder: Path, name: str, process: int) -> None:
    begin = await _begin(folder, name, process)
    telling = asyncio.create_task(_tell_progress(shift, name, process))
    await _until_stopped(shift.work(begin))
    telling.cancel()


async def _worker(
    work: Callable[..., Awaitable[None]], folder: Path, name: str, config: dict[str, Any], process: int
) -> dict[str, Any]:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    notes = Notes(folder / f"{name}-{process}.log")
    try:
        await work(config, process, notes, lambda: _begin(folder, name, process), stopped)
    finally:
        notes.close()
    return {}


async def _begin(folder: Path, name: str, process: int) -> float:
    """Say that all is ready and wait for the start; its moment."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 100, 100)
    _tell({"crew": name, "process": process, "ready": True, "pid": os.getpid()})
    go = folder / "go"
    while not go.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(GO_POLL_S)
    return float(go.read_text(encoding="ascii"))


async def _until_stopped(work: Awaitable[Any]) -> None:
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


WORK: Final[dict[str, Work]] = {
    "unmanaged": unmanaged_agents,
    "managed": managed_agents,
    "remote": remote_worker,
    "local": local_worker,
    "probe": probing,
}
CALLS_THE_PROVIDER: Final = frozenset({"unmanaged", "remote"})
NICE: Final = 5
"""Both fleets' HTTP clients need most of a small machine's CPU, and go after the provider and the control plane, which
are on other machines in earnest."""


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
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)


def main() -> int:
    """Fork the processes, wait for all; 0 when each ended well."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    config = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    children: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: _pass_on(children))
    if config["work"] in CALLS_THE_PROVIDER:
        os.nice(NICE)
        warm_up()
    gc.collect()
    gc.freeze()
    this = os.getpid()
    for process in range(config["processes"]):
        child = os.fork()
        if child == 0:
            end_with_parent(this, signal.SIGKILL)  # who gives this process up leaves none of its children behind
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os._exit(_run_one(folder, name, process))
        children.append(child)
    bad = 0
    while children:
        child, status = os.waitpid(children[0], 0)
        children.remove(child)
        code = os.waitstatus_to_exitcode(status)
        bad |= code != 0 and not (code == -signal.SIGKILL and config["config"].get("may_be_killed", False))
    return bad


if __name__ == "__main__":
    sys.exit(main())
