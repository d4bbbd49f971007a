"""Rules for the home's files: secrets are their owner's alone, credentials are this home's and count."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from bursar.bus.identity import Home
from bursar.bus.identity.jwt import BadToken, decode, token_in
from bursar.bus.signing import Signer
from bursar.cli.doctor.finding import Finding, judged
from bursar.errors import BursarError

_SECRETS = (
    "keys/*.nk",
    "creds/*.creds",
    "probes/*.creds",
    "services/*/*.nk",
    "services/*/*.key",
    "tls/*.key",
    "audit/*.nk",
)
_PRIVATE = (".", "keys", "creds", "services")


def files(home: Home) -> Iterator[Finding]:
    yield _modes(home, "directories", [home.path / name for name in _PRIVATE], "0700", "chmod 700")
    for pattern in _SECRETS:
        yield _modes(home, pattern, sorted(home.path.glob(pattern)), "0600", "chmod 600")
    yield _credentials(home)
    yield from _trust(home)


def _modes(home: Home, what: str, paths: list[Path], wanted: str, how: str) -> Finding:
    """Nobody but the owner of the home may use them."""
    owner = home.path.stat().st_uid
    open_ones = [path for path in paths if path.exists() and _is_open(path, owner)]
    told = ", ".join(f"{path.relative_to(home.path)} is {_mode(path)}" for path in open_ones[:5])
    names = " ".join(str(path) for path in open_ones[:5])
    mend = f"{how} {names}; whoever could read them may have: `bursar agent rotate NAME` makes new credentials"
    return judged("file_modes", what, not open_ones, told or f"{len(paths)} private", f"{wanted}, one owner", mend)


def _is_open(path: Path, owner: int) -> bool:
    found = path.stat()
    return bool(found.st_mode & 0o077) or found.st_uid != owner


def _mode(path: Path) -> str:
    found = path.stat()
    return f"{stat.S_IMODE(found.st_mode):04o} of user {found.st_uid}"


UNSCOPED = frozenset({"sys", "callout", "visitor"})
"""Credentials that an account's own key has signed."""


def _credentials(home: Home) -> Finding:
    paths = (path for path in sorted(home.creds_dir.glob("*.creds")) if path.stem not in UNSCOPED)
    wrong = [f"{path.stem}: {why}" for path in paths if (why := _why_void(home, path))]
    mend = "mint them again: `bursar agent rotate NAME`; those of services: remove the file, start `bursar up`"
    return judged(
        "credentials", "creds/*.creds", not wrong, "; ".join(wrong[:5]) or "count", "this home's, valid", mend
    )


def _why_void(home: Home, path: Path) -> str:
    try:
        claims = decode(token_in(path.read_text()))
    except (BadToken, OSError, UnicodeDecodeError) as error:
        return str(error)
    if claims.get("name") != path.stem:
        return f"they are those of {claims.get('name')!r}"
    if not home.role_of(path.stem):
        return "no role of this home signed them"
    if int(claims.get("exp") or 0) and int(claims["exp"]) <= time.time():
        return "expired"
    if path.stem in home.agents():
        return ""  # an agent is revoked on purpose
    return "revoked" if home.is_revoked(path.stem) else ""


def _trust(home: Home) -> Iterator[Finding]:
    """The published keys are those that the services sign with."""
    try:
        published = json.loads(home.trust_file.read_text())
    except (OSError, ValueError):
        published = {}
    for service in home.services:
        try:
            found = Signer.load(home.service_dir(service) / "signing.nk").public_key
        except (OSError, BursarError) as error:
            found = str(error)
        mend = "start `bursar up` again, which publishes the key, and hand trust.json to who verifies broadcasts"
        fine = published.get(service) == found
        yield judged("trust", service, fine, "published" if fine else "another key", "the key in trust.json", mend)
