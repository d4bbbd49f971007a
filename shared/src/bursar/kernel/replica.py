"""One instance of one shard: standby, owner, or closed; a state machine without IO.

The promise. At any time at most one instance can append to the shard's journal in an epoch, and nothing is answered or
broadcast that is not in the journal. Neither rests on a clock, a lock or a lease, but on three rules:

1. *The conditional append is the fence.* Every append names the sequence of the entry before it. The owner's head
   moves by its own acknowledgements only, and a decision is made on the very state whose sequence the append names. So
   an owner that was paused or cut off cannot append after another has: the server refuses it.
2. *A refusal says nothing about its cause.* The replica reads what stands behind its head: its own entry (the
   acknowledgement was lost), another's (superseded: drop everything, load again), nothing (ask again), or not its head
   (the journal lost acknowledged entries: regression).
3. *An unknown outcome is settled by the same append again.* Both name the same sequence, so at most one lands: the
   repeated append is its own barrier. If it lands the first had not; if it is refused, rule 2 finds which it was.

Answers that need no entry (refusals, queries) leave at once only while no other instance can have taken over: within
``lease_ms`` of the sending of the last append that was acknowledged, which is shorter than the silence that a standby
waits for. After that the owner proves itself by an entry first. (Clocks guard only the age of such answers, never the
journal; and they carry a fence, so that a client can tell.)

Regression. When the journal has lost entries the replica fails closed. What it still knows (its live state) is stored
as a base; a ``recovery`` entry starts a new incarnation on top of what is left, and the decider's own ``recover`` makes
the state safe: it charges what may have been granted and refuses until that must have ended.

After: Gray and Cheriton, "Leases" (SOSP 1989); learning mode as in Doorman (2016); JetStream's optimistic concurrency
(`Nats-Expected-Last-Subject-Sequence`).
"""

from __future__ import annotations

from bursar.kernel.attempt import Attempt
from bursar.kernel.bugs import seeded
from bursar.kernel.clock import DeciderTime
from bursar.kernel.decider import Fence, Reject
from bursar.kernel.desk import DUE_IN_A_ROW, MAX_IN_A_ROW, Batch, Desk, Request
from bursar.kernel.effects import (
    Announce,
    Answer,
    Drop,
    Faulted,
    Heartbeat,
    Load,
    TakeSnapshot,
)
from bursar.kernel.entry import (
    BATCH,
    BEAT,
    EPOCH,
    RECOVERY,
    chain_hash,
    decode,
    encode,
)
from bursar.kernel.fold import Head
from bursar.kernel.following import Following
from bursar.kernel.recovering import Recovering
from bursar.kernel.roles import Role


class Replica(Following, Recovering):
    """See the module's text. Inputs are the methods below; ``effects`` holds what the shell has to do, in order.

    Every input takes the reading of the monotonic clock (ms). The shell must carry out the effects in order before it
    hands in the next input, and a `TakeSnapshot` must look at the state before that.
    """

    # ---- requests

    def offer(self, request: Request) -> bool:
        """Queue a request for the next `pump`; False when this is not the owner or the queue is full."""
        if self.role is not Role.OWNER or len(self.queue) >= self.options.max_queue:
            return False
        self.queue.append(request)
        return True

    def saw(self, fence: Fence, mono: int) -> bool:
        """Somebody has seen this (genuine) fence; True when it stands for nothing that was decided here.

        Either another owner exists or the journal has lost something: the next append tells. A standby keeps it in
        mind until it takes over.
        """
        if self.role not in {Role.OWNER, Role.STANDBY} or self.folded.knows(fence):
            return False
        if self._suspect is None or fence > self._suspect:
            self._suspect = fence
            self._suspect_since = self._tokens
        if self.role is Role.OWNER:
            self._prove(mono)
        return True

    @property
    def has_work(self) -> bool:
        """Whether `pump` would go on at once with what is queued."""
        return self.role is Role.OWNER and bool(self.queue) and self._may_decide and self.desk.has_room

    @property
    def _may_decide(self) -> bool:
        """Not while a snapshot waits for the state to be committed, nor on a state that may have lost decisions."""
        return not self._holding and self._suspect is None

    def pump(self, mono: int) -> None:
        """Decide what has queued or become due; start an append if none is in flight."""
        if self.role is not Role.OWNER:
            return
        if self._may_decide:
            self._decide_all(mono)
        if self._attempt is None:
            self._send_batch(mono)

    def _decide_all(self, mono: int) -> None:
        desk, queue, now = self.desk, self.queue, self._time.at(mono)
        left = MAX_IN_A_ROW
        while queue and left and desk.has_room:
            desk.decide(queue.popleft(), now)
            left -= 1
        left = max(left, DUE_IN_A_ROW)
        while left and desk.has_room and desk.decide_due(now):
            left -= 1
        if desk.replaced:
            self.effects.append(Drop(desk.replaced))
            desk.replaced = []
        if desk.faults:
            self.effects.append(Faulted(desk.faults))
            desk.faults = []
        if seeded("reply_before_ack"):
            batch = desk.open(now)
            self.effects.extend(batch.answers)
            batch.answers = []

    def _send_batch(self, mono: int) -> None:
        batch = self.desk.batch
        if batch is not None and batch.packed:
            if self._holding or not self._may_wait(batch, mono):
                self.desk.take()
                self._append(BATCH, mono, batch)
        elif batch is not None and batch.answers:
            if mono < self._lease_until and self._suspect is None:
                self.desk.take()
                self._release(batch)
            else:
                self._prove(mono)
        elif self._holding:
            self.desk.take()
            self._take_snapshot(mono)
        else:
            self.desk.take()

    def _may_wait(self, batch: Batch, mono: int) -> bool:
        """Nobody waits for anything in the batch: it saves an append if something urgent comes along soon."""
        return not batch.urgent and self.desk.has_room and mono < self._patience_ends(batch, mono)

    def _patience_ends(self, batch: Batch, mono: int) -> int:
        return mono + batch.time + self.options.patience_ms - self._time.at(mono)

    def wake_at(self, mono: int) -> int | None:
        """The reading of the monotonic clock at which the decider has something due, or a batch has waited for long
        enough; None when nothing is to come."""
        due = super().wake_at(mono)
        batch = self.desk.batch
        if self.role is not Role.OWNER or self._attempt is not None or batch is None or not batch.packed:
            return due
        until = self._patience_ends(batch, mono)
        return until if due is None else min(due, until)

    def _release(self, batch: Batch) -> None:
        self.effects.extend(batch.answers)
        for broadcasts, fence in batch.broadcasts:
            self.effects.append(Announce(broadcasts, fence))

    # ---- time

    def tick(self, mono: int) -> None:
        """Call every few milliseconds: retries, heartbeats, take-over, what the decider has due."""
        attempt = self._attempt
        if attempt is not None and attempt.retry_at is not None and mono >= attempt.retry_at:
            self._resend(attempt, mono)
        if self.role is Role.OWNER:
            self._tick_owner(mono)
        elif self.role is Role.STANDBY and mono - self._heard >= self.options.takeover_ms:
            if self._damage or self.suspect is not None:
                self._regress(self._damage or "a fence was given out for what is not here", mono)
            else:
                self._claim(mono)
        elif self._load_at is not None and mono >= self._load_at:
            self._load("again", mono)

    def _tick_owner(self, mono: int) -> None:
        is_due = mono - self._last_heartbeat >= self.options.heartbeat_ms
        if is_due and not self._leaving and not self._is_cut_off(mono):
            self._last_heartbeat = mono
            self.effects.append(Heartbeat(self.fence, self.head.sequence, self._time.at(mono)))
        if mono - self._last_append >= self.options.beat_ms:
            self._prove(mono)
        if not self._snapshotting and not self._holding and self._snapshot_is_due(mono):
            self._holding = True
        self.pump(mono)

    def _is_cut_off(self, mono: int) -> bool:
        """Whether the journal has been out of reach for so long that a standby had better try. The journal and the
        standbys are reached over different connections: whoever can only tell that it lives must not say so."""
        return self._attempt is not None and mono - self._attempt.sent_at >= 2 * self.options.takeover_ms

    def _snapshot_is_due(self, mono: int) -> bool:
        events = self.folded.events - self._snapshot_events
        late = mono - self._snapshot_at >= self.options.snapshot_ms
        return events >= self.options.snapshot_events or (late and events > 0)

    def _take_snapshot(self, mono: int) -> None:
        self._holding = False
        self._snapshotting = True
        self._snapshot_at = mono
        self._snapshot_events = self.folded.events
        self.effects.append(TakeSnapshot(self.folded, *self.head))

    def send_away_parked(self) -> None:
        """Answer those who wait in line that they have to ask again (another instance will take over)."""
        error = Reject("not_ready", "this instance is stopping; ask again")
        self.effects.extend(Answer(ticket, error, self.committed) for ticket in self.desk.send_away_parked())

    def resign(self, mono: int) -> None:
        """Decide no more, and tell the standbys so; what was decided is still committed and answered."""
        if self.role is Role.OWNER:
            self._leaving = True  # a later heartbeat would call the standby back
            self._lease_until = 0  # a standby need not wait for its end
            self.effects.append(Heartbeat(self.committed, self.head.sequence, self._time.at(mono), leaving=True))

    @property
    def is_idle(self) -> bool:
        """Nothing is queued, undecided or uncommitted."""
        return self._attempt is None and not self.queue and (self.desk.batch is None or self.desk.batch.is_empty)

    def snapshot_done(self) -> None:
        """The snapshot is stored, or was given up."""
        self._snapshotting = False

    # ---- appending

    def _prove(self, mono: int) -> None:
        """Append a beat: it lands only if this is still the owner."""
        if self._attempt is None:
            self._append(BEAT, mono, None)

    def _claim(self, mono: int) -> None:
        self._become(Role.CLAIMING, "the owner is silent" if self.folded.epoch else "the journal is empty")
        self._append(EPOCH, mono, None)

    def _append(self, kind: str, mono: int, batch: Batch | None) -> None:
        folded = self.folded
        epoch = folded.epoch + (1 if kind == EPOCH and not seeded("epoch_reused") else 0)
        at = batch or self.desk.batch
        number = folded.number if at is None else at.number
        time = folded.time if at is None else at.time
        if kind == BEAT and at is None:
            time = max(time, self._time.at(mono))
        entry_id = self._new_id()
        packed = () if batch is None else batch.packed
        payload = encode(kind, (folded.incarnation, epoch, number), entry_id, time, self.head.hash, packed)
        self._start(Attempt(self._next_token(), kind, entry_id, payload, self.head.sequence, batch, mono))

    def _landed(self, attempt: Attempt, sequence: int, mono: int) -> None:
        self._attempt = None
        self.follower.head = Head(sequence, chain_hash(attempt.payload), self.head.created)
        if attempt.kind in (EPOCH, RECOVERY):
            if attempt.head is not None:
                self.follower.head = attempt.head._replace(sequence=sequence, hash=chain_hash(attempt.payload))
            self.folded.apply(decode(attempt.payload))
            self._committed = self.folded.fence
            self._take_office(attempt, mono)
        elif attempt.kind == BEAT:
            self.folded.time = max(self.folded.time, decode(attempt.payload).time)
        self._lease_until = attempt.sent_at + self.options.lease_ms
        if attempt.batch is not None:
            last = attempt.batch.number + len(attempt.batch.packed) - 1
            self._committed = (self.folded.incarnation, self.folded.epoch, last)
        if self._suspect is None and self.desk.batch is not None and self.desk.batch.packed:
            self._send_batch(mono)  # first of all: the disk works while the answers are written and more is decided
        if attempt.batch is not None:
            self._release(attempt.batch)
        if self._suspect is not None and self._is_lost(self._suspect, attempt, mono):
            return
        if self._attempt is None:
            self.pump(mono)

    def _take_office(self, attempt: Attempt, mono: int) -> None:
        self._time = DeciderTime(self.folded.time, mono)
        self.desk = Desk(self.folded)
        self._snapshot_at = mono
        self._snapshot_events = 0  # what was replayed on top of the last snapshot counts, or a storm of owners has none
        self._holding = attempt.kind == RECOVERY
        self._damage = ""
        self._become(Role.OWNER, attempt.kind)
        self._last_heartbeat = mono
        self.effects.append(Heartbeat(self.fence, self.head.sequence, self.folded.time))

    def _superseded(self, mono: int) -> None:
        if self.role is Role.CLAIMING:
            self._attempt = None
            self._heard = mono
            self._become(Role.STANDBY, "another claimed first")
        else:
            self._load("superseded", mono)

    # ---- roles

    def _load(self, reason: str, mono: int) -> None:
        self._dismiss("not_ready")
        self._attempt = None
        self._load_at = None
        self._become(Role.LOADING, reason)
        self.effects.append(Load(self._next_token()))

    def _dismiss(self, code: str) -> None:
        """Send away those whom nothing has been decided for; what was decided but not committed gets no answer."""
        waiting = [*self.queue, *self.desk.parked.values()]
        self.queue.clear()
        self.desk.parked.clear()
        lost = [self.desk.take(), self._attempt.batch if self._attempt else None]
        unanswered = [answer.ticket for batch in lost if batch is not None for answer in batch.answers]
        if unanswered:
            self.effects.append(Drop(unanswered))
        self._holding = False
        self._suspect = self._suspect if code == "failed_closed" else None
        error = Reject(code, "this instance has stopped deciding; ask again")
        self.effects.extend(Answer(r.ticket, error, self._committed) for r in waiting if r.ticket is not None)
