"""What a host's probe tells beside its plain numbers: NUMA nodes, the fleet's processes, what leases really use.

A process of the fleet belongs to a *group*: a service by its name (``limiter``), ``nats``, ``probe``, ``supervisor``,
or ``agent.<principal>``. Shares of processor time are in thousandths of one core.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Amount, Message

Permille = Annotated[int, Field(ge=0, le=1000)]
Group = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,79}$", max_length=80)]
Pid = Annotated[int, Field(ge=1, le=2**31 - 1)]
Cores = Annotated[tuple[Permille, ...], Field(max_length=256)]
"""How busy each core was."""


class NumaSample(Message):
    """One NUMA node: its processors and memory."""

    node: Annotated[int, Field(ge=0, le=1_023)]
    cores: Annotated[int, Field(ge=0, le=65_536)]
    total_bytes: Amount
    free_bytes: Amount


class GroupSample(Message):
    """All processes of one group. ``starts``: since the probe began. ``crashes``: how often a process of it ended
    within 30 s of its start, in the last minute. ``leak_permille``: what its steady growth takes of the memory that is
    free on the host before its horizon (`bursar_monitor.lives`); 0: it does not grow steadily."""

    group: Group
    processes: Annotated[int, Field(ge=0, le=100_000)]
    cpu_milli: Amount
    rss_bytes: Amount
    starts: Amount = 0
    crashes: Amount = 0
    leak_permille: Amount = 0


class ProcessSample(Message):
    """One process of the fleet; of many, those with most memory are told."""

    pid: Pid
    group: Group
    cpu_milli: Amount
    rss_bytes: Amount
    age_ms: Amount


class LeaseUse(Message):
    """What the processes of one lease of this host have used: processor over the time since the look before, memory
    and disk now (None: not known). ``used_permille``: of its limit of processor or memory, whichever is more;
    ``held_by``: what keeps them within their lease."""

    lease: Annotated[str, Field(max_length=48)]
    processes: Annotated[int, Field(ge=0, le=100_000)]
    cpu_milli: Amount
    memory_bytes: Amount
    disk_bytes: Amount | None = None
    used_permille: Amount = 0
    held_by: Literal["cgroup", "rlimit", "nothing"] = "nothing"
