"""What all services share on the wire: the error body, the signed envelope, the owner's heartbeat, and words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from bursar.contracts.base import Amount, Message
from bursar.contracts.catalog.base import Event, Operation, Word
from bursar.contracts.rights import RightsSet, SetRights


class Failure(Message):
    """What went wrong: a stable code, a text for people, facts for programs."""

    code: str
    text: str
    facts: dict[str, Any]


class ErrorReply(Message):
    """The body of every error. The headers ``Nats-Service-Error-Code`` and ``Nats-Service-Error`` say the same."""

    error: Failure


class Signed(Message):
    """The envelope of a broadcast: the body as packed bytes, and the service's Ed25519 signature over the subject, a
    zero byte, and those bytes."""

    b: bytes
    s: Annotated[bytes, Field(min_length=64, max_length=64)]


class OwnerBeat(Message):
    """An owner says each 200 ms that it lives, for its standbys; or any instance warns that entries were lost."""

    fence: Annotated[list[Amount], Field(min_length=3, max_length=3)] | None = None
    sequence: Amount | None = None
    leaving: bool | None = None
    suspect: Annotated[list[Amount], Field(min_length=3, max_length=3)] | None = None


OWNER: Final = Event("owner", "number of the shard", OwnerBeat, "Which instance owns the shard, for its standbys.")
"""Every service sends it."""

BORDER_ERRORS: Final = ("too_large", "bad_encoding", "bad_shape", "bad_request")
"""The payload cannot be a message of this kind; nothing was decided."""

AMOUNT_ERRORS: Final = ("bad_amount",)
"""An amount below zero, or too large for the wire."""

AMOUNT_FIELDS: Final = frozenset({"amounts", "usage"})
"""The fields that hold amounts, wherever they stand in a message."""

STATE_ERRORS: Final = ("not_ready", "failed_closed", "journal_full", "overloaded", "internal", "bad_fence")
"""The service, or the ``seen`` of the caller, is the problem."""

RIGHTS_ERRORS: Final = ("forbidden",)
"""There are rights, and they do not let the caller use what it has named."""

AUDIT_ERRORS: Final = ("audit_unavailable",)
"""An operator's order could not be recorded, so that nothing was done."""

ID_ERRORS: Final = ("id_reused", "already_acked")
"""The id names another request."""


def errors_of(operation: Operation) -> tuple[str, ...]:
    """All codes that an operation may be answered with."""
    named = () if operation.is_query else ID_ERRORS
    counted = AMOUNT_ERRORS if has_amounts(operation.request) else ()
    audited = AUDIT_ERRORS if operation.kind == "adm" and not operation.is_query else ()
    ruled = RIGHTS_ERRORS if operation.kind == "req" and not operation.is_query else ()
    return tuple(dict.fromkeys((*operation.errors, *ruled, *audited, *named, *BORDER_ERRORS, *counted, *STATE_ERRORS)))


def has_amounts(message: type[Message]) -> bool:
    """Whether amounts stand in it, or in what stands in it."""
    schema = message.model_json_schema()
    shapes = (schema, *schema.get("$defs", {}).values())
    return any(not AMOUNT_FIELDS.isdisjoint(shape.get("properties", ())) for shape in shapes)


SET_RIGHTS: Final = Operation(
    "adm",
    "rights",
    SetRights,
    "Replace the rights of all principals: which budgets, models, GPUs and targets each may use.",
    replies=(RightsSet,),
    example={"rules": [{"who": ["alice", "team-a-*"], "budgets": ["demo"], "models": ["*"]}]},
)
"""Every service that hands anything out has it."""

WORDS: Final[Mapping[str, Word]] = {
    "SetRights.rules": Word("The rules; together they are all that holds."),
    "SetRights.closed": Word("Whether of a kind that no rule of a principal speaks of, it may use nothing."),
    "RightsRule.who": Word("Principals: names, or the beginning of names with a * behind it."),
    "RightsRule.budgets": Word("Budgets of the limiter that they may use: names, with all below them, or beginnings."),
    "RightsRule.models": Word("Models that they may load, or have tasks for."),
    "RightsRule.gpus": Word("GPUs that they may use: hosts, or <host>/<uuid>."),
    "RightsRule.targets": Word("Targets of the breaker that they may report on and probe."),
    "RightsSet.rules": Word("So many rules hold now.", "rules"),
    "RightsSet.closed": Word("Whether of a kind that no rule of a principal speaks of, it may use nothing."),
    "RightsSet.changed": Word("Whether others held before."),
    "v": Word("Version of the message format."),
    "id": Word(
        "Names the request within its principal: <session>-<number>, or a bare word. A retry carries the same id and "
        "the same content, and gets the same answer."
    ),
    "acked": Word(
        "Watermark: the answers of this session up to this number have arrived and will not be asked for again.",
        "requests",
    ),
    "seen": Word("The highest fence that the caller has seen from this service; null when there is none yet."),
    "patient": Word("Nobody waits for the answer: its entry may wait 40 ms for others to share one write to the disk."),
    "ok": Word("True: it was done or is told. False: an ordinary refusal; the other fields say why and until when."),
    "fence": Word(
        "Token of the decision: <incarnation>.<epoch>.<number>.<code>. The three numbers order all decisions of the "
        "service; the code proves that the service gave it to this principal."
    ),
    "text": Word("The same in a sentence, for people."),
    "Failure.code": Word("Stable code of the error."),
    "Failure.facts": Word("Plain values that belong to the code."),
    "error": Word("What went wrong."),
    "Signed.b": Word("The body: one packed msgpack map."),
    "Signed.s": Word("Ed25519 signature over <subject> + zero byte + b, by the key of the service."),
    "OwnerBeat.fence": Word("The owner's latest decision: incarnation, epoch, number.", "decisions"),
    "OwnerBeat.sequence": Word("Sequence of the last entry of the journal.", "entries"),
    "OwnerBeat.leaving": Word("The owner resigns: a standby may take over at once."),
    "OwnerBeat.suspect": Word("A fence that its holder was given and the journal does not know.", "decisions"),
}
