"""What the stand-ins for the kernel have in common: they decide at once, and let time pass where something is due."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bursar.contracts.base import Request
from bursar.kernel.decider import Accept, Command, Decider, Outcome, Park


class DeskBase:
    """``now`` is the decider's clock; answers to parked commands go to ``answers``. Whoever derives from it makes
    ``decider`` and ``state``, and decides and applies in ``_decide``."""

    decider: Decider[Any]
    state: Any

    def __init__(self, now: int, incarnation: int) -> None:
        self.now = now
        self.incarnation = incarnation
        self.number = 0
        self.serial = 0
        self.answers: dict[tuple[str, str], Outcome] = {}

    def _decide(self, command: Command) -> Outcome:
        raise NotImplementedError

    def new_id(self) -> str:
        self.serial += 1
        return f"t-{self.serial}"

    def ask(self, body: Any, principal: str = "agent") -> Outcome:
        """Decide one command and apply it, without handing out what is due."""
        return self._decide(Command(principal, body.id if isinstance(body, Request) else "", body))

    def must(self, body: Any, principal: str = "agent") -> dict[str, Any]:
        outcome = self.ask(body, principal)
        assert isinstance(outcome, Accept), outcome
        return outcome.reply

    def settle_due(self) -> None:
        """Hand out everything that is due now."""
        for _ in range(100_000):
            command = self.decider.due(self.state, self.now)
            if command is None:
                break
            outcome = self._decide(command)
            if command.request_id and not isinstance(outcome, Park):
                self.answers[command.principal, command.request_id] = outcome
        else:
            raise AssertionError("due hands out commands for ever")
        wake = self.decider.wake_at(self.state)
        assert wake is None or wake > self.now, "due has nothing, but asks to be woken at once"

    def moments(self, to: int) -> Iterator[None]:
        """Let time pass until then, stopping wherever something is due, before and after it is handed out."""
        while True:
            self.settle_due()
            yield
            wake = self.decider.wake_at(self.state)
            if wake is None or wake > to:
                break
            self.now = max(self.now, wake)
        if self.now < to:
            self.now = to
            self.settle_due()
            yield
