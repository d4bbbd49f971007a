"""Why a task waits, and what tasks have cost: a part of the scheduler's catalogue."""

from __future__ import annotations

from typing import Final

from bursar.contracts import scheduler_explain as wire
from bursar.contracts.catalog.base import Operation, Word

_TASK = "writer.report-2026"

OPERATIONS: Final = (
    Operation(
        "req",
        "spending",
        wire.Spending,
        "What agents had of workers since the ledger began.",
        replies=(wire.SpendingReply,),
        example={"offset": 0},
    ),
    Operation(
        "req",
        "why",
        wire.Why,
        "Why is this own task waiting?",
        replies=(wire.WhyReply,),
        errors=("unknown_task", "not_yours"),
        example={"task": _TASK},
    ),
    Operation(
        "adm",
        "why-any",
        wire.Why,
        "Why is this task waiting, whoever submitted it?",
        replies=(wire.WhyReply,),
        errors=("unknown_task",),
        example={"task": _TASK},
    ),
)

WORDS: Final = {
    "Spending.offset": Word("Entries of the pages before.", "entries"),
    "SpendingReply.rows": Word("One for each agent, class and worker, at most 200."),
    "SpendingReply.more": Word("There are others behind them."),
    "SlotsSpent.team": Word("Its team; empty: none."),
    "SlotsSpent.agent": Word("Who submitted the tasks."),
    "SlotsSpent.worker": Word("Who ran them."),
    "SlotsSpent.kind": Word("Kind of the worker: gpu, cpu or remote."),
    "SlotsSpent.preemptible": Word("Whether its host may be taken away (spot)."),
    "SlotsSpent.attempts": Word("Attempts whose slot is free again.", "attempts"),
    "SlotsSpent.slot_ms": Word("Time of their slots.", "ms"),
    "SlotsSpent.usd_micros": Word("What that cost, by the worker's own price.", "millionths of a US dollar"),
    "cause": Word("Why it is where it is; Why says what each means."),
    "text": Word("The same in words, for people."),
    "WhyReply.after": Word("Tasks that it waits for, sixteen at most."),
    "WhyReply.priority": Word("Band of the task; null: it has ended."),
    "WhyReply.age_ms": Word("Time since it was accepted; null: it has ended.", "ms"),
    "pause_ms": Word("What is left of its pause; null: it does not pause.", "ms"),
    "serving": Word("Workers that may have it.", "workers"),
    "with_room": Word("Those of them that have room now.", "workers"),
    "holds": Word("Workers that know its class and may not have it now, sixteen at most."),
    "lacks": Word("What the worker lacks: kind, labels, resources, draining, suspect, or room."),
    "Hold.worker": Word("Name of the worker."),
    "Hold.kind": Word("Kind of the worker."),
    "in_line": Word("Tasks with the same needs that wait.", "tasks"),
    "WhyReply.first": Word("The one of them that goes next; null: none, or a quota keeps them."),
    "has_had_ms": Word("Slot time that its program has had; null: it is over.", "ms"),
    "WhyReply.running": Word("Slots that its submitter has now.", "slots"),
    "yields": Word("The task whose attempt was asked to stop for it; null: none."),
    "decision": Word("The latest placement of the task; null: none, or it is not kept any more."),
    "chosen": Word("Who got it."),
    "rejected": Word("The next best, three at most."),
    "score_us": Word("The score; the lowest is the best.", "us"),
    "terms": Word("What the score is made of: wait, run, price, variance, place, cold, apart, prefix.", "us"),
    "Decision": Word("A placement and its alternatives."),
    "Why": Word("A question for one task."),
}
