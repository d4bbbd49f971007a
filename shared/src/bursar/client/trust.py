"""Whose broadcasts are believed: the public keys of the services, from ``trust.json`` of the installation.

The file lies in the home beside the credentials; where an agent has nothing but its credentials, BURSAR_TRUST names a
copy. It holds no secrets. Without it broadcasts are not listened to, and services are asked instead.

All connections of a process share one `Verifier`, so that each broadcast is verified once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bursar.bus.signing import Verifier
from bursar.errors import BursarError

FILE: Final = "trust.json"

_verifiers: dict[bytes, Verifier] = {}
_KEPT: Final = 16


def trust_file(creds: Path, environ: Mapping[str, str] | None = None) -> Path | None:
    """Where the public keys are, for an agent with these credentials; None when nothing says so."""
    named = (os.environ if environ is None else environ).get("BURSAR_TRUST")
    if named:
        return Path(named)
    beside = creds.absolute().parent.parent / FILE
    return beside if beside.exists() else None


def verifier_of(path: Path | None) -> Verifier | None:
    """The process's verifier with the keys in a file; None when there is no file, or none that can be read."""
    try:
        content = path.read_bytes() if path is not None else b""
        keys = json.loads(content) if content else None
        if not isinstance(keys, dict):
            return None
        known = _verifiers.get(content)
        if known is None:
            known = Verifier({str(service): str(key) for service, key in keys.items()})
            while len(_verifiers) >= _KEPT:
                del _verifiers[next(iter(_verifiers))]
            _verifiers[content] = known
    except (OSError, ValueError, BursarError):
        return None
    return known
