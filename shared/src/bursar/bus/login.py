"""What a connection shows of itself: credentials, and a token of another authority where these are the visitor's.

``BURSAR_TOKEN_FILE`` names a file with a token of Kubernetes or of an OIDC provider. It goes along with the credentials
of the visitor (`bursar.callout`) and with no others, and is read anew at each connection, since such tokens are
short-lived and replaced.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

VISITOR: Final = "visitor"


def login(creds: str | Path | None) -> dict[str, Any]:
    """The options of a connection with this credentials file; none for a server without authentication."""
    if creds is None:
        return {}
    token = os.environ.get("BURSAR_TOKEN_FILE")
    shown: dict[str, Any] = {"user_credentials": str(creds)}
    return shown | ({"token": lambda: _read(token)} if token and _is_visitors(Path(creds)) else {})


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""  # is refused like any other that is none, and looked for again


def _is_visitors(creds: Path) -> bool:
    from bursar.bus.identity import BadToken, jwt  # noqa: PLC0415 - only for who has a token

    try:
        return bool(jwt.decode(jwt.token_in(creds.read_text()))["name"] == VISITOR)
    except BadToken:
        return False
