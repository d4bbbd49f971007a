"""The model cache on the wire: who has which weights where, who loads them, and who has to give them back.

A *copy* is named by model, place and tier: on a card (``gpu``: the place is a device ``<host>/<uuid>``, and the copy
is held under a lease of whoever loaded it), in the memory of a host (``ram``), or as a mapped file (``mmap``). Whoever
wants weights asks first; of all that ask for the same copy one is told to load it, and the others are told when it is
there.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Message, Query, Request
from bursar.contracts.gpu_words import HostName, LeaseId, Target

Tier = Literal["gpu", "ram", "mmap"]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,127}$", max_length=128)]
Size = Annotated[int, Field(ge=1, le=2**50)]
Load = Annotated[int, Field(ge=1, le=2**53 - 1)]
Millis = Annotated[int, Field(ge=0, le=2**31)]


class CopyName(Message):
    """Names a copy. ``place``: a device for the tier ``gpu``, otherwise a host."""

    model: ModelName
    place: Target
    tier: Tier = "gpu"


class CacheWant(CopyName, Request):
    """Weights of ``size`` bytes are wanted at a place; answered by `CacheAnswer`. ``on_disk``: whether the host has the
    file. ``ahead``: nobody uses them yet: they are only loaded (or else refused) where room for them is free."""

    size: Size
    on_disk: bool = True
    ahead: bool = False


class CacheAnswer(Message):
    """``hit``: use it. ``wait``: somebody loads it; a notice says when it is there. ``load``: load it, from ``source``,
    and report with the number ``load``. ``room``: ask again when the copies ``evict`` are gone. ``refused``: what is
    there is used, pinned, or was used a moment ago. ``next``: what the one who asks will probably want there after
    this, with ``next_size`` bytes, for which room is free; None: nothing is foretold. ``keep_ms``: whoever uses the
    copy, waits for it, or loads it says so again (`CacheKeep`) before so long has passed, or has left it. Who has 256
    uses of one copy, or waits so often for it, gets the error ``too_many_uses``."""

    ok: Literal[True] = True
    what: Literal["hit", "wait", "load", "room", "refused"]
    load: int
    evict: list[str]
    source: str
    source_place: str
    source_ms: int
    next: str | None
    next_size: int
    keep_ms: int
    fence: str


class CacheKeep(Query):
    """I still use, wait for, or load these copies, or have them in the memory of a host. Who does not say so within
    ``keep_ms`` has left them: what a dead agent used can be evicted then, what it was loading is loaded by another,
    and what it had in a host's memory is gone with it."""

    copies: Annotated[tuple[CopyName, ...], Field(max_length=64)]


class CacheKept(Message):
    """``gone``: those of them that the one who asks has no part in any more: it was silent for too long, or the copy is
    gone; they have to be wanted again."""

    ok: Literal[True] = True
    gone: list[CopyName]
    keep_ms: int
    fence: str


class CacheLoaded(CopyName, Request):
    """The load with this number is done, after ``took_ms``. ``lease``: under which the weights are held; on a card
    there is one, of who has loaded them."""

    load: Load
    lease: LeaseId | None = None
    size: Size
    took_ms: Millis


class CacheFailed(CopyName, Request):
    """The load with this number has failed: the next of those who wait loads."""

    load: Load


class CacheLeave(CopyName, Request):
    """The weights are not used any more by the one who asks, or not waited for."""


class CacheGone(CopyName, Request):
    """The owner of a copy in the memory of a host, or of a mapped file, says that it is gone. For a card its driver
    says it, and nobody else."""


class CacheDone(Message):
    """``phase`` of the copy now; empty: it is not there."""

    ok: Literal[True] = True
    phase: str
    fence: str


class CacheWhere(Query):
    """Copies of one model, or of all, and how good the cache is."""

    model: ModelName | None = None


class CopyStatus(Message):
    """``users``: how many use it. ``owner``: who has loaded it, or loads it now, with the number ``load``. ``step``: of
    its eviction; empty: none is under way."""

    model: str
    place: str
    tier: Tier
    phase: Literal["loading", "ready", "evicting", "quarantined"]
    size: int
    users: int
    pinned: bool
    owner: str
    load: int
    step: str


class CacheReply(Message):
    """At most 512 copies. ``hit_permille``: of what was wanted, what was there or on its way. ``saved_ms``: loading
    that was not necessary. ``cached``: bytes that count to the bounds."""

    ok: Literal[True] = True
    copies: list[CopyStatus]
    copies_total: int
    hit_permille: int
    mean_load_ms: int
    saved_ms: int
    cached: int
    evicted: int
    quarantined: int
    fence: str


class CachePin(CopyName, Request):
    """Administration: keep a copy whatever it is worth, or no more."""

    pinned: bool = True


class CacheBound(Request):
    """Administration: how many bytes of weights a host keeps in a tier."""

    host: HostName
    tier: Literal["gpu", "ram"] = "gpu"
    size: Annotated[int, Field(ge=0, le=2**50)]


class CacheBounded(Message):
    """The bound as it is now; what is beyond it goes as soon as it may."""

    ok: Literal[True] = True
    host: str
    tier: Tier
    size: int
    fence: str


class CacheTold(Message):
    """What somebody is told at ``bursar.assign.<principal>`` of a copy: ``ready``, ``load`` (it is your turn), ``lost``
    (the load failed for all, or the copy is gone); or, to its owner, the steps of an eviction: ``ask`` (unload it),
    ``sleep`` (give its memory back, whatever happens), ``kill`` (its lease is taken away)."""

    service: Literal["gpu-manager"] = "gpu-manager"
    what: Literal["cache"] = "cache"
    model: str
    place: str
    tier: Tier
    step: Literal["ready", "load", "lost", "ask", "sleep", "kill"]
    load: int
    fence: str
