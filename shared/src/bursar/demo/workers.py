"""The workers of the fleet under Bursar: some call the provider, under the limiter and the breaker; others compute on
the simulated cards of one host, under leases of GPU memory.

A call is made once per attempt: it is the scheduler that tries again. While the provider's circuit is open a worker
waits before it calls. A request for which there was no permit because the limiter could not be reached was not sent,
and is made again, as that error advises.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import bursar
from bursar.client.gpu_simulated import SimulatedProcess
from bursar.demo.chatting import CALL_ERRORS, LIMITS, TLS, Caller, in_a_word
from bursar.demo.notes import Notes, watch_circuit
from bursar.demo.plan import BUDGET, GPU_SLOTS, REMOTE_SLOTS, TARGET, Job

LIMITER_WAIT_S: Final = 180.0
TTL_S: Final = 60.0
UNAVAILABLE_PAUSE_S: Final = 0.5
CIRCUIT_LOOK_S: Final = 0.1
LEASE_TTL_S: Final = 3.0
LEASE_WAIT_S: Final = 60.0
GRACE_S: Final = 3.0

Begin = Callable[[], Awaitable[float]]


def _job_of(task: bursar.WorkerTask) -> tuple[int, Job, int]:
    """What the agent put into the task: number of the job, the job, number of the agent."""
    payload = dict(task.payload)
    number, agent = payload.pop("job"), payload.pop("agent")
    return number, Job(**payload), agent


async def _noted(notes: Notes, task: bursar.WorkerTask, work: Awaitable[None]) -> None:
    """Do the work of an attempt, with a line before and one after it."""
    notes.write("start", task=task.id, token=task.fence)
    try:
        await work
    except (*CALL_ERRORS, bursar.BursarError) as error:
        notes.write("failed", task=task.id, token=task.fence, why=in_a_word(error))
        raise
    notes.write("done", task=task.id, token=task.fence)


class _Remote:
    def __init__(self, fleet: bursar.Fleet, caller: Caller) -> None:
        self._fleet, self._caller = fleet, caller

    async def call(self, task: bursar.WorkerTask) -> None:
        number, job, agent = _job_of(task)
        while True:
            await self._until_allowed()
            try:
                await self._caller.call(number, job, agent)
                return
            except bursar.LimiterUnavailable:
                await asyncio.sleep(UNAVAILABLE_PAUSE_S)
            except bursar.CircuitOpen:
                await asyncio.sleep(CIRCUIT_LOOK_S)

    async def _until_allowed(self) -> None:
        verdict = self._fleet.breaker.peek(TARGET)
        while not verdict and not verdict.may_probe:
            await asyncio.sleep(CIRCUIT_LOOK_S)
            verdict = self._fleet.breaker.peek(TARGET)


async def remote(config: dict[str, Any], process: int, notes: Notes, begin: Begin, stopped: asyncio.Event) -> None:
    """A worker that calls the provider, until stopped."""
    async with bursar.connect(config["nats"], creds=config["creds"][process]) as fleet:
        http = fleet.http_client(
            budget=BUDGET, breaker=TARGET, on_refused="raise", wait=LIMITER_WAIT_S, ttl=TTL_S, verify=TLS, limits=LIMITS
        )
        work = _Remote(fleet, Caller(http, config["base_url"], config["api_key"], retries=0))
        worker = bursar.Worker(fleet, slots=REMOTE_SLOTS, kind="remote", grace=GRACE_S)

        @worker.task("chat")
        async def chat(task: bursar.WorkerTask) -> None:
            await _noted(notes, task, work.call(task))

        await fleet.breaker.ready()
        watching = asyncio.create_task(watch_circuit(fleet, notes))
        try:
            await _serve(worker, begin, stopped)
        finally:
            watching.cancel()
            await http.aclose()


async def local(config: dict[str, Any], process: int, notes: Notes, begin: Begin, stopped: asyncio.Event) -> None:
    """A worker on the cards of one host, until stopped."""
    host = config["hosts"][process]
    async with bursar.connect(config["nats"], creds=config["creds"][process]) as fleet:
        worker = bursar.Worker(fleet, slots=GPU_SLOTS, kind="gpu", labels={"host": host}, grace=GRACE_S)

        async def under_lease(task: bursar.WorkerTask) -> None:
            _, job, _ = _job_of(task)
            async with SimulatedProcess.on(config["cards"], host) as there:
                leasing = fleet.gpu.lease(
                    job.gpu_bytes, hosts=[host], ttl=LEASE_TTL_S, wait=LEASE_WAIT_S, processes=[there.identity],
                    note=task.id,
                )  # fmt: skip
                async with leasing as lease:
                    await _unless_lost(lease, _compute(there, lease.device, job))

        @worker.task("local")
        async def on_card(task: bursar.WorkerTask) -> None:
            await _noted(notes, task, under_lease(task))

        await _serve(worker, begin, stopped)


async def _compute(there: SimulatedProcess, device: str, job: Job) -> None:
    await there.allocate(device, job.gpu_bytes)
    await asyncio.sleep(job.gpu_seconds)
    await there.free(device, job.gpu_bytes)


async def _unless_lost(lease: bursar.GpuLease, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, but stop it when the lease is lost. Raises `LeaseLost`, or what the work raises."""
    working, losing = asyncio.create_task(work), asyncio.create_task(lease.lost.wait())
    await asyncio.wait((working, losing), return_when=asyncio.FIRST_COMPLETED)
    losing.cancel()
    if not working.done():
        working.cancel()
        lease.check()
    await working


async def _serve(worker: bursar.Worker, begin: Begin, stopped: asyncio.Event) -> None:
    """Register, say that all is ready, and work until stopped."""
    running = asyncio.create_task(worker.run(signals=False))
    telling = asyncio.create_task(_begin_when(worker, begin))
    await asyncio.wait((running, asyncio.ensure_future(stopped.wait())), return_when=asyncio.FIRST_COMPLETED)
    worker.stop()
    telling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await telling
    await running


async def _begin_when(worker: bursar.Worker, begin: Begin) -> None:
    """Say that all is ready as soon as the scheduler knows the worker."""
    while not worker.is_registered:  # noqa: ASYNC110 - there is no event for it, and it is soon
        await asyncio.sleep(0.02)
    await begin()
