"""The folded state: everything that the journal rebuilds, and the one way it changes.

Live and replayed decisions go through the same `Folded.record`, so a replay ends in the state that the owner had. The
head (sequence and chain hash of the last entry) stands apart: the owner moves it on its own acknowledgements only, a
follower by the entries it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgpack  # type: ignore[import-untyped]

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Decider, Event, Fence
from bursar.kernel.entry import EPOCH, GENESIS, RECOVERY, Entry, chain_hash, decode_plain
from bursar.kernel.errors import BrokenChain, CorruptSnapshot, VersionMismatch
from bursar.kernel.idempotency import IdempotencyTable
from bursar.kernel.offices import Offices

SNAPSHOT_VERSION: Final = 2


class Head(NamedTuple):
    """The last entry known: its stream sequence (0: none), its chain hash, its stream's creation time."""

    sequence: int
    hash: bytes
    created: str


EMPTY_HEAD: Final = Head(0, GENESIS, "")


class Folded:
    """A service's durable state with what the kernel keeps beside it.

    ``time`` is the decider time of the last entry (ms), ``number`` the next decision's number.
    """

    __slots__ = (
        "_evolve",
        "answers",
        "decider",
        "epoch",
        "events",
        "incarnation",
        "number",
        "offices",
        "state",
        "time",
    )

    def __init__(self, decider: Decider[Any]) -> None:
        self.decider = decider
        self._evolve = decider.evolve
        self.state: Any = decider.initial()
        self.answers = IdempotencyTable()
        self.offices = Offices()
        self.incarnation = 1
        self.epoch = 0
        self.number = 1
        self.time = 0
        self.events = 0

    @property
    def fence(self) -> Fence:
        """The fence of the last decision."""
        return (self.incarnation, self.epoch, self.number - 1)

    def knows(self, fence: Fence) -> bool:
        """Whether a fence that was really given out can be of this history (or of one that a recovery has ended).

        If not, somebody else decides, or the journal has lost what the fence stands for.
        """
        incarnation, epoch, number = fence
        if incarnation != self.incarnation or epoch > self.epoch:
            return incarnation < self.incarnation
        if epoch == self.epoch:
            return number < self.number
        first = self.offices.first_after(epoch)
        return number < (self.number if first is None else first)

    def record(
        self,
        principal: str,
        request_id: str,
        acked: int,
        digest: bytes,
        reply: bytes,
        events: Sequence[Event],
        now: int,
    ) -> None:
        """Apply one accepted decision: its events, its answer, its number."""
        state = self.state
        for event in events:
            self._evolve(state, event)
        number = self.number
        if request_id:
            fence = (self.incarnation, self.epoch, number)
            self.answers.record(principal, request_id, acked, digest, fence, reply, now)
        self.number = number + 1
        self.time = now
        self.events += len(events)

    def apply(self, entry: Entry) -> None:
        """Replay one entry (its base, if it has one, is loaded already)."""
        if entry.kind == RECOVERY:
            self.offices = Offices()
        if entry.kind in {EPOCH, RECOVERY}:
            self.offices.begin(entry.epoch, entry.number)
        self.incarnation = entry.incarnation
        self.epoch = entry.epoch
        self.number = entry.number
        self.time = entry.time
        record, time = self.record, entry.time
        for principal, request_id, acked, digest, reply, events, after in entry.decisions:
            record(principal, request_id, acked, digest, reply, events, time + after)

    def dump(self) -> bytes:
        """The whole state as bytes, the same for equal states."""
        packed: bytes = msgpack.packb(
            [
                SNAPSHOT_VERSION,
                self.decider.name,
                self.decider.version,
                self.incarnation,
                self.epoch,
                self.number,
                self.time,
                self.offices.dump(),
                [] if seeded("answers_missing_from_snapshot") else self.answers.dump(),
                self.decider.dump(self.state),
            ],
            use_bin_type=True,
        )
        return packed

    @classmethod
    def load(cls, decider: Decider[Any], data: bytes) -> Folded:
        """Read what `dump` wrote. Raises `CorruptSnapshot` or `VersionMismatch`."""
        try:
            values = msgpack.unpackb(data, use_list=False, strict_map_key=False)
            version, name, decider_version, incarnation, epoch, number, time, offices, answers, state = values
        except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
            raise CorruptSnapshot("not a snapshot", size=len(data)) from error
        if (version, name) != (SNAPSHOT_VERSION, decider.name):
            raise _mismatch(decider, name, decider_version)
        state = converted(decider, decider_version, state)
        folded = cls.__new__(cls)
        folded.decider = decider
        folded._evolve = decider.evolve
        folded.state = decider.load(state)
        folded.answers = IdempotencyTable.load(answers)
        folded.offices = Offices.load(offices)
        folded.incarnation, folded.epoch, folded.number, folded.time = incarnation, epoch, number, time
        folded.events = 0
        return folded


def converted(decider: Decider[Any], version: Any, dumped: Any) -> Any:
    """A dumped state of an older version of the service, in the form of this one. Raises `VersionMismatch`."""
    steps: Mapping[int, Callable[[Any], Any]] = getattr(decider, "conversions", {})
    found = version
    while found != decider.version:
        if found not in steps:
            raise _mismatch(decider, decider.name, version)
        dumped = steps[found](dumped)
        found += 1
    return dumped


def _mismatch(decider: Decider[Any], name: Any, version: Any) -> VersionMismatch:
    return VersionMismatch(
        "another version of this service wrote the snapshot: run that one on this journal, or give this one a new home",
        found=f"{name} {version}",
        needed=f"{decider.name} {decider.version}",
    )


class Follower:
    """A folded state and its head, moved along by the entries of the journal in order."""

    __slots__ = ("folded", "head")

    def __init__(self, folded: Folded, head: Head = EMPTY_HEAD) -> None:
        self.folded = folded
        self.head = head

    def follow(self, sequence: int, payload: bytes, base: Folded | None = None) -> None:
        """Apply the next entry. `BrokenChain` when it does not follow the head.

        ``base`` replaces the state below a recovery entry that names one.
        """
        entry = decode_plain(payload)
        if entry.prev != self.head.hash:
            raise BrokenChain("an entry does not follow the one before", sequence=sequence, head=self.head.sequence)
        folded = self.folded
        if entry.kind == RECOVERY:
            if base is not None:
                self.folded = folded = base
        elif entry.number != folded.number or entry.incarnation != folded.incarnation:
            raise BrokenChain("decisions are missing", sequence=sequence, number=entry.number, expected=folded.number)
        if entry.time < folded.time and entry.kind != RECOVERY:
            raise BrokenChain("time went back", sequence=sequence, time=entry.time, before=folded.time)
        folded.apply(entry)
        self.head = Head(sequence, chain_hash(payload), self.head.created)
