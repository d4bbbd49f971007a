"""What a task wants of a worker, as the placement asks it: its needs, its hints, and what the board knows beside."""

from __future__ import annotations

from bursar_scheduler.board import Board
from bursar_scheduler.resources import BATCH_TOKENS
from bursar_scheduler.scoring import Ask
from bursar_scheduler.task import Demands, LaneKey, Task


def lane_ask(lane: LaneKey, expected_us: int = 0) -> Ask:
    """What all tasks of a lane have in common."""
    demands = lane[3]
    if not demands:
        return Ask(lane, lane[0], expected_us)
    tokens = next((amount for name, amount in demands if name == BATCH_TOKENS), 0)
    needs: Demands = tuple((name, amount) for name, amount in demands if name != BATCH_TOKENS)
    return Ask(lane, lane[0], expected_us, tokens=tokens, needs=needs)


def ask_of(board: Board, task: Task) -> Ask:
    ask = lane_ask(task.lane, board.speeds.expect_us(task.lane[0]))
    hints = task.hints
    if hints is None:
        return ask
    held = board.prefixes.held(hints.prefix, hints.block) if hints.prefix else ()
    return ask._replace(
        expected_us=1_000 * hints.expected_ms or ask.expected_us, model=hints.model, host=hints.host, numa=hints.numa,
        region=hints.region, size=hints.size, prompt=hints.prompt or len(hints.prefix) * hints.block, prefix=held,
    )  # fmt: skip
