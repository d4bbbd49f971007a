"""After a loss of acknowledged entries: what was live is put aside, and nothing of before the loss counts any more.

What has happened to a task in what was lost cannot be known: it may have run, and its end may have been accepted. To
run it again could give it a second accepted end, and to wait for its worker could too (an older attempt of it may have
been given up in what was lost, and a newer one ended). So:

1. Every live task becomes a dead letter with the reason "log lost". An operator who knows may requeue it.
2. All tokens of before are void, and all workers are forgotten: they are told to register, and to stop what they do.
3. Requests and posts from before are not believed to be new (`submitting.is_doubtful`).

An end that was accepted and is still in the state stays one.
"""

from __future__ import annotations

from bursar.kernel.decider import Event
from bursar_scheduler import events
from bursar_scheduler.state import State


def recover(state: State, now: int) -> list[Event]:
    return [(events.LOST, now)]
