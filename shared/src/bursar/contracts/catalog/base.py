"""What a service says on the wire, as data: the source of the published AsyncAPI document and JSON Schemas.

A contract module has the messages; the catalogue says which of them goes where, what answers it, what may go wrong,
and what every field means, with its unit. Tests hold it against the services: each verb that a service listens to
stands here and the reverse, each error code that its code rejects with is listed, and what a running service answers
is valid under the published schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from bursar.contracts import base
from bursar.contracts.base import Message, Query

VERSION: Final = "0.1.0"
"""Of the contracts: that of the distributions, since before 1.0 the wire may change with the minor version."""

Kind = Literal["req", "adm", "work", "obs", "node", "inbox"]
"""Which part of the subject space an operation is in, and so who may use it and whether it is answered."""

ROLES: Final[Mapping[Kind, tuple[str, ...]]] = {
    "req": ("agent", "worker", "node", "operator"),
    "adm": ("operator",),
    "work": ("worker",),
    "obs": ("agent", "worker", "node", "operator"),
    "node": ("node",),
    "inbox": ("agent", "worker", "node", "operator"),
}
"""The roles of credentials that may publish there (`bursar agent add NAME --role ROLE`; ``ops`` is the operator)."""

ANSWERED: Final = frozenset({"req", "adm", "work"})
"""Kinds with a reply; the others are plain publishes."""

PRINCIPAL_PLACE: Final = "{principal}"


class Word(NamedTuple):
    """What a field means. ``unit``: of a number (a count has the unit of what is counted)."""

    text: str
    unit: str = ""


@dataclass(frozen=True)
class Operation:
    """One thing that a caller may send.

    ``replies``: the messages that may answer it (none for a plain publish). ``errors``: the codes of its own, beside
    those that every operation may meet (`bursar.contracts.catalog.common`). ``example``: the fields of a request that
    its model takes, without id.
    """

    kind: Kind
    verb: str
    request: type[Message]
    summary: str
    replies: tuple[type[Message], ...] = ()
    errors: tuple[str, ...] = ()
    example: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.kind in ANSWERED) != bool(self.replies):
            raise ValueError(f"{self.kind} {self.verb}: requests have replies, plain publishes have none")

    @property
    def is_query(self) -> bool:
        """Whether it changes nothing, and so needs no id."""
        return issubclass(self.request, Query)

    def subject(self, service: str, principal: str = PRINCIPAL_PLACE) -> str:
        """Where to send it, as this principal."""
        if self.kind == "inbox":
            return base.inbox_subject(service, principal)
        if self.kind == "node":
            return base.node_subject(principal, self.verb)
        return _SUBJECTS[self.kind](service, self.verb, principal)


_SUBJECTS: Final = {
    "req": base.request_subject,
    "adm": base.admin_subject,
    "work": base.work_subject,
    "obs": base.observation_subject,
}


@dataclass(frozen=True)
class Event:
    """A signed broadcast on ``bursar.evt.<service>.<kind>.<name>``; ``name`` says what that last token is."""

    kind: str
    name: str
    body: type[Message]
    summary: str


@dataclass(frozen=True)
class Telling:
    """A notice on ``bursar.assign.<principal>``, for that principal alone."""

    body: type[Message]
    summary: str


@dataclass(frozen=True)
class ServiceCatalog:
    """Everything that one service hears and says.

    ``words``: what the fields of its messages mean, by ``field`` or, where a field means something else in one
    message, by ``Message.field``. A description in the model itself goes before them.
    """

    name: str
    summary: str
    operations: tuple[Operation, ...]
    words: Mapping[str, Word]
    events: tuple[Event, ...] = ()
    tellings: tuple[Telling, ...] = ()

    def verbs(self, kind: Kind) -> dict[str, Operation]:
        """The operations of one kind, by verb."""
        return {operation.verb: operation for operation in self.operations if operation.kind == kind}

    @property
    def messages(self) -> tuple[type[Message], ...]:
        """Every message of the service, each once, in order."""
        said = [model for operation in self.operations for model in (operation.request, *operation.replies)]
        said += [event.body for event in self.events]
        said += [telling.body for telling in self.tellings]
        return tuple(dict.fromkeys(said))
