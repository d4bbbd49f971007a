"""NKeys in files: made once, private to their owner, never overwritten."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import nkeys

OPERATOR = nkeys.PREFIX_BYTE_OPERATOR
ACCOUNT = nkeys.PREFIX_BYTE_ACCOUNT
USER = nkeys.PREFIX_BYTE_USER


def generate(kind: int) -> nkeys.KeyPair:
    """A new key pair; ``kind`` is one of the constants above."""
    return nkeys.from_seed(nkeys.encode_seed(secrets.token_bytes(32), kind))


def public(key: nkeys.KeyPair) -> str:
    return str(key.public_key.decode())


def load(path: Path) -> nkeys.KeyPair:
    return nkeys.from_seed(path.read_bytes().strip())


def load_or_generate(path: Path, kind: int) -> nkeys.KeyPair:
    if not path.exists():
        key = generate(kind)
        write_private(path, bytes(key.seed) + b"\n")
        return key
    return load(path)


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
