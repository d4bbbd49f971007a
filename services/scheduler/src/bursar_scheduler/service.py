"""The scheduler as the host sees it: its decider, its verbs and its inbox."""

from __future__ import annotations

from collections.abc import Sequence

from bursar.contracts import scheduler as wire
from bursar.contracts.base import Message
from bursar.contracts.rights import SetRights
from bursar.contracts.scheduler_blobs import PART_BYTES, Get, Put
from bursar.contracts.scheduler_explain import Spending, Why
from bursar.contracts.scheduler_graph import CancelProgram, Graph, Inputs
from bursar.contracts.scheduler_moving import Propose, TakeSnapshot
from bursar.kernel.spec import Inbox, ServiceSpec, Verb
from bursar_scheduler.configuring import ConfigureFromSettings, source_of
from bursar_scheduler.core import SchedulerDecider
from bursar_scheduler.explaining import WhyAny
from bursar_scheduler.settings import SchedulerSettings, rules_of
from bursar_scheduler.state import State
from bursar_scheduler.status import ListAll


def start(settings: SchedulerSettings, state: State) -> Sequence[Message]:
    """The rules of the settings, unless these were applied before."""
    rules = rules_of(settings)
    return [] if source_of(rules) == state.source else [ConfigureFromSettings(rules=rules)]


def position(state: State) -> int:
    return state.position


SPEC = ServiceSpec(
    name=wire.SERVICE,
    version="0.1.0",
    description="Tasks for GPU, CPU and remote workers: durable, fenced, one accepted end each.",
    decider=SchedulerDecider,
    verbs={
        "submit": Verb(wire.Submit, strings=wire.MAX_VALUE_BYTES),
        "graph": Verb(Graph, strings=wire.MAX_VALUE_BYTES),
        "put": Verb(Put, strings=PART_BYTES),
        "get": Verb(Get, query=True),
        "cancel": Verb(wire.Cancel),
        "cancel-program": Verb(CancelProgram),
        "find": Verb(wire.Find, query=True),
        "ended": Verb(wire.Ended, query=True),
        "list": Verb(wire.List, query=True),
        "why": Verb(Why, query=True),
        "status": Verb(wire.Status, query=True),
        "spending": Verb(Spending, query=True),
    },
    admin={
        "configure": Verb(wire.Configure),
        "rights": Verb(SetRights, large=True),
        "share": Verb(wire.Share),
        "requeue": Verb(wire.Requeue),
        "snapshot": Verb(TakeSnapshot, query=True),
        "propose": Verb(Propose),
        "why-any": Verb(WhyAny, query=True),
        "list-all": Verb(ListAll, query=True),
    },
    work={
        "register": Verb(wire.Register),
        "start": Verb(wire.Start),
        "inputs": Verb(Inputs, query=True),
        "progress": Verb(wire.Progress, query=True),
        "finish": Verb(wire.Finish, strings=wire.MAX_VALUE_BYTES),
        "fail": Verb(wire.Fail),
        "checkpoint": Verb(wire.Checkpoint, strings=wire.MAX_VALUE_BYTES),
        "yield": Verb(wire.Yield, strings=wire.MAX_VALUE_BYTES),
        "release": Verb(wire.Release),
        "drain": Verb(wire.Drain),
        "leave": Verb(wire.Leave),
    },
    observations={"heartbeat": Verb(wire.Heartbeat)},
    inbox=Inbox(wire.Post, position, strings=wire.MAX_VALUE_BYTES),
    start=start,
)
