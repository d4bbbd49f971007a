"""The limiter as the host sees it: its decider and its verbs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bursar.contracts.base import Message
from bursar.contracts.limiter import SERVICE, Clock, Redeclare, Reload, Reserve, Settle, Status, Withdraw
from bursar.contracts.limiter_control import Adjust, Holders, Progress, Simulate, Spending
from bursar.contracts.limiter_lease import Island, Lease, Renew, Return, Terms, Uncovered
from bursar.contracts.limiter_observed import RateLimited, Seen, Thaw
from bursar.contracts.rights import SetRights
from bursar.kernel.spec import Pulse, ServiceSpec, Verb
from bursar_limiter import freezing
from bursar_limiter.budgets import BadBudgets
from bursar_limiter.core import LimiterDecider
from bursar_limiter.reloading import LoadFile, digest
from bursar_limiter.settings import LimiterSettings, read_budgets
from bursar_limiter.state import State

log = logging.getLogger("bursar.limiter")


def start(settings: LimiterSettings, state: State) -> Sequence[Message]:
    """The budgets of the file, unless this content of it was applied before; none when the file is wrong by now."""
    try:
        budgets = read_budgets(settings.budgets)
    except BadBudgets as error:
        log.warning("budgets_not_loaded", extra={"why": str(error)})
        return []
    return [] if digest(budgets) == state.source else [LoadFile(budgets=budgets)]


SPEC = ServiceSpec(
    name=SERVICE,
    version="0.1.0",
    description="Budgets that agents share: reserve before a call, settle after it.",
    decider=LimiterDecider,
    verbs={
        "reserve": Verb(Reserve),
        "settle": Verb(Settle),
        "progress": Verb(Progress),
        "simulate": Verb(Simulate, query=True),
        "holders": Verb(Holders, query=True),
        "spending": Verb(Spending, query=True),
        "redeclare": Verb(Redeclare, genuine=("fence",)),
        "withdraw": Verb(Withdraw),
        "status": Verb(Status, query=True),
        "clock": Verb(Clock, query=True),
        "lease": Verb(Lease),
        "renew": Verb(Renew),
        "return": Verb(Return),
        "island": Verb(Island),
        "uncovered": Verb(Uncovered),
        "terms": Verb(Terms, query=True),
        "rate-limited": Verb(RateLimited),
    },
    admin={
        "reload": Verb(Reload, large=True),
        "adjust": Verb(Adjust),
        "thaw": Verb(Thaw),
        "rights": Verb(SetRights, large=True),
    },
    observations={"seen": Verb(Seen)},
    pulse=Pulse(freezing.tell, freezing.REPEAT_MS / 1000),
    start=start,
)
