"""The part of an instance that starts over when the journal has lost acknowledged entries."""

from __future__ import annotations

from typing import Any

from bursar.kernel.attempt import Attempt, Phase
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Fence
from bursar.kernel.effects import Append, Inspection
from bursar.kernel.entry import RECOVERY
from bursar.kernel.fold import Folded
from bursar.kernel.instance import Instance
from bursar.kernel.recovery import damage_in, last_of, recovery_entry
from bursar.kernel.roles import Role


class Recovering(Instance):
    """Fail closed, look around, store what is known, begin a new incarnation."""

    def _regress(self, reason: str, mono: int) -> None:
        """Fail closed; find out what is left, store what is known, start a new incarnation.

        An owner knows decisions that a standby may not have read before they were lost. So a standby waits for an
        owner that comes back before it recovers with what it knows itself. An owner looks once more a moment later: a
        leader of the stream that was paused goes on answering reads beside its successor, for a tenth of a second or
        two, out of a journal that has fallen behind.
        """
        self._dismiss("failed_closed")
        yields = self.role in {Role.STANDBY, Role.CLAIMING}
        if self.role is not Role.RECOVERING:
            self._become(Role.RECOVERING, reason)
        self._attempt = Attempt(self._next_token(), RECOVERY, b"", b"", 0, None, mono)
        self._attempt.phase = Phase.INSPECT
        self._attempt.retry_at = mono + (2 * self.options.takeover_ms if yields else self.options.takeover_ms // 2)

    def _inspected_for_recovery(self, attempt: Attempt, seen: Inspection, mono: int) -> None:
        if attempt.phase is Phase.BASE:
            return
        last = last_of(seen)
        if seen.last is not None and last is not None and last.id == attempt.id:
            self._landed(attempt, seen.last[0], mono)
            return
        is_new = last is not None and last.id != self._tried  # what a load could not mend once, it cannot mend
        if last is not None and is_new and not seeded("fencing_taken_for_regression"):
            self._tried = last.id
            if last.incarnation > self.folded.incarnation:
                self._load("another has recovered", mono)
                return
            is_whole = not self._damage and not damage_in(self.head, seen)
            if is_whole and seen.following is not None:
                self._load("there are entries that this instance has not read", mono)
                return
            if is_whole and self._suspect is None:
                self._load("nothing is missing", mono)
                return
        attempt.left = seen
        attempt.phase = Phase.BASE
        attempt.base_data = self.folded.dump()
        # go on with exactly what is stored: who stood in line has been sent away, and must not be granted anything
        self.follower.folded = Folded.load(self.decider, attempt.base_data)
        self.effects.append(self._write_base(attempt))

    def base_written(self, token: int, manifest: Any, mono: int) -> None:
        """The base is stored; ``manifest`` (msgpack values) goes into the recovery entry."""
        attempt = self._attempt
        if attempt is None or attempt.token != token or attempt.phase is not Phase.BASE or attempt.left is None:
            return
        attempt.id = self._new_id()
        attempt.payload, attempt.head = recovery_entry(self.folded, attempt.left, self._suspect, attempt.id, manifest)
        attempt.expected = attempt.head.sequence
        attempt.base_data = b""
        attempt.phase = Phase.APPEND
        attempt.sent_at = mono
        self.effects.append(Append(token, attempt.expected, attempt.payload))

    def _is_lost(self, suspect: Fence, attempt: Attempt, mono: int) -> bool:
        """Whether the journal has lost what a higher fence stands for; if so, recover.

        Only an append that was sent after the fence was seen tells: it landed, so nobody else owns the shard.
        """
        if self.folded.knows(suspect):
            self._suspect = None
            return False
        if attempt.token <= self._suspect_since:
            self._prove(mono)
            return False
        self._regress("a fence was given out for what is not here", mono)
        return True
