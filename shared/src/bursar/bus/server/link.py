"""The link of an edge site: a leaf node of NATS, for what is shared with the centre.

A site is an installation of its own: its own home, server, services and journals, so that what it decides it decides
with the link cut. What must be one for all, such as the budget of a provider's key, is decided by services of the
centre; of these the site has none, and its agents ask them over the link as if they were there.

Nothing else passes. The centre's servers let the link say ``bursar.req.<service>.<verb>.<agent>`` (and obs, work,
inbox) for the services and the agents that it was made for, and hear these services' broadcasts and what is said to
these agents (`bursar.bus.permissions.SITE`): a site whose machines fall into other hands is worth its own agents'
budgets, and nothing of anybody else's. Two sites, or a site and the centre, must not have agents of one name.

With the link cut nobody hears what is asked of the centre: a call ends with ``no_responders``, and the client asks
again for as long as its caller is patient, under the same request id, so that it is decided once. Leases that agents
hold go on, and end when they would have.

::

    <link>/link.json         which site, agents and services, and where the centre's servers are
    <link>/link.creds        what it connects with
    <link>/ca.pem cert.pem key.pem      of the centre's authority
    <link>/trust.json        keys that verify the centre's broadcasts
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bursar.bus.identity import Home, HomeError
from bursar.bus.identity.certificates import issue
from bursar.bus.identity.keys import make_private_directory, write_private
from bursar.bus.permissions import SERVICES, SITE, check_agent_name

LINK_PORT: Final = 7422
FILES: Final = ("link.json", "link.creds", "ca.pem", "cert.pem", "key.pem", "trust.json")
RECONNECT: Final = "1s"


class Link(NamedTuple):
    """What a site knows of its link. ``files``: by name, as in the module's text."""

    site: str
    agents: Sequence[str]
    services: Sequence[str]
    urls: Sequence[str]
    files: Mapping[str, bytes]

    @property
    def own_services(self) -> tuple[str, ...]:
        """What the site decides itself."""
        return tuple(service for service in SERVICES if service not in self.services)

    def trust(self) -> dict[str, str]:
        """Keys of the centre's services that the site reaches."""
        return {name: key for name, key in json.loads(self.files["trust.json"]).items() if name in self.services}


def write_link(
    home: Home, site: str, agents: Sequence[str], services: Sequence[str], nodes: Sequence[str], directory: Path
) -> None:
    """Make a link at the centre, with new credentials. Raises `HomeError`, `ValueError` and `OSError`."""
    for name in (site, *agents):
        check_agent_name(name)
    if not agents or not services:
        raise HomeError("a link is for agents, and for services that they reach: name at least one of each")
    if taken := sorted({*agents} & {*home.agents()}):
        raise HomeError(f"{', '.join(taken)}: there are agents of that name at the centre")
    if unknown := sorted({*services} - {*home.services}):
        raise HomeError(f"the centre has no service {', '.join(unknown)}")
    made = issue(home, f"site-{site}")
    urls = [f"tls://{node}:{LINK_PORT}" for node in nodes]
    about = {"site": site, "agents": list(agents), "services": list(services), "urls": urls}
    files = {
        "link.json": json.dumps(about, indent=2).encode() + b"\n",
        "link.creds": home.mint_site(site, agents, services).read_bytes(),
        "ca.pem": made.authority,
        "cert.pem": made.cert,
        "key.pem": made.key,
        "trust.json": home.trust_file.read_bytes(),
    }
    make_private_directory(directory)
    for name, content in files.items():
        write_private(directory / name, content)


def read_link(directory: Path) -> Link:
    """A link that was brought from the centre. Raises `HomeError`."""
    try:
        files = {name: (directory / name).read_bytes() for name in FILES}
        about = json.loads(files["link.json"])
        return Link(str(about["site"]), about["agents"], about["services"], about["urls"], files)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise HomeError(f"{directory} holds no link (`bursar deploy link` makes one at the centre): {error}") from error


def listener(tls: Mapping[str, Any], host: str = "0.0.0.0", port: int = LINK_PORT) -> dict[str, Any]:
    """The part of a central server's configuration by which sites reach it."""
    listening: dict[str, Any] = {"host": host, "port": port, "no_advertise": True}
    return {"leafnodes": listening | ({"tls": dict(tls)} if tls else {})}


def remote(home: Home, urls: Sequence[str], creds: str, tls: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a site's configuration by which its server reaches the centre. ``creds``: path of the credentials."""
    there: dict[str, Any] = {"urls": list(urls), "account": home.account_id(SITE.account), "credentials": creds}
    if tls:
        there["tls"] = {key: value for key, value in tls.items() if key not in {"verify", "min_version"}}
    return {"leafnodes": {"reconnect": RECONNECT, "remotes": [there]}}
