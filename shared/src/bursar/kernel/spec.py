"""What a service hands to the host: its decider and the verbs that it listens to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bursar.contracts.base import Message
from bursar.kernel.decider import Broadcast, Decider


@dataclass(frozen=True)
class Verb:
    """One endpoint. ``query``: it changes nothing and has no request id. ``large``: operators may send more than an
    agent may (whole configurations). ``genuine``: fields that hold a fence (or None) as a proof: the host refuses the
    request with ``bad_fence`` unless this service has given that fence to the one who asks, so that a decider may
    believe its numbers. ``strings``: bytes of the longest string or binary in a message (the message as a whole keeps
    its limit of 64 KB)."""

    message: type[Message]
    query: bool = False
    large: bool = False
    genuine: tuple[str, ...] = ()
    strings: int = 4_096


@dataclass(frozen=True)
class Inbox:
    """A durable inbox: agents publish without waiting for an answer, also while the service is down.

    The owner reads the messages in order and decides each as a command ``Delivered`` (bursar.kernel.inbox); the
    decider keeps the position in its durable state, so that each message is decided once. ``position`` reads the
    sequence of the last decided message from the state (0: none yet). ``strings`` as in `Verb`."""

    message: type[Message]
    position: Callable[[Any], int]
    strings: int = 4_096


@dataclass(frozen=True)
class Pulse:
    """What an owner broadcasts every so many ``seconds``, signed like all broadcasts: how far it has come, so that who
    listens asks only when it has missed something. ``tell`` makes it of the state and the time (ms of the decider's
    clock), changes nothing durable, and may say None: nothing this time."""

    tell: Callable[[Any, int], Broadcast | None]
    seconds: float = 2.0


@dataclass(frozen=True)
class ServiceSpec:
    """A service. ``start`` gives the commands that an instance decides when it becomes owner (configuration from a
    file, say); it is called with the service's settings and the current state.

    What the owner hears, each by a mapping from the verb to its rule:

    - ``verbs``: requests of agents, ``bursar.req.<service>.<verb>.<principal>``;
    - ``admin``: requests of operators, ``bursar.adm.<service>.<verb>.<principal>``;
    - ``work``: requests of workers, ``bursar.work.<service>.<verb>.<principal>``;
    - ``observations``: plain messages without an answer, ``bursar.obs.<service>.<verb>.<principal>``: volatile;
    - ``nodes``: observations of host probes, ``bursar.node.<host>.<kind>``, the kind being the key: volatile.

    ``gather_ms``: while much is sent to it the service reads so seldom, for less CPU (`bursar.bus.gather`); 0: at once.

    An observation reaches ``decide`` as a command without a request id whose principal is the sender; what is
    answered to it goes nowhere. It may change the volatile part of the state, and it may be accepted with events.
    """

    name: str
    version: str
    description: str
    decider: Callable[[], Decider[Any]]
    verbs: Mapping[str, Verb]
    admin: Mapping[str, Verb] = field(default_factory=dict)
    work: Mapping[str, Verb] = field(default_factory=dict)
    observations: Mapping[str, Verb] = field(default_factory=dict)
    nodes: Mapping[str, Verb] = field(default_factory=dict)
    inbox: Inbox | None = None
    pulse: Pulse | None = None
    gather_ms: int = 0
    start: Callable[[Any, Any], Sequence[Message]] | None = None
