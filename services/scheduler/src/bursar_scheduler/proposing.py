"""Snapshots and moves for optimisers that think longer than a decision may take (`moving`, `planning`)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bursar.contracts.scheduler_moving import Propose
from bursar.kernel.decider import Accept, Command, Event, Fence, Notice, Outcome, Refuse
from bursar_scheduler import planning, yielding
from bursar_scheduler.moving import Move, Plan, usable
from bursar_scheduler.planning import planner_of
from bursar_scheduler.state import State


def decide_snapshot(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    snapshot = planning.snapshot_of(state, now, runs=True)
    workers = [{"v": 1, "worker": view.name, **dict(list(view._asdict().items())[1:])} for view in snapshot.workers]
    tasks = [
        {"v": 1, **view._asdict(), "token": view.token or None, "worker": view.worker or None, "runs_us": view.runs_us}
        for view in snapshot.tasks
    ]
    told: dict[str, Any] = {"sequence": snapshot.sequence, "at_ms": snapshot.at, "waiting": snapshot.waiting}
    return Refuse({"ok": True, **told, "workers": workers, "tasks": tasks})


def decide_propose(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Their workers are asked to yield; where each is steered then is volatile."""
    body: Propose = command.body
    board = state.awake(now)
    planner = planner_of(board, now)
    moves = tuple(Move(move.task, move.token or "", move.worker, move.gain_us) for move in body.moves)
    now_there = planning.facts_of(state, [move.task for move in moves], body.sequence, now)
    chosen, dropped = usable(Plan(body.sequence, moves), now_there)
    used, found, told = _carry_out(state, chosen, dropped, now)
    if body.slots:
        planning.set_slots(state, board, planner, Plan(body.sequence, (), tuple(body.slots.items())))
        planner.slots_at = now + planning.SLOTS_MS
    planner.counts.update(dropped)
    reply = {"ok": True, "used": used, "dropped": dict(dropped)}
    return Accept(found, reply, told) if found else Refuse(reply)


def _carry_out(
    state: State, chosen: list[Move], dropped: Counter[str], now: int
) -> tuple[list[str], list[Event], list[Notice]]:
    used: list[str] = []
    found: list[Event] = []
    told: list[Notice] = []
    planner = planner_of(state.awake(now), now)
    for move in chosen:
        if not planning.may_move(state, move, now):
            dropped["fixed"] += 1
            continue
        event, notice = yielding.ask(state, state.tasks[move.task], now)
        planner.steer(move)
        used.append(move.task)
        found.append(event)
        told.append(notice)
    return used, found, told
