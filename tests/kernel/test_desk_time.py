"""The time at which the desk decides."""

from __future__ import annotations

from typing import Any

from bursar.contracts.base import Request as Body
from bursar.kernel.decider import Accept, Command, Event, Fence
from bursar.kernel.desk import Desk, Request, digest_of
from bursar.kernel.entry import BATCH, GENESIS, decode, encode
from bursar.kernel.fold import Folded


class Stamps:
    """A decider whose state is the list of times at which it decided."""

    name = "stamps"
    version = 1

    def initial(self) -> list[int]:
        return []

    def decide(self, state: list[int], command: Command, now: int, fence: Fence) -> Accept:
        return Accept([("stamped", now)], {"now": now})

    def evolve(self, state: list[int], event: Event) -> None:
        state.append(event[1])

    def due(self, state: list[int], now: int) -> None:
        return None

    def wake_at(self, state: list[int]) -> None:
        return None

    def recover(self, state: list[int], now: int) -> list[Event]:
        return []

    def dump(self, state: list[int]) -> Any:
        return list(state)

    def load(self, value: Any) -> list[int]:
        return list(value)

    def describe(self, event: Event) -> str:
        return f"stamped at {event[1]}"


def test_a_request_is_decided_at_its_own_time_however_old_the_batch_is() -> None:
    """While an append is in flight a batch stays open; what joins it later is decided later, and replays so."""
    desk = Desk(Folded(Stamps()))
    for number, now in enumerate((100, 103, 103, 250)):
        body = Body(id=f"s-{number}")
        desk.decide(Request("ticket", Command("a", body.id, body), digest_of(body), 0), now)
    batch = desk.take()
    assert batch is not None

    replayed = Folded(Stamps())
    replayed.apply(decode(encode(BATCH, (1, 0, 1), b"id", batch.time, GENESIS, batch.packed)))

    assert desk.folded.state == [100, 103, 103, 250]
    assert replayed.dump() == desk.folded.dump()
    assert replayed.time == 250
