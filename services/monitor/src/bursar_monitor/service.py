"""The monitor as the host sees it: its decider, its verbs, and the observations of the hosts' probes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bursar.contracts.base import Message
from bursar.contracts.monitor import (
    SAMPLE_KIND,
    SERVICE,
    Acknowledge,
    Forget,
    HostSample,
    SetRules,
    Silence,
    Took,
    Unsilence,
)
from bursar.contracts.monitor_batch import BATCH_KIND, MAX_PACKED, HostBatch
from bursar.contracts.monitor_picture import Status
from bursar.contracts.monitor_quota import HostLease, HostPlanQuery, ReleaseHost, RenewHost, SetQuota
from bursar.kernel.spec import ServiceSpec, Verb
from bursar_monitor.core import MonitorDecider
from bursar_monitor.operating import LoadRules, digest
from bursar_monitor.rules import BadRules
from bursar_monitor.settings import MonitorSettings, read_rules
from bursar_monitor.state import State

log = logging.getLogger("bursar.monitor")


def start(settings: MonitorSettings, state: State) -> Sequence[Message]:
    """The rules of the file, unless this content of it was applied before; none when the file is wrong by now."""
    try:
        policy = read_rules(settings.rules)
    except BadRules as error:
        log.warning("rules_not_loaded", extra={"why": str(error)})
        return []
    return [] if digest(policy) == state.source else [LoadRules(policy=policy)]


SPEC = ServiceSpec(
    name=SERVICE,
    version="0.1.0",
    description="The picture of the fleet: hosts, services, budgets, circuits, GPUs, queues; and alerts.",
    decider=MonitorDecider,
    verbs={
        "status": Verb(Status, query=True),
        "host-lease": Verb(HostLease),
        "host-renew": Verb(RenewHost),
        "host-release": Verb(ReleaseHost),
        "host-plan": Verb(HostPlanQuery, query=True),
    },
    admin={
        "silence": Verb(Silence),
        "unsilence": Verb(Unsilence),
        "acknowledge": Verb(Acknowledge),
        "forget": Verb(Forget),
        "set-quota": Verb(SetQuota),
        "set-rules": Verb(SetRules, large=True),
    },
    observations={"took": Verb(Took)},
    nodes={SAMPLE_KIND: Verb(HostSample), BATCH_KIND: Verb(HostBatch, strings=MAX_PACKED)},
    start=start,
)
