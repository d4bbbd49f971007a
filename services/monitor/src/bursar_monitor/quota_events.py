"""What has happened to leases of hosts, as it stands in the journal: the kind first, the time second.

| kind | then | means |
|---|---|---|
| ``hl`` | lease, its fields (`quota_state.Lease` as a list) | leased |
| ``hr`` | lease, until, ttl, claims or None | renewed |
| ``he`` | lease, why | over: "released", "expired", "forgotten" |
| ``hb`` | host, list of (lease, cpu, memory: each limit, held, settles at) | the limits of a host's leases are others |
| ``hq`` | agent, list of weight, cpu, memory, disk; or None | what an agent may lease |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bursar_monitor.quota_state import QuotaRule, Quotas, lease_of
from bursar_monitor.sharing import Held

LEASED = "hl"
RENEWED = "hr"
ENDED = "he"
BALANCED = "hb"
ALLOWED = "hq"


def _leased(quotas: Quotas, lease: str, fields: list[Any]) -> None:
    quotas.put(lease, lease_of(fields))
    quotas.revision += 1


def _renewed(quotas: Quotas, lease: str, until: int, ttl_ms: int, claims: list[tuple[int, int]] | None) -> None:
    made = quotas.leases[lease]._replace(until=until, ttl_ms=ttl_ms)
    if claims is not None:
        made = made._replace(claims=tuple((pid, started) for pid, started in claims))
        quotas.revision += 1
    quotas.leases[lease] = made


def _ended(quotas: Quotas, lease: str, why: str) -> None:
    quotas.drop(lease)
    quotas.revision += 1


def _balanced(quotas: Quotas, host: str, limits: list[tuple[str, list[int], list[int]]]) -> None:
    for lease, cpu, memory in limits:
        was = quotas.leases[lease]
        quotas.leases[lease] = was._replace(cpu_held=Held(*cpu), memory_held=Held(*memory))
    quotas.revision += 1


def _allowed(quotas: Quotas, agent: str, fields: list[Any] | None) -> None:
    if fields is None:
        quotas.rules.pop(agent, None)
    else:
        quotas.rules[agent] = QuotaRule(*fields)


APPLY: Final[dict[str, Callable[..., None]]] = {
    LEASED: _leased,
    RENEWED: _renewed,
    ENDED: _ended,
    BALANCED: _balanced,
    ALLOWED: _allowed,
}


def _limits(cpu: int, memory: int) -> str:
    return f"{cpu} m of CPU and {memory} bytes"


def _leased_words(lease: str, fields: list[Any]) -> str:
    return f"{fields[0]} leases {_limits(fields[2], fields[3])} on {fields[1]} ({lease})"


def _balanced_words(host: str, limits: list[tuple[str, list[int], list[int]]]) -> str:
    parts = (f"{lease}: {_limits(cpu[0], memory[0])}" for lease, cpu, memory in limits)
    return f"limits on {host}: {'; '.join(parts)}"


WORDS: Final[dict[str, Callable[..., str]]] = {
    LEASED: _leased_words,
    RENEWED: lambda lease, until, ttl, claims: f"lease {lease} is renewed until {until} ms",
    ENDED: lambda lease, why: f"lease {lease} is over: {why}",
    BALANCED: _balanced_words,
    ALLOWED: lambda agent, fields: f"{agent} may lease {'as all' if fields is None else fields}",
}
