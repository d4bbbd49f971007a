"""The streams of a service: created when missing, verified when present, never silently changed.

*Journal* (``BURSAR_LOG_<SERVICE>``, one subject per shard): keeps everything until the log's principal purges below
the oldest snapshot; a full stream refuses (discard new) rather than forgets; single messages cannot be deleted; the
duplicate window is the smallest that the server allows, because the guarantee is the conditional append.

*Checkpoints* (``BURSAR_CKPT_<SERVICE>``): three messages per subject, so that the manifest's subject keeps the three
newest manifests while each chunk has a subject of its own. Discard new here too: the limit per subject still rolls
(the server refuses only at the limits of the whole stream), and a full stream refuses a new snapshot instead of
eating the chunks of an old one.

*Inbox* (``BURSAR_INBOX_<SERVICE>``, only for services that have one; one subject per principal): what agents publish
while nobody may be listening. It acknowledges nothing, so that no caller gets JetStream to say anything. Each principal
has room for `INBOX_PER_PRINCIPAL` messages, and the next one is dropped rather than an older one or somebody else's.

*Audit* (``BURSAR_AUDIT``, in an account of its own; one subject per writer): takes entries and gives none back: what is
there can be neither deleted nor purged, and a full stream refuses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bursar.bus.base import Bus, NoResponders, RequestTimeout
from bursar.bus.permissions import AUDIT_STREAM, WITH_INBOX
from bursar.contracts.base import audit_subject, checkpoint_stream, inbox_stream, inbox_subject, log_stream

MiB = 1024**2
SNAPSHOTS_KEPT = 3
AUDIT_BYTES = 5 * 1024 * MiB
INBOX_PER_PRINCIPAL = 1_000
INBOX_MESSAGE = 65_536 + 4_096
"""What an agent may send, and what the server adds to its headers."""
TRIES = 3
TRY_SECONDS = 4.0
_DUPLICATE_WINDOW_NS = 100_000_000
_STREAM_NOT_FOUND = 10059


@dataclass(frozen=True, slots=True)
class StreamSizes:
    """Upper bounds in bytes per service; JetStream reserves them within the account's limit."""

    log: int = 2048 * MiB
    checkpoints: int = 2048 * MiB
    inbox: int = 1024 * MiB


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


def inbox_config(service: str, replicas: int, max_bytes: int) -> dict[str, Any]:
    """The inbox's stream."""
    return _common(inbox_stream(service), inbox_subject(service, "*"), replicas, max_bytes) | {
        "description": f"Bursar: durable inbox of {service}",
        "deny_delete": False,
        "max_msgs_per_subject": INBOX_PER_PRINCIPAL,
        "discard_new_per_subject": True,
        "max_msg_size": INBOX_MESSAGE,
        "no_ack": True,
    }


async def provision(
    bus: Bus, service: str, replicas: int = 1, sizes: StreamSizes | None = None, *, inbox: bool | None = None
) -> None:
    """Create or verify the streams of a service, as the principal ``svc-<service>-provisioner``.

    ``inbox``: whether it has a durable one (None: as `WITH_INBOX` says). Raises `StreamDrift` when a stream exists with
    another configuration and `ProvisionError` when JetStream refuses.
    """
    for wanted in wanted_streams(service, replicas, sizes, inbox=inbox):
        await _ensure(bus, wanted)


def wanted_streams(
    service: str, replicas: int = 1, sizes: StreamSizes | None = None, *, inbox: bool | None = None
) -> list[dict[str, Any]]:
    """The configurations of a service's streams, as they must be. Arguments as those of `provision`."""
    sizes = sizes or StreamSizes()
    wanted = [log_config(service, replicas, sizes.log), checkpoint_config(service, replicas, sizes.checkpoints)]
    if inbox if inbox is not None else service in WITH_INBOX:
        wanted.append(inbox_config(service, replicas, sizes.inbox))
    return wanted


def audit_config(replicas: int = 1, max_bytes: int = AUDIT_BYTES) -> dict[str, Any]:
    """The audit log's stream."""
    return _common(AUDIT_STREAM, audit_subject("*"), replicas, max_bytes) | {
        "description": "Bursar: audit log",
        "deny_delete": True,
        "deny_purge": True,
        "max_msgs_per_subject": -1,
    }


async def provision_audit(bus: Bus, replicas: int = 1) -> None:
    """Create or verify the stream of the audit log, as the principal ``audit-provisioner``; raises as `provision`.

    It may have been given more room than it was made with: nothing else helps when it is full.
    """
    wanted = audit_config(replicas)
    answer = await _ask(bus, f"STREAM.INFO.{AUDIT_STREAM}", {})
    room = answer.get("config", {}).get("max_bytes", 0)
    await _ensure(bus, wanted | {"max_bytes": max(AUDIT_BYTES, room)})


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


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Fields that are not as asked for, each with words; the server leaves out what is false, zero or empty."""
    return [
        (key, f"{key} is {found.get(key)!r} and must be {value!r}")
        for key, value in wanted.items()
        if found.get(key, type(value)()) != value
    ]


def _verify(name: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    if drift := [words for _, words in differences(wanted, found)]:
        raise StreamDrift(f"stream {name} is not configured as it must be: {'; '.join(drift)}")


async def _ask(bus: Bus, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What a cluster does not answer because its leader has just changed is asked again; creating a stream that is
    there already, as asked for, succeeds."""
    payload = json.dumps(body).encode() if body else b""
    for left in reversed(range(TRIES)):
        try:
            message = await bus.request(f"$JS.API.{verb}", payload, timeout=TRY_SECONDS)
            return dict(json.loads(message.data))
        except (RequestTimeout, NoResponders) as error:
            if left and isinstance(error, RequestTimeout):
                continue
            raise ProvisionError(
                f"JetStream does not answer {verb} ({error.code}): it is not enabled for the account of these "
                "credentials (the server's log says why), or they may not ask"
            ) from error
    raise AssertionError("unreachable")
