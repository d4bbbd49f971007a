"""Where to connect and as whom: arguments first, then the environment, then the home that `bursar up` made.

The URL comes from ``url``, else ``BURSAR_URL``, else from what a running `bursar up` left in its home, else
``nats://127.0.0.1:4222``. The credentials come from ``creds``, else ``BURSAR_CREDS``, else
``<home>/creds/<name>.creds``; without a name, the only agent of that home. The home is ``home``, else
``BURSAR_HOME``, else ``./.bursar``. Who the agent is stands in the credentials and nowhere else: the server lets it
speak under no other name.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from bursar.client.errors import NoCredentials
from bursar.contracts.base import PRINCIPAL

DEFAULT_URL: Final = "nats://127.0.0.1:4222"
STAFF: Final = re.compile(r"^(ops|sys|auditor|registrar|audit-provisioner|callout|visitor|svc-.*)$")
"""Credentials in a home that are no agent's."""


VISITOR: Final = "visitor"
"""Whose credentials show that somebody has a token of another authority (`BURSAR_TOKEN_FILE`)."""


class Target(NamedTuple):
    """``url`` (several, separated by commas, are one cluster), the credentials file, and the principal in it."""

    url: str
    creds: Path
    principal: str


def resolve(
    url: str | None,
    creds: str | os.PathLike[str] | None,
    home: str | os.PathLike[str] | None,
    name: str | None,
    environ: Mapping[str, str] | None = None,
) -> Target:
    """The connection to make. Raises `NoCredentials`, which says what is missing and where it was looked for."""
    env = os.environ if environ is None else environ
    home_path = Path(home or env.get("BURSAR_HOME") or ".bursar")
    given = creds or (None if name else env.get("BURSAR_CREDS"))
    path = Path(given) if given else _creds_in(home_path, name)
    principal = principal_of(path)
    if principal == VISITOR:
        principal = env.get("BURSAR_PRINCIPAL") or ""
        if not re.fullmatch(PRINCIPAL, principal):
            raise NoCredentials("with the visitor's credentials BURSAR_PRINCIPAL says which name the token stands for")
    if name and name != principal:
        raise NoCredentials(f"the credentials in {path} are {principal!r}'s, not {name!r}'s")
    return Target(url or env.get("BURSAR_URL") or _url_in(home_path) or DEFAULT_URL, path, principal)


def principal_of(path: Path) -> str:
    """The name in the user JWT of a credentials file. Raises `NoCredentials`."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise NoCredentials(f"cannot read credentials {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise NoCredentials(f"{path} is no credentials file") from None
    found = re.search(r"-----BEGIN NATS USER JWT-----\s+[\w-]+\.([\w-]+)\.[\w-]+\s", text)
    if found is None:
        raise NoCredentials(f"{path} is no credentials file: it holds no user JWT")
    try:
        claims = json.loads(base64.urlsafe_b64decode(found[1] + "=" * (-len(found[1]) % 4)))
        name = claims["name"]
    except (ValueError, LookupError, TypeError):
        raise NoCredentials(f"the user JWT in {path} cannot be read") from None
    if not isinstance(name, str) or not re.fullmatch(PRINCIPAL, name):
        raise NoCredentials(f"the user JWT in {path} names no principal")
    return name


def _creds_in(home: Path, name: str | None) -> Path:
    directory = home / "creds"
    if name:
        path = directory / f"{name}.creds"
        if path.exists():
            return path
        raise NoCredentials(f"no credentials of {name!r} in {directory}: run `bursar agent add {name}`")
    agents = sorted(p for p in directory.glob("*.creds") if not STAFF.match(p.stem))
    if len(agents) == 1:
        return agents[0]
    if agents:
        names = ", ".join(p.stem for p in agents[:5])
        raise NoCredentials(f"{directory} has several agents ({names}): say which one, connect(name=...)")
    raise NoCredentials(
        f"no credentials found: BURSAR_CREDS is not set and {directory} has no agent; "
        "run `bursar agent add NAME` and set BURSAR_CREDS to the file that it writes"
    )


def _url_in(home: Path) -> str | None:
    """The address that a running `bursar up` notes in its home."""
    try:
        url = json.loads((home / "run" / "lock").read_bytes())["url"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return url if isinstance(url, str) else None
