"""A small service with a durable inbox, which remembers what it took from whom, in which order.

Run as a process: ``python -m tests.integration.inbox_service``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bursar.contracts import base
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse
from bursar.kernel.host import run
from bursar.kernel.inbox import Delivered
from bursar.kernel.settings import ServiceSettings
from bursar.kernel.spec import Inbox, ServiceSpec, Verb

SERVICE = "postbox"


class Letter(base.Message):
    """What is posted."""

    k: int
    text: str = ""


class Count(base.Query):
    """How many letters were taken so far."""


@dataclass
class Taken:
    """``letters``: (sequence, principal, k or the code of the error), in the order in which they were decided."""

    position: int = 0
    letters: list[tuple[int, str, Any]] = field(default_factory=list)
    refused: int = 0


class Postbox:
    """Takes each letter once."""

    name = SERVICE
    version = 1

    def initial(self) -> Taken:
        return Taken()

    def decide(self, state: Taken, command: Command, now: int, fence: Fence) -> Outcome:
        body = command.body
        if isinstance(body, Count):
            return Refuse({"n": len(state.letters), "position": state.position, "again": state.refused})
        assert isinstance(body, Delivered)
        if body.sequence <= state.position:
            state.refused += 1
            return Refuse({})
        what = body.error if body.message is None else getattr(body.message, "k", None)
        return Accept([("took", body.sequence, command.principal, what)], {})

    def evolve(self, state: Taken, event: Event) -> None:
        _, sequence, principal, what = event
        state.position = sequence
        state.letters.append((sequence, principal, what))

    def due(self, state: Taken, now: int) -> Command | None:
        return None

    def wake_at(self, state: Taken) -> int | None:
        return None

    def recover(self, state: Taken, now: int) -> Sequence[Event]:
        return []

    def dump(self, state: Taken) -> Any:
        return [state.position, state.letters]

    def load(self, value: Any) -> Taken:
        position, letters = value
        return Taken(position, [(sequence, principal, what) for sequence, principal, what in letters])

    def describe(self, event: Event) -> str:
        return " ".join(map(str, event))


SPEC = ServiceSpec(
    SERVICE,
    "0.1.0",
    "takes letters",
    Postbox,
    {"count": Verb(Count, query=True)},
    inbox=Inbox(Letter, lambda state: int(state.position)),
)

if __name__ == "__main__":
    sys.exit(run(SPEC, ServiceSettings()))
