"""Commands that nobody waits for: whatever is decided for them, nothing is answered and nothing ends."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Park, Refuse, Reject
from bursar.kernel.desk import MAX_DECISION_BYTES, Desk, Request
from bursar.kernel.fold import Folded


class Obeys:
    """A decider that does what the command's body says."""

    name = "obeys"
    version = 1

    def initial(self) -> list[Any]:
        return []

    def decide(self, state: list[Any], command: Command, now: int, fence: Fence) -> Outcome:
        body = command.body
        if isinstance(body, Exception):
            raise body
        outcome: Outcome = body
        return outcome

    def evolve(self, state: list[Any], event: Event) -> None:
        state.append(event[1])

    def due(self, state: list[Any], now: int) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def _decided(body: Any) -> Desk:
    desk = Desk(Folded(Obeys()))
    desk.decide(Request(None, Command("a1", "", body), b"", 0), 1)
    return desk


@pytest.mark.parametrize("outcome", [Refuse({}), Reject("bad_request", "no"), Park()])
def test_a_refused_observation_leaves_nothing_behind(outcome: Outcome) -> None:
    """No answer, no entry, and no ticket to send away."""
    desk = _decided(outcome)
    assert desk.batch is not None
    assert desk.batch.is_empty
    assert desk.send_away_parked() == []


def test_an_accepted_observation_is_journaled_and_not_answered() -> None:
    """Its events are folded; nothing is remembered for a retry, since it has no request id."""
    desk = _decided(Accept([("seen", 7)], {"ok": True}))
    assert desk.batch is not None
    assert len(desk.batch.packed) == 1
    assert desk.batch.answers == []
    assert desk.folded.state == [7]


def test_a_fault_on_an_observation_is_told_and_ends_nothing() -> None:
    """The decider's mistake costs that observation; the shell logs it."""
    desk = _decided(KeyError("a fault"))
    assert [type(fault.error) for fault in desk.faults] == [KeyError]
    assert desk.batch is not None
    assert desk.batch.is_empty


def test_what_does_not_fit_into_the_journal_is_told() -> None:
    """Nobody else hears of it, and what is due will be due again."""
    desk = _decided(Accept([("seen", bytes(MAX_DECISION_BYTES))], {}))
    assert [str(fault.error) for fault in desk.faults] == [
        f"the decision does not fit into the journal: Accept, {MAX_DECISION_BYTES + 23} bytes"
    ]
    assert desk.folded.state == []
