"""What must hold, checked at every step: the simulator's view from above, with knowledge that no instance has.

`Checker` sees every entry as it lands in the store, every effect of every process and every answer that a client
takes. It keeps a reference: a folded state moved along by the landed entries themselves, so "replay equals live" is
one comparison of dumps. After an injected loss of entries (``lossy``) some promises rest on what somebody still
knows; the reference then starts again from what the loader finds, or from the base of the recovery entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack  # type: ignore[import-untyped]

from bursar.kernel.decider import Decider, Fence, Reject
from bursar.kernel.effects import Answer
from bursar.kernel.entry import EPOCH, GENESIS, RECOVERY, Entry, chain_hash, decode, is_recovery
from bursar.kernel.errors import CorruptSnapshot, KernelError
from bursar.kernel.fold import EMPTY_HEAD, Folded, Follower, Head
from bursar.kernel.idempotency import MAX_AGE_MS
from bursar.kernel.journal.memory import MemoryJournal, MemoryStore
from bursar.kernel.loader import load, read_snapshot
from bursar.kernel.snapshot import Manifest, decode_manifest
from tests.simulation.simulator import Simulator, Violation, finish

if TYPE_CHECKING:
    from tests.simulation.process import Process

TRANSIENT = frozenset({"not_ready", "failed_closed", "journal_full"})
"""Codes of answers that decide nothing."""

Key = tuple[str, str]
"""(principal, request id)."""


def is_beyond(fence: Fence, other: Fence) -> bool:
    """Whether a fence proves that a state which ends at another one lacks decisions."""
    return fence[0] > other[0] or (fence[0] == other[0] and (fence[1] > other[1] or fence[2] > other[2]))


class Landed(NamedTuple):
    """An accepted decision in the store; ``time`` is the decider's, ``landed_at`` the true one (ms)."""

    fence: Fence
    reply: bytes
    time: int
    landed_at: int = 0


class Checker:
    """See the module's text. Every method raises `Violation` when a promise is broken."""

    def __init__(self, simulator: Simulator, store: MemoryStore, decider: Decider[Any], shard: int) -> None:
        self.simulator = simulator
        self.store = store
        self.shard = shard
        self.decider = decider
        self.journal = MemoryJournal(store, shard)
        self.reference: Follower | None = Follower(Folded(decider), EMPTY_HEAD._replace(created=store.created))
        self.lossy = False
        self.losses = 0
        self.recoveries = 0
        self.recovery_expected = False
        self.is_blind = False  # what a recovery took over is not known in full
        self.decisions: dict[Key, list[Landed]] = {}
        self.answered: dict[Key, tuple[Fence, bytes]] = {}
        self.log: list[Entry] = []
        self.latest: tuple[int, int] = (0, 0)
        self.counts: dict[str, int] = {}
        self.dropped: dict[str, int] = {}  # after how many losses of entries
        self._bases: dict[str, int] = {}
        self._authors: dict[tuple[int, int], bytes] = {}
        self._ids: set[bytes] = set()

    def dropping(self, snapshot_id: str) -> None:
        """Somebody has decided that nobody needs these chunks."""
        self.dropped[snapshot_id] = self.losses

    def count(self, what: str, more: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + more

    # ---- entries

    def landed(self, sequence: int, payload: bytes) -> None:
        """An append has changed the store."""
        entry = decode(payload)
        self.log.append(entry)
        self.count(f"entries_{entry.kind}")
        if not self.lossy:
            self._check_author(entry)
        base = self._check_recovery(entry) if entry.kind == RECOVERY else None
        self._note_decisions(entry)
        if self.reference is None:
            if base is not None:
                self._start_from(base, sequence, payload, entry)
            return
        before = self.reference.head
        try:
            self.reference.follow(sequence, payload, base)
        except KernelError as error:
            if not self.lossy:
                raise Violation("chain", f"entry {sequence} does not follow {before}: {error}") from error
            self.reference = self._found()
            if self.reference is None and base is not None:
                self._start_from(base, sequence, payload, entry)

    def _start_from(self, base: Folded, sequence: int, payload: bytes, entry: Entry) -> None:
        self.reference = Follower(base, Head(0, entry.prev, self.store.created))
        self.reference.follow(sequence, payload, base)

    def _check_author(self, entry: Entry) -> None:
        epoch = (entry.incarnation, entry.epoch)
        author = entry.id[:8]
        if self._authors.setdefault(epoch, author) != author:
            raise Violation("two_authors", f"{author!r} wrote in epoch {epoch} of {self._authors[epoch]!r}")
        if epoch < max(self._authors):
            raise Violation("old_epoch", f"{author!r} wrote in epoch {epoch} after {max(self._authors)}")
        if entry.id in self._ids:
            raise Violation("landed_twice", f"the append {entry.id!r} landed twice")
        self._ids.add(entry.id)

    def _check_recovery(self, entry: Entry) -> Folded | None:
        self.recoveries += 1
        self._bases[Manifest._make(entry.base).id] = self.losses
        if not self.recovery_expected:
            raise Violation("needless_recovery", "an instance recovered though nothing was lost")
        try:
            base = finish(read_snapshot(self.journal, Manifest._make(entry.base), self.decider))
        except CorruptSnapshot:  # the store was replaced between the base and the entry
            self.reference = None
            self.is_blind = True
            return None
        for principal, request_id, answer in base.answers:
            self._note((principal, request_id), Landed(answer.fence, answer.reply, answer.time))
        return base

    def _note_decisions(self, entry: Entry) -> None:
        for offset, row in enumerate(entry.decisions):
            if row.principal and row.principal != "ops" and not row.request_id:
                raise Violation("unasked", f"{row.principal} was granted {row.events} under no request")
            if row.request_id:
                fence = (entry.incarnation, entry.epoch, entry.number + offset)
                key = (row.principal, row.request_id)
                known, time = self.decisions.get(key), entry.time + row.after
                if known and time - known[-1].time >= MAX_AGE_MS:
                    self.count("decided_again_by_age")
                elif known and not self.lossy:
                    raise Violation("decided_twice", f"{key} was accepted as {known} and as {fence} at {time}")
                self._note(key, Landed(fence, row.reply, time, self.simulator.now))

    def _note(self, key: Key, decision: Landed) -> None:
        known = self.decisions.setdefault(key, [])
        if decision not in known:
            known.append(decision)

    def _found(self) -> Follower | None:
        """What the loader finds in the store, if that is whole."""
        follower, damage = finish(load(self.journal, self.decider))
        return None if damage else follower

    def lost(self) -> None:
        """Entries are about to be, or were just, lost by injection."""
        self.lossy = True
        self.recovery_expected = True
        self.losses += 1
        self.latest = (0, 0)
        self.reference = self._found()

    # ---- processes

    def compare(self, process: Process) -> None:
        """Replay equals live: the state of a process without uncommitted decisions is the reference's."""
        replica = process.replica
        if self.reference is None or replica.head[:2] != self.reference.head[:2]:
            return
        self.count("comparisons")
        if replica.folded.dump() != self.reference.folded.dump():
            raise Violation("replay_differs", f"{process.name} at {replica.head.sequence}: live state is not the log's")

    def takes_office(self, process: Process, reason: str) -> None:
        """An instance that knew of decisions which its state lacks must not go on without a recovery."""
        fence = process.replica.folded.fence
        if reason == EPOCH and is_beyond(process.knows, fence):
            raise Violation("loss_ignored", f"{process.name} knew {process.knows} and owns at {fence}")
        if process.replica.is_idle:
            self.compare(process)

    def answers(self, process: Process, answer: Answer, call: Any) -> None:
        """An answer leaves a process."""
        outcome = answer.outcome
        if isinstance(outcome, Reject) and outcome.code in TRANSIENT:
            return
        self.count(f"answers_{type(outcome).__name__}")
        own = process.replica.folded.fence[:2]
        if own < call.floor and not self.lossy:
            raise Violation("stale_answer", f"{process.name} in {own} answered {call} after {call.floor} had answered")
        if isinstance(outcome, dict | bytes):
            packed = outcome if isinstance(outcome, bytes) else msgpack.packb(outcome)
            decisions = self.decisions.get((call.principal, call.request_id), ())
            committed = any(decision[:2] == (answer.fence, packed) for decision in decisions)
            if not committed and not (self.is_blind and isinstance(outcome, bytes)):
                raise Violation(
                    "reply_before_commit", f"{process.name} answered {call} with {answer.fence} not in store"
                )

    # ---- clients

    def taken(self, principal: str, request_id: str, fence: Fence, reply: bytes | None) -> None:
        """A client has taken an answer; ``reply`` is None when nothing was accepted."""
        self.latest = max(self.latest, fence[:2])
        if not request_id:
            return
        key = (principal, request_id)
        before = self.answered.get(key)
        decisions = self.decisions.get(key, ())
        forgotten = before is None or self.lossy or any(map(self._is_old, decisions))
        if reply is None:
            if not forgotten:
                raise Violation("accepted_then_refused", f"{key} was {before} and then was not accepted")
            return
        if before is not None and not forgotten and before != (fence, reply):
            raise Violation("two_answers", f"{key} was answered {before} and {(fence, reply)}")
        self.answered[key] = (fence, reply)

    def _is_old(self, decision: Landed) -> bool:
        """Whether its answer may have been forgotten by age."""
        time = self.log[-1].time + sum(row.after for row in self.log[-1].decisions)
        return time - decision.time >= MAX_AGE_MS or self.simulator.now - decision.landed_at > MAX_AGE_MS // 2

    # ---- the store

    def manifests(self, spoiled: Iterable[str]) -> None:
        """Every manifest in the store stands for a snapshot that is complete."""
        if self.reference is None:
            self.reference = self._found()
        for raw in self.store.manifests.get(self.shard, []):
            manifest = decode_manifest(raw)
            missing = [i for i in range(manifest.chunks) if (self.shard, manifest.id, i) not in self.store.chunks]
            if missing and manifest.id not in spoiled and not self.lossy:
                raise Violation("manifest_without_chunks", f"{manifest.id} lacks chunks {missing}")
        for sequence, payload in self.store.after(self.shard, 0):
            if is_recovery(payload):
                base = Manifest._make(decode(payload).base)
                missing = [i for i in range(base.chunks) if (self.shard, base.id, i) not in self.store.chunks]
                if missing and self._is_to_blame(base.id):
                    raise Violation("recovery_without_base", f"entry {sequence} needs {base.id}")

    def _is_to_blame(self, base: str) -> bool:
        """Whether a base was dropped that an entry needed, or that one could still need.

        Not when entries were lost in between: with the entry that had displaced the base gone, an append that was under
        way all the time may land after all; and a copy from earlier may lack the base through no fault of anybody's.
        Whoever loads that finds damage, and recovers.
        """
        return base in self.dropped and self.dropped[base] == self._bases.get(base)

    def replay_everything(self, spoiled: Iterable[str]) -> None:
        """From every snapshot, and from the start where the log still has it, the replay ends in the same state."""
        if self.reference is None:
            return
        expected = self.reference.folded.dump()
        starts = [] if self.lossy else self._starts(spoiled)
        follower, damage = finish(load(self.journal, self.decider))
        if not damage:
            starts.append(follower)
        elif not self.lossy:
            raise Violation("false_alarm", f"the loader found damage where there is none: {damage}")
        for follower in starts:
            start = follower.head.sequence
            for sequence, payload in self.store.after(self.shard, start):
                self._follow(follower, sequence, payload)
            self.count("replays")
            if follower.folded.dump() != expected:
                raise Violation("replay_differs", f"the replay from {start} does not end in the same state")

    def _starts(self, spoiled: Iterable[str]) -> list[Follower]:
        """Every snapshot that is whole and whose entry is in the log, and the empty state if the log is."""
        starts = []
        first = next(self.store.after(self.shard, 0), None)
        if first is not None and decode(first[1]).prev == GENESIS:
            starts.append(Follower(Folded(self.decider), EMPTY_HEAD))
        for raw in self.store.manifests.get(self.shard, []):
            manifest = decode_manifest(raw)
            at = self.store.entries.get(manifest.sequence)
            if manifest.id in spoiled or at is None:
                continue
            if chain_hash(at[1]) != manifest.hash:
                raise Violation("snapshot_misplaced", f"{manifest.id} does not end with entry {manifest.sequence}")
            folded = finish(read_snapshot(self.journal, manifest, self.decider))
            starts.append(Follower(folded, Head(manifest.sequence, manifest.hash, manifest.created)))
        return starts

    def _follow(self, follower: Follower, sequence: int, payload: bytes) -> None:
        try:
            follower.follow(sequence, payload)
        except KernelError as error:
            raise Violation("chain", f"replay breaks at {sequence}: {error}") from error

    def bounded(self) -> None:
        """The table of answers is bounded by age."""
        if self.reference is None:
            return
        folded = self.reference.folded
        oldest = min((answer.time for _, _, answer in folded.answers), default=folded.time)
        newest = max((answer.time for _, _, answer in folded.answers), default=folded.time)
        if newest - oldest >= MAX_AGE_MS:
            raise Violation("unbounded", f"the table spans {newest - oldest} ms")
