"""What happened on a connection, for metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class BusCounters:
    """What happened on a connection since it was made."""

    disconnects: int = 0
    reconnects: int = 0
    forced_reconnects: int = 0
    late_answers: int = 0
    slow_consumers: int = 0
    denied: int = 0
    errors: int = 0
    handler_errors: int = 0
