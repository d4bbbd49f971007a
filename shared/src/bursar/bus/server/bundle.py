"""What each machine or container of an installation needs, in a directory of its own and nothing beside it.

::

    <bundle>/<node>/      server.conf accounts.conf ca.pem cert.pem key.pem           a NATS server
    <bundle>/<node>/      link.creds link-*.pem   beside these, at an edge site       its link to the centre
    <bundle>/<service>/   service.creds log.creds signing.nk fence.key  + *.pem       all instances of a service
    <bundle>/provisioner/ *-provisioner.creds                           + *.pem       `bursar deploy streams`
    <bundle>/operator/    ops.creds trust.json                          + *.pem       who looks after it
    <bundle>/<agent>/     agent.creds trust.json                        + *.pem       an agent, worker or host

Each directory becomes one volume or one Kubernetes Secret, mounted at `MOUNT`. The home itself, with the keys that
everything is signed with, stays where the bundle was made. Making a bundle again keeps identities and makes new
certificates. ``accounts.conf`` is the part of ``server.conf`` that says whom the server believes, for who writes the
rest otherwise (the official chart, see deploy/kubernetes/nats).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bursar.bus.identity import Home, HomeError
from bursar.bus.identity.certificates import check_name, issue
from bursar.bus.identity.keys import make_private_directory, write_private
from bursar.bus.permissions import AUDIT_PROVISIONER, SERVICES, SITE, provisioner
from bursar.bus.server.config import ServerOptions, authorization, render
from bursar.bus.server.link import Link, listener, remote

MOUNT: Final = "/etc/bursar"
"""Where the files lie for who uses them."""
STORE: Final = "/var/lib/nats"
CLIENT_PORT: Final = 4222
ROUTE_PORT: Final = 6222
MONITORING_PORT: Final = 8222
TLS_SECONDS: Final = 5
_OF_LINK: Final = {"link.creds": "link.creds", **{f"{kind}.pem": f"link-{kind}.pem" for kind in ("ca", "cert", "key")}}

Files = Mapping[str, bytes]


class Plan(NamedTuple):
    """``nodes``: names of the NATS servers, by which they reach each other. ``hosts``: further names and addresses
    under which they are reached. ``agents``: who has credentials in the home and is to have a directory. ``sites``:
    edge sites link up with these servers. ``link``: this is such a site."""

    nodes: Sequence[str]
    hosts: Sequence[str] = ("localhost", "127.0.0.1")
    agents: Sequence[str] = ()
    sites: bool = False
    link: Link | None = None


def check_names(nodes: Sequence[str], agents: Sequence[str], hosts: Sequence[str] = ()) -> None:
    """Raise `HomeError` when a name cannot stand in a certificate, or two recipients would share a directory."""
    for name in (*nodes, *hosts, *agents):
        check_name(name)
    every = [*nodes, *SERVICES, "operator", "provisioner", *agents]
    if twice := sorted({name for name in every if every.count(name) > 1}):
        raise HomeError(f"the bundle would have {', '.join(twice)} twice: name it otherwise")


def write_bundle(home: Home, plan: Plan, directory: Path, owner: tuple[int, int] | None = None) -> list[Path]:
    """Write everything below ``directory``; returns the directories made. ``owner``: user and group that they shall
    belong to. Raises `HomeError` and `OSError`."""
    made = []
    for name, files in contents(home, plan):
        place = directory / name
        make_private_directory(place)
        for file, content in files.items():
            write_private(place / file, content)
        if owner is not None:
            for path in (*place.iterdir(), place):
                os.chown(path, *owner)
        made.append(place)
    return made


def contents(home: Home, plan: Plan) -> Iterator[tuple[str, Files]]:
    """The directories of a bundle, by name."""
    if plan.sites:
        home.add_role(SITE)
    believed = _text(authorization(home.trust()))
    for node in plan.nodes:
        config = _text(server_config(home, node, plan.nodes, sites=plan.sites, link=plan.link))
        linked = {} if plan.link is None else {there: plan.link.files[name] for name, there in _OF_LINK.items()}
        pem = _pem(home, node, (node, *plan.hosts))
        yield node, {"server.conf": config, "accounts.conf": believed, **linked, **pem}
    for service in home.services:
        kept = home.service_dir(service)
        yield (
            service,
            {
                "service.creds": home.creds(f"svc-{service}").read_bytes(),
                "log.creds": home.creds(f"svc-{service}-log").read_bytes(),
                "signing.nk": (kept / "signing.nk").read_bytes(),
                "fence.key": (kept / "fence.key").read_bytes(),
                **_pem(home, f"svc-{service}"),
            },
        )
    roles = (AUDIT_PROVISIONER, *(provisioner(service) for service in home.services))
    makers = (home.creds(role.name) for role in roles)
    yield "provisioner", {**{path.name: path.read_bytes() for path in makers}, **_pem(home, "provisioner")}
    trust = _trust(home, plan.link)
    yield "operator", {"ops.creds": home.creds("ops").read_bytes(), "trust.json": trust, **_pem(home, "ops")}
    for agent in plan.agents:
        yield agent, {"agent.creds": home.creds(agent).read_bytes(), "trust.json": trust, **_pem(home, agent)}


def _trust(home: Home, link: Link | None) -> bytes:
    """Keys of the services that agents here hear: the centre's are those of a site's agents, too."""
    own = home.trust_file.read_bytes()
    return own if link is None else _text({**json.loads(own), **link.trust()})


def server_config(
    home: Home, node: str, nodes: Sequence[str], *, sites: bool = False, link: Link | None = None
) -> dict[str, Any]:
    """The configuration of one server: it trusts the home, and encrypts every link with certificates on both ends."""
    leafs: dict[str, Any] = {}
    if sites:
        leafs = listener(_files())
    if link is not None:
        leafs = remote(home, link.urls, f"{MOUNT}/link.creds", _files("link-"))
    options = ServerOptions(
        store=Path(STORE),
        run_dir=Path(STORE),
        host="0.0.0.0",
        port=CLIENT_PORT,
        monitoring_port=MONITORING_PORT,
        name=node,
        trust=home.trust(),
        extra={"tls": {**_files(), "handshake_first": "auto"}, **_cluster(nodes), **leafs},
    )
    in_a_file = ("ports_file_dir", "log_file", "logfile_size_limit", "logfile_max_num")
    return {key: value for key, value in render(options).items() if key not in in_a_file}


def _cluster(nodes: Sequence[str]) -> dict[str, Any]:
    if len(nodes) == 1:
        return {}
    return {
        "cluster": {
            "name": "bursar",
            "host": "0.0.0.0",
            "port": ROUTE_PORT,
            "no_advertise": True,  # clients know all servers by the names that stand in the certificates
            "routes": [f"tls://{node}:{ROUTE_PORT}" for node in nodes],
            "tls": _files(),
        }
    }


def _files(prefix: str = "") -> dict[str, Any]:
    names = {f"{kind}_file": f"{MOUNT}/{prefix}{kind}.pem" for kind in ("ca", "cert", "key")}
    return {**names, "verify": True, "min_version": "1.3", "timeout": TLS_SECONDS}


def _text(config: Mapping[str, Any]) -> bytes:
    return json.dumps(config, indent=2).encode() + b"\n"


def _pem(home: Home, name: str, hosts: Sequence[str] = ()) -> Files:
    made = issue(home, name, hosts)
    return {"ca.pem": made.authority, "cert.pem": made.cert, "key.pem": made.key}
