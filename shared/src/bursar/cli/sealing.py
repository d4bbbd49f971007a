"""The identities of a home in one file, sealed with a passphrase: whoever has the file alone has nothing.

Argon2id makes the key of the passphrase (libsodium's "moderate" cost: 256 MiB and most of a second a guess), XSalsa20
with Poly1305 seals. The file: magic, salt (16 bytes), nonce and box.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Final

import nacl.pwhash
import nacl.secret
import nacl.utils
from nacl.exceptions import CryptoError

from bursar.bus.identity import Home, HomeError
from bursar.bus.identity.keys import make_private_directory, write_private

MAGIC: Final = b"bursar-identities-1\n"
_KEPT: Final = (
    "keys/*", "creds/*", "probes/*", "tls/*", "services/*/*", "trust.json", "revoked.json",
    "budgets.toml", "circuits.toml", "rules.toml",
)  # fmt: skip
SHORTEST: Final = 12


def seal(home: Home, passphrase: str) -> bytes:
    """The home's keys, credentials and files of rules. Raises `HomeError` when the passphrase is too short."""
    if len(passphrase) < SHORTEST:
        raise HomeError(f"a passphrase has at least {SHORTEST} characters")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for pattern in _KEPT:
            for path in sorted(home.path.glob(pattern)):
                if path.is_file():
                    archive.add(path, arcname=str(path.relative_to(home.path)), recursive=False)
    salt = nacl.utils.random(nacl.pwhash.argon2id.SALTBYTES)
    return MAGIC + salt + bytes(_box(passphrase, salt).encrypt(packed.getvalue()))


def unseal(sealed: bytes, passphrase: str, home: Path) -> None:
    """Make a home of what `seal` packed. Raises `HomeError` when there is one already, the passphrase is wrong or the
    file is damaged; then nothing is written."""
    if (home / "keys" / "operator.nk").exists():
        raise HomeError(f"{home} holds an installation already: its identities are kept")
    if not sealed.startswith(MAGIC):
        raise HomeError("these are no sealed identities, or those of another version")
    salt, box = sealed[len(MAGIC) :][:16], sealed[len(MAGIC) + 16 :]
    try:
        packed = _box(passphrase, salt).decrypt(box)
    except (CryptoError, ValueError):
        raise HomeError("the passphrase is wrong, or the file is damaged") from None
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        for member in archive:
            _place(archive, member, home)


def _place(archive: tarfile.TarFile, member: tarfile.TarInfo, home: Path) -> None:
    target = home / member.name
    file = archive.extractfile(member) if member.isfile() else None
    if file is None or ".." in Path(member.name).parts or Path(member.name).is_absolute():
        raise HomeError("the sealed identities hold something that is no file of a home")
    for directory in [*reversed(target.relative_to(home).parents)]:
        make_private_directory(home / directory)
    write_private(target, file.read())


def _box(passphrase: str, salt: bytes) -> nacl.secret.SecretBox:
    cost = nacl.pwhash.argon2id
    key = cost.kdf(
        nacl.secret.SecretBox.KEY_SIZE, passphrase.encode(), salt,
        opslimit=cost.OPSLIMIT_MODERATE, memlimit=cost.MEMLIMIT_MODERATE,
    )  # fmt: skip
    return nacl.secret.SecretBox(key)
