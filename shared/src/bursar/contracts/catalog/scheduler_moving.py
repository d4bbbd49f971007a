"""Snapshots and proposed moves: a part of the scheduler's catalogue."""

from __future__ import annotations

from typing import Final

from bursar.contracts import scheduler_moving as wire
from bursar.contracts.catalog.base import Operation, Word

OPERATIONS: Final = (
    Operation(
        "adm",
        "snapshot",
        wire.TakeSnapshot,
        "Tasks that wait or may be moved, and workers, for an optimiser that thinks longer than a decision may take.",
        replies=(wire.SnapshotReply,),
        example={},
    ),
    Operation(
        "adm",
        "propose",
        wire.Propose,
        "Make these moves, as far as nothing has changed since the snapshot and each gains more than it costs.",
        replies=(wire.Proposed,),
        example={
            "sequence": 1_024,
            "moves": [{"task": "writer.report-2026", "worker": "gpu-1", "gain_us": 2_000_000}],
            "slots": {"gpu-2": 0},
        },
    ),
)

WORDS: Final = {
    "sequence": Word("Of the snapshot: what has changed since is not moved.", "number"),
    "at_ms": Word("When it was made.", "ms of the scheduler's clock"),
    "SnapshotReply.waiting": Word("Tasks that wait for a worker, in all.", "tasks"),
    "SnapshotReply.workers": Word("Workers, those with room first; sixty-four at most."),
    "SnapshotReply.tasks": Word("Tasks that run and may be preempted, and those that wait; sixty-four at most."),
    "WorkerSeen.slots": Word("How many attempts it runs at once.", "attempts"),
    "taken": Word("Slots that are taken, or cannot be had now.", "slots"),
    "wait_us": Word("Until what is given to it begins.", "us"),
    "band": Word("Its band, from 0, the most urgent.", "number"),
    "TaskSeen.token": Word("Of its attempt; null: it waits."),
    "TaskSeen.worker": Word("Who runs it; null: it waits."),
    "waited_us": Word("Time since it was accepted.", "us"),
    "carry_us": Word("What it costs to move it: the chunk, what it has done since its checkpoint, its data.", "us"),
    "runs_us": Word("By worker how long it runs there, with the price of that.", "us"),
    "moves": Word("What is to go where."),
    "ProposedMove.token": Word("Of its attempt in the snapshot; null: it waited."),
    "gain_us": Word("What the move gains, by the reckoning of who proposes it.", "us"),
    "Propose.slots": Word("Slots in use by worker.", "slots"),
    "Proposed": Word("What becomes of the moves."),
    "Proposed.used": Word("Tasks whose moves are made."),
    "dropped": Word("Moves that are not made, by why.", "moves"),
}
