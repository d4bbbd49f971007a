"""Parts of the limiter's story: leases, slices, calls without a permit; a freeze, and somebody else at the same key."""

from __future__ import annotations

from typing import Any

from tests.examples.talker import Talker


async def leases_and_slices(talker: Talker) -> None:
    """Advances, reports on them, slices for the cut off, and calls without a permit."""
    limits = {"requests": {"limit": 2_000, "window_ms": 20_000}}
    rules: dict[str, dict[str, Any]] = {
        "lent": {},
        "plain": {"lease_ms": 0},
        "cut": {"when_unreachable": "island"},
        "open": {"when_unreachable": "open"},
    }
    budgets = [{"name": name, "limits": limits, **more} for name, more in rules.items()]
    await talker.ask("limiter", "reload", "adm", budgets=budgets)
    amounts, nothing = [5, 0, 0, 0, 0, 0, 0], [0] * 7
    lease = await talker.ask("limiter", "lease", budget="lent", want=amounts, demand=amounts)
    await talker.ask("limiter", "lease", budget="plain", want=amounts, demand=amounts)
    report = {"lease": lease["lease"], "hand": nothing, "unused": nothing, "done": nothing, "open": nothing}
    await talker.ask("limiter", "renew", **report, period=1, want=amounts, demand=amounts)
    await talker.ask("limiter", "return", **report, period=2)
    await talker.ask("limiter", "terms", budget="lent")
    await talker.ask("limiter", "island", budget="cut")
    await talker.ask("limiter", "island", budget="plain")
    await talker.ask("limiter", "uncovered", budget="open", calls=1, amounts=amounts)
    await talker.broadcast("limiter.UncoveredCalls")


async def freeze_and_foreign_use(talker: Talker) -> None:
    """A 429 freezes the fleet, an operator ends it; headers show that somebody else uses the key."""
    await talker.ask("limiter", "rate-limited", budget="demo", dimensions=["requests"], retry_after_ms=60_000)
    await talker.broadcast("limiter.Frozen")
    await talker.ask("limiter", "thaw", "adm", budget="demo", note="test")
    told = {"dimension": "input_tokens", "limit": 400_000, "remaining": 1_000, "reset_in_ms": 9_000}

    async def look() -> Any:
        await talker.say("limiter", "obs", "seen", budget="demo", window_ms=20_000, age_ms=0, limits=[told])
        return await talker.ask("limiter", "status", budget="demo")

    def is_noticed(answer: dict[str, Any]) -> bool:
        return bool(answer["budgets"][0]["dimensions"]["input_tokens"]["foreign_used"])

    await talker.until("foreign use", look, is_noticed)
    await talker.broadcast("limiter.ForeignUse")
