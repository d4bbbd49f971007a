"""An answer's bytes, made of the packed reply that the journal keeps: its version before it, its fence behind it.

What is packed once for the journal is not packed again for the wire.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

_MAX_FIXMAP: Final = 15
_FIXMAP: Final = 0x80
_VERSION: Final[bytes] = msgpack.packb("v") + msgpack.packb(1)
_FENCE: Final[bytes] = msgpack.packb("fence")
_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


def whole(reply: dict[str, Any], fence: str) -> dict[str, Any]:
    """A reply with its version and its fence, as values."""
    return {"v": 1, **reply, "fence": fence}


def whole_packed(reply: bytes, fence: str) -> bytes:
    """The same in msgpack, from a packed reply (one map, without these two keys)."""
    keys = reply[0] - _FIXMAP
    if 0 <= keys <= _MAX_FIXMAP - 2:
        head = bytes((_FIXMAP + 2 + keys,))
        return b"".join((head, _VERSION, reply[1:], _FENCE, _pack(fence)))
    packed: bytes = _pack(whole(msgpack.unpackb(reply), fence))
    return packed
