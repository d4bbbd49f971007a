"""The roles of an instance, the moves between them, and the times that govern them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Role(StrEnum):
    LOADING = "loading"
    STANDBY = "standby"
    CLAIMING = "claiming"
    OWNER = "owner"
    RECOVERING = "recovering"


TRANSITIONS: Final[dict[Role, frozenset[Role]]] = {
    Role.LOADING: frozenset({Role.LOADING, Role.STANDBY}),
    Role.STANDBY: frozenset({Role.STANDBY, Role.CLAIMING, Role.RECOVERING, Role.LOADING}),
    Role.CLAIMING: frozenset({Role.OWNER, Role.STANDBY, Role.RECOVERING, Role.LOADING}),
    Role.OWNER: frozenset({Role.LOADING, Role.RECOVERING}),
    Role.RECOVERING: frozenset({Role.OWNER, Role.LOADING}),
}


class Options(NamedTuple):
    """Times in milliseconds of the monotonic clock.

    ``takeover_ms``: silence after which a standby claims. ``lease_ms``: how long after an append the owner answers
    without another; must be well below ``takeover_ms``. ``heartbeat_ms``: between the owner's signs of life.
    ``beat_ms``: a journal entry at least so often. ``snapshot_ms`` / ``snapshot_events``: a snapshot after so long or
    so many events, whichever comes first. ``max_queue``: requests that may wait for a decision. ``patience_ms``: how
    long decisions that nobody waits for are kept back, to share an append with others.
    """

    takeover_ms: int = 1000
    lease_ms: int = 700
    heartbeat_ms: int = 200
    beat_ms: int = 10_000
    snapshot_ms: int = 30_000
    snapshot_events: int = 200_000
    max_queue: int = 20_000
    patience_ms: int = 40
    retry_ms: int = 50
    max_retry_ms: int = 1000
