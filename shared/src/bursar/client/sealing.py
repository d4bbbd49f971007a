"""Values that only their recipients can read: not the scheduler, not the journal, not a backup, not an operator.

::

    recipients = Recipients.load("recipients.json")                     # bursar agent keys > recipients.json
    box = recipients.seal({"api_key": "..."}, to=["worker-1", "worker-2"], about="writer.report")
    await fleet.scheduler.submit("report", payload={"prompt": "...", "key": box})

    key = unseal(task.payload["key"], creds="worker-1.creds", about="writer.report")      # where it is worked on

Whoever has an identity has a key already: the Ed25519 key of its NATS credentials, brought onto X25519 (libsodium's
conversion). So nothing is distributed but public keys by name, and rotating credentials rotates the key: what was
sealed for the old one stays closed. A random key seals the value (XSalsa20-Poly1305) and is itself sealed for each
recipient (X25519 sealed boxes, which say nothing of who has sealed). ``about`` is sealed with it: a box that somebody
has moved to another place does not open there.

Services read nothing that is sealed, so it can stand only in what they do not look at: payloads and results of tasks,
or a part of one. A `Sealed` is a plain map on the wire.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgpack  # type: ignore[import-untyped]
import nacl.secret
import nacl.utils
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.signing import SigningKey, VerifyKey
from pydantic import Field, ValidationError

from bursar.client.scheduler_values import pack_value
from bursar.contracts.base import PRINCIPAL, Message
from bursar.errors import CallerError

MAX_RECIPIENTS: Final = 64
_SEED: Final = re.compile(r"-----BEGIN USER NKEY SEED-----\s+(SU[A-Z2-7]{56})\s")


class Sealed(Message):
    """A sealed value. ``to``: by recipient the key of ``box``, sealed for it alone."""

    sealed: Literal[1] = 1
    to: Annotated[dict[Annotated[str, Field(pattern=PRINCIPAL)], bytes], Field(min_length=1, max_length=MAX_RECIPIENTS)]
    box: bytes


class Recipients:
    """Public keys by name: NKeys of users (``U...``), or keys of services as they stand in trust.json (base64)."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = {name: _public(name, key) for name, key in keys.items()}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recipients:
        """Read a JSON map of names to keys. Raises `CallerError` ``bad_request``, and `OSError`."""
        try:
            keys = dict(json.loads(Path(path).read_text()))
        except (ValueError, TypeError):
            raise CallerError("bad_request", "this is no file of recipients: a JSON map of names to keys") from None
        return cls(keys)

    def seal(self, value: Any, to: str | Sequence[str], about: str = "") -> dict[str, Any]:
        """``value`` (whatever msgpack can hold), so that nobody but ``to`` can read it: a map, to be put wherever it
        was. Raises `CallerError` ``bad_request`` when somebody's key is not known."""
        names = [to] if isinstance(to, str) else list(to)
        if unknown := sorted(set(names) - set(self._keys)):
            raise CallerError("bad_request", f"no key is known of {', '.join(unknown[:5])}")
        if not 1 <= len(names) <= MAX_RECIPIENTS:
            raise CallerError("bad_request", f"a value is sealed for 1 to {MAX_RECIPIENTS} recipients")
        key = nacl.utils.random(nacl.secret.SecretBox.KEY_SIZE)
        packed = pack_value([about, value])
        to_each = {name: bytes(SealedBox(self._keys[name]).encrypt(key)) for name in names}
        return {"v": 1, "sealed": 1, "to": to_each, "box": bytes(nacl.secret.SecretBox(key).encrypt(packed))}


def is_sealed(value: Any) -> bool:
    """Whether a value looks like what `Recipients.seal` has made."""
    return isinstance(value, dict) and value.get("sealed") == 1 and "box" in value


def unseal(value: Any, creds: str | os.PathLike[str], about: str = "") -> Any:
    """The value in a `Sealed` map, with the credentials of one of its recipients.

    Raises `CallerError`: ``bad_seal`` when it is none, was changed, or stood elsewhere (``about``), and
    ``sealed_for_others`` when these credentials do not open it: another's, or newer than the box.
    """
    text = Path(creds).read_text(encoding="ascii")
    return unseal_with(value, _private(text), about)


def unseal_with(value: Any, key: PrivateKey, about: str = "") -> Any:
    """As `unseal`, with a key at hand."""
    try:
        sealed = Sealed.model_validate(value)
    except ValidationError:
        raise CallerError("bad_seal", "this is no sealed value") from None
    secret = _opened(sealed, key)
    try:
        packed = nacl.secret.SecretBox(secret).decrypt(sealed.box)
        where, content = msgpack.unpackb(packed, strict_map_key=False)
    except (CryptoError, ValueError, TypeError, msgpack.exceptions.UnpackException):
        raise CallerError("bad_seal", "the sealed value was changed") from None
    if where != about:
        raise CallerError("bad_seal", "this value was sealed for another place")
    return content


def private_key(seed: bytes) -> PrivateKey:
    """The X25519 key of an Ed25519 seed (32 bytes)."""
    return SigningKey(seed).to_curve25519_private_key()


def _opened(sealed: Sealed, key: PrivateKey) -> bytes:
    box = SealedBox(key)
    for for_one in sealed.to.values():
        try:
            return bytes(box.decrypt(for_one))
        except (CryptoError, ValueError, TypeError):
            continue
    raise CallerError("sealed_for_others", "these credentials open nothing of it")


def _private(creds: str) -> PrivateKey:
    found = _SEED.search(creds)
    if found is None:
        raise CallerError("bad_request", "this is no credentials file: it holds no seed")
    return private_key(_nkey(found[1])[2:34])


def _public(name: str, key: str) -> PublicKey:
    try:
        raw = _nkey(key)[1:33] if re.fullmatch(r"U[A-Z2-7]{55}", key) else base64.b64decode(key, validate=True)
        return VerifyKey(raw).to_curve25519_public_key()
    except (CryptoError, ValueError, TypeError, binascii.Error, RuntimeError):
        raise CallerError("bad_request", f"the key of {name} is none") from None


def _nkey(text: str) -> bytes:
    """The bytes of an NKey: its kind (one byte, two of a seed), 32 bytes, a checksum."""
    return base64.b32decode(text + "=" * (-len(text) % 8))
