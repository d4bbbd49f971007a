"""Fences as agents carry them: ``incarnation.epoch.number.mac``.

The MAC (BLAKE2b-64 under a key that only the service's instances have) lets a service believe a fence that is higher
than its own: it is then proof that the journal has lost something, not a lie that would stop the service.

It covers the principal that the fence was given to. Every answer carries the fence of the last decision, also of one
that was made for somebody else: without the name in it, whoever asks at the right moment would hold the proof of
another's grant. What all are told (broadcasts, signed), and what an instance keeps for itself, is given to nobody in
particular: that fence says how far the service was, and proves no claim.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from bursar.kernel.decider import Fence

EVERYBODY: Final = ""
"""The principal of a fence that is given to nobody in particular."""


class Fencer:
    """Makes and checks fence strings with one key (32 bytes)."""

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:
            raise ValueError("a fence key has at least 16 bytes")
        self._keyed = hashlib.blake2b(digest_size=8, key=key)

    def seal(self, fence: Fence, principal: str) -> str:
        """The fence as it is given to one principal, or to `EVERYBODY`."""
        incarnation, epoch, number = fence
        text = f"{incarnation}.{epoch}.{number}"
        return f"{text}.{self._mac(text, principal)}"

    def is_genuine(self, sealed: str, principal: str) -> bool:
        """Whether this fence was given to that principal."""
        text, _, mac = sealed.rpartition(".")
        return hmac.compare_digest(mac, self._mac(text, principal))

    def _mac(self, text: str, principal: str) -> str:
        keyed = self._keyed.copy()
        keyed.update(f"{text} {principal}".encode())
        return keyed.hexdigest()


def parse_fence(sealed: str) -> Fence:
    """The numbers of a fence string that the contract's pattern has let through."""
    incarnation, epoch, number, _ = sealed.split(".")
    return (int(incarnation), int(epoch), int(number))
