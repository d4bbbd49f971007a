"""The breaker as the host sees it: its decider and its verbs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bursar.contracts.base import Message
from bursar.contracts.breaker import (
    SERVICE,
    Annotate,
    Configure,
    Disable,
    Explain,
    ForceClose,
    ForceOpen,
    MetricsOnly,
    Probe,
    Probed,
    Release,
    Report,
    Reset,
    Settings,
    Snapshot,
    Status,
)
from bursar.contracts.rights import SetRights
from bursar.kernel.spec import Pulse, ServiceSpec, Verb
from bursar_breaker import telling
from bursar_breaker.circuitfile import BadRules
from bursar_breaker.configuring import LoadFile, digest
from bursar_breaker.core import BreakerDecider
from bursar_breaker.settings import BreakerSettings, read_rules
from bursar_breaker.state import State

log = logging.getLogger("bursar.breaker")


def start(settings: BreakerSettings, state: State) -> Sequence[Message]:
    """The rules of the file, unless this content of it was applied before; none when the file is wrong by now."""
    try:
        rules, groups = read_rules(settings.circuits)
    except BadRules as error:
        log.warning("rules_not_loaded", extra={"why": str(error)})
        return []
    return [] if digest(rules, groups) == state.source else [LoadFile(rules=rules, groups=groups)]


SPEC = ServiceSpec(
    name=SERVICE,
    version="0.1.0",
    description="Circuit breakers for a whole fleet: agents report, one registry judges, everybody hears of it.",
    decider=BreakerDecider,
    verbs={
        "probe": Verb(Probe),
        "probed": Verb(Probed),
        "query": Verb(Snapshot, query=True),
        "settings": Verb(Settings, query=True),
        "status": Verb(Status, query=True),
        "explain": Verb(Explain, query=True),
    },
    admin={
        "force-open": Verb(ForceOpen),
        "force-close": Verb(ForceClose),
        "disable": Verb(Disable),
        "metrics-only": Verb(MetricsOnly),
        "release": Verb(Release),
        "reset": Verb(Reset),
        "annotate": Verb(Annotate),
        "configure": Verb(Configure, large=True),
        "rights": Verb(SetRights, large=True),
    },
    observations={"report": Verb(Report, query=True)},
    pulse=Pulse(telling.pulse, telling.LIVELY_PULSE_MS / 1000),
    gather_ms=5,
    start=start,
)
