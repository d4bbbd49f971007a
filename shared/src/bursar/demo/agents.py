"""The agents of one process: each makes its requests when they are due, with the official OpenAI SDK.

Both arms run this code with the same settings. The one difference is the ``http_client`` argument: the unmanaged arm
leaves it out and has the SDK as it comes, with the SDK's own retries and backoff; the managed arm passes Bursar's.

A request is made when it is due, however many others of the same agent are still open, as the trace has it. When the
SDK gives up, the request is lost: nobody repeats it. Every tenth agent streams; a stream that breaks off, which no SDK
repeats, is asked for again by the agent, as often as the SDK would.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx2
import openai

import bursar
from bursar.demo.plan import BUDGET, Job

MODEL = "demo-model"
MANAGED_WAIT_S = 180.0
TTL_S = 60.0
STREAMS = 10
"""One agent in so many streams its answers."""
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Crew:
    """One arm: who works where. ``nats`` and ``creds`` (one file per process) are empty for the unmanaged arm."""

    arm: str
    agents: int
    processes: int
    retries: int
    base_url: str
    api_key: str
    jobs: list[Job]
    nats: str = ""
    creds: list[str] = field(default_factory=list)


class BrokenStreamError(Exception):
    """A streamed answer ended too early, every time."""


class Outcome(NamedTuple):
    """What became of one job: its number, seconds from due to answered (or given up), and ``done`` or the error."""

    job: int
    seconds: float
    ended_at: float
    how: str


class Shift:
    """The work of one process. ``begin`` is the moment of the start by `time.monotonic`."""

    def __init__(self, crew: Crew, process: int, client: openai.AsyncOpenAI) -> None:
        self._crew, self._client = crew, client
        self._agents = range(process, crew.agents, crew.processes)
        self._begin = 0.0
        self.outcomes: list[Outcome] = []
        self.hows: Counter[str] = Counter()
        self.open = 0

    async def work(self, begin: float) -> None:
        """Do all jobs of these agents; ends when each is done or lost."""
        self._begin = begin
        async with asyncio.TaskGroup() as tasks:
            for agent in self._agents:
                tasks.create_task(self._agent(agent, tasks))

    async def _agent(self, agent: int, tasks: asyncio.TaskGroup) -> None:
        for number in range(agent, len(self._crew.jobs), self._crew.agents):
            wait = self._begin + self._crew.jobs[number].at - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            self.open += 1
            tasks.create_task(self._job(number, agent % STREAMS == 0))

    async def _job(self, number: int, streams: bool) -> None:
        job = self._crew.jobs[number]
        try:
            await self._call(number, job, streams)
            how = "done"
        except openai.APIStatusError as error:
            how = f"status {error.status_code}"
        except (openai.APIError, httpx2.TransportError, bursar.BursarError, BrokenStreamError) as error:
            how = type(error).__name__
        now = time.monotonic() - self._begin
        self.open -= 1
        self.hows[how] += 1
        self.outcomes.append(Outcome(number, now - job.at, now, how))

    async def _call(self, number: int, job: Job, streams: bool) -> None:
        ask: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "word" * job.input_tokens}],
            "max_tokens": job.max_tokens,
            "extra_headers": {"X-Demo-Output-Tokens": str(job.output_tokens), "Idempotency-Key": f"job-{number}"},
        }
        if not streams:
            await self._client.chat.completions.create(**ask)
            return
        for again in range(self._crew.retries, -1, -1):
            try:
                if await self._stream(ask):
                    return
            except httpx2.TransportError:
                if not again:
                    raise
        raise BrokenStreamError(f"job {number}: every stream broke off")

    async def _stream(self, ask: dict[str, Any]) -> bool:
        """Read a streamed answer; whether it came to its end."""
        finished = False
        stream = await self._client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
        async for chunk in stream:
            finished = finished or any(choice.finish_reason for choice in chunk.choices)
        return finished


@contextlib.asynccontextmanager
async def client_of(crew: Crew, process: int) -> AsyncIterator[tuple[openai.AsyncOpenAI, bursar.Fleet | None]]:
    """The SDK's client of one process, shared by its agents, and the fleet it works under (None: unmanaged)."""
    options: dict[str, Any] = {
        "base_url": crew.base_url,
        "api_key": crew.api_key,
        "max_retries": crew.retries,
        "timeout": TIMEOUT_S,
    }
    if not crew.nats:
        async with openai.AsyncOpenAI(**options) as client:
            yield client, None
        return
    async with bursar.connect(crew.nats, creds=crew.creds[process]) as fleet:
        http = fleet.http_client(budget=BUDGET, wait=MANAGED_WAIT_S, ttl=TTL_S)
        async with openai.AsyncOpenAI(**options, http_client=http) as client:
            yield client, fleet
