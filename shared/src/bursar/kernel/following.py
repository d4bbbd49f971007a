"""The part of an instance that does not decide: it loads what is stored, follows the journal, listens for the owner."""

from __future__ import annotations

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Fence
from bursar.kernel.desk import Desk
from bursar.kernel.entry import chain_hash
from bursar.kernel.errors import BrokenChain, CorruptEntry
from bursar.kernel.fold import Folded, Follower, Head
from bursar.kernel.instance import Instance
from bursar.kernel.recovery import starts_over
from bursar.kernel.roles import Role


class Following(Instance):
    """Loading and standby."""

    def start(self, mono: int) -> None:
        self._load("start", mono)

    def loaded(self, token: int, follower: Follower, mono: int, damage: str = "", floor: Fence | None = None) -> None:
        """The shell has read the newest valid snapshot and all entries after it.

        ``damage`` says in words why what it read cannot be all; ``floor`` is the highest fence that this instance
        knows to have been given out (from its local file). What it had known before it loaded counts as well.
        """
        if token != self._tokens or self.role is not Role.LOADING:
            return
        created = self.head.created
        self.follower = follower
        self.desk = Desk(follower.folded)
        self._damage = damage
        remembered = [fence for fence in (floor, self._committed) if fence is not None]
        if seeded("regression_taken_for_fencing"):
            remembered = []
        self._suspect = max((fence for fence in remembered if not self.folded.knows(fence)), default=None)
        self._note_committed()
        self._heard = mono
        self._lagging_since = None
        self._vacant_at = 0
        if not damage or self.head.created != created:
            self._skipped = 0
        self._become(Role.STANDBY, "loaded")
        if self.head.sequence == 0 and not damage and self._suspect is None:
            self._claim(mono)

    def load_failed(self, token: int, mono: int) -> None:
        if token == self._tokens and self.role is Role.LOADING:
            self._load_at = mono + self.options.max_retry_ms

    def tail(self, sequence: int, payload: bytes, mono: int, base: Folded | None = None) -> None:
        """The next entry of the journal, read by a standby."""
        if self.role is Role.OWNER and seeded("tail_moves_writers_head") and sequence > self.head.sequence:
            self.follower.head = Head(sequence, chain_hash(payload), self.head.created)
        if self.role is not Role.STANDBY or sequence <= max(self.head.sequence, self._skipped):
            return
        self._heard = mono
        try:
            self.follower.follow(sequence, payload, base)
        except (BrokenChain, CorruptEntry) as error:
            if self._damage:  # known to be broken: only a recovery mends it, by another or by this
                self._skipped = sequence
            if not self._damage or starts_over(payload):  # each is tried once: one may have come too late to mend it
                self._load(f"tail: {error}", mono)
            return
        self.desk.folded = self.follower.folded
        self._lagging_since = None  # behind, perhaps, for as long as the owner is busy, but not stuck
        self._note_committed()
        if 0 < self._vacant_at <= sequence:
            self._vacant_at = 0
            self._heard -= self.options.takeover_ms

    def _note_committed(self) -> None:
        """Everything that was folded has been read from the journal; what was known to be in it stays known."""
        if self.folded.knows(self._committed):
            self._committed = self.folded.fence

    def heartbeat(self, fence: Fence, sequence: int, mono: int) -> None:
        """An owner said that it lives, and where its head is."""
        if self.role is Role.OWNER:
            if fence[:2] > self.fence[:2]:
                self._prove(mono)
            return
        if self.role is not Role.STANDBY or fence[:2] < self.fence[:2]:
            return
        self._heard = mono
        self._vacant_at = 0
        if sequence <= self.head.sequence and fence[:2] == self.fence[:2]:
            self._lagging_since = None
        elif self._lagging_since is None:
            self._lagging_since = mono
        elif mono - self._lagging_since >= self._patience(fence):
            self._load("the tail is stuck", mono)

    def _patience(self, fence: Fence) -> int:
        """How long (ms) the tail may be behind what the owner says. What it has not heard of a new incarnation it
        will not hear at all if the journal now ends before the entry that it waits to go on from."""
        return self.options.heartbeat_ms if fence[0] > self.fence[0] else self.options.takeover_ms

    def resigned(self, fence: Fence, sequence: int = 0) -> None:
        """The owner said that it decides no more, and where its head is: no need to wait for its silence, but for
        what it appended last."""
        if self.role is not Role.STANDBY or fence[:2] < self.fence[:2]:
            return
        if sequence > self.head.sequence:
            self._vacant_at = sequence
        else:
            self._heard -= self.options.takeover_ms
