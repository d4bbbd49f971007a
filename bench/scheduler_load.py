"""Submitters and workers in one process, for the scheduler's figures: lifecycles, chains, a steady rate, a failover.

Every task is empty and every step of it durable. *Lifecycle*: submit, assignment, start, finish. *Chain*: a slot whose
each finish brings the next attempt, begun, in its answer; so with a backlog a request is an end, an assignment and a
start.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from typing import Any, NamedTuple

from bench.scheduler_stack import Refused, SchedulerStack, Wire

WORKERS = 100
SLOTS = 8
AGENTS = 5
GRAPH = 250
"""Tasks in one request, where a backlog is made."""


class Crew:
    """Workers and agents on one wire. ``given``: attempts that no chain has taken up yet."""

    def __init__(self, wire: Wire, task_class: str, workers: int = WORKERS, slots: int = SLOTS) -> None:
        self._wire = wire
        self.task_class = task_class
        self.names = [f"{task_class}-{number}" for number in range(workers)]
        self.slots = slots
        self.session = secrets.token_hex(4)
        self._numbers: Counter[str] = Counter()
        self.arrived: dict[str, asyncio.Queue[tuple[str, str, float]]] = {}
        self.given: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()
        self.to_queue = False
        self.running: dict[str, dict[str, None]] = {name: {} for name in self.names}
        self._registering: set[asyncio.Task[None]] = set()
        wire.notice = self._hear

    def _hear(self, worker: str, body: dict[str, Any]) -> None:
        if body["what"] == "register" and worker in self.running:
            task = asyncio.ensure_future(self._register(worker))
            self._registering.add(task)
            task.add_done_callback(self._registering.discard)
        if body["what"] != "assign" or worker not in self.running or body["token"] in self.running[worker]:
            return
        self.running[worker][body["token"]] = None
        if self.to_queue:
            self.given.put_nowait((worker, body["task"], body["token"]))
            return
        self._of(body["task"]).put_nowait((worker, body["token"], time.perf_counter()))

    def _of(self, task: str) -> asyncio.Queue[tuple[str, str, float]]:
        return self.arrived.setdefault(task, asyncio.Queue())

    async def attempt(self, task: str) -> tuple[str, str, float]:
        """The next attempt that is assigned: worker, token, when its notice came."""
        return await asyncio.wait_for(self._of(task).get(), 30)

    async def register(self) -> None:
        await asyncio.gather(*(self._register(name) for name in self.names))

    async def _register(self, name: str) -> None:
        body = {
            "session": self.session, "slots": self.slots, "classes": [self.task_class],
            "running": list(self.running[name]),
        }  # fmt: skip
        await self._wire.until_answered("work", "register", name, self.request(name, body))

    async def beat(self) -> None:
        """Heartbeats of all workers, each once a second, for ever."""
        while True:
            for name in self.names:
                self._wire.tell(
                    f"bursar.obs.scheduler.heartbeat.{name}",
                    {"session": self.session, "running": list(self.running[name])},
                )
                await asyncio.sleep(1 / len(self.names))

    def request(self, principal: str, body: dict[str, Any]) -> dict[str, Any]:
        """With an id, and with what has been answered for certain."""
        self._numbers[principal] += 1
        number = self._numbers[principal]
        return {"id": f"{self.session}-{number}", "acked": max(0, number - 2_000), **body}

    async def submit(self, agent: str) -> str:
        body = self.request(agent, {"task_class": self.task_class, "payload": b"x"})
        answer = await self._wire.until_answered("req", "submit", agent, body)
        if not answer["ok"]:
            raise RuntimeError(f"not accepted: {answer}")
        return str(answer["task"])

    async def start(self, worker: str, task: str, token: str) -> bool:
        """Whether it may run."""
        body = self.request(worker, {"task": task, "token": token})
        try:
            return bool((await self._wire.until_answered("work", "start", worker, body))["ok"])
        except Refused:
            self.running[worker].pop(token, None)
            return False

    async def finish(self, worker: str, task: str, token: str, *, brings: bool = False) -> dict[str, Any] | None:
        """The answer; None when the end does not count."""
        body = self.request(worker, {"task": task, "token": token, "result": b"y", "next": brings})
        try:
            answer = await self._wire.until_answered("work", "finish", worker, body)
        except Refused:
            answer = None
        self.running[worker].pop(token, None)
        if answer and answer.get("next"):
            self.running[worker][answer["next"]["token"]] = None
        return answer


class Lifecycles(NamedTuple):
    """``assigned``: seconds from each submission to its notice."""

    per_s: float
    assigned: list[float]


async def lifecycles(crew: Crew, in_flight: int, seconds: float) -> Lifecycles:
    """So many tasks at a time, each from its submission to its accepted end."""
    assigned: list[float] = []
    until = time.perf_counter() + seconds
    began = time.perf_counter()

    async def loop(agent: str) -> None:
        while time.perf_counter() < until:
            assigned.append(await one_life(crew, agent))

    await asyncio.gather(*(loop(f"agent-{number % AGENTS}") for number in range(in_flight)))
    return Lifecycles(len(assigned) / (time.perf_counter() - began), assigned)


async def one_life(crew: Crew, agent: str) -> float:
    """Seconds from its submission to its first notice. Whatever goes wrong on the way is gone through again."""
    began = time.perf_counter()
    task = await crew.submit(agent)
    first = 0.0
    while True:
        worker, token, at = await crew.attempt(task)
        first = first or at
        if await crew.start(worker, task, token) and await crew.finish(worker, task, token) is not None:
            del crew.arrived[task]
            return first - began


async def steadily(crew: Crew, rate: float, seconds: float) -> list[float]:
    """Submissions at a steady rate, whatever the answers do; seconds from each to its notice."""
    lives: list[asyncio.Task[float]] = []
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        lives.append(asyncio.ensure_future(one_life(crew, f"agent-{number % AGENTS}")))
    return list(await asyncio.gather(*lives))


async def backlog(crew: Crew, wire: Wire, tasks: int) -> float:
    """Have so many tasks waiting; accepted per second."""
    began = time.perf_counter()
    turns = iter(range(tasks // GRAPH))

    async def loop() -> None:
        for number in turns:
            agent = f"agent-{number % AGENTS}"
            items = [{"name": f"i{item}"} for item in range(GRAPH)]
            template = {"task_class": crew.task_class, "payload": b"x"}
            body = crew.request(agent, {"name": f"g{crew.session}-{number}", "template": template, "items": items})
            answer = await wire.until_answered("req", "graph", agent, body)
            if not answer["ok"]:
                raise RuntimeError(f"not accepted: {answer}")

    await asyncio.gather(*(loop() for _ in range(4)))
    return tasks / (time.perf_counter() - began)


async def chains(crew: Crew, seconds: float) -> float:
    """Work a backlog off with all slots of the crew; durable assignments per second, from when each has begun one."""
    slots = len(crew.names) * crew.slots
    begun = await asyncio.gather(*(_begun(crew) for _ in range(slots)))
    done = 0
    began = time.perf_counter()
    until = began + seconds

    async def chain(worker: str, task: str, token: str) -> None:
        nonlocal done
        while time.perf_counter() < until:
            answer = await crew.finish(worker, task, token, brings=True)
            if answer is None or not answer.get("next"):
                worker, task, token = await _begun(crew)
                continue
            done += 1
            task, token = answer["next"]["task"], answer["next"]["token"]

    await asyncio.gather(*(chain(*attempt) for attempt in begun))
    return done / (time.perf_counter() - began)


async def _begun(crew: Crew) -> tuple[str, str, str]:
    """An attempt that has been assigned and begun."""
    while True:
        attempt = await asyncio.wait_for(crew.given.get(), 30)
        if await crew.start(*attempt):
            return attempt


class Failover(NamedTuple):
    """``seconds`` without an answer; of ``accepted`` tasks so many are ``lost``, so many have two accepted ends."""

    seconds: float
    accepted: int
    lost: int
    twice: int


async def failover(stack: SchedulerStack, crew: Crew, wire: Wire, seconds: float, victim: str) -> Failover:
    """Kill the owner (-9) in the midst of lifecycles; every tenth end is sent twice, with different ids."""
    tasks: list[str] = []
    ends: Counter[str] = Counter()
    until = time.perf_counter() + seconds

    async def loop(agent: str, number: int) -> None:
        while time.perf_counter() < until:
            task = await crew.submit(agent)
            tasks.append(task)
            await run_to_end(crew, task, ends, twice=(number + len(tasks)) % 10 == 0)

    running = [asyncio.ensure_future(loop(f"agent-{number % AGENTS}", number)) for number in range(32)]
    await asyncio.sleep(seconds / 4)
    stack.kill(victim)
    killed = time.perf_counter()
    body = crew.request("prober", {"task_class": "nobody", "payload": b"x"})
    await wire.until_answered("req", "submit", "prober", body, each=0.1)
    took = time.perf_counter() - killed
    await asyncio.gather(*running)
    lost = 0
    for task in tasks:
        found = await wire.until_answered("req", "find", task.partition(".")[0], {"task": task})
        lost += found["state"] != "done"
    return Failover(took, len(tasks), lost, sum(count > 1 for count in ends.values()))


async def run_to_end(crew: Crew, task: str, ends: Counter[str], *, twice: bool) -> None:
    """Run what comes of it until an end is accepted; an attempt may be void after the owner's death."""
    while not ends[task]:
        worker, token, _ = await crew.attempt(task)
        if not await crew.start(worker, task, token):
            continue
        answers = await asyncio.gather(*(crew.finish(worker, task, token) for _ in range(2 if twice else 1)))
        ends[task] += sum(answer is not None for answer in answers)
