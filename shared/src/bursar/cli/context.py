"""A context for the ``nats`` command line tool, so that an operator needs no address, credentials or inbox prefix."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from bursar.bus.identity.keys import write_private
from bursar.bus.tls import TlsFiles, files_beside
from bursar.contracts.base import reply_prefix

_DESCRIPTION = "Bursar"


def context(url: str, creds: Path, principal: str = "ops") -> dict[str, str]:
    """The context's fields; the inbox prefix is the only place where the principal may be answered."""
    fields = {
        "description": f"{_DESCRIPTION} at {url} as {principal}",
        "url": url,
        "creds": str(creds),
        "inbox_prefix": reply_prefix(principal).rstrip("."),
    }
    files = files_beside(creds) if url.startswith("tls://") else TlsFiles()
    return fields | {name: path for name, path in files._asdict().items() if path}


def write_contexts(home: Path, name: str, url: str, creds: Path) -> list[Path]:
    """Write the context into the home and, when ``name`` is not empty, where the ``nats`` tool looks for it.

    Returns what was written. A context of that name which Bursar did not write is left alone, and a configuration
    directory that cannot be written to is no error: the tool can use the file in the home as well.
    """
    text = json.dumps(context(url, creds), indent=2).encode() + b"\n"
    written = [home / "nats-context.json"]
    write_private(written[0], text)
    if name:
        with contextlib.suppress(OSError, RuntimeError):  # no such directory, or no home directory at all
            place = _tool_directory() / f"{name}.json"
            if _is_ours(place):
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(place, text)
                written.append(place)
    return written


def _tool_directory() -> Path:
    root = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(root).expanduser() / "nats" / "context"


def _is_ours(place: Path) -> bool:
    if not place.exists():
        return True
    try:
        return str(json.loads(place.read_text()).get("description", "")).startswith(_DESCRIPTION)
    except (OSError, ValueError, AttributeError):
        return False
