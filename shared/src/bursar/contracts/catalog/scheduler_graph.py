"""Several tasks at once, and what a worker gets of the tasks before its own: a part of the scheduler's catalogue."""

from __future__ import annotations

from typing import Final

from bursar.contracts import scheduler_graph as wire
from bursar.contracts.catalog.base import Operation, Word
from bursar.contracts.scheduler import Refused

OPERATIONS: Final = (
    Operation(
        "req",
        "graph",
        wire.Graph,
        "Accept several tasks durably, all or none; each may come after others.",
        replies=(wire.GraphAccepted, Refused),
        errors=("unknown_task", "unknown_blob", "not_yours"),
        example={
            "name": "report",
            "template": {"task_class": "summarise"},
            "items": [{"name": "a"}, {"name": "b"}, {"name": "all", "after": ["a", "b"]}],
        },
    ),
    Operation(
        "req",
        "cancel-program",
        wire.CancelProgram,
        "End all own tasks of a program that are there now, dead letters included.",
        replies=(wire.ProgramCancelled,),
        example={"program": "run-7"},
    ),
    Operation(
        "work",
        "inputs",
        wire.Inputs,
        "What the tasks before the one that the worker runs have given, eight at a time.",
        replies=(wire.InputsReply,),
        errors=("unknown_task", "stale_attempt", "already_ended", "not_yours", "not_started"),
        example={"task": "writer.report:all", "token": "1.1.7"},
    ),
)

WORDS: Final = {
    "template": Word("What the tasks have in common."),
    "Graph.name": Word("Names the graph: its tasks are <principal>.<graph>:<item>."),
    "Item.name": Word("Name of the task within its graph."),
    "items": Word("The tasks; each may come after earlier ones."),
    "Item.after": Word("Names of earlier items, or own tasks; null: as in the template."),
    "GraphAccepted.tasks": Word("The tasks, in the order of the items."),
    "GraphAccepted.known": Word("How many of them were there before.", "tasks"),
    "CancelProgram.program": Word("The agent's run whose tasks are to end."),
    "ProgramCancelled.program": Word("The agent's run whose tasks end."),
    "ProgramCancelled.tasks": Word("How many of its tasks had not ended.", "tasks"),
    "first": Word("Which of the tasks before it to begin with, counted from 0.", "tasks"),
    "inputs": Word("How the tasks before it have ended, in the order of after."),
    "InputsReply": Word("A page of results."),
}
