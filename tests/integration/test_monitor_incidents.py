"""Incidents on real processes: one notification with its cause, through the webhook and a killed monitor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.monitor_site import RULES, Site
from tests.integration.support import until
from tests.monitor.receiver import Receiver

pytestmark = pytest.mark.integration

MORE = """
[rules.instance-gone]
signal = "instance_missing"
at_least = 1
hold = "500ms"
clear = "300ms"
subjects = "limiter/*"

[grouping]
wait = "2s"
interval = "2s"
"""


async def test_a_killed_service_is_one_notification_and_a_killed_monitor_misses_none(tmp_path: Path) -> None:
    """Two alerts, one cause: the instance that is gone. The end is posted by the heir, signed like the rest; no number
    is missing, and none comes before one that is smaller (the last one before the kill may come again)."""
    receiver = Receiver()
    hook = {"BURSAR_WEBHOOK": receiver.url, "BURSAR_WEBHOOK_SECRET": "s3cret"}

    def told() -> list[dict[str, Any]]:
        return [body for body in receiver.bodies if body["cause"]["subject"].partition("/")[0] == "limiter"]

    try:
        async with Site(tmp_path) as site:
            (tmp_path / "rules.toml").write_text(RULES + MORE)
            await site.start("monitor", "m-1", **hook)
            await site.start("monitor", "m-2", **hook)
            await site.start("limiter", "l-1")
            await site.sees(lambda r: any(row.owner for row in r.services if row.name == "limiter"), 20, "it is seen")
            site.instances["l-1"].kill()
            await until(lambda: bool(told()), 40, "somebody is told")
            (first,) = told()
            assert (first["why"], first["cause"]["rule"]) == ("new", "instance-gone")
            assert {alert["rule"] for alert in first["alerts"]} == {"instance-gone", "no-owner"}
            await site.sees(lambda r: bool(r.incidents), 10, "the picture shows it")
            site.instances["m-1"].kill()
            await site.start("limiter", "l-1")
            await until(lambda: told()[-1]["why"] == "over", 60, "the heir tells its end")
            assert told()[-1]["incident"] == first["incident"]
            numbers = [body["number"] for body in receiver.bodies if body["incident"] == first["incident"]]
            assert numbers == sorted(numbers)
            assert set(numbers) == set(range(1, numbers[-1] + 1))
            assert all("Bursar-Signature" in headers for _, headers in receiver.raw)
    finally:
        receiver.shutdown()
        receiver.server_close()
