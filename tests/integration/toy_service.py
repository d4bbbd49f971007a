"""A small service that makes losses visible: it counts, and remembers under which number each request was counted.

Run as a process: ``python -m tests.integration.toy_service`` with the settings of every service in the environment.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bursar.contracts import base
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse
from bursar.kernel.host import run
from bursar.kernel.settings import ServiceSettings
from bursar.kernel.spec import ServiceSpec, Verb

SERVICE = "counter"
RECOVERY_CHARGE = 1_000_000
"""What a recovery adds: more than can have been lost, so that no number is ever given out twice."""


class Add(base.Request):
    """Count one; an odd ``k`` below zero is refused."""

    k: int = 1


class Get(base.Query):
    """The number so far."""


@dataclass
class Counted:
    """``counted``: the number of each request ("principal/id"); ``twice``: those that were counted again."""

    n: int = 0
    digest: bytes = b""
    recoveries: int = 0
    counted: dict[str, int] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)


class Counter:
    """Numbers without gaps or repetitions."""

    name = SERVICE
    version = 1

    def initial(self) -> Counted:
        return Counted()

    def decide(self, state: Counted, command: Command, now: int, fence: Fence) -> Outcome:
        body = command.body
        if isinstance(body, Get):
            return Refuse({"ok": True, "n": state.n, "digest": state.digest.hex()})
        if body.k < 0:
            return Refuse({"ok": False, "n": state.n})
        name = f"{command.principal}/{command.request_id}"
        return Accept([("counted", name, body.k)], {"ok": True, "n": state.n + body.k})

    def evolve(self, state: Counted, event: Event) -> None:
        if event[0] == "recovered":
            state.recoveries += 1
            state.n += RECOVERY_CHARGE
            return
        _, name, k = event
        state.n += k
        if name in state.counted:
            state.twice.append(name)
        state.counted[name] = state.n
        state.digest = hashlib.blake2b(state.digest + name.encode(), digest_size=8).digest()

    def due(self, state: Counted, now: int) -> Command | None:
        return None

    def wake_at(self, state: Counted) -> int | None:
        return None

    def recover(self, state: Counted, now: int) -> Sequence[Event]:
        return [("recovered",)]

    def dump(self, state: Counted) -> Any:
        return [state.n, state.digest, state.recoveries, list(state.counted.items()), state.twice]

    def load(self, value: Any) -> Counted:
        n, digest, recoveries, counted, twice = value
        return Counted(n, digest, recoveries, dict(counted), list(twice))

    def describe(self, event: Event) -> str:
        return " ".join(map(str, event))


SPEC = ServiceSpec(SERVICE, "0.1.0", "counts", Counter, {"add": Verb(Add), "get": Verb(Get, query=True)})

if __name__ == "__main__":
    sys.exit(run(SPEC, ServiceSettings()))
