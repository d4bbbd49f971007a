"""The bill: who has spent what, and what that is less than it might have been.

Nothing is counted here. The limiter keeps what each principal has settled, the scheduler what the slots of its workers
cost; both books count each charge once, through retries, take-overs and restarts, and begin with their ledgers. The
monitor reads them every few seconds and puts a name to each sum: agent, team, model, class of tasks.

* What a call cost is what was settled; where nobody told money, its tokens at the prices of `Costing`.
* A worker calls a provider for others. What it has spent is told to those whose tasks it ran, each by the time of the
  worker's slots that it had: integers, and what is left over goes to the largest.
* A slot costs what its worker named, else the rate of its kind. What has no price is not known, and says so.

Savings are differences to another way that could have been gone, and each says in words what is assumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from bursar.contracts.limiter_control import Spent
from bursar.contracts.monitor_costs import Costing, Price
from bursar.contracts.scheduler_explain import SlotsSpent
from bursar_monitor.state import State, matches

LIMITER_BOOK: Final = "limiter/spending"
SCHEDULER_BOOK: Final = "scheduler/spending"
HOUR_MS: Final = 3_600_000
MILLION: Final = 1_000_000

Row = dict[str, Any]
Key = tuple[str, str, str, str, str]
"""Agent, team, model, class, source."""


class Item(NamedTuple):
    """One sum of the bill. ``micros`` None: not known."""

    micros: int | None
    calls: int
    input_tokens: int
    output_tokens: int
    slot_ms: int
    by: str
    shared: bool = False

    def plus(self, other: Item) -> Item:
        known = self.micros is not None and other.micros is not None
        return Item(
            (self.micros or 0) + (other.micros or 0) if known else None,
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.slot_ms + other.slot_ms,
            self.by if known else "unknown",
            self.shared or other.shared,
        )


Bill = dict[Key, Item]


def price_of(costing: Costing, budget: str) -> Price | None:
    return next((price for price in costing.prices if matches(price.budgets, budget)), None)


def tokens_at(price: Price, tokens_in: int, tokens_out: int) -> int | None:
    """Micro-dollars; None where the price names none."""
    if price.input_micros is None or price.output_micros is None:
        return None
    return (tokens_in * price.input_micros + tokens_out * price.output_micros) // MILLION


def slot_hour(costing: Costing, kind: str) -> int | None:
    return {
        "gpu": costing.gpu_slot_hour_micros,
        "cpu": costing.cpu_slot_hour_micros,
        "remote": costing.remote_slot_hour_micros,
    }.get(kind)


def bill_of(costing: Costing, calls: Iterable[Spent], slots: Iterable[SlotsSpent]) -> Bill:
    """All sums by their names."""
    bill: Bill = {}
    ran: dict[str, list[SlotsSpent]] = {}
    for row in slots:
        ran.setdefault(row.worker, []).append(row)
        _add(bill, (row.agent, row.team, "", row.task_class, "slots"), _slots(costing, row))
    for call in calls:
        price = price_of(costing, call.budget)
        model = (price.model if price is not None else "") or call.budget
        team = (price.team if price is not None else "") or call.parent or ""
        whole = _call(price, call)
        for agent, its_team, task_class, part in _shares(call.principal, team, whole, ran.get(call.principal, ())):
            _add(bill, (agent, its_team, model, task_class, "api"), part)
    return bill


def _add(bill: Bill, key: Key, item: Item) -> None:
    before = bill.get(key)
    bill[key] = item if before is None else before.plus(item)


def _slots(costing: Costing, row: SlotsSpent) -> Item:
    hour = slot_hour(costing, row.kind)
    if row.usd_micros or not row.slot_ms:
        micros, by = row.usd_micros, "worker"
    elif hour is None:
        return Item(None, row.attempts, 0, 0, row.slot_ms, "unknown")
    else:
        full = hour * row.slot_ms // HOUR_MS
        micros, by = full * (1_000 - costing.spot_discount_permille * row.preemptible) // 1_000, "rate"
    return Item(micros, row.attempts, 0, 0, row.slot_ms, by)


def _call(price: Price | None, row: Spent) -> Item:
    micros, by = row.usd_micros or None, "settled"
    if micros is None and price is not None:
        micros, by = tokens_at(price, row.input_tokens, row.output_tokens), "prices"
    if micros is None:
        by = "unknown"
    return Item(micros, row.requests, row.input_tokens, row.output_tokens, 0, by)


def _shares(principal: str, team: str, whole: Item, ran: Sequence[SlotsSpent]) -> Iterator[tuple[str, str, str, Item]]:
    """(agent, team, class, part) of what a principal has spent: its own, unless it is a worker."""
    total = sum(row.slot_ms for row in ran)
    if not total:
        yield principal, team, "", whole
        return
    weights = [row.slot_ms for row in ran]
    parts = [split(amount, weights) for amount in (whole.micros or 0, *whole[1:4])]
    for row, micros, calls, tokens_in, tokens_out in zip(ran, *parts, strict=True):
        known = None if whole.micros is None else micros
        yield row.agent, row.team or team, row.task_class, Item(known, calls, tokens_in, tokens_out, 0, whole.by, True)


def split(amount: int, weights: Sequence[int]) -> list[int]:
    """In proportion, as integers that add up to the amount; what is left over goes to the largest weight."""
    total = sum(weights)
    parts = [amount * weight // total for weight in weights]
    parts[weights.index(max(weights))] += amount - sum(parts)
    return parts


# ---- savings


def savings(costing: Costing, bill: Bill, slots: Sequence[SlotsSpent]) -> Iterator[Row]:
    yield from _against_reference(costing, bill)
    yield from _against_api(bill, slots)
    yield from _against_on_demand(costing, slots)


def _saving(name: str, actual: int | None, other: int | None, text: str) -> Row:
    saved = None if actual is None or other is None else other - actual
    return {"v": 1, "saving": name, "usd_micros": saved, "actual": actual, "counterfactual": other, "text": text}


def _against_reference(costing: Costing, bill: Bill) -> Iterator[Row]:
    """As if every call had gone to one model."""
    price = next((price for price in costing.prices if price.name == costing.reference), None)
    if price is None:
        return
    model = price.model or price.budgets
    known = [item for key, item in bill.items() if key[4] == "api" and item.micros is not None]
    others = [tokens_at(price, item.input_tokens, item.output_tokens) for item in known]
    if not known or None in others:
        yield _saving("models", None, None, f"{model} has no price for tokens, or nothing was spent yet.")
        return
    actual = sum(item.micros or 0 for item in known)
    tokens = sum(item.input_tokens + item.output_tokens for item in known)
    text = f"Against {model} for every call: the same {tokens} tokens at its price, answers of the same length."
    yield _saving("models", actual, sum(other or 0 for other in others), text)


def _against_api(bill: Bill, slots: Sequence[SlotsSpent]) -> Iterator[Row]:
    """As if what ran on own slots had been called for, at what calls of the same class cost."""
    runs: dict[tuple[str, bool], int] = {}
    for row in slots:
        key = (row.task_class, row.kind == "remote")
        runs[key] = runs.get(key, 0) + row.attempts
    called, own = _by_class(bill, "api"), _by_class(bill, "slots")
    both = [name for name, remote in runs if remote and runs.get((name, False)) and runs[name, True]]
    both = [name for name in both if called.get(name) is not None and own.get(name) is not None]
    if not both:
        return
    other = sum((called[name] or 0) * runs[name, False] // runs[name, True] for name in both)
    actual = sum(own[name] or 0 for name in both)
    here, there = (sum(runs[name, remote] for name in both) for remote in (False, True))
    text = (
        f"Against calls for {', '.join(sorted(both))}: {here} runs on own slots, each at what one of the {there} runs "
        f"by remote workers has cost in calls."
    )
    yield _saving("own slots", actual, other, text)


def _by_class(bill: Bill, source: str) -> Mapping[str, int | None]:
    sums: dict[str, int | None] = {}
    for (_, _, _, task_class, its_source), item in bill.items():
        if its_source == source and task_class:
            before = sums.get(task_class, 0)
            sums[task_class] = None if before is None or item.micros is None else before + item.micros
    return sums


def _against_on_demand(costing: Costing, slots: Sequence[SlotsSpent]) -> Iterator[Row]:
    """As if what ran on spot hosts had run on hosts that stay."""
    spot = [_slots(costing, row).micros for row in slots if row.preemptible and row.kind != "remote"]
    if not spot:
        return
    share = costing.spot_discount_permille
    if None in spot:
        yield _saving("spot", None, None, "Some slots on spot hosts have no price.")
        return
    actual = sum(micros or 0 for micros in spot)
    text = (
        f"Against hosts that stay: the same time of slots at the full price; spot hosts are {share / 10:g} % cheaper."
    )
    yield _saving("spot", actual, actual * 1_000 // (1_000 - share), text)


# ---- the picture


def rows(state: State, now: int) -> Iterator[Row]:
    """The dearest first."""
    bill = current(state)[0]
    age = _age(state, now)
    order = sorted(bill.items(), key=lambda entry: (-(entry[1].micros or 0), entry[0]))
    for (agent, team, model, task_class, source), item in order:
        yield {
            "v": 1,
            "agent": agent,
            "team": team,
            "model": model,
            "task_class": task_class,
            "source": source,
            "usd_micros": item.micros,
            "calls": item.calls,
            "input_tokens": item.input_tokens,
            "output_tokens": item.output_tokens,
            "slot_ms": item.slot_ms,
            "by": item.by,
            "shared": item.shared,
            "age_ms": age,
        }


def saving_rows(state: State, now: int) -> Iterator[Row]:
    yield from current(state)[1]


def current(state: State) -> tuple[Bill, list[Row]]:
    """The bill of what was read last; made once for each reading."""
    pages = [state.pages.get(name) for name in (LIMITER_BOOK, SCHEDULER_BOOK)]
    at = tuple(None if page is None else page.at for page in pages)
    if state.bill is None or state.bill[0] != (at, state.policy.costs):
        calls = [row for row in _of(pages[0], "spent") if isinstance(row, Spent)]
        slots = [row for row in _of(pages[1], "spent") if isinstance(row, SlotsSpent)]
        bill = bill_of(state.policy.costs, calls, slots)
        made = (bill, list(savings(state.policy.costs, bill, slots)))
        state.bill = ((at, state.policy.costs), made)
    found: tuple[Bill, list[Row]] = state.bill[1]
    return found


def _of(page: Any, section: str) -> Sequence[Any]:
    return () if page is None else page.rows.get(section, ())


def _age(state: State, now: int) -> int | None:
    ages = [
        page.at for name in (LIMITER_BOOK, SCHEDULER_BOOK) if (page := state.pages.get(name)) and page.at is not None
    ]
    return max(0, now - min(ages)) if ages else None
