"""Storing and reading values that are too large for a message, and who may do that (`blobs` has what is kept).

Whoever stores one can refer to it in a task or a result of its own. It is read on behalf of a task: by who submitted
that, and by the worker that runs it now, and by nobody else. A blob is under its name only if that is the hash of what
is in it, which is checked with the part that completes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from bursar.contracts.scheduler_blobs import Get, Put, length_of
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Fence, Outcome, Refuse, Reject
from bursar_scheduler import bugs, events
from bursar_scheduler.blobs import Blob, Key, key_of
from bursar_scheduler.state import State
from bursar_scheduler.submitting import Full, refused
from bursar_scheduler.task import Config, Task


def decide_put(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Put = command.body
    key = (command.principal, body.blob)
    if len(body.data) != length_of(body.size, body.part):
        return Reject("bad_request", "a part of the wrong length", {"part": body.part})
    blob = state.blobs.find(key, now)
    if blob is not None and blob.size != body.size:
        return Reject("bad_blob", "the blob was begun with another size", {"blob": body.blob})
    if blob is not None and not blob.missing:
        return Refuse({"ok": True, "blob": body.blob, "whole": True})
    if blob is None:
        full = _what_is_full(state, key, body.size, now)
        if full is not None:
            return refused(state, full, now)
        blob = Blob(body.size)
    whole = blob.missing - (blob.parts[body.part] is None) == 0
    if whole and not _is_right(blob, body):
        return Reject("bad_blob", "the name of a blob is the SHA-256 of its content", {"blob": body.blob})
    event = (events.STORED, now, *key, body.size, body.part, body.data)
    return Accept([event], {"ok": True, "blob": body.blob, "whole": whole})


def _is_right(blob: Blob, body: Put) -> bool:
    digest = hashlib.sha256()
    for number, data in enumerate(blob.parts):
        digest.update(body.data if number == body.part or data is None else data)
    return digest.hexdigest() == body.blob


def _what_is_full(state: State, key: Key, size: int, now: int) -> Full | None:
    """One principal has half of the room at most, so that nobody fills it alone."""
    blobs, most = state.blobs, state.config.max_blob_bytes
    free, free_of = blobs.over(now)
    if blobs.bytes - free + size > most:
        return Full("blobs", "all", most, blobs.bytes - free)
    own = blobs.of[key[0]] - free_of[key[0]]
    return Full("blobs", "principal", share_of(state.config), own) if own + size > share_of(state.config) else None


def share_of(config: Config) -> int:
    """Bytes of one principal, at most."""
    return config.max_blob_bytes // 2


def decide_get(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Get = command.body
    key = (body.owner, body.blob)
    if key not in {key_of(value) for value in _open_to(state, command.principal, body.task)}:
        return Reject("not_yours", "only who submitted or runs a task may read what belongs to it", {"task": body.task})
    blob = state.blobs.find(key, now)
    data = None if blob is None or body.part >= len(blob.parts) else blob.parts[body.part]
    if blob is None or data is None:
        return Reject("unknown_blob", "this is not there, or not any more", {"blob": body.blob, "part": body.part})
    return Refuse({"ok": True, "data": data, "size": blob.size})


def _open_to(state: State, principal: str, name: str) -> Iterator[Any]:
    """The values of a task that a principal may read."""
    is_own = name.partition(".")[0] == principal or seeded(bugs.BLOBS_FOR_ALL)
    task = state.find(name)
    if task is not None and (is_own or (task.token and task.worker == principal)):
        yield task.payload
        yield from _inputs(state, task)
    ended = state.how_it_ended(name)
    if ended is not None and is_own:
        yield ended.result


def _inputs(state: State, task: Task) -> Iterator[Any]:
    for name in task.after:
        ended = state.how_it_ended(name) if name.partition(".")[0] == task.principal else None
        if ended is not None:
            yield ended.result
