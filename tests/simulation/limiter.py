"""The real limiter as a workload, and a provider that knows nothing of it: a key, two budgets that share it, agents and
runs with budgets of their own, and a purse.

The provider charges each call at a moment between its permit and its send deadline, on true time; what a client
knows of the limiter's time is what `bursar.client` knows: an answer's time is not older than its request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bursar.contracts.limiter import (
    PRIORITIES,
    Amounts,
    BudgetSpec,
    ChildSpec,
    Clock,
    LimitSpec,
    Reserve,
    Settle,
    Status,
    Usage,
    Withdraw,
)
from bursar.contracts.limiter_control import Progress
from bursar.contracts.limiter_observed import Adapting, RateLimited
from bursar.kernel.decider import Decider, Fence
from bursar_limiter.checking import validate
from bursar_limiter.core import LimiterDecider
from bursar_limiter.reloading import LoadFile
from bursar_limiter.state import State
from tests.oracle.history import Limit
from tests.oracle.judge import seen_by_all
from tests.simulation.workload import Client, Question

if TYPE_CHECKING:
    from tests.simulation.world import World

WINDOW_MS = 2_000
REQUESTS = 12
TOKENS = 4_000
CONCURRENT = 6
RUNNING = 4
"""Calls in flight of one agent in the main budget."""
KEY, MAIN, SIDE, PURSE = "key", "key/main", "key/side", "purse"

BUDGETS = (
    BudgetSpec(
        name=KEY,
        limits={
            "requests": LimitSpec(limit=REQUESTS, window_ms=WINDOW_MS),
            "input_tokens": LimitSpec(limit=TOKENS, window_ms=WINDOW_MS),
            "concurrent": LimitSpec(limit=CONCURRENT, window_ms=0),
        },
        burst_permille=400,
        max_ttl_ms=4_000,
        max_waiting=20,
        adapt=Adapting(recover=False),  # what is looked for is found under load
    ),
    BudgetSpec(
        name=MAIN,
        parent=KEY,
        each_agent=ChildSpec(limits={"concurrent": LimitSpec(limit=RUNNING, window_ms=0)}),
        each_run=ChildSpec(limits={"requests": LimitSpec(limit=9, window_ms=3_000, paced=False)}, weight=50),
        also=(PURSE,),
        max_ttl_ms=4_000,
        max_waiting=20,
    ),
    BudgetSpec(name=SIDE, parent=KEY, weight=200, max_ttl_ms=4_000, max_waiting=20),
    BudgetSpec(name=PURSE, kind="purse", limits={"usd_micros": LimitSpec(limit=10**9, window_ms=0)}, max_ttl_ms=4_000),
)


class Charge(NamedTuple):
    """A call at the provider: whose it is, charged when (true ms), over when, how many tokens."""

    who: str
    at: int
    until: int
    tokens: int


class LimiterWorkload:
    name = "limiter"

    def __init__(self) -> None:
        self.charges: list[Charge] = []
        self.void = 0
        self.withdrawn: set[tuple[str, str]] = set()
        self.offsets: dict[tuple[Any, ...], int] = {}

    def decider(self) -> Decider[Any]:
        return LimiterDecider()

    def start(self) -> list[Any]:
        return [LoadFile(budgets=BUDGETS)]

    # ---- what clients ask

    def next(self, client: Client) -> tuple[Any, dict[str, Any], bool]:
        if client.todo:
            fields = client.todo.pop(0)
            return (Progress if fields.pop("so_far", False) else Settle), fields, False
        number = client.number * 5 + client.queries * 3
        waiting = [question for question in client.open.values() if getattr(question.body, "wait_ms", 0)]
        if waiting and number % 4 == 0:
            self.withdrawn.add((client.name, waiting[0].request_id))
            return Withdraw, {"budget": waiting[0].body.budget, "request": waiting[0].request_id}, False
        if number % 11 == 0:
            client.queries -= 1
            return (Status, {}, True) if number % 2 else (Clock, {}, True)
        if number % 41 == 0:
            return RateLimited, {"budget": MAIN, "retry_after_ms": 20 + number % 200}, False
        tokens = 50 + number * 7919 % 900
        wait = (0, 0, 300, 1_500)[number % 4]
        fields = {
            "budget": "key/none" if number % 37 == 0 else (MAIN, SIDE, MAIN, KEY)[number // 5 % 4],
            "amounts": Amounts(input_tokens=tokens, usd_micros=tokens),
            "wait_ms": wait,
            "ttl_ms": 1_000 + number % 3_000,
            "priority": PRIORITIES[number // 3 % 3],
            "run": (None, "one", "two")[number % 3],
            "also": () if number % 7 else (PURSE,),
        }
        return Reserve, fields, False

    def last(self) -> tuple[Any, dict[str, Any]]:
        return Status, {}

    def seen_field(self, fence: Fence | None) -> dict[str, Any]:
        return {} if fence is None else {"seen": f"{fence[0]}.{fence[1]}.{fence[2]}.{'0' * 16}"}

    def changed(self, body: Any) -> Any:
        if isinstance(body, Reserve):
            more = body.amounts.model_copy(update={"input_tokens": body.amounts.input_tokens + 1})
            return body.model_copy(update={"amounts": more})
        return None

    # ---- what they do with the answers

    def took(self, world: World, client: Client, question: Question, reply: dict[str, Any]) -> None:
        if not isinstance(question.body, Reserve) or not reply.get("ok"):
            return
        epoch = tuple(map(int, reply["reservation"].split(".")))[:2]
        clock = (client.name, *epoch)
        simulator = world.simulator
        bound = question.asked_at - (reply["granted_at_ms"] + 1)
        bound = self.offsets[clock] = max(bound, self.offsets.get(clock, bound))
        reservation = reply["reservation"]
        if (client.name, question.request_id) in self.withdrawn:  # it may have been cancelled: nobody may use it
            client.todo.append({"reservation": reservation, "outcome": "cancelled"})
            return
        sends_at = simulator.now + simulator.between(0, 40)
        if sends_at > reply["send_by_at_ms"] + bound:
            self.void += 1
            client.todo.append({"reservation": reservation, "outcome": "cancelled"})
            return
        tokens = simulator.between(1, question.body.amounts.input_tokens)
        charged_at = sends_at + simulator.between(0, 200)
        ends_at = charged_at + simulator.between(10, 250)
        who = client.name if question.body.budget == MAIN else ""
        self.charges.append(Charge(who, charged_at, ends_at, tokens))
        if tokens % 3 == 0:
            told = {"so_far": True, "reservation": reservation, "usage": Usage(input_tokens=tokens // 2, usd_micros=1)}
            simulator.at(charged_at - simulator.now, client.todo.append, told)
        simulator.at(ends_at - simulator.now, self._end, client, reservation, tokens)

    def _end(self, client: Client, reservation: str, tokens: int) -> None:
        client.todo.append({"reservation": reservation, "usage": Usage(input_tokens=tokens, usd_micros=tokens)})

    # ---- what must hold

    def check_state(self, state: State, now: int) -> None:
        validate(state, now)

    def check_end(self, world: World) -> None:
        """No provider that rolls its windows, or starts them on the clock, has seen too much."""
        world.checker.counts["charges"] = len(self.charges)
        world.checker.counts["void"] = self.void
        if world.checker.lossy:
            return
        for limit, amounts in (
            (REQUESTS, [(charge.at, 1) for charge in self.charges]),
            (TOKENS, [(charge.at, charge.tokens) for charge in self.charges]),
        ):
            seen_by_all(Limit(KEY, "amount", limit, WINDOW_MS), amounts).must_be_clean()
        for charge in self.charges:
            flying = sum(other.at <= charge.at < other.until for other in self.charges)
            assert flying <= CONCURRENT, f"{flying} calls in flight"
            mine = sum(other.at <= charge.at < other.until and other.who == charge.who for other in self.charges)
            assert not charge.who or mine <= RUNNING, f"{mine} calls of {charge.who} in flight"
