"""What every message on the wire has in common.

A message is a msgpack map (JSON is accepted too and answered in kind), validated once at the border into a frozen
model that forbids extra fields. Identity never stands in a message: it is the last token of the subject.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SHARDS = 16
"""Number of shards that a service's keys are spread over; fixed, because it is part of every journal subject."""

PRINCIPAL = r"^[a-z0-9][a-z0-9-]{0,63}$"
REQUEST_ID = r"^[A-Za-z0-9_]{1,40}(-[0-9]{1,15})?$"
NAME = r"^[a-z0-9][a-z0-9_-]{0,62}(/[a-z0-9][a-z0-9_-]{0,62}){0,7}$"
FENCE = r"^[0-9]{1,15}\.[0-9]{1,15}\.[0-9]{1,15}\.[0-9a-f]{16}$"

MAX_INT = 2**53 - 1
"""Largest integer on the wire: every JSON reader holds it exactly."""

Amount = Annotated[int, Field(ge=0, le=MAX_INT)]
Name = Annotated[str, Field(pattern=NAME, max_length=256)]
Fence = Annotated[str, Field(pattern=FENCE, max_length=64)]


class Message(BaseModel):
    """A frozen message with a version; unknown fields, NaN and lenient conversions are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    v: Literal[1] = 1


class Request(Message):
    """A request that may change state.

    ``id`` names it within its principal, in the form ``<session>-<number>`` (or a bare word). A retry carries the
    same id and the same content and gets the same answer; the same id with other content is the error
    ``id_reused``. ``acked`` says that the answers of this session up to that number have arrived, so that the
    service may forget them. ``seen`` is the highest fence this client has seen from the service: a service that
    has lost data learns of it from there. ``patient`` says that nobody waits for the answer: it is decided at once, and
    its entry may wait (40 ms at most) to share one write to the disk with others.
    """

    id: Annotated[str, Field(pattern=REQUEST_ID, max_length=56)]
    acked: Amount = 0
    seen: Fence | None = None
    patient: bool = False


class Query(Message):
    """A request that changes nothing: no id is needed, and nothing is remembered."""

    seen: Fence | None = None


def request_subject(service: str, verb: str, principal: str) -> str:
    return f"bursar.req.{service}.{verb}.{principal}"


def admin_subject(service: str, verb: str, principal: str) -> str:
    return f"bursar.adm.{service}.{verb}.{principal}"


def event_subject(service: str, kind: str, name: str) -> str:
    return f"bursar.evt.{service}.{kind}.{name}"


def reply_prefix(principal: str) -> str:
    """Where a principal may be answered; a request with any other reply subject is dropped."""
    return f"_R.{principal}."


def log_subject(service: str, shard: int) -> str:
    return f"bursar.log.{service}.{shard}"


def checkpoint_subject(service: str, shard: int) -> str:
    """Prefix of a shard's snapshots: ``.manifest`` and ``.<snapshot>.<chunk>`` follow."""
    return f"bursar.ckpt.{service}.{shard}"


def log_stream(service: str) -> str:
    return f"BURSAR_LOG_{service.upper().replace('-', '_')}"


def checkpoint_stream(service: str) -> str:
    return f"BURSAR_CKPT_{service.upper().replace('-', '_')}"


def work_subject(service: str, verb: str, principal: str) -> str:
    """A request of a worker: only principals of the role ``worker`` may publish there."""
    return f"bursar.work.{service}.{verb}.{principal}"


def observation_subject(service: str, verb: str, principal: str) -> str:
    """A plain message with an observation; nobody answers it."""
    return f"bursar.obs.{service}.{verb}.{principal}"


def node_subject(host: str, kind: str) -> str:
    """An observation of a host's probe, whose principal is the host's name."""
    return f"bursar.node.{host}.{kind}"


def notice_subject(principal: str) -> str:
    """Where one principal is told something: assignments, ends of its tasks."""
    return f"bursar.assign.{principal}"


def line_subject(service: str, level: str) -> str:
    """A log line of a service, as JSON: what it writes to standard error. Only operators and the monitor hear it."""
    return f"bursar.line.{service}.{level}"


def inbox_subject(service: str, principal: str) -> str:
    """A durable inbox; a plain publish."""
    return f"bursar.inbox.{service}.{principal}"


def inbox_stream(service: str) -> str:
    return f"BURSAR_INBOX_{service.upper().replace('-', '_')}"


def audit_subject(writer: str) -> str:
    """Where a service (or the registrar) appends to its part of the audit log."""
    return f"bursar.audit.{writer}"


def audit_head_subject(writer: str) -> str:
    """Where a service asks for the last entry of its part of the audit log."""
    return f"bursar.audited.{writer}"
