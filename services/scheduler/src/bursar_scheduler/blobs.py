"""Values that are too large for a message, in parts: who stored them, what is there of them, who needs them.

A blob is known by who stored it and by the hash of its content. It is *held* by each task, dead letter and kept end
whose payload or result refers to it; what nobody holds goes five minutes later, when more is stored or let go. All of
it is durable; which blobs are held follows from the rest of the state.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from bursar.contracts.scheduler_blobs import PART_BYTES, is_reference
from bursar.contracts.scheduler_words import BLOB
from bursar.kernel.decider import Reject

IDLE_MS: Final = 300_000
"""For so long a blob is there without anybody who needs it: on its way to a task, or to one that is retried."""

Key = tuple[str, str]
"""(who stored it, hash of the content)."""


def key_of(value: Any) -> Key | None:
    """The blob that a value refers to."""
    return (value["owner"], value[BLOB]) if is_reference(value) else None


class Blob:
    """``parts``: None where one is missing; ``missing``: how many are."""

    __slots__ = ("missing", "parts", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.parts: list[bytes | None] = [None] * -(-size // PART_BYTES)
        self.missing = len(self.parts)

    def put(self, part: int, data: bytes) -> None:
        self.missing -= self.parts[part] is None
        self.parts[part] = data


class Blobs:
    """``there``: all of them; ``idle``: since when nobody holds a blob, the longest time first. Derived: ``held`` (by
    how many), ``bytes`` in all and ``of`` each owner, missing parts included."""

    __slots__ = ("bytes", "held", "idle", "of", "there")

    def __init__(self) -> None:
        self.there: dict[Key, Blob] = {}
        self.idle: dict[Key, int] = {}
        self.held: Counter[Key] = Counter()
        self.bytes = 0
        self.of: Counter[str] = Counter()

    # ---- looking

    def find(self, key: Key, now: int) -> Blob | None:
        """None also for one whose time is over, though it has not been dropped yet."""
        since = self.idle.get(key)
        return None if since is not None and since + IDLE_MS <= now else self.there.get(key)

    def over(self, now: int) -> tuple[int, Counter[str]]:
        """Bytes that the next one to be stored finds free: of blobs whose time is over; in all, and by owner."""
        free = Counter[str]()
        for key, since in self.idle.items():
            if since + IDLE_MS > now:
                break
            free[key[0]] += self.there[key].size
        return free.total(), free

    def unusable(self, principal: str, value: Any, now: int) -> Reject | None:
        """Why somebody may not have a value in a task or a result: it refers to what is not theirs, or not there."""
        key = key_of(value)
        if key is None:
            return None
        if key[0] != principal:
            return Reject("not_yours", "refer to what you have stored yourself", {"owner": key[0]})
        blob = self.find(key, now)
        if blob is None or blob.missing or blob.size != value["packed"]:
            return Reject("unknown_blob", "this was not stored, or not as a whole", {"blob": key[1]})
        return None

    # ---- changing; only `evolve` calls these

    def put(self, key: Key, size: int, part: int, data: bytes, now: int) -> None:
        self._sweep(now)
        blob = self.there.get(key)
        if blob is None:
            blob = self._add(key, size)
        blob.put(part, data)
        if not self.held[key]:
            self._rest(key, now)

    def _add(self, key: Key, size: int) -> Blob:
        blob = self.there[key] = Blob(size)
        self.bytes += size
        self.of[key[0]] += size
        return blob

    def hold(self, value: Any) -> None:
        """Something that is there from now on has this value."""
        key = key_of(value)
        if key is not None:
            self.held[key] += 1
            self.idle.pop(key, None)

    def let_go(self, value: Any, now: int) -> None:
        """It is there no more."""
        key = key_of(value)
        if key is None:
            return
        self.held[key] -= 1
        if not self.held[key]:
            del self.held[key]
            if key in self.there:
                self._rest(key, now)
        self._sweep(now)

    def _rest(self, key: Key, now: int) -> None:
        self.idle.pop(key, None)
        self.idle[key] = now

    def _sweep(self, now: int) -> None:
        while self.idle:
            key = next(iter(self.idle))
            if self.idle[key] + IDLE_MS > now:
                return
            del self.idle[key]
            size = self.there.pop(key).size
            self.bytes -= size
            self.of[key[0]] -= size
            if not self.of[key[0]]:
                del self.of[key[0]]

    # ---- keeping

    def dump(self) -> Any:
        return {
            "there": [[*key, blob.size, blob.parts] for key, blob in self.there.items()],
            "idle": [[*key, since] for key, since in self.idle.items()],
        }

    @classmethod
    def load(cls, value: Any) -> Blobs:
        blobs = cls()
        for owner, name, size, parts in value["there"]:
            blob = blobs._add((owner, name), size)
            for number, data in enumerate(parts):
                if data is not None:
                    blob.put(number, data)
        blobs.idle = {(owner, name): since for owner, name, since in value["idle"]}
        return blobs
