"""The registrar: writes down what is done to the identities of a home, before it is done.

A home is worked on where no server needs to run, so its acts go into a file first, ``<home>/audit/acts.jsonl``: one
JSON object a line, chained and signed, fsynced; when that cannot be written, nothing is done. `bursar audit keep` ships
the lines into the audit log.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nacl.signing import VerifyKey

from bursar.audit.record import key_of
from bursar.bus.identity import Home, HomeError
from bursar.bus.identity.keys import make_private_directory, write_private
from bursar.bus.permissions import REGISTRAR
from bursar.bus.signing import Signer

ANCHOR = "anchor"


def directory(home: Home) -> Path:
    return home.path / "audit"


def signer(home: Home, name: str) -> Signer:
    """The key of the registrar, or that of the anchors; made when there is none, and its public half noted."""
    make_private_directory(directory(home))
    found = Signer.load_or_create(directory(home) / f"{name}.nk")
    file = directory(home) / "trust.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    if known.get(name) != found.public_key:
        write_private(file, json.dumps(known | {name: found.public_key}, indent=2).encode() + b"\n")
    return found


def keys(home: Home) -> dict[str, VerifyKey]:
    """Public keys of all writers, and of the anchors (``anchor``)."""
    for name in (REGISTRAR, ANCHOR):
        signer(home, name)
    files = (home.trust_file, directory(home) / "trust.json")
    found = {name: key for file in files if file.exists() for name, key in json.loads(file.read_text()).items()}
    return {name: key_of(public) for name, public in found.items()}


def note(home: Home, act: str, name: str, **facts: Any) -> None:
    """Write down that ``act`` is about to be done to the credentials of ``name``. Raises `HomeError`: do not do it."""
    try:
        lines = acts(home)
        body = {
            "n": len(lines) + 1,
            "prev": _digest(lines[-1]) if lines else "",
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "by": getpass.getuser(),
            "act": act,
            "name": name,
            **facts,
        }
        signature = signer(home, REGISTRAR).seal(json.dumps(body, sort_keys=True).encode())
        line = json.dumps(body | {"signature": base64.b64encode(signature).decode()}).encode() + b"\n"
        descriptor = os.open(_file(home), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as out:
            out.write(line)
            out.flush()
            os.fsync(out.fileno())
    except (OSError, KeyError, ValueError) as error:
        raise HomeError(f"nothing was done, as it cannot be recorded in {_file(home)}: {error}") from None


def acts(home: Home) -> list[bytes]:
    """The lines of the file."""
    file = _file(home)
    return file.read_bytes().splitlines() if file.exists() else []


def _file(home: Home) -> Path:
    return directory(home) / "acts.jsonl"


def _digest(line: bytes) -> str:
    return hashlib.blake2b(line, digest_size=32).hexdigest()
