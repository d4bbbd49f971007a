"""The desk: where an owner decides what has queued, and collects one batch for the journal.

A decision is applied to the folded state at once, so that the next one is made on it, but nothing leaves the desk
before the batch is committed: not the answers, not the broadcasts, and no refusal either that was made on a state
which may yet be dropped. A retry of a request that is still in the batch gets its answer with the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgpack  # type: ignore[import-untyped]

from bursar.contracts.base import Message
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Broadcast, Command, Fence, Notice, Outcome, Park, Reject
from bursar.kernel.effects import Answer, Fault
from bursar.kernel.entry import pack_decision
from bursar.kernel.fold import Folded

MAX_BATCH_BYTES: Final = 512 * 1024
"""A batch of this size takes no more decisions."""

MAX_DECISION_BYTES: Final = 256 * 1024
"""Largest decision: with it a batch still fits into one message of the server (1 MB)."""

MAX_IN_A_ROW: Final = 64
"""Decisions, of whatever outcome, in one turn of the loop: a few milliseconds. Between turns the owner hears what has
been committed, sends the answers, and starts the next append, instead of letting everybody wait for the whole queue."""

DUE_IN_A_ROW: Final = 16
"""Decisions in a turn that what has become due has for itself: a queue that never gets short must not keep leases from
ending and those who wait in line from their turn."""

_packer = msgpack.Packer(use_bin_type=True, autoreset=True)


_NOT_CONTENT: Final = frozenset({"id", "acked", "seen", "patient", "trace"})


def _plain(value: Any) -> Any:
    """Models inside a message as their fields."""
    return value.__dict__


_pack_content = msgpack.Packer(use_bin_type=True, autoreset=True, default=_plain).pack


@cache
def _content_of(kind: type[Message]) -> Callable[[Message], Any]:
    """What to pack of a message; a model inside that is always there goes as its fields, without a call of `_plain`."""
    fields = {name: field.annotation for name, field in kind.model_fields.items() if name not in _NOT_CONTENT}
    is_model = {name: isinstance(what, type) and issubclass(what, Message) for name, what in fields.items()}
    return attrgetter("__class__.__name__", *(f"{name}.__dict__" if is_model[name] else name for name in fields))


def digest_of(body: Message) -> bytes:
    """What two requests must share to be the same request: type and content, without id, watermark, fence and trace."""
    return hashlib.blake2b(_pack_content(_content_of(type(body))(body)), digest_size=8).digest()


class Request(NamedTuple):
    """A command with the ticket that its answer goes to. ``digest`` may be empty when there is no request id.
    ``patient``: whoever asks does not wait for the answer."""

    ticket: Any
    command: Command
    digest: bytes
    acked: int
    patient: bool = False


class Batch:
    """Decisions, packed for the journal, and what will leave when they are committed. ``urgent``: somebody waits for
    some of that."""

    __slots__ = ("answers", "broadcasts", "number", "packed", "size", "time", "urgent")

    def __init__(self, time: int, number: int) -> None:
        self.time = time
        self.number = number
        self.packed: list[bytes] = []
        self.size = 0
        self.answers: list[Answer] = []
        self.broadcasts: list[tuple[Sequence[Broadcast | Notice], Fence]] = []
        self.urgent = False

    @property
    def is_empty(self) -> bool:
        return not self.packed and not self.answers


class Desk:
    """Decides requests against one folded state. ``parked`` requests wait in the state's volatile part."""

    def __init__(self, folded: Folded) -> None:
        self.folded = folded
        self.parked: dict[tuple[str, str], Request] = {}
        self.replaced: list[Any] = []
        self.batch: Batch | None = None
        self.faults: list[Fault] = []

    @property
    def has_room(self) -> bool:
        """Whether the batch takes another decision."""
        return self.batch is None or self.batch.size < MAX_BATCH_BYTES

    def open(self, now: int) -> Batch:
        if self.batch is None or self.batch.is_empty:
            self.batch = Batch(max(now, self.folded.time), self.folded.number)
        return self.batch

    def take(self) -> Batch | None:
        """The batch so far, for the journal; the desk starts another."""
        batch, self.batch = self.batch, None
        return batch

    def decide(self, request: Request, now: int) -> None:
        """Decide one request of a caller, or answer it from the table."""
        batch = self.open(now)
        command = request.command
        if command.request_id:
            folded = self.folded
            known = folded.answers.find(command.principal, command.request_id)
            if known is not None:
                batch.urgent = True
                same = known.digest == request.digest
                outcome: bytes | Reject = known.reply if same else _reused(command)
                batch.answers.append(Answer(request.ticket, outcome, known.fence if same else folded.fence))
                return
            if folded.answers.is_acked(command.principal, command.request_id):
                batch.urgent = True
                batch.answers.append(Answer(request.ticket, _over(command), folded.fence))
                return
            waiting = self.parked.get((command.principal, command.request_id)) if self.parked else None
            if waiting is not None and waiting.digest != request.digest:
                batch.urgent = True
                batch.answers.append(Answer(request.ticket, _reused(command), folded.fence))
                return
        self._settle(request, batch, now, guarded=True)

    def decide_due(self, now: int) -> bool:
        """Decide the next command that has become due; False when there is none."""
        batch = self.open(now)
        now = max(now, self.folded.time)
        command = self.folded.decider.due(self.folded.state, now)
        if command is None:
            return False
        request = self.parked.get((command.principal, command.request_id)) if command.request_id else None
        self._settle(request or Request(None, command, b"", 0), batch, now)
        return True

    def send_away_parked(self) -> list[Any]:
        """The tickets of those who wait in line. What is decided for them from now on is remembered, for when they
        ask again, and answered to nobody."""
        tickets = [request.ticket for request in self.parked.values() if request.ticket is not None]
        self.parked = {key: request._replace(ticket=None) for key, request in self.parked.items()}
        return tickets

    def _settle(self, request: Request, batch: Batch, now: int, *, guarded: bool = False) -> None:
        folded, command = self.folded, request.command
        principal, request_id, _ = command
        now = max(now, folded.time)
        fence = (folded.incarnation, folded.epoch, folded.number)
        outcome: Outcome
        reply = packed = b""
        try:
            outcome = folded.decider.decide(folded.state, command, now, fence)
            if isinstance(outcome, Accept):
                reply = _packer.pack(outcome.reply) if request_id else b""
                packed = pack_decision(
                    (principal, request_id, request.acked, request.digest, reply, outcome.events, now - batch.time)
                )
        except Exception as error:
            if not guarded:
                raise
            outcome = self._fault(error, command)
        if isinstance(outcome, Accept) and len(packed) > MAX_DECISION_BYTES:
            outcome = self._too_large(request, len(packed))
        if isinstance(outcome, Accept):
            folded.record(principal, request_id, request.acked, request.digest, reply, outcome.events, now)
            batch.packed.append(packed)
            batch.size += len(packed)
            if outcome.broadcasts:
                batch.broadcasts.append((outcome.broadcasts, fence))
                batch.urgent = True
            if request.ticket is not None:
                batch.answers.append(Answer(request.ticket, outcome.reply, fence, reply))
                batch.urgent = batch.urgent or not request.patient
        elif isinstance(outcome, Park):
            self._park(request)
            return
        else:
            if seeded("refusal_changes_state"):
                folded.number += 1
            if request.ticket is not None:
                batch.answers.append(Answer(request.ticket, outcome, folded.fence))
                batch.urgent = True
        if self.parked and request_id:
            self._unpark(request)

    def _park(self, request: Request) -> None:
        """Who has no id cannot be answered later."""
        if request.command.request_id:
            self._unpark(request)
            self.parked[request.command[:2]] = request

    def _unpark(self, request: Request) -> None:
        """Take it out of those who wait; a ticket that it had before is not going to be answered."""
        before = self.parked.pop(request.command[:2], None)
        if before is not None and before.ticket is not request.ticket:
            self.replaced.append(before.ticket)

    def _too_large(self, request: Request, size: int) -> Reject:
        """Told to the log where nobody hears the answer: what is due will be due again."""
        text = "the decision does not fit into the journal"
        if request.ticket is None:
            told = ValueError(f"{text}: {type(request.command.body).__name__}, {size} bytes")
            self.faults.append(Fault(told, *request.command[:2]))
        return Reject("too_large", text, {"size": size})

    def _fault(self, error: Exception, command: Command) -> Reject:
        """A fault of the decider costs the request that it met, and nobody else: nothing has been changed yet."""
        self.faults.append(Fault(error, *command[:2]))
        return Reject("internal", "the service failed to decide this request")


def _over(command: Command) -> Reject:
    return Reject("already_acked", "the answer to this request was acknowledged", {"id": command.request_id})


def _reused(command: Command) -> Reject:
    return Reject("id_reused", "this request id was used for another request", {"id": command.request_id})
