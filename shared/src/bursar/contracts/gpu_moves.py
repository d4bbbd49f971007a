"""Fragmentation of GPU memory, and leases that their owners agree to move.

A holder says that a lease may be moved (`Movable`). When fragmentation is too high the manager proposes a move to it
(`MoveWanted`, at ``bursar.assign.<principal>``); it agrees or declines (`Move`). Who agrees is granted a second lease
on the other device, loads there, and releases the first; meanwhile both count. Nothing is moved without its owner.

Parts are in millionths.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Fence, Message, Query, Request
from bursar.contracts.gpu_words import MAX_DEVICES, HostName, LeaseId

MoveStep = Literal["proposed", "agreed", "loaded", "declined", "lapsed", "failed", "skipped"]


class Movable(Request):
    """The lease may be moved, to a device of the same kind. ``cost_ms``: what an interruption costs beside loading;
    None: it may not be moved any more. ``hosts``: only to these; empty: any."""

    lease: LeaseId
    fence: Fence
    cost_ms: Annotated[int, Field(ge=0, le=600_000)] | None = 0
    hosts: Annotated[tuple[HostName, ...], Field(max_length=64)] = ()


class MovableSet(Message):
    """``movable``: whether the lease may be moved now."""

    ok: Literal[True] = True
    lease: LeaseId
    movable: bool
    fence: str


class Move(Request):
    """The owner's answer to `MoveWanted`. Who agrees is answered by `Leased` (the lease to move to) or, when there is
    no room any more, by `Refused`; who declines by `Declined`."""

    lease: LeaseId
    fence: Fence
    agree: bool


class Declined(Message):
    """The lease stays where it is, and its owner is not asked again for a while."""

    ok: Literal[True] = True
    lease: LeaseId
    agreed: Literal[False] = False
    fence: str


class MoveWanted(Message):
    """What an owner is told at ``bursar.assign.<principal>``: the manager would like the lease on ``device`` instead.
    Answer within ``answer_in_ms`` with `Move`; no answer declines."""

    service: Literal["gpu-manager"] = "gpu-manager"
    what: Literal["move_wanted"] = "move_wanted"
    lease: LeaseId
    device: str
    memory: int
    answer_in_ms: int
    fence: str


class Fragmentation(Query):
    """How much of the free memory is in remainders. ``memory``, ``devices``: also, what would have to be moved so that
    such a lease fits; ``memory`` None: not asked."""

    memory: Annotated[int, Field(ge=1, le=2**50)] | None = None
    devices: Annotated[int, Field(ge=1, le=MAX_DEVICES)] = 1


class ClassFragmentation(Message):
    """One class of sizes. ``usable``: bytes of what is free that requests of this size can use; ``fragmentation``:
    1 - usable / free."""

    size: int
    usable: int
    fragmentation: int


class DeviceFragmentation(Message):
    """``fragmentation``: at each class, from the smallest."""

    device: str
    free: int
    fragmentation: list[int]


class PlannedMove(Message):
    """``gain``: bytes that become usable; ``fragmentation``: of the fleet after this move, None where the plan is for
    one request."""

    lease: str
    principal: str
    source: str
    target: str
    memory: int
    cost_ms: int
    gain: int | None
    fragmentation: int | None


class Clearing(Message):
    """``devices`` have room for the request when ``moves`` are done, in this order."""

    devices: list[str]
    moves: list[PlannedMove]
    cost_ms: int


class FragmentationReply(Message):
    """``classes``: over all devices that can be used now; ``size``: the class that plans are made for; ``above``:
    beyond this much of it there is a plan. ``plan``: the moves that would be proposed now. ``moving``, ``step``: the
    lease whose move is being made; None: none is. ``waiting``: moves of the present plan that are still to come.
    ``done``: how moves have ended. ``clearing``: None: not asked for, or there is none. ``devices``: at most 256."""

    ok: Literal[True] = True
    free: int
    size: int
    above: int
    classes: list[ClassFragmentation]
    devices: list[DeviceFragmentation]
    plan: list[PlannedMove]
    moving: str | None
    step: MoveStep | None
    waiting: int
    done: dict[str, int]
    clearing: Clearing | None
    fence: str
