"""The scheduler's own order and placement over a day of calls, in virtual time: how long they wait, and how evenly.

Arrivals are those of the Azure LLM trace of 2023 (code), or of a generator with its statistics where there is no file.
They are squeezed or stretched to a load (work that arrives over what all slots do). A call takes time for its prompt
and for its answer, more on slow workers; agents and programs own calls unevenly, as fleets do. Ours: `ordering.choose`
and a policy of `placing` on arrays, with run times that are learned on the way. Beside it: first come, first served,
round robin. Nothing is drawn but from seeds: a run can be repeated.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple

from bench.figures import quantile
from bursar.demo.trace import Arrival, scaled
from bursar_scheduler.accounts import Who
from bursar_scheduler.fairness import Ledger
from bursar_scheduler.fleet import Fleet, Load, Offer
from bursar_scheduler.ordering import Line, choose
from bursar_scheduler.placing import POLICIES
from bursar_scheduler.scoring import Ask
from bursar_scheduler.speeds import Speeds

LANE = "llm"
AGENTS = 8
SPEEDS = (100, 100, 100, 140, 140, 200, 200, 300)
"""Run times of the kinds of workers in percent of the fastest; two slots each."""
SLOTS = 2
WINDOW_MS = 10_000
DEADLINE_MS = 5_000
"""A call is late when it takes more than ten times its own time and this."""


class Call:
    """One task. ``base_ms``: its run time on the fastest worker."""

    __slots__ = (
        "band", "base_ms", "deadline_at", "ended_at", "listed", "order", "size", "started_at", "submitted_at", "who",
        "worker",
    )  # fmt: skip

    def __init__(self, order: int, at: int, who: Who, base_ms: int, size: str) -> None:
        self.order = order
        self.submitted_at = at
        self.who = who
        self.base_ms = base_ms
        self.size = size
        self.band = 1
        self.deadline_at = at + 10 * base_ms + DEADLINE_MS
        self.listed = False
        self.started_at = self.ended_at = 0
        self.worker = ""

    @property
    def expected_ms(self) -> int:
        return self.base_ms

    @property
    def wait_ms(self) -> int:
        return self.started_at - self.submitted_at

    @property
    def slowdown(self) -> float:
        return (self.ended_at - self.submitted_at) / self.base_ms


def base_ms(arrival: Arrival) -> int:
    """5,000 prompt tokens or 50 answer tokens a second, and 20 ms beside."""
    return 20 + arrival.context_tokens // 5 + arrival.generated_tokens * 20


def capacity() -> float:
    """Milliseconds of base work per millisecond that all slots do together."""
    return sum(SLOTS * 100 / percent for percent in SPEEDS)


def calls_of(arrivals: Sequence[Arrival], load: float, seed: int = 1) -> list[Call]:
    """The calls at this load: the first agents have most of them, in bursts of one program."""
    rng = random.Random(seed)
    work = sum(base_ms(arrival) for arrival in arrivals)
    calls: list[Call] = []
    agent, program = "a0", "p0"
    for number, arrival in enumerate(scaled(arrivals, work / (load * capacity()) / 1_000)):
        if rng.random() < 0.2:
            agent = f"a{min(int(rng.expovariate(0.45)), AGENTS - 1)}"
            program = f"p{number}" if rng.random() < 0.3 else f"{agent}-main"
        size = "short" if arrival.context_tokens < 500 else "middle" if arrival.context_tokens < 3_000 else "long"
        who = Who("fleet", agent, program)
        calls.append(Call(number, int(arrival.at * 1_000), who, base_ms(arrival), size))
    return calls


class Discipline:
    """An order and a placement: `come`, then `next` as long as it gives something, `gone` at each end."""

    def __init__(self, policy: str, speeds: Sequence[int] = SPEEDS, slots: int = SLOTS) -> None:
        self.speeds = Speeds()
        self.fleet = Fleet(self.speeds)
        self.fleet.lane(LANE, lambda _: True)
        for number in range(len(speeds)):
            self.fleet.join(Offer(f"w{number}", slots=slots))
        self._place = POLICIES[policy]
        self._number = 0

    def come(self, call: Call, now: int) -> None:
        raise NotImplementedError

    def first(self, now: int) -> Call | None:
        raise NotImplementedError

    def take(self, call: Call, now: int) -> None:
        raise NotImplementedError

    def next(self, now: int) -> Call | None:
        """A call that starts now, with its worker."""
        call = self.first(now)
        if call is None:
            return None
        expected = self.speeds.expect_us(call.size)
        verdict = self._place(self.fleet, Ask(LANE, call.size, expected), self._number)
        if verdict is None:
            return None
        self._number += 1
        call.worker = self.fleet.last[LANE] = verdict.chosen.worker
        self.take(call, now)
        self._note(call, 1)
        return call

    def gone(self, call: Call, now: int) -> None:
        self.speeds.learn(call.size, call.worker, (now - call.started_at) * 1_000)
        self.fleet.learn(call.size, call.worker)
        self._note(call, -1)

    def _note(self, call: Call, sign: int) -> None:
        load = self.fleet.loads[self.fleet.rows[call.worker]]
        self.fleet.note(call.worker, Load(load.taken + sign))


class Fcfs(Discipline):
    """First come, first served."""

    def __init__(self, policy: str, speeds: Sequence[int] = SPEEDS, slots: int = SLOTS) -> None:
        super().__init__(policy, speeds, slots)
        self._queue: deque[Call] = deque()

    def come(self, call: Call, now: int) -> None:
        self._queue.append(call)

    def first(self, now: int) -> Call | None:
        return self._queue[0] if self._queue else None

    def take(self, call: Call, now: int) -> None:
        self._queue.popleft()


class Fair(Discipline):
    """The scheduler's order."""

    def __init__(self, policy: str, speeds: Sequence[int] = SPEEDS, slots: int = SLOTS) -> None:
        super().__init__(policy, speeds, slots)
        self.ledger = Ledger()
        self.ledger.set_capacity(len(speeds) * slots)
        self._line: Line[Call] = Line(self.ledger)

    def come(self, call: Call, now: int) -> None:
        self.ledger.admit(call.who)
        call.listed = True
        self._line.join(call, now)

    def first(self, now: int) -> Call | None:
        return choose([self._line], now)

    def take(self, call: Call, now: int) -> None:
        call.listed = False
        self._line.leave(call)
        charge = self.speeds.expect_us(call.size, call.worker) // 1_000
        self.ledger.begin(call.who, str(call.order), now, charge, waited=now - call.submitted_at)

    def gone(self, call: Call, now: int) -> None:
        super().gone(call, now)
        self.ledger.end(str(call.order), now)
        self.ledger.retire(call.who)


def play(calls: Sequence[Call], discipline: Discipline, speeds: Sequence[int] = SPEEDS) -> list[int]:
    """Run all to their ends; how many wait, each time that one comes."""
    percent = {f"w{number}": speed for number, speed in enumerate(speeds)}
    running: list[tuple[int, int, Call]] = []
    waiting, seen = 0, []

    def ends(until: int) -> None:
        nonlocal waiting
        while running and running[0][0] <= until:
            now = running[0][0]
            while running and running[0][0] == now:
                discipline.gone(heappop(running)[2], now)
            waiting -= begin(now)

    def begin(now: int) -> int:
        count = 0
        while (call := discipline.next(now)) is not None:
            call.started_at = now
            call.ended_at = now + max(1, call.base_ms * percent[call.worker] // 100)
            heappush(running, (call.ended_at, call.order, call))
            count += 1
        return count

    for call in calls:
        ends(call.submitted_at)
        discipline.come(call, call.submitted_at)
        waiting += 1 - begin(call.submitted_at)
        seen.append(waiting)
    ends(1 << 60)
    assert waiting == 0, "a call has been forgotten"
    return seen


class Outcome(NamedTuple):
    """Waits in s, slowdowns (time in the system over own time), share of late calls, `fairness`."""

    wait_mean_s: float
    wait_p95_s: float
    wait_p99_s: float
    slowdown_mean: float
    missed: float
    jain: float


def judge(calls: Sequence[Call]) -> Outcome:
    waits = [call.wait_ms / 1_000 for call in calls]
    return Outcome(
        sum(waits) / len(waits), quantile(waits, 0.95), quantile(waits, 0.99),
        sum(call.slowdown for call in calls) / len(calls),
        sum(call.ended_at > call.deadline_at for call in calls) / len(calls), fairness(calls),
    )  # fmt: skip


def fairness(calls: Sequence[Call]) -> float:
    """Jain's index by agent: of the slot time that agents got in each ten seconds in which they wanted more all the
    time, two of them at least. Agents have equal weights, so it is 1 where each of them got as much as the others."""
    windows: dict[int, dict[str, int]] = {}
    for agent in {call.who.agent: None for call in calls}:
        own = [call for call in calls if call.who.agent == agent]
        wanted = _windows_within(_merged([(call.submitted_at, call.started_at) for call in own]))
        got = dict.fromkeys(wanted, 0)
        for call in own:
            for window in range(call.started_at // WINDOW_MS, call.ended_at // WINDOW_MS + 1):
                if window in got:
                    first, last = window * WINDOW_MS, (window + 1) * WINDOW_MS
                    got[window] += max(0, min(last, call.ended_at) - max(first, call.started_at))
        for window, service in got.items():
            windows.setdefault(window, {})[agent] = service
    indexes = [jain(list(got.values())) for got in windows.values() if len(got) > 1]
    return sum(indexes) / len(indexes) if indexes else 1.0


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _windows_within(spans: list[tuple[int, int]]) -> list[int]:
    """Numbers of the windows that lie in one of the spans as a whole."""
    return [
        window
        for first, last in spans
        for window in range(-(-first // WINDOW_MS), last // WINDOW_MS)
    ]  # fmt: skip


def jain(values: Sequence[float]) -> float:
    """1 when all have the same, 1/n when one has all (Jain, Chiu and Hawe, DEC-TR-301, 1984)."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


DISCIPLINES: dict[str, Callable[[], Discipline]] = {
    "ours": lambda: Fair("score"),
    "fcfs": lambda: Fcfs("round_robin"),
}


def compare(arrivals: Sequence[Arrival], loads: Sequence[float]) -> dict[str, Any]:
    """Flat figures of each discipline at each load."""
    figures: dict[str, Any] = {}
    for load in loads:
        for name, make in DISCIPLINES.items():
            calls = calls_of(arrivals, load)
            play(calls, make())
            for what, value in judge(calls)._asdict().items():
                figures[f"trace_{name}_{round(load * 100)}_{what}"] = round(value, 4)
    return figures
