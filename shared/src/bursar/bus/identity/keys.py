"""NKeys in files: made once, private to their owner, never overwritten."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

import nkeys  # type: ignore[import-untyped]
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

OPERATOR = nkeys.PREFIX_BYTE_OPERATOR
ACCOUNT = nkeys.PREFIX_BYTE_ACCOUNT
USER = nkeys.PREFIX_BYTE_USER


class KeyPair:
    """An Ed25519 key pair in NKey notation; ``public`` begins with the letter of its kind (O, A, U)."""

    def __init__(self, seed: bytes) -> None:
        self._pair = nkeys.from_seed(seed)
        self.seed = seed
        self.public = str(self._pair.public_key.decode())

    def sign(self, content: bytes) -> bytes:
        return bytes(self._pair.sign(content))


def generate(kind: int) -> KeyPair:
    """A new key pair; ``kind`` is one of the constants above."""
    return KeyPair(bytes(nkeys.encode_seed(secrets.token_bytes(32), kind)))


def load(path: Path) -> KeyPair:
    return KeyPair(path.read_bytes().strip())


def load_or_generate(path: Path, kind: int) -> KeyPair:
    if not path.exists():
        key = generate(kind)
        write_private(path, key.seed + b"\n")
        return key
    return load(path)


def verifies(public_key: str, content: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``content`` was made with the secret half of ``public_key``."""
    raw = base64.b32decode(public_key + "=" * (-len(public_key) % 8))[1:33]
    try:
        VerifyKey(raw).verify(content, signature)
    except BadSignatureError:
        return False
    return True


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read (0600), whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def make_private_directory(path: Path) -> None:
    """A directory that only its owner can enter (0700)."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
