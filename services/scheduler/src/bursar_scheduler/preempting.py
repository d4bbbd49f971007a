"""Who makes room for whom: preemption at chunk boundaries, and the filling of gaps (Agent.xpu, arXiv 2506.24045).

Tasks of a lower band are run in chunks of 100 ms at most; at the end of one they can be told to stop, with a reference
to a checkpoint from which they go on later. A *victim* is chosen only if

1. its band is lower, and it has run for `MIN_RUN_MS` since it began (or was last preempted: nobody is stopped twice for
   one progress);
2. what is gained is more than what is lost: the wait that the urgent task is spared, weighted by how many bands it
   stands above, against the work since the last checkpoint and the cost of starting again;
3. it gives what the urgent task needs.

Of several the lowest band goes first, then who loses least, then who began last. Stopped ones go on in the order of
`resume_order`: who has waited too long first, then the least remaining time.

*Backfill*: a slot that is kept for an urgent task from ``reserved_at`` on may be used until then by a task of a lower
band if it is expected to end before, or can be stopped at a chunk in time; and if what it needs of the memory bandwidth
leaves the pressure below `PRESSURE_HIGH`. Below `PRESSURE_LOW` anything goes beside anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

MIN_RUN_MS: Final = 500
"""No victim has run for less."""

CHUNK_MS: Final = 100
"""The contract: a task that is told to stop does so within this time."""

RESTART_MS: Final = 50
"""What it costs to take a task up again, beside the work since its checkpoint."""

GAIN: Final = (1, 4, 16)
"""What a millisecond of waiting spared is worth, by how many bands the urgent task stands above its victim."""

STARVED_MS: Final = 30_000
"""A task that was stopped goes on first once it has waited for so long."""

PRESSURE_LOW: Final = 400
PRESSURE_HIGH: Final = 700
"""Memory bandwidth in use, in permille of the peak: below the first anything runs beside anything, from the second on
one at a time, urgent ones first."""


class Runner(NamedTuple):
    """A task that runs. ``began_at``: when it was taken up last; ``saved_at``: its last checkpoint, or when it began;
    ``remaining_ms``: expected; ``bandwidth``: permille of the peak."""

    task: str
    band: int
    began_at: int
    saved_at: int
    remaining_ms: int
    preemptible: bool = True
    bandwidth: int = 0


class Stopped(NamedTuple):
    """A task that has been stopped and waits to go on."""

    task: str
    band: int
    since: int
    remaining_ms: int
    order: int


def victim(band: int, runners: Iterable[Runner], now: int) -> Runner | None:
    """Whom to stop for a task of this band, on workers that suit it; None: it waits for the first end."""
    running = list(runners)
    first_end = min((runner.remaining_ms for runner in running), default=0)
    suited = [runner for runner in running if _may_stop(runner, band, first_end, now)]
    return min(
        suited, key=lambda runner: (-runner.band, now - runner.saved_at, -runner.began_at, runner.task), default=None
    )


def _may_stop(runner: Runner, band: int, first_end: int, now: int) -> bool:
    if not runner.preemptible or runner.band <= band or now - runner.began_at < MIN_RUN_MS:
        return False
    spared = max(0, first_end - CHUNK_MS)
    lost = now - runner.saved_at + RESTART_MS
    return spared * GAIN[runner.band - band] > lost


def resume_order(stopped: Sequence[Stopped], now: int) -> list[Stopped]:
    """In which order those that were stopped go on, each within its band."""
    return sorted(stopped, key=lambda one: (one.band, now - one.since < STARVED_MS, *_least(one, now)))


def _least(one: Stopped, now: int) -> tuple[int, int]:
    """Of the starved who has waited for longest, of the others who needs least."""
    return (one.since, one.order) if now - one.since >= STARVED_MS else (one.remaining_ms, one.order)


def fills(task: Runner, reserved_at: int, beside: Iterable[Runner], now: int) -> bool:
    """Whether a task may use a gap until ``reserved_at``, beside what runs there (`backfill`)."""
    ends_in_time = now + task.remaining_ms <= reserved_at
    can_stop_in_time = task.preemptible and now + MIN_RUN_MS + CHUNK_MS <= reserved_at
    return (ends_in_time or can_stop_in_time) and agrees(task, beside)


def agrees(task: Runner, beside: Iterable[Runner]) -> bool:
    """Whether a task runs beside others without slowing the urgent ones down: Agent.xpu's three tiers of pressure."""
    others = list(beside)
    in_use = sum(runner.bandwidth for runner in others)
    if in_use + task.bandwidth < PRESSURE_LOW or not others:
        return True
    if in_use + task.bandwidth >= PRESSURE_HIGH:
        return False
    return all(runner.band >= task.band or runner.bandwidth + task.bandwidth < PRESSURE_LOW for runner in others)
