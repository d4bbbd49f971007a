"""The scheduler's decisions.

Agents submit tasks, workers take them. The promises:

1. **One accepted end per task.** Each assignment has a token, which grows; only the current one is heard (`attempts`).
   A task may run more than once (a worker that is thought dead may live), but only one run's end counts.
2. **Nothing accepted is lost.** A task waits, is with a worker, has ended, or is a dead letter that can be listed and
   requeued; `lifecycle` has the table. What its worker cannot finish goes to another: after a silence (`workers`), the
   end of a lease, or a start that never came (`moments`).
3. **A name runs once.** Submitted again, by request or through the inbox, it is the same task, for an hour after its
   result was forgotten (`state`, `submitting`).
4. **Slots are never exceeded.** A slot is taken from the assignment on until the worker itself says that nothing of the
   attempt runs any more.
5. **Work is conserved.** No worker has a free slot while a task waits that it may have and no quota keeps (`dispatch`).
6. **Bounded.** Tasks, bytes, results, names, kinds of needs: each has a limit, and a refusal names it.
7. **Safe after a loss** of acknowledged entries: `recovery`.

`decide` reads and `evolve` writes; the kernel journals in between. Signs of life and indexes are volatile (`board`).
Leases after Gray and Cheriton (SOSP 1989), fencing after Lamport's and Chubby's sequencers (OSDI 2006).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bursar.contracts import scheduler as wire
from bursar.contracts.rights import SetRights
from bursar.contracts.scheduler_blobs import Get, Put
from bursar.contracts.scheduler_explain import Spending, Why
from bursar.contracts.scheduler_graph import CancelProgram, Graph, Inputs
from bursar.contracts.scheduler_moving import Propose, TakeSnapshot
from bursar.kernel.decider import Command, Event, Fence, Outcome
from bursar.kernel.inbox import Delivered
from bursar.kernel.rights import decide_rights, forbidden
from bursar_scheduler import (
    attempts,
    cancelling,
    configuring,
    depending,
    dispatch,
    events,
    explaining,
    filling,
    gangs,
    graphs,
    moments,
    moving,
    planning,
    proposing,
    recovery,
    replaying,
    spending,
    status,
    storing,
    submitting,
    workers,
    yielding,
)
from bursar_scheduler.evolve import APPLY
from bursar_scheduler.state import State, dump, load
from bursar_scheduler.uses import USES


class SchedulerDecider:
    """The `bursar.kernel.decider.Decider` of the scheduler."""

    name = "scheduler"
    version = 7

    def __init__(self) -> None:
        self._rules: dict[type, Callable[[State, Command, int, Fence], Outcome]] = {
            wire.Submit: submitting.decide_submit,
            Graph: graphs.decide_graph,
            depending.Settle: depending.decide_settle,
            Inputs: depending.decide_inputs,
            Delivered: submitting.decide_delivered,
            wire.Start: attempts.decide_start,
            wire.Progress: attempts.decide_progress,
            wire.Finish: attempts.decide_finish,
            wire.Fail: gangs.as_one(attempts.decide_fail),
            wire.Checkpoint: yielding.decide_checkpoint,
            wire.Yield: gangs.as_one(yielding.decide_yield),
            yielding.Preempt: yielding.decide_preempt,
            filling.Fill: filling.decide_fill,
            filling.GiveWay: filling.decide_to_give_way,
            moving.Move: planning.decide_move,
            TakeSnapshot: proposing.decide_snapshot,
            Propose: proposing.decide_propose,
            wire.Release: gangs.as_one(attempts.decide_release),
            attempts.Free: attempts.decide_free,
            wire.Cancel: cancelling.decide_cancel,
            CancelProgram: cancelling.decide_cancel_program,
            cancelling.EndProgram: cancelling.decide_end_program,
            Put: storing.decide_put,
            Get: storing.decide_get,
            wire.Requeue: cancelling.decide_requeue,
            wire.Register: workers.decide_register,
            wire.Heartbeat: workers.decide_heartbeat,
            wire.Drain: workers.decide_drain,
            wire.Leave: workers.decide_leave,
            workers.Gone: workers.decide_gone,
            workers.Tell: workers.decide_tell,
            workers.Alive: workers.decide_alive,
            moments.Moment: moments.decide_moment,
            dispatch.Dispatch: dispatch.decide_dispatch,
            wire.Find: status.decide_find,
            wire.Ended: status.decide_ended,
            wire.List: status.decide_list,
            status.ListAll: status.decide_list_all,
            Why: explaining.decide_why,
            Spending: spending.decide_spending,
            explaining.WhyAny: explaining.decide_why_any,
            wire.Status: status.decide_status,
            wire.Share: configuring.decide_share,
            wire.Configure: configuring.decide_configure,
            configuring.ConfigureFromSettings: configuring.decide_settings,
            SetRights: decide_rights,
        }

    def initial(self) -> State:
        return State()

    def decide(self, state: State, command: Command, now: int, fence: Fence) -> Outcome:
        if state.rights is not None and (refusal := forbidden(state.rights, command, USES)) is not None:
            return refusal
        return self._rules[type(command.body)](state, command, now, fence)

    def evolve(self, state: State, event: Event) -> None:
        APPLY[event[0]](state, event)

    def due(self, state: State, now: int) -> Command | None:
        """In this order: silent workers, moments of tasks, programs that end, slots that are free, what comes after a
        task that is over, notices, tasks with a worker, fillers for workers that are held, tasks for which another is
        to yield."""
        board = state.awake(now)
        if board.gangs or board.gathering.task is not None:
            board.gathering.look(board, now)
        if board.is_planned or board.planner is not None:
            planning.look(state, board, now)
        body: Any = (
            workers.next_gone(state, board, now)
            or moments.next_moment(state, now)
            or cancelling.next_ending(state)
            or attempts.next_free(board)
            or depending.next_settled(state, now)
            or workers.next_tell(board)
            or workers.next_alive(board)
            or dispatch.next_dispatch(state, now)
            or (filling.next_of(state, board, now) if board.gathering.task is not None else None)
            or yielding.next_preempt(state, now)
            or (planning.next_move(state, board, now) if board.planner is not None else None)
        )
        return None if body is None else Command("", "", body)

    def wake_at(self, state: State) -> int | None:
        """May be early: a lease that was extended is looked at, and set anew."""
        board = state.board
        if board is None:
            return 0
        times = [board.agenda[0][0]] if board.agenda else []
        gone_at = workers.gone_at(state, board)
        if gone_at is not None:
            times.append(gone_at)
        if board.watched.look_at is not None:
            times.append(board.watched.look_at)
        if board.gangs and board.gathering.task is None and board.gathering.look_at is not None:
            times.append(board.gathering.look_at)
        if board.gathering.ask_at is not None:
            times.append(board.gathering.ask_at)
        if board.is_planned:
            times += planning.wake_at(state, board)
        return min(times) if times else None

    def recover(self, state: State, now: int) -> Sequence[Event]:
        return recovery.recover(state, now)

    def dump(self, state: State) -> Any:
        return dump(state)

    def load(self, value: Any) -> State:
        return load(value)

    def describe(self, event: Event) -> str:
        return events.in_words(event)

    def explain(self, state: State, event: Event) -> dict[str, Any] | None:
        """The placement that an event stands for, worked out again from the state before it (`replaying`)."""
        return replaying.explain(state, event)
