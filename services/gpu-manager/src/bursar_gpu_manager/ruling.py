"""Rights to GPUs and models: what a request may use, and where its lease may lie.

Few requests name a device; most say what they need. So a lease of somebody whose rights name GPUs is placed among
those (`RuledLease`), and refused as ``forbidden`` when there is none, or when it names hosts of which it may use none.
Rights that are taken away end a lease when it is to be renewed, and a wait when it would be over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from bursar.contracts import gpu as wire
from bursar.contracts.gpu_cache import CacheWant
from bursar.kernel.decider import Command, Reject
from bursar.kernel.rights import Rights, Use, Uses, covers, forbidden, refused
from bursar_gpu_manager.state import State
from bursar_gpu_manager.waiting import RuledLease


def _copy(body: CacheWant) -> Iterator[Use]:
    yield "models", body.model
    yield "gpus", body.place


USES: Final[Uses] = {CacheWant: _copy}


def ruled(state: State, rights: Rights, command: Command) -> Command | Reject:
    """The command as it may be decided, or why it may not."""
    kind = type(command.body)
    if kind is wire.Lease or kind is RuledLease:
        patterns = rights.patterns(command.principal, "gpus")
        return command if patterns is None else _among(state, command, patterns)
    if kind is wire.Renew:
        return _renewed(state, rights, command)
    return forbidden(rights, command, USES) or command


def _among(state: State, command: Command, patterns: tuple[str, ...]) -> Command | Reject:
    body: wire.Lease = command.body
    lost = _handed(state, command, patterns)
    if lost is not None:
        return refused(command.principal, "gpus", lost)
    if body.hosts and not any(_of_host(patterns, host) for host in body.hosts):
        return refused(command.principal, "gpus", body.hosts[0])
    if not patterns or (state.devices and not any(_is_covered(patterns, name) for name in state.devices)):
        return refused(command.principal, "gpus", "")
    fields = {**body.__dict__, "only": patterns}
    return command._replace(body=RuledLease.model_construct(**fields))


def _handed(state: State, command: Command, patterns: tuple[str, ...]) -> str | None:
    """A device that somebody in line is about to get and may not have any more: it leaves the line."""
    handed = state.line.handed
    if handed is None or handed[0].command[:2] != command[:2] or not handed[1]:
        return None
    lost = next((name for name in handed[1] if not _is_covered(patterns, name)), None)
    if lost is not None:
        state.line.take_handed(command)
        state.line.leave(handed[0])
    return lost


def _renewed(state: State, rights: Rights, command: Command) -> Command | Reject:
    lease = state.leases.get(command.body.lease)
    if lease is not None and lease.principal == command.principal:
        for name, _ in lease.devices:
            if not rights.may(command.principal, "gpus", name):
                return refused(command.principal, "gpus", name)
    return command


def may_lie(state: State, principal: str, device: str) -> bool:
    """Whether a lease of this principal may be moved there."""
    return state.rights is None or state.rights.may(principal, "gpus", device)


def _is_covered(patterns: Iterable[str], name: str) -> bool:
    return any(covers(pattern, name) for pattern in patterns)


def _of_host(patterns: Iterable[str], host: str) -> bool:
    """Whether something on that host is covered."""
    return any(covers(pattern, host) or pattern.startswith(f"{host}/") for pattern in patterns)
