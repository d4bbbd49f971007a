"""What a service hands to the host: its decider and the verbs that it listens to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bursar.contracts.base import Message
from bursar.kernel.decider import Decider


@dataclass(frozen=True)
class Verb:
    """One endpoint. ``query``: it changes nothing and has no request id. ``large``: operators may send more than an
    agent may (whole configurations)."""

    message: type[Message]
    query: bool = False
    large: bool = False


@dataclass(frozen=True)
class ServiceSpec:
    """A service. ``start`` gives the commands that an instance decides when it becomes owner (configuration from a
    file, say); it is called with the service's settings and the current state."""

    name: str
    version: str
    description: str
    decider: Callable[[], Decider[Any]]
    verbs: Mapping[str, Verb]
    admin: Mapping[str, Verb] = field(default_factory=dict)
    start: Callable[[Any, Any], Sequence[Message]] | None = None
