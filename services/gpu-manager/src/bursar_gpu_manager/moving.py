"""A plan of moves, carried out with the owners' consent: one move at a time, each durable, none forced.

::

    proposed -> agreed -> loaded          the owner was asked; it said yes and the new copy is charged; it uses it
        |          |
        +-> declined / lapsed / failed    it said no; it said nothing in time; the new copy could not be had or loaded

Before a move is proposed it is looked at again: leases come and go, and a move that would not gain a slab any more, or
has no room any more, is left out. While a move is `agreed` both copies are charged; it ends when its owner has given
the old one back (`loaded`) or when its time is over (then the new one goes back). An owner that declined, or could
not, is not asked again for a while.

Decisions (`begin`, `answer`, `lapse`) give events and change nothing; `apply` folds an event. Times are ms.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Final, Literal, NamedTuple

from bursar.errors import CallerError
from bursar_gpu_manager.defrag import Move, Plan
from bursar_gpu_manager.pools import phi

ANSWER_MS: Final = 5_000
"""So long an owner has to agree or decline."""
LOAD_MS: Final = 300_000
"""So long it has to load the new copy and give the old one back."""
ASK_AGAIN_MS: Final = 600_000
"""An owner that declined, said nothing, or could not is left alone for so long."""

Step = Literal["proposed", "agreed", "loaded", "declined", "lapsed", "failed", "skipped"]
NEXT: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset({"proposed", "skipped"}),
    "proposed": frozenset({"agreed", "declined", "lapsed", "failed"}),
    "agreed": frozenset({"loaded", "lapsed", "failed"}),
}
"""Which step may follow; the others end a move."""

OPEN: Final = ("proposed", "agreed")


class Moved(NamedTuple):
    """The event: a move took a step. ``until``: when it lapses; 0 for a step that ends it. ``copy``: of a move that is
    agreed, the lease to move to."""

    lease: str
    step: Step
    at: int
    until: int
    copy: str = ""


class Started(NamedTuple):
    """The event: a plan is to be carried out."""

    moves: tuple[Move, ...]
    size: int
    at: int


class Current(NamedTuple):
    move: Move
    step: str
    until: int
    copy: str = ""


class Moving:
    """The plan that is being carried out, if there is one."""

    __slots__ = ("current", "done", "quiet", "size", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Move] = []
        self.current: Current | None = None
        self.size = 0
        self.quiet: dict[str, int] = {}
        self.done: dict[str, int] = {}

    @property
    def is_busy(self) -> bool:
        return self.current is not None or bool(self.waiting)

    def may_ask(self, lease: str, now: int) -> bool:
        """Whether its owner may be asked to move; for choosing what a plan is made of."""
        return self.quiet.get(lease, 0) <= now

    # ---- decisions

    def begin(self, plan: Plan, now: int) -> list[Started]:
        """Nothing while another plan is being carried out, or when there is nothing to move."""
        return [] if self.is_busy or not plan.moves else [Started(plan.moves, plan.size, now)]

    def propose(self, free: Mapping[str, int], now: int, leases: Container[str] | None = None) -> list[Moved]:
        """The next move that still gains something, with those before it that do not; ``free`` as for the plan;
        ``leases``: that may be moved still (None: all)."""
        if self.current is not None:
            return []
        found: list[Moved] = []
        for move in self.waiting:
            if (leases is None or move.lease in leases) and _is_good(move, free, self.size):
                return [*found, Moved(move.lease, "proposed", now, now + ANSWER_MS)]
            found.append(Moved(move.lease, "skipped", now, 0))
        return found

    def answer(self, lease: str, step: Literal["agreed", "declined", "loaded", "failed"], now: int) -> Moved:
        """What the owner, or whoever grants the new copy, says of the current move. Raises `CallerError` (conflict):
        nobody asked, or the step does not follow."""
        current = self.current
        if current is None or current.move.lease != lease or step not in NEXT[current.step]:
            raise CallerError("conflict", f"no move of {lease} waits for this", step=step)
        return Moved(lease, step, now, now + LOAD_MS if step == "agreed" else 0)

    def lapse(self, now: int) -> list[Moved]:
        """The current move, if its time is over."""
        current = self.current
        return [] if current is None or now < current.until else [Moved(current.move.lease, "lapsed", now, 0)]

    @property
    def wake_at(self) -> int | None:
        return None if self.current is None else self.current.until

    # ---- events

    def apply(self, event: Started | Moved) -> None:
        if isinstance(event, Started):
            self.waiting, self.size = list(event.moves), event.size
            return
        if event.step in {"proposed", "skipped"}:
            move = self.waiting.pop(0)
            self.current = Current(move, event.step, event.until) if event.step == "proposed" else None
        elif event.step == "agreed":
            assert self.current is not None
            self.current = self.current._replace(step="agreed", until=event.until, copy=event.copy)
        else:
            self.current = None
        if event.step not in OPEN:
            self._ended(event)

    def _ended(self, event: Moved) -> None:
        self.done[event.step] = self.done.get(event.step, 0) + 1
        self.quiet = {lease: until for lease, until in self.quiet.items() if until > event.at}
        if event.step in {"declined", "lapsed", "failed"}:
            self.quiet[event.lease] = event.at + ASK_AGAIN_MS

    # ---- dump and load

    def dump(self) -> Any:
        current = None if self.current is None else [_row(self.current.move), *self.current[1:]]
        rows = [_row(move) for move in self.waiting]
        return [self.size, rows, current, sorted(self.quiet.items()), sorted(self.done.items())]

    @classmethod
    def load(cls, value: Any) -> Moving:
        size, waiting, current, quiet, done = value
        found = cls()
        found.size, found.waiting = size, [Move.of_row(row) for row in waiting]
        found.current = None if current is None else Current(Move.of_row(current[0]), *current[1:])
        found.quiet, found.done = dict(quiet), dict(done)
        return found


def gains(move: Move, free: Mapping[str, int], size: int) -> bool:
    """Whether the move has room now and makes fragmentation strictly less."""
    source, target = free.get(move.source), free.get(move.target)
    if source is None or target is None or target < move.memory:
        return False
    after = {**free, move.source: source + move.memory, move.target: target - move.memory}
    return phi(after.values(), size) < phi(free.values(), size)


def _is_good(move: Move, free: Mapping[str, int], size: int) -> bool:
    """A move without gain is to take a lease away from its card: it only needs room."""
    return gains(move, free, size) if move.gain else free.get(move.target, -1) >= move.memory


def _row(move: Move) -> list[Any]:
    return [*move[:-1], move.phi.numerator, move.phi.denominator]
