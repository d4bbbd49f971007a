"""What slots cost: time of workers by who had it, for which class of tasks, on which worker, since the ledger began.

An attempt counts from its assignment until its slot is free again, at the price that the worker named when it was
assigned; so once, whatever was told twice, and also for an attempt that had become void and went on running. The sums
are kept in the ledger (`fairness`); entries are never dropped, and who is too many is counted with all others.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from bursar.contracts.base import MAX_INT
from bursar.contracts.scheduler_explain import Spending
from bursar.kernel.decider import Command, Fence, Outcome, Refuse
from bursar_scheduler.state import State

PAGE: Final = 200


def decide_spending(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Pages in the order in which the entries were made; so none moves to another page."""
    body: Spending = command.body
    book = state.ledger.spent
    page = list(islice(book.items(), body.offset, body.offset + PAGE))
    rows = [
        {
            "team": team, "agent": agent, "task_class": task_class, "worker": worker, "kind": spent.kind,
            "preemptible": spent.preemptible, "attempts": spent.attempts, "slot_ms": min(MAX_INT, spent.slot_ms),
            "usd_micros": min(MAX_INT, spent.price_ms // 1_000),
        }
        for (team, agent, task_class, worker), spent in page
    ]  # fmt: skip
    return Refuse({"ok": True, "now_ms": now, "rows": rows, "more": body.offset + len(page) < len(book)})
