"""Fences as agents carry them: ``incarnation.epoch.number.mac``.

The MAC (BLAKE2b-64 under a key that only the service's instances have) lets a service believe a fence that is higher
than its own: it is then proof that the journal has lost something, not a lie that would stop the service.
"""

from __future__ import annotations

import hashlib
import hmac

from bursar.kernel.decider import Fence


class Fencer:
    """Makes and checks fence strings with one key (32 bytes)."""

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:
            raise ValueError("a fence key has at least 16 bytes")
        self._keyed = hashlib.blake2b(digest_size=8, key=key)

    def seal(self, fence: Fence) -> str:
        incarnation, epoch, number = fence
        text = f"{incarnation}.{epoch}.{number}"
        return f"{text}.{self._mac(text)}"

    def is_genuine(self, sealed: str) -> bool:
        text, _, mac = sealed.rpartition(".")
        return hmac.compare_digest(mac, self._mac(text))

    def _mac(self, text: str) -> str:
        keyed = self._keyed.copy()
        keyed.update(text.encode())
        return keyed.hexdigest()


def parse_fence(sealed: str) -> Fence:
    """The numbers of a fence string that the contract's pattern has let through."""
    incarnation, epoch, number, _ = sealed.split(".")
    return (int(incarnation), int(epoch), int(number))
