"""Where the instances of a service are and how well they are, without asking the whole fleet again and again.

Any service that speaks the NATS micro protocol (ADR-32) can be found, Bursar's own among them. An answer comes from
the nearest place that has it: this process (a cache whose entries live as long as what they say stays true: instances
30 s, endpoints 300 s, what a service is 600 s), then the monitor's picture, which tells of all services at once, then
the registry, which is the services themselves (``$SRV``). Whoever asks for the same thing meanwhile waits for the one
question that is under way. What is used is asked for again before it expires, so that a caller in a steady
flow never waits.

Instances that are watched are checked by ``$SRV.PING``, from every second to every minute the longer they are well
(`discovery_policy`); `routes` says how much of the traffic each should get, by its latency, its errors and its health.
Only operators and the monitor may ask ``$SRV``; others live on what the monitor says, and their checks ask it.

::

    async with bursar.connect() as fleet:
        await fleet.discovery.services()            # ("breaker", "limiter", ...)
        await fleet.discovery.instances("limiter")  # names, versions, latency, errors
        await fleet.discovery.routes("limiter")     # {"limiter-1": 1000, "limiter-2": 0}
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from aiocache import SimpleMemoryCache  # type: ignore[import-untyped]

from bursar.bus.base import Bus, BusError, Msg, Subscription
from bursar.bus.codec import decode_reply, encode
from bursar.client.discovery_policy import Candidate, Health, weights
from bursar.client.time import Clock, SystemClock
from bursar.contracts.base import request_subject
from bursar.contracts.monitor import SERVICE
from bursar.contracts.monitor_picture import Status, StatusReply
from bursar.errors import BursarError

TTL: Final[Mapping[str, float]] = {"instances": 30.0, "endpoints": 300.0, "services": 300.0, "about": 600.0}
"""Seconds for which a kind of answer is kept."""
_VERBS: Final = {"instances": "STATS", "endpoints": "INFO", "about": "INFO", "services": "PING"}
SHARED: Final = frozenset({"instances", "services"})
"""Kinds of answers that the monitor's picture has."""
OPERATORS: Final = frozenset({"ops"})
"""Principals that may ask ``$SRV``."""

FIRST_S: Final = 0.08
"""How long the first answer of a service is waited for."""
QUIET_S: Final = 0.01
"""Without another answer for so long, all have answered."""
STALE_MS: Final = 10_000
"""What the monitor heard longer ago is not believed."""
AHEAD: Final = 0.8
"""Part of an entry's life after which it is asked for again when it is used."""
TURN_S: Final = 0.25
MAX_KEPT: Final = 4_096


class Instance(NamedTuple):
    """``takes``: whether it takes requests; ``latency``: median of its answers, seconds."""

    name: str
    version: str
    takes: bool
    latency: float | None
    errors_permille: int


class Endpoint(NamedTuple):
    name: str
    subject: str


class About(NamedTuple):
    version: str
    description: str
    metadata: Mapping[str, str]


class _Kept(NamedTuple):
    """An answer and when (ms) it came."""

    value: Any
    at: float


Key = tuple[str, str]


class Discovery:
    """`bursar.Fleet.discovery`, or by itself with ``async with``. ``registry``: whether ``$SRV`` may be asked (None: by
    who asks); ``ttl``: seconds by kind. ``answered``: by which tier questions were answered ("local", "shared",
    "registry", "nobody")."""

    def __init__(
        self, bus: Bus, *, registry: bool | None = None, ttl: Mapping[str, float] = TTL, clock: Clock | None = None
    ) -> None:
        self._bus = bus
        self._registry = bus.principal in OPERATORS if registry is None else registry
        self._ttl = ttl
        self._clock = clock or SystemClock()
        self._cache = SimpleMemoryCache()
        self._known: dict[Key, float] = {}
        self._uses: Counter[Key] = Counter()
        self._asking: dict[Key, asyncio.Task[Any]] = {}
        self._health: dict[Key, tuple[Health, float]] = {}
        self._watched: set[str] = set()
        self._hearing: dict[str, Callable[[bytes], None]] = {}
        self._questions = 0
        self._inbox = ""
        self._opening = asyncio.Lock()
        self._subscription: Subscription | None = None
        self._turns: asyncio.Task[None] | None = None
        self.answered: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to look after what is known; needs a running event loop."""
        self._turns = asyncio.create_task(self._turn_for_ever())

    async def close(self) -> None:
        """Forget everything, and listen no more."""
        tasks = [task for task in (self._turns, *self._asking.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._cache.clear()
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    # ---- what callers ask

    async def services(self) -> tuple[str, ...]:
        """Names of all services that are there, in order; empty when nobody answers."""
        found: tuple[str, ...] = await self._find(("services", ""))
        return found

    async def instances(self, service: str) -> tuple[Instance, ...]:
        """Who is there; empty when nobody is."""
        found: tuple[Instance, ...] = await self._find(("instances", service))
        return found

    async def endpoints(self, service: str) -> tuple[Endpoint, ...]:
        """What the service listens to; empty when nobody answers, or ``$SRV`` may not be asked."""
        found: tuple[Endpoint, ...] = await self._find(("endpoints", service))
        return found

    async def about(self, service: str) -> About | None:
        """Its version and description; None when nobody answers."""
        found: tuple[About, ...] = await self._find(("about", service))
        return found[0] if found else None

    async def routes(self, service: str) -> dict[str, int]:
        """How much of the traffic each instance should get, thousandths of all."""
        candidates = {}
        for one in await self.instances(service):
            health, _ = self._health.get((service, one.name), (Health(), 0.0))
            candidates[one.name] = Candidate(
                health.is_up, one.takes, health.latency or one.latency, one.errors_permille
            )
        return weights(candidates)

    def watch(self, service: str) -> None:
        """Check the instances of this service from now on."""
        self._watched.add(service)

    def health(self, service: str, instance: str) -> Health | None:
        """What the checks of a watched instance have found; None before the first."""
        found = self._health.get((service, instance))
        return None if found is None else found[0]

    # ---- tiers

    async def _find(self, key: Key) -> Any:
        self._uses[key] += 1
        kept: _Kept | None = await self._cache.get(key)
        if kept is not None:
            self.answered["local"] += 1
            return kept.value
        return await asyncio.shield(self._ask(key))

    def _ask(self, key: Key) -> asyncio.Task[Any]:
        """The one question that is under way for this."""
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._fetch(key))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _fetch(self, key: Key) -> Any:
        kind, service = key
        found: tuple[Any, ...] = ()
        if kind in SHARED:
            picture = await self._shared()
            found = tuple(sorted(picture)) if kind == "services" else picture.get(service, ())
        if found:
            self.answered["shared"] += 1
        elif self._registry:
            found = _read(kind, await self._gather(f"$SRV.{_VERBS[kind]}.{service}".rstrip(".")))
            self.answered["registry" if found else "nobody"] += 1
        else:
            self.answered["nobody"] += 1
        if found:
            await self._keep(key, found)
        return found

    async def _keep(self, key: Key, value: Any) -> None:
        if key in self._known or len(self._known) < MAX_KEPT:
            self._known[key] = self._clock.now()
            self._uses[key] = 0
            await self._cache.set(key, _Kept(value, self._clock.now()), ttl=self._ttl[key[0]])

    async def _shared(self) -> Mapping[str, tuple[Instance, ...]]:
        """What the monitor says of all services; nothing when it does not answer."""
        subject = request_subject(SERVICE, "status", self._bus.principal)
        try:
            msg = await self._bus.request(subject, encode(Status(only="instances").model_dump()), FIRST_S)
            rows = decode_reply(StatusReply, msg.data, msg.headers).instances
        except BursarError:
            return {}
        found: dict[str, tuple[Instance, ...]] = {}
        for row in rows:
            if row.age_ms is None or row.age_ms >= STALE_MS:
                continue
            errors = row.errors * 1_000 // row.requests if row.requests else 0
            latency = None if row.p50_us is None else row.p50_us / 1e6
            one = Instance(row.instance, row.version, row.owner, latency, errors)
            found[row.service] = (*found.get(row.service, ()), one)
        for service, instances in found.items():
            await self._keep(("instances", service), instances)
        return found

    async def _gather(self, subject: str) -> list[dict[str, Any]]:
        """All answers to a question to every instance, until none comes any more."""
        pages: list[dict[str, Any]] = []
        heard = asyncio.Event()

        def hear(data: bytes) -> None:
            heard.set()
            try:
                page = json.loads(data)
            except ValueError:
                return
            if isinstance(page, dict) and len(pages) < MAX_KEPT:
                pages.append(page)

        self._questions += 1
        token = str(self._questions)
        self._hearing[token] = hear
        try:
            await self._listen()
            self._bus.publish(subject, b"", f"{self._inbox}.{token}")
            wait = FIRST_S
            while await _set_within(heard, wait):
                heard.clear()
                wait = QUIET_S
        except BusError:
            return []
        finally:
            del self._hearing[token]
        return pages

    async def _listen(self) -> None:
        """Have an inbox for answers of many; made for the first question of that kind."""
        async with self._opening:
            if self._subscription is None:
                self._inbox = self._bus.new_inbox()
                self._subscription = await self._bus.subscribe(f"{self._inbox}.*", self._on_answer)

    def _on_answer(self, msg: Msg) -> None:
        hear = self._hearing.get(msg.subject.rpartition(".")[2])
        if hear is not None:
            hear(msg.data)

    # ---- in the background

    async def _turn_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TURN_S)
            self._warm()
            for service in sorted(self._watched):
                await self._check(service)

    def _warm(self) -> None:
        """Ask again for what will be used again before it expires."""
        now = self._clock.now()
        for key, at in list(self._known.items()):
            life = self._ttl[key[0]] * 1_000
            if now - at >= life:
                del self._known[key]
                del self._uses[key]
            elif now - at >= AHEAD * life and self._uses[key] and key not in self._asking:
                self._ask(key)

    async def _check(self, service: str) -> None:
        """Ask the instances whose time has come whether they are there."""
        kept: _Kept | None = await self._cache.get(("instances", service))
        names = {one.name for one in (kept.value if kept is not None else await self._find(("instances", service)))}
        for gone in [key for key in self._health if key[0] == service and key[1] not in names]:
            del self._health[gone]
        now = self._clock.now()
        due = [name for name in names if self._health.get((service, name), (None, 0.0))[1] <= now]
        if due and not self._registry:
            here = {one.name: one.latency for one in (await self._shared()).get(service, ())}
            for name in due:
                self._note(service, name, name in here, here.get(name))
            return
        await asyncio.gather(*(self._ping(service, name) for name in due))

    async def _ping(self, service: str, name: str) -> None:
        asked = self._clock.now()
        try:
            await self._bus.request(f"$SRV.PING.{service}.{name}", b"", FIRST_S)
        except BusError:
            self._note(service, name, False, None)
        else:
            self._note(service, name, True, (self._clock.now() - asked) / 1_000)

    def _note(self, service: str, name: str, is_here: bool, latency: float | None) -> None:
        """What a check has found, and when the next one is."""
        before, _ = self._health.get((service, name), (Health(), 0.0))
        after = before.answered(latency) if is_here else before.failed()
        self._health[service, name] = (after, self._clock.now() + after.interval * 1_000)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return event.is_set()
    return True


def _read(kind: str, pages: list[dict[str, Any]]) -> tuple[Any, ...]:
    """What the answers of a kind say; a page that is not understood is left out."""
    found = []
    for page in pages:
        try:
            found.append(_READERS[kind](page))
        except (LookupError, TypeError, ValueError, AttributeError):
            continue
    if kind in SHARED:
        return tuple(sorted(set(found)))
    return tuple(found[0]) if found and kind == "endpoints" else tuple(found[:1])


def _instance(page: Mapping[str, Any]) -> Instance:
    endpoints = page["endpoints"]
    requests, errors = (sum(int(one[name]) for one in endpoints) for name in ("num_requests", "num_errors"))
    times = [
        (int(one["num_requests"]), int(one["average_processing_time"])) for one in endpoints if one["num_requests"]
    ]
    listening = [(one.get("data") or {}).get("listening", True) for one in endpoints]
    return Instance(
        str(page["id"]),
        str(page["version"]),
        any(listening) if listening else True,
        max(times)[1] / 1e9 if times else None,
        errors * 1_000 // requests if requests else 0,
    )


def _endpoints(page: Mapping[str, Any]) -> list[Endpoint]:
    return [Endpoint(str(one["name"]), str(one["subject"])) for one in page["endpoints"]]


def _about(page: Mapping[str, Any]) -> About:
    return About(str(page["version"]), str(page.get("description", "")), dict(page.get("metadata") or {}))


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "instances": _instance,
    "endpoints": _endpoints,
    "about": _about,
    "services": lambda page: str(page["name"]),
}
