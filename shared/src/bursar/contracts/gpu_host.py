"""Between the GPU manager and the probe of a host, which enforces what the manager has granted.

A probe asks once a second or so which leases there are on its cards; the fence of the answer orders the answers, so
that one of an owner that is not it any more is told from a newer one. What a probe is to do is told to it as a notice,
which has a fence as well: an older one than the newest that it has seen is refused.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bursar.contracts.base import Message, Query
from bursar.contracts.gpu_words import LeaseId, Process, Purpose


class Holdings(Query):
    """The leases on the cards of the host whose name the asking principal has."""


class Holding(Message):
    """One lease. ``devices``: uuids of the cards of this host; ``memory``: bytes on each. ``processes``: that its
    holder has named; ``spared``: those of them that had memory there before the lease. Nobody can know that these are
    the holder's until they show the lease at the gate: else they do not end with it. ``ending``: it cannot be renewed
    any more."""

    lease: LeaseId
    principal: str
    purpose: Purpose
    devices: list[str]
    memory: int
    processes: list[Process]
    spared: list[Process] = Field(default_factory=list)
    ending: bool
    expires_in_ms: int


class HoldingsReply(Message):
    """At most 1,024 leases; ``complete``: there are no more, so that one that is not told of has ended."""

    ok: Literal[True] = True
    now_ms: int
    leases: list[Holding]
    complete: bool = True
    fence: str


class Kill(Message):
    """What a probe is told at ``bursar.assign.<host>``: end these processes of a lease that was taken away; ``spared``
    as in `Holding`."""

    service: Literal["gpu-manager"] = "gpu-manager"
    what: Literal["end_processes"] = "end_processes"
    lease: LeaseId
    processes: list[Process]
    spared: list[Process] = Field(default_factory=list)
    fence: str
