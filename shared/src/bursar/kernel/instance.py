"""What every role of an instance needs: its state, and one append at a time, settled whatever happens to it.

Rules 2 and 3 of the replica's promise are here: a refusal is looked into, an unknown outcome is repeated. What follows
from a settled append is the `Replica`'s business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Any

from bursar.kernel.attempt import CONFLICT_CODES, Attempt, Phase
from bursar.kernel.bugs import seeded
from bursar.kernel.clock import DeciderTime
from bursar.kernel.decider import Decider, Fence, Reject
from bursar.kernel.desk import Desk, Request
from bursar.kernel.effects import Answer, Append, Effect, Inspect, Inspection, RoleChanged, WriteBase
from bursar.kernel.fold import Folded, Follower, Head
from bursar.kernel.recovery import damage_in, id_of, was_passed
from bursar.kernel.roles import TRANSITIONS, Options, Role


class Instance(ABC):
    """The state of one instance of one shard, and its attempt to append."""

    def __init__(self, decider: Decider[Any], instance: bytes, options: Options | None = None) -> None:
        self.decider = decider
        self.options = options or Options()
        self.role = Role.LOADING
        self.follower = Follower(Folded(decider))
        self.desk = Desk(self.follower.folded)
        self.effects: list[Effect] = []
        self.queue: deque[Request] = deque()
        self._instance = instance
        self._ids = 0
        self._tokens = 0
        self._attempt: Attempt | None = None
        self._time = DeciderTime(0, 0)
        self._heard = 0
        self._lagging_since: int | None = None
        self._vacant_at = 0
        self._skipped = 0
        self._lease_until = 0
        self._last_append = 0
        self._last_heartbeat = 0
        self._load_at: int | None = None
        self._damage = ""
        self._tried = b""
        self._suspect: Fence | None = None
        self._suspect_since = 0
        self._leaving = False
        self._committed: Fence = (0, 0, 0)
        self._snapshot_at = 0
        self._snapshot_events = 0
        self._snapshotting = False
        self._holding = False

    # ---- what the shell may ask

    @property
    def folded(self) -> Folded:
        return self.follower.folded

    @property
    def head(self) -> Head:
        return self.follower.head

    @property
    def fence(self) -> Fence:
        return self.folded.fence

    @property
    def committed(self) -> Fence:
        """The fence of the last decision that is in the journal."""
        return self._committed

    @property
    def suspect(self) -> Fence | None:
        """A fence that was given out for something that is not here (yet), or that is here but not in what others
        have appended since; None when there is none."""
        suspect = self._suspect
        if suspect is not None and not self.folded.knows(suspect):
            return suspect
        return self._committed if self._damage else None

    @property
    def is_full(self) -> bool:
        """Whether the journal had no room for what was decided last: nothing is to be offered until it has."""
        return self._attempt is not None and self._attempt.is_full

    def now(self, mono: int) -> int:
        """The owner's time (ms of the decider's clock) at a reading of the monotonic clock."""
        return self._time.at(mono)

    def wake_at(self, mono: int) -> int | None:
        """The reading of the monotonic clock at which the decider has something due; None when it has not."""
        if self.role is not Role.OWNER or self.is_full:
            return None
        due = self.decider.wake_at(self.folded.state)
        return None if due is None else mono + max(0, due - self._time.at(mono))

    # ---- appending

    def _start(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._last_append = attempt.sent_at
        self.effects.append(Append(attempt.token, attempt.expected, attempt.payload))

    def _resend(self, attempt: Attempt, mono: int) -> None:
        attempt.retry_at = None
        if attempt.phase is Phase.BASE:
            self.effects.append(self._write_base(attempt))
        elif attempt.phase is Phase.INSPECT:
            self.effects.append(Inspect(attempt.token, self.head.sequence))
        else:
            if seeded("unknown_append_counted_twice") and attempt.batch is not None:
                attempt.expected = -1
            self.effects.append(Append(attempt.token, attempt.expected, attempt.payload))

    def reconnected(self, mono: int) -> None:
        """The journal can be reached again: what waits to be repeated need not wait any longer."""
        if self._attempt is not None and self._attempt.retry_at is not None and self._attempt.retries:
            self._attempt.retry_at = mono
        if self._load_at is not None:
            self._load_at = mono

    def unknown(self, token: int, mono: int) -> None:
        """No acknowledgement came, or nothing could be sent or read: the same again, a little later."""
        attempt = self._attempt
        if attempt is not None and attempt.token == token:
            attempt.may_land = True
            attempt.back_off(mono, self.options.retry_ms, self.options.max_retry_ms)

    def no_room(self, token: int, mono: int) -> None:
        """The append was refused because the journal is full. It is repeated until there is room; meanwhile whoever
        waits is told, nobody is asked to wait, and what was decided stays to be committed: who asks again then gets
        his answer. The owner stays one, since no other could do better."""
        attempt = self._attempt
        if attempt is None or attempt.token != token:
            return
        attempt.is_full = True
        if not attempt.may_land:
            attempt.sent_at = mono
        attempt.back_off(mono, self.options.retry_ms, self.options.max_retry_ms)
        if self.role is Role.OWNER:
            self._turn_away(attempt)

    def _turn_away(self, attempt: Attempt) -> None:
        tickets = [request.ticket for request in self.queue] + self.desk.send_away_parked()
        self.queue.clear()
        for batch in (attempt.batch, self.desk.batch):
            if batch is not None:
                tickets.extend(answer.ticket for answer in batch.answers)
                batch.answers = []
        error = Reject("journal_full", "the journal has no room; ask again")
        self.effects.extend(Answer(ticket, error, self._committed) for ticket in tickets if ticket is not None)

    def refused(self, token: int, code: int, mono: int) -> None:
        """The append was refused with a JetStream error code."""
        attempt = self._attempt
        if attempt is None or attempt.token != token:
            return
        if code == 10164 and seeded("code_10164_is_no_conflict"):
            self._attempt = None
            self.pump(mono)
        elif code in CONFLICT_CODES:
            attempt.retry_at = None
            if seeded("regression_taken_for_fencing"):
                self._load("refused", mono)
            elif seeded("fencing_taken_for_regression") and self.role is Role.OWNER:
                self._regress("refused", mono)
            else:
                self.effects.append(Inspect(token, self.head.sequence))
        else:
            self.unknown(token, mono)

    def appended(self, token: int, sequence: int, mono: int) -> None:
        """The append is in the journal, under this sequence."""
        attempt = self._attempt
        if attempt is not None and attempt.token == token and attempt.phase is Phase.APPEND:
            self._landed(attempt, sequence, mono)

    def inspected(self, token: int, seen: Inspection, mono: int) -> None:
        """What the journal holds around the head (rule 2)."""
        attempt = self._attempt
        if attempt is None or attempt.token != token:
            return
        if self.role is Role.RECOVERING:
            self._inspected_for_recovery(attempt, seen, mono)
            return
        damage = damage_in(self.head, seen)
        if damage:
            self._regress(damage, mono)
        elif was_passed(self.head, seen):
            self._load("the journal has gone on without its head", mono)
        elif seen.following is None:
            attempt.back_off(mono, self.options.retry_ms, self.options.max_retry_ms)
        elif id_of(seen.following[1]) == attempt.id:
            self._landed(attempt, seen.following[0], mono)
        else:
            self._superseded(mono)

    @abstractmethod
    def pump(self, mono: int) -> None:
        """Decide what has queued or become due; start an append if none is in flight."""

    @abstractmethod
    def _prove(self, mono: int) -> None:
        """Append a beat: it lands only if this is still the owner."""

    @abstractmethod
    def _claim(self, mono: int) -> None:
        """Append the next epoch: it lands only if nobody has appended since."""

    @abstractmethod
    def _dismiss(self, code: str) -> None:
        """Send away whoever waits."""

    @abstractmethod
    def _landed(self, attempt: Attempt, sequence: int, mono: int) -> None:
        """The attempt's entry is in the journal."""

    @abstractmethod
    def _superseded(self, mono: int) -> None:
        """Another instance has appended."""

    @abstractmethod
    def _regress(self, reason: str, mono: int) -> None:
        """The journal has lost acknowledged entries."""

    @abstractmethod
    def _inspected_for_recovery(self, attempt: Attempt, seen: Inspection, mono: int) -> None:
        """A recovery has looked around."""

    @abstractmethod
    def _load(self, reason: str, mono: int) -> None:
        """Start over from what is stored."""

    # ---- plumbing

    @staticmethod
    def _write_base(attempt: Attempt) -> WriteBase:
        left = attempt.left.last if attempt.left is not None else None
        return WriteBase(attempt.token, attempt.base_data, left[0] if left is not None else 0)

    def _become(self, role: Role, reason: str) -> None:
        assert role in TRANSITIONS[self.role], f"{self.role} -> {role}"
        self.role = role
        self.effects.append(RoleChanged(role, reason))

    def _next_token(self) -> int:
        self._tokens += 1
        return self._tokens

    def _new_id(self) -> bytes:
        self._ids += 1
        return self._instance + self._ids.to_bytes(8, "big")
