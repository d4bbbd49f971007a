"""Holders of leases as a workload: they spend what they were given by themselves, report it, renew, give back, or are
never heard of again; and a provider that knows nothing of leases.

A holder's account is the real one (`bursar.client.local`). Its clock goes faster or slower than true time, it stands
still for longer than its lease, and whatever the simulated network does to its reports, each is made once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.client.local import NOTHING, Hand, HeldLease
from bursar.client.local_book import Book
from bursar.contracts.limiter import BudgetSpec, LimitSpec, Status
from bursar.contracts.limiter_lease import Lease, Renew, Return
from bursar.kernel.decider import Decider
from bursar_limiter.checking import validate
from bursar_limiter.core import LimiterDecider
from bursar_limiter.reloading import LoadFile
from bursar_limiter.state import State
from tests.oracle.history import Limit
from tests.oracle.judge import seen_by_all
from tests.simulation.limiter import LimiterWorkload
from tests.simulation.workload import Client, Question

if TYPE_CHECKING:
    from tests.simulation.world import World

MS: Final = 1_000_000
WINDOW_MS: Final = 2_000
TTL_MS: Final = 2_500
PARENT, CHILD = "key", "key/main"
TOKENS: Final = {PARENT: 1_600, CHILD: 1_400}
CONCURRENT: Final = 10
WANT: Final[Hand] = (0, 900, 0, 4, 0, 0, 0)
DEMAND: Final[Hand] = (0, 1_500, 0, 4, 0, 0, 0)


def spec(name: str, parent: str | None) -> BudgetSpec:
    limits: Any = {
        "input_tokens": LimitSpec(limit=TOKENS[name], window_ms=WINDOW_MS, paced=False),
        "concurrent": LimitSpec(limit=CONCURRENT, window_ms=0),
    }
    return BudgetSpec(name=name, parent=parent, limits=limits, max_ttl_ms=TTL_MS)


class Spent(NamedTuple):
    """A call at the provider: charged when (true ms), over when, how many tokens."""

    at: int
    until: int
    tokens: int


class Holder:
    """One client's lease. ``asked``: the request whose answer it waits for; ``is_on``: whether it spends."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.skew = (0, 800, -800)[number % 3]
        self.book = Book(CHILD, TTL_MS * MS)
        self.lease = HeldLease(self.book, self.clock)
        self.key = ""
        self.asked: Question | None = None
        self.stopped_until = 0

    def clock(self) -> int:
        return self.world.simulator.now * (MS + self.skew)

    def lapse(self) -> None:
        if self.lease.until and self.clock() >= self.lease.until:
            self.book.lapse(self.lease, self.clock())

    def report(self, unused: Hand = NOTHING) -> dict[str, Any]:
        told = self.book.report(self.lease, self.clock(), unused)
        back = tuple((period, amounts) for period, amounts in told.back.items())
        return {**told._asdict(), "back": back, "lease": self.key} | {"taken": None}


class LimiterLeasesWorkload(LimiterWorkload):
    name = "limiter-leases"

    def __init__(self) -> None:
        super().__init__()
        self.holders: dict[str, Holder] = {}
        self.world: World | None = None
        self.calls: list[Spent] = []

    def decider(self) -> Decider[Any]:
        return LimiterDecider()

    def begin(self, world: World) -> None:
        self.world = world

    def start(self) -> list[Any]:
        return [LoadFile(budgets=(spec(PARENT, None), spec(CHILD, PARENT)))]

    # ---- what holders ask

    def next(self, client: Client) -> tuple[Any, dict[str, Any], bool]:
        assert self.world is not None
        simulator = self.world.simulator
        holder = self.holders.get(client.name)
        if holder is None or self._is_lost(client, holder) or simulator.chance(0.004):
            holder = self.holders[client.name] = Holder(self.world, len(self.holders))
            self._spend(holder)
        if holder.asked is not None or simulator.now < holder.stopped_until:
            return Status, {}, True
        if simulator.chance(0.005):
            holder.stopped_until = simulator.now + simulator.between(500, 3_000)
            return Status, {}, True
        holder.lapse()
        if not holder.key:
            fields = {
                "budget": CHILD,
                "want": WANT,
                "demand": DEMAND,
                "ttl_ms": TTL_MS,
                "period": holder.lease.period + 1,
            }
            return Lease, fields, False
        if simulator.chance(0.015):
            fields = holder.report(holder.lease.hand)
            holder.key, holder.lease.until = "", 0
            return Return, _only(Return, fields), False
        unused: Hand = holder.lease.hand if simulator.chance(0.05) else NOTHING
        return Renew, _only(Renew, {**holder.report(unused), "want": WANT, "demand": DEMAND}), False

    def _is_lost(self, client: Client, holder: Holder) -> bool:
        """Whether its last report was given up, or refused: what it told is known to nobody else."""
        asked = next((q for q in client.open.values() if isinstance(q.body, Lease | Renew | Return)), None)
        if asked is not None:
            holder.asked = asked
            return False
        lost, holder.asked = holder.asked is not None, None
        return lost

    # ---- what they do with the answers

    def took(self, world: World, client: Client, question: Question, reply: dict[str, Any]) -> None:
        holder = self.holders.get(client.name)
        if holder is None or not isinstance(question.body, Lease | Renew | Return):
            return
        holder.asked = None
        if not reply.get("ok") or isinstance(question.body, Return):
            return
        if isinstance(question.body, Lease):
            if holder.key:
                return
            holder.key = reply["lease"]
            holder.book.restart(holder.lease, reply["limited"], reply["held"])
        holder.lapse()
        length = reply["length_ms"] * MS
        until = question.asked_at * (MS + holder.skew) + length - length // 1000
        if not reply.get("over") and holder.clock() < until and holder.key == reply["lease"]:
            holder.book.grant(holder.lease, tuple(reply["add"]), until, reply["good_for_ms"] * MS)

    def _spend(self, holder: Holder) -> None:
        """Now and again a call, as long as this holder is the one of its client."""
        assert self.world is not None
        simulator = self.world.simulator
        if holder not in self.holders.values():
            return
        simulator.at(simulator.between(2, 25), self._spend, holder)
        permit = (
            holder.lease.take(simulator.between(1, 120), 0, 0, 1) if simulator.now >= holder.stopped_until else None
        )
        if permit is None:
            return
        sends_at = simulator.now + simulator.between(0, 40)
        charged_at = sends_at + simulator.between(0, 200)
        ends_at = charged_at + simulator.between(10, 900)
        used = simulator.between(0, permit.input_tokens)
        self.calls.append(Spent(charged_at, ends_at, used))
        simulator.at(ends_at - simulator.now, permit.end, used)

    # ---- what must hold

    def check_state(self, state: State, now: int) -> None:
        validate(state, now)

    def check_end(self, world: World) -> None:
        """No window of any object has seen too much."""
        world.checker.counts["charges"] = len(self.calls)
        if world.checker.lossy:
            return
        for limit in TOKENS.values():
            amounts = [(charge.at, charge.tokens) for charge in self.calls]
            seen_by_all(Limit(CHILD, "amount", limit, WINDOW_MS), amounts).must_be_clean()
        for charge in self.calls:
            flying = sum(other.at <= charge.at < other.until for other in self.calls)
            assert flying <= CONCURRENT, f"{flying} calls in flight"


def _only(message: type[Renew | Return], fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in message.model_fields}
