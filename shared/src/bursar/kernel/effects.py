"""What a replica wants done: values that a shell (the asyncio host, or the simulator) carries out.

Each effect that ends with an answer carries a token; the shell hands the token back with the result, and the replica
ignores tokens of an attempt that is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bursar.kernel.decider import Broadcast, Fence, Notice, Refuse, Reject
from bursar.kernel.fold import Folded


class Append(NamedTuple):
    """Append ``payload`` if the shard's last sequence is ``expected``. Answer: appended, refused or unknown."""

    token: int
    expected: int
    payload: bytes


class Inspect(NamedTuple):
    """Read, from the stream's leader: the stream's creation, the entry at ``sequence``, the next one after it, and
    the last one. Answer: inspected."""

    token: int
    sequence: int


class Load(NamedTuple):
    """Start over: newest valid snapshot, then the entries after it. Answer: loaded or load_failed."""

    token: int


class WriteBase(NamedTuple):
    """Store ``data`` as a snapshot without a manifest entry of its own, for a recovery that will be appended right
    after the sequence ``after`` or not at all. Answer: base_written with its manifest."""

    token: int
    data: bytes
    after: int


class TakeSnapshot(NamedTuple):
    """Snapshot ``folded``, which is committed up to ``sequence`` / ``hash``, before the next input is handed in
    (fork). The rest may take its time; answer: snapshot_done."""

    folded: Folded
    sequence: int
    hash: bytes
    created: str


class Answer(NamedTuple):
    """Answer one request. ``outcome`` is a dict (accepted), the packed dict of an earlier answer, a refusal or a
    rejection. ``packed``: the accepted dict in msgpack, when it had to be packed anyway."""

    ticket: Any
    outcome: dict[str, Any] | bytes | Refuse | Reject
    fence: Fence
    packed: bytes = b""


class Drop(NamedTuple):
    """These requests get no answer from here: what was decided for them may or may not have happened, or they were
    asked again under another ticket."""

    tickets: Sequence[Any]


class Announce(NamedTuple):
    """Broadcast, signed, to all who listen."""

    broadcasts: Sequence[Broadcast | Notice]
    fence: Fence


class Heartbeat(NamedTuple):
    """Tell the standbys that the owner lives and where its head is, or (``leaving``) that it will decide no more."""

    fence: Fence
    sequence: int
    time: int
    leaving: bool = False


class RoleChanged(NamedTuple):
    """The replica's role is another one now; ``reason`` is for the log."""

    role: str
    reason: str


class Fault(NamedTuple):
    """A decision that could not be made, and whose it was; ``request_id`` is empty for observations and what is due."""

    error: Exception
    principal: str
    request_id: str


class Faulted(NamedTuple):
    """The decider raised on these decisions, which were refused with ``internal``: somebody should know."""

    faults: Sequence[Fault]


Effect = (
    Append | Inspect | Load | WriteBase | TakeSnapshot | Answer | Drop | Announce | Heartbeat | RoleChanged | Faulted
)


class Inspection(NamedTuple):
    """What `Inspect` found. ``at``: payload of the entry at the asked sequence (None: not there); ``following``:
    (sequence, payload) of the next one on this shard; ``last``: (sequence, payload) of the last one."""

    created: str
    at: bytes | None
    following: tuple[int, bytes] | None
    last: tuple[int, bytes] | None
