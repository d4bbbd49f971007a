"""What running services really answer, tell and broadcast is what the published schemas say.

One story per service brings every answer, notice and broadcast of its catalogue about, in msgpack and JSON by turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bursar.bus.codec import JSON, MSGPACK, Encoding
from bursar.contracts.catalog.base import ANSWERED
from tests.examples.installation import Installation, running
from tests.examples.limiter_story import freeze_and_foreign_use, leases_and_slices
from tests.examples.scheduler_story import beside_the_messages, explained, moved, one_after_the_other
from tests.examples.talker import CATALOGUES, PRINCIPALS, Talker

pytestmark = pytest.mark.integration
GiB = 1024**3


@pytest.fixture(scope="module")
def own_installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One of its own: the stories change rules and budgets."""
    with running(tmp_path_factory.mktemp("answers") / "home") as started:
        yield started


@pytest.mark.parametrize("service", CATALOGUES)
@pytest.mark.parametrize("encoding", [MSGPACK, JSON])
async def test_example_of_every_request_is_answered_as_published(
    own_installation: Installation, service: str, encoding: Encoding
) -> None:
    """Each request's example, as it stands in the documents, gets one of its answers or an error that it promises."""
    async with Talker(own_installation) as talker:
        for operation in CATALOGUES[service].operations:
            example = {key: value for key, value in operation.example.items() if key != "wait_ms"}
            if operation.kind in ANSWERED:
                await talker.ask(service, operation.verb, operation.kind, encoding=encoding, **example)
            else:
                await talker.say(service, operation.kind, operation.verb, **example)
        assert talker.wrong == []


async def test_limiter_answers_as_published(own_installation: Installation) -> None:
    """Permits, refusals, settlements, declarations, status, clock and new budgets."""
    async with Talker(own_installation) as talker:
        ask: dict[str, Any] = {"budget": "demo", "amounts": {"input_tokens": 100}}
        granted = await talker.ask("limiter", "reserve", **ask, wait_ms=5_000)
        await talker.ask("limiter", "reserve", budget="demo", amounts={"input_tokens": 10**9})
        declared = {**ask, "reservation": granted["reservation"], "granted_at_ms": granted["granted_at_ms"]}
        await talker.ask("limiter", "redeclare", **declared, fence=granted["fence"], ttl_ms=1000)
        await talker.ask("limiter", "simulate", **ask, count=3)
        await talker.ask("limiter", "holders", budget="demo")
        await talker.ask("limiter", "spending")
        await talker.ask("limiter", "progress", reservation=granted["reservation"], usage={"input_tokens": 120})
        await talker.ask("limiter", "settle", reservation=granted["reservation"], usage={"input_tokens": 140})
        await talker.ask("limiter", "withdraw", budget="demo", request="never-1")
        await talker.ask("limiter", "status")
        await talker.ask("limiter", "clock")
        await freeze_and_foreign_use(talker)
        await talker.ask("limiter", "adjust", "adm", budget="demo", weight=200)
        reload = talker.operation("limiter", "adm", "reload")
        await talker.ask("limiter", "reload", "adm", **reload.example)
        await leases_and_slices(talker)
        await talker.ask("limiter", "rights", "adm", rules=[{"who": ["nobody-here"], "budgets": []}])
        assert (talker.unheard(CATALOGUES["limiter"]), talker.wrong) == (set(), [])


async def test_breaker_answers_as_published(own_installation: Installation) -> None:
    """A circuit opens on reports, is probed and closes; an operator steers another; the registry says how far it is."""
    async with Talker(own_installation) as talker:
        rule = {"target": "p", "consecutive": 1, "quorum": 1, "quorum_permille": 0, "open_ms": 10, "successes": 1}
        await talker.ask("breaker", "configure", "adm", rules=[rule])
        await talker.ask("breaker", "probe", target="p/x")

        async def report_and_probe() -> dict[str, Any]:
            await talker.say("breaker", "obs", "report", deltas=[{"target": "p/x", "error": 3}])
            return await talker.ask("breaker", "probe", target="p/x")

        granted = await talker.until("a probe", report_and_probe, lambda answer: bool(answer["ok"]))
        await talker.ask("breaker", "query", revision=0, digest="")
        await talker.ask("breaker", "status")
        await talker.ask("breaker", "probed", lease=granted["lease"], outcome="ok")
        await talker.ask("breaker", "force-open", "adm", target="q", note="test")
        await talker.ask("breaker", "reset", "adm", target="q")
        await talker.ask("breaker", "settings", edition=-1)
        await talker.ask("breaker", "explain", target="p/x")
        linked = [{"target": None}, {"target": "r", "budget": "demo", "fallbacks": [{"kind": "cached"}]}]
        groups = [{"name": "eu", "members": ["p", "r"]}]
        await talker.ask("breaker", "configure", "adm", rules=linked, groups=groups)
        for verb in ("force-open", "release", "disable", "annotate", "metrics-only", "force-close"):
            await talker.ask("breaker", verb, "adm", target="r", note="test")
        await talker.ask("breaker", "settings", edition=-1)
        await talker.broadcast("breaker.BudgetShare")
        await talker.broadcast("breaker.Pulse")
        await talker.ask("breaker", "rights", "adm", rules=[{"who": ["nobody-here"], "targets": []}])
        assert (talker.unheard(CATALOGUES["breaker"]), talker.wrong) == (set(), [])


async def test_gpu_manager_answers_as_published(own_installation: Installation) -> None:
    """A probe tells of two cards; leases are granted, renewed, given back, dropped; one card is lost and forgotten."""
    async with Talker(own_installation, agent="agent-2") as talker:  # to agent-1 a change is recommended already
        host = PRINCIPALS["node"]
        card = {"index": 0, "total": 48 * GiB, "used": 0}
        sequence = iter(range(1, 10_000))

        async def see(*lost: str) -> None:
            cards = [{**card, "uuid": uuid, "lost": uuid in lost} for uuid in ("A", "B")]
            await talker.say("gpu-manager", "node", "gpu", boot="abc", seq=next(sequence), devices=cards)

        async def lease(memory: int = GiB) -> dict[str, Any]:
            await see()
            return await talker.ask("gpu-manager", "lease", memory=memory, hosts=[host])

        first = await talker.until("a lease", lease, lambda answer: bool(answer["ok"]))
        held = {"lease": first["lease"], "fence": first["fence"]}
        await lease(64 * GiB)
        await talker.ask("gpu-manager", "status")
        await talker.ask("gpu-manager", "renew", **held)
        shares = [{"device": first["devices"][0]["device"], "memory": GiB}]
        await talker.ask("gpu-manager", "redeclare", **held, devices=shares, ttl_ms=1000)
        await talker.ask("gpu-manager", "release", **held)
        second = await lease()
        await talker.ask("gpu-manager", "drop", "adm", lease=second["lease"])
        await talker.notice("the lease is lost", lambda body: body.get("lease") == second["lease"])
        await talker.ask("gpu-manager", "release", lease=second["lease"], fence=second["fence"])
        await talker.ask("gpu-manager", "cordon", "adm", target=host)
        await talker.ask("gpu-manager", "uncordon", "adm", target=host)
        await talker.ask("gpu-manager", "configure", "adm", margin_ms=100)

        async def forget() -> dict[str, Any]:
            await see("B")
            return await talker.ask("gpu-manager", "forget", "adm", device=f"{host}/B")

        await talker.until("B is forgotten", forget, lambda answer: "error" not in answer)
        third = await talker.until("a large lease", lambda: lease(30 * GiB), lambda answer: bool(answer["ok"]))
        await what_a_holder_may_ask(talker, third)
        await talker.ask("gpu-manager", "release", lease=third["lease"], fence=third["fence"])
        await pages(talker, sequence)
        await crowded_cards(talker, sequence)
        await weights(talker, sequence)
        await talker.ask("gpu-manager", "rights", "adm", rules=[{"who": ["nobody-here"], "gpus": []}])
        assert (talker.unheard(CATALOGUES["gpu-manager"]), talker.wrong) == (set(), [])


async def see_cards(talker: Talker, sequence: Iterator[int], *processes: dict[str, int], **used: int) -> None:
    """The probe reports what is used of each card; ``processes`` are those on A."""
    cards = [
        {"uuid": uuid, "index": 0, "total": 48 * GiB, "used": used[uuid], "processes": processes if uuid == "A" else ()}
        for uuid in ("A", "B")
    ]
    await talker.say("gpu-manager", "node", "gpu", boot="abc", seq=next(sequence), devices=cards)


async def pages(talker: Talker, sequence: Iterator[int]) -> None:
    """Two engines share a pool: one is lent what is free, and asked for it when the other wants it."""

    async def lease() -> dict[str, Any]:
        await see_cards(talker, sequence, A=0, B=0)
        return await talker.ask("gpu-manager", "lease", memory=GiB, purpose="kv_cache")

    held = await talker.until("a pool", lease, lambda answer: bool(answer["ok"]))
    pool = {"lease": held["lease"]}
    await talker.ask("gpu-manager", "kv-open", **pool, fence=held["fence"], page=GiB // 8, engines=["agent-1"])
    async with Talker(talker.installation) as other:
        await other.ask("gpu-manager", "kv-join", **pool, promised=0, limit=8, per_page=4)
        await other.ask("gpu-manager", "kv-pages", **pool, blocks=0, take=8)
        await talker.ask("gpu-manager", "kv-join", **pool, promised=9, limit=9, per_page=4)
        await talker.ask("gpu-manager", "kv-join", **pool, promised=0, limit=4, per_page=4)
        await talker.ask("gpu-manager", "kv-pages", **pool, blocks=0, take=4)
        await other.notice("pages are wanted", lambda body: body.get("what") == "kv_wanted")
        assert other.wrong == []
        talker.seen |= other.seen
    await talker.ask("gpu-manager", "kv-status", **pool)
    await talker.ask("gpu-manager", "kv-leave", **pool)
    await talker.ask("gpu-manager", "release", lease=held["lease"], fence=held["fence"])


async def crowded_cards(talker: Talker, sequence: Iterator[int]) -> None:
    """Strangers take all but remainders of both cards: everybody hears; the owner of a lease is asked to move it, so
    that the remainders become one, and declines."""
    half = GiB // 2
    await talker.ask("gpu-manager", "configure", "adm", reserve=half)

    async def lease() -> dict[str, Any]:
        await see_cards(talker, sequence, A=79 * half, B=83 * half)
        return await talker.ask("gpu-manager", "lease", memory=12 * half, exclude=["B"])

    held = await talker.until("a lease on A", lease, lambda answer: bool(answer["ok"]))
    await talker.broadcast("gpu-manager.Alarm")
    shown = {"lease": held["lease"], "fence": held["fence"]}
    await talker.ask("gpu-manager", "movable", **shown, cost_ms=500)

    async def look() -> bool:
        await see_cards(talker, sequence, A=79 * half, B=83 * half)
        return "gpu-manager.MoveWanted" in talker.seen

    await talker.until("a move", look, bool)
    await talker.ask("gpu-manager", "move", **shown, agree=False)
    await talker.ask("gpu-manager", "release", **shown)


async def what_a_holder_may_ask(talker: Talker, lease: dict[str, Any]) -> None:
    """Explanations, holdings, fragmentation, start-up parameters, advice and what came of it."""
    held = {"lease": lease["lease"], "fence": lease["fence"]}
    curve = talker.operation("gpu-manager", "req", "tune").example["curve"]
    await talker.ask("gpu-manager", "explain", load={"model": "llama-3-8b"})
    await talker.ask("gpu-manager", "holdings")
    await talker.ask("gpu-manager", "fragmentation", memory=GiB)
    await talker.ask("gpu-manager", "startup", **held, load={"model": "llama-3-8b", "context": 1024})
    await talker.ask("gpu-manager", "advise", curve=curve)
    await talker.ask("gpu-manager", "pace", cpu_us=900_000, gpu_us=400_000, steps=60, most=64)
    await talker.ask("gpu-manager", "tune", curve=curve, batch=32)
    await talker.broadcast("gpu-manager.AdviceTold")
    await talker.ask("gpu-manager", "tune-step", step="agreed")


async def weights(talker: Talker, sequence: Iterator[int]) -> None:
    """A model's weights: wanted, loaded by the second who tries, found, left. They are too large to be kept, and the
    process that has them gives nothing back: neither when it is asked, nor when it is to be ended."""
    await talker.bus(PRINCIPALS["node"])
    where: dict[str, Any] = {"model": "llama-3-8b", "place": f"{PRINCIPALS['node']}/A"}
    await talker.ask("gpu-manager", "cache-bound", "adm", host=PRINCIPALS["node"], size=GiB)
    steps: dict[str, Any] = dict.fromkeys(("evict_ask_ms", "evict_sleep_ms", "evict_kill_ms"), 50)
    await talker.ask("gpu-manager", "configure", "adm", **steps)
    wanted = await talker.ask("gpu-manager", "cache-want", **where, size=2 * GiB)
    await talker.ask("gpu-manager", "cache-want", **where, size=2 * GiB)
    await talker.ask("gpu-manager", "cache-keep", copies=[where])
    await talker.ask("gpu-manager", "cache-failed", **where, load=wanted["load"])
    told = await talker.notice("it is the other one's turn", lambda body: body.get("step") == "load")
    process = {"pid": 4711, "started": 1}

    async def lease() -> dict[str, Any]:
        await see_cards(talker, sequence, {**process, "memory": 2 * GiB}, A=2 * GiB, B=0)
        return await talker.ask(
            "gpu-manager", "lease", memory=2 * GiB, exclude=["B"], processes=[process], ttl_ms=60_000
        )

    held = await talker.until("a lease", lease, lambda answer: bool(answer["ok"]))
    done = {"load": told["load"], "size": 2 * GiB, "took_ms": 100, "lease": held["lease"]}
    await talker.ask("gpu-manager", "cache-loaded", **where, **done)
    await talker.ask("gpu-manager", "cache-leave", **where)

    async def quarantined() -> dict[str, Any]:
        await see_cards(talker, sequence, {**process, "memory": 2 * GiB}, A=2 * GiB, B=0)
        return await talker.ask("gpu-manager", "cache-where", model="llama-3-8b")

    await talker.until("a quarantine", quarantined, lambda answer: bool(answer["quarantined"]))
    for name in ("CacheAlarm", "Kill"):
        await talker.broadcast(f"gpu-manager.{name}")


async def test_scheduler_answers_as_published(own_installation: Installation) -> None:
    """A worker takes tasks; they end well, fail, become dead letters, are cancelled, are refused."""
    async with Talker(own_installation) as talker:
        session: dict[str, Any] = {"session": "s1"}
        await talker.say("scheduler", "obs", "heartbeat", session="stranger")
        await talker.ask("scheduler", "register", "work", **session, slots=4, classes=["echo"])

        async def take(name: str, **fields: Any) -> dict[str, Any]:
            await talker.ask("scheduler", "submit", key=name, task_class="echo", **fields)
            told = await talker.notice(f"{name} is assigned", lambda b: b.get("task", "") == f"agent-1.{name}")
            return {"task": told["task"], "token": told["token"]}

        attempt = await take("well", payload=b"\x81\xa1a\x01")
        await talker.ask("scheduler", "start", "work", **attempt)
        await talker.ask("scheduler", "progress", "work", **attempt, permille=500)
        await talker.ask("scheduler", "finish", "work", encoding=MSGPACK, **attempt, result=b"\x01")
        await talker.notice("its end", lambda b: b.get("what") == "ended" and b["task"] == attempt["task"])
        await talker.ask("scheduler", "find", task=attempt["task"])
        await talker.ask("scheduler", "ended", tasks=[attempt["task"], "agent-1.none"])
        await talker.say("scheduler", "inbox", "", name="posted", task_class="echo", payload={"n": 1})
        await talker.notice("the posted task", lambda b: b.get("task") == "agent-1.posted")

        dead = await take("dead", retries=0)
        await talker.ask("scheduler", "start", "work", **dead)
        await talker.ask("scheduler", "fail", "work", **dead, error="no", retryable=True)
        await talker.ask("scheduler", "list-all", "adm", dead=True)
        await talker.ask("scheduler", "share", "adm", agent="agent-1", weight=2)
        await talker.ask("scheduler", "requeue", "adm", task=dead["task"])

        await one_after_the_other(talker)
        await beside_the_messages(talker)
        await moved(talker)

        chunked = await take("chunked", preemptible=True)
        await talker.ask("scheduler", "start", "work", **chunked)
        await talker.ask("scheduler", "checkpoint", "work", **chunked, checkpoint={"chapter": 1})
        await talker.ask("scheduler", "yield", "work", **chunked, checkpoint={"chapter": 2})

        stopped = await take("stopped")
        await talker.ask("scheduler", "start", "work", **stopped)
        await talker.ask("scheduler", "cancel", task=stopped["task"])
        await talker.notice("the worker is told to stop", lambda b: b.get("what") == "stop")
        await talker.ask("scheduler", "list")
        await explained(talker, own_installation.home, stopped["task"])
        await talker.ask("scheduler", "status")
        await talker.ask("scheduler", "drain", "work", **session)
        await talker.ask("scheduler", "configure", "adm", max_tasks=1)
        for name in ("one", "two"):
            await talker.ask("scheduler", "submit", key=name, task_class="nobody-knows")
        await talker.ask("scheduler", "leave", "work", **session)

        async def beat() -> bool:
            await talker.say("scheduler", "obs", "heartbeat", session="s2")
            return "scheduler.RegisterAgain" in talker.seen

        await talker.until("a stranger is told to register", beat, bool)
        await talker.ask("scheduler", "rights", "adm", rules=[{"who": ["nobody-here"], "models": []}])
        assert (talker.unheard(CATALOGUES["scheduler"]), talker.wrong) == (set(), [])


async def test_monitor_answers_as_published(own_installation: Installation) -> None:
    """A sample makes an alert fire; it is acknowledged, silenced, and forgotten with its host."""
    async with Talker(own_installation) as talker:
        rule = {"name": "busy", "signal": "cpu_permille", "at_least": 900, "hold_ms": 0, "clear_ms": 0}
        policy: dict[str, Any] = {
            "rules": [rule],
            "scalers": [{"name": "answers", "least": 3}],
            "grouping": {"v": 1, "wait_ms": 0},
        }
        await talker.ask("monitor", "set-rules", "adm", **policy)
        sequence = iter(range(1, 10_000))
        sample = {"boot": "0123456789abcdef", "uptime_ms": 1, "cpu": {"used_permille": 990, "cores": 2}}

        async def look() -> dict[str, Any]:
            await talker.say("monitor", "node", "host", **sample, seq=next(sequence))
            return await talker.ask("monitor", "status", only="alerts")

        status = await talker.until("an alert", look, lambda answer: bool(answer["alerts"]))
        await talker.ask("monitor", "status")
        await talker.ask("monitor", "acknowledge", "adm", alert=status["alerts"][0]["alert"], note="seen")
        silence = await talker.ask("monitor", "silence", "adm", for_ms=60_000)
        await talker.ask("monitor", "unsilence", "adm", silence=silence["silence"])
        await leases_of_a_host(talker, PRINCIPALS["node"], sample | {"seq": next(sequence)})
        await talker.ask("monitor", "forget", "adm", kind="host", name=PRINCIPALS["node"])

        async def heard() -> set[str]:
            return talker.unheard(CATALOGUES["monitor"])

        await talker.until("everything", heard, lambda missing: not missing)
        assert talker.wrong == []


async def leases_of_a_host(talker: Talker, host: str, sample: dict[str, Any]) -> None:
    """One that is granted, renewed and released, one that is refused, a quota, and the plan for the probe."""
    memory = {"total_bytes": 64 * GiB, "available_bytes": 60 * GiB}
    await talker.say("monitor", "node", "host", **{**sample, "memory": memory})
    await talker.ask("monitor", "set-quota", "adm", agent="nobody-*", weight=50)
    granted = await talker.ask("monitor", "host-lease", host=host, cpu_milli=500, memory_bytes=GiB)
    await talker.ask("monitor", "host-lease", host=host, cpu_milli=10**9)
    await talker.ask("monitor", "host-renew", lease=granted["lease"])
    await talker.ask("monitor", "host-plan")
    await talker.ask("monitor", "status", only="leases")
    await talker.ask("monitor", "host-release", lease=granted["lease"])


async def test_wrong_payload_gets_the_published_error(own_installation: Installation) -> None:
    """What is no message, or has an unknown field, is answered by the error body with its code and headers."""
    async with Talker(own_installation) as talker:
        answer = await talker.ask("limiter", "clock", no_such_field=1)
        assert answer["error"]["code"] == "bad_request"
        answer = await talker.ask("limiter", "settle", reservation="1.1.999999999")
        assert answer["error"]["code"] == "unknown_reservation"
