"""The limiter as a service: its verbs, and the budgets that it starts with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bursar.contracts.base import Message
from bursar.contracts.limiter import SERVICE, Clock, Redeclare, Reload, Reserve, Settle, Status
from bursar.kernel.spec import ServiceSpec, Verb
from bursar_limiter.budgets import read_budgets
from bursar_limiter.core import LimiterDecider


def start(settings: Any, state: Any) -> Sequence[Message]:
    """The budgets of the file, when this instance becomes owner; nothing changes if the state has them already."""
    return [Reload(id="start", budgets=read_budgets(settings.limiter_budgets))]


SPEC = ServiceSpec(
    name=SERVICE,
    version="0.1.0",
    description="Rate limits and budgets: reserve an estimate, call the provider, settle the real usage.",
    decider=LimiterDecider,
    verbs={
        "reserve": Verb(Reserve),
        "settle": Verb(Settle),
        "redeclare": Verb(Redeclare),
        "status": Verb(Status, query=True),
        "clock": Verb(Clock, query=True),
    },
    admin={"reload": Verb(Reload, large=True)},
    start=start,
)
