"""A change of batch size or replicas: recommended, and with the worker's consent tried on one, kept or taken back.

::

    recommended -> agreed -> canary -> kept
        |            |         |
        +-> declined / lapsed  +-> rolled_back      (also when the worker declines what it had agreed to)

The worker measures windows before (`baseline`) and after. As a canary the change is taken back at once when a sequence
is preempted or when the time between tokens is above its limit in two windows running; it is kept when, over all its
windows, throughput is at least what was promised. What was tried and taken back is not recommended again for a while,
nor is the way back from what was kept, twice as long each time: measurements that swing do not swing an engine.
Decisions give events, `apply` folds them; times are ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from bursar.errors import CallerError

Kind = Literal["batch", "replicas"]
Step = Literal["recommended", "agreed", "canary", "kept", "rolled_back", "declined", "lapsed"]

NEXT: Final[Mapping[str, frozenset[str]]] = {
    "recommended": frozenset({"agreed", "declined", "lapsed"}),
    "agreed": frozenset({"canary", "lapsed", "rolled_back"}),
    "canary": frozenset({"kept", "rolled_back", "lapsed"}),
}
"""Which step may follow; the others are ends."""

ANSWER_MS: Final = 60_000
APPLY_MS: Final = 300_000
CANARY_MS: Final = 600_000
CANARY_WINDOWS: Final = 6
SLOW_WINDOWS: Final = 2
QUIET_MS: Final = 600_000
QUIET_DOUBLINGS: Final = 6


class Recommendation(NamedTuple):
    """``now`` and ``then``: the number before and after. ``promised``: throughput afterwards, in thousandths of that
    before (1050: five percent more; 830: a smaller batch may cost so much). ``itl_us``: limit of the time between
    tokens, in microseconds. ``because``: one sentence for people."""

    worker: str
    kind: Kind
    now: int
    then: int
    promised: int
    itl_us: int
    because: str


class Measured(NamedTuple):
    """One window of a worker: tokens per second, microseconds between tokens, sequences preempted."""

    throughput: int
    itl_us: int
    preemptions: int


class Told(NamedTuple):
    """The event: a recommendation took a step. ``first`` only with the step that begins one."""

    worker: str
    step: Step
    at: int
    until: int
    first: Recommendation | None = None


class Windowed(NamedTuple):
    """The event: a window of a canary was measured."""

    worker: str
    window: Measured


class Open(NamedTuple):
    what: Recommendation
    step: Step
    until: int
    baseline: int
    windows: tuple[Measured, ...]


class Rollouts:
    """At most one change at a time for each worker."""

    __slots__ = ("done", "open", "quiet")

    def __init__(self) -> None:
        self.open: dict[str, Open] = {}
        self.quiet: dict[tuple[str, str, int], tuple[int, int]] = {}
        self.done: dict[str, int] = {}

    # ---- decisions

    def recommend(self, what: Recommendation, now: int) -> list[Told]:
        """Nothing while another change of this worker is open, when nothing would change, or while this one was taken
        back or declined too short a time ago."""
        until, _ = self.quiet.get((what.worker, what.kind, what.then), (0, 0))
        if what.worker in self.open or what.now == what.then or now < until:
            return []
        return [Told(what.worker, "recommended", now, now + ANSWER_MS, what)]

    def answer(self, worker: str, agrees: bool, now: int) -> Told:
        """Raises `CallerError` (conflict) when nothing is recommended to the worker. Who declines what it had agreed to
        has taken it back."""
        current = self.open.get(worker)
        if current is not None and not agrees and current.step != "recommended":
            return Told(worker, "rolled_back", now, 0)
        self._must(worker, "recommended")
        return Told(worker, "agreed", now, now + APPLY_MS) if agrees else Told(worker, "declined", now, 0)

    def applied(self, worker: str, now: int) -> Told:
        """The worker runs with the change, as a canary from now on."""
        self._must(worker, "agreed")
        return Told(worker, "canary", now, now + CANARY_MS)

    def measured(self, worker: str, window: Measured, now: int) -> list[Windowed | Told]:
        """A window: before the change it is the baseline, after it the trial; ends it when it is decided."""
        current = self.open.get(worker)
        if current is None:
            raise CallerError("conflict", f"no change of {worker} is open")
        events: list[Windowed | Told] = [Windowed(worker, window)]
        if current.step == "canary":
            verdict = judge(current.what, current.baseline, (*current.windows, window))
            if verdict is not None:
                events.append(Told(worker, verdict, now, 0))
        return events

    def lapse(self, now: int) -> list[Told]:
        """Changes whose time is over; a canary that is not decided by then goes back."""
        return [
            Told(worker, "rolled_back" if current.step == "canary" else "lapsed", now, 0)
            for worker, current in self.open.items()
            if now >= current.until
        ]

    @property
    def wake_at(self) -> int | None:
        return min((current.until for current in self.open.values()), default=None)

    def _must(self, worker: str, step: Step) -> None:
        current = self.open.get(worker)
        if current is None or current.step != step:
            raise CallerError("conflict", f"no change of {worker} waits for this", step=step)

    # ---- events

    def apply(self, event: Told | Windowed) -> None:
        if isinstance(event, Windowed):
            self._add(event)
        elif event.first is not None:
            self.open[event.worker] = Open(event.first, event.step, event.until, 0, ())
        elif event.step in NEXT:
            self.open[event.worker] = self.open[event.worker]._replace(step=event.step, until=event.until, windows=())
        else:
            self._end(event)

    def _add(self, event: Windowed) -> None:
        current = self.open[event.worker]
        windows = (*current.windows, event.window)[-CANARY_WINDOWS:]
        baseline = current.baseline
        if current.step != "canary":
            baseline = sum(window.throughput for window in windows) // len(windows)
        self.open[event.worker] = current._replace(windows=windows, baseline=baseline)

    def _end(self, event: Told) -> None:
        what = self.open.pop(event.worker).what
        self.done[event.step] = self.done.get(event.step, 0) + 1
        key = (what.worker, what.kind, what.then)
        times = min(self.quiet.get(key, (0, 0))[1], QUIET_DOUBLINGS)
        self.quiet = {other: held for other, held in self.quiet.items() if held[0] + QUIET_MS > event.at}
        if event.step == "kept":
            self.quiet.pop(key, None)
            key = (what.worker, what.kind, what.now)
        self.quiet[key] = (event.at + (QUIET_MS << times), times + 1)

    # ---- dump and load

    def dump(self) -> Any:
        rows = [[list(o.what), o.step, o.until, o.baseline, [list(w) for w in o.windows]] for o in self.open.values()]
        quiet = [[*key, *held] for key, held in sorted(self.quiet.items())]
        return [rows, quiet, sorted(self.done.items())]

    @classmethod
    def load(cls, value: Any) -> Rollouts:
        rows, quiet, done = value
        found = cls()
        for what, step, until, baseline, windows in rows:
            measured = tuple(Measured(*window) for window in windows)
            found.open[what[0]] = Open(Recommendation(*what), step, until, baseline, measured)
        found.quiet = {(worker, kind, then): (until, times) for worker, kind, then, until, times in quiet}
        found.done = dict(done)
        return found


def judge(what: Recommendation, baseline: int, windows: tuple[Measured, ...]) -> Literal["kept", "rolled_back"] | None:
    """None: not decided yet. Without a baseline nothing is kept."""
    last = windows[-SLOW_WINDOWS:]
    if windows[-1].preemptions or (len(last) == SLOW_WINDOWS and all(window.itl_us > what.itl_us for window in last)):
        return "rolled_back"
    if len(windows) < CANARY_WINDOWS:
        return None
    mean = sum(window.throughput for window in windows) // len(windows)
    slow = sum(window.itl_us for window in windows) > what.itl_us * len(windows)
    good = baseline > 0 and mean * 1_000 >= baseline * what.promised and not slow
    return "kept" if good else "rolled_back"
