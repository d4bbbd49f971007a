"""What the page shows of a picture, as plain values: one overview of the whole fleet, and each section as a table.

The overview is small whatever the fleet's size: it goes to every open page with every new picture. Sections go to whom
looks at them. A table is sent as names of columns and rows of values, a third of what the same rows are as objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from bursar_monitor.state import Drawn

Row = Mapping[str, Any]

FIRST_ALERTS: Final = 8
"""Alerts that the overview names."""
MONEY: Final = "usd_micros"


def overview(drawn: Drawn) -> dict[str, Any]:
    """The fleet in one message, each part with the age of its source in ms."""
    rows, sources = drawn.rows, drawn.sources
    return {
        "now_ms": drawn.at,
        "sources": dict(sources),
        "counts": {section: len(found) for section, found in rows.items()},
        "alerts": _alerts(rows.get("alerts", ()), rows.get("incidents", ())),
        "hosts": {**_hosts(rows.get("hosts", ())), "age_ms": sources.get("hosts")},
        "budgets": {**_budgets(rows.get("budgets", ())), "age_ms": sources.get("limiter")},
        "circuits": {**_circuits(rows.get("circuits", ())), "age_ms": sources.get("breaker")},
        "devices": _devices(rows.get("devices", ())),
        "tasks": {**_tasks(rows), "age_ms": sources.get("scheduler")},
        "services": {**_services(rows.get("services", ())), "age_ms": sources.get("instances")},
    }


def table(drawn: Drawn, section: str) -> dict[str, Any] | None:
    """One section as columns and rows; None when there is no such section."""
    rows = drawn.rows.get(section)
    if rows is None:
        return None
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return {"section": section, "columns": columns, "rows": [[row.get(name) for name in columns] for row in rows]}


def point(view: Mapping[str, Any]) -> list[int | None]:
    """What is kept of an overview for the small curves, in the order of `POINT`."""
    tasks, services = view["tasks"], view["services"]
    return [
        view["now_ms"],
        view["hosts"]["cpu_permille"],
        _permille(view["hosts"]["memory_used_bytes"], view["hosts"]["memory_total_bytes"]),
        view["budgets"]["fullest_permille"],
        _permille(view["devices"]["granted_bytes"], view["devices"]["total_bytes"]),
        tasks["waiting"],
        tasks["running"],
        services["requests"],
        view["circuits"]["open"],
        services["p99_us"],
    ]


POINT: Final = ("at", "cpu", "memory", "budget", "gpu", "waiting", "running", "requests", "open", "p99")


def _alerts(rows: Sequence[Row], incidents: Sequence[Row]) -> dict[str, Any]:
    """What a person is told. ``first``: the worst first, without those that another alert explains; of an incident its
    cause, with the number of the others that it ``explains``."""
    causes = {row["incident"]: (row["rule"], row["subject"]) for row in incidents}
    loud = [row for row in rows if not (row["silenced"] or row["inhibited"])]
    counts = {name: sum(row["severity"] == name for row in loud) for name in ("critical", "warning", "info")}
    roots = [row for row in loud if causes.get(row["incident"]) in {None, (row["rule"], row["subject"])}]
    first = [{**row, "explains": _explained(row, loud)} for row in (roots or loud)[:FIRST_ALERTS]]
    return {**counts, "silenced": len(rows) - len(loud), "first": first}


def _explained(cause: Row, rows: Sequence[Row]) -> int:
    """How many other alerts are of the same incident."""
    return sum(row["incident"] == cause["incident"] for row in rows) - 1 if cause["incident"] else 0


def _hosts(rows: Sequence[Row]) -> dict[str, Any]:
    """Of the hosts that are heard; a host that is silent says nothing about now."""
    heard = [row for row in rows if not row["silent"]]
    cpu = [row["cpu_permille"] for row in heard if row["cpu_permille"] is not None]
    memory = [row for row in heard if row["memory_total_bytes"] is not None]
    return {
        "total": len(rows),
        "silent": len(rows) - len(heard),
        "cpu_permille": sorted(cpu)[(len(cpu) - 1) // 2] if cpu else None,
        "memory_used_bytes": sum(row["memory_used_bytes"] for row in memory) if memory else None,
        "memory_total_bytes": sum(row["memory_total_bytes"] for row in memory) if memory else None,
    }


def _budgets(rows: Sequence[Row]) -> dict[str, Any]:
    """The fullest limit. One row for each dimension: who waits stands in each of them, and counts once a budget."""
    waiting = {row["budget"]: row["waiting"] for row in rows}
    full = max((row for row in rows if row["limit"]), key=_fullness, default=None)
    return {
        "total": len(waiting),
        "waiting": sum(waiting.values()),
        "fullest": None if full is None else f"{full['budget']} · {full['dimension']}",
        "fullest_permille": None if full is None else _fullness(full),
    }


def _fullness(row: Row) -> int:
    return min(9_999, row["used"] * 1000 // row["limit"]) if row["limit"] else 0


def _circuits(rows: Sequence[Row]) -> dict[str, Any]:
    counts = dict.fromkeys(("open", "half_open", "ramping", "closed"), 0)
    for row in rows:
        state = "open" if row["state"] == "forced_open" else row["state"]
        counts[state if state in counts else "closed"] += 1
    return {"total": len(rows), **counts}


def _devices(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "total": len(rows),
        "lost": sum(row["state"] == "lost" for row in rows),
        "total_bytes": _sum(row["total_bytes"] for row in rows),
        "granted_bytes": _sum(row["granted_bytes"] for row in rows),
        "observed_bytes": _sum(row["observed_bytes"] for row in rows),
        "leases": _sum(row["leases"] for row in rows),
        "hottest_c": max((row["temperature_c"] for row in rows if row["temperature_c"] is not None), default=None),
        "age_ms": max((row["age_ms"] for row in rows if row["age_ms"] is not None), default=None),
    }


def _tasks(rows: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    queues, workers = rows.get("queues", ()), rows.get("workers", ())
    is_known = bool(queues or workers)
    return {
        "waiting": sum(row["waiting"] for row in queues if row["queue"] != "dead") if is_known else None,
        "running": sum(row["running"] for row in queues) if is_known else None,
        "dead": next((row["waiting"] for row in queues if row["queue"] == "dead"), None),
        "workers": len(workers),
        "slots": _sum(row["slots"] for row in workers),
    }


def _services(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "total": len(rows),
        "names": [row["name"] for row in rows],
        "without_owner": [row["name"] for row in rows if not row["owner"]],
        "requests": _sum(row["requests"] for row in rows),
        "errors": _sum(row["errors"] for row in rows),
        "p99_us": max((row["p99_us"] for row in rows if row["p99_us"] is not None), default=None),
    }


def _sum(values: Iterable[int | None]) -> int | None:
    """The sum of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _permille(part: int | None, whole: int | None) -> int | None:
    return None if part is None or not whole else part * 1000 // whole
