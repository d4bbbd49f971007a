"""The streams of a service: created when missing, verified when present, never silently changed.

*Journal* (``BURSAR_LOG_<SERVICE>``, one subject per shard): keeps everything until the log's principal purges below
the oldest snapshot; a full stream refuses (discard new) rather than forgets; single messages cannot be deleted; the
duplicate window is the smallest that the server allows, because the guarantee is the conditional append.

*Checkpoints* (``BURSAR_CKPT_<SERVICE>``): three messages per subject, so that the manifest's subject keeps the three
newest manifests while each chunk has a subject of its own. Discard new here too: the limit per subject still rolls
(the server refuses only at the limits of the whole stream), and a full stream refuses a new snapshot instead of
eating the chunks of an old one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bursar.bus.base import Bus, NoResponders, RequestTimeout
from bursar.contracts.base import checkpoint_stream, log_stream

MiB = 1024**2
SNAPSHOTS_KEPT = 3
_DUPLICATE_WINDOW_NS = 100_000_000
_STREAM_NOT_FOUND = 10059


@dataclass(frozen=True, slots=True)
class StreamSizes:
    """Upper bounds in bytes per service; JetStream reserves them within the account's limit."""

    log: int = 2048 * MiB
    checkpoints: int = 2048 * MiB


class ProvisionError(Exception):
    """JetStream refused to make or show a stream."""


class StreamDrift(ProvisionError):
    """A stream exists and is not configured as it must be: somebody has changed it, or the settings differ."""


def log_config(service: str, replicas: int, max_bytes: int) -> dict[str, Any]:
    """The journal's stream."""
    return _common(log_stream(service), f"bursar.log.{service}.*", replicas, max_bytes) | {
        "description": f"Bursar: journal of {service}",
        "deny_delete": True,
        "max_msgs_per_subject": -1,
    }


def checkpoint_config(service: str, replicas: int, max_bytes: int) -> dict[str, Any]:
    """The snapshots' stream."""
    return _common(checkpoint_stream(service), f"bursar.ckpt.{service}.>", replicas, max_bytes) | {
        "description": f"Bursar: snapshots of {service}",
        "deny_delete": False,
        "max_msgs_per_subject": SNAPSHOTS_KEPT,
    }


async def provision(bus: Bus, service: str, replicas: int = 1, sizes: StreamSizes | None = None) -> None:
    """Create or verify both streams of a service, as the principal ``svc-<service>-provisioner``.

    Raises `StreamDrift` when one exists with another configuration and `ProvisionError` when JetStream refuses.
    """
    sizes = sizes or StreamSizes()
    await _ensure(bus, log_config(service, replicas, sizes.log))
    await _ensure(bus, checkpoint_config(service, replicas, sizes.checkpoints))


def _common(name: str, subject: str, replicas: int, max_bytes: int) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "discard": "new",
        "max_bytes": max_bytes,
        "max_msgs": -1,
        "max_age": 0,
        "max_consumers": -1,
        "max_msg_size": -1,
        "duplicate_window": _DUPLICATE_WINDOW_NS,
        "compression": "none",
        "deny_purge": False,
        "allow_direct": True,
        "allow_rollup_hdrs": False,
        "no_ack": False,
        "sealed": False,
    }


async def _ensure(bus: Bus, wanted: Mapping[str, Any]) -> None:
    name = wanted["name"]
    answer = await _ask(bus, f"STREAM.INFO.{name}", {})
    if answer.get("error", {}).get("err_code") == _STREAM_NOT_FOUND:
        answer = await _ask(bus, f"STREAM.CREATE.{name}", wanted)
    if error := answer.get("error"):
        raise ProvisionError(f"stream {name}: {error.get('description', error)} ({error.get('err_code')})")
    _verify(name, wanted, answer["config"])


def _verify(name: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Compare every field that was asked for; the server leaves out what is false, zero or empty."""
    drift = [
        f"{key} is {found.get(key)!r} and must be {value!r}"
        for key, value in wanted.items()
        if found.get(key, type(value)()) != value
    ]
    if drift:
        raise StreamDrift(f"stream {name} is not configured as it must be: {'; '.join(drift)}")


async def _ask(bus: Bus, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
    payload = json.dumps(body).encode() if body else b""
    try:
        message = await bus.request(f"$JS.API.{verb}", payload, timeout=10.0)
    except (RequestTimeout, NoResponders) as error:
        raise ProvisionError(
            f"JetStream does not answer {verb} ({error.code}): it is not enabled for the account of these credentials "
            "(the server's log says why), or they may not ask"
        ) from error
    return dict(json.loads(message.data))
