"""What `bursar journal` works out from a stored journal: the state at any entry, and whether everything is there.

Sound means three things: each entry follows the one before, each kept snapshot is the state that the entries lead to,
and a service that started now would find nothing missing between its snapshot and the last entry.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from bursar.kernel.audit import ChainCheck
from bursar.kernel.decider import Decider
from bursar.kernel.entry import decode, is_recovery
from bursar.kernel.errors import JournalError, KernelError
from bursar.kernel.fold import Folded, Follower, Head
from bursar.kernel.journal.base import Journal
from bursar.kernel.loader import base_of, load, read_snapshot
from bursar.kernel.snapshot import Manifest

Echo = Callable[[str], None]
Explain = Callable[[Any, Any], dict[str, Any] | None]
Look = Callable[[Folded, int, bytes], None]
"""Is shown the state before each entry, and the entry."""


async def replayed(stored: Journal, decider: Decider[Any], at: int | None) -> Follower:
    """The state after entry ``at`` (None: the last): from the newest snapshot that is not later, entry by entry.

    Raises `KernelError` when there is no such entry, or when those that lead there are purged or damaged.
    """
    last = (await stored.inspect(0)).last
    end = last[0] if last else 0
    if at is not None and at > end:
        raise JournalError(f"there is no entry {at}: {_ends(end)}")
    manifests = await stored.manifests()
    first = next((manifest for manifest in manifests if at is None or manifest.sequence <= at), None)
    follower = await _replayed_from(stored, decider, first, at)
    if at and not follower.head.sequence:
        begins = (await stored.inspect(0)).following
        raise JournalError(f"entry {at} is purged: the journal begins at {begins[0] if begins else end}")
    if at and follower.head.sequence != at:
        raise JournalError(f"there is no entry {at}: it is lost, or another shard's")
    return follower


async def explained(stored: Journal, decider: Decider[Any], what: str) -> list[dict[str, Any]]:
    """How the decisions about something were made: for each of its events that the decider explains (it has a method
    ``explain``), what that works out from the state before. What was purged is not there any more."""
    explain: Explain | None = getattr(decider, "explain", None)
    records: list[dict[str, Any]] = []

    def look(folded: Folded, sequence: int, payload: bytes) -> None:
        happened = [event for row in decode(payload).decisions for event in row.events]
        if explain is None or not any(what in event[2:3] for event in happened):
            return
        state = decider.load(decider.dump(folded.state))
        for event in happened:
            record = explain(state, event) if what in event[2:3] else None
            if record is not None:
                records.append({"sequence": sequence, **record})
            decider.evolve(state, event)

    manifests = await stored.manifests()
    await _replayed_from(stored, decider, manifests[-1] if manifests else None, None, look)
    return records


async def verdict(stored: Journal, decider: Decider[Any], echo: Echo) -> bool:
    """Check everything that is stored; ``echo`` is told what was found, in words. True when it is sound."""
    check = ChainCheck()
    async for sequence, payload in stored.read(0):
        check.feed(sequence, payload)
    for finding in check.findings:
        echo(f"{'WRONG' if finding.bad else 'note '} {finding.sequence}: {finding.text}")
    sound = (
        check.is_sound and await _snapshots_agree(stored, decider, echo) and await _can_be_loaded(stored, decider, echo)
    )
    words = f"{check.entries} entries, {check.decisions} decisions, {check.events} events"
    if sound and not check.entries:
        words = "the journal is empty"
    echo(f"{'sound' if sound else 'NOT SOUND'}: {words}")
    return sound


async def nothing_from(stored: Journal, start: int) -> str:
    """Why there is no entry from ``start`` on, in words."""
    last = (await stored.inspect(0)).last
    return f"nothing to show from {start} on: {_ends(last[0])}" if last else _ends(0)


def _ends(end: int) -> str:
    return f"the journal ends at {end}" if end else "the journal is empty"


async def _replayed_from(
    stored: Journal, decider: Decider[Any], first: Manifest | None, at: int | None, look: Look | None = None
) -> Follower:
    if first is None:
        follower = Follower(Folded(decider))
    else:
        follower = Follower(await read_snapshot(stored, first, decider), Head(first.sequence, first.hash, ""))
    async for sequence, payload in stored.read(follower.head.sequence):
        if at is not None and sequence > at:
            break
        base = await base_of(stored, payload, decider) if is_recovery(payload) else None
        if base is not None:
            follower = Follower(base, Head(0, decode(payload).prev, ""))
        if look is not None:
            look(follower.folded, sequence, payload)
        follower.follow(sequence, payload, base)
    return follower


async def _snapshots_agree(stored: Journal, decider: Decider[Any], echo: Echo) -> bool:
    """Whether each snapshot can be read and, replayed to the next one, gives that one's bytes."""
    manifests = (await stored.manifests())[::-1]
    agree = True
    for manifest in manifests[:1]:
        try:
            await read_snapshot(stored, manifest, decider)
        except KernelError as error:
            echo(f"WRONG snapshot {manifest.id}: {error}")
            return False
    for older, newer in itertools.pairwise(manifests):
        try:
            wanted = (await read_snapshot(stored, newer, decider)).dump()
            same = wanted == (await _replayed_from(stored, decider, older, newer.sequence)).folded.dump()
        except KernelError as error:
            echo(f"WRONG snapshot {newer.id}: {error}")
            agree = False
            continue
        agree &= same
        echo(f"note  snapshot {newer.id} {'agrees with' if same else 'DIFFERS from'} the replay from {older.id}")
    return agree


async def _can_be_loaded(stored: Journal, decider: Decider[Any], echo: Echo) -> bool:
    """Whether a service that starts now finds nothing missing: neither below the first entry nor after a snapshot."""
    damage = (await load(stored, decider)).damage
    if damage:
        echo(f"WRONG: a service that starts now misses something: {damage}")
    return not damage
