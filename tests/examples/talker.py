"""Asks the services of an installation and holds every answer, notice and broadcast against the published schemas.

The schemas are read from ``docs/schemas``, as somebody would who writes an agent in another language.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Generator
from itertools import count
from types import TracebackType
from typing import Any, Self

from jsonschema import Draft202012Validator

from bursar.bus.base import Msg, NoResponders
from bursar.bus.codec import JSON, MSGPACK, Encoding, decode_value, encode
from bursar.bus.connection import NatsBus, connect
from bursar.bus.signing import Verifier
from bursar.contracts.base import Request
from bursar.contracts.catalog import Kind, Operation, ServiceCatalog, catalogues
from bursar.contracts.catalog.common import OWNER, errors_of
from bursar.errors import CODES
from tests.bus.support import Awake
from tests.examples.installation import ROOT, Installation

CATALOGUES = {catalog.name: catalog for catalog in catalogues()}
SCHEMAS = {
    path.stem: Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))
    for path in (ROOT / "docs/schemas").glob("*.json")
}
PRINCIPALS: dict[Kind, str] = {"adm": "ops", "work": "worker-1", "node": "node-1"}
NOT_NOW = frozenset({"not_ready", "failed_closed"})
WITHIN = 15.0


def plain(value: Any) -> Any:
    """The same value as an answer in JSON would have it: bytes in base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def faults(name: str, value: Any) -> list[str]:
    """What is wrong with a value under a published schema."""
    return [f"{name}: {error.json_path} {error.message}" for error in SCHEMAS[name].iter_errors(plain(value))]


class Talker:
    """Connections of several principals; ``seen`` are the schemas that something valid was heard of."""

    def __init__(self, installation: Installation, agent: str = "agent-1") -> None:
        self.installation = installation
        self._agent = agent
        self.seen: set[str] = set()
        self.wrong: list[str] = []
        self.told: list[dict[str, Any]] = []
        self._buses: dict[str, NatsBus] = {}
        self._verifier = Verifier(json.loads((installation.home / "trust.json").read_text()))
        self._encodings = self._alternate()
        self._numbers = count(1)
        self._session = f"t{time.time_ns()}"

    async def __aenter__(self) -> Self:
        await (await self.bus("ops")).subscribe("bursar.evt.>", self._on_broadcast)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bus in self._buses.values():
            await bus.close()

    @staticmethod
    def _alternate() -> Generator[Encoding]:
        while True:
            yield MSGPACK
            yield JSON

    async def bus(self, principal: str) -> NatsBus:
        """The principal's connection, which listens to its notices."""
        if principal not in self._buses:
            place = self.installation
            bus = await connect([place.url], place.creds(principal), principal=principal)
            await bus.subscribe(f"bursar.assign.{principal}", self._on_notice)
            self._buses[principal] = bus
        return self._buses[principal]

    def operation(self, service: str, kind: Kind, verb: str) -> Operation:
        return CATALOGUES[service].verbs(kind)[verb]

    async def say(self, service: str, kind: Kind, verb: str, /, **fields: Any) -> None:
        """A plain publish: an observation, a sample, a message into an inbox."""
        operation = self.operation(service, kind, verb)
        bus = await self.bus(PRINCIPALS.get(kind, self._agent))
        subject = operation.subject(service, bus.principal)
        bus.publish(subject, encode({"v": 1, **fields}, next(self._encodings)))
        await bus.flush()

    async def ask(
        self, service: str, verb: str, kind: Kind = "req", /, *, encoding: Encoding | None = None, **fields: Any
    ) -> dict[str, Any]:
        """A request and its valid answer, which may be an error that the catalogue promises; asked again while the
        service is not ready."""
        operation = self.operation(service, kind, verb)
        bus = await self.bus(PRINCIPALS.get(kind, self._agent))
        named = {"id": f"{self._session}-{next(self._numbers)}"} if issubclass(operation.request, Request) else {}
        payload = encode({"v": 1, **named, **fields}, next(self._encodings) if encoding is None else encoding)
        deadline = time.monotonic() + WITHIN
        while True:
            assert time.monotonic() < deadline, f"{service} {verb} is not ready"
            try:
                reply = await bus.request(operation.subject(service, bus.principal), payload, 5.0)
            except NoResponders:
                await asyncio.sleep(0.05)
                continue
            answer, used = decode_value(reply.data)
            assert (used == JSON) == (payload[:1] == b"{"), "answered in another encoding"
            error = answer.get("error")
            if not isinstance(error, dict) or error["code"] not in NOT_NOW:
                self._check(service, operation, answer, reply)
                return answer
            await asyncio.sleep(0.05)

    async def until(self, what: str, try_it: Callable[[], Any], check: Callable[[Any], bool]) -> Any:
        """Ask again until the answer is as wanted."""
        awake = Awake(1.0)
        while not check(answer := await try_it()):
            assert awake.spent() < WITHIN, f"not in time: {what}; last {answer}"
            await asyncio.sleep(0.02)
        return answer

    async def broadcast(self, name: str) -> None:
        """Wait until one of this name was heard, as it is published."""

        async def look() -> bool:
            return name in self.seen

        await self.until(name, look, bool)

    async def notice(self, what: str, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first notice of which ``check`` is true."""

        async def look() -> dict[str, Any] | None:
            return next((body for body in self.told if check(body)), None)

        found: dict[str, Any] = await self.until(what, look, lambda body: body is not None)
        return found

    def _check(self, service: str, operation: Operation, answer: dict[str, Any], reply: Msg) -> None:
        if isinstance(answer.get("error"), dict):
            code = answer["error"]["code"]
            assert code in errors_of(operation), f"{service} {operation.verb} promises no {code}: {answer}"
            assert faults("common.ErrorReply", answer) == []
            headers = reply.headers or {}
            assert headers["Nats-Service-Error-Code"] == str(CODES[code].status)
            assert headers["Nats-Service-Error"].startswith(f"{code}: ")
            return
        names = [f"{service}.{model.__name__}" for model in operation.replies]
        fitting = [name for name in names if not faults(name, answer)]
        assert len(fitting) == 1, f"{answer} fits {fitting}; {[faults(name, answer) for name in names]}"
        self.seen.add(fitting[0])

    def _on_broadcast(self, msg: Msg) -> None:
        body = self._verifier.open(msg.subject, msg.data)
        _, _, service, kind, _ = msg.subject.split(".")
        events = {event.kind: event for event in CATALOGUES[service].events}
        name = "common.OwnerBeat" if kind == OWNER.kind else f"{service}.{events[kind].body.__name__}"
        self._heard(name, body)
        self._heard("common.Signed", decode_value(msg.data)[0])

    def _on_notice(self, msg: Msg) -> None:
        body = decode_value(msg.data)[0]
        self.told.append(body)
        names = [f"{c.name}.{telling.body.__name__}" for c in CATALOGUES.values() for telling in c.tellings]
        fitting = [name for name in names if not faults(name, body)]
        if len(fitting) == 1:
            self.seen.add(fitting[0])
        else:
            self.wrong.append(f"the notice {body} fits {fitting}")

    def _heard(self, name: str, body: dict[str, Any]) -> None:
        found = faults(name, body)
        self.wrong += found
        if not found:
            self.seen.add(name)

    def unheard(self, catalog: ServiceCatalog) -> set[str]:
        """The answers, broadcasts and notices of a service that were not heard yet."""
        models = [model for operation in catalog.operations for model in operation.replies]
        models += [event.body for event in catalog.events] + [telling.body for telling in catalog.tellings]
        return {f"{catalog.name}.{model.__name__}" for model in models} - self.seen
