"""Service endpoints after ADR-32, over any `Bus`: what the `nats micro` commands see of a Bursar service.

Own rather than nats.micro, because there a raising handler answers by itself, with a printed Python object, on a
subject that the caller chose: an agent could write into a journal that way. The rules here:

- A message without a reply subject is dropped and counted before anything else is done with it.
- A reply subject must begin with ``_R.<principal>.``, where the principal is the last token of the request's subject;
  for ``$SRV`` and for other subjects it must begin with ``_R.`` and a well-formed principal. Otherwise the message is
  dropped and counted; nothing is ever sent to a subject that the caller chose freely, and no reply is ever empty.
- A handler is a plain function that takes a `Call` and returns at once. The call may be answered then or later, from
  anywhere, exactly once. So no call waits for another's handling.
- Latency is measured to the answer, and errors count whenever they come.
- A handler that raises answers ``internal`` and nothing of what was raised.

Endpoints listen in a queue group of their own instance: whether an instance hears requests is decided by whether it
listens (`Endpoint.listen`, `Endpoint.drain`), so that a paused standby swallows nothing. `$SRV.INFO` lists endpoints
whether they listen or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from time import perf_counter_ns
from typing import Any

from bursar.bus.base import Bus, BusError, Msg, Subscription
from bursar.bus.call import AlreadyAnswered, Call
from bursar.bus.codec import AGENT_LIMITS, BORDER_CODES, Encoding, Limits, encode_error
from bursar.bus.stats import EndpointStats, Violations
from bursar.contracts.base import PRINCIPAL
from bursar.errors import BursarError, CallerError, ServiceError

log = logging.getLogger("bursar.bus.micro")

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-+][0-9A-Za-z.+-]+)?")
_PRINCIPAL = re.compile(PRINCIPAL)
_ANY_INBOX = re.compile(r"_R\.[a-z0-9][a-z0-9-]{0,63}\.[^\s]*[^\s.]")
_KNOWN = 10_000
_LOG_EVERY_NS = 1_000_000_000

CallHandler = Callable[[Call], None]


class Endpoint:
    """One verb of a service; made by `Service.add_endpoint`."""

    def __init__(
        self, service: Service, name: str, subject: str, handler: CallHandler, queue_group: str, limits: Limits,
        metadata: dict[str, str] | None,
    ) -> None:  # fmt: skip
        self.name = name
        self.subject = subject
        self.queue_group = queue_group
        self.limits = limits
        self.metadata = metadata or {}
        self.stats = EndpointStats()
        self._service = service
        self._publish = service.bus.publish
        self._handler = handler
        self._now = service.clock_ns
        self._by_principal = subject.startswith(("bursar.req.", "bursar.adm.", "bursar.work."))
        self.wanted = True
        self._changing = asyncio.Lock()  # so that a subscription under way does not survive the drain after it
        self._sub: Subscription | None = None
        self._logged_ns = -_LOG_EVERY_NS

    @property
    def is_listening(self) -> bool:
        return self._sub is not None

    async def listen(self) -> None:
        """Hear requests from now on; returns when the server knows."""
        self.wanted = True
        async with self._changing:
            if self.wanted and self._sub is None:
                self._sub = await self._service.bus.subscribe(self.subject, self.deliver, self.queue_group)

    async def drain(self) -> None:
        """Hear no more; returns when what had arrived was handed to the handler."""
        self.wanted = False
        async with self._changing:
            sub, self._sub = self._sub, None
            if sub is not None:
                await sub.drain()

    async def stop(self) -> None:
        """Hear no more, at once."""
        self.wanted = False
        async with self._changing:
            sub, self._sub = self._sub, None
            if sub is not None:
                await sub.unsubscribe()

    def deliver(self, msg: Msg) -> None:
        """One message from the network."""
        reply = msg.reply
        stats = self.stats
        if not reply:
            stats.no_reply += 1
            return
        subject = msg.subject
        principal = subject[subject.rfind(".") + 1 :]
        if self._by_principal:
            prefix = self._service.prefixes.get(principal) or self._service.prefix(principal)
            if not reply.startswith(prefix) or reply[-1] == ".":
                self._refuse(principal)
                return
        elif not _ANY_INBOX.fullmatch(reply):
            self._refuse("*")
            return
        stats.num_requests += 1
        stats.open += 1
        call = Call(self, msg, principal, self._now())
        try:
            self._handler(call)
        except BursarError as error:
            self._raised(call, error, error)
        except Exception as error:  # noqa: BLE001 - whatever is raised must not end the delivery, nor be shown
            self._raised(call, error, ServiceError("internal", "the service failed to handle the request"))

    def send(
        self, call: Call, payload: bytes, headers: dict[str, str] | None, error: BursarError | None = None
    ) -> None:
        reply = call._reply
        if not reply:
            raise AlreadyAnswered
        call._reply = ""
        stats = self.stats
        stats.answered(self._now() - call.received_ns)
        if error is not None:
            stats.failed(error)
            if error.code in BORDER_CODES:
                self._service.violations.add(call.principal, error.code)
        if self._service.waiting is not None:
            self._service.settled()
        try:
            self._publish(reply, payload, "", headers)
        except BusError:
            stats.undelivered += 1
        except CallerError:
            stats.undelivered += 1
            self._say_too_large(reply, call.encoding)

    def _say_too_large(self, reply: str, encoding: Encoding) -> None:
        """Instead of an answer that the server would not take."""
        payload, headers = encode_error(ServiceError("internal", "the answer is too large to be sent"), encoding)
        with contextlib.suppress(BusError, CallerError):
            self._publish(reply, payload, "", headers)

    def forget(self) -> None:
        self.stats.open -= 1
        self.stats.dropped += 1
        if self._service.waiting is not None:
            self._service.settled()

    def _refuse(self, principal: str) -> None:
        self.stats.bad_reply += 1
        self._service.violations.add(principal if _PRINCIPAL.fullmatch(principal) else "*", "bad_reply")

    def _raised(self, call: Call, raised: Exception, told: BursarError) -> None:
        if call.is_open:
            call.fail(told)
        else:
            self.stats.failed(told)
        if told is not raised and call.received_ns - self._logged_ns >= _LOG_EVERY_NS:
            self._logged_ns = call.received_ns
            who = {"endpoint": self.name, "principal": call.principal}
            log.error("handler_failed", extra={**who, "error": type(raised).__name__})

    def info(self) -> dict[str, Any]:
        about = {"name": self.name, "subject": self.subject, "queue_group": self.queue_group}
        return {**about, "metadata": self.metadata}

    def statistics(self) -> dict[str, Any]:
        stats = self.stats
        answers = stats.num_requests - stats.open - stats.dropped
        return {
            "name": self.name,
            "subject": self.subject,
            "queue_group": self.queue_group,
            "num_requests": stats.num_requests,
            "num_errors": stats.num_errors,
            "last_error": stats.last_error,
            "processing_time": stats.processing_ns,
            "average_processing_time": stats.processing_ns // answers if answers else 0,
            "data": {**stats.data(), "listening": self.is_listening, **({"le": stats.histogram()} if answers else {})},
        }


class Service:
    """One instance of a service. ``version`` is a semantic version; ``metadata`` has strings only.

    ``clock_ns`` measures latencies and is used for nothing else. ``instance`` names the instance (random if empty).
    """

    def __init__(
        self,
        bus: Bus,
        name: str,
        version: str,
        description: str = "",
        metadata: Mapping[str, str] | None = None,
        *,
        instance: str = "",
        clock_ns: Callable[[], int] = perf_counter_ns,
    ) -> None:
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            raise ServiceError("internal", "a service needs a plain name and a semantic version")
        self.bus = bus
        self.name = name
        self.version = version
        self.description = description
        self.metadata = dict(metadata or {})
        self.id = instance or secrets.token_hex(11)
        self.clock_ns = clock_ns
        self.endpoints: dict[str, Endpoint] = {}
        self.violations = Violations()
        self.waiting: asyncio.Future[None] | None = None
        self.prefixes: dict[str, str] = {}
        self.started = datetime.now(UTC)
        self.control_dropped = 0
        self.about_process: Callable[[], Mapping[str, int | None]] | None = None
        """What the statistics say about the process, beside the endpoints."""
        self._control: list[Subscription] = []
        self._running = False

    async def add_endpoint(
        self,
        name: str,
        subject: str,
        handler: CallHandler,
        *,
        queue_group: str = "",
        limits: Limits = AGENT_LIMITS,
        metadata: dict[str, str] | None = None,
        listen: bool = True,
    ) -> Endpoint:
        """Add a verb. With ``listen`` it hears requests at once if the service runs, otherwise when it starts.

        ``queue_group``: this instance's id unless given.
        """
        endpoint = Endpoint(self, name, subject, handler, queue_group or self.id, limits, metadata)
        await self.add(endpoint, listen)
        return endpoint

    async def add(self, endpoint: Endpoint, listen: bool) -> None:
        """Add an endpoint that was made elsewhere, under a name that is not taken."""
        if not _NAME.fullmatch(endpoint.name) or endpoint.name in self.endpoints:
            raise ServiceError("internal", "an endpoint needs a plain name of its own", name=endpoint.name[:64])
        self.endpoints[endpoint.name] = endpoint
        endpoint.wanted = listen
        if listen and self._running:
            await endpoint.listen()

    async def start(self) -> None:
        """Answer `$SRV` requests and let the endpoints listen; returns when the server knows of all."""
        for verb, answer in (("PING", self.ping), ("INFO", self.info), ("STATS", self.stats)):
            for tail in ("", f".{self.name}", f".{self.name}.{self.id}"):
                self._control.append(await self.bus.subscribe(f"$SRV.{verb}{tail}", self._answering(answer)))
        self._running = True
        for endpoint in self.endpoints.values():
            if endpoint.wanted:
                await endpoint.listen()

    async def drain(self, timeout: float = 8.0) -> int:
        """Take no more requests and wait until all accepted ones were answered; how many were not in time.

        ``timeout`` in seconds.
        """
        self._running = False
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        await asyncio.gather(*(endpoint.drain() for endpoint in self.endpoints.values()))
        self.waiting = loop.create_future()
        self.settled()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self.waiting
        self.waiting = None
        await self._end_control()
        with contextlib.suppress(BusError):
            await self.bus.flush()
        return self.open

    async def stop(self) -> None:
        """Take no more requests, at once; open calls may still be answered."""
        self._running = False
        for endpoint in self.endpoints.values():
            await endpoint.stop()
        await self._end_control()

    @property
    def open(self) -> int:
        """Calls that were accepted and not answered yet."""
        return sum(endpoint.stats.open for endpoint in self.endpoints.values())

    def settled(self) -> None:
        if self.waiting is not None and not self.waiting.done() and self.open == 0:
            self.waiting.set_result(None)

    def prefix(self, principal: str) -> str:
        """Where this principal may be answered; something that no subject begins with if it is not well-formed."""
        if not _PRINCIPAL.fullmatch(principal):
            return "\n"
        if len(self.prefixes) >= _KNOWN:
            self.prefixes.clear()
        made = self.prefixes[principal] = f"_R.{principal}."
        return made

    def ping(self) -> dict[str, Any]:
        return self._about("ping")

    def info(self) -> dict[str, Any]:
        endpoints = [endpoint.info() for endpoint in self.endpoints.values()]
        return {**self._about("info"), "description": self.description, "endpoints": endpoints}

    def stats(self) -> dict[str, Any]:
        started = self.started.isoformat().replace("+00:00", "Z")
        endpoints = [endpoint.statistics() for endpoint in self.endpoints.values()]
        page = {**self._about("stats"), "started": started, "endpoints": endpoints}
        return page if self.about_process is None else {**page, "process": dict(self.about_process())}

    def _about(self, kind: str) -> dict[str, Any]:
        return {
            "type": f"io.nats.micro.v1.{kind}_response",
            "name": self.name,
            "id": self.id,
            "version": self.version,
            "metadata": self.metadata,
        }

    def _answering(self, answer: Callable[[], dict[str, Any]]) -> Callable[[Msg], None]:
        def on_control(msg: Msg) -> None:
            if not _ANY_INBOX.fullmatch(msg.reply):
                self.control_dropped += 1
                return
            try:
                self.bus.publish(msg.reply, json.dumps(answer()).encode())
            except BusError:
                self.control_dropped += 1

        return on_control

    async def _end_control(self) -> None:
        subs, self._control = self._control, []
        for sub in subs:
            await sub.unsubscribe()
