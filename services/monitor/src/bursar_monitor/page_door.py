"""Who may see the page: a person on this machine who has the token.

Three questions, each of which is enough to be refused:

- Does the request come from this machine, and to a name of this machine? A page of somebody else, whose name was made
  to point at 127.0.0.1 (DNS rebinding), sends its own name in ``Host``.
- Does a browser say that another site asks (``Sec-Fetch-Site``)? Only following a link may come from elsewhere.
- Is the token there: in the cookie that the login has set, or as ``Authorization: Bearer``? It is compared in constant
  time.

The token is made once for all instances of the monitor and lies in the directory of their keys.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

TOKEN_FILE: Final = "page.token"  # noqa: S105 - a file's name
OWN_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
SHORTEST: Final = 20
"""Characters of a token, at least."""

Environ = Mapping[str, Any]


class Door:
    """``port`` makes the cookie's name: cookies know no ports, and several monitors run on one machine."""

    def __init__(self, token: str, port: int) -> None:
        self._token = token.encode()
        self.cookie = f"bursar-{port}"

    def is_here(self, environ: Environ) -> bool:
        """Whether somebody on this machine asks for this machine."""
        name = environ.get("HTTP_HOST", "").lower()
        if not name.endswith("]"):
            host, colon, port = name.rpartition(":")
            name = host if colon and port.isdigit() else name
        return name in OWN_NAMES and _is_loopback(environ.get("REMOTE_ADDR", ""))

    def is_own_site(self, environ: Environ) -> bool:
        """False when a browser says that another site asks, unless somebody follows a link to the page."""
        site = environ.get("HTTP_SEC_FETCH_SITE", "none")
        follows = environ.get("HTTP_SEC_FETCH_MODE") == "navigate" and environ.get("REQUEST_METHOD") == "GET"
        return site in {"none", "same-origin"} or follows

    def knows(self, environ: Environ) -> bool:
        """Whether the request carries the token."""
        scheme, _, shown = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() == "bearer" and self.opens(shown.strip()):
            return True
        return self.opens(_cookie(environ.get("HTTP_COOKIE", ""), self.cookie))

    def opens(self, shown: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(shown.encode("utf-8", "replace"), self._token)

    def set_cookie(self) -> str:
        """The header's value that keeps a browser logged in until it is closed."""
        return f"{self.cookie}={self._token.decode()}; Path=/; HttpOnly; SameSite=Strict"


def _cookie(header: str, name: str) -> str:
    jar: SimpleCookie = SimpleCookie()
    with contextlib.suppress(CookieError):
        jar.load(header)
    return jar[name].value if name in jar else ""


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def token_of(keys_dir: Path | None, given: str = "") -> str:
    """The token: the one that is given, or that of the file, which is made when there is none. "" when there is no
    place for one: then nobody could know it, and there is no page. Raises OSError."""
    if given or keys_dir is None:
        return given
    path = keys_dir / TOKEN_FILE
    if not path.exists():
        _make(path)
    return path.read_text(encoding="ascii").strip()


def _make(path: Path) -> None:
    """Whole or not at all, and the first of several that start at once wins."""
    draft = path.with_suffix(f".{secrets.token_hex(8)}")
    number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(number, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor with its mode
        file.write(secrets.token_urlsafe(32) + "\n")
    with contextlib.suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()
