"""The agents of one process. Each makes its requests when they are due: one agent in five with the official OpenAI SDK
(one in twenty streams), the others with the SDK's HTTP client and its retry rule alone (`bursar.demo.plain`).

Both arms run this code with the same settings. The one difference is the HTTP client: the unmanaged arm has the one
that the SDK makes for itself, the managed arm has Bursar's. In both, calls are retried by the SDK's rule, with its
backoff, equally often.

A request is made when it is due, while the agent's other requests are still open, up to `PARALLEL` of them. When the
retries are used up, the request is lost: nobody repeats it. Two things no SDK can know, so the agents do them: a stream
that breaks off is asked for again, as often as the SDK would; and a request for which Bursar had no permit because the
limiter could not be reached (nothing was sent) is made again, as that error advises.
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
from bursar.demo.plain import RefusedError, chat
from bursar.demo.plan import BUDGET, Job
from bursar.demo.probe import Probe

MODEL = "demo-model"
MANAGED_WAIT_S = 180.0
TTL_S = 60.0
PARALLEL = 3
"""Requests that one agent has open at once."""
UNAVAILABLE_PAUSE_S = 0.5
SDK_USERS = 5
"""One agent in so many uses the SDK."""
STREAMS = 20
"""One agent in so many streams its answers."""
TIMEOUT_S = 240.0
TLS = httpx2.create_ssl_context()
"""One for all clients: it is not used here, but every client would make its own, at 10 ms each."""
INNER_PROBE_RATE = 1.0
"""Probes a second on the connection of each managed process, to see what agents see."""


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


class Client(NamedTuple):
    """What one agent calls with: the SDK, and the HTTP client inside it."""

    sdk: openai.AsyncOpenAI
    http: httpx2.AsyncClient


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

    def __init__(self, crew: Crew, process: int, clients: dict[int, Client]) -> None:
        self._crew, self._clients = crew, clients
        self._begin = 0.0
        self.outcomes: list[Outcome] = []
        self.hows: Counter[str] = Counter()
        self.open = 0
        self.unavailable = 0

    async def work(self, begin: float) -> None:
        """Do all jobs of these agents; ends when each is done or lost."""
        self._begin = begin
        async with asyncio.TaskGroup() as tasks:
            for agent in self._clients:
                tasks.create_task(self._agent(agent, tasks))

    async def _agent(self, agent: int, tasks: asyncio.TaskGroup) -> None:
        hands = asyncio.Semaphore(PARALLEL)
        for number in range(agent, len(self._crew.jobs), self._crew.agents):
            wait = self._begin + self._crew.jobs[number].at - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            await hands.acquire()
            self.open += 1
            tasks.create_task(self._job(number, agent)).add_done_callback(lambda _: hands.release())

    async def _job(self, number: int, agent: int) -> None:
        job = self._crew.jobs[number]
        try:
            await self._until_permitted(number, job, agent)
            how = "done"
        except openai.APIStatusError as error:
            how = f"status {error.status_code}"
        except RefusedError as error:
            how = str(error)
        except (openai.APIError, httpx2.TransportError, bursar.BursarError, BrokenStreamError) as error:
            how = type(error).__name__
        now = time.monotonic() - self._begin
        self.open -= 1
        self.hows[how] += 1
        self.outcomes.append(Outcome(number, now - job.at, now, how))

    async def _until_permitted(self, number: int, job: Job, agent: int) -> None:
        while True:
            try:
                await self._call(number, job, agent)
                return
            except bursar.LimiterUnavailable:
                self.unavailable += 1
                await asyncio.sleep(UNAVAILABLE_PAUSE_S)

    async def _call(self, number: int, job: Job, agent: int) -> None:
        sdk, http = self._clients[agent]
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "word" * job.input_tokens}],
            "max_tokens": job.max_tokens,
        }
        headers = {"X-Demo-Output-Tokens": str(job.output_tokens), "Idempotency-Key": f"job-{number}"}
        if agent % SDK_USERS:
            headers |= {"Authorization": f"Bearer {self._crew.api_key}", "Content-Type": "application/json"}
            await chat(http, f"{self._crew.base_url}/chat/completions", headers, body, self._crew.retries)
        elif agent % STREAMS:
            await sdk.chat.completions.create(**body, extra_headers=headers)
        else:
            await self._stream(sdk, body, headers)

    async def _stream(self, sdk: openai.AsyncOpenAI, body: dict[str, Any], headers: dict[str, str]) -> None:
        for _ in range(1 + self._crew.retries):
            if await _read_stream(sdk, body, headers):
                return
        raise BrokenStreamError("every stream broke off")


async def _read_stream(sdk: openai.AsyncOpenAI, body: dict[str, Any], headers: dict[str, str]) -> bool:
    """Read a streamed answer; whether it came to its end."""
    options: Any = {"stream": True, "stream_options": {"include_usage": True}, "extra_headers": headers}
    stream = await sdk.chat.completions.create(**body, **options)
    finished = False
    try:
        async for chunk in stream:
            finished = finished or any(choice.finish_reason for choice in chunk.choices)
    except (openai.APIConnectionError, httpx2.TransportError):
        return False
    return finished


@contextlib.asynccontextmanager
async def clients_of(crew: Crew, process: int) -> AsyncIterator[tuple[dict[int, Client], Probe | None]]:
    """A client of the SDK for each agent of a process, and a probe on the connection that they share (None:
    unmanaged)."""
    async with contextlib.AsyncExitStack() as stack:
        fleet = None
        if crew.nats:
            fleet = await stack.enter_async_context(bursar.connect(crew.nats, creds=crew.creds[process]))
        clients: dict[int, Client] = {}
        for agent in range(process, crew.agents, crew.processes):
            http = _http(fleet)
            sdk = openai.AsyncOpenAI(
                base_url=crew.base_url,
                api_key=crew.api_key,
                max_retries=crew.retries,
                timeout=TIMEOUT_S,
                http_client=http,
            )
            clients[agent] = Client(await stack.enter_async_context(sdk), http)
        yield clients, Probe(fleet, INNER_PROBE_RATE) if fleet is not None else None


def _http(fleet: bursar.Fleet | None) -> httpx2.AsyncClient:
    """The one difference between the arms: the SDK's own HTTP client, or Bursar's."""
    if fleet is None:
        return openai.DefaultAsyncHttpxClient(verify=TLS)
    return fleet.http_client(budget=BUDGET, wait=MANAGED_WAIT_S, ttl=TTL_S, verify=TLS)
