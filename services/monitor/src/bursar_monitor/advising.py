"""Right-sizing: what should be asked for, from what was really used; and how much of a pool may run on spot hosts.

After the Kubernetes VerticalPodAutoscaler and the recommenders of the clouds: of what is used a distribution is kept,
and the advice is a high quantile of it with a margin.

| what | asked for | used | advice |
|---|---|---|---|
| ``gpu_memory`` | what a lease was granted | what its processes use | p99 and 15 % |
| ``memory`` | memory of the host | memory in use | p99 and 15 % |
| ``cpu`` | CPUs of the host | CPUs in use | p95 at 85 %, the top of the band |
| ``slots`` | slots of a pool | slots in use | p95 at the pool's own target |
| ``spot`` | share of the pool's workers on spot hosts | slots with reactive tasks | the rest of what there should be |

What is used is a volatile observation: after a take-over it is learned again, and nothing is advised before it was
looked at `LEAST` times. Two generations of half a day each; what is older does not count. Values are counted in MiB,
thousandths of a CPU, or slots, in sketches with an error of 2 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from bursar.contracts.monitor import HostSample
from bursar.contracts.monitor_costs import Costing, GpuLeaseUse
from bursar.contracts.monitor_picture import WorkerRow
from bursar.contracts.monitor_scaling import Scaler
from bursar.sketch import Sketch, merged
from bursar_monitor.costing import slot_hour
from bursar_monitor.hpa import ceil_div
from bursar_monitor.state import State, matches

LEAST: Final = 60
"""Readings before something is advised."""
GENERATION_MS: Final = 43_200_000
MAX_WATCHED: Final = 4_096
CLOSE_PERMILLE: Final = 100
"""Advice that differs by less is none."""
GONE_MS: Final = 600_000
"""What has not been looked at for so long is not advised on any more."""
MIB: Final = 1 << 20
ACCURACY: Final = 0.02

Row = dict[str, Any]


class Rule(NamedTuple):
    """``quantile`` of what is used, thousandths; of that so many thousandths are advised."""

    unit: str
    quantile: float
    margin_permille: int


RULES: Final = {
    "gpu_memory": Rule("MiB", 0.99, 1_150),
    "memory": Rule("MiB", 0.99, 1_150),
    "cpu": Rule("CPU thousandths", 0.95, 1_177),
}


class Usage:
    """What is known of one request: the last that was asked for, of how many, and the distribution of what was used."""

    __slots__ = ("at", "before", "count", "now", "requested", "since")

    def __init__(self, now: int) -> None:
        self.requested = 0
        self.count = 1
        self.at = self.since = now
        self.now = Sketch(ACCURACY)
        self.before = Sketch(ACCURACY)

    def add(self, now: int, requested: int, used: int, count: int = 1) -> None:
        if now - self.since >= GENERATION_MS:
            self.before, self.now, self.since = self.now, Sketch(ACCURACY), now
        self.requested, self.count, self.at = requested, count, now
        self.now.add(used)

    def whole(self) -> Sketch:
        return merged((self.before, self.now), ACCURACY)


def note(state: State, kind: str, subject: str, now: int, requested: int, used: int, count: int = 1) -> None:
    """One look at what was asked for and what is used of it."""
    usage = state.usage.get((kind, subject))
    if usage is None:
        if len(state.usage) >= MAX_WATCHED:
            return
        usage = state.usage[kind, subject] = Usage(now)
    usage.add(now, requested, used, count)


def of_host(state: State, name: str, sample: HostSample, now: int) -> None:
    if sample.memory is not None and sample.memory.total_bytes:
        used = max(0, sample.memory.total_bytes - sample.memory.available_bytes)
        note(state, "memory", name, now, sample.memory.total_bytes // MIB, used // MIB)
    if sample.cpu is not None:
        note(state, "cpu", name, now, sample.cpu.cores * 1_000, sample.cpu.used_permille * sample.cpu.cores)


def of_leases(state: State, rows: Iterable[GpuLeaseUse], now: int) -> None:
    """Leases of one holder for one purpose are alike: each is a reading."""
    alike: dict[str, list[GpuLeaseUse]] = {}
    for row in rows:
        if row.observed_bytes is not None:
            alike.setdefault(f"{row.principal} · {row.purpose}", []).append(row)
    for subject, leases in alike.items():
        for row in leases:
            used = (row.observed_bytes or 0) // MIB
            note(state, "gpu_memory", subject, now, row.granted_bytes // MIB, used, len(leases))


def of_pool(state: State, scaler: Scaler, now: int, slots: int, running: int, reactive: int) -> None:
    """Slots in use, and those with tasks that somebody waits for."""
    note(state, "slots", scaler.name, now, slots, running)
    note(state, "spot", scaler.name, now, slots, min(reactive, running))


def tidy(state: State, now: int) -> None:
    """Forget what is not looked at any more."""
    for key in [key for key, usage in state.usage.items() if now - usage.at >= 2 * GENERATION_MS]:
        del state.usage[key]


# ---- advice


def rows(state: State, now: int) -> Iterator[Row]:
    """What saves most first."""
    made = (_row(state, *key, usage) for key, usage in state.usage.items() if now - usage.at < GONE_MS)
    found = [row for row in made if row is not None]
    yield from sorted(found, key=lambda row: (row["advised"] is None, -(row["saving_micros"] or 0), row["subject"]))


def _row(state: State, kind: str, subject: str, usage: Usage) -> Row | None:
    whole = usage.whole()
    row: Row = {
        "v": 1,
        "kind": kind,
        "subject": subject,
        "unit": "slots" if kind in {"slots", "spot"} else RULES[kind].unit,
        "requested": usage.requested,
        "used_p50": round(whole.quantile(0.5)),
        "used_p95": round(whole.quantile(0.95)),
        "used_most": round(whole.quantile(1.0)),
        "advised": None,
        "count": usage.count,
        "saving_micros": None,
        "readings": whole.count,
        "text": "",
    }
    if kind in {"slots", "spot"}:
        scaler = state.policy.scaler(subject)
        if scaler is None:
            return None
        return _spot(state, scaler, row) if kind == "spot" else _slots(state, scaler, row)
    return _sized(state.policy.costs, row, RULES[kind], whole)


def _sized(costing: Costing, row: Row, rule: Rule, whole: Sketch) -> Row:
    if row["readings"] < LEAST:
        return row | {"text": f"Looked at {row['readings']} of {LEAST} times."}
    advised = max(1, ceil_div(round(whole.quantile(rule.quantile)) * rule.margin_permille, 1_000))
    what = f"{'p95' if rule.quantile < 0.99 else 'p99'} of what was used, and {(rule.margin_permille - 1_000) / 10:g} %"
    return _advised(row, advised, _hour(costing, row["kind"]), f"{what}.")


def _advised(row: Row, advised: int, hour: int | None, text: str) -> Row:
    """``hour``: micro-dollars of a thousand units (MiB: of a GiB) in an hour."""
    requested: int = row["requested"]
    if abs(requested - advised) * 1_000 <= CLOSE_PERMILLE * requested:
        return row | {"advised": requested, "saving_micros": 0, "text": "It fits."}
    per = 1_024 if row["unit"] == "MiB" else 1_000
    saving = None if hour is None else (requested - advised) * row["count"] * hour // per
    return row | {"advised": advised, "saving_micros": saving, "text": text}


def _hour(costing: Costing, kind: str) -> int | None:
    return {
        "gpu_memory": costing.gpu_gib_hour_micros,
        "memory": costing.memory_gib_hour_micros,
        "cpu": costing.cpu_hour_micros,
    }[kind]


class _Pool(NamedTuple):
    """Workers of a pool: how many, on spot hosts, slots of each, and of what kind most are."""

    workers: int
    spot: int
    slots_each: int
    kind: str


def _pool(state: State, scaler: Scaler) -> _Pool:
    page = state.pages.get("scheduler")
    found = () if page is None else page.rows.get("workers", ())
    mine = [row for row in found if isinstance(row, WorkerRow) and matches(scaler.workers, row.worker)]
    kinds = sorted(row.kind for row in mine)
    kind = max(kinds, key=kinds.count) if kinds else "cpu"
    slots = sum(row.slots or 0 for row in mine)
    return _Pool(len(mine), sum(row.preemptible for row in mine), max(1, slots // max(1, len(mine))), kind)


def _slots(state: State, scaler: Scaler, row: Row) -> Row:
    pool = _pool(state, scaler)
    row["count"] = pool.workers
    if row["readings"] < LEAST:
        return row | {"text": f"Looked at {row['readings']} of {LEAST} times."}
    busy = scaler.busy_permille or 1_000
    wanted = max(scaler.least * pool.slots_each, ceil_div(row["used_p95"] * 1_000, busy))
    hour = slot_hour(state.policy.costs, pool.kind)
    text = f"p95 of the slots in use at {busy / 10:g} %, and never fewer than {scaler.least} workers."
    return _advised(row | {"count": 1}, wanted, None if hour is None else hour * 1_000, text) | {"count": pool.workers}


def _spot(state: State, scaler: Scaler, row: Row) -> Row:
    """What somebody waits for stays on hosts that stay; the rest goes on elsewhere when its host is taken away."""
    pool, costing = _pool(state, scaler), state.policy.costs
    whole = max(1, pool.workers)
    share = {"unit": "thousandths of the workers", "count": pool.workers, "requested": pool.spot * 1_000 // whole}
    if row["readings"] < LEAST or not pool.workers:
        return row | share | {"text": f"Looked at {row['readings']} of {LEAST} times."}
    steady = ceil_div(row["used_p95"] * 1_000, pool.slots_each * (scaler.busy_permille or 1_000))
    spot = max(0, pool.workers - max(1, steady))
    hour = slot_hour(costing, pool.kind)
    saving = None if hour is None else _spot_saving(costing, spot - pool.spot, pool.slots_each, hour)
    text = (
        f"{pool.workers - spot} workers carry p95 of the reactive tasks on hosts that stay. A spot slot is "
        f"{costing.spot_discount_permille / 10:g} % cheaper; {costing.spot_losses_permille / 10:g} % of them are taken "
        f"away in an hour, each with {costing.spot_lost_s} s of work."
    )
    return row | share | {"advised": spot * 1_000 // whole, "saving_micros": saving, "text": text}


def _spot_saving(costing: Costing, more: int, slots_each: int, hour: int) -> int:
    """In an hour, of so many workers more on spot hosts: the discount, less the work that is done twice."""
    slots = more * slots_each
    cheaper = slots * hour * costing.spot_discount_permille // 1_000
    price = hour * (1_000 - costing.spot_discount_permille) // 1_000
    again = slots * costing.spot_losses_permille * costing.spot_lost_s * price // (1_000 * 3_600)
    return cheaper - again
