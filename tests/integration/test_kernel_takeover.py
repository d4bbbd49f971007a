"""The owner dies, is paused or is told to stop while many clients ask: real processes, real signals."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from bursar.contracts.base import log_stream
from bursar.kernel.snapshot import KEEP
from tests.integration import history
from tests.integration.fleet import fleet_of
from tests.integration.support import TAKEOVER_SECONDS, Rig, until

log = logging.getLogger(__name__)
pytestmark = pytest.mark.integration


async def test_killed_owner_is_followed_within_two_seconds_and_loses_nothing(tmp_path: Path) -> None:
    """kill -9 five times under load: each time a standby answers within 2 s, and nothing acknowledged is lost."""
    async with Rig(tmp_path) as rig:
        await rig.start("a", "b")
        async with fleet_of(rig) as fleet:
            takeovers = []
            for _ in range(5):
                await fleet.answers(500)
                owner, heir = rig.owner(), rig.standby()
                killed = time.monotonic()
                owner.kill()
                await heir.becomes("owner")
                await fleet.answers(100)
                takeovers.append(fleet.resumed_after(killed))
                await rig.start(owner.name)
        log.info("take-overs %s s, slowest request %.3f s", takeovers, fleet.slowest())
        final, _ = await rig.walk()
        history.check(fleet.done, final.state)
        assert max(takeovers) <= TAKEOVER_SECONDS
        assert fleet.slowest() <= TAKEOVER_SECONDS + 0.5  # the last try before the death may have just begun


async def test_paused_owner_answers_nothing_stale_and_can_own_again(tmp_path: Path) -> None:
    """SIGSTOP for 3 s under load: the standby answers meanwhile; the zombie wakes, is refused, follows, and owns
    again when the other dies."""
    async with Rig(tmp_path) as rig:
        await rig.start("a", "b")
        async with fleet_of(rig) as fleet:
            await fleet.answers(500)
            paused = time.monotonic()
            rig["a"].pause()
            await rig["b"].becomes("owner")
            await asyncio.sleep(max(0.0, paused + 3.0 - time.monotonic()))
            rig["a"].resume()
            await fleet.answers(500)
            await rig["a"].becomes("standby")
            assert fleet.resumed_after(paused) <= TAKEOVER_SECONDS
            rig["b"].kill()
            await rig["a"].becomes("owner")
            await fleet.answers(500)
        log.info("slowest request %.3f s, errors %s", fleet.slowest(), dict(fleet.errors))
        final, _ = await rig.walk()
        history.check(fleet.done, final.state)
        assert fleet.slowest() <= TAKEOVER_SECONDS + 0.5


async def test_paused_owner_that_snapshots_have_passed_is_not_taken_for_a_loss(tmp_path: Path) -> None:
    """While the old owner stands still, its successor stores snapshots and purges the journal above its head: it
    loads again, and does not believe that anything was lost."""
    async with Rig(tmp_path, env={"BURSAR_SNAPSHOT_MS": "200"}) as rig:
        await rig.start("a", "b")
        async with fleet_of(rig, clients=20) as fleet:
            rig["a"].pause()
            await rig["b"].becomes("owner")
            await until(lambda: len(rig["b"].events("snapshot_stored")) > KEEP, 10, "the journal is purged")
            rig["a"].resume()
            await fleet.answers(300)
            await rig["a"].becomes("standby")
            rig["b"].kill()
            await rig["a"].becomes("owner")
            await fleet.answers(300)
        final = await rig.replay()
        assert (final.incarnation, final.state.recoveries) == (1, 0)
        history.check(fleet.done, final.state)


async def test_terminated_owner_answers_what_it_accepted_and_hands_over(tmp_path: Path) -> None:
    """SIGTERM under load: status 0, everything accepted is answered, and the standby needs no silence to take over."""
    async with Rig(tmp_path) as rig:
        await rig.start("a", "b")
        async with fleet_of(rig) as fleet:
            await fleet.answers(1000)
            asked = time.monotonic()
            assert await rig["a"].terminate() == 0
            await rig["b"].becomes("owner")
            await fleet.answers(500)
            gap = fleet.gap(asked)
        log.info("gap %.3f s, errors %s", gap, dict(fleet.errors))
        assert rig["a"].events("stopped")[0]["unanswered"] == 0
        assert fleet.errors["request_timeout"] == 0, "somebody was heard and never answered"
        assert gap <= 0.7
        final, _ = await rig.walk()
        history.check(fleet.done, final.state)


async def test_terminated_service_ends_in_time_although_an_append_cannot_be_settled(tmp_path: Path) -> None:
    """SIGTERM while the journal's stream is gone and a decision waits for its append: nobody can be answered, and the
    process still ends within 10 s."""
    async with Rig(tmp_path) as rig:
        await rig.start("a")
        bus = await rig.bus("agent")
        await bus.request(f"$JS.API.STREAM.DELETE.{log_stream(rig.service)}", b"{}", 5.0)
        bus.publish("bursar.req.counter.add.agent", b'{"id":"flood-1"}', bus.new_inbox())
        await until(lambda: bool(rig["a"].events("append_unsettled")), 5, "the append is unsettled")
        started = time.monotonic()
        assert await rig["a"].terminate() == 0
        log.info("ended after %.2f s", time.monotonic() - started)


async def test_terminated_service_ends_in_time_without_a_server(tmp_path: Path) -> None:
    """SIGTERM of both instances while the server stands still."""
    async with Rig(tmp_path) as rig:
        await rig.start("a", "b")
        rig.server.pause()
        assert set(await asyncio.gather(rig["a"].terminate(), rig["b"].terminate())) == {0}


async def test_terminated_standby_is_not_noticed(tmp_path: Path) -> None:
    """SIGTERM of a standby: status 0, and not one request fails."""
    async with Rig(tmp_path) as rig:
        await rig.start("a", "b")
        async with fleet_of(rig, clients=20) as fleet:
            assert await rig["b"].terminate() == 0
            await fleet.answers(200)
        assert not fleet.errors
        assert rig["a"].roles == ["loading", "standby", "claiming", "owner"]
