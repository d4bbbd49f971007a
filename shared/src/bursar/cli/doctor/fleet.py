"""Rules for what runs: every service answers, with one owner, one version and room in its journal; nobody comes in
without credentials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bursar.bus.base import BusError
from bursar.bus.connection import NatsBus, connect
from bursar.cli.doctor.asking import CONNECT_SECONDS
from bursar.cli.doctor.finding import Finding, judged
from bursar.cli.ready import pages


async def anonymous(urls: list[str]) -> Finding:
    """A connection without credentials must be refused."""
    try:
        bus = await connect(urls, principal="nobody", timeout=CONNECT_SECONDS)
    except BusError:
        refused = True
    else:
        refused = False
        await bus.close()
    mend = "take `no_auth_user` out of the configuration, and give the server the home's accounts: `bursar trust`"
    return judged("anonymous", ", ".join(urls), refused, "refused" if refused else "let in", "refused", mend)


async def services(bus: NatsBus, names: tuple[str, ...], instances: int) -> list[Finding]:
    """What the instances of each service say of themselves."""
    found: list[Finding] = []
    for name in names:
        said = await pages(bus, name, lambda answers: len(answers) >= instances)
        found.extend(_service(name, list(said.values()), instances))
    return found


def _service(name: str, said: list[dict[str, Any]], instances: int) -> Iterator[Finding]:
    mend = f"start it (`bursar up`, or its container); its log says why it ended: `bursar logs --service {name}`"
    yield judged("instances", name, len(said) >= instances, f"{len(said)} answer", f"{instances} or more", mend)
    if not said:
        return
    owners = sum(all(e.get("data", {}).get("listening", True) for e in page["endpoints"]) for page in said)
    mend = "wait for the take-over (a second or two); if none comes, see `bursar logs` for why no instance can append"
    yield judged("owner", name, owners == 1, f"{owners} decide", "exactly one decides", mend)
    versions = sorted({str(page.get("version")) for page in said})
    mend = "finish the rolling upgrade: all instances of a service run one version"
    yield judged("service_version", name, len(versions) == 1, ", ".join(versions), "one version", mend)
    journals = {str((page.get("metadata") or {}).get("journal", "ok")) for page in said}
    mend = "make room in the journal's stream, or on its disk: the service refuses everything until there is some"
    yield judged("journal", name, journals == {"ok"}, ", ".join(sorted(journals)), "ok", mend)
