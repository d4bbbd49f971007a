"""Rules for the streams and accounts: as they must be, whole, led, with room, and with the rights of the contracts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from bursar.bus.identity import Home
from bursar.bus.identity.jwt import BadToken, decode
from bursar.bus.permissions import AUDIT, AUDIT_STREAM, journal_account
from bursar.bus.server.provision import audit_config, differences, wanted_streams
from bursar.cli.doctor.asking import Facts, Page
from bursar.cli.doctor.finding import Finding, judged
from bursar.cli.doctor.servers import is_away

FULL_SHARE: Final = 0.7
LAG: Final = 1_000
"""Entries that a copy may be behind its leader."""


def streams(facts: Facts, home: Home, replicas: int) -> Iterator[Finding]:
    """Every stream of every service of the home, and that of the audit log."""
    known = _details(facts.jsz)
    for service in home.services:
        for wanted in wanted_streams(service, replicas):
            detail = known.get((journal_account(service), wanted["name"]))
            yield from _stream(wanted, detail)
    wanted = audit_config(replicas)
    yield from _stream(wanted, known.get((AUDIT, wanted["name"])))


def _details(jsz: Mapping[str, Page]) -> dict[tuple[str, str], Page]:
    """Each stream as its leader sees it, or as anybody does when it has none."""
    found: dict[tuple[str, str], Page] = {}
    for server, page in jsz.items():
        for account in page.get("account_details") or ():
            for detail in account.get("stream_detail") or ():
                key = (str(account["name"]), str(detail["name"]))
                if key not in found or (detail.get("cluster") or {}).get("leader") == server:
                    found[key] = detail
    return found


def _stream(wanted: Mapping[str, Any], detail: Page | None) -> Iterator[Finding]:
    name = str(wanted["name"])
    mend = "make it: `bursar deploy streams`, or start `bursar up` again"
    yield judged("stream", name, detail is not None, "there" if detail else "missing", "there", mend)
    if detail is None:
        return
    config, state = detail.get("config") or {}, detail.get("state") or {}
    has_more = name == AUDIT_STREAM and int(config.get("max_bytes", -1)) > int(wanted["max_bytes"])
    elsewhere = {"num_replicas", "max_bytes"} if has_more else {"num_replicas"}
    drift = [words for key, words in differences(wanted, config) if key not in elsewhere]
    mend = "find out who changed it, and set it back with `nats stream edit`"
    yield judged("stream_settings", name, not drift, "; ".join(drift) or "as provisioned", "as provisioned", mend)
    copies, needed = int(config.get("num_replicas", 1)), int(wanted["num_replicas"])
    mend = f"`nats stream edit {name} --replicas {needed}` on a cluster with as many servers"
    yield judged("stream_replicas", name, copies >= needed, f"{copies} copies", f"{needed} copies", mend)
    most = int(config.get("max_bytes", -1))
    share = int(state.get("bytes", 0)) / most if most > 0 else 0.0
    mend = "see why snapshots do not let it be purged; a full journal refuses every decision"
    yield judged("stream_room", name, share <= FULL_SHARE, f"{share:.0%} full", f"at most {FULL_SHARE:.0%}", mend)
    yield _copies(name, detail)


def _copies(name: str, detail: Page) -> Finding:
    group = detail.get("cluster") or {}
    peers = group.get("replicas") or ()
    away = [str(peer["name"]) for peer in peers if is_away(peer)]
    behind = [str(peer["name"]) for peer in peers if not is_away(peer) and int(peer.get("lag", 0)) > LAG]
    words = [f"leader {group.get('leader') or 'none'}"]
    words += [f"away: {', '.join(away)}"] if away else []
    words += [f"behind: {', '.join(behind)}"] if behind else []
    is_fine = bool(group.get("leader")) and not away and not behind
    mend = "start the servers that are away; one that is behind catches up by itself"
    return judged("stream_health", name, is_fine, ", ".join(words), "a leader, and no copy away or behind", mend)


def rights(facts: Facts, home: Home) -> Iterator[Finding]:
    """The accounts in force say exactly what the home's tables do."""
    mend = "restart the server with the home's accounts (`bursar up`, `bursar trust` or a new bundle)"
    for key, token in home.trust().accounts.items():
        expected = decode(token)
        name = str(expected["name"])
        in_force = facts.accounts.get(key)
        if in_force is None:
            yield judged("permissions", name, False, "the server does not know the account", "as in the home", mend)
            continue
        try:
            found = decode(in_force)
        except BadToken as error:
            yield judged("permissions", name, False, str(error), "as in the home", mend)
            continue
        drift = sorted(_unequal(expected["nats"], found["nats"]))
        yield judged("permissions", name, not drift, "; ".join(drift) or "as in the home", "as in the home", mend)


def promised(home: Home) -> int:
    """Bytes of storage that the accounts of the home may take together, on each server."""
    claims = (decode(token)["nats"]["limits"] for token in home.trust().accounts.values())
    return sum(max(0, int(limits.get("disk_storage", 0))) for limits in claims)


def _unequal(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) == found.get(key):
            continue
        if key != "signing_keys":
            yield f"{key} differ"
            continue
        roles = [{scope["key"]: scope for scope in side.get(key) or ()} for side in (wanted, found)]
        for signer in sorted(roles[0].keys() | roles[1].keys()):
            mine, theirs = (side.get(signer) for side in roles)
            if mine != theirs:
                role = (mine or theirs or {}).get("role", "?")
                yield f"role {role} {'is missing' if theirs is None else 'is unknown' if mine is None else 'differs'}"
