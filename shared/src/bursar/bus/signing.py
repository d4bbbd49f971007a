"""Signed broadcasts: who said it, checked once per process.

Everybody may hear `bursar.evt.*`; only the service named in the subject may speak there, and permissions already say
so. The signature holds even where permissions fail (a bridge, a leaf node, a mistake). It covers the subject, so that
a true message cannot be moved to another subject. On the wire: ``{"v": 1, "b": <packed body>, "s": <64 bytes>}``,
Ed25519 over ``subject + b"\\0" + b``.

To verify takes 50 µs or so, and a process may have hundreds of subscribers: `Verifier` remembers what it has verified,
by the exact bytes, so that each message costs one verification in a process.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from bursar.bus.codec import Limits, decode_value, encode
from bursar.errors import BursarError, ServiceError

EVENT_LIMITS = Limits(size=262_144, array=8_192, map=256, text=131_072, depth=10, containers=16_384)
"""Bounds of a broadcast, envelope and body."""

REMEMBERED = 4_096
"""How many verified messages a `Verifier` keeps in mind."""


class Signer:
    """Signs a service's broadcasts."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self.public_key = base64.b64encode(bytes(key.verify_key)).decode()

    @classmethod
    def generate(cls) -> Signer:
        return cls(SigningKey.generate())

    @classmethod
    def load(cls, path: Path) -> Signer:
        """The key in a file. Raises `ServiceError` when others may read it or it is not a key."""
        if path.stat().st_mode & 0o077:
            raise ServiceError("internal", "a signing key must be readable by its owner alone (mode 0600)")
        try:
            return cls(SigningKey(base64.b64decode(path.read_bytes().strip(), validate=True)))
        except (ValueError, TypeError):
            raise ServiceError("internal", "the file does not hold a signing key") from None

    @classmethod
    def load_or_create(cls, path: Path) -> Signer:
        """The key in a file, which is made (mode 0600) when it is not there."""
        if not path.exists():
            with contextlib.suppress(FileExistsError):  # another instance was quicker: its key is the key
                cls.generate().save(path)
        return cls.load(path)

    def save(self, path: Path) -> None:
        """Write the key to a new file, mode 0600, whole or not at all; raises `FileExistsError`, never replaces."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(base64.b64encode(bytes(self._key)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            path.hardlink_to(draft)
        finally:
            Path(draft).unlink()

    def seal(self, content: bytes) -> bytes:
        """The bare signature of some bytes (64 bytes)."""
        return bytes(self._key.sign(content).signature)

    def sign(self, subject: str, body: Any) -> bytes:
        """The payload that says ``body`` (a message or plain values) on ``subject``."""
        packed = encode(body)
        signature = self._key.sign(_signed_part(subject, packed)).signature
        return encode({"v": 1, "b": packed, "s": signature})


class Verifier:
    """Checks broadcasts against the keys of the services that are trusted: name of the service to public key."""

    def __init__(self, trusted: Mapping[str, str]) -> None:
        self._keys = {service: _verify_key(key) for service, key in trusted.items()}
        self._seen: dict[tuple[str, bytes], dict[str, Any]] = {}
        self.verified = 0
        self.refused = 0

    def open(self, subject: str, payload: bytes) -> dict[str, Any]:
        """The body of a broadcast; callers share it and must not change it.

        Raises `ServiceError` ``bad_signature`` when it is not from the service that the subject names.
        """
        known = self._seen.get((subject, payload))
        if known is not None:
            return known
        try:
            body = self._verify(subject, payload)
        except BursarError:
            self.refused += 1
            raise
        self.verified += 1
        if len(self._seen) >= REMEMBERED:
            self._seen.pop(next(iter(self._seen)))
        self._seen[subject, payload] = body
        return body

    def _verify(self, subject: str, payload: bytes) -> dict[str, Any]:
        key = self._keys.get(_speaker(subject))
        if key is None:
            raise ServiceError("bad_signature", "no key is known for the service in the subject")
        try:
            envelope, _ = decode_value(payload, EVENT_LIMITS)
        except BursarError as error:
            raise ServiceError("bad_signature", "not a signed message", cause=error.code) from None
        packed, signature = envelope.get("b"), envelope.get("s")
        if envelope.keys() != {"v", "b", "s"} or envelope["v"] != 1 or type(packed) is not bytes:
            raise ServiceError("bad_signature", "not a signed message")
        if type(signature) is not bytes or len(signature) != 64:
            raise ServiceError("bad_signature", "not a signed message")
        try:
            key.verify(_signed_part(subject, packed), signature)
        except BadSignatureError:
            raise ServiceError("bad_signature", "the signature does not fit the message") from None
        return decode_value(packed, EVENT_LIMITS)[0]


def _speaker(subject: str) -> str:
    """The service that a broadcast's subject names, or an empty string."""
    tokens = subject.split(".", 3)
    return tokens[2] if len(tokens) == 4 and tokens[:2] == ["bursar", "evt"] else ""


def _signed_part(subject: str, packed: bytes) -> bytes:
    return subject.encode() + b"\0" + packed


def _verify_key(key: str) -> VerifyKey:
    try:
        return VerifyKey(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise ServiceError("internal", "a trusted key is not an Ed25519 public key in base64") from None
