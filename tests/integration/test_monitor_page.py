"""The page and the log lines of real processes: what the monitor asks because somebody looks, and what services say."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.bus.support import Awake
from tests.integration.monitor_site import Site
from tests.integration.support import ROOT, until

pytestmark = pytest.mark.integration


async def fetch(site: Site, path: str) -> dict[str, Any]:
    """A part of the page, with the token that the monitor has made."""
    port = site.instances["m-1"].events("metrics_ready")[-1]["port"]
    token = (site.home.service_dir("monitor") / "page.token").read_text().strip()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", headers={"Authorization": f"Bearer {token}"})

    def get() -> dict[str, Any]:
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    return await asyncio.to_thread(get)


async def answered(site: Site, path: str) -> dict[str, Any]:
    """Wait for an answer of a service that has just become owner."""
    awake = Awake(1.0)
    while awake.spent() < 10:
        if (told := await fetch(site, path))["reply"] is not None:
            return told
        await asyncio.sleep(0.1)
    raise AssertionError(f"{path} was never answered")


async def said(site: Site, asked: str, event: str) -> dict[str, Any]:
    """Wait for a line."""
    awake = Awake(1.0)
    while awake.spent() < 10:
        for line in (await fetch(site, f"lines?{asked}"))["lines"]:
            if line["event"] == event:
                return dict(line)
        await asyncio.sleep(0.05)
    raise AssertionError(f"{event} was not said")


async def test_services_are_asked_for_a_page_and_their_lines_are_read(tmp_path: Path) -> None:
    """The limiter's own status comes through the monitor; its lines are there, in the page and for `bursar logs`, also
    from before the monitor was killed."""
    async with Site(tmp_path) as site:
        await site.start("monitor", "m-1")
        await site.start("limiter", "l-1")
        told = await answered(site, "ask/limits")
        assert told["reply"]["budgets"]
        assert told["age_ms"] < 5_000
        assert (await fetch(site, "ask/scheduler")) == {"age_ms": None, "reply": None}, "nobody is there to answer"
        line = await said(site, "service=limiter", "started")
        assert (line["level"], line["service"]) == ("info", "limiter")
        kept = tmp_path / "data-m-1" / "lines"
        await until(
            lambda: any(b'"l-1","event":"started"' in path.read_bytes() for path in kept.iterdir()),
            10,
            "lines are on disk",
        )
        site.instances["m-1"].kill()
        await site.start("monitor", "m-1")
        again = await said(site, "service=limiter", "started")
        assert (again["number"], again["ts"]) == (line["number"], line["ts"])
        command = [sys.executable, "-m", "bursar.cli.main", "logs", "--home", str(site.home.path), "--json",
                   "--url", site.server.url, "--service", "limiter", "--since", "1h"]  # fmt: skip
        done = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(text) for text in done.stdout.splitlines()]
        assert "started" in {line["event"] for line in lines}
        assert {line["service"] for line in lines} == {"limiter"}
