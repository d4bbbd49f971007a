"""What a runner needs of the service around it."""

from __future__ import annotations

from typing import Any, Protocol

from bursar.kernel.decider import Broadcast, Fence, Notice
from bursar.kernel.effects import Answer, Heartbeat


class Outlet(Protocol):
    """Where answers, broadcasts, heartbeats and changes of role go."""

    def answer(self, answer: Answer) -> None: ...

    def drop(self, ticket: Any) -> None: ...

    def announce(self, broadcast: Broadcast | Notice, fence: Fence) -> None: ...

    def heartbeat(self, beat: Heartbeat) -> None: ...

    def warn(self, suspect: Fence) -> None:
        """Tell the other instances of a fence that was given out for something that is not in the journal."""
        ...

    def cork(self) -> None:
        """`write_out` follows in this turn of the loop."""
        ...

    def journal_full(self, is_full: bool) -> None:
        """The journal has no room for anything more, or has room again."""
        ...

    def write_out(self) -> None:
        """Send what was answered and broadcast so far."""
        ...

    def role_changed(self, role: str, reason: str) -> None: ...
