"""The part of the GPU manager's catalogue that is about fragmentation and moves."""

from __future__ import annotations

from typing import Final

from bursar.contracts import gpu as wire
from bursar.contracts import gpu_moves as moves
from bursar.contracts.catalog.base import Operation, Telling, Word

_FENCE = "1.1.7.0123456789abcdef"

OPERATIONS: Final = (
    Operation(
        "req",
        "movable",
        moves.Movable,
        "A lease may be moved to another device of the same kind, when its holder agrees.",
        replies=(moves.MovableSet,),
        errors=("unknown_lease", "lease_ended", "not_yours", "bad_fence"),
        example={"lease": "1.1.7", "fence": _FENCE, "cost_ms": 500},
    ),
    Operation(
        "req",
        "move",
        moves.Move,
        "Agree to a move that was proposed, which grants the lease to move to; or decline it.",
        replies=(wire.Leased, wire.Refused, moves.Declined),
        errors=("unknown_lease", "lease_ended", "not_yours", "bad_fence", "conflict"),
        example={"lease": "1.1.7", "fence": _FENCE, "agree": True},
    ),
    Operation(
        "req",
        "fragmentation",
        moves.Fragmentation,
        "How much of the free memory is in remainders, the plan against it, and what would have to move for a request.",
        replies=(moves.FragmentationReply,),
        example={"memory": 4 * 1024**3},
    ),
)

TELLINGS: Final = (Telling(moves.MoveWanted, "To the holder of a lease that may be moved: would it move it there?"),)

WORDS: Final = {
    "cost_ms": Word("What a move costs, in time of work.", "ms"),
    "Movable.cost_ms": Word("What an interruption costs beside loading; null: it may not be moved any more.", "ms"),
    "Movable.hosts": Word("Only to these hosts; empty: any."),
    "Movable.fence": Word("The fence that came with the lease."),
    "movable": Word("Whether the lease may be moved now."),
    "Move.fence": Word("The fence that came with the lease."),
    "agree": Word("Whether its holder moves it."),
    "agreed": Word("Whether its holder moves it."),
    "MoveWanted.service": Word("Who tells."),
    "MoveWanted.what": Word("What is told."),
    "MoveWanted.device": Word("Where the lease should go."),
    "answer_in_ms": Word("No answer by then declines.", "ms"),
    "Fragmentation.memory": Word("Also: what would have to move so that so much fits; null: not asked.", "bytes"),
    "Fragmentation.devices": Word("On how many devices.", "devices"),
    "FragmentationReply.free": Word("What could be granted now, on all devices.", "bytes"),
    "DeviceFragmentation.free": Word("What could be granted there now.", "bytes"),
    "size": Word("Size of a class of requests.", "bytes"),
    "usable": Word("What of it requests of this size can use.", "bytes"),
    "fragmentation": Word("1 - usable / free.", "millionths"),
    "DeviceFragmentation.fragmentation": Word("1 - usable / free at each class, smallest first.", "millionths"),
    "PlannedMove.fragmentation": Word(
        "Of all devices after this move; null: the plan is for one request.", "millionths"
    ),
    "above": Word("Beyond this much fragmentation moves are planned.", "millionths"),
    "classes": Word("By class of requests."),
    "FragmentationReply.devices": Word("By device, at most 256."),
    "plan": Word("The moves that would be proposed now."),
    "moves": Word("The moves, in their order."),
    "source": Word("The device that the lease is on."),
    "PlannedMove.target": Word("The device that it would go to."),
    "PlannedMove.memory": Word("Bytes of the lease.", "bytes"),
    "gain": Word("What becomes usable by it; null: the plan is for one request.", "bytes"),
    "moving": Word("The lease whose move is being made; null: none is."),
    "step": Word("How far that is."),
    "FragmentationReply.waiting": Word("Moves of the present plan that are still to come.", "moves"),
    "done": Word("How moves have ended, and how often.", "moves"),
    "clearing": Word("What would have to move so that the request fits; null: not asked for, or nothing helps."),
    "Clearing.devices": Word("They have room when the moves are done."),
}
