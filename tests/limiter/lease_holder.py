"""A holder of leases in a test: the real client's account (`bursar.client.local`) against the decider, without a
network. Its clock may be ahead, behind, and faster or slower; its messages may be late or never arrive."""

from __future__ import annotations

from typing import Any

from bursar.client.local import NOTHING, Hand, HeldLease
from bursar.client.local_book import Book, Report
from bursar.client.local_permit import LocalPermit
from bursar.contracts.limiter_lease import Lease, Renew, Return
from bursar.kernel.decider import Accept, Outcome
from tests.limiter.fleet import Desk

MS = 1_000_000


def hand(
    requests: int = 0, input_tokens: int = 0, output_tokens: int = 0, concurrent: int = 0, usd_micros: int = 0
) -> Hand:
    return (requests, input_tokens, output_tokens, concurrent, usd_micros, 0, 0)


class Holder:
    """``skew``: how much faster its clock goes, in parts of a million."""

    def __init__(
        self, desk: Desk, principal: str = "agent", budget: str = "b", *, skew: int = 0, ttl_ms: int = 10_000
    ) -> None:
        self.desk = desk
        self.principal = principal
        self.budget = budget
        self.skew = skew
        self.ttl_ms = ttl_ms
        self.book = Book(budget, ttl_ms * MS)
        self.lease = HeldLease(self.book, self.clock)
        self.key = ""
        self.told: dict[str, Any] = {}

    def clock(self) -> int:
        return self.desk.now * (MS + self.skew) + 10**15

    def ask(self, want: Hand, demand: Hand = NOTHING) -> Outcome:
        """A new lease; its answer is taken at once."""
        sent = self.clock()
        body = Lease(id=self.desk.new_id(), budget=self.budget, want=want, demand=demand, ttl_ms=self.ttl_ms)
        outcome = self.desk.ask(body, self.principal)
        if isinstance(outcome, Accept):
            self.told = outcome.reply
            self.key = self.told["lease"]
            self.lease.period = 1
            self.book.rules(self.told["limited"], self.told["held"])
            self.hear(sent, outcome.reply)
        return outcome

    def report(self, unused: Hand = NOTHING) -> tuple[int, Report]:
        """When it is sent (own clock), and what it says."""
        return self.clock(), self.book.report(self.lease, self.clock(), unused)

    def renewal(self, told: Report, want: Hand = NOTHING, demand: Hand = NOTHING) -> Renew:
        return Renew(id=self.desk.new_id(), want=want, demand=demand, **self._fields(told))

    def renew(self, want: Hand = NOTHING, demand: Hand = NOTHING, unused: Hand = NOTHING) -> Outcome:
        """Report and ask, and take the answer at once."""
        self.lapse()
        sent, told = self.report(unused)
        outcome = self.desk.ask(self.renewal(told, want, demand), self.principal)
        if isinstance(outcome, Accept):
            self.told = outcome.reply
            self.hear(sent, outcome.reply)
        return outcome

    def give_back(self) -> Outcome:
        _, told = self.report(tuple(max(0, amount) for amount in self.lease.hand))  # type: ignore[arg-type]
        return self.desk.ask(Return(id=self.desk.new_id(), **self._fields(told)), self.principal)

    def hear(self, sent: int, reply: dict[str, Any]) -> None:
        """An answer, however late."""
        if reply.get("over"):
            return
        length = reply["length_ms"] * MS
        until = sent + length - length // 1000
        if until > self.clock():
            self.book.grant(self.lease, reply["add"], until, reply["good_for_ms"] * MS)

    def lapse(self) -> None:
        """As the client does before it uses an account whose lease is over."""
        if self.lease.until and self.clock() >= self.lease.until:
            self.book.lapse(self.lease, self.clock())

    def take(self, **amounts: int) -> LocalPermit | None:
        return self.lease.take(**{"requests": 0, "concurrent": 0, **amounts})

    def _fields(self, told: Report) -> dict[str, Any]:
        return {
            "lease": self.key,
            "period": told.period,
            "hand": told.hand,
            "unused": told.unused,
            "back": tuple((period, amounts) for period, amounts in told.back.items()),
            "done": told.done,
            "open": told.open,
            "calls": told.calls,
        }
