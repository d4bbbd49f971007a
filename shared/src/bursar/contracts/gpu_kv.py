"""Pages of KV cache that several engines of one card share.

Whoever holds a lease for ``kv_cache`` on one device opens it as a *pool* of pages (`KvOpen`). Engines join it: each is
promised so many pages, may have up to its limit while nobody else needs them, and tells how many blocks (of a few
tokens) it uses in the pages that it holds (`KvPages`). The pool counts both, so what is wasted inside of pages is seen;
what was lent beyond a promise is asked back (`KvWanted`) when an engine wants more than is free. A pool ends with its
lease. Parts are in millionths.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import PRINCIPAL, Fence, Message, Query, Request
from bursar.contracts.gpu_words import LeaseId

Principal = Annotated[str, Field(pattern=PRINCIPAL, max_length=64)]
Pages = Annotated[int, Field(ge=0, le=2**31)]
Blocks = Annotated[int, Field(ge=0, le=2**40)]


class KvOpen(Request):
    """The lease is a pool from now on. ``page``: bytes of a page; ``engines``: who may join beside its holder."""

    lease: LeaseId
    fence: Fence
    page: Annotated[int, Field(ge=4_096, le=2**40)] = 2 << 20
    engines: Annotated[tuple[Principal, ...], Field(max_length=255)] = ()


class KvOpened(Message):
    """``pages``: of the pool in all."""

    ok: Literal[True] = True
    lease: LeaseId
    pages: int
    fence: str


class KvJoin(Request):
    """An engine joins a pool: ``promised`` pages it can always have, ``limit`` at most. ``per_page``: its blocks in a
    page. ``holding``: pages that it has already, when the manager has lost data; it is given as many of them as are not
    others'. ``fence``: of the last answer that it had of this pool before that, which proves that it was there; without
    it nobody has any (``bad_fence``). Until the manager is safe again nobody else joins."""

    lease: LeaseId
    promised: Pages
    limit: Pages
    per_page: Annotated[int, Field(ge=1, le=2**31)]
    holding: Pages | None = None
    fence: Fence | None = None


class KvPage(Message):
    """A page of an engine: ``blocks`` in use, of these ``busy`` of sequences that still run; ``used_at_ms`` by a clock
    of its own."""

    page: Annotated[int, Field(ge=0, le=2**40)]
    blocks: Blocks
    busy: Blocks = 0
    used_at_ms: Annotated[int, Field(ge=0, le=2**53 - 1)] = 0


class KvPages(Request):
    """What an engine has: it uses ``blocks`` now, gives so many pages back, wants so many more. ``held``: its pages, at
    best those with fewest blocks, so that it can be told which to empty."""

    lease: LeaseId
    blocks: Blocks
    give: Pages = 0
    take: Pages = 0
    held: Annotated[tuple[KvPage, ...], Field(max_length=256)] = ()


class KvHeld(Message):
    """``taken``: whether it got the pages that it wanted (all or none); others are asked for ``asked`` pages instead,
    so it should ask again, within ten seconds, or they are asked no more. ``wanted``: pages that others want back from
    this engine, and ``empty``: which of ``held`` to empty for that, for the fewest blocks lost. ``lendable``: pages
    that it may take now. ``waste``: part of what it holds that it does not use; ``packed``: the fewest pages that hold
    its blocks.

    The pages are the engine's for ``keep_ms`` after it *sent* what this answers, by its own clock: not longer than the
    lease is its holder's. Who has said nothing more by then must not use them: they are lent to others."""

    ok: Literal[True] = True
    lease: LeaseId
    promised: int
    pages: int
    taken: bool
    asked: int
    wanted: int
    empty: list[int]
    lendable: int
    waste: int
    packed: int
    keep_ms: int
    fence: str


class KvRefused(Message):
    """So many pages cannot be promised: ``lendable`` can. ``recovering``: the manager has lost data, and the engines
    that were there have to say first what they hold."""

    ok: Literal[False] = False
    lease: LeaseId
    reason: Literal["no_pages", "recovering"] = "no_pages"
    lendable: int
    fence: str


class KvLeave(Request):
    """An engine leaves a pool; its pages are free."""

    lease: LeaseId


class KvLeft(Message):
    """``was_there``: whether it had joined."""

    ok: Literal[True] = True
    lease: LeaseId
    was_there: bool
    fence: str


class KvStatus(Query):
    """What a pool has, and who has it."""

    lease: LeaseId


class KvEngine(Message):
    """One engine of a pool. ``blocks``: as it told last; ``waste``: part of its pages that it does not use; ``packed``:
    the fewest pages that hold its blocks."""

    engine: str
    promised: int
    limit: int
    pages: int
    blocks: int
    waste: int
    packed: int


class KvReply(Message):
    """``free``: pages that nobody has; ``waste``: part of what is held that is not used, over all engines."""

    ok: Literal[True] = True
    lease: LeaseId
    page: int
    pages: int
    free: int
    waste: int
    engines: list[KvEngine]
    fence: str


class KvWanted(Message):
    """What an engine is told at ``bursar.assign.<principal>``: another one wants so many of its pages back; see
    `KvPages` for which."""

    service: Literal["gpu-manager"] = "gpu-manager"
    what: Literal["kv_wanted"] = "kv_wanted"
    lease: LeaseId
    pages: int
    fence: str
