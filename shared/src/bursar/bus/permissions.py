"""Who may say and hear what: one allow-list per role, as plain data.

The rules behind the table:

- Allow-lists only. A deny-list forgets the next subject, and NATS has had holes in its deny logic; what is not named
  here is refused.
- The principal is the last token of every subject that it may publish, so the server itself proves who asks. In a
  role's lists the token ``{{name()}}`` stands for the principal's name: the NATS server fills it in from the signed
  user JWT, so that one role serves any number of agents.
- No role has ``allow_responses``: with it a service answers to whatever reply subject a caller names, past its own
  deny-list. Services instead may publish to ``_R.>`` and the endpoint module checks that a reply subject lies below
  ``_R.<principal>.``.
- What a worker or a host's probe may say has subjects of its own (``bursar.work``, ``bursar.node``), which the role of
  an agent does not have: an agent cannot pretend to be a worker by its choice of words.
- Log lines (``bursar.line``) have a subject of their own, since everybody hears ``bursar.evt``: they tell operators and
  the monitor what agents need not know.
- What one principal is told (``bursar.assign.<principal>``) is not signed: only the services of `ASSIGNERS` may publish
  there.
- Agents, workers and probes live in the account AGENTS, services and operators in CORE. AGENTS shows CORE what its
  principals ask (`ASKED`), CORE shows AGENTS what its own say (`TOLD`): both as *streams*, which keep a message as it
  is. Imported as a service a request would get a reply subject of the server's own making, and the endpoint module
  could no longer check that the answer goes to an inbox of who asks. So nothing else of either account is even there
  for the other: no discovery, no administration, no log lines.
- A durable inbox is a stream in the service's journal account. Agents publish in their own account, and the subject is
  *imported as a service*: the server then replaces the reply subject by one that it makes up. Imported as a plain
  subject the message would keep the caller's reply subject, and a server whose stream cannot keep up answers "429" to
  it, in the account of the stream, even though the stream acknowledges nothing: an agent could so write into the
  journal. As it is that answer, in words of the server's own, goes to the reply subject in the account of the agents:
  who listens there takes it for a message that cannot be read.
- A service has two principals. ``svc-X`` hears agents and cannot touch JetStream; ``svc-X-log`` writes the journal
  and hears nobody but JetStream. So whatever an agent gets a service to say, it is not said into a journal.
- JetStream's own answers ignore permissions: a PubAck, an API answer or a push consumer's message goes to any subject
  that the caller named. So each journal lives in an account of its own, with its log principal and its provisioner
  and nobody else: there is nothing else there that an answer could be sent to, and the account where agents and
  services meet has no JetStream at all.
- The log principals have neither create, update nor delete: streams are made by the provisioner, which in turn can
  neither read, write, purge nor delete.
- The audit log lies in an account that no service is in. A journal account may hand one subject over to it, that of its
  own service, and may read back the last entry of that subject; the JetStream API of the account AUDIT is out of reach
  for everybody but the auditor, who reads, and its provisioner, who creates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bursar.contracts.base import (
    PRINCIPAL,
    admin_subject,
    audit_head_subject,
    audit_subject,
    checkpoint_stream,
    inbox_stream,
    inbox_subject,
    log_stream,
    node_subject,
    notice_subject,
    observation_subject,
    reply_prefix,
    request_subject,
    work_subject,
)
from bursar.contracts.catalog.base import ROLES, Kind

SYSTEM = "SYS"
"""The server's own account."""
CORE = "CORE"
"""The account of services and operators."""
AGENTS = "AGENTS"
"""The account of agents, workers and probes of hosts."""
AUDIT = "AUDIT"
"""The account of the audit log."""
AUTH = "AUTH"
"""The account of those who are not known yet, where an auth callout answers for them (`bursar.callout`)."""
NOTHING = {"pub": {"deny": [">"]}, "sub": {"deny": [">"]}}
"""What somebody may who is not known yet."""
AUDIT_STREAM = "BURSAR_AUDIT"
REGISTRAR = "registrar"
"""Who records what is done to the home itself: credentials that were made, changed, revoked."""

OWN = "{{name()}}"
"""Stands for the principal's own name; the NATS server replaces it when a connection is made."""

UNLIMITED = -1
AGENT_PAYLOAD = 65_536
SERVER_PAYLOAD = 1_048_576
"""Largest message of any principal, in bytes: batches and snapshot chunks need it."""

AUDITOR_NAME = "auditor"
RESERVED = frozenset({"ops", "sys", AUDITOR_NAME, REGISTRAR, "audit-provisioner", "callout", "visitor"})
"""Principals that an agent may not be called, besides everything that begins with ``svc-``."""

SERVICES = ("limiter", "breaker", "gpu-manager", "scheduler", "monitor")
"""The services of a whole installation."""

ASSIGNERS = frozenset({"scheduler", "gpu-manager"})
"""Services that tell single principals something."""

HEAR_NODES = frozenset({"gpu-manager", "monitor"})
"""Services that hear the probes of hosts."""

WITH_INBOX = frozenset({"scheduler"})
"""Services with a durable inbox."""

WATCHER = "monitor"
"""The service that asks the others how they are: their statistics, and queries in its own name."""

LINES = "bursar.line.>"
"""Log lines of all services: for the monitor and for operators."""

_DISCOVERY = ("PING", "INFO", "STATS")
_ASK_ALL = tuple(subject for verb in _DISCOVERY for subject in (f"$SRV.{verb}", f"$SRV.{verb}.>"))


@dataclass(frozen=True, slots=True)
class Role:
    """What every principal of a role may do, in which account.

    ``max_payload`` is in bytes and ``max_subscriptions`` counts per connection; -1 means that only the server's
    own limit holds. ``connection``: what kind of connection it may make, as the server names it.
    """

    name: str
    purpose: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    max_payload: int = UNLIMITED
    max_subscriptions: int = UNLIMITED
    account: str = CORE
    connection: str = "STANDARD"

    def __post_init__(self) -> None:
        if not self.publish or not self.subscribe:
            raise ValueError(f"role {self.name}: an empty list would allow everything")


_SUBJECT: Final[Mapping[Kind, Callable[[str], str]]] = {
    "req": lambda principal: request_subject("*", "*", principal),
    "obs": lambda principal: observation_subject("*", "*", principal),
    "inbox": lambda principal: inbox_subject("*", principal),
    "work": lambda principal: work_subject("*", "*", principal),
    "adm": lambda principal: admin_subject("*", "*", principal),
    "node": lambda host: node_subject(host, ">"),
}
"""Where a principal says what is of each kind."""


def _said_by(role: str) -> tuple[str, ...]:
    """What the contracts let a role say, in its own name, and its own inbox."""
    return (*(_SUBJECT[kind](OWN) for kind, roles in ROLES.items() if role in roles), f"{reply_prefix(OWN)}>")


_HEARD = (f"{reply_prefix(OWN)}>", "bursar.evt.>", notice_subject(OWN))


def _in_fleet(name: str, purpose: str) -> Role:
    return Role(name, purpose, _said_by(name), _HEARD, max_payload=AGENT_PAYLOAD, max_subscriptions=128, account=AGENTS)


AGENT = _in_fleet("agent", "An agent: asks in its own name, is answered in its own inbox, hears broadcasts.")
WORKER = _in_fleet("worker", "A worker: as an agent, and it takes tasks and reports on them.")
NODE = _in_fleet("node", "The probe of a host: as an agent, and it tells what its host has and does.")

ASKED = tuple(
    f"bursar.{kind}.>" for kind, roles in ROLES.items() if {"agent", "worker", "node"} & {*roles} and kind != "inbox"
)
"""Subjects of AGENTS that CORE may hear."""

TOLD = ("_R.>", "bursar.evt.>", notice_subject("*"))
"""Subjects of CORE that AGENTS may hear."""

OPERATOR = Role(
    name="operator",
    purpose="A person or a tool of the operators: as an agent, and administration and service discovery.",
    publish=(*_said_by("operator"), *_ASK_ALL),
    subscribe=(*_HEARD, LINES),
    max_payload=SERVER_PAYLOAD,
    max_subscriptions=1_024,
)

_OWN_INBOX = f"{reply_prefix(OWN)}>"
_READ_AUDIT = (
    "STREAM.INFO.{}", "STREAM.MSG.GET.{}", "DIRECT.GET.{}", "DIRECT.GET.{}.>",
    "CONSUMER.CREATE.{}", "CONSUMER.CREATE.{}.>", "CONSUMER.MSG.NEXT.{}.>", "CONSUMER.DELETE.{}.>",
)  # fmt: skip

AUDITOR = Role(
    name="auditor",
    purpose="Reads the audit log, and can do nothing else.",
    publish=(*(f"$JS.API.{verb.format(AUDIT_STREAM)}" for verb in _READ_AUDIT), _OWN_INBOX),
    subscribe=(_OWN_INBOX,),
    account=AUDIT,
)

AUDIT_PROVISIONER = Role(
    name="audit-provisioner",
    purpose="Creates and verifies the stream of the audit log, once per start.",
    publish=(*(f"$JS.API.STREAM.{verb}.{AUDIT_STREAM}" for verb in ("CREATE", "INFO")), _OWN_INBOX),
    subscribe=(_OWN_INBOX,),
    account=AUDIT,
)

REGISTRAR_ROLE = Role(
    name=REGISTRAR,
    purpose="Records what is done to the home: appends to its own subject of the audit log.",
    publish=(audit_subject(OWN), f"$JS.API.DIRECT.GET.{AUDIT_STREAM}.{audit_subject(OWN)}", _OWN_INBOX),
    subscribe=(_OWN_INBOX,),
    account=AUDIT,
)

_SITES_AGENT, _SITES_SERVICE = "{{tag(agent)}}", "{{tag(service)}}"
"""The server fills in each of the tags of the link's JWT."""

_LOOPS = "$LDS.>"
"""By which servers find out that links form a circle."""

SITE = Role(
    name="site",
    purpose="The link of an edge site: what its agents, and no others, ask of the centre's services, and are told.",
    publish=(
        request_subject(_SITES_SERVICE, "*", _SITES_AGENT),
        observation_subject(_SITES_SERVICE, "*", _SITES_AGENT),
        work_subject(_SITES_SERVICE, "*", _SITES_AGENT),
        inbox_subject(_SITES_SERVICE, _SITES_AGENT),
        _LOOPS,
    ),
    subscribe=(
        f"{reply_prefix(_SITES_AGENT)}>", f"bursar.evt.{_SITES_SERVICE}.>", notice_subject(_SITES_AGENT), _LOOPS,
    ),
    account=AGENTS,
    connection="LEAFNODE",
)  # fmt: skip

FLEET_ROLES = {role.name: role for role in (AGENT, WORKER, NODE, OPERATOR, AUDITOR)}
"""What `mint_agent` and ``bursar agent add`` can make."""

STAFF = {"ops": OPERATOR, AUDITOR_NAME: AUDITOR, "audit-provisioner": AUDIT_PROVISIONER, REGISTRAR: REGISTRAR_ROLE}
"""Principals of every installation, beside those of its services."""


def service(name: str) -> Role:
    """The principal of a service that hears agents; it may only answer and broadcast, and what its kind needs."""
    return Role(
        name=f"svc-{name}",
        purpose=f"The service {name}: hears requests, answers, broadcasts. No JetStream.",
        publish=(
            "_R.>",
            f"bursar.evt.{name}.>",
            f"bursar.line.{name}.*",
            *(("bursar.assign.*",) if name in ASSIGNERS else ()),
            *((f"bursar.req.*.*.{OWN}", *_ASK_ALL) if name == WATCHER else ()),
        ),
        subscribe=(
            f"bursar.req.{name}.>",
            f"bursar.adm.{name}.>",
            f"bursar.work.{name}.>",
            f"bursar.obs.{name}.>",
            *(("bursar.node.>",) if name in HEAR_NODES else ()),
            *((LINES,) if name == WATCHER else ()),
            "bursar.evt.>",
            *_discovery_of(name),
            f"{reply_prefix(OWN)}>",
        ),
    )


def _discovery_of(name: str) -> tuple[str, ...]:
    """Where ADR-32 clients ask: everybody, one service, one instance of it."""
    return tuple(s for verb in _DISCOVERY for s in (f"$SRV.{verb}", f"$SRV.{verb}.{name}", f"$SRV.{verb}.{name}.*"))


def service_log(name: str) -> Role:
    """The principal of a service that owns its journal and reads its inbox, and hears nobody but JetStream."""
    streams = streams_of(name)
    per_stream = ("STREAM.INFO.{}", "STREAM.MSG.GET.{}", "STREAM.PURGE.{}", "CONSUMER.CREATE.{}")
    per_consumer = ("CONSUMER.CREATE.{}.>", "CONSUMER.MSG.NEXT.{}.>", "CONSUMER.DELETE.{}.>")
    flow_control = tuple(f"$JS.FC.{stream}.>" for stream in streams)
    return Role(
        name=f"svc-{name}-log",
        purpose=f"The journal of {name}: appends, checkpoints, reads and purges its own streams.",
        publish=(
            f"bursar.log.{name}.*",
            f"bursar.ckpt.{name}.>",
            audit_subject(name),
            audit_head_subject(name),
            *(f"$JS.API.{verb.format(stream)}" for stream in streams for verb in per_stream + per_consumer),
            *flow_control,
            "$JS.API.INFO",
            f"{reply_prefix(OWN)}>",
        ),
        subscribe=(f"{reply_prefix(OWN)}>",),
        account=journal_account(name),
    )


def provisioner(name: str) -> Role:
    """Makes the streams of a service; can neither read, write, purge nor delete."""
    streams = streams_of(name)
    verbs = ("CREATE", "UPDATE", "INFO")
    return Role(
        name=f"svc-{name}-provisioner",
        purpose=f"Creates and verifies the streams of {name}, once per start.",
        publish=(*(f"$JS.API.STREAM.{verb}.{s}" for s in streams for verb in verbs), f"{reply_prefix(OWN)}>"),
        subscribe=(f"{reply_prefix(OWN)}>",),
        account=journal_account(name),
    )


def streams_of(service: str) -> tuple[str, ...]:
    """Names of the streams of a service."""
    inbox = (inbox_stream(service),) if service in WITH_INBOX else ()
    return (log_stream(service), checkpoint_stream(service), *inbox)


def audited(service: str) -> dict[str, str]:
    """What a journal account hands over to the account AUDIT: local subject to the subject there. They are its
    service's entries, and the question for the last of them."""
    head = f"$JS.API.DIRECT.GET.{AUDIT_STREAM}.{audit_subject(service)}"
    return {audit_subject(service): audit_subject(service), audit_head_subject(service): head}


def given_over(service: str) -> tuple[str, ...]:
    """Subjects of AGENTS and CORE that go to the journal account of a service instead."""
    return (inbox_subject(service, "*"),) if service in WITH_INBOX else ()


def journal_account(service: str) -> str:
    """The account that holds the streams of a service."""
    return f"JOURNAL-{service}"


def of_service(name: str) -> tuple[Role, Role, Role]:
    """All roles of one service; each has one principal, of the same name."""
    return service(name), service_log(name), provisioner(name)


def matrix(services: tuple[str, ...]) -> dict[str, Role]:
    """Every role of an installation with these services, by name."""
    roles = (*FLEET_ROLES.values(), *STAFF.values(), SITE, *(role for name in services for role in of_service(name)))
    return {role.name: role for role in roles}


def check_agent_name(name: str) -> None:
    """Raise `ValueError`, saying what is wrong, unless ``name`` may be the name of an agent."""
    if not re.fullmatch(PRINCIPAL, name):
        raise ValueError(
            f"{name!r} is not a valid name: 1 to 64 characters a-z, 0-9 and '-', beginning with a letter or digit"
        )
    if name in RESERVED or name.startswith("svc-"):
        raise ValueError(f"{name!r} is reserved: {', '.join(sorted(RESERVED))} and names beginning with 'svc-' are")
